"""One call of a piece: its time, its parts, its record."""

import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
RESERVE = 15  # seconds at the end of a piece in which no part begins


class TimeUp(BaseException):
    """The time of the piece is over. No part may catch it as an Exception."""


class Session:
    """Runs the parts of a piece until its time is up, and writes the record after each part.

    A part that an earlier call has finished is not done again, so a piece is continued by the same
    command. A part that fails leaves its error in the record.

    Args:
        piece: letter of the piece.
        title: what the piece shows.
        out: folder for runs and for the record.
        data: folder of cifar10, imagenette and imagenet_sample100.
        small: whether to shrink everything, so that a CPU shows that the piece works.
        minutes: time of the call.

    Attributes:
        figures: name of a part -> its figures, or dict(error=...).
        curves: name of a run -> [epoch, minutes, k-NN accuracy] of each look.
        unfinished: names of the parts for which there was no time.
    """

    def __init__(self, piece: str, title: str, out: Path, data: Path, small: bool, minutes: float):
        self.piece = piece
        self.title = title
        self.out = out
        self.data = data
        self.small = small
        self.deadline = time.monotonic() + 60 * minutes
        self.path = out / f'{piece}.json'
        self.figures: dict[str, dict] = {}
        self.curves: dict[str, list] = {}
        self.unfinished: list[str] = []
        self.seconds_before = 0.0
        self.started = time.monotonic()
        out.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            earlier = json.loads(self.path.read_text())
            self.figures = earlier['figures']
            self.curves = earlier['curves']
            self.seconds_before = earlier['seconds']

    def left(self) -> float:
        """Return the seconds that are left for parts."""
        return self.deadline - RESERVE - time.monotonic()

    def part(self, name: str, needs: float, measure: Callable[[], dict]) -> dict | None:
        """Do a part of the piece, unless it is done or its time does not suffice.

        Args:
            name: name of the part in the record.
            needs: seconds that the part takes at least on a GPU.
            measure: does the part; its result goes into the record.

        Returns:
            The figures of the part, of this call or an earlier one; None without figures.
        """
        done = self.figures.get(name)
        if done is not None and 'error' not in done and done.get('complete', True):
            return done
        if self.left() < (0 if self.small else needs):
            print(f'{self.piece}: no time left for {name}', flush=True)
            self.unfinished.append(name)
            return done
        print(f'{self.piece}: {name}', flush=True)
        try:
            self.figures[name] = measure()
        except TimeUp:
            self.unfinished.append(name)
            raise
        except Exception as error:
            traceback.print_exc()
            reason = str(error).strip().splitlines() or ['']
            self.figures[name] = dict(error=f'{type(error).__name__}: {reason[0][:300]}')
        if not self.figures[name].get('complete', True):
            self.unfinished.append(name)
        self.write()
        return self.figures[name]

    def run(self, piece: Callable[['Session'], None]) -> None:
        """Run the piece; when its time is up, end it where it is."""

        def on_alarm(*_) -> None:
            raise TimeUp

        previous = signal.signal(signal.SIGALRM, on_alarm)
        signal.setitimer(signal.ITIMER_REAL, max(self.deadline - time.monotonic(), 0.1))
        try:
            piece(self)
        except TimeUp:
            print(f'{self.piece}: the time is up', flush=True)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
            self.write()

    def write(self) -> None:
        """Write the record."""
        record = dict(
            piece=self.piece,
            title=self.title,
            small=self.small,
            time=datetime.now(UTC).isoformat(timespec='seconds'),
            **machine(),
            commit=commit(),
            command=shlex.join(sys.argv),
            seconds=round(self.seconds_before + time.monotonic() - self.started, 1),
            unfinished=self.unfinished,
            figures=self.figures,
            curves=self.curves,
        )
        temporary = self.path.with_suffix('.tmp')
        temporary.write_text(json.dumps(record, indent=2) + '\n')
        os.replace(temporary, self.path)


def machine() -> dict:
    """Return the card, its driver and memory, the processor and the versions."""
    driver = None
    with suppress(OSError, subprocess.CalledProcessError):
        query = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
        answer = subprocess.run(query, capture_output=True, text=True, check=True)
        driver = answer.stdout.split('\n')[0].strip()
    on_gpu = torch.cuda.is_available()
    return dict(
        card=torch.cuda.get_device_name() if on_gpu else None,
        memory_gb=round(torch.cuda.get_device_properties(0).total_memory / 1e9) if on_gpu else None,
        driver=driver,
        torch=str(torch.__version__),
        cuda=torch.version.cuda,
        python=platform.python_version(),
        cores=os.cpu_count(),
    )


def commit() -> str | None:
    """Return the commit of this clone, or the one that prepare.py noted for a copy of it."""
    from ssl_zoo.versions import source_commit

    noted = ROOT / '.gpu/commit'
    return source_commit() or (noted.read_text().strip() if noted.exists() else None)


def wait() -> None:
    """Wait until the device has done what it was told."""
    if DEVICE.type == 'cuda':
        torch.cuda.synchronize()
