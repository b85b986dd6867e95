"""ssl_zoo: self-supervised learning on images, one method file and one config per method.

The names in ``__all__`` are the Python API. Each is imported on first use, which keeps
``import ssl_zoo`` and ``tools/train.py --help`` fast.
"""

from importlib import import_module
from typing import Any

__version__ = '0.1.0'

# Name -> module that defines it.
_MODULES = {
    'METHODS': 'ssl_zoo.registry',
    'SOURCES': 'ssl_zoo.registry',
    'OPTIMIZERS': 'ssl_zoo.registry',
    'Method': 'ssl_zoo.method',
    'load_config': 'ssl_zoo.config.loading',
    'build_trainer': 'ssl_zoo.engine.trainer',
    'build_method': 'ssl_zoo.build',
    'load_method': 'ssl_zoo.build',
    'load_encoder': 'ssl_zoo.evaluation.encoder',
    'extract_features': 'ssl_zoo.evaluation.encoder',
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_MODULES[name]), name)
