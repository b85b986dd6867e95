"""Measure a checkpoint without labels: RankMe, alpha-ReQ, LiDAR, alignment, uniformity.

    ssl-zoo label-free work_dirs/byol_digits/<run>/checkpoints/step_00000589.pth
    ssl-zoo label-free CHECKPOINT --layer projector --images 1000
    ssl-zoo label-free CHECKPOINT --random-weights      # what the values were before training

The images are those of the online evaluation: the hold-out, or training images without one. Each
measure is a row of results.jsonl. What a measure can tell: docs/is_it_learning.md.
"""

import sys

from ssl_zoo.cli.evaluation_arguments import evaluation_parser, run_evaluation


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = evaluation_parser('label-free', __doc__)
    parser.add_argument(
        '--images',
        type=int,
        default=100,
        metavar='N',
        help='images whose views give LiDAR, alignment and uniformity; default: 100',
    )
    parser.add_argument(
        '--views', type=int, default=10, metavar='Q', help='views of each; default: 10'
    )
    args = parser.parse_args(argv)
    from ssl_zoo.evaluation.protocols.label_free import evaluate_label_free

    return run_evaluation(
        args, lambda context: evaluate_label_free(context, args.images, args.views)
    )


if __name__ == '__main__':
    sys.exit(main())
