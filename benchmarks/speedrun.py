"""Run the small race on a CPU and compare it with its record: the way from speed to accuracy.

    OMP_NUM_THREADS=1 python benchmarks/speedrun.py [--cfg-options data.train.root=...]

A faster step that learns less, or a better step that is slower, moves this figure, and no benchmark
of speed alone. The exit code is 1 if the target is missed, or if epochs or minutes of the processor
exceed those of the slowest recorded seed by a quarter. Minutes are compared only on the device of
the record; those of the processor depend little on other work.
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


def verdict(row: dict, records: list[dict]) -> list[str]:
    """Return what is worse than in the records of the entry; nothing if nothing is.

    Args:
        row: the race.
        records: recorded races.
    """
    recorded = [r for r in records if r['entry'] == row['entry'] and r['target'] == row['target']]
    if not row['reached']:
        return [f'{row["target"]:g} % was not reached, but {row["accuracy"]:.2f} %']
    same_device = [r for r in recorded if r['device'] == row['device']]
    faults = []
    for key, compared in (('epochs', recorded), ('processor_minutes', same_device)):
        limit = ALLOWANCE * max((r[key] for r in compared), default=float('inf'))
        if row[key] > limit:
            faults.append(f'{row[key]:.2f} {key}, at most {limit:.2f}')
    return faults


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cfg-options', nargs='+', action='extend', default=[])
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
    faults = verdict(row, records)
    print('\n'.join(faults) or 'as fast as the record')
    return int(bool(faults))


if __name__ == '__main__':
    sys.exit(main())
