"""Store the features of a data set in one folder.

    ssl-zoo extract-features work_dirs/byol_digits/<run>/checkpoints/step_00000589.pth
    ssl-zoo extract-features CHECKPOINT --data test --layer projector --dtype float16
    torchrun --nproc-per-node 8 -m ssl_zoo extract-features CHECKPOINT
    ssl-zoo extract-features CHECKPOINT --source "{'type': 'Images', 'root': '/my/photos'}"

The folder holds features.npy (N, D), labels.npy, index.npy, names.json and manifest.json. The other
evaluation commands find the stored features and use them. The same command continues a stopped
extraction. Memory holds one batch of images.
"""

import argparse
import sys
from pathlib import Path

from ssl_zoo.cli.evaluation_arguments import add_dtype_argument, evaluation_parser, run_evaluation


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = evaluation_parser('extract-features', __doc__)
    parser.add_argument(
        '--data',
        nargs='+',
        choices=('train', 'val', 'test'),
        help="sets of the config; default: all its sets; 'train' is without the hold-out",
    )
    parser.add_argument(
        '--source', help="another data set, as in a config: \"{'type': ..., 'root': ...}\""
    )
    add_dtype_argument(parser)
    args = parser.parse_args(argv)
    return run_evaluation(args, lambda context: _extract(context, args))


def _extract(context, args: argparse.Namespace) -> None:
    from ssl_zoo.data.splits import data_notes
    from ssl_zoo.distributed import rank
    from ssl_zoo.printable import printable

    sources = _sources(context, args)
    for note in data_notes(sources):
        print(f'note: {printable(note)}')
    for warning in context.method.warnings:
        print(f'warning: {warning}')
    for name, source in sources.items():
        features = context.features(source, name, args.dtype)
        if rank() == 0:
            _print_summary(name, source, features)


def _sources(context, args: argparse.Namespace) -> dict:
    """Return the sources by name."""
    from ssl_zoo.config.literals import read_source_config
    from ssl_zoo.data.sources import build_source
    from ssl_zoo.data.splits import feature_sources
    from ssl_zoo.distributed.objects import raise_together
    from ssl_zoo.errors import ConfigError

    if args.source:
        config = read_source_config(args.source, '--source')
        source = build_source(config, context.settings.data.max_pixels)
        return {str(config['type']).lower(): source}
    sources = raise_together(lambda: feature_sources(context.settings.data))
    for name in args.data or ():
        if sources[name] is None:
            raise ConfigError(
                f'the config has no data.{name}; give it with '
                f"--cfg-options \"data.{name}={{'type': ..., 'root': ...}}\""
            )
    given = [name for name, source in sources.items() if source is not None]
    return {name: sources[name] for name in args.data or given}


def _print_summary(name: str, source, features) -> None:
    from ssl_zoo.printable import printable

    n, width = features.values.shape
    folder = Path(features.values.filename).parent
    size = features.values.nbytes / 2**20
    summary = f'{name}: {n:,} x {width} {features.values.dtype}, {size:.1f} MiB in {folder}'
    if features.unreadable:
        first, reason = features.unreadable[0]
        summary += (
            f'; {len(features.unreadable)} images left out, the first is '
            f'{printable(source.name(first))} ({reason})'
        )
    print(summary)


if __name__ == '__main__':
    sys.exit(main())
