"""Fine-tune a checkpoint on a few labels: 1 %, 10 %, or so many of each class.

    python tools/semi_supervised.py CHECKPOINT --labels 1%
    python tools/semi_supervised.py CHECKPOINT --labels 10% --draws 5
    python tools/semi_supervised.py CHECKPOINT --labels 10% --draws 5 --from-scratch      # the supervised baseline, same budget
    python tools/semi_supervised.py CHECKPOINT --list my_labels.txt

On ImageNet 1 % and 10 % are SimCLR's official lists, fetched once and checked. For other data sets lists are drawn, as equal over
classes as they allow, 1 % within 10 %, and written to the work directory. BYOL's grid of 5 learning rates and 30 or 50 epochs is
chosen from on the hold-out of the config (data.val), and the test images are looked at once. A stopped evaluation goes on by the
same command.
"""

import sys


def main(argv=None) -> int:
    from ssl_zoo.cli.evaluation_arguments import add_recipe, changed, parser, run
    from ssl_zoo.evaluation.recipes import FINETUNE

    arguments = parser(__doc__)
    arguments.add_argument('--labels', help='a share such as 1%%, or a number such as 4-per-class')
    arguments.add_argument(
        '--list', help='text file with the names of the labelled images, one per line'
    )
    arguments.add_argument(
        '--draws',
        type=int,
        default=1,
        help='how many times, with other labels, heads and orders; default: 1',
    )
    arguments.add_argument(
        '--from-scratch', action='store_true', help='from random weights: the supervised baseline'
    )
    arguments.add_argument('--metric', default='top1', help="'top1' (default) or 'mean_per_class'")
    add_recipe(arguments)
    args = arguments.parse_args(argv)
    args.random_weights |= args.from_scratch
    from ssl_zoo.evaluation.protocols.semi_supervised import evaluate_semi_supervised

    def evaluate(context):
        evaluate_semi_supervised(
            context, args.labels, args.list, changed(FINETUNE, args), args.draws, args.metric
        )

    return run(args, evaluate)


if __name__ == '__main__':
    sys.exit(main())
