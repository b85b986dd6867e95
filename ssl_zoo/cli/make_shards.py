"""Write a source of images as tar archives in WebDataset's layout, which TarShards reads.

    ssl-zoo make-shards "{'type': 'ImageFolder', 'root': '/data/train'}" /fast/train
    ssl-zoo make-shards "{'type': 'CIFAR10', 'root': 'data'}" shards --per-shard 5000

OUT_DIR gets shard-000000.tar, shard-000001.tar, ...; classes.txt, if the classes have names, which
TarShards reads; and shards.json, which describes the shards. A sample is 000001234.png, the bytes
of the image's file (PNG if the source has no files), and 000001234.cls, the class; the number is
the position of the image in the source. The same command writes the same bytes, and continues
where it was stopped.
"""

import argparse
import sys
from pathlib import Path

from ssl_zoo.cli.command_parser import command_parser
from ssl_zoo.terminal import print_error


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = command_parser('make-shards', __doc__)
    parser.add_argument('source', help="the images, as in a config: \"{'type': ..., 'root': ...}\"")
    parser.add_argument('out_dir', help='folder for the shards')
    parser.add_argument(
        '--per-shard', type=int, default=1000, metavar='N', help='images per shard; default: 1000'
    )
    parser.add_argument(
        '--in-order',
        action='store_true',
        help='write the images in the order of the source; default: a fixed random order',
    )
    parser.add_argument(
        '--imports',
        nargs='+',
        default=[],
        metavar='FILE',
        help='Python files that register sources of your own',
    )
    return parser.parse_args(argv)


def make_shards(args: argparse.Namespace) -> None:
    """Write the shards and print the config that reads them."""
    from ssl_zoo.config.literals import read_source_config
    from ssl_zoo.config.loading import import_file
    from ssl_zoo.data.sources import build_source
    from ssl_zoo.data.sources.write_shards import write_shards
    from ssl_zoo.errors import ConfigError

    if args.per_shard < 1:
        raise ConfigError(f'--per-shard is {args.per_shard}, but it must be at least 1')
    for file in args.imports:
        import_file(file)
    source = build_source(read_source_config(args.source, 'the source'))
    if source.multi_labels is not None:
        print('note: a shard has one class per image at most: the several classes are left out')
    folder = Path(args.out_dir).expanduser()
    shards = write_shards(source, folder, args.per_shard, args.in_order)
    print(
        f'{len(source):,} images in {shards} shards; a config reads them with '
        f"dict(type='TarShards', shards={str(folder)!r})"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns the exit code: 0, 2 for a mistake, 130 after SIGINT."""
    args = parse(argv)
    from ssl_zoo.errors import ConfigError

    try:
        make_shards(args)
    except ConfigError as error:
        print_error(f'error: {error}')
        return 2
    except OSError as error:
        print_error(
            f'error: {error}; check the folder and its space; the same command goes on from here'
        )
        return 2
    except KeyboardInterrupt:
        print('stopped; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
