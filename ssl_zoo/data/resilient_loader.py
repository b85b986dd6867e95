"""Batches from loader workers that may die or hang."""

import multiprocessing
import multiprocessing.connection
import signal

from ssl_zoo.errors import ConfigError


class ResilientLoader:
    """The batches of a loader one after the other. Workers that die or do not answer are replaced, and no batch is lost: the order does
    not depend on who reads.

    Args:
        loader: function that gives the loader from one batch on: ``loader(first batch)``.
        first: the batch to begin with.
        warn: is told of workers that were lost.
    """

    ATTEMPTS = 3  # at one batch
    alarm = signal.SIG_DFL  # torch's handler, which it installs once in a process

    def __init__(self, loader, first: int, warn):
        self.loader, self.place, self.warn = loader, first, warn
        self.batches, self.workers = None, set()

    def next(self):
        """The next batch. Raises ConfigError if workers are lost again and again at the same batch."""
        for attempt in range(1, self.ATTEMPTS + 1):
            try:
                batch = self._ask()
                self.place += 1
                return batch
            except (RuntimeError, OSError, EOFError) as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                if not self._lost(error, reason):
                    raise
                self.close(lost=True)
                if attempt < self.ATTEMPTS:
                    self.warn(
                        f'batch {self.place}: {reason}; starting new workers ({attempt} of {self.ATTEMPTS - 1})'
                    )
        raise ConfigError(
            f"the loader's workers were lost {self.ATTEMPTS} times at batch {self.place} ({reason}). Killed workers "
            f'are mostly a lack of memory: use fewer with workers=, and continue with --resume'
        )

    def _lost(self, error: Exception, reason: str) -> bool:
        if 'Caught' in reason or not self.workers:  # of the data set
            return False
        if isinstance(error, RuntimeError):
            return 'DataLoader worker' in reason or 'DataLoader timed out' in reason
        return bool(
            multiprocessing.connection.wait([worker.sentinel for worker in self.workers], 1)
        )  # it died while it sent a batch

    def _ask(self):
        if self.batches is None:
            before = set(multiprocessing.active_children())
            self.batches = iter(self.loader(self.place))
            self.workers = set(multiprocessing.active_children()) - before
            if callable(handler := signal.getsignal(signal.SIGCHLD)):
                ResilientLoader.alarm = handler
        if not self.workers:
            return next(self.batches)
        # torch raises from a signal handler when a worker dies, wherever the main process stands: in the middle of a step it would leave
        # half of an update. So its handler is in place only while a batch is waited for.
        signal.signal(
            signal.SIGCHLD, ResilientLoader.alarm
        )  # through an instance it would be a method, with an argument more
        try:
            dead = [worker.pid for worker in self.workers if not worker.is_alive()]
            if dead:
                raise RuntimeError(f'DataLoader worker (pid {dead[0]}) is gone')
            return next(self.batches)
        finally:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def close(self, lost: bool = False) -> None:
        """End the workers, now and not when a traceback is forgotten. If they are ``lost``, one may hang, and is not asked."""
        batches, workers, self.batches, self.workers = self.batches, self.workers, None, set()
        if not workers:
            return
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if lost:
            _kill(workers)
        batches._shutdown_workers()  # what dropping the iterator does, were nobody else holding it
        _kill(workers)


def _kill(workers) -> None:
    for worker in workers:
        worker.kill()
        worker.join()
