"""Write the backbone of a checkpoint for other libraries, and prove that they compute the same features with it.

    python tools/export.py work_dirs/byol_digits/<run>/checkpoints/step_00000589.pth --format timm --out byol_digits.pth
    python tools/export.py CHECKPOINT --format torchvision --out byol_r50.pth --network target
    python tools/export.py CHECKPOINT --format safetensors --out byol_r50/model.safetensors         # and byol_r50/README.md, a model card
    python tools/export.py CHECKPOINT --format onnx --out byol_r50.onnx                             # needs pip install 'ssl_zoo[export]'
    python tools/export.py CHECKPOINT --format timm --out a.pth --cfg-options "data.test={'type': 'Images', 'root': '/my/photos'}"

The file is read back by the other library's own class and run on test images beside the zoo's network. If the features differ by more
than 0.0001 (of those all below 1: by that share of the largest), there is no file.
"""

import argparse
import sys


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'checkpoint',
        help='file of a run, such as work_dirs/byol_digits/<run>/checkpoints/step_00000589.pth',
    )
    parser.add_argument(
        '--format',
        required=True,
        help="timm, torchvision, safetensors (timm's names, with a model card) or onnx",
    )
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE',
        help='where it goes; a file that is there is not overwritten',
    )
    parser.add_argument(
        '--network',
        help="'online' or 'target'; default: the method's own choice (DINO: target, others: online)",
    )
    parser.add_argument(
        '--images', type=int, default=64, metavar='N', help='images to compare on; default: 64'
    )
    parser.add_argument(
        '--imports',
        nargs='+',
        default=[],
        metavar='FILE',
        help='Python files that register methods or data sets of your own',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='changes to the data part of the config in it, such as data.test.root=/data/imagenet/val',
    )
    args = parser.parse_args(argv)
    from ssl_zoo.cli.run_command import run_command
    from ssl_zoo.evaluation.protocols.context import EvaluationContext
    from ssl_zoo.interop.export import export

    def work() -> int:
        export(
            EvaluationContext(
                args.checkpoint, args.cfg_options, args.network, imports=args.imports
            ),
            args.format,
            args.out,
            args.images,
        )
        return 0

    return run_command(work, 'nothing was written')


if __name__ == '__main__':
    sys.exit(main())
