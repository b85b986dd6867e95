"""torchvision's classification networks as backbones: ``dict(type='torchvision', name=...)``."""

import difflib
from typing import Any

import torchvision
from torch import nn

from ssl_zoo.architecture_keys import is_architecture_only
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import BACKBONES

# Arguments that say where weights come from; a file may not set them.
WEIGHTS = ('weights', 'weights_backbone', 'pretrained', 'progress')


@BACKBONES.register_module(name='torchvision')
def torchvision_backbone(name: str, weights: str | None = None, **arguments: Any) -> nn.Module:
    """Build a classification network of torchvision without its last linear layer.

    Layers between the features and that layer stay, such as ConvNeXt's LayerNorm; dropout before it
    is removed.

    Args:
        name: one of torchvision.models.list_models(module=torchvision.models).
        weights: None for random weights, or what torchvision takes, such as 'IMAGENET1K_V1' or
            'DEFAULT'.
        arguments: further arguments of the model.

    Returns:
        (B, 3, H, W) -> (B, embed_dim).

    Raises:
        ConfigError: an unknown name, weights or argument; or a network without a last linear layer.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        similar = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
        hint = f'did you mean {" or ".join(map(repr, similar))}? ' if similar else ''
        raise ConfigError(
            f'{name!r} is not a classification network of torchvision: {hint}'
            f'torchvision.models.list_models(module=torchvision.models) names all'
        )
    if is_architecture_only():
        weights = None
        for key in WEIGHTS:
            if key in arguments:
                raise ConfigError(f'the backbone in the file has {key}, which a file may not set')
    try:
        network = torchvision.models.get_model(name, weights=weights, **arguments)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"torchvision's {name!r} cannot be built: {error}") from None
    width = _remove_classifier(network)
    if width is None:
        raise ConfigError(
            f"torchvision's {name!r} has no linear layer at its end, so it gives no features; "
            f'choose another network'
        )
    network.embed_dim = width
    return network


def _remove_classifier(network: nn.Module) -> int | None:
    """Replace the last linear layer by the identity; return the width of its input.

    The layers of torchvision's networks are registered in the order in which they run, and the
    classifier is the last child.
    """
    *_, (name, last) = network.named_children()
    if isinstance(last, nn.Linear):
        setattr(network, name, nn.Identity())
        return last.in_features
    if not isinstance(last, nn.Sequential) or not len(last) or not isinstance(last[-1], nn.Linear):
        return None
    width = last[-1].in_features
    last[-1] = nn.Identity()
    if len(last) > 1 and isinstance(last[-2], nn.Dropout):
        last[-2] = nn.Identity()
    return width
