"""Checks of arguments. Each raises ConfigError with the value got and the values allowed."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ssl_zoo.errors import ConfigError, nearest


def check_arguments(function: Callable, given: Iterable[str], where: str) -> None:
    """Check names of keyword arguments against a signature.

    Args:
        function: the function or class to call; of a class, the signature of ``__init__`` counts.
        given: names of the arguments that the caller wants to pass.
        where: subject of the error message, such as "method 'BYOL'".

    Raises:
        ConfigError: ``function`` does not take a given name, or a required argument is not given.
    """
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in named]
    takes_any_name = any(p.kind == p.VAR_KEYWORD for p in parameters)
    for name in given:
        if name not in names and not takes_any_name:
            raise ConfigError(f'{where} has no argument {name!r}: {nearest(name, names)}')
    missing = [p.name for p in named if p.default is p.empty and p.name not in given]
    if missing:
        listing = ', '.join(map(repr, missing))
        raise ConfigError(f'{where} needs {listing}. It takes: {", ".join(names)}.')


def text_arguments(function: Callable) -> list[str]:
    """Return the names of the arguments that a signature declares as str, or as str or None."""
    parameters = inspect.signature(function).parameters.values()
    texts = (str, str | None, 'str', 'str | None')
    return [p.name for p in parameters if p.annotation in texts]


def check_texts(function: Callable, given: Mapping[str, object], where: str) -> None:
    """Check that no number is given for an argument that is declared as a text.

    Args:
        function: the function or class to call.
        given: the arguments by name.
        where: subject of the error message, such as "source 'ImageFolder'".

    Raises:
        ConfigError: a number is given for a text.
    """
    for name in text_arguments(function):
        value = given.get(name)
        if isinstance(value, (int, float)):
            raise ConfigError(
                f'{where} has {name}={value!r}, a number, but it must be a text; write '
                f"{name}='{value}', on a command line with double quotes around the whole option"
            )


def check_positive(**values: float) -> None:
    """Raise ConfigError for the first value that is not a number above 0."""
    for name, value in values.items():
        if not _is_number(value) or not value > 0:
            raise ConfigError(f'{name}={value!r}, but it must be a number above 0')


def check_unit_interval(**values: float) -> None:
    """Raise ConfigError for the first value that is not a number from 0 to 1."""
    for name, value in values.items():
        if not _is_number(value) or not 0 <= value <= 1:
            raise ConfigError(f'{name}={value!r}, but it must be a number from 0 to 1')


def path_mistake(path: str | Path) -> str | None:
    """Return a sentence on a path of an output that is not UTF-8, None for other paths."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return (
            f'the path {str(path)!r} is not UTF-8, and other programs could not read the '
            f'files; choose another'
        )
    return None


def _is_number(value: object) -> bool:
    """Whether ``value`` is an int or a float, but not a bool, which Python counts as an int."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
