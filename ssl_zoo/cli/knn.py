"""k-NN accuracy of a checkpoint.

    ssl-zoo knn work_dirs/byol_digits/<run>/checkpoints/step_00000589.pth
    ssl-zoo knn CHECKPOINT --k 1 5 10 20 --temperature 0.02 0.07 --network target
    ssl-zoo knn CHECKPOINT --labels 10% --metric mean_per_class --per-class
    ssl-zoo knn CHECKPOINT --ivf 4096 --probes 64     # clusters, 8 bits: for large banks

k and temperature are chosen on the hold-out of the config (data.val), and the accuracy is measured
on its test images (data.test). The accuracies with DINO's and lightly's settings are printed, too.
The features are stored in the work directory, where later evaluations find them.
"""

import sys

from ssl_zoo.cli.evaluation_arguments import (
    add_dtype_argument,
    add_label_arguments,
    add_metric_arguments,
    evaluation_parser,
    run_evaluation,
)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = evaluation_parser('knn', __doc__)
    parser.add_argument(
        '--k',
        nargs='+',
        type=int,
        default=[1, 5, 10, 20, 50, 100, 200],
        help='numbers of neighbours to choose from',
    )
    parser.add_argument(
        '--temperature',
        nargs='+',
        type=float,
        default=[0.02, 0.07, 0.1, 0.2, 0.5],
        help='temperatures to choose from',
    )
    parser.add_argument(
        '--ivf', type=int, metavar='CLUSTERS', help='search in clusters instead of exactly'
    )
    parser.add_argument(
        '--probes', type=int, default=32, help='clusters that a search visits; default: 32'
    )
    add_label_arguments(parser, '; default: all')
    add_metric_arguments(parser)
    add_dtype_argument(parser)
    args = parser.parse_args(argv)
    from ssl_zoo.evaluation.protocols.knn import evaluate_knn
    from ssl_zoo.evaluation.protocols.labels import with_labels

    def evaluate(context) -> None:
        evaluate_knn(
            with_labels(context, args.labels, args.list),
            args.k,
            args.temperature,
            args.ivf,
            args.probes,
            args.dtype,
            args.metric,
        )

    return run_evaluation(args, evaluate)


if __name__ == '__main__':
    sys.exit(main())
