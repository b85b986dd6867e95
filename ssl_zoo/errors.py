"""The exceptions that users see, and the part of a message that names the nearest allowed values."""

import difflib
import signal
from collections.abc import Iterable


class ConfigError(ValueError):
    """A mistake in a config, an option or an input that the user can mend. Its text is one sentence that says how."""


class MissingData(ConfigError):
    """Images that are not where the config says."""


def nearest(name: object, allowed: Iterable[str]) -> str:
    """The part of an error message that names what ``name`` may have meant, and what is allowed."""
    allowed = sorted(map(str, allowed))
    close = difflib.get_close_matches(str(name), allowed, n=3, cutoff=0.5)
    hint = f'did you mean {" or ".join(map(repr, close))}? ' if close else ''
    return f'{hint}Allowed: {", ".join(allowed) or "nothing"}.'


class CollectiveConfigError(ConfigError):
    """A ConfigError that every process raises; the first tells it."""


class Stopped(Exception):
    """The run was asked to stop and has saved its state. ``exit_code`` is 128 + the signal's number."""

    def __init__(self, signum: int, step: int, saved: bool = True):
        super().__init__(
            f'stopped by {signal.Signals(signum).name} after step {step}{"" if saved else ", which could not be saved"}'
        )
        self.exit_code = 128 + signum


class NonFiniteError(FloatingPointError):
    """A loss or weights that are not finite. ``step`` is where they were met."""

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class UnreadableImage(Exception):
    """An image that could not be decoded: not an image, truncated, damaged, gone."""
