"""ssl_zoo: self-supervised learning on images, one method file and one config per method.

The names below load on first use, so that ``import ssl_zoo`` and ``tools/train.py --help`` stay quick.
"""

from importlib import import_module

__version__ = '0.1.0'

_LAZY = {
    'METHODS': 'ssl_zoo.registry',
    'SOURCES': 'ssl_zoo.registry',
    'OPTIMIZERS': 'ssl_zoo.registry',
    'Method': 'ssl_zoo.method',
    'load_config': 'ssl_zoo.config.loading',
    'build_runner': 'ssl_zoo.engine.runner',
    'build_method': 'ssl_zoo.build',
    'load_method': 'ssl_zoo.build',
}
__all__ = sorted(_LAZY)


def __getattr__(name):
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
