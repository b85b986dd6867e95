"""Do one job of a study: a trial, a run with its evaluation, or the untrained network.

    python -m ssl_zoo.studies FOLDER

reads FOLDER/job.json, which ``ssl_zoo.studies.plan`` writes, and leaves FOLDER/record.json. A job
that was stopped or killed can be run again: the training continues from its checkpoint, the
evaluation after its last figure.
"""

from collections.abc import Sequence
from pathlib import Path

from ssl_zoo.checkpoint import checkpoints_in, read_checkpoint
from ssl_zoo.config.loading import load_config
from ssl_zoo.distributed.process_group import process_group
from ssl_zoo.distributed.run_command import run_command
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.studies.embedding_map import save_embedding_map
from ssl_zoo.studies.figures import figures_record, measure_figures
from ssl_zoo.studies.job_folder import JobFolder
from ssl_zoo.studies.results import DATA_PARTS
from ssl_zoo.studies.training_cost import peak_memory, training_cost


def train(folder: JobFolder) -> Path:
    """Train, or continue to train. Returns the last checkpoint."""
    settings = load_config(folder.task['config_file'], folder.task['options'])
    if 'cost' not in folder.progress:
        with process_group(settings.parallel.timeout):
            trainer = build_trainer(settings, folder.path, 'auto')
            try:
                trainer.fit()
            except BaseException:
                folder.save_progress(peak=_peak_memory(folder))
                raise
            if trainer.checkpoints.path is None:
                raise ConfigError(
                    'the last checkpoint could not be written, '
                    f'see {folder.path / "train.log"}; free some space'
                )
            cost = training_cost(trainer, _peak_memory(folder), folder.path)
        folder.save_progress(cost=cost, config=settings.to_builtin())
    return checkpoints_in(folder.path)[0]


def _peak_memory(folder: JobFolder) -> int:
    """Return the peak memory in bytes over all attempts."""
    return max(peak_memory(), folder.progress.get('peak', 0))


def do_trial(folder: JobFolder) -> None:
    """Train without test images. The figure is the k-NN accuracy on the hold-out at the end.

    If the training diverges, the trial ends without a figure.
    """
    try:
        train(folder)
    except FloatingPointError as error:
        seconds = folder.progress['seconds']
        folder.write_record(val_knn=None, n_val=None, seconds=seconds, diverged=str(error))
        print(f'diverged: {error}')
        return
    rows = [
        row
        for row in rows_of(folder.path / 'results.jsonl')
        if (row.get('metric'), row.get('weights')) == ('knn_top1', 'trained')
    ]
    if not rows:
        raise ConfigError(
            f'the training has left no k-NN figure of the hold-out, see {folder.path / "train.log"}'
        )
    folder.save_progress()
    knn = rows[-1]
    seconds = folder.progress['seconds']
    data = {part: knn.get(f'{part}_data') for part in DATA_PARTS}
    folder.write_record(val_knn=knn['value'], n_val=knn['n'], seconds=seconds, data=data)


def do_run(folder: JobFolder) -> None:
    """Train, measure all figures, and for the first seed save the embedding map."""
    checkpoint = train(folder)
    context = measure_figures(folder, checkpoint)
    if folder.task['draw_map']:
        save_embedding_map(folder.path / 'map.npz', context)
    folder.save_progress()
    folder.write_record(
        **figures_record(folder),
        cost=dict(folder.progress['cost'], total_seconds=folder.progress['seconds']),
        checkpoint=str(checkpoint.relative_to(folder.path)),
        checkpoint_sha256=context.checkpoint_hash,
        config=folder.progress['config'],
    )


def do_baseline(folder: JobFolder) -> None:
    """Measure all figures of the network as it was before training."""
    run_folder = folder.task['of']
    checkpoints = checkpoints_in(Path(run_folder))
    if not checkpoints:
        raise ConfigError(
            'the untrained network is built from the config in a checkpoint, but '
            f'{run_folder} has no checkpoint'
        )
    context = measure_figures(folder, checkpoints[0], random_weights=True)
    if folder.task['draw_map']:
        save_embedding_map(folder.path / 'map.npz', context)
    config = read_checkpoint(checkpoints[0])['config']
    folder.write_record(**figures_record(folder), config=config)


KINDS = {'trial': do_trial, 'run': do_run, 'baseline': do_baseline}


def main(arguments: Sequence[str]) -> int:
    """Do the job of a folder. Returns the exit code.

    Args:
        arguments: the folder alone.

    Raises:
        ConfigError: the folder has no readable job.json.
    """
    folder = JobFolder(Path(arguments[0]))

    def do_job() -> int:
        try:
            KINDS[folder.task['kind']](folder)
        except BaseException:
            folder.save_progress()  # adds the seconds of this attempt
            raise
        return 0

    return run_command(do_job, 'tools/study.py goes on from here')
