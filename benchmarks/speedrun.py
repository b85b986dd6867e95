"""Run the small race on a CPU and compare it with its record: the way from speed to accuracy.

    OMP_NUM_THREADS=1 python benchmarks/speedrun.py [--minutes] [--cfg-options data.train.root=...]

A faster step that learns less, or a better step that is slower, moves this figure, and no benchmark
of speed alone. The exit code is 1 if the target is missed, or if the epochs exceed those of the
slowest recorded seed by a quarter. --minutes, for the machine of the record, also compares minutes
of the processor, which depend little on other work.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from ssl_zoo.cli import speedrun

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/speedrun/byol_cifar10_small.py'
RECORDS = ROOT / 'docs/results/speedrun.jsonl'
ALLOWANCE = 1.25


def verdict(row: dict, records: list[dict], keys: tuple[str, ...] = ('epochs',)) -> list[str]:
    """Return what is worse than in the records of the entry; nothing if nothing is.

    Args:
        row: the race.
        records: recorded races.
        keys: fields that are compared.
    """
    recorded = [r for r in records if r['entry'] == row['entry'] and r['target'] == row['target']]
    if not row['reached']:
        return [f'{row["target"]:g} % was not reached, but {row["accuracy"]:.2f} %']
    faults = []
    for key in keys:
        limit = ALLOWANCE * max((r[key] for r in recorded), default=float('inf'))
        if row[key] > limit:
            faults.append(f'{row[key]:.2f} {key}, at most {limit:.2f}')
    return faults


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cfg-options', nargs='+', action='extend', default=[])
    parser.add_argument('--minutes', action='store_true', help='compare minutes of the processor')
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, 'races.jsonl')
        command = [str(CONFIG), '--work-dir', f'{folder}/run', '--records', str(rows)]
        if args.cfg_options:
            command += ['--cfg-options', *args.cfg_options]
        code = speedrun.main(command)
        if code:
            return code
        row = json.loads(rows.read_text())
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    keys = ('epochs', 'processor_minutes') if args.minutes else ('epochs',)
    faults = verdict(row, records, keys)
    print('\n'.join(faults) or 'as fast as the record')
    return int(bool(faults))


if __name__ == '__main__':
    sys.exit(main())
