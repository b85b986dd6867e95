"""Import a checkpoint of another library as a checkpoint for every evaluation command.

    ssl-zoo import moco_v2_800ep_pretrain.pth.tar --out work_dirs/moco_v2
    ssl-zoo import pretrain_res50x1.pkl --out work_dirs/byol_deepmind \\
        --cfg-options data.test.root=/data/imagenet/val
    ssl-zoo import vit-s-300ep.pth.tar --out work_dirs/mocov3 \\
        --layout mocov3 --backbone vit_small_patch16_224
    ssl-zoo knn work_dirs/moco_v2/imported.pth

Layouts: MoCo v1 and v2, MoCo v3, SimSiam, Barlow Twins, VICReg, SwAV, DINO, solo-learn, lightly,
mmpretrain (mmselfsup), DeepMind's BYOL, timm, torchvision. The file is read as data: nothing in it
is executed. The command prints what was imported and what was left out.
"""

import argparse
import sys
from collections.abc import Sequence

from ssl_zoo.cli.command_parser import command_parser
from ssl_zoo.terminal import print_error


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = command_parser('import', __doc__)
    parser.add_argument(
        'file',
        help="checkpoint of another library: of torch.save, of safetensors, or DeepMind's pickle",
    )
    parser.add_argument(
        '--out',
        required=True,
        metavar='DIR',
        help='folder for imported.pth and for the results of its evaluations',
    )
    parser.add_argument(
        '--layout',
        default='auto',
        help="name of the file's layout; default: 'auto'; the error for a wrong name lists all",
    )
    parser.add_argument(
        '--prefix',
        help="start of the backbone's names in the file, such as 'model.resnet.', where no layout "
        'fits; default: the one place that looks like a backbone',
    )
    parser.add_argument(
        '--backbone',
        help='a timm model, or a dict of arguments of build_backbone; default: what the weights '
        'show',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='changes to the data part of the config, such as data.test.root=/data/imagenet/val; '
        'evaluations can change it again',
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code: 0, or 2 after a mistake that the user can correct."""
    args = build_parser().parse_args(argv)
    # Imported here, so that --help does not wait for torch.
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.interop.import_checkpoint import import_checkpoint

    try:
        report = import_checkpoint(
            args.file, args.out, args.layout, args.backbone, args.cfg_options, args.prefix
        )
    except (ConfigError, OSError) as error:
        print_error(f'error: {error}')
        return 2
    for line in report.lines:
        print(line)
    print(f'written    {report.path}')
    print(f'next       ssl-zoo knn {report.path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
