"""Pretrain a method.

ssl-zoo train byol/digits
ssl-zoo train byol/r50_imagenet --cfg-options epochs=300 data.train.root=/data/imagenet/train
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ssl_zoo.cli.command_parser import command_parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = command_parser('train', __doc__)
    parser.add_argument('config', help='config file, such as configs/byol/digits.py')
    parser.add_argument(
        '--work-dir',
        help='folder of the run; default: work_dirs/<config>/<date and time>, with --resume the '
        'newest of these folders, with --resume CHECKPOINT the folder of the checkpoint',
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


def default_work_dir(config: str, resume: bool | str) -> Path:
    """Return the work directory if --work-dir is not given.

    Args:
        config: the argument of the command.
        resume: False for a new folder, True or 'auto' for the newest run of the config (a new
            folder if there is none), a checkpoint for the run that holds it.
    """
    if isinstance(resume, str) and resume != 'auto':
        return Path(resume).parent.parent
    path = Path(config)
    runs = Path('work_dirs') / '_'.join(part for part in (path.parent.name, path.stem) if part)
    if resume:
        earlier = sorted(run for run in runs.glob('*') if (run / 'checkpoints').is_dir())
        if earlier:
            return earlier[-1]
    return runs / time.strftime('%Y%m%d-%H%M%S')


def train(args: argparse.Namespace) -> int:
    """Train on all processes that were started together; return the exit code."""
    from ssl_zoo.config.loading import load_config
    from ssl_zoo.distributed.objects import on_rank0
    from ssl_zoo.distributed.process_group import process_group
    from ssl_zoo.engine.dry_run import dry_run
    from ssl_zoo.engine.runner import build_runner
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
        runner = build_runner(settings, work_dir, args.resume, unique=unique)
        runner.logger.info(f'work directory {runner.work_dir}')
        try:
            runner.train()
        except Stopped as stopped:
            stopped.add_note(f'continue with --resume --work-dir {runner.work_dir}')
            raise
        if runner.checkpoint_hook.failed:
            print('error: the last checkpoint could not be written, see the log', file=sys.stderr)
            return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = parse(argv)
    # Ctrl-C during the imports ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    import ssl_zoo.engine.runner  # noqa: F401
    from ssl_zoo.distributed.run_command import run_command

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run_command(lambda: train(args), 'continue with --resume')


if __name__ == '__main__':
    sys.exit(main())
