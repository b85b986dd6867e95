"""Find a config or a study: the path of a file, or the name of a shipped one."""

import difflib
from pathlib import Path

from ssl_zoo.errors import ConfigError

PACKAGE = Path(__file__).parents[1]


def shipped_configs() -> Path:
    """Return the folder of the shipped configs: inside the package, or beside it in a clone."""
    installed = PACKAGE / 'configs'
    return installed if installed.is_dir() else PACKAGE.parent / 'configs'


def config_names() -> list[str]:
    """Return the names of the shipped configs, such as 'byol/digits', sorted."""
    return [name for name in _shipped_names() if not name.startswith('studies/')]


def study_names() -> list[str]:
    """Return the names of the shipped studies, such as 'digits', sorted."""
    studies = [name for name in _shipped_names() if name.startswith('studies/')]
    return [name.removeprefix('studies/') for name in studies]


def find_config(path: str | Path) -> Path:
    """Return the file of a config.

    Args:
        path: a file; if there is none, the name of a shipped config: 'byol/digits', or
            'configs/byol/digits.py' as in a clone.

    Raises:
        ConfigError: ``path`` is neither a file nor a shipped config; the message names the nearest
            configs.
    """
    return _find(Path(path), 'config', '', config_names())


def find_study(path: str | Path) -> Path:
    """Return the file of a study.

    Args:
        path: a file; if there is none, the name of a shipped study: 'digits', 'studies/digits', or
            'configs/studies/digits.py' as in a clone.

    Raises:
        ConfigError: ``path`` is neither a file nor a shipped study; the message names the nearest
            studies.
    """
    return _find(Path(path), 'study', 'studies/', study_names())


def _find(path: Path, kind: str, folder: str, names: list[str]) -> Path:
    if path.is_file():
        return path
    name = path.as_posix().removeprefix('configs/').removesuffix('.py')
    for candidate in (f'{folder}{name}', name):
        if candidate in _shipped_names():
            return shipped_configs() / f'{candidate}.py'
    short_name = name.removeprefix(folder)
    nearest_names = difflib.get_close_matches(short_name, names, n=3, cutoff=0.5) or names[:3]
    raise ConfigError(
        f'there is no {kind} at {path.absolute()}; give the path of a .py file, or the name of a '
        f'shipped {kind}, such as {" or ".join(nearest_names)}'
    )


def _shipped_names() -> list[str]:
    folder = shipped_configs()
    files = (file.relative_to(folder).with_suffix('') for file in folder.glob('*/*.py'))
    return sorted(file.as_posix() for file in files if file.parts[0] != '_base_')
