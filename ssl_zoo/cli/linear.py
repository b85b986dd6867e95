"""Linear evaluation of a checkpoint: the frozen protocol of BYOL's paper, or of another library by --preset.

    python tools/linear.py work_dirs/byol_digits/<run>/checkpoints/step_00000589.pth
    python tools/linear.py CHECKPOINT --cached                    # features once, then heads and L-BFGS: minutes
    python tools/linear.py CHECKPOINT --preset mocov3 --lrs 0.03 0.1 0.3 --retrain

All settings are trained side by side in one pass over the data. The best on the hold-out of the config (data.val) is reported on
its test images (data.test). A stopped evaluation goes on by the same command.
"""

import sys


def main(argv=None) -> int:
    from ssl_zoo.cli.evaluation_arguments import add_recipe, changed, parser, run
    from ssl_zoo.evaluation.logistic import STRENGTHS
    from ssl_zoo.evaluation.recipes import LINEAR, linear_preset

    arguments = parser(__doc__)
    arguments.add_argument(
        '--preset', default='byol', help=f'whose settings: {", ".join(LINEAR)}; default: byol'
    )
    add_recipe(arguments)
    arguments.add_argument(
        '--retrain', action='store_true', help='train the chosen setting again, on the hold-out too'
    )
    arguments.add_argument(
        '--cached',
        action='store_true',
        help='extract features once, without augmentation; SGD and L-BFGS on them',
    )
    arguments.add_argument(
        '--strengths',
        nargs='*',
        type=float,
        help='penalties of the logistic regression, with --cached; default: 45 from 1e5 to 1e-6; none: leave it out',
    )
    arguments.add_argument(
        '--dtype',
        choices=('float32', 'float16'),
        default='float32',
        help='of the stored features, with --cached',
    )
    args = arguments.parse_args(argv)

    def evaluate(context):
        from ssl_zoo.errors import ConfigError
        from ssl_zoo.evaluation.protocols.linear import evaluate_linear
        from ssl_zoo.evaluation.protocols.linear_cached import evaluate_cached

        recipe = changed(linear_preset(args.preset), args)
        if args.cached and (args.crop or args.flip_p is not None):
            raise ConfigError(
                '--crop and --flip-p do nothing with --cached, whose features have no augmentation; leave them out'
            )
        if args.strengths is not None and not args.cached:
            raise ConfigError(
                '--strengths are of the logistic regression, which comes with --cached; add that, or leave them out'
            )
        if args.cached:
            evaluate_cached(
                context,
                recipe,
                args.retrain,
                STRENGTHS if args.strengths is None else tuple(args.strengths),
                args.dtype,
            )
        else:
            evaluate_linear(context, recipe, args.retrain)

    return run(args, evaluate)


if __name__ == '__main__':
    sys.exit(main())
