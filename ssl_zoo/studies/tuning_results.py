"""The tuning of a study: the trials of each method, the factor that the runs used, and warnings."""

from dataclasses import dataclass

from ssl_zoo.studies.records import is_number
from ssl_zoo.studies.results import ArmResults, StudyResults, axis_labels


@dataclass(frozen=True)
class TuningResults:
    """The trials of an arm.

    Attributes:
        name: name of the arm.
        trials: records of the trials, by ascending factor.
        chosen: the factor that the runs used; before there are runs, the factor of the best trial;
            None if there is neither.
        settled: whether there are runs.
        warning: reasons to doubt the choice, or None.
    """

    name: str
    trials: list[dict]
    chosen: float | None
    settled: bool
    warning: str | None


def tuning_results(study: StudyResults) -> list[TuningResults]:
    """Return the tuning of each method with trials, in the order of the study.

    If the records of trials have axis labels, each arm with trials has its own tuning.
    """
    trials_of: dict[tuple, list[dict]] = {}
    for trial in study.trials:
        key = (str(trial.get('method')), tuple(axis_labels(trial).items()))
        trials_of.setdefault(key, []).append(trial)
    method_order = [*study.definition['methods'], *(method for method, _ in trials_of)]
    results = []
    for (method, labels), trials in sorted(
        trials_of.items(), key=lambda item: method_order.index(item[0][0])
    ):
        axes = dict(labels)
        arms = [
            arm for arm in study.trained if arm.method == method and (not axes or arm.axes == axes)
        ]
        results.append(tuning_of(ArmResults(method, axes).name, trials, arms))
    return results


def tuning_of(name: str, trials: list[dict], arms: list[ArmResults]) -> TuningResults:
    """Return the tuning of an arm: its trials, and the factor that the runs used.

    Args:
        name: name of the tuned arm.
        trials: records of the arm's trials.
        arms: arms whose runs use the chosen factor.
    """
    trials = sorted(trials, key=lambda trial: trial.get('factor') or 0)
    used_factors = _used_factors(trials, arms)
    settled = bool(used_factors)
    best = max(filter(_is_done, trials), key=lambda trial: trial['val_knn'], default=None)
    if settled:
        chosen = next((trial for trial in trials if trial['factor'] in used_factors), None)
    else:
        chosen = best
    if chosen is None:
        warning = 'no trial is done'
        if settled:
            warning = 'the runs used a value that no trial tried'
        return TuningResults(name, trials, None, settled, warning)
    warnings = _warnings(trials, chosen, best, used_factors)
    return TuningResults(name, trials, chosen.get('factor'), settled, '; '.join(warnings) or None)


def _is_done(trial: dict) -> bool:
    return trial.get('status') == 'done' and is_number(trial.get('val_knn'))


def _used_factors(trials: list[dict], arms: list[ArmResults]) -> set[float | None]:
    factor_of_value = {trial['value']: trial['factor'] for trial in trials}
    factors = set()
    for arm in arms:
        for run in arm.runs.values():
            rate = run.get('lr')
            if not rate or not is_number(rate.get('value')):
                continue
            # The factor is preferred to the value, because an axis may change the value.
            if is_number(rate.get('factor')):
                factors.add(rate['factor'])
            else:
                factors.add(factor_of_value.get(rate['value']))
    return factors


def _warnings(
    trials: list[dict], chosen: dict, best: dict | None, used_factors: set[float | None]
) -> list[str]:
    warnings = []
    if len(used_factors) > 1:
        warnings.append('the runs did not all use the same factor')
    # Failed trials count too: a chosen trial with a failed trial beyond it is not at the edge.
    if len(trials) > 1 and chosen in (trials[0], trials[-1]):
        side = 'lowest' if chosen is trials[0] else 'highest'
        warnings.append(
            f'the chosen value {chosen.get("value"):g} is the {side} that was tried: '
            'a better one may lie beyond it'
        )
    if best and best['val_knn'] > chosen.get('val_knn', best['val_knn']):
        warnings.append(f'{best.get("value"):g} had the higher k-NN accuracy on val')
    return warnings
