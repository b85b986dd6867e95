"""Presets: partial configs for several lengths of training."""

import math

from ssl_zoo.errors import ConfigError


def apply_preset(cfg: dict) -> dict:
    """Fill missing keys of a config from the preset whose epochs are nearest in ratio.

    SimSiam's authors chose BYOL's hyperparameters for other lengths in this way (arXiv 2011.10566,
    footnote 6): 200 and 400 epochs take those for 300, 800 epochs take those for 1000.

    Args:
        cfg: nested dicts; its ``presets`` is a list of dict(epochs=..., ...).

    Returns:
        The config without ``presets``.

    Raises:
        ConfigError: ``presets`` is not such a list.
    """
    cfg = dict(cfg)
    presets = cfg.pop('presets', None)
    if not presets:
        return cfg
    if not isinstance(presets, list):
        raise _not_presets(presets)
    for preset in presets:
        if not isinstance(preset, dict) or not _is_positive(preset.get('epochs')):
            raise _not_presets(preset)
    epochs = cfg.get('epochs')
    if not _is_positive(epochs) or epochs == math.inf:
        return merge(presets[0], cfg)  # a later check reports what is wrong with epochs
    nearest = min(presets, key=lambda preset: abs(math.log(preset['epochs'] / epochs)))
    return merge(nearest, cfg)


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and value > 0


def _not_presets(value: object) -> ConfigError:
    return ConfigError(f'presets holds {value!r}, but it must be a list of dict(epochs=..., ...)')


def merge(below: dict, above: dict) -> dict:
    """Merge two nested dicts; values of ``above`` win."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            value = merge(merged[key], value)
        merged[key] = value
    return merged
