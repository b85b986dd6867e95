"""Expand a folder, a file or a pattern to the paths of tar shards."""

import os
import re
from glob import escape, glob
from itertools import product
from math import prod
from pathlib import Path
from typing import NamedTuple

from ssl_zoo.errors import ConfigError, MissingData

MAX_SHARDS = 1_000_000
MAX_WILDCARDS = (
    10_000  # patterns with * ? [] after braces are expanded; each lists a folder, 0.2 ms
)
MAX_DEPTH = 20  # of braces within braces
RANGE = re.compile(r'\{([0-9]{1,18})\.\.([0-9]{1,18})\}')  # {000..146}
TOKEN = re.compile(rf'{RANGE.pattern.replace("(", "(?:")}|[{{}},]|[^{{}},]+')
COMPRESSED_NAME = re.compile(r'\.(tar\.\w+|tgz|tbz2?|txz)$')


def find_shards(shards: str) -> list[str]:
    """Return the absolute paths of the shards that a folder, a file or a pattern names.

    Args:
        shards: see TarShards. Ranges and lists in braces keep their order; matches of a folder or
            of * are sorted.

    Raises:
        MissingData: there are no shards, or a file that the pattern names is missing.
        ConfigError: ``shards`` is not a path on this machine, stands for more than MAX_SHARDS, or
            for more than MAX_WILDCARDS patterns with wildcards, or has braces more than MAX_DEPTH
            deep.
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
    patterns = _expand_braces(path)
    if len(patterns) > MAX_WILDCARDS and escape(path) != path:
        raise ConfigError(
            f'shards={shards!r} stands for {len(patterns):,} patterns with * ? or [], but at most '
            f'{MAX_WILDCARDS:,} are searched for; write the numbers as * too'
        )
    for pattern in patterns:
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
    if escape(pattern) == pattern:  # no wildcard
        return []
    return [path for path in sorted(glob(pattern)) if os.path.isfile(path)]


class _Range(NamedTuple):
    """The range {000..146} of a pattern: numbers in text, in order."""

    first: str
    last: str

    def count(self) -> int:
        return abs(int(self.last) - int(self.first)) + 1

    def names(self) -> list[str]:
        """Return '008', '009', '010' for '008' and '010'; padded if the first starts with 0."""
        first, last = int(self.first), int(self.last)
        step = 1 if last >= first else -1
        width = len(self.first) if self.first.startswith('0') else 0
        return [str(number).zfill(width) for number in range(first, last + step, step)]


class _Choice(NamedTuple):
    """The list {a,b} of a pattern; each alternative may hold braces of its own."""

    alternatives: list['_Sequence']

    def count(self) -> int:
        return sum(alternative.count() for alternative in self.alternatives)

    def names(self) -> list[str]:
        return [name for alternative in self.alternatives for name in alternative.names()]


class _Sequence(NamedTuple):
    """Parts of a pattern, one after the other: text, ranges and lists."""

    parts: list['str | _Range | _Choice']

    def count(self) -> int:
        return prod(1 if isinstance(part, str) else part.count() for part in self.parts)

    def names(self) -> list[str]:
        options = [[part] if isinstance(part, str) else part.names() for part in self.parts]
        return [''.join(chosen) for chosen in product(*options)]


def _expand_braces(pattern: str) -> list[str]:
    """Expand the ranges {000..146} and lists {a,b} of a pattern, in order, each name once.

    The names are counted before any is made.
    """
    sequence = _parse(pattern)
    if sequence.count() > MAX_SHARDS:
        raise ConfigError(
            f'{pattern} stands for more than {MAX_SHARDS:,} shards; check the numbers in its braces'
        )
    return list(dict.fromkeys(sequence.names()))


def _parse(pattern: str) -> _Sequence:
    """Parse a pattern. Braces that are not closed, or have no comma, are text, as in a shell."""
    levels = [_Choice([_Sequence([])])]  # the pattern, and the braces open at this token
    for token in TOKEN.findall(pattern):
        parts = levels[-1].alternatives[-1].parts
        number_range = RANGE.fullmatch(token)
        if number_range:
            parts.append(_Range(*number_range.groups()))
        elif token == '{':
            levels.append(_Choice([_Sequence([])]))
        elif token == '}' and len(levels) > 1:
            _close(levels, '}')
        elif token == ',' and len(levels) > 1:
            levels[-1].alternatives.append(_Sequence([]))
        else:
            parts.append(token)
        if len(levels) > MAX_DEPTH:
            raise ConfigError(
                f'{pattern} has braces within braces, more than {MAX_DEPTH} deep; write it without'
            )
    while len(levels) > 1:
        _close(levels, '')
    return levels[0].alternatives[0]


def _close(levels: list[_Choice], end: str) -> None:
    """Move the innermost open braces into the braces around them: a list, or text."""
    choice = levels.pop()
    parts = levels[-1].alternatives[-1].parts
    if end and len(choice.alternatives) > 1:
        parts.append(choice)
        return
    parts.append('{')
    for i, alternative in enumerate(choice.alternatives):
        parts += [',', *alternative.parts] if i else alternative.parts
    parts.append(end)
