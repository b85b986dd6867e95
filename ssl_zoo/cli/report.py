"""Write a page about a run: facts, curves, results, neighbours, maps, cost.

    ssl-zoo report work_dirs/byol_digits/20260101-120000
    ssl-zoo report RUN --no-images --out page.html
    ssl-zoo report RUN --cfg-options data.train.root=/data/train data.test.root=/data/test

The page is one HTML file that works offline. It shows what the run has: without labels, test images
or earlier checkpoints a sentence stands in their place.
"""

import argparse
import sys

from ssl_zoo.cli.command_parser import command_parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = command_parser('report', __doc__)
    parser.add_argument('run', metavar='RUN', help='work directory of a run')
    parser.add_argument('--out', metavar='FILE', help='HTML file; default: RUN/report.html')
    parser.add_argument(
        '--no-images',
        action='store_true',
        help='curves and facts alone: no network is loaded and no image is read',
    )
    parser.add_argument(
        '--reload',
        type=int,
        metavar='SECONDS',
        help='the browser reads the page again after so many seconds, for a run that goes on',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='changes to the data of its config, such as data.test.root=/data/imagenet/val',
    )
    parser.add_argument(
        '--imports',
        nargs='+',
        default=[],
        metavar='FILE',
        help='Python files that register methods or data sets of your own',
    )
    parser.add_argument('--workers', type=int, help='loader processes; default: as in training')
    return parser.parse_args(argv)


def write_page(args: argparse.Namespace) -> int:
    """Write the page. Returns the exit code."""
    from ssl_zoo.reports.run.analysis import ImageOptions
    from ssl_zoo.reports.run.report import write_run_report

    image_options = None
    if args.cfg_options or args.imports or args.workers is not None:
        image_options = ImageOptions(args.cfg_options, args.imports, args.workers)
    images = not args.no_images
    path = write_run_report(args.run, args.out, images, image_options, reload=args.reload)
    print(f'wrote {path}')
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    args = parse(argv)
    from ssl_zoo.distributed.run_command import run_command

    return run_command(lambda: write_page(args), 'the same command starts again')


if __name__ == '__main__':
    sys.exit(main())
