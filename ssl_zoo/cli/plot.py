"""Draw the curves of runs side by side, from their log.jsonl.

    ssl-zoo plot work_dirs/byol_digits/20260101-120000
    ssl-zoo plot work_dirs/all/*/seed_0 --keys val/knn loss --out curves.svg

Each run has a line, named after its folder. Without --keys the figure shows loss, k-NN, learning
rate, decay, RankMe and feature std, if they were logged.
"""

import argparse
import sys

from ssl_zoo.cli.command_parser import command_parser
from ssl_zoo.terminal import print_error


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = command_parser('plot', __doc__)
    parser.add_argument(
        'runs', nargs='+', metavar='RUN', help='work directory of a run, or its log.jsonl'
    )
    parser.add_argument('--out', default='plot.png', help='.png, .svg or .pdf; default: plot.png')
    parser.add_argument(
        '--keys', nargs='+', metavar='KEY', help='log keys to draw, such as train/loss, or loss'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    args = parse(argv)
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.reports.compare_runs import plot_runs

    try:
        path, notes = plot_runs(args.runs, args.out, args.keys)
    except (ConfigError, OSError) as error:
        print_error(f'error: {error}')
        return 2
    print('\n'.join([*notes, f'wrote {path}']))
    return 0


if __name__ == '__main__':
    sys.exit(main())
