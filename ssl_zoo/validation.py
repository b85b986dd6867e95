"""Checks of arguments that several parts share."""

import inspect
from collections.abc import Iterable

from ssl_zoo.errors import ConfigError, nearest


def check_arguments(function, given: Iterable[str], where: str) -> None:
    """Raise ConfigError if ``given`` holds a name that ``function`` does not take, or lacks one that it needs."""
    parameters = inspect.signature(
        function
    ).parameters.values()  # a class has those of its __init__
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
    names = [p.name for p in named]
    for name in given:
        if name not in names and not takes_any:
            raise ConfigError(f'{where} has no argument {name!r}: {nearest(name, names)}')
    missing = [p.name for p in named if p.default is p.empty and p.name not in given]
    if missing:
        raise ConfigError(
            f'{where} needs {", ".join(map(repr, missing))}. It takes: {", ".join(names)}.'
        )


def check_positive(**values: float) -> None:
    """Raise ConfigError for the first value that is not a number above 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise ConfigError(f'{name}={value!r}, but it must be a number above 0')


def check_unit_interval(**values: float) -> None:
    """Raise ConfigError for the first value that is not a number from 0 to 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ConfigError(f'{name}={value!r}, but it must be a number from 0 to 1')
