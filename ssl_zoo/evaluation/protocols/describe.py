"""Describe a protocol in a sentence, from the ``protocol`` and ``chosen`` dicts of a results row.

``row['protocol']`` holds the name of the protocol and every parameter that was fixed before the
evaluation. ``row['chosen']`` holds the parameters that were chosen on the hold-out, and other
values measured during the evaluation. Two rows follow the same protocol if their ``protocol``
dicts are equal. The sentences are for people: no code parses them.
"""

from collections.abc import Callable
from math import prod

from ssl_zoo.errors import ConfigError

# (k, temperature) of published k-NN values: DINO's (also DINOv2's), and lightly's (from MoCo's
# CIFAR notebook).
PUBLISHED_KNN = {(20, 0.07): 'as DINO', (200, 0.1): 'as lightly'}
# Protocols that use the labels of all training images unless `label_set` names others.
ALL_LABELS_BY_DEFAULT = ('knn', 'linear', 'linear_cached', 'logistic')


def describe_row(row: dict) -> str:
    """Return the sentence of a row's protocol, '' for a row without protocol.

    Raises:
        ConfigError: the protocol is not a dict of the fields that its name needs.
    """
    if row.get('protocol') is None:
        return ''
    return describe(row['protocol'], row.get('chosen'))


def describe(protocol: dict, chosen: dict | None = None) -> str:
    """Return the sentence of a protocol.

    Args:
        protocol: name and parameters, see the docstring of this module.
        chosen: values of the parameters that were chosen on the hold-out. A value may be missing,
            as for rows that chose different values: the sentence then says that the parameter was
            chosen.

    Raises:
        ConfigError: ``protocol`` is not a dict of the fields that its name needs.
    """
    if not isinstance(protocol, dict) or not isinstance(protocol.get('name'), str):
        raise ConfigError(
            f'the protocol of the row is {protocol!r}, but it must be a dict with a name and '
            f'parameters; evaluate the checkpoint again'
        )
    sentence = SENTENCES.get(protocol['name'], _any_protocol)
    try:
        values = {**protocol, **(chosen or {})}
        return sentence(values) + _labels(values)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigError(
            f'the protocol {protocol["name"]!r} of the row lacks a field or has a wrong one '
            f'({type(error).__name__}: {error}); evaluate the checkpoint again'
        ) from None


# The functions below take one dict that joins ``protocol`` and ``chosen``.


def _labels(values: dict) -> str:
    """Return the labels of a protocol that may have fewer than all, '' for all."""
    if values['name'] not in ALL_LABELS_BY_DEFAULT or 'label_set' not in values:
        return ''
    return f'; {values["labelled"]:,} labels ({values["label_set"]})'


def _any_protocol(values: dict) -> str:
    """Return the sentence of a protocol that another package adds: a list of its fields."""
    fields = [f'{key} {value}' for key, value in values.items() if key != 'name']
    return ', '.join([values['name'], *fields])


def _knn(values: dict) -> str:
    setting = 'k and T chosen'
    if 'k' in values and 'temperature' in values:
        setting = f'k={values["k"]}, T={values["temperature"]:g}'
    parts = ['weighted k-NN', setting, values['distance'], f'bank of {values["bank"]:,}']
    index = values['index']
    if index is not None:
        recall = f'{values["recall"]:.1f} %' if 'recall' in values else 'measured'
        parts.append(f'{index["type"]} of {index["clusters"]} clusters, {index["probes"]} probed')
        parts.append(f'{index["bits"]} bits, recall {recall}')
    if 'candidates' in values:
        parts.append(_choice(values))
    elif (values['k'], values['temperature']) in PUBLISHED_KNN:
        parts.append(PUBLISHED_KNN[values['k'], values['temperature']])
    return ', '.join(parts)


def _linear(values: dict) -> str:
    return (
        f'frozen encoder, random crops and flips, {values["optimizer"]}, {_setting(values)}, '
        f'batch {values["batch_size"]}; {_choice(values)}'
    )


def _linear_cached(values: dict) -> str:
    return (
        f'features without augmentation, {values["optimizer"]}, {_setting(values)}; '
        f'{_choice(values)}'
    )


def _logistic(values: dict) -> str:
    strength = f'{values["strength"]:.3g}' if 'strength' in values else 'chosen'
    return (
        f'logistic regression on {values["features"]:,} features without augmentation, '
        f'{values["optimizer"]}, strength {strength}; '
        f'{_choice(values, noun="strength", again="fitted")}'
    )


def _multi_label(values: dict) -> str:
    strength = f'{values["strength"]:.3g}' if 'strength' in values else 'chosen'
    if 'holdout_map' in values:
        values = dict(values, holdout_accuracy=values['holdout_map'])
    return (
        f'logistic regression for each of {values["classes"]:,} classes on {values["features"]:,} '
        f'features without augmentation, {values["optimizer"]}, strength {strength}; '
        f'{_choice(values, noun="strength", again="fitted")}'
    )


def _logistic_few_labels(values: dict) -> str:
    return (
        f'logistic regression on {values["labels_per_class"]} labels per class, mean of '
        f'{values["draws"]} draws, {values["penalty"]}, C={values["C"]:g}, '
        f'features {values["features"]}'
    )


def _finetune_few_labels(values: dict) -> str:
    start = 'from scratch' if values['weights'] == 'random weights' else 'fine-tuned'
    labels = f'{start} on {values["labelled"]:,} labels ({values["label_set"]})'
    if 'draws' in values:
        return f'{labels}, mean of {values["draws"]} draws'
    return (
        f'{labels}, whole network, {values["optimizer"]}, {_setting(values)}, '
        f'batch {values["batch_size"]}; {_choice(values)}'
    )


def _finetune(values: dict) -> str:
    lr = f'{values["lr"]:g}' if 'lr' in values else 'chosen'
    weight_decay = f'{values["weight_decay"]:g}' if 'weight_decay' in values else 'chosen'
    return (
        f'whole network fine-tuned, {values["steps"]:,} steps of {values["batch_size"]}, '
        f'{values["optimizer"]}, lr {lr}, weight decay {weight_decay}; {_choice(values)}'
    )


def _label_free(values: dict) -> str:
    images = f'{values["images"]:,} images'
    if 'views' in values:
        images = f'{values["views"]} training views of each of {images}'
    others = ('name', 'measure', 'good', 'images', 'views')
    parameters = [f'{key} {value:g}' for key, value in values.items() if key not in others]
    good = f'good: {values["good"]}'
    return ', '.join([f'{values["measure"]} of features of {images}', *parameters, good])


def _setting(values: dict) -> str:
    """Return 'lr 0.1, weight decay 1e-06, 80 epochs', or 'lr chosen, ...'."""
    parts = [f'lr {values["lr"]:g}' if 'lr' in values else 'lr chosen']
    if 'weight_decay' not in values:
        parts.append('weight decay chosen')
    elif values['weight_decay']:
        parts.append(f'weight decay {values["weight_decay"]:g}')
    parts.append(f'{values["epochs"]:g} epochs' if 'epochs' in values else 'epochs chosen')
    return ', '.join(parts)


def _choice(values: dict, noun: str = '', again: str = 'trained') -> str:
    """Return 'chosen of 5 on 40 held-out images (97.50 %), trained again with the hold-out'."""
    choice = f'one {noun or "setting"}'
    if 'candidates' in values:
        candidates = prod(len(options) for options in values['candidates'].values())
        choice = f'{noun} chosen of {candidates} on {values["holdout"]:,} held-out images'.strip()
        if 'holdout_accuracy' in values:
            choice += f' ({values["holdout_accuracy"]:.2f} %)'
    if values.get('retrain'):
        choice += f', {again} again with the hold-out'
    return choice


SENTENCES: dict[str, Callable[[dict], str]] = dict(
    knn=_knn,
    linear=_linear,
    linear_cached=_linear_cached,
    logistic=_logistic,
    multi_label=_multi_label,
    logistic_few_labels=_logistic_few_labels,
    label_free=_label_free,
    finetune=_finetune,
    finetune_few_labels=_finetune_few_labels,
)
