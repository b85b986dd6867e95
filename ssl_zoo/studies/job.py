"""One unit of a study, in a process of its own: a training that is judged, a trial of a learning rate, or the untrained network.

    python -m ssl_zoo.studies.job FOLDER

reads FOLDER/unit.json, which ssl_zoo/studies/scheduler.py has written, does what it says, and writes FOLDER/record.json. Stopped or killed
it goes on from where it was: the training from its checkpoint, the evaluation from its last figure.
"""

import ctypes
import json
import resource
import signal
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ssl_zoo.checkpoint import checkpoints_in, read_checkpoint
from ssl_zoo.cli.run_command import run_command
from ssl_zoo.config.loading import load_config
from ssl_zoo.distributed.process_group import process_group
from ssl_zoo.engine.runner import build_runner
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.evaluation.protocols.knn import evaluate_knn
from ssl_zoo.evaluation.protocols.linear import evaluate_linear
from ssl_zoo.evaluation.protocols.logistic import evaluate_logistic
from ssl_zoo.evaluation.protocols.semi_supervised import evaluate_semi_supervised
from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.studies.study import Evaluation

MAP_IMAGES = 500  # test images for the map of the embeddings
THUMBNAIL = 32  # pixels


def write_json(path: Path, content: dict) -> None:
    atomic_write(path, lambda file: file.write(json.dumps(content, indent=1).encode()))


def read_json(path: Path) -> dict | None:
    """The content of a JSON file; None if there is none, or it is damaged."""
    try:
        content = json.loads(path.read_text())
        return content if isinstance(content, dict) else None
    except (OSError, ValueError):
        return None


class JobContext:
    """What is done in the folder of a unit.

    Attributes: folder; unit: what unit.json says; kept: what earlier legs of it have found, in partial.json.
    """

    def __init__(self, folder: Path):
        self.folder, self.unit = folder, read_json(folder / 'unit.json')
        if self.unit is None:
            raise ConfigError(f'{folder} has no readable unit.json; tools/study.py writes it')
        self.kept = read_json(folder / 'partial.json') or dict(seconds=0.0, figures={})
        self.started = time.perf_counter()

    def keep(self, **more) -> None:
        """Remember what was found, in case the next part is stopped."""
        now = time.perf_counter()
        self.kept |= dict(more, seconds=self.kept['seconds'] + now - self.started)
        self.started = now
        write_json(self.folder / 'partial.json', self.kept)

    def finish(self, **record) -> None:
        write_json(
            self.folder / 'record.json',
            dict(
                {key: self.unit[key] for key in self.unit['recorded']},
                status='done',
                error=None,
                **record,
            ),
        )
        (self.folder / 'partial.json').unlink(missing_ok=True)

    def train(self) -> Path:
        """Train, or go on with it; the last checkpoint."""
        settings = load_config(self.unit['config_file'], self.unit['options'])
        if 'cost' not in self.kept:
            with process_group(settings.parallel.timeout):
                runner = build_runner(settings, self.folder, 'auto')
                try:
                    runner.train()
                except BaseException:
                    self.keep(peak=max(peak_memory(), self.kept.get('peak', 0)))
                    raise
                if runner.checkpoint_hook.path is None:
                    raise ConfigError(
                        f'the last checkpoint could not be written, see {self.folder / "train.log"}; free some space'
                    )
                cost = cost_of(runner, max(peak_memory(), self.kept.get('peak', 0)), self.folder)
            self.keep(cost=cost, config=settings.to_builtin())
        return checkpoints_in(self.folder)[0]


def peak_memory() -> int:
    """Bytes: the most that this process has had of the GPU's memory, or without a GPU of the machine's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == 'darwin' else 1024
    )


def cost_of(runner, peak: int, folder: Path) -> dict:
    """What a training took. images_per_second is the median over the progress lines after the first, without the looks in between."""
    speeds = [
        row['train/images_per_second']
        for row in rows_of(folder / 'log.jsonl')
        if row['step'] > 1 and row.get('train/images_per_second')
    ]
    gpu = torch.cuda.is_available()
    threads = torch.get_num_threads()
    seconds = runner.train_seconds
    return dict(
        epochs=runner.settings.epochs,
        steps=runner.max_steps,
        images=runner.plan.images,
        batch_size=runner.plan.batch_size,
        train_seconds=seconds,
        images_per_second=statistics.median(speeds) if speeds else None,
        peak_memory_bytes=peak,
        memory_of='GPU' if gpu else 'process',
        devices=1 if gpu else threads,
        device_hours=seconds * (1 if gpu else threads) / 3600,
        device=torch.cuda.get_device_name()
        if gpu
        else f'cpu, {threads} thread{"s" * (threads > 1)}',
        parameters=sum(p.numel() for p in runner.method.backbone.parameters()),
    )


def trial(work: JobContext) -> None:
    """Train without test images; the figure is k-NN on the hold-out at the end. One that diverges has come to its end as well."""
    try:
        work.train()
    except FloatingPointError as error:
        work.finish(val_knn=None, n_val=None, seconds=work.kept['seconds'], diverged=str(error))
        print(f'diverged: {error}')
        return
    looks = [
        row
        for row in rows_of(work.folder / 'results.jsonl')
        if row['metric'] == 'knn_top1' and row['weights'] == 'trained'
    ]
    if not looks:
        raise ConfigError(
            f'the training has left no k-NN figure of the hold-out, see {work.folder / "train.log"}'
        )
    work.keep()
    work.finish(val_knn=looks[-1]['value'], n_val=looks[-1]['n'], seconds=work.kept['seconds'])


def judged(work: JobContext, checkpoint: Path, random_weights: bool = False) -> EvaluationContext:
    """Every figure that the study asks for, one after another."""
    evaluate = Evaluation(
        **{
            key: tuple(value) if isinstance(value, list) else value
            for key, value in work.unit['evaluate'].items()
        }
    )
    context = EvaluationContext(
        str(checkpoint),
        random_weights=random_weights,
        work_dir=str(work.folder),
        precision=evaluate.precision,
        seed=work.unit['seed'],
    )
    figures = work.kept['figures']

    def figure(key: str, rows) -> None:
        if key not in figures:
            row = rows()
            figures[key] = dict(
                value=row['value'],
                protocol=row['protocol'],
                n=row['n'],
                manifest=row['test_manifest'],
            )
            work.keep(figures=figures)

    figure('knn', lambda: evaluate_knn(context, list(evaluate.k), list(evaluate.temperature))[0])
    if evaluate.linear == 'logistic':

        def logistic() -> dict:
            test = context.source('test')
            bank, held_out, queries = (
                context.features(context.source(name), name) for name in ('train', 'val', 'test')
            )
            return evaluate_logistic(
                context,
                bank,
                held_out,
                queries,
                test,
                'top1',
                evaluate.strengths,
                False,
                'logistic',
            )

        figure('linear', logistic)
    elif evaluate.linear:
        figure('linear', lambda: evaluate_linear(context, evaluate.linear_preset()))
    for labels in evaluate.labels:
        figure(
            labels,
            lambda labels=labels: evaluate_semi_supervised(
                context, labels, None, evaluate.recipe_of(labels)
            )[0],
        )
    return context


def draw_map(work: JobContext, context: EvaluationContext) -> None:
    """map.npz: features, labels and thumbnails of some test images, for the report."""
    test = context.source('test')
    features = context.features(test, 'test')
    rows = np.unique(np.linspace(0, len(features.index) - 1, MAP_IMAGES).astype(int))
    thumbnails = np.stack(
        [
            np.asarray(
                test.read(int(i))
                .convert('RGB')
                .resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
            )
            for i in features.index[rows]
        ]
    )
    content = dict(
        features=np.asarray(features.values[rows], np.float32),
        labels=features.labels[rows],
        thumbnails=thumbnails,
        classes=np.array(test.classes or [str(i) for i in range(context.classes)]),
    )
    atomic_write(work.folder / 'map.npz', lambda file: np.savez_compressed(file, **content))


def run(work: JobContext) -> None:
    """Train, judge, and for the report draw the map."""
    checkpoint = work.train()
    context = judged(work, checkpoint)
    if work.unit['draw_map']:
        draw_map(work, context)
    work.keep()
    work.finish(
        **figures_of(work),
        cost=dict(work.kept['cost'], total_seconds=work.kept['seconds']),
        checkpoint=str(checkpoint.relative_to(work.folder)),
        checkpoint_sha256=context.checkpoint_hash,
        config=work.kept['config'],
    )


def figures_of(work: JobContext) -> dict:
    found = work.kept['figures']
    first = next(iter(found.values()))
    return dict(
        figures={key: figure['value'] for key, figure in found.items()},
        protocols={key: figure['protocol'] for key, figure in found.items()},
        n_test=first['n'],
        test_manifest=first['manifest'],
    )


def baseline(work: JobContext) -> None:
    """The same figures of the network as it was before training."""
    checkpoint = checkpoints_in(Path(work.unit['of']))
    if not checkpoint:
        raise ConfigError(
            f'{work.unit["of"]} has no checkpoint, whose config says what network the untrained one is'
        )
    context = judged(work, checkpoint[0], random_weights=True)
    if work.unit['draw_map']:
        draw_map(work, context)
    work.finish(**figures_of(work), config=read_checkpoint(checkpoint[0])['config'])


def die_with_the_worker() -> None:
    """Let Linux send SIGTERM when the worker that started this process is gone, even if it was killed: another may take the unit then."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG


def main(folder: str) -> int:
    work = JobContext(Path(folder))

    def act() -> int:
        try:
            dict(trial=trial, run=run, baseline=baseline)[work.unit['kind']](work)
        except BaseException:
            work.keep()  # of its seconds
            raise
        return 0

    return run_command(act, 'tools/study.py goes on from here')


if __name__ == '__main__':
    die_with_the_worker()
    sys.exit(main(sys.argv[1]))
