"""Gather the results of many runs into one table: in the terminal, as a page to sort and filter, as CSV.

    python tools/leaderboard.py work_dirs
    python tools/leaderboard.py work_dirs/all other/results.jsonl --metric knn_top1 --out board.html --csv board.csv

Rows that differ in the seed alone become one: mean, sample standard deviation, number of runs. Ranks hold within one metric, one test
set, which the hash of its images' names and labels tells from others, as many images of it, and the same training labels.
The page is one file and loads nothing.
"""

import argparse
import sys
from pathlib import Path


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'paths',
        nargs='+',
        metavar='PATH',
        help='results.jsonl, or a folder that is searched for files of this name',
    )
    parser.add_argument(
        '--metric', nargs='+', metavar='NAME', help='show these metrics alone, such as knn_top1'
    )
    parser.add_argument(
        '--out',
        default='work_dirs/leaderboard.html',
        metavar='FILE',
        help='page; default: work_dirs/leaderboard.html',
    )
    parser.add_argument('--csv', metavar='FILE', help='write the table as CSV as well')
    args = parser.parse_args(argv)
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.reports.leaderboard_page import publish

    try:
        publish(args.paths, args.metric, Path(args.out), Path(args.csv) if args.csv else None)
    except ConfigError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
