"""A loader whose dead or hanging workers are replaced, so that no batch is lost."""

import multiprocessing
import multiprocessing.connection
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

from tqdm import tqdm

from ssl_zoo.distributed.signals import stop_requested
from ssl_zoo.errors import ConfigError
from ssl_zoo.printable import printable

# What to do when shared memory is too small. In containers it has 64 MB by default.
SHARED_MEMORY_REMEDY = 'give the container more with --shm-size=8g'
SHARED_MEMORY_SIGNS = ('shared memory', 'Bus error')  # in messages of torch
# Seconds that a batch may still take after a signal that asks the run to stop.
STOP_SECONDS = 10


class WaitStopped(Exception):
    """A signal asked the run to stop, and the batch that it waits for does not arrive."""


def print_warning(message: str) -> None:
    """Print a warning to standard error, above the progress bar."""
    tqdm.write(f'warning: {printable(message)}', file=sys.stderr)


class ResilientLoader:
    """Yields a loader's batches in order, and replaces workers that die or do not answer.

    The batches do not depend on the worker that makes them, so a new loader continues with the
    batch that was lost.

    Args:
        make_loader: ``make_loader(number)`` builds a loader that begins with that batch.
        first: number of the first batch.
        warn: called with a message when workers were lost.
        advice: end of the message when workers were lost too often.
        timeout: the loader's time-out in seconds; 0 for none. A worker that is stopped while it
            hands a batch over makes torch wait without end; such workers are killed after one and a
            half times as long.

    Attributes:
        workers: the worker processes; empty for a loader without workers.
    """

    MAX_ATTEMPTS = 3  # attempts to get one batch
    # torch's handler of SIGCHLD, which it installs once per process; SIG_DFL until then.
    torch_handler: Any = signal.SIG_DFL

    def __init__(
        self,
        make_loader: Callable[[int], Iterable],
        first: int = 0,
        warn: Callable[[str], None] = print_warning,
        advice: str = 'use fewer with --workers',
        timeout: float = 0,
    ):
        self.make_loader = make_loader
        self.batch_number = first
        self.warn = warn
        self.advice = advice
        self.watchdog = _Watchdog(1.5 * timeout)
        self.batches: Any = None  # torch's iterator over the loader
        self.workers: set[BaseProcess] = set()

    def next(self) -> dict:
        """Return the next batch.

        Raises:
            ConfigError: the workers were lost MAX_ATTEMPTS times at this batch, shared memory is
                too small, or the source cannot be sent to workers.
            WaitStopped: a signal asked the run to stop while no batch arrives.
            StopIteration: the loader has ended.
            Exception: the data set raised it.
        """
        for attempt in range(1, self.MAX_ATTEMPTS + 1):
            try:
                batch = self._next_of_loader()
                self.batch_number += 1
                return batch
            except (RuntimeError, OSError, EOFError) as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                if self.workers and any(sign in str(error) for sign in SHARED_MEMORY_SIGNS):
                    self.close(lost=True)
                    raise ConfigError(
                        f'shared memory (/dev/shm) was full at batch {self.batch_number}; '
                        f'{SHARED_MEMORY_REMEDY}, or take workers=0'
                    ) from None
                if not self._workers_were_lost(error, reason):
                    raise
                self.close(lost=True)
                if stop_requested():
                    raise WaitStopped from None
                if attempt < self.MAX_ATTEMPTS:
                    self.warn(
                        f'batch {self.batch_number}: {reason}; starting new workers '
                        f'({attempt} of {self.MAX_ATTEMPTS - 1})'
                    )
        raise ConfigError(
            f"the loader's workers were lost {self.MAX_ATTEMPTS} times at batch "
            f'{self.batch_number} ({reason}). Killed workers are mostly a lack of memory: '
            f'{self.advice}'
        )

    def __iter__(self) -> Iterator[dict]:
        """Yield the batches that are left. The workers end with the last, or with the iterator."""
        try:
            while True:
                try:
                    batch = self.next()
                except StopIteration:
                    return
                yield batch
        finally:
            self.close()

    def _workers_were_lost(self, error: Exception, reason: str) -> bool:
        """Whether the error means lost workers, and not an exception of the data set."""
        if 'Caught' in reason or not self.workers:  # torch: 'Caught KeyError in DataLoader worker'
            return False
        if isinstance(error, RuntimeError):
            return 'DataLoader worker' in reason or 'DataLoader timed out' in reason
        # A worker that dies while it sends a batch breaks the pipe.
        sentinels = [worker.sentinel for worker in self.workers]
        return bool(multiprocessing.connection.wait(sentinels, timeout=1))

    def _next_of_loader(self) -> dict:
        if self.batches is None:
            self._start()
        if not self.workers:
            return next(self.batches)
        # When a worker dies, torch raises from a signal handler, wherever the main process is. In
        # the middle of a step that would leave half an update, so the handler is installed only
        # while the main process waits for a batch. The handler is read from the class: read from
        # the instance it would be a method, with `self` as a further argument.
        _set_child_handler(ResilientLoader.torch_handler)
        try:
            dead = [worker.pid for worker in self.workers if not worker.is_alive()]
            if dead:
                raise RuntimeError(f'DataLoader worker (pid {dead[0]}) is gone')
            with self.watchdog.waiting():
                return next(self.batches)
        finally:
            _set_child_handler(signal.SIG_DFL)

    def _start(self) -> None:
        children_before = set(multiprocessing.active_children())
        try:
            self.batches = iter(self.make_loader(self.batch_number))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            # Workers that are not forked get the source pickled.
            if 'pickle' not in str(error):
                raise
            raise ConfigError(
                f'the source of the images cannot be sent to loader workers, which the start '
                f'method {multiprocessing.get_start_method()!r} needs: {error}; take workers=0, or '
                f'define what it names at the top of a module'
            ) from None
        self.workers = set(multiprocessing.active_children()) - children_before
        handler = signal.getsignal(signal.SIGCHLD)
        if callable(handler):
            ResilientLoader.torch_handler = handler
        self.watchdog.start(self.workers)

    def close(self, lost: bool = False) -> None:
        """End the workers now, not only when the last traceback that refers to them is deleted.

        Args:
            lost: the workers were lost. One of them may hang, so all are killed before the loader
                is asked to shut down.
        """
        batches = self.batches
        workers = self.workers
        self.batches = None
        self.workers = set()
        self.watchdog.stop()
        if not workers:
            return
        _set_child_handler(signal.SIG_DFL)
        if lost:
            _kill(workers)
        # Deleting the iterator would do the same, if nothing else referred to it.
        batches._shutdown_workers()
        _kill(workers)


class _Watchdog:
    """A thread that kills workers when a batch does not arrive in time.

    After a signal that asks the run to stop, the time is STOP_SECONDS.

    Args:
        seconds: time for a batch; 0 for no limit.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.since: float | None = None  # time.monotonic() when the waiting began
        self.ended = threading.Event()

    def start(self, workers: set[BaseProcess]) -> None:
        """Watch these workers."""
        if workers:
            self.ended = threading.Event()
            threading.Thread(target=self._watch, args=(workers, self.ended), daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        self.ended.set()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Measure the time of the block, which waits for a batch."""
        self.since = time.monotonic()
        try:
            yield
        finally:
            self.since = None

    def _watch(self, workers: set[BaseProcess], ended: threading.Event) -> None:
        stopping_since = None
        while not ended.wait(min(self.seconds / 10 or 1, 1)):
            now = time.monotonic()
            since = self.since
            if since is None or not stop_requested():
                stopping_since = None
            elif stopping_since is None:
                stopping_since = now
            stops = stopping_since is not None and now - stopping_since > STOP_SECONDS
            late = since is not None and self.seconds and now - since > self.seconds
            if stops or late:
                for worker in workers:
                    worker.kill()  # the main thread, whose connection breaks, replaces them
                return


def _set_child_handler(handler: Any) -> None:
    """Set the handler of SIGCHLD in the main thread. Python forbids it in others."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, handler)


def _kill(workers: set[BaseProcess]) -> None:
    for worker in workers:
        worker.kill()
        worker.join()
