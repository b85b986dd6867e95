"""Registries: a name in a config finds a class. A wrong name, or a wrong argument, is answered with the nearest right ones.

mmengine's Registry is kept for ``register_module`` and its lazy import of locations. Look-up is stricter than mmengine's:
only names that were registered are found. mmengine would also import and call any dotted path (``os.system``) that a
config, or a config stored in a checkpoint, names.
"""
import difflib
import inspect
import traceback
from collections.abc import Iterable

from mmengine.registry import Registry as _Registry


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


def check_arguments(function, given: Iterable[str], where: str) -> None:
    """Raise ConfigError if ``given`` holds a name that ``function`` does not take, or lacks one that it needs."""
    parameters = inspect.signature(function).parameters.values()          # a class has those of its __init__
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
    names = [p.name for p in named]
    for name in given:
        if name not in names and not takes_any:
            raise ConfigError(f'{where} has no argument {name!r}: {nearest(name, names)}')
    missing = [p.name for p in named if p.default is p.empty and p.name not in given]
    if missing:
        raise ConfigError(f'{where} needs {", ".join(map(repr, missing))}. It takes: {", ".join(names)}.')


def need_positive(**values: float) -> None:
    """Raise ConfigError for the first value that is not a number above 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise ConfigError(f'{name}={value!r}, but it must be a number above 0')


def need_share(**values: float) -> None:
    """Raise ConfigError for the first value that is not a number from 0 to 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ConfigError(f'{name}={value!r}, but it must be a number from 0 to 1')


class Registry(_Registry):
    """A named collection of classes, built from dicts with a ``type``."""

    def names(self) -> list[str]:
        """All registered names, the modules that register them imported first."""
        self.import_from_location()
        return sorted(self.module_dict)

    def find(self, name: str):
        """The class registered under ``name``. Raises ConfigError with the nearest names if there is none."""
        if name not in self.names():
            raise ConfigError(f'{name!r} is not a registered {self.name}: {nearest(name, self.names())} '
                              f'A class of your own needs @register_module() and its file under `imports` in the config, for '
                              f'an evaluation under --imports.')
        return self.module_dict[name]

    def create(self, cfg: dict, **arguments):
        """Build ``cfg['type']`` with the other items of ``cfg`` and ``arguments``, checked against its signature."""
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise ConfigError(f'a {self.name} is written dict(type=..., ...), got {cfg!r}. '
                              f'Types: {", ".join(self.names())}.')
        cls = self.find(cfg['type'])
        arguments = {**{k: v for k, v in cfg.items() if k != 'type'}, **arguments}
        check_arguments(cls, arguments, f'{self.name} {cfg["type"]!r}')
        try:
            return cls(**arguments)
        except ConfigError:
            raise
        except Exception as error:                     # a value that the class cannot work with; where, for who wrote the class
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise ConfigError(f'{self.name} {cfg["type"]!r} cannot be built with these values: {type(error).__name__}: {error} '
                              f'({place.filename}:{place.lineno})') from error


METHODS = Registry('method', scope='ssl_zoo', locations=['ssl_zoo.methods', 'ssl_zoo.exchange.imported'])
DATASETS = Registry('data set', scope='ssl_zoo', locations=['ssl_zoo.data.files', 'ssl_zoo.data.arrays', 'ssl_zoo.data.shards',
                                                             'ssl_zoo.data.transfer_sets'])
OPTIMIZERS = Registry('optimizer', scope='ssl_zoo', locations=['ssl_zoo.optim'])
