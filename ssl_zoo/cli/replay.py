"""Repeat a training pass that gave non-finite values, and name the first non-finite tensor.

    ssl-zoo replay work_dirs/byol_r50_imagenet/<run>/not_finite_step_00012345.pth
    ssl-zoo replay FILE --precision float32          # to see whether float32 avoids it

The pass runs in one process, with the batch of all processes. If the config names Python files of
your own in ``imports``, give them with --imports.
"""

import sys
from collections.abc import Sequence

from ssl_zoo.cli.command_parser import command_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = command_parser('replay', __doc__)
    parser.add_argument(
        'dump', help='not_finite_step_XXXXXXXX.pth from the work directory of a run'
    )
    parser.add_argument('--precision', help="'float32' or 'bf16'; default: the run's")
    parser.add_argument(
        '--imports',
        nargs='+',
        default=[],
        metavar='FILE',
        help='Python files that register methods of your own',
    )
    args = parser.parse_args(argv)
    from ssl_zoo.distributed.run_command import run_command

    def replay() -> int:
        from ssl_zoo.config.loading import import_file
        from ssl_zoo.engine.replay import replay_step

        for file in args.imports:
            import_file(file)
        found_in_run, found_now = replay_step(args.dump, args.precision)
        print(f'in the run: {found_in_run}')
        print(f'now:        {found_now or "all values are finite"}')
        return 0

    return run_command(replay, 'the same command starts again')


if __name__ == '__main__':
    sys.exit(main())
