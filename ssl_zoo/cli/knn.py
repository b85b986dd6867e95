"""k-NN accuracy of a checkpoint.

    python tools/knn.py work_dirs/byol_digits/<run>/checkpoints/step_00000589.pth
    python tools/knn.py CHECKPOINT --k 1 5 10 20 --temperature 0.02 0.07 --network target --layer projector
    python tools/knn.py CHECKPOINT --ivf 4096 --probes 64           # clusters, 8 bits: for banks beyond memory

k and temperature are chosen on the hold-out of the config (data.val) and reported on its test images (data.test), beside the
settings that others report. Features are stored in the work directory and used again.
"""

import sys


def main(argv=None) -> int:
    from ssl_zoo.cli.evaluation_arguments import parser, run

    arguments = parser(__doc__)
    arguments.add_argument(
        '--k',
        nargs='+',
        type=int,
        default=[1, 5, 10, 20, 50, 100, 200],
        help='numbers of neighbours to choose from',
    )
    arguments.add_argument(
        '--temperature',
        nargs='+',
        type=float,
        default=[0.02, 0.07, 0.1, 0.2, 0.5],
        help='temperatures to choose from',
    )
    arguments.add_argument(
        '--ivf', type=int, metavar='CLUSTERS', help='search in clusters instead of exactly'
    )
    arguments.add_argument(
        '--probes', type=int, default=32, help='clusters that a query looks into; default: 32'
    )
    arguments.add_argument(
        '--dtype', choices=('float32', 'float16'), default='float32', help='of the stored features'
    )
    args = arguments.parse_args(argv)
    from ssl_zoo.evaluation.protocols.knn import evaluate_knn

    return run(
        args,
        lambda context: evaluate_knn(
            context, args.k, args.temperature, args.ivf, args.probes, args.dtype
        ),
    )


if __name__ == '__main__':
    sys.exit(main())
