"""Export the backbone of a checkpoint, and verify that the other library computes its features.

    ssl-zoo export work_dirs/byol_digits/<run>/checkpoints/step_00000589.pth \\
        --format timm --out byol_digits.pth
    ssl-zoo export CHECKPOINT --format torchvision --out byol_r50.pth --network target
    ssl-zoo export CHECKPOINT --format safetensors --out byol_r50/model.safetensors
    ssl-zoo export CHECKPOINT --format safetensors --out byol_r50
    ssl-zoo export CHECKPOINT --format onnx --out byol_r50.onnx --dynamic-size
    ssl-zoo export CHECKPOINT --format timm --out a.pth \\
        --cfg-options "data.test={'type': 'Images', 'root': '/my/photos'}"

The format safetensors also writes a model card, README.md, beside the file. If --out is a folder,
safetensors writes model.safetensors, README.md and timm's config.json, as the Hugging Face Hub has
them: timm.create_model('local-dir:byol_r50', pretrained=True, num_classes=0) loads the folder. The
format onnx needs `pip install 'ssl_zoo[export]'`.

The file is read back by the other library's own classes, and its features of test images are
compared with those of the checkpoint. No file is left if a feature differs by more than 0.0001 (if
all features are below 1: by more than 0.0001 times the largest).
"""

import argparse
import sys
from collections.abc import Sequence

from ssl_zoo.cli.command_parser import command_parser


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = command_parser('export', __doc__)
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
        help='file to write, for safetensors and onnx also a folder; an existing file is not '
        'overwritten',
    )
    parser.add_argument(
        '--dynamic-size',
        action='store_true',
        help='onnx: a graph for images of any height and width, for networks that take them; '
        'default: for the size of evaluation (data.eval_size) alone. The number of images is '
        'always free',
    )
    parser.add_argument(
        '--network',
        help="'online' or 'target'; default: the method's own choice (DINO: target, others: "
        'online)',
    )
    parser.add_argument(
        '--images',
        type=int,
        default=64,
        metavar='N',
        help='number of images whose features are compared; default: 64',
    )
    parser.add_argument(
        '--imports',
        nargs='+',
        default=[],
        metavar='FILE',
        help='Python files that register your methods or data sets',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='changes to the data part of the config, such as data.test.root=/data/imagenet/val',
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code: 0, or 2 after a mistake that the user can correct."""
    args = build_parser().parse_args(argv)
    # Imported here, so that --help does not wait for torch.
    from ssl_zoo.distributed.run_command import run_command
    from ssl_zoo.evaluation.protocols.context import EvaluationContext
    from ssl_zoo.interop.export import export

    def work() -> int:
        context = EvaluationContext(
            args.checkpoint, args.cfg_options, args.network, imports=args.imports
        )
        export(context, args.format, args.out, args.images, args.dynamic_size)
        return 0

    return run_command(work, 'nothing was written')


if __name__ == '__main__':
    sys.exit(main())
