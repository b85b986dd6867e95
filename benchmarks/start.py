"""Measure start-up: --help, the time to the first step of the digits, and compilation.

    python benchmarks/start.py [--rounds 5] [--json FILE]

Each start is a new process, started as a user starts it. The first step counts as done when its
progress line is printed. The first of the two compiled starts begins with an empty compiler cache
and fills it; the second uses it.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments, machine, write

ROOT = Path(__file__).resolve().parent.parent


def seconds_to(line: str | None, *command: str, **environment: str) -> float:
    """Return the seconds until a process prints ``line``; with None, until the process ends."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, 'PYTHONUNBUFFERED': '1', **environment},
    )
    seen = None
    for text in process.stdout:
        if line is not None and line in text:
            seen = time.perf_counter() - started
            process.kill()
            break
    process.wait()
    if line is None:
        return time.perf_counter() - started
    if seen is None:
        raise SystemExit(f'{" ".join(command)} never printed {line!r}')
    return seen


def first_step(*options: str, **environment: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return seconds_to(
            'step 1/',
            'tools/train.py',
            'configs/byol/digits.py',
            '--work-dir',
            str(Path(folder, 'run')),
            *(['--cfg-options', *options] if options else []),
            **environment,
        )


def measure(rounds: int, compiled: bool = True) -> dict:
    figures = dict(help=[], first_step=[])
    for _ in range(rounds):
        figures['help'].append(seconds_to(None, 'tools/train.py', '--help'))
        figures['first_step'].append(first_step())
    if compiled:
        with tempfile.TemporaryDirectory() as cache:
            figures['compiled, empty cache'], figures['compiled, kept cache'] = (
                [first_step('compile=True', TORCHINDUCTOR_CACHE_DIR=cache)] for _ in range(2)
            )
    return {name: statistics.median(values) for name, values in figures.items()}


def main() -> None:
    args = arguments(__doc__).parse_args()
    figures = measure(args.rounds)
    print(
        f'{machine()["cpu"]}, {os.cpu_count()} cores, median of {args.rounds} starts (of the '
        'compiled ones one)'
    )
    for name, value in figures.items():
        print(f'  {name:<26}{value:8.2f} s')
    write(args.json, command='start', seconds=figures)


if __name__ == '__main__':
    main()
