"""The command line that the evaluation tools share."""

import argparse
import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout

from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.evaluation.recipes import Recipe

TIMEOUT = (
    4 * 3600
)  # seconds: some parts of an evaluation are done by one process, and the others wait


def parser(doc: str) -> argparse.ArgumentParser:
    """The arguments of every evaluation tool; ``doc`` is the tool's docstring."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'checkpoint',
        help='file of a run, such as work_dirs/byol_digits/<run>/checkpoints/step_00000589.pth',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='changes to the data part of the config in it, such as data.test.root=/data/imagenet/val',
    )
    parser.add_argument(
        '--network',
        help="'online' or 'target'; default: the method's own choice (DINO: target, others: online)",
    )
    parser.add_argument('--layer', default='backbone', help="'backbone' (default) or 'projector'")
    parser.add_argument(
        '--random-weights',
        action='store_true',
        help='evaluate the network as it was before training',
    )
    parser.add_argument(
        '--work-dir', help="where figures, predictions and features go; default: the run's"
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
        help='images per evaluation pass; default: 256',
    )
    parser.add_argument('--workers', type=int, help='loader processes; default: as in training')
    parser.add_argument(
        '--seed', type=int, default=0, help='of what the evaluation draws; default: 0'
    )
    return parser


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The arguments that change a recipe; each is None if it is not given."""
    parser.add_argument(
        '--lrs',
        nargs='+',
        type=float,
        help='learning rates to choose from, per 256 images where the recipe has it so',
    )
    parser.add_argument(
        '--weight-decays', nargs='+', type=float, help='weight decays to choose from'
    )
    parser.add_argument('--epochs', nargs='+', type=float, help='epochs')
    parser.add_argument('--batch-size', type=int, help='images per step')
    parser.add_argument(
        '--crop',
        nargs=2,
        type=float,
        metavar=('LEAST', 'MOST'),
        help='areas of the random crops; default: 0.08 1',
    )
    parser.add_argument('--flip-p', type=float, help='probability of a flip; default: 0.5')


def changed(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """The recipe with what was given on the command line."""
    return recipe.with_changes(
        lrs=args.lrs,
        weight_decays=args.weight_decays,
        epochs=args.epochs,
        batch_size=args.batch_size,
        crop=args.crop,
        flip_p=args.flip_p,
    )


def run(args: argparse.Namespace, evaluate: Callable[[EvaluationContext], object]) -> int:
    """Build the context and call ``evaluate`` on it, on the processes that were started together; the exit code."""
    from ssl_zoo.cli.run_command import run_command
    from ssl_zoo.distributed.objects import raise_together
    from ssl_zoo.distributed.process_group import process_group, rank_info

    def work() -> int:
        with (
            process_group(TIMEOUT),
            redirect_stdout(sys.stdout if rank_info().rank == 0 else io.StringIO()),
        ):
            context = raise_together(
                lambda: EvaluationContext(
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
                )
            )
            evaluate(context)
        return 0

    return run_command(work, 'the same command goes on from here')
