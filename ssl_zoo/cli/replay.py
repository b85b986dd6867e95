"""Do a pass again that gave values which are not finite, from the file that the run left, and name the first tensor of it.

    python tools/replay.py work_dirs/byol_r50_imagenet/<run>/not_finite_step_00012345.pth
    python tools/replay.py FILE --precision float32          # whether it happens in float32 as well

On one process, with the batch of all. What the config names of your own is imported with --imports.
"""

import argparse
import sys


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    from ssl_zoo.cli.run_command import run_command

    def replay() -> int:
        from ssl_zoo.config.loading import import_file
        from ssl_zoo.engine.replay import replayed

        for file in args.imports:
            import_file(file)
        told_then, found = replayed(args.dump, args.precision)
        print(f'in the run: {told_then}')
        print(f'now:        {found or "all values are finite"}')
        return 0

    return run_command(replay, 'the same command starts again')


if __name__ == '__main__':
    sys.exit(main())
