"""Run jobs side by side, each in a process of its own, until all have ended.

Several schedulers, on one machine or on machines that share a file system, can work on the same
jobs: a scheduler claims a job by a lock on a file in the job's folder. The lock is released when
the scheduler ends for any reason.
"""

import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from statistics import mean
from types import FrameType
from typing import Any, Protocol

from ssl_zoo.engine.work_dir import RUN_LOCK
from ssl_zoo.errors import ConfigError
from ssl_zoo.program import PARENT
from ssl_zoo.storage.atomic import check_regular
from ssl_zoo.storage.lock import FileLock, is_locked

POLL_SECONDS = 0.2  # between checks of the processes
RESCAN_SECONDS = 5.0  # between checks of what other schedulers have done
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class SchedulableJob(Protocol):
    """A job that a scheduler can run.

    Attributes:
        kind: kind of the job; the measured times of one kind predict later jobs of that kind.
        label: name of the job in printed lines.
        folder: folder of the job's files; different jobs have different folders.
        needs: folders of the jobs that must end first.
    """

    kind: str
    label: str
    folder: Path
    needs: tuple[Path, ...]


class JobSet(Protocol):
    """The jobs that a scheduler runs, in the order in which they should start.

    Each JobSet has its own job class, with the attributes of SchedulableJob.

    A record is a dict with at least 'status' ('done' or 'failed') and 'error'.
    """

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...

    def prepare(self, job: Any) -> None:
        """Write the files that the job needs. Raises ConfigError or OSError if it cannot start."""

    def command(self, job: Any) -> list[str]:
        """Return the command that does the job."""

    def record(self, job: Any) -> dict | None:
        """Return the record of a job that is done or has failed; None for the others."""

    def finished_record(self, job: Any, exit_code: int) -> dict | None:
        """Return the record that the job's process has left; None if the job is not done."""

    def failed_record(self, job: Any, error: str, write: bool = True) -> dict:
        """Return the record of a job that failed; with ``write``, also save the record."""

    def describe_record(self, record: dict) -> str:
        """Return the figures of a job that is done, as text to print."""


def claim(folder: Path) -> FileLock | None:
    """Return the lock of a job's folder; None if another scheduler holds it, or a run is there.

    The run of a scheduler that was killed saves its state before it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / '.job.lock')
    if lock.acquire() and not is_locked(folder / RUN_LOCK):
        return lock
    lock.release()
    return None


class JobProcess:
    """The process of a job. Its output goes to console.log in the job's folder.

    Args:
        job: the job.
        command: command line of the process.
        lock: lock of the job's folder.
        environment: additional environment variables of the process, such as its GPU.

    Attributes:
        started: Unix time of the start.
    """

    def __init__(
        self, job: SchedulableJob, command: list[str], lock: FileLock, environment: dict[str, str]
    ) -> None:
        self.job = job
        self.environment = environment
        self.started = time.time()
        self._lock = lock
        self._forwarded_signals = 0
        console = job.folder / 'console.log'
        check_regular(console.resolve())
        self._console = open(console, 'a')
        # A session of its own: Ctrl-C reaches the scheduler alone, which forwards it once.
        # PARENT: the process ends with this one, see ssl_zoo.program.
        self._process = subprocess.Popen(
            command,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment, PARENT: str(os.getpid())},
            start_new_session=True,
        )

    @property
    def exit_code(self) -> int | None:
        """The exit code; None while the process runs."""
        return self._process.poll()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.time() - self.started

    def forward(self, signals: list[int]) -> None:
        """Send the signals that the process has not received yet, each once.

        A second Ctrl-C would stop the process before it has saved its state.

        Args:
            signals: all signals that the scheduler has received.
        """
        for number in signals[self._forwarded_signals :]:
            self._forwarded_signals += 1
            if number == signal.SIGHUP:
                number = signal.SIGINT
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def error_message(self) -> str:
        """Return the exit code and the last line of the output."""
        output = (self.job.folder / 'console.log').read_text(errors='replace')
        lines = output.strip().splitlines()
        last_line = lines[-1] if lines else 'no output'
        return f'exit code {self.exit_code}: {last_line}'

    def close(self) -> None:
        """Close the log and release the lock, after the process has ended."""
        self._console.close()
        self._lock.release()


def _equal_seconds(job: SchedulableJob) -> float:
    return 1.0


class Scheduler:
    """Runs jobs until each is done or has failed.

    Args:
        jobs: all jobs.
        environments: one dict of environment variables for each process that may run at the same
            time, such as its GPU and its number of threads.
        expected_seconds: function of a job, its expected time, for the printed time left. Only the
            ratios between jobs of one kind matter: measured times give the scale.
        print_line: prints a line.
    """

    def __init__(
        self,
        jobs: JobSet,
        environments: list[dict[str, str]],
        expected_seconds: Callable[[Any], float] = _equal_seconds,
        print_line: Callable[[str], object] = print,
    ) -> None:
        self.jobs = jobs
        self._expected_seconds = expected_seconds
        self._print_line = print_line
        self._slots = len(environments)
        self._free_environments = list(environments)
        self._processes: list[JobProcess] = []
        self._records: dict[Path, dict] = {}  # folder of a job that has ended -> record
        # Records from before the start. A failure among them does not count: the job is tried
        # again. Records are compared, not times, because clocks differ between machines.
        self._earlier = {job.folder: jobs.record(job) for job in jobs}
        # Kind of job -> measured seconds divided by expected seconds.
        self._time_ratios: dict[str, list[float]] = defaultdict(list)
        self._received_signals: list[int] = []

    @property
    def signal(self) -> int | None:
        """The number of the signal that stopped the scheduler; None if none did."""
        return self._received_signals[0] if self._received_signals else None

    def run(self) -> list[dict]:
        """Run all jobs.

        After Ctrl-C, SIGTERM, SIGUSR1 or SIGHUP no job starts, running jobs get the signal once,
        and this method returns when they have saved their state and ended.

        Returns:
            The records of all jobs that have ended, except the jobs that a signal stopped.
        """
        previous_handlers = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            self._run_until_ended()
        finally:
            for number, handler in previous_handlers.items():
                signal.signal(number, handler)
        return list(self._records.values())

    def _run_until_ended(self) -> None:
        last_scan = None
        while True:
            self._collect_ended()
            scan_due = last_scan is None or time.time() - last_scan >= RESCAN_SECONDS
            if self.signal is None and self._free_environments and scan_due:
                # A job that started or ended may make another job ready: scan again at once.
                last_scan = None if self._start_ready_jobs() else time.time()
            all_ended = len(self._waiting()) == 0
            if not self._processes and (all_ended or self.signal is not None):
                return
            time.sleep(POLL_SECONDS)
            if any(process.exit_code is not None for process in self._processes):
                last_scan = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._received_signals.append(number)
        self._print_line(
            f'{signal.Signals(number).name}: {len(self._processes)} running jobs save their state; '
            'a second signal stops them at once'
        )
        for process in self._processes:
            process.forward(self._received_signals)

    def _waiting(self) -> list[SchedulableJob]:
        """Return the jobs that have not ended, running ones included."""
        return [job for job in self.jobs if job.folder not in self._records]

    def _collect_ended(self) -> None:
        for process in [p for p in self._processes if p.exit_code is not None]:
            self._processes.remove(process)
            self._free_environments.append(process.environment)
            self._collect(process)

    def _collect(self, process: JobProcess) -> None:
        job = process.job
        seconds = process.seconds
        stopped = self.signal is not None
        record = self.jobs.finished_record(job, process.exit_code)
        if record is None:
            record = self.jobs.failed_record(job, process.error_message(), write=not stopped)
        process.close()
        duration = format_duration(seconds)
        if record['status'] == 'done':
            self._records[job.folder] = record
            self._time_ratios[job.kind].append(seconds / self._expected_seconds(job))
            figures = self.jobs.describe_record(record)
            self._print_progress(job, f'{figures}  in {duration}{self._describe_time_left()}')
        elif not stopped:
            self._records[job.folder] = record
            console = job.folder / 'console.log'
            self._print_progress(job, f'FAILED after {duration}: {record["error"]} (see {console})')

    def _print_progress(self, job: SchedulableJob, text: str) -> None:
        self._print_line(f'{len(self._records)}/{len(self.jobs)}  {job.label}  {text}')

    def _describe_time_left(self) -> str:
        waiting = self._waiting()
        if not waiting:
            return ''
        all_ratios = [ratio for ratios in self._time_ratios.values() for ratio in ratios]
        seconds = 0.0
        for job in waiting:
            ratio = mean(self._time_ratios.get(job.kind) or all_ratios)
            seconds += self._expected_seconds(job) * ratio
        for process in self._processes:
            seconds -= min(process.seconds, self._expected_seconds(process.job))
        return f'; about {format_duration(max(seconds, 0) / self._slots)} left'

    def _start_ready_jobs(self) -> bool:
        """Start jobs while there is room; return whether one was started or has ended."""
        changed = False
        running = {process.job.folder for process in self._processes}
        for job in self._waiting():
            if not self._free_environments or self.signal is not None:
                break
            is_ready = all(folder in self._records for folder in job.needs)
            if is_ready and job.folder not in running:
                changed |= self._start(job)
        return changed

    def _start(self, job: SchedulableJob) -> bool:
        """Start a job; return False if another scheduler is at work on it."""
        if self._is_settled(job):
            return True
        lock = None
        try:
            lock = claim(job.folder)
            if lock is None:
                return False
            if self._is_settled(job):  # the job ended between the first check and the lock
                lock.release()
                return True
            self.jobs.prepare(job)
            environment = self._free_environments[0]
            process = JobProcess(job, self.jobs.command(job), lock, environment)
        except (ConfigError, OSError) as error:
            # A job that this job needs has failed, or its folder cannot be used. Others may work.
            self._records[job.folder] = self.jobs.failed_record(job, str(error))
            self._print_progress(job, f'FAILED: {error}')
            if lock is not None:
                lock.release()
            return True
        self._processes.append(process)
        self._free_environments.pop(0)
        # A signal may have arrived while the process was being started.
        process.forward(self._received_signals)
        return True

    def _is_settled(self, job: SchedulableJob) -> bool:
        record = self.jobs.record(job)
        if record is None:
            return False
        if record['status'] != 'done' and record == self._earlier[job.folder]:
            return False
        self._records[job.folder] = record
        return True


def format_duration(seconds: float) -> str:
    """Return a time as text in seconds, minutes or hours, such as '12 min'."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    if seconds < 2 * 3600:
        return f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.1f} h'


def threads_per_process(processes: int) -> int:
    """Return the number of threads of each process if they share the cores of this process."""
    if hasattr(os, 'sched_getaffinity'):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(cores // processes, 1)
