"""Linear evaluation of a checkpoint: linear heads on the frozen encoder.

    ssl-zoo linear work_dirs/byol_digits/<run>/checkpoints/step_00000589.pth
    ssl-zoo linear CHECKPOINT --cached       # features once, then heads and L-BFGS: minutes
    ssl-zoo linear CHECKPOINT --preset mocov3 --lrs 0.03 0.1 0.3 --retrain
    ssl-zoo linear CHECKPOINT --cached --labels 4-per-class --metric mean_per_class

The settings are those of BYOL's paper, or those of another paper or library with --preset. The
heads of all settings are trained side by side in one pass over the images. The best head on the
hold-out of the config (data.val) is measured on its test images (data.test). Of images that have
several classes each, the mean average precision of logistic regressions on stored features is
measured. The same command continues a stopped evaluation.
"""

import argparse
import sys

from ssl_zoo.cli.evaluation_arguments import (
    add_dtype_argument,
    add_label_arguments,
    add_metric_arguments,
    add_recipe_arguments,
    change_recipe,
    evaluation_parser,
    run_evaluation,
)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = _parser().parse_args(argv)
    return run_evaluation(args, lambda context: _evaluate(context, args))


def _parser() -> argparse.ArgumentParser:
    from ssl_zoo.evaluation.recipes import LINEAR

    parser = evaluation_parser('linear', __doc__)
    parser.add_argument(
        '--preset',
        help=f'paper or library of the settings: {", ".join(LINEAR)}; default: byol',
    )
    add_recipe_arguments(parser)
    parser.add_argument(
        '--retrain',
        action='store_true',
        help='train the chosen setting again on training images and hold-out together',
    )
    parser.add_argument(
        '--cached',
        action='store_true',
        help='extract features once, without augmentation; SGD and L-BFGS on them',
    )
    parser.add_argument(
        '--strengths',
        nargs='*',
        type=float,
        help=(
            'penalties of the logistic regression, with --cached; default: 45 from 1e5 to 1e-6; '
            'without a number: no regression'
        ),
    )
    add_label_arguments(parser, '; default: all')
    add_metric_arguments(parser, None, 'top1, or map for several classes', several_classes=True)
    add_dtype_argument(parser, ', with --cached')
    return parser


def _evaluate(context, args: argparse.Namespace) -> None:
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.evaluation.logistic import STRENGTHS
    from ssl_zoo.evaluation.protocols.labels import with_labels
    from ssl_zoo.evaluation.protocols.linear import evaluate_linear
    from ssl_zoo.evaluation.protocols.linear_cached import evaluate_cached
    from ssl_zoo.evaluation.protocols.multi_label import evaluate_multi_label
    from ssl_zoo.evaluation.recipes import linear_preset

    preset = 'byol' if args.preset is None else args.preset
    recipe = change_recipe(linear_preset(preset), args)
    if args.cached and (args.crop or args.flip_p is not None):
        raise ConfigError(
            '--crop and --flip-p do nothing with --cached: stored features have no augmentation; '
            'leave them out'
        )
    several_classes = context.has_several_classes
    if args.strengths is not None and not args.cached and not several_classes:
        raise ConfigError(
            '--strengths are for the logistic regression, which needs --cached; add --cached, '
            'or leave --strengths out'
        )
    has_labels = args.labels is not None or args.list is not None
    if args.retrain and has_labels:
        raise ConfigError(
            '--retrain would train on all labels of the hold-out beside those of --labels or '
            '--list; leave one of them out'
        )
    strengths = STRENGTHS if args.strengths is None else tuple(args.strengths)
    if several_classes:
        _check_multi_label(args)
        metric = 'map' if args.metric is None else args.metric
        evaluate_multi_label(context, metric, strengths, args.retrain, dtype=args.dtype)
        return
    context = with_labels(context, args.labels, args.list)
    metric = 'top1' if args.metric is None else args.metric
    if args.cached:
        evaluate_cached(context, recipe, args.retrain, strengths, args.dtype, metric)
    else:
        evaluate_linear(context, recipe, args.retrain, metric)


def _check_multi_label(args: argparse.Namespace) -> None:
    """Raise ConfigError for arguments that are for images of one class each."""
    from ssl_zoo.errors import ConfigError

    recipe = ('preset', 'lrs', 'weight_decays', 'epochs', 'batch_size', 'crop', 'flip_p')
    others = ('labels', 'list', 'per_class')
    names = [name for name in (*recipe, *others) if getattr(args, name) not in (None, False)]
    if names:
        given = ', '.join(f'--{name.replace("_", "-")}' for name in names)
        raise ConfigError(
            f'these images have several classes each, and get logistic regressions on stored '
            f'features of all labelled images; leave out what is for others: {given}'
        )


if __name__ == '__main__':
    sys.exit(main())
