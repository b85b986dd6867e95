"""Gather the results of many runs in one table: in the terminal, as an HTML page, as CSV.

    ssl-zoo leaderboard work_dirs
    ssl-zoo leaderboard work_dirs/all other/results.jsonl --metric knn_top1 --csv board.csv

Rows that differ in the seed alone become one entry: mean, sample standard deviation, number of
runs. Ranks hold within one metric, one test set (identified by the hash of the names and labels of
its images), the same number of its images, and the same training labels. The page is one file with
filters and sorting, and loads nothing from the network.
"""

import sys
from pathlib import Path

from ssl_zoo.cli.command_parser import command_parser
from ssl_zoo.terminal import print_error


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command_parser('leaderboard', __doc__)
    parser.add_argument(
        'paths',
        nargs='+',
        metavar='PATH',
        help='a file results.jsonl, or a folder that is searched for such files',
    )
    parser.add_argument(
        '--metric', nargs='+', metavar='NAME', help='show only these metrics, such as knn_top1'
    )
    parser.add_argument(
        '--out',
        default='work_dirs/leaderboard.html',
        metavar='FILE',
        help='HTML file of the page; default: work_dirs/leaderboard.html',
    )
    parser.add_argument('--csv', metavar='FILE', help='write the table as CSV, too')
    args = parser.parse_args(argv)
    from ssl_zoo.errors import ConfigError

    try:
        publish(args.paths, args.metric, Path(args.out), Path(args.csv) if args.csv else None)
    except (ConfigError, OSError) as error:
        print_error(f'error: {error}')
        return 2
    return 0


def publish(
    paths: list[str], metrics: list[str] | None, page_path: Path, csv_path: Path | None
) -> None:
    """Print the table, and write the page and the CSV file.

    Raises:
        ConfigError: there are no results, see build_leaderboard, or a file cannot be written.
    """
    from ssl_zoo.reports.leaderboard import build_leaderboard
    from ssl_zoo.reports.leaderboard_page import page
    from ssl_zoo.reports.leaderboard_text import as_csv, as_text

    board = build_leaderboard(paths, metrics)
    print(as_text(board))
    _write(page_path, page(board))
    if csv_path is not None:
        _write(csv_path, as_csv(board.entries))


def _write(path: Path, text: str) -> None:
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.storage.atomic import atomic_write

    content = text.encode(errors='replace')
    try:
        atomic_write(path, lambda file: file.write(content), start=content[:15])
    except OSError as error:
        raise ConfigError(f'could not write {path}: {error}; choose another file') from None
    print(f'written: {path}')


if __name__ == '__main__':
    sys.exit(main())
