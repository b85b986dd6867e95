"""Imports point one way, from the commands down to the errors; the framework imports no method."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

# From the bottom up. A module imports from its own layer and from those before it.
LAYERS = (
    ('errors', 'printable', 'terminal', 'program', '__init__'),
    ('validation', 'storage', 'registry', 'versions'),
    ('distributed', 'progress_bar'),
    (
        'losses',
        'layers',
        'optim',
        'architecture_keys',
        'pretrained',
        'backbones',
        'torchvision_backbones',
        'input_size',
    ),
    ('method', 'data'),
    ('config',),
    ('checkpoint', 'build'),
    ('evaluation', 'sklearn'),
    ('engine',),
    ('evaluation.protocols',),
    ('studies', 'interop'),
    ('reports',),
    ('cli', '__main__'),
)
LAYER_OF = {name: i for i, names in enumerate(LAYERS) for name in names}
ROOT = Path(__file__).parents[1] / 'ssl_zoo'
MODULES = sorted(
    path for path in ROOT.rglob('*.py') if path.relative_to(ROOT).parts[0] not in ('methods',)
)


def layer(module: str) -> int:
    """The layer of a module, given without the package's name."""
    parts = module.split('.')
    for n in (2, 1):
        if '.'.join(parts[:n]) in LAYER_OF:
            return LAYER_OF['.'.join(parts[:n])]
    raise AssertionError(f'{module} is in no layer: add it to LAYERS')


def imported_modules(path: Path) -> set[str]:
    """The modules of the package that a file imports anywhere, without the package's name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('ssl_zoo'):
            assert node.level == 0, f'{path}: a relative import'
            if node.module == 'ssl_zoo':
                names |= {alias.name for alias in node.names if (ROOT / alias.name).exists()}
            else:
                names.add(node.module.removeprefix('ssl_zoo.'))
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.removeprefix('ssl_zoo.')
                for alias in node.names
                if alias.name.startswith('ssl_zoo.')
            }
    return names


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_from_its_own_layer_and_those_below(path):
    module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    upwards = {name for name in imported_modules(path) if layer(name) > layer(module)}
    assert not upwards
    assert not any(name.startswith('methods') for name in imported_modules(path))
