"""Measure the figures of a run: every evaluation that the study asks for, one after another."""

from collections.abc import Callable
from pathlib import Path

from ssl_zoo.config.fill import fill_dataclass
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.evaluation.protocols.knn import evaluate_knn
from ssl_zoo.evaluation.protocols.linear import evaluate_linear
from ssl_zoo.evaluation.protocols.logistic import evaluate_logistic
from ssl_zoo.evaluation.protocols.semi_supervised import evaluate_semi_supervised
from ssl_zoo.studies.evaluation import Evaluation
from ssl_zoo.studies.job_folder import JobFolder
from ssl_zoo.studies.records import measured_figures
from ssl_zoo.studies.results import DATA_PARTS


def measure_figures(
    folder: JobFolder, checkpoint: Path, random_weights: bool = False
) -> EvaluationContext:
    """Measure all figures and save each in the progress of the job.

    Figures that an earlier attempt has saved are not measured again.

    Args:
        folder: folder of the job.
        checkpoint: checkpoint file of the run.
        random_weights: whether to evaluate the network as it was before training.

    Returns:
        The evaluation context, with the features that were extracted.
    """
    evaluation = fill_dataclass(Evaluation, folder.task['evaluate'], 'evaluate.')
    context = EvaluationContext(
        str(checkpoint),
        random_weights=random_weights,
        work_dir=str(folder.path),
        precision=evaluation.precision,
        seed=folder.task['seed'],
    )
    figures = folder.progress['figures']
    for key, evaluate in _evaluations(evaluation, context).items():
        if key in figures:
            continue
        row = evaluate()
        figures[key] = dict(
            value=row['value'],
            protocol=row['protocol'],
            n=row['n'],
            manifest=row['test_manifest'],
            data={part: row[f'{part}_data'] for part in DATA_PARTS},
        )
        folder.save_progress(figures=figures)
    return context


def _evaluations(
    evaluation: Evaluation, context: EvaluationContext
) -> dict[str, Callable[[], dict]]:
    """Return for each metric a function that measures it and returns its results row."""

    def knn() -> dict:
        return evaluate_knn(context, list(evaluation.k), list(evaluation.temperature))[0]

    def logistic() -> dict:
        bank, held_out, queries = (
            context.features(context.source(name), name) for name in ('train', 'val', 'test')
        )
        return evaluate_logistic(
            context,
            bank,
            held_out,
            queries,
            context.source('test'),
            'top1',
            evaluation.strengths,
            False,
            'logistic',
        )

    def linear() -> dict:
        return evaluate_linear(context, evaluation.linear_preset())

    def semi_supervised(labels: str) -> dict:
        recipe = evaluation.finetune_recipe(labels)
        return evaluate_semi_supervised(context, labels, None, recipe)[0]

    evaluations = {'knn': knn}
    if evaluation.linear == 'logistic':
        evaluations['linear'] = logistic
    elif evaluation.linear:
        evaluations['linear'] = linear
    for labels in evaluation.labels:
        evaluations[labels] = lambda labels=labels: semi_supervised(labels)
    return evaluations


def figures_record(folder: JobFolder) -> dict:
    """Return the measured figures as entries of the job's record."""
    _check_same_data(folder)
    return measured_figures(folder.progress['figures'])


def _check_same_data(folder: JobFolder) -> None:
    """Raise ConfigError if figures of the job were measured with different images."""
    figures = folder.progress['figures']
    for part, name in DATA_PARTS.items():
        digests = {figure['data'][part] for figure in figures.values()}
        if len(digests) > 1:
            raise ConfigError(
                f'the {name} images have changed between the figures of {folder.path}, which do '
                f'not compare; remove that folder, and the same command repeats the job'
            )
