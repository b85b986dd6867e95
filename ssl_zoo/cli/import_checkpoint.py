"""Import a checkpoint of another library: the file becomes one that every evaluation tool takes.

    python tools/import.py moco_v2_800ep_pretrain.pth.tar --out work_dirs/moco_v2
    python tools/import.py pretrain_res50x1.pkl --out work_dirs/byol_deepmind --cfg-options data.test.root=/data/imagenet/val
    python tools/import.py vit-s-300ep.pth.tar --out work_dirs/mocov3 --layout mocov3 --backbone vit_small_patch16_224
    python tools/knn.py work_dirs/moco_v2/imported.pth

Layouts: MoCo v1 and v2, MoCo v3, SimSiam, Barlow Twins, VICReg, SwAV, DINO, solo-learn, lightly, mmpretrain (mmselfsup), DeepMind's BYOL,
timm, torchvision. The file is read as data: nothing in it is executed. It prints what was taken and what was left out.
"""

import argparse
import sys


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'file',
        help="checkpoint of another library: of torch.save, of safetensors, or DeepMind's pickle",
    )
    parser.add_argument(
        '--out',
        required=True,
        metavar='DIR',
        help='folder for imported.pth, and for the figures made from it',
    )
    parser.add_argument(
        '--layout',
        default='auto',
        help="default: 'auto'; a wrong one is answered with all there are",
    )
    parser.add_argument(
        '--backbone',
        help='a timm model, or a dict of keys of build_backbone; default: as the weights show it',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='changes to the data part of its config, such as data.test.root=/data/imagenet/val; evaluation can change '
        'it again',
    )
    args = parser.parse_args(argv)
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.interop.import_checkpoint import import_checkpoint

    try:
        report = import_checkpoint(
            args.file, args.out, args.layout, args.backbone, args.cfg_options
        )
    except ConfigError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print('\n'.join(report.lines))
    print(f'written    {report.path}\nnext       python tools/knn.py {report.path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
