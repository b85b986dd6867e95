"""Draw a picture of training images beside their views, with the random numbers of each view.

    ssl-zoo show-views configs/byol/digits.py
    ssl-zoo show-views configs/byol/r50_imagenet.py --images 6 --first 1000 --epoch 3 \\
        --seed 1 --out views.png
    ssl-zoo show-views configs/swav/r50_imagenet.py --cfg-options \\
        data.train="{'type': 'Images', 'root': '/my/photos'}" data.val=None

The command needs no checkpoint. The views are exactly those that training with the same config,
seed and data feeds to the network for these images in that epoch.
"""

import argparse
import sys
from pathlib import Path

from ssl_zoo.cli.command_parser import command_parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = command_parser('show-views', __doc__)
    parser.add_argument('config', help='config file, such as configs/byol/digits.py')
    parser.add_argument(
        '--out', metavar='FILE', help='PNG file; default: work_dirs/views/<config>.png'
    )
    parser.add_argument(
        '--images', type=int, default=4, metavar='N', help='number of images; default: 4'
    )
    parser.add_argument(
        '--first',
        type=int,
        default=0,
        metavar='I',
        help='position of the first image in the training set; default: 0',
    )
    parser.add_argument(
        '--epoch', type=int, default=0, metavar='E', help='counted from 0; default: 0'
    )
    parser.add_argument('--seed', type=int, help='short for --cfg-options seed=SEED')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='changes to the config, as for tools/train.py',
    )
    return parser.parse_args(argv)


def show_views(args: argparse.Namespace) -> int:
    """Write the picture. Returns the exit code."""
    from ssl_zoo.config.loading import load_config
    from ssl_zoo.reports.views_sheet import save_views_sheet

    options = list(args.cfg_options)
    if args.seed is not None:
        options.append(f'seed={args.seed}')
    settings = load_config(args.config, options)
    path = Path(args.config).absolute()
    out = Path(args.out or f'work_dirs/views/{path.parent.name}_{path.stem}.png')
    config_name = ' '.join([args.config, *args.cfg_options])
    save_views_sheet(settings, out, args.first, args.images, args.epoch, config_name)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    args = parse(argv)
    from ssl_zoo.distributed.run_command import run_command

    return run_command(lambda: show_views(args), 'the same command starts again')


if __name__ == '__main__':
    sys.exit(main())
