"""Compare methods fairly: a study trains them on one recipe over several seeds, evaluates each, and writes a report.

    python tools/study.py configs/studies/digits.py                    # under ten minutes on two CPU cores
    python tools/study.py configs/studies/cifar10.py --small           # its version for two CPU cores
    python tools/study.py configs/studies/cifar10.py --devices 0 1 2 3
    sbatch --array=0-7 tools/slurm_study.sh configs/studies/cifar10.py

Learning rates come first, from the same number of trials for each method on a hold-out. What is done is never done again, what was
stopped goes on, what failed is reported and tried again by the next call. The report is OUT/report/index.html.
"""

import argparse
import os
import sys
from pathlib import Path


def parse(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('study', help='a file such as configs/studies/digits.py')
    parser.add_argument(
        '--small', action='store_true', help="the study's version for two CPU cores"
    )
    parser.add_argument('--out', help='folder of the study; default: work_dirs/studies/<name>')
    parser.add_argument('--seeds', nargs='+', type=int, help="instead of the study's own")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='changes to every config of the study',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        help='runs at a time, which share the cores; default: 1, with --devices one on each',
    )
    parser.add_argument(
        '--devices',
        nargs='+',
        metavar='GPU',
        help='the GPUs to run on, as CUDA_VISIBLE_DEVICES names them, one run each',
    )
    parser.add_argument(
        '--plan', action='store_true', help='print the plan and its cost, and start nothing'
    )
    parser.add_argument(
        '--report', action='store_true', help='only write the report of what is there'
    )
    return parser.parse_args(argv)


def benchmark(args: argparse.Namespace) -> int:
    if args.devices:
        os.environ['CUDA_VISIBLE_DEVICES'] = args.devices[0]  # where the plan times its steps
    import torch

    from ssl_zoo.errors import ConfigError
    from ssl_zoo.reports.study.report import write_report
    from ssl_zoo.studies.load import load_study
    from ssl_zoo.studies.plan import Jobs, describe
    from ssl_zoo.studies.scheduler import Worker

    if args.jobs is not None and args.jobs < 1 or args.jobs and args.devices:
        raise ConfigError(
            f'--jobs is {args.jobs}; it must be at least 1, and not given with --devices, on each of which there is one run'
        )
    study = load_study(args.study, args.small, args.seeds, args.cfg_options)
    units = Jobs(study, Path(args.out or Path('work_dirs', 'studies', study.name)))
    if args.report:
        print(f'report: {write_report(units.out)}')
        return 0
    units.check_done()
    jobs = len(args.devices) if args.devices else args.jobs or 1
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    )
    threads = max(cores // jobs, 1)
    torch.set_num_threads(threads)
    expected = describe(units, jobs, threads)
    if args.plan:
        return 0
    units.write_study()
    own = dict(OMP_NUM_THREADS=str(threads))
    places = [dict(own, CUDA_VISIBLE_DEVICES=device) for device in args.devices or ()] or [
        own
    ] * jobs
    worker = Worker(units, places, expected, lambda line: print(line, flush=True))
    records = worker.work()
    if worker.signal is not None:
        print('stopped; the same command goes on from here', file=sys.stderr)
        return 128 + worker.signal
    page = write_report(units.out)
    wrong = sum(record['status'] != 'done' for record in records)
    print(
        f'{len(records) - wrong} of {len(records)} done{f", {wrong} failed: the same command tries them again" if wrong else ""}\n'
        f'{(units.out / "report" / "table.md").read_text()}\nreport: {page}'
    )
    return 1 if wrong else 0


def main(argv=None) -> int:
    args = parse(argv)
    from ssl_zoo.cli.run_command import run_command

    return run_command(lambda: benchmark(args), 'the same command goes on from here')


if __name__ == '__main__':
    sys.exit(main())
