"""A race: the least training time in which features reach an accuracy on the test images."""

import json
import math
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.hooks import Hook
from torch import Tensor

from ssl_zoo.data.loader import eval_loader
from ssl_zoo.data.sources import Source
from ssl_zoo.distributed import world_size
from ssl_zoo.engine.initial_weights import begins_with_weights
from ssl_zoo.engine.step_flops import step_flops
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import eval_mode
from ssl_zoo.evaluation.knn import knn_predict
from ssl_zoo.evaluation.metrics import accuracy
from ssl_zoo.registry import HOOKS
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.versions import source_commit, versions

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer

STATE = 'ssl_zoo.race'  # key of the hook's state in a checkpoint
RECORD = 'speedrun.json'  # in the work directory, written anew at every look
BATCH = 1000  # images per batch of a look


class TargetReached(Exception):
    """The features have reached the target of the race; the run ends here."""


@HOOKS.register_module()
class Race(Hook):
    """Measures k-NN on the test images every few epochs, and the time of the training until then.

    A look takes the backbone's features of all labelled training images and of all test images, of
    the size that data.eval_size and data.eval_resize give (CIFAR's 32 px stay as they are). Each of
    the k nearest training images by cosine has one vote; of classes with equally many votes the
    first one wins. The test images are looked at many times, so the accuracy of a race says how
    fast a recipe is, and is no figure of a protocol.

    The clock runs from ``started`` to the end of the last step before a look. It counts all that
    the process does: imports, images, compilation, training, checkpoints. It does not count the
    looks, whose time is given apart. A resumed run goes on from the time of its checkpoint, and
    pays its start again. Beside the clock, the time of the processor is noted, which other work on
    the machine hardly changes.

    Only ``ssl-zoo speedrun`` starts the clock; other commands refuse a config with a race.

    Args:
        target: accuracy in percent that ends the race.
        every: epochs between looks; there is also one before the first step and one after the last.
        k: number of neighbours.

    Attributes:
        started: time.perf_counter() at the start of the command; None until the command sets it.
        looks: epoch, step, seconds on the clock, seconds of the processor and accuracy in percent
            of each look.
        resumes: number of times that the run was resumed.
    """

    priority = 'NORMAL'  # before the checkpoint of the step, which then holds the look

    def __init__(self, target: float, every: float = 1, k: int = 10):
        if not 0 < target <= 100:
            raise ConfigError(
                f'target={target!r} of the race, but it must be above 0 and up to 100'
            )
        if not every > 0:
            raise ConfigError(f'every={every!r} of the race, but it must be epochs above 0')
        self.target = target
        self.every = every
        self.k = k
        self.started: float | None = None
        self.looks: list[dict] = []
        self.resumes = 0
        self._seconds_before = 0.0  # of training, in the processes before this one
        self._look_seconds = 0.0  # in this process
        self._look_seconds_before = 0.0
        self._processor_before = 0.0
        self._look_processor = 0.0
        self._images: dict[str, tuple[Tensor, np.ndarray]] = {}
        self._step_flops = 0
        self._commit: str | None = None  # at the first look: files may change while a race runs

    # --- Calls of the run.

    def before_train(self, runner: 'Trainer') -> None:
        if self.started is None:
            raise ConfigError(
                'the config has a Race among its hooks, whose clock `ssl-zoo speedrun` starts; '
                'run it with that command, or set hooks=[]'
            )
        if begins_with_weights(runner.settings):
            raise ConfigError(
                'a race begins with random weights; remove init_from and pretrained weights from '
                'the config'
            )
        if world_size() > 1:
            raise ConfigError(f'a race runs on one process, but there are {world_size()}')
        if self.is_over:
            raise ConfigError(
                f'the race in {runner.work_dir} has reached its target; for another race choose '
                f'another --work-dir'
            )
        if not self.looks:
            self.look(runner)

    def after_optimizer_step(self, runner: 'Trainer') -> None:
        if runner.due(self.every) or runner.step == runner.max_steps:
            self.look(runner)

    def before_save_checkpoint(self, runner: 'Trainer', checkpoint: dict) -> None:
        checkpoint[STATE] = dict(
            looks=self.looks,
            seconds=self.training_seconds(),
            processor=self.processor_seconds(),
            look_seconds=self._look_seconds_before + self._look_seconds,
            resumes=self.resumes,
        )

    def after_load_checkpoint(self, runner: 'Trainer', checkpoint: dict) -> None:
        state = checkpoint.get(STATE)
        if not _is_state(state):
            raise ConfigError(
                f'cannot resume: the checkpoint holds no state of a race under {STATE!r}, so its '
                f'time of training is not known; start the race anew'
            )
        self.looks = list(state['looks'])
        self._seconds_before = state['seconds']
        self._processor_before = state['processor']
        self._look_seconds_before = state['look_seconds']
        self.resumes = state['resumes'] + 1

    # --- The race.

    @property
    def is_over(self) -> bool:
        """Whether the last look has reached the target."""
        return bool(self.looks) and self.looks[-1]['accuracy'] >= self.target

    @property
    def has_looked(self) -> bool:
        """Whether this process has made a look."""
        return bool(self._images)

    def training_seconds(self) -> float:
        """Return the seconds on the clock."""
        in_this_process = time.perf_counter() - self.started - self._look_seconds
        return self._seconds_before + in_this_process

    def processor_seconds(self) -> float:
        """Return the seconds that all threads of the processor have worked for the training."""
        return self._processor_before + time.process_time() - self._look_processor

    def look(self, runner: 'Trainer') -> None:
        """Measure the accuracy, note it with the time, and write the record.

        Raises:
            TargetReached: the accuracy is that of the target, or above.
        """
        if runner.device.type == 'cuda':
            torch.cuda.synchronize()  # the steps in the queue belong to the training
        epoch = runner.plan.epoch(runner.step)
        seconds = self.training_seconds()
        processor = self.processor_seconds()
        begun = time.perf_counter()
        processor_begun = time.process_time()
        measured = self._measure(runner)
        self.looks.append(
            dict(
                step=runner.step,
                epoch=epoch,
                seconds=seconds,
                processor=processor,
                accuracy=measured,
            )
        )
        self._write_record(runner)
        took = time.perf_counter() - begun
        self._look_seconds += took
        self._look_processor += time.process_time() - processor_begun
        runner.pause(took, once=runner.step == 0)
        runner.logger.info(
            f'epoch {epoch:.1f}  {seconds / 60:.2f} minutes  k-NN {measured:.2f} % on '
            f'{len(self._images["test"][1])} test images, target {self.target:g} %  ({took:.1f} s)'
        )
        if self.is_over:
            runner.save_checkpoint()
            raise TargetReached

    def _write_record(self, runner: 'Trainer') -> None:
        record = json.dumps(self.record(runner), indent=2) + '\n'
        atomic_write(Path(runner.work_dir, RECORD), lambda file: file.write(record.encode()))

    def record(self, runner: 'Trainer') -> dict[str, Any]:
        """Return the row of the race as of the last look; minutes are those of training."""
        last = self.looks[-1]
        installed = versions()
        return dict(
            time=datetime.now(UTC).isoformat(timespec='seconds'),
            method=runner.settings.method['type'],
            backbone=runner.settings.method['backbone'],
            parameters=sum(p.numel() for p in runner.method.backbone.parameters()),
            target=self.target,
            reached=self.is_over,
            k=self.k,
            train_images=len(self._images['bank'][1]),
            test_images=len(self._images['test'][1]),
            accuracy=last['accuracy'],
            minutes=last['seconds'] / 60,
            processor_minutes=last['processor'] / 60,
            look_minutes=(self._look_seconds_before + self._look_seconds) / 60,
            epochs=last['epoch'],
            planned_epochs=runner.settings.epochs,
            steps=last['step'],
            pflop=self._step_flops * last['step'] / 1e15,
            seed=runner.settings.seed,
            resumes=self.resumes,
            device=installed['device'],
            torch=installed['torch'],
            versions=installed,
            commit=self._commit,
            command=shlex.join(sys.argv),
            curve=[[x['epoch'], x['seconds'] / 60, x['accuracy']] for x in self.looks],
        )

    def _measure(self, runner: 'Trainer') -> float:
        """Return the k-NN accuracy on the test images in percent."""
        if not self._images:
            self._images = dict(
                bank=_labelled_images(runner, runner.sources['bank'], 'training'),
                test=_labelled_images(runner, runner.sources['test'], 'test'),
            )
            self._step_flops = step_flops(runner.plan)
            self._commit = source_commit()
        bank, bank_labels = self._images['bank']
        test, test_labels = self._images['test']
        predicted = knn_predict(
            _features(runner, bank),
            bank_labels,
            _features(runner, test),
            int(max(bank_labels.max(), test_labels.max())) + 1,
            self.k,
            temperature=math.inf,  # every neighbour has the weight exp(0)
        )
        return accuracy(predicted, test_labels)


def _is_state(state: object) -> bool:
    """Whether a value of a checkpoint is what ``before_save_checkpoint`` writes."""
    if not isinstance(state, dict) or not isinstance(state.get('looks'), list):
        return False
    keys = ('step', 'epoch', 'seconds', 'processor', 'accuracy')
    numbers = [state.get(key) for key in ('seconds', 'processor', 'look_seconds', 'resumes')]
    for look in state['looks']:
        if not isinstance(look, dict):
            return False
        numbers += [look.get(key) for key in keys]
    return all(type(number) in (int, float) and 0 <= number < 1e12 for number in numbers)


def _labelled_images(
    runner: 'Trainer', source: Source | None, kind: str
) -> tuple[Tensor, np.ndarray]:
    """Read all images: (n, 3, size, size) uint8 on the device, and labels, (n,) int64."""
    if source is None or source.labels is None:
        raise ConfigError(f'a race needs labelled {kind} images; set data.train and data.test')
    size, resize = runner.settings.eval_geometry()
    batches = list(eval_loader(source, size, resize))
    for batch in batches:
        for i, reason in batch['unreadable']:
            raise ConfigError(
                f'a race needs all {kind} images, but {source.name(i)} cannot be read ({reason})'
            )
    return torch.cat([batch['pixels'] for batch in batches]).to(runner.device), source.labels


@torch.no_grad()
def _features(runner: 'Trainer', images: Tensor) -> np.ndarray:
    """Compute the backbone's features: (n, 3, H, W) uint8 -> (n, D) float32."""
    encoder = runner.method.encoder()
    normalise = runner.method.data_preprocessor.normalise
    # A compiled backbone would be compiled again for eval mode and for this batch size.
    with eval_mode(encoder), torch.compiler.set_stance('force_eager'):
        parts = [encoder(normalise(part)).float() for part in images.split(BATCH)]
    return torch.cat(parts).cpu().numpy()
