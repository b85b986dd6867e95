"""Check in under 3 minutes that nothing has become slow: small measurements against limits.

    pip install -e '.[bench]'
    python benchmarks/smoke.py

The exit code is 1 if a figure misses its limit, a minimum or a maximum. The limits leave room for
noise: a figure that misses its limit has changed by more than noise, or the machine is very busy.
"""

import sys
import time

import input_path
import loop
import on_device
import optimizer
import start
import step
import torch
from common import jpegs

# name: (limit, whether it is a minimum)
LIMITS = {
    'input path: host part, x lightly': (4.5, True),
    'input path: all on the CPU, compiled, x lightly': (1.5, True),
    'images on the device, compiled, x lightly': (12.0, True),
    'training step, BYOL, batch 32, float32, x lightly': (0.95, True),
    'training step, BYOL, batch 32, bf16, x lightly': (0.95, True),
    'LARS, x the time of SGD': (2.0, False),
    'EMA, x the time of one tensor': (1.6, False),
    'loop, microseconds added per step': (450.0, False),
    '--help, seconds': (1.0, False),
    'first step of the digits, seconds': (12.0, False),
}


def figures():
    """Yield (name, value) of each measurement."""
    rows = input_path.measure(jpegs(None, 40), rounds=3, peers=False)['rows']
    yield 'input path: host part, x lightly', rows['ssl_zoo, host part']['ratio']
    yield (
        'input path: all on the CPU, compiled, x lightly',
        rows['ssl_zoo, all on the CPU, compiled']['ratio'],
    )
    yield (
        'images on the device, compiled, x lightly',
        on_device.measure(1024, rounds=3)['rows']['ssl_zoo, compiled']['ratio'],
    )
    torch.set_num_threads(2)
    for precision in ('float32', 'bf16'):
        rows = step.measure('BYOL', 32, precision, rounds=3, compiled=False)['rows']
        yield f'training step, BYOL, batch 32, {precision}, x lightly', rows['ssl_zoo']['ratio']
    times = optimizer.measure(rounds=7, peers=False)
    yield 'LARS, x the time of SGD', times['steps']['ssl_zoo LARS']['ratio']
    yield 'EMA, x the time of one tensor', times['averages']['ssl_zoo EMA']['ratio']
    yield 'loop, microseconds added per step', loop.measure(rounds=3, steps=200)['bare']['added']
    seconds = start.measure(rounds=1, compiled=False)
    yield '--help, seconds', seconds['help']
    yield 'first step of the digits, seconds', seconds['first_step']


def main() -> int:
    started = time.perf_counter()
    failed = 0
    for name, value in figures():
        limit, is_minimum = LIMITS[name]
        good = value >= limit if is_minimum else value <= limit
        failed += not good
        print(
            f'{"ok    " if good else "SLOWER"}  {name:<52}{value:9.2f}   '
            f'{"at least" if is_minimum else "at most"} {limit:g}',
            flush=True,
        )
    print(f'{failed} of {len(LIMITS)} miss their limits, {time.perf_counter() - started:.0f} s')
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())
