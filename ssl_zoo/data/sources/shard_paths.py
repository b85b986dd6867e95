"""Expand a folder, a file or a pattern to the paths of tar shards."""

import os
import re
from glob import glob
from pathlib import Path

from ssl_zoo.errors import ConfigError, MissingData

MAX_SHARDS = 1_000_000
BRACES = re.compile(r'\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}')  # {000..146} or {a,b}
COMPRESSED_NAME = re.compile(r'\.(tar\.\w+|tgz|tbz2?|txz)$')


def find_shards(shards: str) -> list[str]:
    """Return the absolute paths of the shards that a folder, a file or a pattern names.

    Args:
        shards: see TarShards. Ranges and lists in braces keep their order; matches of a folder or
            of * are sorted.

    Raises:
        MissingData: there are no shards, or a file that the pattern names is missing.
        ConfigError: ``shards`` is not a path on this machine, or stands for more than MAX_SHARDS.
    """
    if not isinstance(shards, str) or '://' in shards or shards.startswith('pipe:'):
        raise ConfigError(
            f'shards={shards!r}, but it must be a folder, a .tar file or a pattern of them on this '
            f'machine, such as /data/train-{{000000..000146}}.tar'
        )
    path = os.path.abspath(os.path.expanduser(shards))
    if os.path.isdir(path):
        return _shards_in(Path(path))
    if os.path.isfile(path):
        return [path]
    paths = []
    missing = []
    for pattern in _expand_braces(path):
        matches = _matching_files(pattern)
        paths += matches
        if not matches:
            missing.append(pattern)
    if missing:
        others = f', and {len(missing) - 1} others are missing' if len(missing) > 1 else ''
        raise MissingData(
            f'looked for the shards {path}, but there is no {missing[0]}{others}; correct shards'
        )
    return list(dict.fromkeys(paths))


def _shards_in(folder: Path) -> list[str]:
    paths = [
        str(path)
        for path in folder.glob('*.tar')
        if path.is_file() and not path.name.startswith('.')
    ]
    if paths:
        return sorted(paths)
    compressed = [p.name for p in folder.glob('*.t*') if COMPRESSED_NAME.search(p.name)]
    if compressed:
        found = f'only compressed ones, such as {compressed[0]}; unpack them to plain .tar'
    else:
        found = 'none; give the folder that holds them or a pattern'
    raise MissingData(f'looked for shards (*.tar) in {folder}, and found {found}')


def _matching_files(pattern: str) -> list[str]:
    if os.path.isfile(pattern):  # a file whose name contains * or []
        return [pattern]
    return [path for path in sorted(glob(pattern)) if os.path.isfile(path)]


def _expand_braces(pattern: str) -> list[str]:
    """Expand the ranges {000..146} and lists {a,b} of a pattern, in order, each name once."""
    pending = [pattern]
    expanded = []
    while pending:
        name = pending.pop()
        braces = BRACES.search(name)
        if not braces:
            expanded.append(name)
            continue
        first, last, alternatives = braces.groups()
        if alternatives is not None:
            options = alternatives.split(',')
        elif abs(int(last) - int(first)) + len(pending) + len(expanded) < MAX_SHARDS:
            options = _expand_range(first, last)
        else:
            raise ConfigError(
                f'{pattern} stands for more than {MAX_SHARDS:,} shards; '
                f'check the numbers in its braces'
            )
        before = name[: braces.start()]
        after = name[braces.end() :]
        # Reversed, because the last name added is expanded next.
        pending += [before + option + after for option in reversed(options)]
    return list(dict.fromkeys(expanded))


def _expand_range(first: str, last: str) -> list[str]:
    """'008', '010' -> '008', '009', '010'; padded only if `first` starts with 0."""
    step = 1 if int(last) >= int(first) else -1
    width = len(first) if first.startswith('0') else 0
    return [str(number).zfill(width) for number in range(int(first), int(last) + step, step)]
