"""Train several configs over seeds and print a table of their results.

    ssl-zoo train-all configs/*/digits*.py --seeds 0 1 2
    ssl-zoo train-all configs/*/digits*.py --seeds 0 1 2 --jobs 2

Each run is tools/train.py in its own process, with the work directory OUT/<config>/seed_<N>. The
same command continues runs that were stopped, and repeats no finished run. A run that fails does
not stop the others. The table is also written to OUT/table.md.
"""

import argparse
import sys
from pathlib import Path

from ssl_zoo.cli.command_parser import command_parser

MOST_JOBS = 1024  # processes side by side
IGNORED_FOLDERS = ('_base_', 'studies')  # a glob such as configs/*/digits*.py matches them


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = command_parser('train-all', __doc__)
    parser.add_argument(
        'configs',
        nargs='+',
        help='config files, such as configs/*/digits*.py; files in _base_ and studies are ignored',
    )
    parser.add_argument(
        '--seeds', nargs='+', type=int, default=[0], help='seeds of each config; default: 0'
    )
    parser.add_argument(
        '--out', default='work_dirs/all', help='folder of all runs; default: work_dirs/all'
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='processes side by side, which share the cores; default: 1',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes to every config'
    )
    return parser.parse_args(argv)


def train_all(args: argparse.Namespace) -> int:
    """Train all configs, print and write the table. Returns the exit code.

    Raises:
        ConfigError: an argument has a mistake, or the table cannot be written.
    """
    from ssl_zoo.studies.config_runs import ConfigRun, ConfigRuns, results_table, run_folder
    from ssl_zoo.studies.scheduler import Scheduler, threads_per_process

    configs = _trainable_configs(args.configs)
    _check(args, configs)
    out = Path(args.out)
    runs = [
        ConfigRun(config, seed, run_folder(out, config, seed), tuple(args.cfg_options))
        for seed in args.seeds
        for config in configs
    ]
    waiting, failed = _split_runs(runs)
    threads = threads_per_process(args.jobs)
    environments = [{'OMP_NUM_THREADS': str(threads)}] * args.jobs
    scheduler = Scheduler(ConfigRuns(waiting), environments, print_line=_print_now)
    records = scheduler.run()
    if scheduler.signal is not None:
        print('stopped; the same command goes on from here', file=sys.stderr)
        return 128 + scheduler.signal
    failed += [record['label'] for record in records if record['status'] != 'done']
    _report(results_table(configs, args.seeds, out), out / 'table.md', args.jobs, threads)
    if failed:
        print(f'{len(failed)} of {len(runs)} runs failed: {"; ".join(failed)}', file=sys.stderr)
        return 1
    return 0


def _trainable_configs(configs: list[str]) -> list[str]:
    return [
        config for config in configs if Path(config).absolute().parent.name not in IGNORED_FOLDERS
    ]


def _check(args: argparse.Namespace, configs: list[str]) -> None:
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.studies.config_runs import config_name

    names = [config_name(config) for config in configs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f'two configs are called {name}, and would share a folder; rename one, or run '
                'them in two calls'
            )
    if not names:
        raise ConfigError(
            'files in _base_ and studies cannot be trained on their own; give other configs, such '
            'as configs/*/digits*.py'
        )
    if len(set(args.seeds)) < len(args.seeds):
        raise ConfigError(f'--seeds has {args.seeds}, one of them twice; give each seed once')
    if not 1 <= args.jobs <= MOST_JOBS:
        raise ConfigError(f'--jobs is {args.jobs}, but it must be from 1 to {MOST_JOBS}')


def _split_runs(runs: list) -> tuple[list, list[str]]:
    """Return the runs that are not done, and the labels of those that cannot start."""
    from ssl_zoo.errors import ConfigError

    waiting = []
    failed = []
    for run in runs:
        try:
            if run.is_done():
                _print_now(f'{run.label}: done before')
            else:
                waiting.append(run)
        except ConfigError as error:
            failed.append(run.label)
            _print_now(f'{run.label}: failed: {error}')
    return waiting, failed


def _report(table: str, path: Path, jobs: int, threads: int) -> None:
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.storage.atomic import atomic_write

    try:
        text = f'{table}\n'.encode()
        atomic_write(path, lambda file: file.write(text), start=b'| config |')
    except OSError as error:
        print(f'\n{table}\n')
        raise ConfigError(
            f'the table could not be written: {error}; choose another --out'
        ) from None
    print(
        f'\n{table}\n\nMean (sample standard deviation over seeds), on test images, or on val '
        'where data.test=None; feature std and RankMe of the last evaluation on val; seconds '
        f'include the online evaluations, {jobs} at a time on {threads} threads each. '
        f'Also in {path}.'
    )


def _print_now(line: str) -> None:
    print(line, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    args = parse(argv)
    from ssl_zoo.distributed.run_command import run_command

    return run_command(lambda: train_all(args), 'the same command goes on from here')


if __name__ == '__main__':
    sys.exit(main())
