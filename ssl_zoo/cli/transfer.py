"""Transfer accuracy of a checkpoint on another classification set.

    python tools/transfer.py CHECKPOINT --dataset Flowers102 --root data/flowers --download
    python tools/transfer.py CHECKPOINT --dataset CIFAR10 --root data/cifar10 --finetune
    python tools/transfer.py CHECKPOINT --train /my/set/train --test /my/set/test --metric mean_per_class

Linear (default): logistic regression by L-BFGS on frozen features, 45 strengths. Fine-tuned: 20,000 steps of 256 images for each of 7
learning rates and 8 weight decays; --steps, --lrs and --weight-decays make it shorter. Choices are made on a hold-out of the training
images, and the chosen setting is trained again with it. The metric is the one that the set is reported in. A stopped evaluation
goes on by the same command.
"""

import sys


def main(argv=None) -> int:
    from ssl_zoo.cli.evaluation_arguments import add_recipe, changed, parser, run
    from ssl_zoo.data.sources.transfer_sets import TRANSFER_SETS, transfer_sources
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.evaluation.logistic import STRENGTHS
    from ssl_zoo.evaluation.recipes import TRANSFER, TRANSFER_STEPS

    arguments = parser(__doc__)
    arguments.add_argument('--dataset', help=f'one of {", ".join(TRANSFER_SETS)}')
    arguments.add_argument('--root', default='data', help='folder of its files; default: data')
    arguments.add_argument(
        '--download', action='store_true', help='fetch its files if they are missing'
    )
    arguments.add_argument(
        '--train',
        metavar='FOLDER',
        help='instead of --dataset: images to train on, a folder per class',
    )
    arguments.add_argument('--test', metavar='FOLDER', help='and to test on')
    arguments.add_argument(
        '--val',
        type=float,
        default=0.2,
        help='share of the training images held out for choices; default: 0.2',
    )
    arguments.add_argument(
        '--metric',
        help="'top1' or 'mean_per_class'; default: as the set is reported, 'top1' for folders",
    )
    arguments.add_argument('--finetune', action='store_true', help='train the whole network')
    arguments.add_argument(
        '--steps',
        type=int,
        default=TRANSFER_STEPS,
        help=f'of each fine-tuning; default: {TRANSFER_STEPS}',
    )
    arguments.add_argument(
        '--strengths',
        nargs='+',
        type=float,
        default=STRENGTHS,
        help='penalties; default: 45 from 1e5 to 1e-6',
    )
    arguments.add_argument(
        '--dtype', choices=('float32', 'float16'), default='float32', help='of the stored features'
    )
    add_recipe(arguments)
    args = arguments.parse_args(argv)
    try:
        if bool(args.dataset) == bool(args.train or args.test) or bool(args.train) != bool(
            args.test
        ):
            raise ConfigError('give either --dataset NAME or both --train FOLDER and --test FOLDER')
        train, test = (
            transfer_sources(args.dataset, args.root, args.download)
            if args.dataset
            else (dict(type='ImageFolder', root=folder) for folder in (args.train, args.test))
        )
        if args.epochs is not None:
            raise ConfigError('the length of fine-tuning is given in steps here: use --steps')
    except ConfigError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    args.cfg_options = [
        f'data.train={train!r}',
        f'data.test={test!r}',
        f'data.val={args.val!r}',
        *args.cfg_options,
    ]
    reported = TRANSFER_SETS.get(args.dataset)
    metric = args.metric or (reported.metric if reported else 'top1')

    def evaluate(context):
        from ssl_zoo.evaluation.protocols.transfer import transfer_finetune, transfer_linear

        if args.finetune:
            transfer_finetune(context, metric, changed(TRANSFER, args), args.steps)
        else:
            transfer_linear(context, metric, tuple(args.strengths), args.dtype)

    return run(args, evaluate)


if __name__ == '__main__':
    sys.exit(main())
