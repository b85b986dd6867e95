"""The tuning of a study: the trials of each method, the factor that the runs used, and warnings."""

from dataclasses import dataclass

from ssl_zoo.studies.records import is_number
from ssl_zoo.studies.results import ArmResults, StudyResults, axis_labels


@dataclass(frozen=True)
class TuningResults:
    """The trials of an arm, or of one of its variants.

    Attributes:
        name: name of the arm, and label of the variant if there is one.
        trials: records of the trials, by ascending factor.
        chosen: the factor that the runs used; before there are runs, the factor of the best trial;
            None if there is neither, or if it belongs to another variant.
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

    If the records of trials have axis labels, each arm with trials has its own tuning. If the
    method has variants, each has its own, and all but the chosen variant's have ``chosen=None``.
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
        tunings = _tunings_of_variants(ArmResults(method, axes).name, trials, arms)
        results.extend(tunings)
    return results


def _tunings_of_variants(
    name: str, trials: list[dict], arms: list[ArmResults]
) -> list[TuningResults]:
    """Return a tuning for each variant among the trials of an arm."""
    trials_of: dict[str, list[dict]] = {}
    for trial in trials:
        trials_of.setdefault(_variant_of(trial), []).append(trial)
    if len(trials_of) < 2:
        return [tuning_of(name, trials, arms)]
    used = {_variant_of(run['lr']) for arm in arms for run in arm.runs.values() if run.get('lr')}
    best = _best_of(trials)
    chosen = used or ({_variant_of(best)} if best else set())
    return [
        tuning_of(f'{name}, {variant}', own_trials, arms)
        if variant in chosen
        else TuningResults(f'{name}, {variant}', _by_factor(own_trials), None, bool(used), None)
        for variant, own_trials in trials_of.items()
    ]


def _variant_of(record: dict) -> str:
    return str(record.get('variant') or '')


def tuning_of(name: str, trials: list[dict], arms: list[ArmResults]) -> TuningResults:
    """Return the tuning of an arm: its trials, and the factor that the runs used.

    Args:
        name: name of the tuned arm.
        trials: records of the arm's trials.
        arms: arms whose runs use the chosen factor.
    """
    trials = _by_factor(trials)
    used_factors = _used_factors(trials, arms)
    settled = bool(used_factors)
    best = _best_of(trials)
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


def _by_factor(trials: list[dict]) -> list[dict]:
    return sorted(trials, key=lambda trial: trial.get('factor') or 0)


def _best_of(trials: list[dict]) -> dict | None:
    return max(filter(_is_done, trials), key=lambda trial: trial['val_knn'], default=None)


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
