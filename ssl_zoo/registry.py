"""Registries: a config names a class, and its registry finds and builds it.

Registry is mmengine's, with ``register_module`` and lazy import of the modules that register
classes. Its look-up is stricter: only registered names are found. mmengine would also import and
call any dotted path (``os.system``) that a config, or a config stored in a checkpoint, names.
"""

import traceback
from typing import Any

from mmengine.registry import Registry as _Registry

from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.validation import check_arguments, check_texts


class Registry(_Registry):
    """A named collection of classes, built from dicts with a ``type``."""

    def names(self) -> list[str]:
        """Import the modules that register classes, and return all registered names, sorted."""
        self.import_from_location()
        return sorted(self.module_dict)

    def find(self, name: str) -> type[Any]:
        """Return the class registered under ``name``.

        Raises:
            ConfigError: no class has this name; the message lists the nearest names.
        """
        if not isinstance(name, str) or name not in self.names():
            raise ConfigError(
                f'{name!r} is not a registered {self.name}: {nearest(str(name), self.names())} '
                f'A class of your own needs @register_module(), and its file under `imports` in '
                f'the config, for an evaluation under --imports.'
            )
        return self.module_dict[name]

    def create(self, cfg: dict[str, Any], **arguments: Any) -> Any:
        """Build an object of the class that ``cfg['type']`` names.

        Args:
            cfg: 'type', and arguments of the class.
            arguments: further arguments; they replace those of ``cfg`` with the same name.

        Raises:
            ConfigError: ``cfg`` has no 'type', the class is not registered, an argument is unknown
                or missing or a number in place of a text, or the class cannot be built with these
                values.
        """
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise ConfigError(
                f'a {self.name} is written dict(type=..., ...), got {cfg!r}. '
                f'Types: {", ".join(self.names())}.'
            )
        cls = self.find(cfg['type'])
        label = f'{self.name} {cfg["type"]!r}'
        arguments = {**cfg, **arguments}
        del arguments['type']
        check_arguments(cls, arguments, label)
        check_texts(cls, arguments, label)
        try:
            return cls(**arguments)
        except ConfigError:
            raise
        except Exception as error:
            # The exception may not name the wrong value, so the message names the line of code.
            line = traceback.extract_tb(error.__traceback__)[-1]
            raise ConfigError(
                f'{label} cannot be built with these values: {type(error).__name__}: {error} '
                f'({line.filename}:{line.lineno})'
            ) from error


METHODS = Registry(
    'method', scope='ssl_zoo', locations=['ssl_zoo.methods', 'ssl_zoo.interop.imported_method']
)
SOURCES = Registry(
    'source',
    scope='ssl_zoo',
    locations=[
        'ssl_zoo.data.sources.folder',
        'ssl_zoo.data.sources.file_list',
        'ssl_zoo.data.sources.arrays',
        'ssl_zoo.data.sources.shards',
        'ssl_zoo.data.sources.classification_sets',
        'ssl_zoo.data.sources.caltech101',
        'ssl_zoo.data.sources.stanford_cars',
        'ssl_zoo.data.sources.sun397',
        'ssl_zoo.data.sources.voc2007',
    ],
)
BACKBONES = Registry('backbone', scope='ssl_zoo', locations=['ssl_zoo.torchvision_backbones'])
HOOKS = Registry(
    'hook',
    scope='ssl_zoo',
    locations=[
        'ssl_zoo.engine.custom_hooks',
        'ssl_zoo.engine.hooks.race',
        'ssl_zoo.reports.run.page_hook',
    ],
)
WRITERS = Registry('writer', scope='ssl_zoo', locations=['ssl_zoo.engine.writers'])
OPTIMIZERS = Registry('optimizer', scope='ssl_zoo', locations=['ssl_zoo.optim'])
