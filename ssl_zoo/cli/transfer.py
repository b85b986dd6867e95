"""Transfer accuracy of a checkpoint on another classification set.

    ssl-zoo transfer CHECKPOINT --dataset Flowers102 --root data/flowers --download
    ssl-zoo transfer CHECKPOINT --dataset CIFAR10 --root data/cifar10 --finetune
    ssl-zoo transfer CHECKPOINT --train /my/set/train --test /my/set/test

Linear (default): logistic regression by L-BFGS on frozen features, 45 strengths. Fine-tuned: 20,000
steps of 256 images for each of 7 learning rates and 8 weight decays; --steps, --lrs and
--weight-decays make it shorter. Choices are made on a hold-out of the training images, and the
chosen setting is trained again on training images and hold-out. The metric is the one that papers
report for the set. The same command continues a stopped evaluation.
"""

import argparse
import sys

from ssl_zoo.cli.evaluation_arguments import (
    add_dtype_argument,
    add_metric_arguments,
    add_recipe_arguments,
    change_recipe,
    evaluation_parser,
    run_evaluation,
)
from ssl_zoo.terminal import print_error


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    from ssl_zoo.errors import ConfigError

    args = _parser().parse_args(argv)
    try:
        args.cfg_options = [*_data_options(args), *args.cfg_options]
        if args.epochs is not None:
            raise ConfigError('the length of fine-tuning is given in steps here: use --steps')
    except ConfigError as error:
        print_error(f'error: {error}')
        return 2
    return run_evaluation(args, lambda context: _evaluate(context, args))


def _parser() -> argparse.ArgumentParser:
    from ssl_zoo.data.sources.transfer_sets import TRANSFER_SETS
    from ssl_zoo.evaluation.logistic import STRENGTHS
    from ssl_zoo.evaluation.recipes import TRANSFER_STEPS

    parser = evaluation_parser('transfer', __doc__)
    parser.add_argument('--dataset', help=f'one of {", ".join(TRANSFER_SETS)}')
    parser.add_argument('--root', default='data', help='folder of its files; default: data')
    parser.add_argument(
        '--download', action='store_true', help='download its files if they are missing'
    )
    parser.add_argument(
        '--train',
        metavar='FOLDER',
        help='instead of --dataset: training images, in a folder per class',
    )
    parser.add_argument(
        '--test', metavar='FOLDER', help='with --train: test images, in a folder per class'
    )
    parser.add_argument(
        '--val',
        type=float,
        default=0.2,
        help='share of the training images held out for choices; default: 0.2',
    )
    add_metric_arguments(
        parser, None, 'as papers report the set, top1 for folders', several_classes=True
    )
    parser.add_argument('--finetune', action='store_true', help='train the whole network')
    parser.add_argument(
        '--steps',
        type=int,
        default=TRANSFER_STEPS,
        help=f'of each fine-tuning; default: {TRANSFER_STEPS}',
    )
    parser.add_argument(
        '--strengths',
        nargs='+',
        type=float,
        default=STRENGTHS,
        help='penalties of the logistic regression; default: 45 from 1e5 to 1e-6',
    )
    add_dtype_argument(parser)
    add_recipe_arguments(parser)
    return parser


def _data_options(args: argparse.Namespace) -> list[str]:
    """Return the options that put the transfer set into the config of the checkpoint."""
    from ssl_zoo.data.sources.transfer_sets import transfer_sources
    from ssl_zoo.errors import ConfigError

    has_folders = bool(args.train) and bool(args.test)
    has_one_folder = bool(args.train) != bool(args.test)
    if has_one_folder or bool(args.dataset) == has_folders:
        raise ConfigError('give either --dataset NAME or both --train FOLDER and --test FOLDER')
    if args.dataset:
        train, test = transfer_sources(args.dataset, args.root, args.download)
    else:
        train = dict(type='ImageFolder', root=args.train)
        test = dict(type='ImageFolder', root=args.test)
    return [f'data.train={train!r}', f'data.test={test!r}', f'data.val={args.val!r}']


def _evaluate(context, args: argparse.Namespace) -> None:
    from ssl_zoo.data.sources.transfer_sets import TRANSFER_SETS
    from ssl_zoo.evaluation.protocols.transfer import transfer_finetune, transfer_linear
    from ssl_zoo.evaluation.recipes import TRANSFER

    metric = args.metric
    if not metric:
        metric = TRANSFER_SETS[args.dataset].metric if args.dataset else 'top1'
    if args.finetune:
        transfer_finetune(context, metric, change_recipe(TRANSFER, args), args.steps)
    else:
        transfer_linear(context, metric, tuple(args.strengths), args.dtype)


if __name__ == '__main__':
    sys.exit(main())
