"""Store the features of a data set: features.npy (N, D), labels.npy, index.npy, names.json, manifest.json in one folder.

    python tools/extract_features.py work_dirs/byol_digits/<run>/checkpoints/step_00000589.pth
    python tools/extract_features.py CHECKPOINT --data test --layer projector --network target --dtype float16
    torchrun --nproc-per-node 8 tools/extract_features.py CHECKPOINT
    python tools/extract_features.py CHECKPOINT --source "{'type': 'Images', 'root': '/my/photos'}"

The other tools find and use what is stored. A stopped extraction goes on where it was; memory holds one batch of images.
"""

import ast
import sys
from pathlib import Path


def main(argv=None) -> int:
    from ssl_zoo.cli.evaluation_arguments import parser, run

    arguments = parser(__doc__)
    arguments.add_argument(
        '--data',
        nargs='+',
        choices=('train', 'val', 'test'),
        help="which of the config's sets; default: all there are; train is without the hold-out",
    )
    arguments.add_argument(
        '--source', help="another set, as in a config: \"{'type': ..., 'root': ...}\""
    )
    arguments.add_argument(
        '--dtype', choices=('float32', 'float16'), default='float32', help='of the stored features'
    )
    args = arguments.parse_args(argv)

    def extract(context):
        from ssl_zoo.data.sources import build_source
        from ssl_zoo.distributed import rank
        from ssl_zoo.errors import ConfigError
        from ssl_zoo.evaluation.protocols.context import printable

        if args.source:
            try:
                cfg = ast.literal_eval(args.source)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                raise ConfigError(
                    f'--source {args.source!r} is not a dict such as '
                    f"\"{{'type': 'Images', 'root': '/my/photos'}}\""
                ) from None
            if not isinstance(cfg, dict):
                raise ConfigError(
                    f"--source {args.source!r} is not a dict such as \"{{'type': 'Images', 'root': '/my/photos'}}\""
                )
            sources = {str(cfg.get('type')).lower(): build_source(cfg)}
        else:
            names = args.data or [
                name for name in ('train', 'val', 'test') if context.sources[name] is not None
            ]
            sources = {name: context.source(name) for name in names}
        for name, source in sources.items():
            features = context.features(source, name, args.dtype)
            if rank() == 0:
                n, width = features.values.shape
                print(
                    f'{name}: {n:,} x {width} {features.values.dtype}, {features.values.nbytes / 2**20:.1f} MiB in '
                    f'{Path(features.values.filename).parent}'
                    + (
                        f'; {len(features.unreadable)} images left out, the first is {printable(source.name(features.unreadable[0][0]))} '
                        f'({features.unreadable[0][1]})'
                        if features.unreadable
                        else ''
                    )
                )

    return run(args, extract)


if __name__ == '__main__':
    sys.exit(main())
