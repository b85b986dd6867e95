"""Do measures without labels agree with the accuracy? A table over the runs and looks of a study.

A look is an online evaluation during training. The network with random weights, which is no
candidate of a choice, is left out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.label_free import MEASURES, Measure
from ssl_zoo.reports.curves import read_log
from ssl_zoo.reports.study.tables import format_probability
from ssl_zoo.reports.study.text_table import TextTable
from ssl_zoo.studies.records import is_number
from ssl_zoo.studies.results import StudyResults
from ssl_zoo.studies.statistics import (
    FEWEST_RANKED,
    least_distinguishable,
    rank_correlation,
    regret,
    spearman,
)

TITLE = 'Measures without labels against accuracy'
# What the measures are compared with: a choice by held-out labels.
WITH_LABELS = Measure('knn', 'for comparison: k-NN on val, with labels', 'high', of_views=False)
NOTE = (
    'Spearman rank correlation with the accuracy, +1 if a measure orders runs or looks as the '
    'accuracy does; equal values share the mean of their ranks. Signs are turned so that a high '
    'coefficient means that the measure is right by its paper: RankMe and LiDAR count as better '
    'when high, alignment and uniformity when low, alpha-ReQ when near 1. Regret: accuracy of the '
    'best minus accuracy of the one that the measure chooses, in percentage points. Runs: '
    '{accuracy} of the finished runs of all methods and labels, against the measure at the last '
    'look; p of the two-sided permutation test. Looks: {look_accuracy} at the looks during '
    'training, without random weights; pooled over all runs, and within each run (mean over runs, '
    'least and greatest). Looks of one run follow each other and are not independent, so they have '
    'no p. The p values are not adjusted for the number of measures. The measures compare for '
    'networks of one width, on the same images, alone. '
)


@dataclass(frozen=True)
class Candidate:
    """A run or a look that a measure may choose.

    Attributes:
        method: name of the run's method.
        accuracy: its accuracy in percent.
        values: values of the measures by key.
    """

    method: str
    accuracy: float
    values: dict[str, float]


def measured(row: dict) -> dict[str, float]:
    """Return the values of the measures in a row of a log, by key."""
    keys = [measure.key for measure in (*MEASURES, WITH_LABELS)]
    return {key: row[f'val/{key}'] for key in keys if is_number(row.get(f'val/{key}'))}


def candidates(study: StudyResults, metric: str) -> tuple[list[Candidate], list[list[Candidate]]]:
    """Return the finished runs, and the looks of each run.

    Args:
        study: results of the study.
        metric: key of the accuracy of runs.

    Returns:
        runs: with the values of their last looks.
        looks: the looks of each run in the order of the training, with the probe's accuracy where
            every look of the study has one, else that of k-NN.
    """
    logs = []
    for arm in study.trained:
        for seed, run in arm.runs.items():
            try:
                rows = read_log(run['folder'])
            except ConfigError:  # the curves say that there is no log
                continue
            looks = [row for row in rows if measured(row) and is_number(row.get('step'))]
            looks = [row for row in looks if row['step'] > 0]
            logs.append((arm.method, arm.values(metric).get(seed), looks))
    runs = [
        Candidate(method, accuracy, measured(looks[-1]))
        for method, accuracy, looks in logs
        if accuracy is not None and looks
    ]
    key = look_accuracy([row for _, _, looks in logs for row in looks])
    of_runs = [
        [
            Candidate(
                method, row[key], {k: v for k, v in measured(row).items() if f'val/{k}' != key}
            )
            for row in looks
            if is_number(row.get(key))
        ]
        for method, _, looks in logs
    ]
    return runs, [looks for looks in of_runs if looks]


def look_accuracy(rows: Sequence[dict]) -> str:
    """Return the key of the accuracy of looks: the probe's if all rows have it, else k-NN's."""
    has_probe = bool(rows) and all(is_number(row.get('val/probe')) for row in rows)
    return 'val/probe' if has_probe else 'val/knn'


def accuracy_metric(study: StudyResults) -> dict | None:
    """Return the metric that measures are compared with: linear, else the first of the study."""
    linear = [metric for metric in study.metrics if metric['key'] == 'linear']
    return next(iter([*linear, *study.metrics]), None)


def label_free_table(study: StudyResults) -> TextTable | None:
    """Return a row for each measure; None if fewer than three runs or looks have been measured."""
    metric = accuracy_metric(study)
    if metric is None:
        return None
    runs, looks = candidates(study, metric['key'])
    pooled = [look for of_run in looks for look in of_run]
    if max(len(runs), len(pooled)) < FEWEST_RANKED:
        return None
    head = [
        'measure',
        'runs: correlation',
        'runs: regret',
        'looks, pooled: correlation',
        'looks within a run: correlation',
        'looks within a run: regret',
    ]
    rows = []
    for measure in (*MEASURES, WITH_LABELS):
        name = measure.name
        if measure is not WITH_LABELS:
            name += f' (good: {measure.good})'
        rows.append([name, *_run_cells(measure, runs), *_look_cells(measure, looks)])
    return TextTable(TITLE, _note(metric, runs, looks), head, rows)


def _having(measure: Measure, found: Iterable[Candidate]) -> tuple[list[float], list[float]]:
    """Return scores and accuracies of the candidates that have the measure."""
    kept = [candidate for candidate in found if measure.key in candidate.values]
    scores = [measure.score(candidate.values[measure.key]) for candidate in kept]
    return scores, [candidate.accuracy for candidate in kept]


def _why_none(n: int) -> str:
    """Return why n candidates have no correlation."""
    if n == 0:
        return 'not measured'
    return f'n = {n}, too few' if n < FEWEST_RANKED else f'n = {n}, all are equal'


def _run_cells(measure: Measure, runs: list[Candidate]) -> list[str]:
    scores, accuracies = _having(measure, runs)
    n = len(scores)
    correlation = rank_correlation(scores, accuracies)
    text = _why_none(n)
    if correlation is not None:
        text = f'{correlation.rho:+.2f}\np {format_probability(correlation.p)}, n = {n}'
    return [text, f'{regret(scores, accuracies):.2f}' if n > 1 else '']


def _look_cells(measure: Measure, looks: list[list[Candidate]]) -> list[str]:
    scores, accuracies = _having(measure, [look for of_run in looks for look in of_run])
    if measure is WITH_LABELS and not scores:  # the accuracy of the looks is itself k-NN's
        return ['', '', '']
    pooled = spearman(scores, accuracies)
    text = _why_none(len(scores)) if pooled is None else f'{pooled:+.2f}\nn = {len(scores)}'
    pairs = [_having(measure, of_run) for of_run in looks]
    of_runs = {
        number: rho for number, pair in enumerate(pairs) if (rho := spearman(*pair)) is not None
    }
    if not of_runs:
        return [text, '', '']
    lengths = sorted({len(pairs[number][0]) for number in of_runs})
    span = f'{lengths[0]}' if len(lengths) == 1 else f'{lengths[0]} to {lengths[-1]}'
    rhos = list(of_runs.values())
    regrets = [regret(*pairs[number]) for number in of_runs]
    plural = 's' if len(rhos) > 1 else ''
    return [
        text,
        f'{np.mean(rhos):+.2f} ({min(rhos):+.2f} to {max(rhos):+.2f})\n'
        f'{len(rhos)} run{plural} of {span} looks',
        f'{np.mean(regrets):.2f}\nat most {max(regrets):.2f}',
    ]


def _note(metric: dict, runs: list[Candidate], looks: list[list[Candidate]]) -> str:
    note = NOTE.format(
        accuracy=f'{metric["name"]} accuracy on the test images',
        look_accuracy='the accuracy on val (linear probe if it was logged, else k-NN)',
    )
    if len(runs) > 1:
        accuracies = [run.accuracy for run in runs]
        lost = max(accuracies) - float(np.mean(accuracies))
        note += f'A run that is chosen blindly loses {lost:.2f} points on average. '
    lengths = {len(of_run) for of_run in looks}
    counts = [(len(runs), 'runs')] + [(n, 'looks of a run') for n in sorted(lengths)]
    return note + ' '.join(chance_sentence(n, things) for n, things in counts if n > 1)


def chance_sentence(n: int, things: str) -> str:
    """Return how large a rank correlation of n pairs must be for chance to be an unlikely cause."""
    least = least_distinguishable(n)
    if least is None:
        return f'n = {n} {things}: no coefficient can be told from chance.'
    return (
        f'n = {n} {things}: a coefficient below {least:.2f} in size cannot be told from chance '
        f'(permutation test, 5 %).'
    )
