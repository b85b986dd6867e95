"""The exceptions that users see, and ``nearest``, which suggests names in their messages."""

import difflib
import signal
from collections.abc import Iterable


class ConfigError(ValueError):
    """A mistake in a config, an option or an input that the user can fix.

    The message is one sentence: the value got, the values allowed, the fix.
    """


class MissingData(ConfigError):
    """The images are not where the config says."""


class CollectiveConfigError(ConfigError):
    """A ConfigError that every process raises together; only rank 0 prints its message."""


class UnreadableImage(Exception):
    """An image cannot be decoded: the file is missing, truncated, damaged or not an image."""


class Stopped(Exception):
    """A signal asked the run to stop.

    Args:
        signum: number of the signal.
        step: last optimizer step that was completed.
        saved: whether the state after that step was saved.

    Attributes:
        exit_code: 128 + ``signum``, as shells report a process that a signal ended.
    """

    def __init__(self, signum: int, step: int, saved: bool = True):
        message = f'stopped by {signal.Signals(signum).name} after step {step}'
        if not saved:
            message += ', which could not be saved'
        super().__init__(message)
        self.exit_code = 128 + signum


class NonFiniteError(FloatingPointError):
    """The loss or the weights became infinite or NaN.

    Attributes:
        step: optimizer step at which the value appeared.
    """

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


def nearest(name: object, allowed: Iterable[str]) -> str:
    """Word the end of an error message: up to three similar names, then all allowed names.

    Args:
        name: the value that was not found.
        allowed: the names that exist.

    Returns:
        "did you mean 'BYOL'? Allowed: BYOL, DCL, ..."; without the question if no name is similar.
    """
    allowed = sorted(map(str, allowed))
    similar = difflib.get_close_matches(str(name), allowed, n=3, cutoff=0.5)
    listing = f'Allowed: {", ".join(allowed) or "nothing"}.'
    if not similar:
        return listing
    return f'did you mean {" or ".join(map(repr, similar))}? {listing}'


def reason(error: Exception) -> str:
    """Return the first line of an exception's message, and the second if the first is a heading.

    torch words a state_dict that does not fit as a heading and a line for each tensor.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return f'{type(error).__name__}, which does not say why'
    if lines[0].endswith(':') and len(lines) > 1:
        return f'{lines[0]} {lines[1]}'
    return lines[0]
