"""Configs as nested dicts, lists and plain values."""

import math
from collections.abc import Iterable
from typing import Any

from ssl_zoo.errors import ConfigError

LARGEST = 10**30  # above it, sums and products of whole numbers no longer fit into a float


def to_builtin(value: Any) -> Any:
    """Copy nested containers into plain dicts with string keys and plain lists.

    mmengine's subclasses of dict and list do not appear in the copy.
    """
    if isinstance(value, dict):
        return {str(key): to_builtin(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_builtin(item) for item in value]
    return value


def check_finite(value: object, key: str = '') -> None:
    """Raise ConfigError for a number that is infinite, NaN, or a whole number above LARGEST.

    Args:
        value: a number, or nested dicts, lists and tuples that hold numbers.
        key: the dotted key of ``value``, for the message.
    """
    if isinstance(value, (dict, list, tuple)):
        for name, item in _items(value):
            check_finite(item, f'{key}.{name}' if key else str(name))
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f'{key}={value} is not a finite number')
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError(f'{key} is a whole number beyond {LARGEST:.0e}; give a smaller one')


def _items(container: dict | list | tuple) -> Iterable[tuple[object, object]]:
    return container.items() if isinstance(container, dict) else enumerate(container)
