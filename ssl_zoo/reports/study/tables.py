"""The tables of a study: accuracy and cost, paired differences, tuning."""

from ssl_zoo.reports.study.plots import on_cpu
from ssl_zoo.reports.study.text_table import TextTable
from ssl_zoo.studies.results import ArmResults, PairedComparison, StudyResults
from ssl_zoo.studies.statistics import Difference, Estimate
from ssl_zoo.studies.tuning_results import TuningResults, tuning_results

NOT_MEASURED = 'not measured'

ACCURACY_NOTE = (
    'Accuracy on the test images: mean (sample standard deviation) over training seeds, below it '
    "the 95 % interval of the mean (Student's t). The interval says how seeds differ, not how test "
    'images differ, and may pass 100 %. One seed has neither deviation nor interval; where all '
    'seeds gave the same value there is no interval. '
)
PAIRED_NOTE = (
    'Mean difference in percentage points, seed by seed, over the {seeds} seeds unless the cell '
    "says otherwise; its 95 % interval (Student's t); p of the paired t test, two-sided, and "
    '{family} Fewer than two seeds in common, or equal differences, allow no interval and no p. '
    'With few seeds a true difference is easily missed: a large p does not say that two methods '
    'are equal.'
)


def format_percent(value: float) -> str:
    """Return a percentage with two decimals."""
    return f'{value:.2f}'


def format_points(value: float) -> str:
    """Return a difference of percentages with its sign."""
    return '0.00' if abs(value) < 0.005 else f'{value:+.2f}'


def format_probability(p: float | None) -> str:
    """Return a p value with at least two significant digits; '' for None."""
    if p is None:
        return ''
    if p < 0.0001:
        return f'{p:.1e}'
    if p < 0.001:
        return f'{p:.4f}'
    if p < 0.1:
        return f'{p:.3f}'
    return f'{p:.2f}'


def three_digits(value: float) -> str:
    """Return a number with three significant digits; its integer part is never rounded."""
    return f'{value:,.0f}' if abs(value) >= 99.95 else f'{value:#.3g}'


def accuracy_cell(estimate: Estimate | None, usual_n: int) -> str:
    """Return mean (deviation), the interval below, and n if it differs from ``usual_n``."""
    if estimate is None:
        return NOT_MEASURED
    first_line = format_percent(estimate.mean)
    if estimate.std is not None:
        first_line += f' ({format_percent(estimate.std)})'
    lines = [first_line]
    if estimate.low is not None:
        lines.append(f'{format_percent(estimate.low)} to {format_percent(estimate.high)}')
    if estimate.n != usual_n:
        lines.append(f'n = {estimate.n}')
    return '\n'.join(lines)


def cost_cells(arm: ArmResults) -> dict[str, str]:
    """Return the cost of an arm's training by column title: means over seeds, '' if unknown."""

    def text(key: str, scale: float = 1.0) -> str:
        value = arm.cost(key)
        return '' if value is None else three_digits(value * scale)

    epochs = arm.cost('epochs')
    return {
        'epochs': '' if epochs is None else f'{epochs:g}',
        'minutes': text('train_seconds', 1 / 60),
        'images/s': text('images_per_second'),
        'peak memory, MiB': text('peak_memory_bytes', 1 / 2**20),
        'device-hours': text('device_hours'),
        'parameters, millions': text('parameters', 1e-6),
    }


def label_cells(study: StudyResults, arm: ArmResults) -> list[str]:
    """Return the label of an arm on each axis; '' for random weights."""
    return [arm.axes.get(axis, '') for axis in study.axes]


def accuracy_table(study: StudyResults) -> TextTable:
    """Return a row for each arm: accuracies and costs."""
    cost_titles = list(cost_cells(study.arms[0])) if study.arms else []
    if on_cpu(study):
        cost_titles = [title.replace('device', 'core') for title in cost_titles]
    has_rates = any(arm.recorded_values('lr', 'value') for arm in study.trained)
    head = ['method', *study.axes, *(f'{metric["name"]}, %' for metric in study.metrics), 'seeds']
    if has_rates:
        head.append('learning rate')
    rows = []
    for arm in study.arms:
        n = len(arm.runs)
        row = [arm.method, *label_cells(study, arm)]
        row += [accuracy_cell(arm.estimate(metric['key']), n) for metric in study.metrics]
        row.append(str(n))
        if has_rates:
            row.append(arm.recorded_values('lr', 'value'))
        rows.append([*row, *cost_cells(arm).values()])
    note = _accuracy_note(study)
    return TextTable('Accuracy and cost', note, [*head, *cost_titles], rows)


def _accuracy_note(study: StudyResults) -> str:
    note = ACCURACY_NOTE
    for metric in study.metrics:
        if metric.get('protocol'):
            note += f'{metric["name"]}: {metric["protocol"]}. '
    note += (
        'Random weights: the same network, not trained. Costs: mean over seeds of the training '
        'with its k-NN evaluations'
    )
    memory_kinds = {arm.recorded_values('cost', 'memory_of') for arm in study.arms} - {''}
    if memory_kinds:
        note += f'; peak memory of the {" or ".join(sorted(memory_kinds))}'
    if on_cpu(study):
        return note + '; core-hours: hours times the cores used.'
    return note + '; device-hours: hours times the devices used.'


def difference_cell(difference: Difference | None, p_holm: float | None, usual_n: int) -> str:
    """Return mean, interval and p values, and the number of pairs if not ``usual_n``."""
    if difference is None:
        return NOT_MEASURED
    lines = [format_points(difference.mean)]
    if difference.low is not None:
        p = format_probability(difference.p)
        lines += [
            f'{format_points(difference.low)} to {format_points(difference.high)}',
            f'p {p}, adjusted {format_probability(p_holm)}',
        ]
    if difference.n != usual_n:
        plural = 's' if difference.n > 1 else ''
        lines.append(f'{difference.n} pair{plural}')
    return '\n'.join(lines)


def reference_table(study: StudyResults) -> TextTable | None:
    """Return a row for each comparison with the reference method; None if there is none."""
    family = 'adjusted (Holm) over the methods, for each metric separately.'
    if study.axes:
        family = (
            'adjusted (Holm) over the methods under the same labels, for each metric separately.'
        )
    comparisons = [study.against_reference(metric['key']) for metric in study.metrics]
    return _difference_table(study, f'Differences to {study.reference}', family, comparisons)


def baseline_table(study: StudyResults) -> TextTable | None:
    """Return a row for each comparison with the first labels of the axes; None if there is none."""
    baseline = ', '.join(f'{axis} {labels[0]}' for axis, labels in study.axes.items())
    family = 'adjusted (Holm) over the labels of a method, for each metric separately.'
    comparisons = [study.against_baseline(metric['key']) for metric in study.metrics]
    title = f'Differences to {baseline}, same method'
    return _difference_table(study, title, family, comparisons)


def _difference_table(
    study: StudyResults, title: str, family: str, comparisons: list[list[PairedComparison]]
) -> TextTable | None:
    if not comparisons or not comparisons[0]:
        return None
    usual_n = len(study.definition['seeds'])
    rows = []
    for of_arm in zip(*comparisons, strict=True):
        arm = of_arm[0].arm
        cells = [
            difference_cell(comparison.difference, comparison.p_holm, usual_n)
            for comparison in of_arm
        ]
        rows.append([arm.method, *label_cells(study, arm), *cells])
    head = ['method', *study.axes, *(f'{metric["name"]}, points' for metric in study.metrics)]
    note = PAIRED_NOTE.format(family=family, seeds=usual_n)
    return TextTable(title, note, head, rows)


def tuning_table(study: StudyResults) -> TextTable | None:
    """Return a row for each method and a column for each factor; None without trials."""
    tunings = tuning_results(study)
    if not tunings:
        return None
    tune = study.definition['tune'] or {}
    tried = [trial['factor'] for tuning in tunings for trial in tuning.trials]
    factors = sorted({*tune.get('factors', []), *tried})
    rows = []
    for tuning in tunings:
        cells = dict.fromkeys(factors, NOT_MEASURED)
        for trial in tuning.trials:
            cells[trial['factor']] = _trial_cell(trial, tuning)
        rows.append([tuning.name, *cells.values(), tuning.warning or ''])
    key = tune.get('key', 'value')
    sizes = sorted({str(trial['n_val']) for trial in study.trials if trial.get('n_val')})
    options = ' '.join(map(str, tune.get('options') or [])) or 'no other changes'
    note = (
        f'k-NN accuracy in percent on {" or ".join(sizes) or "the"} val images, at this {key}; '
        f'seed {tune.get("seed", "unknown")}, with {options}. '
        'No test image was used for this choice.'
    )
    head = ['method', *(f'{key} x {factor:g}' for factor in factors), 'remarks']
    return TextTable(f'Tuning of {key}', note, head, rows)


def _trial_cell(trial: dict, tuning: TuningResults) -> str:
    accuracy = str(trial.get('status'))
    if trial.get('status') == 'done':
        accuracy = format_percent(trial['val_knn'])
    cell = f'{accuracy} at {trial["value"]:g}'
    if trial['factor'] != tuning.chosen:
        return cell
    return cell + ('\nchosen' if tuning.settled else '\nbest so far')
