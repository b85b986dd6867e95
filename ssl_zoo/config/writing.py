"""Write settings as a config file that load_config reads."""

import keyword
import math
from typing import Any

WIDTH = 100


def config_text(settings: dict[str, Any]) -> str:
    """Return settings as the text of a config file.

    mmengine's Config.pretty_text formats with yapf, which takes 0.2 seconds at every start.

    Args:
        settings: numbers, texts, None, lists, tuples and dicts of these, by top-level name.

    Returns:
        One assignment per setting; lines of at most 100 columns where values can be broken.
    """
    return ''.join(
        f'{name} = {_value(value, 0, len(name) + 3)}\n' for name, value in settings.items()
    )


def _value(value: Any, depth: int, used: int) -> str:
    """Return a value as Python text, on one line if that fits into WIDTH.

    Args:
        value: the value.
        depth: indentation of the line in which the value begins, in steps of 4 spaces.
        used: columns of that line before and after the value.
    """
    line = _line(value)
    if used + len(line) <= WIDTH or not value or not isinstance(value, (dict, list, tuple)):
        return line
    start, end = _brackets(value)
    indent = '    ' * (depth + 1)
    items = []
    for name, item in _items(value):
        items.append(f'{indent}{name}{_value(item, depth + 1, len(indent) + len(name) + 1)},\n')
    return f'{start}\n{"".join(items)}{"    " * depth}{end}'


def _line(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if not isinstance(value, (dict, list, tuple)):
        return repr(value)
    start, end = _brackets(value)
    comma = ',' if isinstance(value, tuple) and len(value) == 1 else ''
    return start + ', '.join(name + _line(item) for name, item in _items(value)) + comma + end


def _brackets(value: dict | list | tuple) -> tuple[str, str]:
    if isinstance(value, dict):
        return ('dict(', ')') if _are_arguments(value) else ('{', '}')
    return ('[', ']') if isinstance(value, list) else ('(', ')')


def _items(value: dict | list | tuple) -> list[tuple[str, Any]]:
    """Return (text before the item, item) of each item."""
    if not isinstance(value, dict):
        return [('', item) for item in value]
    if _are_arguments(value):
        return [(f'{key}=', item) for key, item in value.items()]
    return [(f'{key!r}: ', item) for key, item in value.items()]


def _are_arguments(value: dict) -> bool:
    """Whether all keys can be names of arguments: dict(key=...)."""
    return all(
        isinstance(key, str) and key.isascii() and key.isidentifier() and not keyword.iskeyword(key)
        for key in value
    )
