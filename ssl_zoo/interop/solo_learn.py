"""Recognise the settings in a solo-learn checkpoint, and find the name of its data set."""

from typing import Any

from ssl_zoo.interop.safe_unpickling import InertObject

# Keys below which solo-learn's versions store the settings of the data, outermost level first
# (main_pretrain.py, solo/args).
NESTED_KEYS = (('cfg', 'extra_args'), ('data',))
# Keys of settings that solo-learn alone has (solo/args/setup.py, solo/methods/base.py). Others'
# settings may have ``method``, ``backbone``, ``dataset`` or ``lr`` as well.
OWN_KEYS = {
    'pretrain_method',
    'method_kwargs',
    'backbone_kwargs',
    'backbone_args',
    'num_large_crops',
    'num_small_crops',
    'classifier_lr',
    'knn_eval',
    'auto_umap',
    'no_channel_last',
    'unique_augs',
    'crop_size_per_aug',
}


def has_own_settings(content: dict) -> bool:
    """Return whether Lightning's ``hyper_parameters`` have a key that solo-learn alone has."""
    return any(OWN_KEYS.intersection(mapping) for mapping in _settings(content))


def training_set_name(content: dict) -> str:
    """Return the lower-case name of the training set in Lightning's ``hyper_parameters``.

    Return '' if there is no name, or it is not text. Older versions of solo-learn store ``dataset``
    at the top level of the settings; later versions store ``dataset`` below ``data``, in mappings
    of omegaconf.
    """
    for mapping in _settings(content):
        name = _unwrap(mapping.get('dataset'))
        if isinstance(name, str):
            return name.lower()
    return ''


def _settings(content: dict) -> list[dict]:
    """Return the mappings of settings in ``hyper_parameters``, outermost level first."""
    settings = [_unwrap(content.get('hyper_parameters'))]
    for keys in NESTED_KEYS:
        settings += [
            _unwrap(mapping[key])
            for mapping in settings
            if isinstance(mapping, dict)
            for key in keys
            if key in mapping
        ]
    return [mapping for mapping in settings if isinstance(mapping, dict)]


def _unwrap(value: Any) -> Any:
    """Return the content of an omegaconf container or node, or of a namespace; else the value.

    Source: omegaconf/base.py (_content, _val).
    """
    is_object = isinstance(value, InertObject) and not value
    if not is_object or not isinstance(value.state, dict):
        return value
    for key in ('_content', '_val'):
        if key in value.state:
            return value.state[key]
    return value.state
