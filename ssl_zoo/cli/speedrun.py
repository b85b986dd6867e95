"""Race: train until the features reach an accuracy on the test images, and time it.

    ssl-zoo speedrun configs/speedrun/byol_cifar10_small.py
    ssl-zoo speedrun configs/speedrun/byol_cifar10.py --seed 1 --records records.jsonl

The hook Race of the config has target and time between looks. The clock starts with the command and
stands still during the looks. speedrun.json in the work directory holds the race as of the last
look; when the race has ended, --records gets the same as one line.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_zoo.cli.command_parser import command_parser

if TYPE_CHECKING:
    from ssl_zoo.engine.hooks.race import Race
    from ssl_zoo.engine.trainer import Trainer


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = command_parser('speedrun', __doc__)
    parser.add_argument('config', help='config file whose hooks name a Race')
    parser.add_argument(
        '--work-dir', help='folder of the run; default: as of the command train, under work_dirs'
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='continue from the newest checkpoint of the work directory',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='change the config, such as epochs=100 hooks.0.target=85',
    )
    parser.add_argument('--seed', type=int, help='short for --cfg-options seed=SEED')
    parser.add_argument(
        '--records',
        default='work_dirs/speedrun.jsonl',
        metavar='FILE',
        help='file of JSON lines to which the race is added; default: work_dirs/speedrun.jsonl',
    )
    return parser.parse_args(argv)


def speedrun(args: argparse.Namespace, started: float) -> int:
    """Run the race; return the exit code.

    Args:
        args: from ``parse``.
        started: time.perf_counter() at the start of the command.
    """
    from ssl_zoo.cli.train import default_work_dir
    from ssl_zoo.config.loading import load_config
    from ssl_zoo.distributed.process_group import process_group
    from ssl_zoo.engine.hooks.race import TargetReached
    from ssl_zoo.engine.trainer import build_trainer
    from ssl_zoo.errors import Stopped
    from ssl_zoo.storage.atomic import check_regular

    records = Path(args.records)
    records.parent.mkdir(parents=True, exist_ok=True)
    check_regular(records.resolve())
    options = list(args.cfg_options)
    if args.seed is not None:
        options.append(f'seed={args.seed}')
    settings = load_config(args.config, options)
    with process_group(settings.parallel.timeout):
        work_dir = args.work_dir or default_work_dir(args.config, args.resume)
        unique = not args.work_dir and not args.resume
        trainer = build_trainer(settings, work_dir, args.resume, unique=unique)
        race = _race_of(trainer, args.config)
        race.started = started
        trainer.logger.info(f'work directory {trainer.work_dir}')
        try:
            trainer.fit()
        except TargetReached:
            pass
        except Stopped as stopped:
            stopped.add_note(f'continue with --resume --work-dir {trainer.work_dir}')
            raise
        if race.has_looked:
            _report(race, trainer, args)
    return 0


def _race_of(trainer: 'Trainer', config: str) -> 'Race':
    from ssl_zoo.engine.hooks.race import Race
    from ssl_zoo.errors import ConfigError

    races = [hook for hook in trainer.hooks if isinstance(hook, Race)]
    if len(races) != 1:
        raise ConfigError(
            f'{config} has {len(races)} races, but it must have one: '
            f"hooks=[dict(type='Race', target=90.0, every=5)]"
        )
    return races[0]


def _report(race: 'Race', trainer: 'Trainer', args: argparse.Namespace) -> None:
    """Log the end of the race, and add it to the file of records."""
    import json

    from ssl_zoo.storage.atomic import append_lines

    row = dict(entry=Path(args.config).stem, options=args.cfg_options, **race.record(trainer))
    best = max(look['accuracy'] for look in race.looks)
    end = 'reached' if race.is_over else f'not reached (best {best:.2f} %)'
    trainer.logger.info(
        f'{race.target:g} % {end}: {row["accuracy"]:.2f} % after {row["minutes"]:.2f} minutes, '
        f'{row["epochs"]:.1f} epochs, {row["pflop"]:.3g} PFLOP; looks took '
        f'{row["look_minutes"]:.2f} minutes more'
    )
    append_lines(Path(args.records), json.dumps(row) + '\n')
    trainer.logger.info(f'added to {args.records}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    started = time.perf_counter()
    args = parse(argv)
    from ssl_zoo.distributed.run_command import run_command

    return run_command(lambda: speedrun(args, started), 'continue with --resume')


if __name__ == '__main__':
    sys.exit(main())
