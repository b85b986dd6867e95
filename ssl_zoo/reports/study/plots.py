"""Figures of a study: accuracy of all arms, against cost, against an axis; the tuning grid."""

from ssl_zoo.reports.style import colour, marker, shortened, styled
from ssl_zoo.studies.results import ArmResults, StudyResults
from ssl_zoo.studies.tuning_results import TuningResults

WIDTH = 4.4  # inches; shown about 420 px wide, so 8.5 pt are 11 px


@styled
def accuracy(study: StudyResults, metrics: list[dict], width: float = WIDTH):
    """Arms by their mean: seeds as circles, the mean filled, its 95 % interval as a bar, random weights as a dashed line.

    With axes, the arms are those with the first label of each. Returns None if nothing is measured.
    """
    from matplotlib.figure import Figure

    arms = [
        arm
        for arm in study.trained
        if study.at_baseline(arm) and any(arm.estimate(m['key']) for m in metrics)
    ]
    if not arms:
        return None
    first = metrics[0]['key']
    arms.sort(key=lambda arm: arm.estimate(first).mean if arm.estimate(first) else float('-inf'))
    figure = Figure((width, 0.9 + 0.24 * len(arms)), layout='constrained')
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axis, metric in zip(axes, metrics, strict=True):
        for y, arm in enumerate(arms):
            found = arm.estimate(metric['key'])
            if found is None:
                continue
            values = list(arm.values(metric['key']).values())
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
            if found.low is not None:
                axis.plot([found.low, found.high], [y, y], color=colour(0), linewidth=1.4, zorder=1)
            reference = arm.method == study.plan['reference']
            axis.plot(
                found.mean, y, 's' if reference else 'D', color=colour(reference), markersize=5
            )
        for arm in study.arms:
            if not arm.trained and (found := arm.estimate(metric['key'])):
                axis.axvline(
                    found.mean, color='#555555', linestyle='--', linewidth=1, label=arm.method
                )
                axis.legend(loc='lower center', bbox_to_anchor=(0.5, 1), borderaxespad=0.1)
                break
        axis.set(
            xlabel=f'{metric["name"]}: accuracy on test images, %'
            if len(metrics) == 1
            else f'{metric["name"]}, %',
            ylim=(-0.6, len(arms) - 0.4),
            xlim=limits([arm for arm in study.arms if arm in arms or not arm.trained], metric),
        )
        axis.set_yticks(range(len(arms)), [arm.method for arm in arms])
        axis.grid(axis='y', visible=False)
    return figure


def limits(arms: list[ArmResults], metric: dict) -> tuple[float, float]:
    """Ends of an axis with all seeds and some room: the interval of two seeds may be tens of points long, and would dwarf all else."""
    values = [value for arm in arms for value in arm.values(metric['key']).values()]
    room = max(0.35 * (max(values) - min(values)), 0.5)
    return min(values) - room, min(max(values) + room, 101)


@styled
def against_cost(study: StudyResults, metric: dict):
    """Accuracy of each arm over what its training took, with the 95 % interval; None if no arm has both."""
    from matplotlib.figure import Figure

    arms = [arm for arm in study.trained if study.at_baseline(arm)]
    points = [
        (i, arm, arm.cost('device_hours'), found)
        for i, arm in enumerate(arms)
        if (found := arm.estimate(metric['key'])) and arm.cost('device_hours')
    ]
    if not points:
        return None
    scale, unit = (60, 'minutes') if max(cost for _, _, cost, _ in points) < 2 else (1, 'hours')
    rows = -(-len(points) // 4)
    figure = Figure((WIDTH, 2.7 + 0.19 * rows), layout='constrained')
    axis = figure.subplots()
    for i, arm, cost, found in points:
        bar = (
            [[found.mean - found.low], [found.high - found.mean]] if found.low is not None else None
        )
        axis.errorbar(
            cost * scale,
            found.mean,
            bar,
            fmt=marker(i),
            color=colour(i),
            markersize=6,
            elinewidth=0.8,
            capsize=2,
            label=arm.method,
        )
    costs = [cost for _, _, cost, _ in points]
    if max(costs) > 20 * min(costs):
        axis.set_xscale('log')
    kind = 'core' if on_cpu(study) else 'device'
    axis.set(
        xlabel=f'{kind}-{unit} of training, mean over seeds',
        ylabel=f'{metric["name"]}: accuracy, %',
    )
    axis.margins(x=0.08)
    axis.set_ylim(limits([arm for _, arm, _, _ in points], metric))
    figure.legend(
        loc='outside lower center', ncols=min(4, len(points)), columnspacing=1, handletextpad=0.3
    )
    return figure


def on_cpu(study: StudyResults) -> bool:
    """Whether the runs were trained on a CPU, so that a device-hour is a core-hour."""
    said = {
        str((run.get('cost') or {}).get('device', '')).lower()
        for arm in study.arms
        for run in arm.runs.values()
    } - {''}
    return bool(said) and all(device.startswith('cpu') for device in said)


@styled
def against_axis(study: StudyResults, axis_name: str, metric: dict):
    """What accuracy loses from the first label of an axis on (as arXiv 2006.07733, fig. 3): a line for each method through the means, a
    point for each seed, both paired over seeds; None if no two labels are measured."""
    from matplotlib.figure import Figure

    labels, lines = study.axes[axis_name], {}
    for i, method in enumerate(study.plan['methods']):
        by_label = {
            arm.axes[axis_name]: arm
            for arm in study.trained
            if arm.method == method and study.at_baseline(arm, but=axis_name)
        }
        base = by_label[labels[0]].values(metric['key']) if labels[0] in by_label else {}
        drops = {
            x: [
                value - base[seed]
                for seed, value in by_label[label].values(metric['key']).items()
                if seed in base
            ]
            for x, label in enumerate(labels)
            if label in by_label
        }
        drops = {x: found for x, found in drops.items() if found}
        if len(drops) > 1:
            lines[i, method] = drops
    if not lines:
        return None
    figure = Figure((WIDTH, 2.7 + 0.19 * -(-len(lines) // 4)), layout='constrained')
    axis = figure.subplots()
    axis.axhline(0, color='#555555', linewidth=0.8)
    shift = 0.5 / max(len(lines), 2)  # seeds of different methods beside each other
    for place, ((i, method), drops) in enumerate(lines.items()):
        at = [x + (place - (len(lines) - 1) / 2) * shift / 2 for x in drops]
        means = [sum(found) / len(found) for found in drops.values()]
        axis.plot(
            at, means, marker=marker(i), color=colour(i), linewidth=1.5, markersize=5, label=method
        )
        for x, found in zip(at, drops.values(), strict=True):
            axis.plot(
                [x] * len(found),
                found,
                marker(i),
                color=colour(i),
                markersize=3,
                fillstyle='none',
                markeredgewidth=0.7,
                alpha=0.7,
            )
    axis.set_xticks(range(len(labels)), labels)
    axis.grid(axis='x', visible=False)
    axis.set(
        xlabel=axis_name,
        ylabel=f'{metric["name"]}: change from {labels[0]}, points',
        xlim=(-0.4, len(labels) - 0.6),
    )
    figure.legend(
        loc='outside lower center', ncols=min(4, len(lines)), columnspacing=1, handletextpad=0.4
    )
    return figure


@styled
def tuning_grid(tunings: list[TuningResults], key: str):
    """k-NN on val over the factors tried, a panel for each method: a ring around the chosen one, a cross for a trial that failed."""
    from matplotlib.figure import Figure

    tried = [
        tuning
        for tuning in tunings
        if any('val_knn' in trial and trial.get('status') == 'done' for trial in tuning.trials)
    ]
    if not tried:
        return None
    columns = min(4, len(tried)) if len(tried) != 3 else 3
    rows = -(-len(tried) // columns)
    figure = Figure(
        (WIDTH, 0.5 + 1.15 * rows if columns > 2 else 0.5 + 1.6 * rows), layout='constrained'
    )
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    least = min(
        trial['val_knn']
        for tuning in tried
        for trial in tuning.trials
        if trial.get('status') == 'done'
    )
    factors = sorted({trial['factor'] for tuning in tried for trial in tuning.trials})
    for axis in axes[len(tried) :]:
        axis.remove()
    for axis, tuning in zip(axes, tried, strict=False):
        done = [(t['factor'], t['val_knn']) for t in tuning.trials if t.get('status') == 'done']
        axis.plot(*zip(*done, strict=True), 'o-', color=colour(0), markersize=3.5, linewidth=1.2)
        failed = [t['factor'] for t in tuning.trials if t.get('status') != 'done']
        axis.plot(failed, [least] * len(failed), 'x', color=colour(1), markersize=6)
        chosen = dict(done).get(tuning.chosen)
        if chosen is not None:
            axis.plot(
                tuning.chosen,
                chosen,
                'o',
                color=colour(1),
                markersize=9,
                fillstyle='none',
                markeredgewidth=1.5,
            )
        if min(factors) > 0:
            axis.set_xscale('log', base=2)
        axis.set_xticks(factors, [f'{factor:g}' for factor in factors])
        axis.minorticks_off()
        axis.set_title(shortened(tuning.name, 13 if columns > 2 else 30), loc='left')
    for axis in axes[max(len(tried) - columns, 0) : len(tried)]:
        axis.tick_params(labelbottom=True)
    figure.supxlabel(f"factor on the config's {key}", fontsize='medium')
    figure.supylabel('k-NN on val, %', fontsize='medium')
    return figure
