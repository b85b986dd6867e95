"""Make a dataclass from a dict: unknown keys, missing keys and wrong types are errors."""

import inspect
from dataclasses import MISSING, Field, fields
from typing import TypeVar

from ssl_zoo.errors import ConfigError, nearest

T = TypeVar('T')


def fill_dataclass(cls: type[T], values: dict | T, prefix: str) -> T:
    """Make an instance of ``cls`` from a dict of its fields.

    Args:
        cls: a dataclass with annotations that isinstance understands.
        values: field name -> value; an instance of ``cls`` is returned unchanged.
        prefix: text before a key in messages, such as 'data.'.

    Raises:
        ConfigError: ``values`` is not a dict, or has an unknown key, a value of a wrong type, or
            lacks a required key.
    """
    if isinstance(values, cls):
        return values
    if not isinstance(values, dict):
        raise ConfigError(f'{prefix.rstrip(".")}={values!r}, but it must be dict(...)')
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    types = inspect.get_annotations(cls)
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f'{prefix}{key} is not a config key: {nearest(key, known)}')
        _check_type(prefix + key, value, types[key])
    missing = [name for name, field in known.items() if _is_required(field) and name not in values]
    if missing:
        raise ConfigError(f'the config lacks {", ".join(prefix + name for name in missing)}')
    return cls(
        **{key: tuple(value) if types[key] is tuple else value for key, value in values.items()}
    )


def _is_required(field: Field) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _check_type(key: str, value: object, allowed: type) -> None:
    if allowed is tuple and isinstance(value, list):
        return
    if isinstance(value, bool):  # isinstance counts a bool as an int; a config may not
        fits = allowed in (bool, bool | None, bool | str)
    elif isinstance(value, int) and allowed in (float, float | None):
        fits = True
    else:
        fits = isinstance(value, allowed)
    if not fits:
        raise ConfigError(
            f'{key}={value!r} is of type {type(value).__name__}, but it must be '
            f'{getattr(allowed, "__name__", allowed)}'
        )
