"""Tables of a study, the same figures as HTML, Markdown and CSV."""

import csv
import io
from dataclasses import dataclass

from ssl_zoo.reports import html
from ssl_zoo.reports.study.plots import on_cpu
from ssl_zoo.studies.results import COSTS, ArmResults, PairedComparison, StudyResults
from ssl_zoo.studies.statistics import Difference, Estimate
from ssl_zoo.studies.tuning_results import tuning_results

NONE = 'not measured'


@dataclass
class Table:
    """Attributes: title; note: a sentence or more below it; head, rows: texts, where a line break begins another line of a cell."""

    title: str
    note: str
    head: list[str]
    rows: list[list[str]]

    def as_html(self) -> str:
        rows = [html.Row(list(map(html.text_cell, row))) for row in self.rows]
        table = html.Table(list(map(html.Column, self.head)), rows, self.title, row_headers=True)
        note = html.note(self.note) if self.note else ''
        return f'<h3>{html.escape(self.title)}</h3>\n{table.as_html()}{note}'

    def as_markdown(self) -> str:
        def line(cells):
            return (
                '| ' + ' | '.join(in_markdown(text).replace('\n', '<br>') for text in cells) + ' |'
            )

        rule = '|' + '---|' * len(self.head)
        note = f'\n\n{in_markdown(self.note)}' if self.note else ''
        return (
            '\n'.join(
                [f'### {in_markdown(self.title)}\n', line(self.head), rule, *map(line, self.rows)]
            )
            + note
            + '\n'
        )


def in_markdown(text: str) -> str:
    """Plain text that Markdown shows as it is."""
    for sign, entity in (('&', '&amp;'), ('<', '&lt;'), ('>', '&gt;')):
        text = text.replace(sign, entity)
    for sign in '\\`*_[]|':
        text = text.replace(sign, '\\' + sign)
    return text


def percent(value: float) -> str:
    return f'{value:.2f}'


def points(value: float) -> str:
    return '0.00' if abs(value) < 0.005 else f'{value:+.2f}'


def probability(p: float | None) -> str:
    return (
        ''
        if p is None
        else f'{p:.1e}'
        if p < 0.0001
        else f'{p:.4f}'
        if p < 0.001
        else f'{p:.3f}'
        if p < 0.1
        else f'{p:.2f}'
    )


def accuracy_cell(found: Estimate | None, usual: int) -> str:
    """Mean (deviation), the interval below, and how many values if they are not as many as usual."""
    if found is None:
        return NONE
    lines = [percent(found.mean) + (f' ({percent(found.std)})' if found.std is not None else '')]
    if found.low is not None:
        lines.append(f'{percent(found.low)} to {percent(found.high)}')
    return '\n'.join(lines + [f'n = {found.n}'] * (found.n != usual))


def cost_cells(arm: ArmResults) -> dict[str, str]:
    """Text by column, of what the training took, mean over seeds."""

    def text(key, scale=1.0):
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


def three_digits(value: float) -> str:
    """Three significant ones, and never an integer part cut short."""
    return f'{value:,.0f}' if abs(value) >= 99.95 else f'{value:#.3g}'


def accuracy_table(study: StudyResults) -> Table:
    """A row for each arm, accuracy beside cost."""
    cpu = on_cpu(study)
    costs = (
        [key.replace('device', 'core') if cpu else key for key in cost_cells(study.arms[0])]
        if study.arms
        else []
    )
    rates = bool([arm for arm in study.trained if arm.said('lr', 'value')])
    head = [
        'method',
        *study.axes,
        *(f'{metric["name"]}, %' for metric in study.metrics),
        'seeds',
        *['learning rate'] * rates,
        *costs,
    ]
    rows = []
    for arm in study.arms:
        n = len(arm.runs)
        cells = [accuracy_cell(arm.estimate(metric['key']), n) for metric in study.metrics]
        rate = [arm.said('lr', 'value')] if rates else []
        rows.append(
            [
                arm.method,
                *(arm.axes.get(axis, '') for axis in study.axes),
                *cells,
                str(n),
                *rate,
                *cost_cells(arm).values(),
            ]
        )
    memory = sorted({text for arm in study.arms if (text := arm.said('cost', 'memory_of'))})
    protocols = ''.join(
        f'{metric["name"]}: {metric["protocol"]}. '
        for metric in study.metrics
        if metric.get('protocol')
    )
    note = (
        'Accuracy on the test images: mean (sample standard deviation) over training seeds, below it the 95 % interval of the mean '
        "(Student's t over seeds; of how seeds differ, not of how test images do; it knows nothing of 100 %). One seed has neither; "
        f'where all seeds gave the same there is no interval. {protocols}'
        'Random weights: the same network, not trained. Costs: mean over seeds of the training with its looks at k-NN'
        + (f'; peak memory of the {" or ".join(memory)}' if memory else '')
        + (
            '; core-hours: hours times the cores used'
            if cpu
            else '; device-hours: hours times the devices used'
        )
        + '.'
    )
    return Table('Accuracy and cost', note, head, rows)


def difference_cell(found: Difference | None, p_holm: float | None, usual: int) -> str:
    """Mean difference, its interval, p and adjusted p, and how many pairs if they are not as many as usual."""
    if found is None:
        return NONE
    lines = [points(found.mean)]
    if found.low is not None:
        lines += [
            f'{points(found.low)} to {points(found.high)}',
            f'p {probability(found.p)}, adjusted {probability(p_holm)}',
        ]
    return '\n'.join(lines + [f'{found.n} pair{"s" if found.n > 1 else ""}'] * (found.n != usual))


PAIRED = (
    'Mean difference in percentage points, seed by seed, over the {usual} seeds unless the cell says otherwise; its 95 % interval '
    "(Student's t); p of the paired t test, two-sided, and {family} Fewer than two seeds in common, or differences that are all the "
    'same, allow no interval and no p. With few seeds a true difference is easily missed: a large p does not say that two are equal.'
)


def difference_table(study: StudyResults, to_baseline: bool = False) -> Table | None:
    """A row for each comparison: with the reference, or with the first labels of the axes. None if there are no two arms to compare."""
    compared = study.against_baseline if to_baseline else study.against_reference
    by_metric, usual = (
        [compared(metric['key']) for metric in study.metrics],
        len(study.plan['seeds']),
    )
    if not by_metric or not by_metric[0]:
        return None
    rows = [
        [
            of_arm[0].arm.method,
            *(of_arm[0].arm.axes.get(axis, '') for axis in study.axes),
            *(difference_cell(c.difference, c.p_holm, usual) for c in of_arm),
        ]
        for of_arm in zip(*by_metric, strict=True)
    ]
    if to_baseline:
        first = ', '.join(f'{axis} {labels[0]}' for axis, labels in study.axes.items())
        title, family = (
            f'Differences to {first}, same method',
            'adjusted (Holm) over the labels of a method, for each metric apart.',
        )
    else:
        title, family = (
            f'Differences to {study.plan["reference"]}',
            'adjusted (Holm) over the methods',
        )
        family += (
            ' under the same labels, for each metric apart.'
            if study.axes
            else ', for each metric apart.'
        )
    head = ['method', *study.axes, *(f'{metric["name"]}, points' for metric in study.metrics)]
    return Table(title, PAIRED.format(family=family, usual=usual), head, rows)


def tuning_table(study: StudyResults) -> Table | None:
    """A row for each method, a column for each factor."""
    found, tune = tuning_results(study), study.plan['tune'] or {}
    if not found:
        return None
    factors = sorted(
        {
            *tune.get('factors', []),
            *(trial['factor'] for tuning in found for trial in tuning.trials),
        }
    )
    rows = []
    for tuning in found:
        cells = dict.fromkeys(factors, NONE)
        for trial in tuning.trials:
            figure = (
                percent(trial['val_knn'])
                if trial.get('status') == 'done'
                else str(trial.get('status'))
            )
            mark = (
                ('\nchosen' if tuning.settled else '\nbest so far')
                if trial['factor'] == tuning.chosen
                else ''
            )
            cells[trial['factor']] = f'{figure} at {trial["value"]:g}{mark}'
        rows.append([tuning.name, *cells.values(), tuning.warning or ''])
    sizes = sorted({str(trial['n_val']) for trial in study.trials if trial.get('n_val')})
    key = tune.get('key', 'value')
    note = (
        f'k-NN accuracy in percent on {" or ".join(sizes) or "the"} val images, at this {key}; seed '
        f'{tune.get("seed", "unknown")}, with {" ".join(map(str, tune.get("options") or [])) or "no other changes"}. This choice never '
        'saw the test images.'
    )
    return Table(
        f'Tuning of {key}',
        note,
        ['method', *(f'{key} x {factor:g}' for factor in factors), 'remarks'],
        rows,
    )


COLUMNS = (
    'n',
    'mean',
    'std',
    'low',
    'high',
    *(
        f'{to}{what}'
        for to in ('to_reference', 'to_baseline')
        for what in ('', '_low', '_high', '_p', '_p_holm', '_pairs')
    ),
)


def _differences(prefix: str, comparison: PairedComparison | None) -> dict[str, str]:
    if comparison is None or comparison.difference is None:
        return {}
    d = comparison.difference
    cells = dict(
        zip(
            ('', '_low', '_high'),
            ('' if v is None else points(v) for v in (d.mean, d.low, d.high)),
            strict=True,
        )
    )
    cells |= {'_p': probability(d.p), '_p_holm': probability(comparison.p_holm), '_pairs': str(d.n)}
    return {prefix + name: value for name, value in cells.items()}


def arms_csv(study: StudyResults) -> str:
    """A row for each arm and metric, figures as in the tables."""
    costs = list(cost_cells(study.arms[0])) if study.arms else []
    rows = [['method', *study.axes, 'trained', 'metric', *COLUMNS, *costs]]
    for metric in study.metrics:
        comparisons = {
            name: {id(c.arm): c for c in found}
            for name, found in (
                ('to_reference', study.against_reference(metric['key'])),
                ('to_baseline', study.against_baseline(metric['key'])),
            )
        }
        for arm in study.arms:
            found = arm.estimate(metric['key'])
            cells = {'n': str(found.n if found else 0)}
            if found:
                cells |= {
                    key: percent(value)
                    for key in ('mean', 'std', 'low', 'high')
                    if (value := getattr(found, key)) is not None
                }
            for name, by_arm in comparisons.items():
                cells |= _differences(name, by_arm.get(id(arm)))
            rows.append(
                [
                    arm.method,
                    *(arm.axes.get(axis, '') for axis in study.axes),
                    str(arm.trained).lower(),
                    metric['key'],
                    *(cells.get(key, '') for key in COLUMNS),
                    *(text.replace(',', '') for text in cost_cells(arm).values()),
                ]
            )
    return _csv(rows)


def runs_csv(study: StudyResults) -> str:
    """A row for each run that is done, figures and costs in full precision."""
    keys = [metric['key'] for metric in study.metrics]
    rows = [
        [
            'method',
            *study.axes,
            'seed',
            *keys,
            'n_test',
            'test_manifest',
            'lr',
            *COSTS,
            'memory_of',
            'device',
            'checkpoint',
            'folder',
        ]
    ]
    for arm in study.arms:
        for seed, run in arm.runs.items():
            cost, values = (
                run.get('cost') or {},
                {key: arm.values(key).get(seed, '') for key in keys},
            )
            folder = run['folder'].relative_to(study.out)
            rows.append(
                [
                    arm.method,
                    *(arm.axes.get(axis, '') for axis in study.axes),
                    seed,
                    *values.values(),
                    run.get('n_test', ''),
                    run.get('test_manifest', ''),
                    (run.get('lr') or {}).get('value', ''),
                    *(cost.get(key, '') for key in (*COSTS, 'memory_of', 'device')),
                    run.get('checkpoint', ''),
                    folder.as_posix(),
                ]
            )
    return _csv(rows)


def _csv(rows: list[list]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator='\n').writerows(rows)
    return file.getvalue()
