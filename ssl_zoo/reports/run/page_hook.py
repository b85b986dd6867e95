"""A hook that keeps the page of a run up to date while the run goes on."""

import os
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING

from mmengine.hooks import Hook

from ssl_zoo.distributed import rank
from ssl_zoo.errors import ConfigError
from ssl_zoo.printable import one_line
from ssl_zoo.program import PARENT
from ssl_zoo.registry import HOOKS

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer

RELOAD_SECONDS = 60  # after which a browser reads the page of a run that goes on again
LAST_PAGE_SECONDS = 600  # largest time that the end of a run waits for its page


def page_command(work_dir: str, *options: str) -> list[str]:
    """Return the command that writes the page of a work directory."""
    return [sys.executable, '-m', 'ssl_zoo', 'report', work_dir, *options]


@HOOKS.register_module()
class RunPageHook(Hook):
    """Write report.html into the work directory every few epochs, and at the end of the training.

    A process of the lowest priority, without a GPU, writes the page while the training goes on. If
    the one before is still at work, the page is left out. An error of the page is one warning in
    the log. The end of the run waits for the last page.

    Args:
        every: epochs between pages.
        images: whether the last page shows images (neighbours, maps, confusions), too, which takes
            minutes on a CPU. Earlier pages show curves and facts alone.

    Raises:
        ConfigError: ``every`` is no number above 0.
    """

    priority = 'VERY_LOW'  # after the online evaluation of the step

    def __init__(self, every: float = 1, images: bool = False) -> None:
        if not isinstance(every, (int, float)) or isinstance(every, bool) or not every > 0:
            raise ConfigError(f'hook RunPageHook has every={every!r}, but it must be above 0')
        self.every = every
        self.images = images
        self.process: subprocess.Popen | None = None
        self.errors: IO[bytes] | None = None  # what the process prints on stderr
        self.has_warned = False

    def after_optimizer_step(self, runner: 'Trainer') -> None:
        """Start to write a page if one is due and none is being written."""
        if rank() > 0 or not runner.due(self.every) or runner.step >= runner.max_steps:
            return
        if self._is_free(runner):
            options = ['--no-images', '--reload', str(RELOAD_SECONDS)]
            self._start(runner, ['nice', '-n', '19', *page_command(runner.work_dir, *options)])

    def after_train(self, runner: 'Trainer') -> None:
        """Write the last page, when the results of the run are written."""
        if rank() > 0:
            return
        self._wait(runner)
        options = [] if self.images else ['--no-images']
        self._start(runner, page_command(runner.work_dir, *options))
        self._wait(runner)

    def _start(self, runner: 'Trainer', command: list[str]) -> None:
        own = dict(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')
        own[PARENT] = str(os.getpid())  # the process ends with this one, see ssl_zoo.program
        try:
            self.errors = tempfile.TemporaryFile()
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                start_new_session=True,  # Ctrl-C is for the training
            )
        except OSError as error:
            self._warn(runner, str(error))

    def _is_free(self, runner: 'Trainer') -> bool:
        """Whether no page is being written; report the error of the page before."""
        if self.process is None:
            return True
        if self.process.poll() is None:
            return False
        self._wait(runner)
        return True

    def _wait(self, runner: 'Trainer') -> None:
        """Wait for the page that is being written, if any, and report its error."""
        if self.process is None:
            return
        try:
            exit_code = self.process.wait(LAST_PAGE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self._warn(runner, f'it took more than {LAST_PAGE_SECONDS} seconds')
        else:
            if exit_code and self.errors is not None:
                self.errors.seek(0)
                lines = self.errors.read().decode(errors='replace').split('\n')
                said = [line for line in lines if line.strip()]
                self._warn(runner, said[-1] if said else f'its process ended with {exit_code}')
        self.process = None

    def _warn(self, runner: 'Trainer', reason: str) -> None:
        if not self.has_warned:
            self.has_warned = True
            runner.logger.warning(
                one_line(f'warning: the page of the run was not written: {reason}')
            )
