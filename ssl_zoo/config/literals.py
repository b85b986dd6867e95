"""Python literals on the command line, such as the config of a source."""

import ast
import re
from typing import Any

from ssl_zoo.errors import ConfigError

SURROGATE = re.compile('[\ud800-\udfff]')  # Python's stand-in for a byte that is not UTF-8


def read_literal(text: str) -> Any:
    """Return the value of a Python literal. Paths in it may hold bytes that are not UTF-8.

    Raises:
        ValueError: ``text`` is not a literal.
    """
    escaped = SURROGATE.sub(lambda match: f'\\u{ord(match[0]):04x}', text)
    try:
        return ast.literal_eval(escaped)
    # TypeError: for {[]: 1}; MemoryError and RecursionError: for deeply nested brackets.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f'not a literal: {text!r}') from error


def read_source_config(text: str, name: str) -> dict[str, Any]:
    """Return the config of a source that a command line gives.

    Args:
        text: such as "{'type': 'ImageFolder', 'root': '/my/photos'}".
        name: name of the argument, for the message.

    Raises:
        ConfigError: ``text`` is not such a dict.
    """
    try:
        config = read_literal(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ConfigError(
            f'{name} {text!r} is not a dict such as '
            f"\"{{'type': 'ImageFolder', 'root': '/my/photos'}}\""
        )
    return config
