"""Read the Python files of a user: configs, studies, and files that register classes.

Each is a program, and its name must say so: YAML and JSON look like data, and mmengine's reader of
YAML runs code that a file names.
"""

import ast
import importlib.util
import sys
import traceback
from pathlib import Path

from mmengine.config import Config

from ssl_zoo.config.builtin_values import to_builtin
from ssl_zoo.config.find import find_config
from ssl_zoo.config.imported import module_name
from ssl_zoo.config.options import apply_option
from ssl_zoo.config.presets import apply_preset
from ssl_zoo.config.settings import Settings, settings_from_dict
from ssl_zoo.errors import ConfigError


def load_config(path: str | Path, options: list[str] | None = None) -> Settings:
    """Read a config file, apply ``key=value`` options, fill in presets, check all keys and values.

    A config is a Python program, and reading it runs it. Variables whose names begin with _ are not
    config keys.

    Args:
        path: the file, or the name of a shipped config, such as 'byol/digits'.
        options: such as 'epochs=300' or 'method.backbone.name=resnet18'; values are Python literals
            or strings.

    Raises:
        ConfigError: the file is missing or cannot be read, or has a key that does not exist or a
            value that is not allowed.
    """
    path = find_config(path)
    cfg = read_program(path, 'config')
    if 'methods' in cfg and 'method' not in cfg:
        raise ConfigError(f'{path} is a study of several methods; run it with tools/study.py')
    for option in options or []:
        apply_option(cfg, option)
    imports = cfg.get('imports', [])
    if not isinstance(imports, list) or not all(isinstance(file, str) for file in imports):
        raise ConfigError(f'imports={imports!r}, but it must be a list of Python files')
    cfg['imports'] = [str((path.parent / file).absolute()) for file in imports]
    for file in cfg['imports']:
        import_file(file)
    return settings_from_dict(apply_preset(cfg))


def read_program(path: Path, kind: str) -> dict:
    """Run a config or a study and return its variables as plain values.

    Variables whose names begin with _ are left out.

    Args:
        path: the file.
        kind: 'config' or 'study', for messages.

    Raises:
        ConfigError: the file, or one that its ``_base_`` names, is not a .py file; the program
            raised an exception.
    """
    try:
        _check_programs(path, kind)
        cfg = to_builtin(Config.fromfile(str(path), import_custom_modules=False).to_dict())
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:  # the program may raise anything, or call sys.exit
        raise ConfigError(
            f'the {kind} {path} cannot be read: {type(error).__name__}: {error}'
        ) from error
    return {key: value for key, value in cfg.items() if not key.startswith('_')}


def _check_programs(path: Path, kind: str) -> None:
    """Check that a config or study, and all that it inherits from, are Python files.

    Raises:
        ConfigError: a file is not a .py file, is missing or inherits from itself.
        SyntaxError, ValueError, OSError: a file cannot be parsed.
    """
    pending: list[tuple[Path, tuple[Path, ...]]] = [(path, ())]  # file, and files that inherit it
    while pending:
        file, heirs = pending.pop()
        _check_suffix(file, kind if not heirs else f'_base_ of {heirs[-1]}')
        if file.resolve() in [heir.resolve() for heir in heirs]:
            raise ConfigError(f'the {kind} {file} inherits from itself by its _base_; correct it')
        pending += [(file.parent / base, (*heirs, file)) for base in _bases_of(file)]


def _bases_of(file: Path) -> list[str]:
    """Return the paths that the ``_base_`` of a config names, relative to its folder."""
    for statement in ast.parse(file.read_text(encoding='utf-8')).body:
        if not isinstance(statement, ast.Assign):
            continue
        target = statement.targets[0]
        if isinstance(target, ast.Name) and target.id == '_base_':
            return _written_out(statement.value, file)
    return []


def _written_out(value: ast.expr, file: Path) -> list[str]:
    try:
        bases = ast.literal_eval(value)
    except ValueError:
        bases = None
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(
            f'the _base_ of {file} is {ast.unparse(value)}, but it must be the path of a .py file, '
            f'or a list of such paths, written out'
        )
    for base in bases:
        if not (file.parent / base).is_file():
            raise ConfigError(
                f'the _base_ of {file} is {base!r}, but there is no such file in its folder; '
                f'correct the path'
            )
    return bases


def _check_suffix(path: Path, kind: str) -> None:
    """Raise ConfigError unless the file is a .py file."""
    if path.suffix != '.py':
        raise ConfigError(
            f'the {kind} {path} is not a .py file; configs, studies and files under imports are '
            f'Python programs; write it as one'
        )


def import_file(file: str) -> None:
    """Import a Python file by its path, once, so that it registers its classes.

    Raises:
        ConfigError: there is no such file, it is not a .py file, or it raised an exception.
    """
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f'imports names {path.absolute()}, but there is no such file')
    _check_suffix(path, 'import')
    name = module_name(path)
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (ConfigError, KeyboardInterrupt)):
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f'{file} cannot be imported: {type(error).__name__}: {error} '
            f'({frame.filename}:{frame.lineno})'
        ) from error
