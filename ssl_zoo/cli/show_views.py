"""Draw a picture of training images beside their views, as the network sees them, with the numbers drawn for each.

    python tools/show_views.py configs/byol/digits.py
    python tools/show_views.py configs/byol/r50_imagenet.py --images 6 --first 1000 --epoch 3 --seed 1 --out views.png
    python tools/show_views.py configs/swav/r50_imagenet.py --cfg-options \\
        data.train="{'type': 'Images', 'root': '/my/photos'}" data.val=None

No training and no network: what is shown is what tools/train.py with the same config, seed and data makes of these images in that epoch.
"""

import argparse
import sys
from pathlib import Path


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, such as configs/byol/digits.py')
    parser.add_argument(
        '--out', metavar='FILE', help='PNG file; default: work_dirs/views/<config>.png'
    )
    parser.add_argument('--images', type=int, default=4, metavar='N', help='how many; default: 4')
    parser.add_argument(
        '--first',
        type=int,
        default=0,
        metavar='I',
        help='position of the first in the training set; default: 0',
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
    args = parser.parse_args(argv)
    from ssl_zoo.cli.run_command import run_command

    def show() -> int:
        from ssl_zoo.config.loading import load_config
        from ssl_zoo.data.views_sheet import save

        settings = load_config(
            args.config, args.cfg_options + ([f'seed={args.seed}'] if args.seed is not None else [])
        )
        path = Path(args.config).absolute()
        out = Path(args.out or f'work_dirs/views/{path.parent.name}_{path.stem}.png')
        save(
            settings,
            out,
            args.first,
            args.images,
            args.epoch,
            ' '.join([args.config, *args.cfg_options]),
        )
        return 0

    return run_command(show, 'the same command starts again')


if __name__ == '__main__':
    sys.exit(main())
