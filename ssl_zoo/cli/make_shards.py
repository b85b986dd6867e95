"""Write a data set as tar archives in WebDataset's layout, for the source TarShards.

    python tools/make_shards.py "{'type': 'ImageFolder', 'root': '/data/imagenet/train'}" /fast/imagenet_train
    python tools/make_shards.py "{'type': 'CIFAR10', 'root': 'data'}" shards/cifar10 --per-shard 5000 --in-order

OUT_DIR gets shard-000000.tar, shard-000001.tar, ...; classes.txt if the classes have names; shards.json, which says what they hold.
A sample is 000001234.png, the bytes of the image's file as they are (PNG if the set is not of files), and 000001234.cls, its class;
the number is its position in the data set. The same command gives the same bytes, and goes on where it was stopped.
"""

import argparse
import ast
import io
import json
import os
import sys
import tarfile
from pathlib import Path


def parse(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'source', help="the data set, as in a config: \"{'type': ..., 'root': ...}\""
    )
    parser.add_argument('out_dir', help='where the shards go')
    parser.add_argument(
        '--per-shard', type=int, default=1000, metavar='N', help='images in a shard; default: 1000'
    )
    parser.add_argument(
        '--in-order',
        action='store_true',
        help='in the order of the data set; default: shuffled, always in the same way',
    )
    parser.add_argument(
        '--imports',
        nargs='+',
        default=[],
        metavar='FILE',
        help='Python files that register data sets of your own',
    )
    return parser.parse_args(argv)


def source_of(text: str):
    from ssl_zoo.data.sources import build_source
    from ssl_zoo.errors import ConfigError

    try:
        cfg = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        cfg = None
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise ConfigError(
            f"the source {text!r} is not a dict such as \"{{'type': 'ImageFolder', 'root': '/my/photos'}}\""
        )
    return build_source(cfg)


def write_shard(file, source, positions) -> None:
    """Write some images of a source as a tar archive; its bytes are a function of them alone."""
    with tarfile.open(fileobj=file, mode='w', format=tarfile.USTAR_FORMAT) as tar:
        for i in positions:
            suffix, data = source.encoded(i)
            label = [] if source.labels is None else [('.cls', str(source.labels[i]).encode())]
            for kind, content in [(suffix, data), *label]:
                member = tarfile.TarInfo(f'{i:09d}{kind}')  # owner 0, mode 644, time 0
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def is_whole(path: Path, images: int, labelled: bool) -> bool:
    """Whether a shard of an earlier call is there with all its files."""
    from ssl_zoo.data.sources.tar import DamagedArchive, members

    try:
        with open(path, 'rb') as file:
            return sum(
                1 for _ in members(file.fileno(), os.fstat(file.fileno()).st_size)
            ) == images * (1 + labelled)
    except (FileNotFoundError, DamagedArchive):
        return False


def prepare(out: Path, plan: dict, classes: list[str] | None) -> None:
    """Make the folder, or see that it holds shards of this very plan; then remove what a killed call left unfinished."""
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.storage.atomic import atomic_write

    try:
        before = json.loads((out / 'shards.json').read_text())
    except FileNotFoundError:
        before = None
    except ValueError:
        before = 'damaged'
    if before not in (None, plan) or (before is None and any(out.glob('*.tar'))):
        raise ConfigError(
            f'{out} holds shards of another data set, or made with other options; choose another folder, or remove them'
        )
    if classes is not None:
        text = ''.join(f'{name}\n' for name in classes).encode(errors='surrogateescape')
        atomic_write(out / 'classes.txt', lambda file: file.write(text))
    atomic_write(out / 'shards.json', lambda file: file.write(json.dumps(plan).encode()))
    for left in out.glob('shard-*.tar.tmp.*'):
        left.unlink()


def make_shards(args: argparse.Namespace) -> None:
    import numpy as np

    from ssl_zoo.config.loading import import_file
    from ssl_zoo.data.random import permutation
    from ssl_zoo.errors import ConfigError, UnreadableImage
    from ssl_zoo.progress_bar import progress_bar
    from ssl_zoo.storage.atomic import atomic_write

    if args.per_shard < 1:
        raise ConfigError(f'--per-shard is {args.per_shard}, but it must be at least 1')
    for file in args.imports:
        import_file(file)
    source, out = source_of(args.source), Path(args.out_dir).expanduser()
    n, labelled = len(source), source.labels is not None
    prepare(
        out,
        dict(
            images=n,
            manifest=source.manifest(),
            labels=labelled,
            per_shard=args.per_shard,
            in_order=args.in_order,
        ),
        source.classes if labelled else None,
    )
    order = np.arange(n) if args.in_order else permutation(n, 0)
    starts = range(0, n, args.per_shard)
    with progress_bar(n, str(out)) as progress:
        for number, start in enumerate(starts):
            positions, path = (
                order[start : start + args.per_shard].tolist(),
                out / f'shard-{number:06d}.tar',
            )
            if not is_whole(path, len(positions), labelled):
                try:
                    atomic_write(path, lambda file, some=positions: write_shard(file, source, some))
                except UnreadableImage as error:
                    raise ConfigError(
                        f'an image cannot be read ({error}); remove it from the data set'
                    ) from None
            progress.update(len(positions))
    classes = f", classes='{out / 'classes.txt'}'" if labelled and source.classes else ''
    print(
        f"{n:,} images in {len(starts)} shards; a config reads them with dict(type='TarShards', shards='{out}'{classes})"
    )


def main(argv=None) -> int:
    args = parse(argv)
    from ssl_zoo.errors import ConfigError

    try:
        make_shards(args)
    except ConfigError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f'error: {error}; check the folder and its space; the same command goes on from here',
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print('stopped; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
