"""The sentence of a protocol, made from the ``protocol`` and ``chosen`` dicts of a results row.

``row['protocol']`` holds the name of the protocol and every parameter that was fixed before the
evaluation. ``row['chosen']`` holds what a choice on the hold-out found, and what was measured on
the way. Two rows follow the same protocol if their ``protocol`` dicts are equal. Nothing reads the
sentences that this module makes.
"""

from collections.abc import Callable
from math import prod

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.recipes import Setting

# k and temperature of published k-NN values: DINO's (also DINOv2's), and lightly's (that of MoCo's
# CIFAR notebook).
PUBLISHED_KNN = {(20, 0.07): 'as DINO', (200, 0.1): 'as lightly'}


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
        protocol: name and parameters, see the module.
        chosen: what the choice on the hold-out found; None for a sentence without it, as for rows
            that differ in what they chose.

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
        return sentence(protocol, chosen)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f'the protocol {protocol["name"]!r} of the row lacks a field or has a wrong one '
            f'({type(error).__name__}: {error}); evaluate the checkpoint again'
        ) from None


def _any_protocol(protocol: dict, chosen: dict | None) -> str:
    """The sentence of a protocol that another package adds: its fields."""
    fields = {**protocol, **(chosen or {})}
    del fields['name']
    return ', '.join([protocol['name'], *(f'{key} {value}' for key, value in fields.items())])


def _knn(protocol: dict, chosen: dict | None) -> str:
    parts = ['weighted k-NN']
    has_choice = 'candidates' in protocol
    values = {**protocol, **(chosen or {})}
    if has_choice and chosen is None:
        parts.append('k and T chosen')
    else:
        parts.append(f'k={values["k"]}, T={values["temperature"]:g}')
    parts.append(protocol['distance'])
    parts.append(f'bank of {protocol["bank"]:,}')
    index = protocol['index']
    if index is not None:
        recall = 'recall measured' if chosen is None else f'recall {chosen["recall"]:.1f} %'
        parts.append(f'{index["type"]} of {index["clusters"]} clusters, {index["probes"]} probed')
        parts.append(f'{index["bits"]} bits, {recall}')
    if has_choice:
        parts.append(_choice(protocol, chosen))
    else:
        parts.append(PUBLISHED_KNN.get((values['k'], values['temperature']), ''))
    return ', '.join(part for part in parts if part)


def _linear(protocol: dict, chosen: dict | None) -> str:
    return (
        f'frozen encoder, random crops and flips, {protocol["optimizer"]}, '
        f'{_setting(protocol, chosen)}, batch {protocol["batch_size"]}; {_choice(protocol, chosen)}'
    )


def _linear_cached(protocol: dict, chosen: dict | None) -> str:
    return (
        f'features without augmentation, {protocol["optimizer"]}, {_setting(protocol, chosen)}; '
        f'{_choice(protocol, chosen)}'
    )


def _logistic(protocol: dict, chosen: dict | None) -> str:
    values = {**protocol, **(chosen or {})}
    strength = f'{values["strength"]:.3g}' if 'strength' in values else 'chosen'
    return (
        f'logistic regression on {protocol["features"]:,} features without augmentation, '
        f'{protocol["optimizer"]}, strength {strength}; '
        f'{_choice(protocol, chosen, noun="strength", again="fitted")}'
    )


def _logistic_few_labels(protocol: dict, chosen: dict | None) -> str:
    return (
        f'logistic regression on {protocol["labels_per_class"]} labels per class, '
        f'mean of {protocol["draws"]} draws, {protocol["penalty"]}, C={protocol["C"]:g}, '
        f'features {protocol["features"]}'
    )


def _finetune_few_labels(protocol: dict, chosen: dict | None) -> str:
    start = 'from scratch' if protocol['weights'] == 'random weights' else 'fine-tuned'
    sentence = f'{start} on {protocol["labelled"]:,} labels ({protocol["label_set"]})'
    if 'draws' in protocol:
        return f'{sentence}, mean of {protocol["draws"]} draws'
    return (
        f'{sentence}, whole network, {protocol["optimizer"]}, {_setting(protocol, chosen)}, '
        f'batch {protocol["batch_size"]}; {_choice(protocol, chosen)}'
    )


def _finetune(protocol: dict, chosen: dict | None) -> str:
    values = {**protocol, **(chosen or {})}
    setting = 'lr chosen, weight decay chosen'
    if 'lr' in values:
        setting = f'lr {values["lr"]:g}, weight decay {values["weight_decay"]:g}'
    return (
        f'whole network fine-tuned, {protocol["steps"]:,} steps of {protocol["batch_size"]}, '
        f'{protocol["optimizer"]}, {setting}; {_choice(protocol, chosen)}'
    )


def _setting(protocol: dict, chosen: dict | None) -> str:
    """'lr 0.1, weight decay 1e-06, 80 epochs', or 'lr chosen, ...'."""
    values = {**protocol, **(chosen or {})}
    if 'lr' in values:
        return str(Setting(values['lr'], values['weight_decay'], values['epochs']))
    parts = ['lr chosen']
    if any(protocol['candidates']['weight_decay']):
        parts.append('weight decay chosen')
    parts.append('epochs chosen')
    return ', '.join(parts)


def _choice(protocol: dict, chosen: dict | None, noun: str = '', again: str = 'trained') -> str:
    """'chosen of 5 on 40 held-out images (97.50 %), trained again with the hold-out'."""
    if 'candidates' in protocol:
        candidates = prod(len(values) for values in protocol['candidates'].values())
        choice = f'{noun} chosen of {candidates} on {protocol["holdout"]:,} held-out images'.strip()
        if chosen is not None:
            choice += f' ({chosen["holdout_accuracy"]:.2f} %)'
    else:
        choice = f'one {noun or "setting"}'
    if protocol.get('retrain'):
        choice += f', {again} again with the hold-out'
    return choice


SENTENCES: dict[str, Callable[[dict, dict | None], str]] = dict(
    knn=_knn,
    linear=_linear,
    linear_cached=_linear_cached,
    logistic=_logistic,
    logistic_few_labels=_logistic_few_labels,
    finetune=_finetune,
    finetune_few_labels=_finetune_few_labels,
)
