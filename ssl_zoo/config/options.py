"""Options of the command line: ``key=value`` changes to a config."""

from dataclasses import fields
from typing import Any

from ssl_zoo.config.literals import read_literal
from ssl_zoo.config.settings import SECTIONS, Settings
from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.registry import METHODS, OPTIMIZERS, SOURCES
from ssl_zoo.validation import text_arguments

WORDS = {'true': True, 'false': False, 'none': None}  # values in any case, besides Python literals
REGISTRIES = dict(method=METHODS, optimizer=OPTIMIZERS, data=SOURCES)  # of the types under a key
OPTIONAL_SECTIONS = [name for name in SECTIONS if name != 'data']


def apply_option(cfg: dict, option: str) -> None:
    """Set one value of a config in place.

    Args:
        cfg: nested dicts and lists.
        option: such as 'epochs=300' or 'views.0.crop=(0.2, 1)'. The value is a Python literal, or
            else a string. A number stays the text that was written where a class declares its
            argument as a text, such as the root of a source. All keys but the last must exist; a
            later check of the config reports a last key that is unknown.

    Raises:
        ConfigError: ``option`` is not of the form key=value, or names a key that does not exist.
    """
    key, equals, text = option.partition('=')
    if not equals or not key:
        raise ConfigError(f'the option {option!r} is not of the form key=value, such as epochs=300')
    *parents, last = key.split('.')
    container: Any = cfg
    walked: list[str] = []
    for name in parents:
        container = _step_into(container, name, walked, option)
        walked.append(name)
    if isinstance(container, list):
        container[_index_in(container, last, walked, option)] = _value_of(text)
    elif isinstance(container, dict):
        value = _value_of(text)
        is_number = isinstance(value, (int, float))
        container[last] = text if is_number and _is_text(container, walked, last) else value
    else:
        raise _holds_no_keys(container, walked, option)


def _value_of(text: str) -> object:
    try:
        return read_literal(text)
    except ValueError:
        return WORDS.get(text.lower(), text)


def _is_text(container: dict, walked: list[str], name: str) -> bool:
    """Return whether the class that ``container`` configures declares an argument as a text.

    False for a class that is not registered yet: the files of ``imports`` are read later.
    """
    registry = REGISTRIES.get(walked[0]) if walked else None
    type_name = container.get('type')
    if registry is None or type_name not in registry.names():
        return False
    return name in text_arguments(registry.find(type_name))


def _step_into(container: object, name: str, walked: list[str], option: str) -> object:
    """Return the value under one key of a dict or list; ``walked`` are the keys before it."""
    if isinstance(container, list):
        return container[_index_in(container, name, walked, option)]
    if not isinstance(container, dict):
        raise _holds_no_keys(container, walked, option)
    if name in container:
        return container[name]
    known = set(container)
    if not walked:
        if name in OPTIONAL_SECTIONS:
            return container.setdefault(name, {})
        known |= {field.name for field in fields(Settings)}
    raise ConfigError(
        f'the option {option!r} names {name!r}, which {_path_of(walked)} does not have: '
        f'{nearest(name, known)}'
    )


def _index_in(items: list, name: str, walked: list[str], option: str) -> int:
    if not (name.isascii() and name.isdigit()) or int(name) >= len(items):
        raise ConfigError(
            f'the option {option!r} names item {name!r} of {_path_of(walked)}, '
            f'which has items 0 to {len(items) - 1}'
        )
    return int(name)


def _holds_no_keys(value: object, walked: list[str], option: str) -> ConfigError:
    return ConfigError(
        f'the option {option!r} reaches into {_path_of(walked)}={value!r}, which holds no keys'
    )


def _path_of(walked: list[str]) -> str:
    return '.'.join(walked) or 'the config'
