"""Registries: a name in a config finds a class. A wrong name, or a wrong argument, is answered with the nearest right ones.

mmengine's Registry is kept for ``register_module`` and its lazy import of locations. Look-up is stricter than mmengine's:
only names that were registered are found. mmengine would also import and call any dotted path (``os.system``) that a
config, or a config stored in a checkpoint, names.
"""

import traceback

from mmengine.registry import Registry as _Registry

from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.validation import check_arguments


class Registry(_Registry):
    """A named collection of classes, built from dicts with a ``type``."""

    def names(self) -> list[str]:
        """All registered names, the modules that register them imported first."""
        self.import_from_location()
        return sorted(self.module_dict)

    def find(self, name: str):
        """The class registered under ``name``. Raises ConfigError with the nearest names if there is none."""
        if name not in self.names():
            raise ConfigError(
                f'{name!r} is not a registered {self.name}: {nearest(name, self.names())} '
                f'A class of your own needs @register_module() and its file under `imports` in the config, for '
                f'an evaluation under --imports.'
            )
        return self.module_dict[name]

    def create(self, cfg: dict, **arguments):
        """Build ``cfg['type']`` with the other items of ``cfg`` and ``arguments``, checked against its signature."""
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise ConfigError(
                f'a {self.name} is written dict(type=..., ...), got {cfg!r}. '
                f'Types: {", ".join(self.names())}.'
            )
        cls = self.find(cfg['type'])
        arguments = {**{k: v for k, v in cfg.items() if k != 'type'}, **arguments}
        check_arguments(cls, arguments, f'{self.name} {cfg["type"]!r}')
        try:
            return cls(**arguments)
        except ConfigError:
            raise
        except (
            Exception
        ) as error:  # a value that the class cannot work with; where, for who wrote the class
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise ConfigError(
                f'{self.name} {cfg["type"]!r} cannot be built with these values: {type(error).__name__}: {error} '
                f'({place.filename}:{place.lineno})'
            ) from error


METHODS = Registry(
    'method', scope='ssl_zoo', locations=['ssl_zoo.methods', 'ssl_zoo.interop.imported_method']
)
SOURCES = Registry(
    'data set',
    scope='ssl_zoo',
    locations=[
        'ssl_zoo.data.sources.files',
        'ssl_zoo.data.sources.arrays',
        'ssl_zoo.data.sources.shards',
        'ssl_zoo.data.sources.transfer_sets',
    ],
)
OPTIMIZERS = Registry('optimizer', scope='ssl_zoo', locations=['ssl_zoo.optim'])
