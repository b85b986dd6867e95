"""Pretrain a method.

ssl-zoo train byol/digits
ssl-zoo train byol/r50_imagenet --cfg-options epochs=300 data.train.root=/data/imagenet/train
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ssl_zoo.cli.command_parser import command_parser

TIMED_NAME = re.compile(r'(?P<time>[0-9]{8}-[0-9]{6})(-(?P<number>[0-9]+))?')


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = command_parser('train', __doc__)
    parser.add_argument('config', help='config file, such as configs/byol/digits.py')
    parser.add_argument(
        '--work-dir',
        help='folder of the run; default: work_dirs/<config>/<date and time in UTC>, with --resume '
        'the newest of these folders, with --resume CHECKPOINT the folder of the checkpoint',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const=True,
        default=False,
        metavar='CHECKPOINT',
        help='continue from the newest checkpoint of the work directory, or from this checkpoint; '
        "'auto': continue from the newest checkpoint if there is one, else start from scratch",
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='change the config, such as epochs=300 method.backbone.name=resnet18',
    )
    parser.add_argument('--seed', type=int, help='short for --cfg-options seed=SEED')
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='print the plan, and speed and memory of one synthetic step; start no run',
    )
    return parser.parse_args(argv)


def runs_of(config: str) -> Path:
    """Return the folder of all runs of a config that have no --work-dir."""
    path = Path(config)
    return Path('work_dirs') / '_'.join(part for part in (path.parent.name, path.stem) if part)


def new_work_dir(runs: Path) -> Path:
    """Return the folder of a new run, named after date and time (UTC).

    If the clock was set back, it is the name of the newest run, to which a number is added. So the
    order of the names is the order of the runs.
    """
    name = time.strftime('%Y%m%d-%H%M%S', time.gmtime())
    earlier = timed_runs(runs)
    if earlier:
        name = max(name, earlier[-1].name[: len(name)])
    return runs / name


def timed_runs(runs: Path) -> list[Path]:
    """Return the folders that are named after a date and time, the newest last."""
    found = []
    for run in runs.glob('*'):
        match = TIMED_NAME.fullmatch(run.name)
        if match:
            found.append((match['time'], int(match['number'] or 1), run))
    return [run for _, _, run in sorted(found)]


def default_work_dir(config: str, resume: bool | str) -> Path:
    """Return the work directory if --work-dir is not given.

    Args:
        config: the argument of the command.
        resume: False for a new folder, True or 'auto' for the newest run of the config that has
            checkpoints (a new folder if there is none), a checkpoint for the run that holds it.
    """
    if isinstance(resume, str) and resume != 'auto':
        return Path(resume).parent.parent
    runs = runs_of(config)
    if resume:
        from ssl_zoo.checkpoint import checkpoints_in, damaged_checkpoints_in

        # Folders with names of the user come first, because their time is unknown.
        for run in reversed(sorted(runs.glob('*')) + timed_runs(runs)):
            if checkpoints_in(run) or damaged_checkpoints_in(run):
                return run
    return new_work_dir(runs)


def train(args: argparse.Namespace) -> int:
    """Train on all processes that were started together; return the exit code."""
    from ssl_zoo.config.loading import load_config
    from ssl_zoo.distributed.objects import on_rank0
    from ssl_zoo.distributed.process_group import process_group
    from ssl_zoo.engine.dry_run import dry_run
    from ssl_zoo.engine.trainer import build_trainer
    from ssl_zoo.errors import Stopped

    options = list(args.cfg_options)
    if args.seed is not None:
        options.append(f'seed={args.seed}')
    settings = load_config(args.config, options)
    if args.dry_run:
        dry_run(settings)
        return 0
    with process_group(settings.parallel.timeout):
        work_dir = args.work_dir
        if not work_dir:
            work_dir = on_rank0(lambda: str(default_work_dir(args.config, args.resume)))
        unique = not args.work_dir and not args.resume
        trainer = build_trainer(settings, work_dir, args.resume, unique=unique)
        trainer.logger.info(f'work directory {trainer.work_dir}')
        try:
            trainer.fit()
        except Stopped as stopped:
            stopped.add_note(f'continue with --resume --work-dir {trainer.work_dir}')
            raise
        if trainer.checkpoints.failed:
            print('error: the last checkpoint could not be written, see the log', file=sys.stderr)
            return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = parse(argv)
    from ssl_zoo.distributed.run_command import run_command

    return run_command(lambda: train(args), 'continue with --resume')


if __name__ == '__main__':
    sys.exit(main())
