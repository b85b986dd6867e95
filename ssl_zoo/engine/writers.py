"""Writers: TensorBoard, and the loggers that a config names, such as W&B and MLflow.

A writer is one of mmengine's visualization backends. Those of the config work in threads of their
own: a service that does not answer never holds up the training, and an error costs one warning.
"""

import logging
import queue
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from mmengine.visualization.vis_backend import BaseVisBackend, MLflowVisBackend, WandbVisBackend

from ssl_zoo.engine.scalar_log import ScalarLog
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import WRITERS

TENSORBOARD = 'TensorboardVisBackend'  # written by ScalarLog
CLOSE_SECONDS = 60.0  # longest wait for all writers at the end of a run
END = 'end'  # in place of a function: the thread ends
MARK = 'mark'  # in place of a function: an event is set
START_SECONDS = 30.0  # longest wait for all writers at the start of a run
MAX_WAITING = 10_000  # calls; a writer with more has not answered for long, and is given up


@WRITERS.register_module(name='WandbVisBackend')
class WandbWriter(WandbVisBackend):
    """mmengine's backend for W&B, with the steps of the run, and without a copy of the code.

    mmengine counts the calls as steps, and uploads the Python files of the current folder.

    Args:
        save_dir: folder of W&B's local files.
        init_kwargs: arguments of wandb.init.
    """

    def __init__(self, save_dir: str, init_kwargs: dict | None = None):
        super().__init__(save_dir, init_kwargs=init_kwargs)

    def add_config(self, config: Config, **_: Any) -> None:
        self.experiment.config.update(config.to_dict(), allow_val_change=True)

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **_: Any) -> None:
        wandb = self.experiment
        wandb.log({name: wandb.Image(image)}, step=step)

    def add_scalars(
        self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **_: Any
    ) -> None:
        self.experiment.log(scalar_dict, step=step)

    def close(self) -> None:
        if hasattr(self, '_wandb'):
            self._wandb.finish()


@WRITERS.register_module(name='MLflowVisBackend')
class MLflowWriter(MLflowVisBackend):
    """mmengine's backend for MLflow; names of images get the extension that MLflow needs."""

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **_: Any) -> None:
        self.experiment.log_image(image, f'{name}.png')

    def close(self) -> None:
        # mmengine would upload the files of the work directory, which may hold this very store.
        if hasattr(self, '_mlflow'):
            self._mlflow.end_run()


def build_writer(config: Any, work_dir: str | Path) -> BaseVisBackend | None:
    """Build a writer that a config names; None for TensorBoard, which ScalarLog writes.

    Args:
        config: dict with 'type', a name in WRITERS or of mmengine's visualization backends, and
            its arguments; 'save_dir' is by default writers/TYPE in the work directory.
        work_dir: the work directory.

    Raises:
        ConfigError: the writer is unknown or cannot be built.
    """
    name = config.get('type') if isinstance(config, dict) else None
    if name == TENSORBOARD:
        if len(config) > 1:
            raise ConfigError(
                f'writers has {config!r}, but {TENSORBOARD} takes no arguments: its files are in '
                f'the folder tensorboard of the work directory'
            )
        return None
    if isinstance(name, str) and name in VISBACKENDS.module_dict and name not in WRITERS.names():
        WRITERS.register_module(name=name, module=VISBACKENDS.module_dict[name])
    if isinstance(config, dict) and 'save_dir' not in config:
        config = dict(config, save_dir=str(Path(work_dir, 'writers', str(name))))
    writer = WRITERS.create(config)
    if not isinstance(writer, BaseVisBackend):
        raise ConfigError(
            f'writer {name!r} is a {type(writer).__name__}, but not a '
            f'mmengine.visualization.BaseVisBackend'
        )
    return writer


def build_writers(configs: list[Any], work_dir: str | Path) -> dict[str, BaseVisBackend]:
    """Build the writers that a config names, by name, but for TensorBoard."""
    writers: dict[str, BaseVisBackend] = {}
    for config in configs:
        writer = build_writer(config, work_dir)
        if writer is not None:
            name = config['type']
            writers[name if name not in writers else f'{name} {len(writers) + 1}'] = writer
    return writers


class BackgroundWriter:
    """Makes the calls of a writer in a thread, in order.

    After an error, or when MAX_WAITING calls wait, one warning is logged and the writer is
    given up.

    Args:
        name: name of the writer, for the warning.
        writer: the writer.
        logger: gets the warning.
    """

    def __init__(self, name: str, writer: BaseVisBackend, logger: logging.Logger):
        self.name = name
        self.writer = writer
        self.logger = logger
        self._calls: queue.Queue[tuple[str, tuple]] = queue.Queue(MAX_WAITING)
        self._failed = False
        # A thread that hangs in a service does not keep the process alive.
        self._thread = threading.Thread(target=self._work, name=f'writer {name}', daemon=True)
        self._thread.start()

    def call(self, function: str, *arguments: Any) -> None:
        """Have a function of the writer called, soon; no-op after an error."""
        if self._failed:
            return
        try:
            self._calls.put_nowait((function, arguments))
        except queue.Full:
            self._fail(f'has not answered for {MAX_WAITING} calls')

    def wait(self, deadline: float) -> None:
        """Wait until the calls so far are made, or until ``deadline`` (time.monotonic())."""
        done = threading.Event()
        self.call(MARK, done)
        if not self._failed:
            done.wait(max(deadline - time.monotonic(), 0))

    def close(self, deadline: float) -> None:
        """Close the writer after its last call; wait until ``deadline`` (time.monotonic())."""
        for function in ('close', END):
            with suppress(queue.Full):
                self._calls.put((function, ()), timeout=max(deadline - time.monotonic(), 0))
        self._thread.join(max(deadline - time.monotonic(), 0))
        if self._thread.is_alive() and not self._failed:
            self._fail('has not answered at the end of the run')

    def _work(self) -> None:
        while True:
            function, arguments = self._calls.get()
            if function == END:
                return
            if function == MARK:
                arguments[0].set()
                continue
            if self._failed and function != 'close':
                continue
            try:
                getattr(self.writer, function)(*arguments)
            except (Exception, SystemExit) as error:  # whatever a service or its library raises
                text = (str(error).strip().splitlines() or ['no message'])[0]
                self._fail(f'has failed in {function} ({type(error).__name__}: {text})')

    def _fail(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            self.logger.warning(f'warning: writer {self.name} {reason}; the run goes on without it')


class Writers:
    """All writers of a run, with the functions of mmengine's Visualizer that hooks use.

    Rank 0 has the writers; on other ranks there are none.

    Args:
        scalar_log: writes TensorBoard's files.
        writers: writers by name.
        logger: gets warnings.
    """

    def __init__(
        self, scalar_log: ScalarLog, writers: dict[str, BaseVisBackend], logger: logging.Logger
    ):
        self.scalar_log = scalar_log
        self.background = [
            BackgroundWriter(name, writer, logger) for name, writer in writers.items()
        ]

    def add_config(self, config: dict, work_dir: str) -> None:
        """Give the writers the config of the run, and wait a while until they have it.

        A loader's worker that is forked while a library connects to its service could hang.
        """
        for writer in self.background:
            # mmengine's writers take files from cfg.work_dir when they are closed.
            writer.call('add_config', Config(dict(config, work_dir=work_dir)))
        deadline = time.monotonic() + START_SECONDS
        for writer in self.background:
            writer.wait(deadline)

    def add_scalar(self, name: str, value: float, step: int = 0) -> None:
        """Write a number of a step."""
        self.add_scalars({name: value}, step)

    def add_scalars(self, scalars: dict[str, float], step: int = 0) -> None:
        """Write numbers of a step, such as {'train/loss': 1.0}."""
        self.scalar_log.write_tensorboard(scalars, step)
        self.to_background(scalars, step)

    def to_background(self, scalars: dict[str, float], step: int) -> None:
        """Write numbers of a step to the writers of the config."""
        for writer in self.background:
            writer.call('add_scalars', {k: float(v) for k, v in scalars.items()}, step)

    def add_image(self, name: str, image: np.ndarray, step: int = 0) -> None:
        """Write an image, (H, W, 3) uint8 RGB."""
        self.scalar_log.write_image(name, image, step)
        for writer in self.background:
            writer.call('add_image', name, image, step)

    def close(self) -> None:
        """Close all writers; a writer that does not answer is left after a while."""
        deadline = time.monotonic() + CLOSE_SECONDS
        background, self.background = self.background, []
        for writer in background:
            writer.close(deadline)
        self.scalar_log.close()
