"""Compare methods: train them on one recipe over several seeds, evaluate each, write a report.

    ssl-zoo study configs/studies/digits.py           # under ten minutes on two CPU cores
    ssl-zoo study configs/studies/cifar10.py --small  # its version for two CPU cores
    ssl-zoo study configs/studies/cifar10.py --devices 0 1 2 3
    sbatch --array=0-7 tools/slurm_study.sh configs/studies/cifar10.py

Learning rates are chosen first, from the same number of trials for each method on a hold-out. The
same command continues a study that was stopped, tries failed jobs again, and repeats no finished
job. The report is OUT/report/index.html.
"""

import argparse
import os
import sys
from pathlib import Path

from ssl_zoo.cli.command_parser import command_parser

MOST_JOBS = 1024  # processes side by side


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = command_parser('study', __doc__)
    parser.add_argument('study', help='a file such as configs/studies/digits.py')
    parser.add_argument(
        '--small', action='store_true', help="the study's version for two CPU cores"
    )
    parser.add_argument('--out', help='folder of the study; default: work_dirs/studies/<name>')
    parser.add_argument('--seeds', nargs='+', type=int, help="replace the study's own seeds")
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
        help='processes side by side, which share the cores; default: 1, or one for each device',
    )
    parser.add_argument(
        '--devices',
        nargs='+',
        metavar='GPU',
        help='GPUs, as CUDA_VISIBLE_DEVICES names them, with one process on each',
    )
    parser.add_argument(
        '--plan', action='store_true', help='print the plan and its cost, and start nothing'
    )
    parser.add_argument(
        '--report', action='store_true', help='only write the report of the existing results'
    )
    return parser.parse_args(argv)


def run_study(args: argparse.Namespace) -> int:
    """Run a study and write its report. Returns the exit code.

    Raises:
        ConfigError: an argument, the study, or its folder has a mistake.
    """
    if args.devices:
        os.environ['CUDA_VISIBLE_DEVICES'] = args.devices[0]  # where the plan times its steps
    import torch

    from ssl_zoo.reports.study.report import write_report
    from ssl_zoo.studies.cost_estimate import print_plan
    from ssl_zoo.studies.load import load_study
    from ssl_zoo.studies.plan import Jobs
    from ssl_zoo.studies.scheduler import Scheduler, threads_per_process

    _check_processes(args)
    study = load_study(args.study, args.small, args.seeds, args.cfg_options)
    jobs = Jobs(study, Path(args.out or Path('work_dirs', 'studies', study.name)))
    if args.report:
        print(f'report: {write_report(jobs.out)}')
        return 0
    jobs.check_folders()
    processes = len(args.devices) if args.devices else args.jobs or 1
    threads = threads_per_process(processes)
    torch.set_num_threads(threads)
    estimate = print_plan(jobs, processes, threads)
    if args.plan:
        return 0
    jobs.write_study()
    environments = _environments(args.devices, processes, threads)
    scheduler = Scheduler(jobs, environments, estimate.seconds_of, _print_now)
    records = scheduler.run()
    if scheduler.signal is not None:
        print('stopped; the same command goes on from here', file=sys.stderr)
        return 128 + scheduler.signal
    report = write_report(jobs.out)
    failed = sum(record['status'] != 'done' for record in records)
    summary = f'{len(records) - failed} of {len(records)} done'
    if failed:
        summary += f', {failed} failed: the same command tries them again'
    table = (jobs.out / 'report' / 'table.md').read_text()
    print(f'{summary}\n{table}\nreport: {report}')
    return 1 if failed else 0


def _check_processes(args: argparse.Namespace) -> None:
    from ssl_zoo.errors import ConfigError

    if args.jobs is None:
        return
    if not 1 <= args.jobs <= MOST_JOBS or args.devices:
        raise ConfigError(
            f'--jobs is {args.jobs}; it must be from 1 to {MOST_JOBS}, and not given with '
            '--devices, each of which has one process'
        )


def _environments(devices: list[str] | None, processes: int, threads: int) -> list[dict]:
    """Return the environment variables of each process."""
    common = {'OMP_NUM_THREADS': str(threads)}
    if devices:
        return [{**common, 'CUDA_VISIBLE_DEVICES': device} for device in devices]
    return [common] * processes


def _print_now(line: str) -> None:
    print(line, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    args = parse(argv)
    from ssl_zoo.distributed.run_command import run_command

    return run_command(lambda: run_study(args), 'the same command goes on from here')


if __name__ == '__main__':
    sys.exit(main())
