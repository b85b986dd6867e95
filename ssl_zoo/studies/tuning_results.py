"""The tuning grid of a study: which trials there were, which one the runs took, and what is to be known of that choice."""

from dataclasses import dataclass

from ssl_zoo.studies.results import ArmResults, StudyResults, axes_of, number


@dataclass(frozen=True)
class TuningResults:
    """Attributes: name: of the arm; trials: records by factor; chosen: the factor that the runs use, or, before there are runs, that of the
    best trial; settled: whether there are runs; warning: what is to be known of the choice, or None."""

    name: str
    trials: list[dict]
    chosen: float | None
    settled: bool
    warning: str | None


def tuning_results(study: StudyResults) -> list[TuningResults]:
    """One for each method with trials, in the study's order; for each arm, if the trials name labels of axes."""
    groups: dict[tuple, list[dict]] = {}
    for trial in study.trials:
        groups.setdefault((str(trial.get('method')), tuple(axes_of(trial).items())), []).append(
            trial
        )
    order = [*study.plan['methods'], *(method for method, _ in groups)]
    found = []
    for (method, axes), trials in sorted(groups.items(), key=lambda item: order.index(item[0][0])):
        users = [
            arm
            for arm in study.trained
            if arm.method == method and (not axes or arm.axes == dict(axes))
        ]
        found.append(tuning(ArmResults(method, dict(axes)), trials, users))
    return found


def tuning(arm: ArmResults, trials: list[dict], users: list[ArmResults]) -> TuningResults:
    """The trials of an arm's learning rate, and which one its runs took."""
    trials = sorted(trials, key=lambda trial: trial.get('factor') or 0)
    done = [
        trial for trial in trials if trial.get('status') == 'done' and number(trial.get('val_knn'))
    ]
    taken = [
        lr
        for user in users
        for run in user.runs.values()
        if (lr := run.get('lr')) and number(lr.get('value'))
    ]
    values = {trial['value']: trial['factor'] for trial in trials}
    used = {
        lr['factor'] if number(lr.get('factor')) else values.get(lr['value']) for lr in taken
    }  # an axis may change the value
    best = max(done, key=lambda trial: trial['val_knn'], default=None)
    chosen = next((trial for trial in trials if trial['factor'] in used), None) if used else best
    if chosen is None:
        text = 'the runs used a value that is none of the trials' if used else 'no trial is done'
        return TuningResults(arm.name, trials, None, bool(used), text)
    said = []
    if len(used) > 1:
        said.append('the runs did not all use the same')
    if len(trials) > 1 and chosen in (
        trials[0],
        trials[-1],
    ):  # a trial beyond it that failed is an edge of its own
        side = 'lowest' if chosen is trials[0] else 'highest'
        said.append(
            f'the chosen value {chosen.get("value"):g} is the {side} that was tried: a better one may lie beyond it'
        )
    if best and best['val_knn'] > chosen.get('val_knn', best['val_knn']):
        said.append(f'{best.get("value"):g} had the higher k-NN accuracy on val')
    return TuningResults(
        arm.name, trials, chosen.get('factor'), bool(used), '; '.join(said) or None
    )
