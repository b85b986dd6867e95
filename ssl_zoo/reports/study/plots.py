"""Figures of a study: accuracy of all arms, against cost and along an axis; the tuning grid."""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssl_zoo.reports.curves import panel_columns
from ssl_zoo.reports.style import DARK_GREY, colour, hide_unused, marker, shorten, styled
from ssl_zoo.studies.results import ArmResults, StudyResults
from ssl_zoo.studies.statistics import Estimate
from ssl_zoo.studies.tuning_results import TuningResults

WIDTH = 4.4  # inches; a page shows a figure about 420 px wide, so that 8.5 pt are 11 px
LEGEND_COLUMNS = 4


@styled
def plot_accuracy(study: StudyResults, metrics: list[dict], width: float = WIDTH) -> Figure | None:
    """Plot a row for each method and a panel for each metric.

    Open circles are seeds, the filled marker is their mean, the bar is the 95 % interval of the
    mean, and the dashed line is random weights. With axes, the arms are those with the first label
    of every axis.

    Args:
        study: results of the study.
        metrics: some of ``study.metrics``.
        width: width of the figure, in inches.

    Returns:
        None if nothing is measured.
    """
    arms = [
        arm
        for arm in study.trained
        if study.at_baseline(arm) and any(arm.estimate(metric['key']) for metric in metrics)
    ]
    if not arms:
        return None
    first_metric = metrics[0]['key']

    def mean(arm: ArmResults) -> float:
        estimate = arm.estimate(first_metric)
        return estimate.mean if estimate else float('-inf')

    arms.sort(key=mean)
    untrained = [arm for arm in study.arms if not arm.trained]
    figure = Figure((width, 0.9 + 0.24 * len(arms)), layout='constrained')
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axis, metric in zip(axes, metrics, strict=True):
        for y, arm in enumerate(arms):
            is_reference = arm.method == study.reference
            _plot_seeds_and_interval(axis, y, arm, metric['key'], is_reference)
        _plot_random_weights(axis, untrained, metric['key'])
        label = f'{metric["name"]}, %'
        if len(metrics) == 1:
            label = f'{metric["name"]}: accuracy on test images, %'
        axis.set(
            xlabel=label,
            ylim=(-0.6, len(arms) - 0.4),
            xlim=axis_limits([*arms, *untrained], metric['key']),
        )
        axis.set_yticks(range(len(arms)), [arm.method for arm in arms])
        axis.grid(axis='y', visible=False)
    return figure


def _plot_seeds_and_interval(
    axis: Axes, y: int, arm: ArmResults, metric: str, is_reference: bool
) -> None:
    estimate = arm.estimate(metric)
    if estimate is None:
        return
    values = list(arm.values(metric).values())
    axis.plot(
        values,
        [y] * len(values),
        'o',
        color=colour(0),
        fillstyle='none',
        markersize=4.5,
        alpha=0.8,
        markeredgewidth=0.8,
    )
    if estimate.low is not None:
        interval = [estimate.low, estimate.high]
        axis.plot(interval, [y, y], color=colour(0), linewidth=1.4, zorder=1)
    if is_reference:
        axis.plot(estimate.mean, y, 's', color=colour(1), markersize=5)
    else:
        axis.plot(estimate.mean, y, 'D', color=colour(0), markersize=5)


def _plot_random_weights(axis: Axes, untrained: list[ArmResults], metric: str) -> None:
    for arm in untrained:
        estimate = arm.estimate(metric)
        if estimate:
            axis.axvline(
                estimate.mean, color=DARK_GREY, linestyle='--', linewidth=1, label=arm.method
            )
            axis.legend(loc='lower center', bbox_to_anchor=(0.5, 1), borderaxespad=0.1)
            return


def axis_limits(arms: list[ArmResults], metric: str) -> tuple[float, float]:
    """Return the limits of an accuracy axis, which contain all seeds but not all intervals.

    The interval of two seeds may be tens of points long, and would dwarf everything else.
    """
    values = [value for arm in arms for value in arm.values(metric).values()]
    room = max(0.35 * (max(values) - min(values)), 0.5)
    return min(values) - room, min(max(values) + room, 101)


@dataclass(frozen=True)
class CostPoint:
    """A point of the figure of accuracy against cost.

    Attributes:
        number: number of the arm, for its colour and marker.
        arm: the arm.
        device_hours: training cost, mean over seeds.
        estimate: accuracy over seeds.
    """

    number: int
    arm: ArmResults
    device_hours: float
    estimate: Estimate


@styled
def plot_against_cost(study: StudyResults, metric: dict) -> Figure | None:
    """Plot the accuracy of each method, with its 95 % interval, against the cost of its training.

    Returns:
        None if no arm has both an accuracy and a cost.
    """
    points = _cost_points(study, metric['key'])
    if not points:
        return None
    costs = [point.device_hours for point in points]
    hours_to_unit, unit = (60, 'minutes') if max(costs) < 2 else (1, 'hours')
    figure, axis = _figure_with_legend_room(len(points))
    for point in points:
        estimate = point.estimate
        bar = None
        if estimate.low is not None:
            bar = [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
        axis.errorbar(
            point.device_hours * hours_to_unit,
            estimate.mean,
            bar,
            fmt=marker(point.number),
            color=colour(point.number),
            markersize=6,
            elinewidth=0.8,
            capsize=2,
            label=point.arm.method,
        )
    if max(costs) > 20 * min(costs):
        axis.set_xscale('log')
    device = 'core' if on_cpu(study) else 'device'
    axis.set(
        xlabel=f'{device}-{unit} of training, mean over seeds',
        ylabel=f'{metric["name"]}: accuracy, %',
    )
    axis.margins(x=0.08)
    axis.set_ylim(axis_limits([point.arm for point in points], metric['key']))
    _add_legend(figure, len(points), handletextpad=0.3)
    return figure


def _cost_points(study: StudyResults, metric: str) -> list[CostPoint]:
    arms = [arm for arm in study.trained if study.at_baseline(arm)]
    points = []
    for number, arm in enumerate(arms):
        estimate = arm.estimate(metric)
        device_hours = arm.cost('device_hours')
        if estimate and device_hours:
            points.append(CostPoint(number, arm, device_hours, estimate))
    return points


def _figure_with_legend_room(legend_entries: int) -> tuple[Figure, Axes]:
    legend_rows = -(-legend_entries // LEGEND_COLUMNS)
    figure = Figure((WIDTH, 2.7 + 0.19 * legend_rows), layout='constrained')
    return figure, figure.subplots()


def _add_legend(figure: Figure, entries: int, handletextpad: float) -> None:
    figure.legend(
        loc='outside lower center',
        ncols=min(LEGEND_COLUMNS, entries),
        columnspacing=1,
        handletextpad=handletextpad,
    )


def on_cpu(study: StudyResults) -> bool:
    """Return whether all runs were trained on a CPU, so that a device-hour is a core-hour."""
    devices = {
        str((run.get('cost') or {}).get('device', '')).lower()
        for arm in study.arms
        for run in arm.runs.values()
    }
    devices.discard('')
    return bool(devices) and all(device.startswith('cpu') for device in devices)


@styled
def plot_along_axis(study: StudyResults, axis_name: str, metric: dict) -> Figure | None:
    """Plot the change in accuracy from the first label of an axis (as arXiv 2006.07733, fig. 3).

    Each method has a line through its means and a point for each seed. Changes are taken seed by
    seed.

    Args:
        study: results of the study.
        axis_name: an axis of the study.
        metric: one of ``study.metrics``.

    Returns:
        None if no method has results under two labels.
    """
    labels = study.axes[axis_name]
    changes_of = {}
    for number, method in enumerate(study.definition['methods']):
        changes = _changes_along_axis(study, method, axis_name, metric['key'])
        if len(changes) > 1:
            changes_of[number, method] = changes
    if not changes_of:
        return None
    figure, axis = _figure_with_legend_room(len(changes_of))
    axis.axhline(0, color=DARK_GREY, linewidth=0.8)
    step = 0.25 / max(len(changes_of), 2)  # methods stand beside each other at each label
    middle = (len(changes_of) - 1) / 2
    for position, ((number, method), changes) in enumerate(changes_of.items()):
        _plot_changes(axis, changes, (position - middle) * step, number, method)
    axis.set_xticks(range(len(labels)), labels)
    axis.grid(axis='x', visible=False)
    axis.set(
        xlabel=axis_name,
        ylabel=f'{metric["name"]}: change from {labels[0]}, points',
        xlim=(-0.4, len(labels) - 0.6),
    )
    _add_legend(figure, len(changes_of), handletextpad=0.4)
    return figure


def _changes_along_axis(
    study: StudyResults, method: str, axis_name: str, metric: str
) -> dict[int, list[float]]:
    """Return position of a label -> changes from the first label, one per seed that has both."""
    arm_of = {
        arm.axes[axis_name]: arm
        for arm in study.trained
        if arm.method == method and study.at_baseline(arm, except_axis=axis_name)
    }
    labels = study.axes[axis_name]
    if labels[0] not in arm_of:
        return {}
    baseline = arm_of[labels[0]].values(metric)
    changes = {}
    for x, label in enumerate(labels):
        if label not in arm_of:
            continue
        values = arm_of[label].values(metric)
        differences = [value - baseline[seed] for seed, value in values.items() if seed in baseline]
        if differences:
            changes[x] = differences
    return changes


def _plot_changes(
    axis: Axes, changes: dict[int, list[float]], shift: float, number: int, method: str
) -> None:
    positions = [x + shift for x in changes]
    means = [sum(values) / len(values) for values in changes.values()]
    axis.plot(
        positions,
        means,
        marker=marker(number),
        color=colour(number),
        linewidth=1.5,
        markersize=5,
        label=method,
    )
    for x, values in zip(positions, changes.values(), strict=True):
        axis.plot(
            [x] * len(values),
            values,
            marker(number),
            color=colour(number),
            markersize=3,
            fillstyle='none',
            markeredgewidth=0.7,
            alpha=0.7,
        )


@styled
def plot_tuning_grid(tunings: list[TuningResults], key: str) -> Figure | None:
    """Plot k-NN accuracy on the hold-out over the factors tried, a panel for each method.

    A ring marks the chosen trial, a cross a trial that failed.

    Args:
        tunings: all tunings of the study.
        key: config key that was tuned.

    Returns:
        None if no trial is done.
    """
    tunings = [tuning for tuning in tunings if _accuracy_of_factor(tuning)]
    if not tunings:
        return None
    columns = panel_columns(len(tunings))
    narrow = columns > 2
    rows = -(-len(tunings) // columns)
    panel_height = 1.15 if narrow else 1.6
    figure = Figure((WIDTH, 0.5 + panel_height * rows), layout='constrained')
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    lowest = min(min(_accuracy_of_factor(tuning).values()) for tuning in tunings)
    factors = sorted({trial['factor'] for tuning in tunings for trial in tuning.trials})
    for axis, tuning in zip(hide_unused(grid, len(tunings)), tunings, strict=True):
        _plot_tuning(axis, tuning, lowest)
        if min(factors) > 0:
            axis.set_xscale('log', base=2)
        axis.set_xticks(factors, [f'{factor:g}' for factor in factors])
        axis.minorticks_off()
        axis.set_title(shorten(tuning.name, 13 if narrow else 30), loc='left')
    figure.supxlabel(f"factor on the config's {key}", fontsize='medium')
    figure.supylabel('k-NN on val, %', fontsize='medium')
    return figure


def _accuracy_of_factor(tuning: TuningResults) -> dict[float, float]:
    return {
        trial['factor']: trial['val_knn']
        for trial in tuning.trials
        if trial.get('status') == 'done'
    }


def _plot_tuning(axis: Axes, tuning: TuningResults, lowest: float) -> None:
    accuracy_of = _accuracy_of_factor(tuning)
    factors = list(accuracy_of)
    accuracies = list(accuracy_of.values())
    axis.plot(factors, accuracies, 'o-', color=colour(0), markersize=3.5, linewidth=1.2)
    failed = [trial['factor'] for trial in tuning.trials if trial.get('status') != 'done']
    axis.plot(failed, [lowest] * len(failed), 'x', color=colour(1), markersize=6)
    if tuning.chosen in accuracy_of:
        axis.plot(
            tuning.chosen,
            accuracy_of[tuning.chosen],
            'o',
            color=colour(1),
            markersize=9,
            fillstyle='none',
            markeredgewidth=1.5,
        )
