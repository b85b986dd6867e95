"""The figures of a study as CSV: a row for each arm and metric, a row for each run."""

from ssl_zoo.reports.study.tables import (
    cost_cells,
    format_percent,
    format_points,
    format_probability,
    label_cells,
)
from ssl_zoo.storage.csv_text import csv_text
from ssl_zoo.studies.records import AMOUNTS
from ssl_zoo.studies.results import ArmResults, PairedComparison, StudyResults

ESTIMATE_COLUMNS = ('n', 'mean', 'std', 'low', 'high')
DIFFERENCE_COLUMNS = ('', '_low', '_high', '_p', '_p_holm', '_pairs')
COMPARISONS = ('to_reference', 'to_baseline')


def arms_csv(study: StudyResults) -> str:
    """Return a row for each arm and metric, with figures rounded as in the tables."""
    costs = list(cost_cells(study.arms[0])) if study.arms else []
    difference_columns = [name + column for name in COMPARISONS for column in DIFFERENCE_COLUMNS]
    columns = [*ESTIMATE_COLUMNS, *difference_columns]
    rows = [['method', *study.axes, 'trained', 'metric', *columns, *costs]]
    for metric in study.metrics:
        key = metric['key']
        to_reference = {id(found.arm): found for found in study.against_reference(key)}
        to_baseline = {id(found.arm): found for found in study.against_baseline(key)}
        for arm in study.arms:
            cells = {
                **_estimate_cells(arm, key),
                **_difference_cells('to_reference', to_reference.get(id(arm))),
                **_difference_cells('to_baseline', to_baseline.get(id(arm))),
            }
            row = [arm.method, *label_cells(study, arm), str(arm.trained).lower(), key]
            row += [cells.get(column, '') for column in columns]
            row += [text.replace(',', '') for text in cost_cells(arm).values()]
            rows.append(row)
    return csv_text(rows)


def _estimate_cells(arm: ArmResults, metric: str) -> dict[str, str]:
    estimate = arm.estimate(metric)
    if estimate is None:
        return {'n': '0'}
    cells = {'n': str(estimate.n)}
    for name in ('mean', 'std', 'low', 'high'):
        value = getattr(estimate, name)
        if value is not None:
            cells[name] = format_percent(value)
    return cells


def _difference_cells(prefix: str, comparison: PairedComparison | None) -> dict[str, str]:
    if comparison is None or comparison.difference is None:
        return {}
    difference = comparison.difference
    cells = {
        prefix: format_points(difference.mean),
        f'{prefix}_p': format_probability(difference.p),
        f'{prefix}_p_holm': format_probability(comparison.p_holm),
        f'{prefix}_pairs': str(difference.n),
    }
    if difference.low is not None:
        cells[f'{prefix}_low'] = format_points(difference.low)
        cells[f'{prefix}_high'] = format_points(difference.high)
    return cells


def runs_csv(study: StudyResults) -> str:
    """Return a row for each finished run, with figures and costs in full precision."""
    metrics = [metric['key'] for metric in study.metrics]
    cost_columns = [*AMOUNTS, 'memory_of', 'device']
    head = ['method', *study.axes, 'seed', *metrics, 'n_test', 'test_manifest', 'lr']
    rows = [[*head, *cost_columns, 'checkpoint', 'folder']]
    for arm in study.arms:
        for seed, run in arm.runs.items():
            cost = run.get('cost') or {}
            row = [arm.method, *label_cells(study, arm), seed]
            row += [arm.values(metric).get(seed, '') for metric in metrics]
            row += [run.get('n_test', ''), run.get('test_manifest', '')]
            row.append((run.get('lr') or {}).get('value', ''))
            row += [cost.get(key, '') for key in cost_columns]
            row += [run.get('checkpoint', ''), run['folder'].relative_to(study.out).as_posix()]
            rows.append(row)
    return csv_text(rows)
