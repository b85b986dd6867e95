"""The data set's name in the settings that a checkpoint of solo-learn stores."""

from typing import Any

from ssl_zoo.interop.safe_unpickling import InertObject

# Keys below which solo-learn has kept the settings of the data, from the outermost to the innermost
# (main_pretrain.py, solo/args).
NESTED_KEYS = (('cfg', 'extra_args'), ('data',))


def training_set_name(content: dict) -> str:
    """The lower-case name of the training set in Lightning's ``hyper_parameters``, '' if there is
    none as text.

    Older versions of solo-learn store ``dataset`` among the settings themselves; later ones store
    it below ``data``, in mappings of omegaconf.
    """
    settings = [_unwrap(content.get('hyper_parameters'))]
    for keys in NESTED_KEYS:
        settings += [
            _unwrap(mapping[key])
            for mapping in settings
            if isinstance(mapping, dict)
            for key in keys
            if key in mapping
        ]
    for mapping in settings:
        if isinstance(mapping, dict):
            name = _unwrap(mapping.get('dataset'))
            if isinstance(name, str):
                return name.lower()
    return ''


def _unwrap(value: Any) -> Any:
    """The content of an omegaconf container or node (omegaconf/base.py: _content, _val) or of a
    namespace; else the value itself."""
    is_object = isinstance(value, InertObject) and not value
    if not is_object or not isinstance(value.state, dict):
        return value
    for key in ('_content', '_val'):
        if key in value.state:
            return value.state[key]
    return value.state
