"""Configs: a file, options on top, presets below, all checked before anything is built."""

import ast
import importlib.util
import math
import sys
import traceback
from dataclasses import fields
from pathlib import Path

from mmengine.config import Config

from ssl_zoo.config.find import find_config
from ssl_zoo.config.settings import Settings, settings_from_dict, to_builtin
from ssl_zoo.errors import ConfigError, nearest


def load_config(path: str | Path, options: list[str] | None = None) -> Settings:
    """Read a config file, apply ``key=value`` options, fill in presets, check every key and value.

    A config is a Python program: reading it runs it. Names in it that begin with _ are its own variables.

    Args:
        path: the file, or the name of a shipped config, such as 'byol/digits'.
        options: such as 'epochs=300' or 'method.backbone.name=resnet18'; values are Python literals or strings.

    Raises:
        ConfigError: a missing file, a key or a value that does not exist or does not fit.
    """
    path = find_config(path)
    cfg = read_program(path, 'config')
    if 'methods' in cfg and 'method' not in cfg:
        raise ConfigError(f'{path} is a study of several methods; run it with tools/study.py')
    for option in options or []:
        apply_option(cfg, option)
    if not isinstance(cfg.get('imports', []), list) or not all(
        isinstance(file, str) for file in cfg.get('imports', [])
    ):
        raise ConfigError(f'imports={cfg["imports"]!r}, but it must be a list of Python files')
    cfg['imports'] = [str((path.parent / file).absolute()) for file in cfg.get('imports', [])]
    for file in cfg['imports']:
        import_file(file)
    return settings_from_dict(_with_preset(cfg))


def read_program(path: Path, what: str) -> dict:
    """The variables that a config or a study ends with, as plain values, without those that begin with _: they are its own.

    Args:
        path: the file; what: what it should be, for the messages.
    """
    try:
        cfg = to_builtin(Config.fromfile(str(path), import_custom_modules=False).to_dict())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it may raise anything, or call sys.exit
        raise ConfigError(
            f'the {what} {path} cannot be read: {type(error).__name__}: {error}'
        ) from error
    return {key: value for key, value in cfg.items() if not key.startswith('_')}


def import_file(file: str) -> None:
    """Import a Python file by its path, once; it registers its classes."""
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f'imports names {path.absolute()}, but there is no such file')
    name = f'ssl_zoo_user.{path.absolute().as_posix()}'
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
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f'{file} cannot be imported: {type(error).__name__}: {error} ({place.filename}:{place.lineno})'
        ) from error


def _with_preset(cfg: dict) -> dict:
    """Fill what the config does not state from the preset whose epochs are nearest in ratio.

    So SimSiam's authors chose BYOL's recipe for other budgets (arXiv 2011.10566, footnote 6): 200 and 400 epochs take the
    one for 300, 800 the one for 1000.
    """
    presets = cfg.pop('presets', None)
    if not presets:
        return cfg
    for preset in presets if isinstance(presets, list) else [presets]:
        if (
            not isinstance(preset, dict)
            or not isinstance(preset.get('epochs'), (int, float))
            or not preset['epochs'] > 0
        ):
            raise ConfigError(
                f'presets holds {preset!r}, but it must be a list of dict(epochs=..., ...)'
            )
    epochs = cfg.get('epochs')
    if not isinstance(epochs, (int, float)) or not 0 < epochs < math.inf:
        return _merge(presets[0], cfg)  # what is wrong with epochs is said when all is checked
    return _merge(min(presets, key=lambda p: abs(math.log(p['epochs'] / epochs))), cfg)


def _merge(below: dict, above: dict) -> dict:
    """Both dicts, nested ones merged, ``above`` winning."""
    out = dict(below)
    for key, value in above.items():
        out[key] = (
            _merge(out[key], value)
            if isinstance(value, dict) and isinstance(out.get(key), dict)
            else value
        )
    return out


def apply_option(cfg: dict, option: str) -> None:
    """Set one ``a.b.0.c=value``; the last key may be new (it is checked later), the ones before must exist."""
    key, equals, text = option.partition('=')
    if not equals or not key:
        raise ConfigError(f'the option {option!r} is not of the form key=value, such as epochs=300')
    try:
        value = ast.literal_eval(text)
    except (
        ValueError,
        SyntaxError,
        TypeError,
        MemoryError,
        RecursionError,
    ):  # TypeError: {[]: 1}; the last two: nested deeply
        value = {'true': True, 'false': False, 'none': None}.get(text.lower(), text)
    *parents, last = key.split('.')
    place, walked = cfg, []
    for name in parents:
        place = _step_into(place, name, walked, option)
        walked.append(name)
    if isinstance(place, list):
        _step_into(place, last, walked, option)
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise ConfigError(
            f'the option {option!r} reaches into {".".join(walked)}={place!r}, which holds no keys'
        )


def _step_into(place, name: str, walked: list[str], option: str):
    where = '.'.join(walked) or 'the config'
    if isinstance(place, list):
        if not (name.isascii() and name.isdigit()) or int(name) >= len(place):
            raise ConfigError(
                f'the option {option!r} names item {name!r} of {where}, which has items 0 to {len(place) - 1}'
            )
        return place[int(name)]
    if not isinstance(place, dict):
        raise ConfigError(
            f'the option {option!r} reaches into {where}={place!r}, which holds no keys'
        )
    if name not in place:
        known = set(place) | ({f.name for f in fields(Settings)} if not walked else set())
        if name in ('schedule', 'online_eval', 'checkpoint', 'parallel') and not walked:
            return place.setdefault(name, {})
        raise ConfigError(
            f'the option {option!r} names {name!r}, which {where} does not have: {nearest(name, known)}'
        )
    return place[name]
