"""The command-line arguments that all evaluation commands share."""

import argparse
import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from ssl_zoo.cli.command_parser import command_parser

if TYPE_CHECKING:  # these modules import torch, and --help must not wait for torch
    from ssl_zoo.evaluation.protocols.context import EvaluationContext
    from ssl_zoo.evaluation.recipes import Recipe

# Seconds. Rank 0 does some parts of an evaluation alone, and the other ranks wait for rank 0.
TIMEOUT = 4 * 3600


def evaluation_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every evaluation command, see command_parser."""
    parser = command_parser(command, description)
    parser.add_argument(
        'checkpoint',
        help='file of a run, such as work_dirs/byol_digits/<run>/checkpoints/step_00000589.pth',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='changes to the data of its config, such as data.test.root=/data/imagenet/val',
    )
    parser.add_argument(
        '--network',
        help="'online' or 'target'; default: that of the method (DINO: target, others: online)",
    )
    parser.add_argument('--layer', default='backbone', help="'backbone' (default) or 'projector'")
    parser.add_argument(
        '--random-weights',
        action='store_true',
        help='evaluate the network with random weights; pretrained ones are not fetched',
    )
    parser.add_argument(
        '--work-dir', help='folder of results, predictions and features; default: that of the run'
    )
    parser.add_argument(
        '--imports',
        nargs='+',
        default=[],
        metavar='FILE',
        help='Python files that register methods or data sets of your own',
    )
    parser.add_argument(
        '--precision', default='float32', help="of the network: 'float32' (default) or 'bf16'"
    )
    parser.add_argument(
        '--eval-batch-size',
        type=int,
        default=256,
        metavar='N',
        help='images per batch of an evaluation pass; default: 256',
    )
    parser.add_argument('--workers', type=int, help='loader processes; default: as in training')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='of the random numbers that the evaluation draws; default: 0',
    )
    parser.set_defaults(per_class=False)
    return parser


def add_metric_arguments(
    parser: argparse.ArgumentParser,
    default: str | None = 'top1',
    default_text: str = 'top1',
    several_classes: bool = False,
) -> None:
    """Add --metric and --per-class.

    Args:
        parser: the parser.
        default: default of --metric.
        default_text: describes the default of --metric.
        several_classes: whether images may have several classes each, which have other metrics.
    """
    names = "'top1' or 'mean_per_class'"
    if several_classes:
        names += "; of images with several classes each 'map' or 'map_11point'"
    parser.add_argument('--metric', default=default, help=f'{names}; default: {default_text}')
    parser.add_argument(
        '--per-class',
        action='store_true',
        help='print the accuracy of each class, and save it and the confusion matrix as CSV',
    )


def add_label_arguments(parser: argparse.ArgumentParser, condition: str = '') -> None:
    """Add --labels and --list; ``condition`` is the end of the help text of --labels."""
    parser.add_argument(
        '--labels',
        help=f'labelled images: a share such as 1%%, or a number such as 4-per-class{condition}',
    )
    parser.add_argument(
        '--list', help='text file with the names of the labelled images, one per line'
    )


def add_dtype_argument(parser: argparse.ArgumentParser, condition: str = '') -> None:
    """Add --dtype; ``condition`` is the end of its help text."""
    parser.add_argument(
        '--dtype',
        choices=('float32', 'float16'),
        default='float32',
        help=f'of the stored features{condition}; default: float32',
    )


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that change a recipe. The default of each argument is None."""
    parser.add_argument(
        '--lrs',
        nargs='+',
        type=float,
        help="learning rates to choose from; per 256 images if the recipe's are",
    )
    parser.add_argument(
        '--weight-decays', nargs='+', type=float, help='weight decays to choose from'
    )
    parser.add_argument('--epochs', nargs='+', type=float, help='numbers of epochs')
    parser.add_argument('--batch-size', type=int, help='images per step')
    parser.add_argument(
        '--crop',
        nargs=2,
        type=float,
        metavar=('LEAST', 'MOST'),
        help='areas of the random crops, as shares of the image; default: 0.08 1',
    )
    parser.add_argument(
        '--flip-p', type=float, help='probability of a horizontal flip; default: 0.5'
    )


def change_recipe(recipe: 'Recipe', args: argparse.Namespace) -> 'Recipe':
    """Return the recipe with the changes of the command line."""
    return recipe.with_changes(
        lrs=args.lrs,
        weight_decays=args.weight_decays,
        epochs=args.epochs,
        batch_size=args.batch_size,
        crop=args.crop,
        flip_p=args.flip_p,
    )


def run_evaluation(
    args: argparse.Namespace, evaluate: Callable[['EvaluationContext'], object]
) -> int:
    """Build the context and call ``evaluate`` with it, on every process that torchrun started.

    Args:
        args: arguments from a parser that evaluation_parser made.
        evaluate: the evaluation.

    Returns:
        The exit code, see run_command.
    """
    from ssl_zoo.distributed.objects import raise_together
    from ssl_zoo.distributed.process_group import process_group, rank_info
    from ssl_zoo.distributed.run_command import run_command

    def work() -> int:
        output = sys.stdout if rank_info().rank == 0 else io.StringIO()
        with process_group(TIMEOUT), redirect_stdout(output):
            evaluate(raise_together(lambda: _context(args)))
        return 0

    return run_command(work, 'the same command goes on from here')


def _context(args: argparse.Namespace) -> 'EvaluationContext':
    from ssl_zoo.evaluation.protocols.context import EvaluationContext

    return EvaluationContext(
        args.checkpoint,
        args.cfg_options,
        args.network,
        args.layer,
        args.random_weights,
        args.work_dir,
        args.imports,
        args.precision,
        args.eval_batch_size,
        args.workers,
        args.seed,
        args.per_class,
    )
