"""Fine-tune a checkpoint on a few labels: 1 %, 10 %, or a number of each class.

    ssl-zoo semi-supervised CHECKPOINT --labels 1%
    ssl-zoo semi-supervised CHECKPOINT --labels 10% --draws 5
    ssl-zoo semi-supervised CHECKPOINT --labels 10% --from-scratch    # supervised baseline
    ssl-zoo semi-supervised CHECKPOINT --list my_labels.txt

For ImageNet, 1 % and 10 % are SimCLR's official lists, which are downloaded once and verified. For
other data sets the lists are drawn at random, balanced over classes, and written to the work
directory; the 1 % are among the 10 %. The setting is chosen from BYOL's grid (5 learning rates, 30
or 50 epochs) on the hold-out of the config (data.val), and the test images are evaluated once. The
same command continues a stopped evaluation.
"""

import sys

from ssl_zoo.cli.evaluation_arguments import (
    add_label_arguments,
    add_metric_arguments,
    add_recipe_arguments,
    change_recipe,
    evaluation_parser,
    run_evaluation,
)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = evaluation_parser('semi-supervised', __doc__)
    add_label_arguments(parser)
    parser.add_argument(
        '--draws',
        type=int,
        default=1,
        help='number of evaluations, each with its own labels, head and order; default: 1',
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='start from random weights: the supervised baseline',
    )
    add_metric_arguments(parser)
    add_recipe_arguments(parser)
    args = parser.parse_args(argv)
    args.random_weights |= args.from_scratch
    from ssl_zoo.evaluation.protocols.semi_supervised import evaluate_semi_supervised
    from ssl_zoo.evaluation.recipes import FINETUNE

    def evaluate(context) -> None:
        recipe = change_recipe(FINETUNE, args)
        evaluate_semi_supervised(context, args.labels, args.list, recipe, args.draws, args.metric)

    return run_evaluation(args, evaluate)


if __name__ == '__main__':
    sys.exit(main())
