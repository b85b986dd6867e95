"""Functions that the benchmarks share: alternating rounds, ratios, the machine, images, JSON."""

import argparse
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

os.environ.setdefault(
    'LIGHTLY_DID_VERSION_CHECK', 'True'
)  # lightly asks its server for news when it is imported


def arguments(doc: str, rounds: int = 5) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(
        '--rounds',
        type=int,
        default=rounds,
        help='number of alternating rounds; figures are medians over rounds',
    )
    parser.add_argument('--json', help='file for the figures')
    return parser


def machine() -> dict:
    """Return the hardware and versions that the figures depend on."""
    model = (
        next(
            (
                line.split(':')[1].strip()
                for line in open('/proc/cpuinfo')
                if line.startswith('model name')
            ),
            platform.machine(),
        )
        if os.path.exists('/proc/cpuinfo')
        else platform.machine()
    )
    return dict(
        cpu=model,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        python=platform.python_version(),
    )


def alternate(
    runs: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Return the seconds of each run in each round; every other round is in reverse order."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for r in range(rounds + warm_up):
        for name in list(runs) if r % 2 else list(runs)[::-1]:
            started = time.perf_counter()
            runs[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if r >= warm_up:
                times[name].append(time.perf_counter() - started)
    return times


def rows_of(times: dict[str, list[float]], items: int, base: str) -> dict[str, dict]:
    """Return medians over rounds: items/s, milliseconds per item, speed relative to ``base``."""
    return {
        name: dict(
            per_second=items / statistics.median(t),
            milliseconds=1e3 * statistics.median(t) / items,
            ratio=statistics.median(b / a for a, b in zip(t, times[base], strict=True)),
        )
        for name, t in times.items()
    }


def table(rows: dict[str, dict], what: str, base: str) -> None:
    for name, row in rows.items():
        print(f'  {name:<52}{row["per_second"]:10.1f} {what}/s{row["ratio"]:9.2f} x {base}')


def write(path: str | None, **figures) -> None:
    if path:
        Path(path).write_text(json.dumps(dict(machine=machine(), **figures), indent=2) + '\n')


def jpegs(folder: str | None, n: int = 100) -> list[bytes]:
    """Return the bytes of the first ``n`` JPEG files below a folder.

    Without a folder, JPEGs are made from noise: clouds of 500 x 375 pixels, about 100 kB each.
    """
    if folder:
        files = sorted(
            path for path in Path(folder).rglob('*') if path.suffix.lower() in ('.jpg', '.jpeg')
        )[:n]
        if not files:
            raise SystemExit(f'no JPEG files below {folder}')
        return [file.read_bytes() for file in files]
    rng = np.random.default_rng(0)
    made = []
    for _ in range(n):
        total = np.zeros((375, 500, 3))
        for side in (2, 4, 8, 16, 32, 64, 128, 256):
            noise = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize(
                (500, 375), Image.Resampling.BICUBIC
            )
            total += np.asarray(noise, dtype=np.float64) / side**0.6
        total = (total - total.min()) / (total.max() - total.min()) * 255
        file = io.BytesIO()
        Image.fromarray(total.astype(np.uint8)).save(file, 'JPEG', quality=95)
        made.append(file.getvalue())
    return made
