"""The worker: takes the units of a study one after another, or several at a time, until all are done.

Any number of workers, on one machine or on many that share the folder, can work on one study: a unit is claimed by a lock on a file
in its folder, which its worker's end releases whatever ends it.
"""

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from statistics import mean

from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.lock import FileLock
from ssl_zoo.studies.job import read_json, write_json
from ssl_zoo.studies.plan import Job, Jobs, spoken

COMMAND = (sys.executable, '-m', 'ssl_zoo.studies.job')
POLL = 0.2  # seconds between looks at the processes
ELSEWHERE = 5.0  # seconds between looks for what other workers have done


def claimed(folder: Path) -> FileLock | None:
    """The lock of a job's folder, None if another worker holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / '.unit.lock')
    if lock.acquire():
        return lock
    lock.release()
    return None


class Running:
    """A unit at work in a process of its own; what it prints goes to console.log in its folder."""

    def __init__(self, unit: Job, lock, environment: dict):
        self.unit, self.lock, self.began, self.heard = unit, lock, time.time(), 0
        self.log = open(unit.folder / 'console.log', 'a')
        # A session of its own: Ctrl-C reaches the worker alone, which hands it on once.
        self.process = subprocess.Popen(
            [*COMMAND, str(unit.folder)],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            start_new_session=True,
        )

    def hear(self, signals: list[int]) -> None:
        """Hand on the signals that it has not got yet, each once: a second Ctrl-C would stop it without saving."""
        for number in signals[self.heard :]:
            self.heard += 1
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGINT if number == signal.SIGHUP else number)

    def end(self, stopping: bool) -> dict:
        """Its record, after its process has ended; one that says what went wrong if it left none."""
        self.log.close()
        record = read_json(self.unit.folder / 'record.json')
        if record is None or record['status'] != 'done':
            code = self.process.returncode
            lines = (
                (self.unit.folder / 'console.log').read_text(errors='replace').strip().splitlines()
            )
            record = failed(
                self.unit,
                f'exit code {code}: {lines[-1] if lines else "no output"}',
                write=not stopping,
            )
        self.lock.release()
        return record


def failed(unit: Job, error: str, write: bool = True) -> dict:
    """The record of a unit that failed."""
    said = read_json(unit.folder / 'unit.json') or {}
    record = dict(
        {key: said.get(key) for key in said.get('recorded', ())},
        kind=unit.kind,
        method=said.get('method', unit.arm.method),
        seed=unit.seed,
        status='failed',
        error=error,
        time=time.time(),
    )
    if write:
        with suppress(OSError):  # a full disk is what may have failed it
            write_json(unit.folder / 'record.json', record)
    return record


class Worker:
    """Works on a study until every unit is done or has failed.

    Args:
        units: all of them.
        places: the environment of each process that may run at a time, such as its GPU.
        expected: seconds of a training by kind and arm id, for the time left; see ssl_zoo.studies.plan.describe.
        tell: prints a line.
    """

    def __init__(
        self, units: Jobs, places: list[dict], expected: dict[tuple[str, str], float], tell=print
    ):
        self.units, self.free, self.expected, self.tell = units, list(places), expected, tell
        self.slots, self.started = len(places), time.time()
        self.settled: dict[Path, dict] = {}  # folder -> record
        self.running: list[tuple[Running, dict]] = []
        self.spent: dict[str, list[float]] = defaultdict(
            list
        )  # kind -> seconds measured / expected
        self.signals: list[int] = []  # received

    @property
    def signal(self) -> int | None:
        return self.signals[0] if self.signals else None

    def work(self) -> list[dict]:
        """All records. On Ctrl-C, SIGTERM, SIGUSR1 or SIGHUP the running units are told once, they save, and then this returns; ``signal``
        is the number."""
        before = {
            s: signal.signal(s, self._stop)
            for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
        }
        looked = 0.0
        try:
            while True:
                self._collect()
                if (
                    self.signal is None
                    and self.free
                    and time.time() - looked >= (ELSEWHERE if looked else 0)
                ):
                    looked = 0.0 if self._start_some() else time.time()
                waiting = [unit for unit in self.units if unit.folder not in self.settled]
                if not self.running and (not waiting or self.signal is not None):
                    return list(self.settled.values())
                time.sleep(POLL)
                if any(running.process.poll() is not None for running, _ in self.running):
                    looked = 0.0
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)

    def _stop(self, number: int, _) -> None:
        self.signals.append(number)
        self.tell(
            f'{signal.Signals(number).name}: {len(self.running)} at work save what they have; once more to stop at once'
        )
        for running, _ in self.running:
            running.hear(self.signals)

    def _collect(self) -> None:
        for running, place in [pair for pair in self.running if pair[0].process.poll() is not None]:
            self.running.remove((running, place))
            self.free.append(place)
            record, seconds, unit = (
                running.end(self.signal is not None),
                time.time() - running.began,
                running.unit,
            )
            if record['status'] == 'done':
                self._settle(unit, record)
                self.spent[unit.kind].append(seconds / self._guess(unit))
                self.tell(
                    f'{len(self.settled)}/{len(self.units)}  {unit.label}  {figures(record)}  in {spoken(seconds)}{self._left()}'
                )
            elif self.signal is None:
                self._settle(unit, record)
                self.tell(
                    f'{len(self.settled)}/{len(self.units)}  {unit.label}  FAILED after {spoken(seconds)}: {record["error"]} '
                    f'(see {unit.folder / "console.log"})'
                )

    def _settle(self, unit: Job, record: dict) -> None:
        self.settled[unit.folder] = record

    def _guess(self, unit: Job) -> float:
        return (
            10.0
            if unit.kind == 'baseline'
            else max(self.expected.get((unit.kind, unit.arm.id), 1.0), 1e-3)
        )

    def _left(self) -> str:
        waiting = [unit for unit in self.units if unit.folder not in self.settled]
        if not waiting:
            return ''
        known = [ratio for ratios in self.spent.values() for ratio in ratios]
        seconds = sum(
            self._guess(unit) * mean(self.spent.get(unit.kind) or known) for unit in waiting
        )
        seconds -= sum(
            min(time.time() - running.began, self._guess(running.unit))
            for running, _ in self.running
        )
        return f'; about {spoken(max(seconds, 0) / self.slots)} left'

    def _start_some(self) -> bool:
        """Start what can be started; whether anything was, or was found done."""
        moved = False
        at_work = {running.unit.folder for running, _ in self.running}
        for unit in self.units:
            if not self.free or self.signal is not None:
                break
            if (
                unit.folder in self.settled
                or unit.folder in at_work
                or not all(need in self.settled for need in unit.needs)
            ):
                continue
            moved |= self._take(unit)
        return moved

    def _take(self, unit: Job) -> bool:
        if self._done_elsewhere(unit):
            return True
        try:
            lock = claimed(unit.folder)
            if lock is None:
                return False
            if self._done_elsewhere(unit):  # between the look and the lock
                lock.release()
                return True
            self.units.prepare(unit)
            place = self.free[0]
            running = Running(unit, lock, place)
            self.running.append((running, place))
            self.free.pop(0)
            running.hear(self.signals)  # one may have come while it was started
        except (
            ConfigError,
            OSError,
        ) as error:  # what it needs has failed, or its folder; others may do
            self._settle(unit, failed(unit, str(error)))
            self.tell(f'{len(self.settled)}/{len(self.units)}  {unit.label}  FAILED: {error}')
        return True

    def _done_elsewhere(self, unit: Job) -> bool:
        """Whether it has a record: done, or failed since this worker began. What failed before is tried again."""
        record = read_json(unit.folder / 'record.json')
        if record is None or record['status'] != 'done' and record.get('time', 0) < self.started:
            return False
        self._settle(unit, record)
        return True


def figures(record: dict) -> str:
    if record['kind'] == 'trial':
        found = (
            'diverged'
            if record['val_knn'] is None
            else f'k-NN {record["val_knn"]:.2f} % on the hold-out'
        )
        return f'{record["key"]} {record["value"]:g}: {found}'
    return '  '.join(f'{key} {value:.2f} %' for key, value in record['figures'].items())
