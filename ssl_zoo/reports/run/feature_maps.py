"""Maps of a backbone's features: principal components as colours, and the attention of ViT heads.

Forward hooks read the features; the network does not change.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import eval_mode

LEAST_SIDE = 4  # positions a side: the last map with so many is shown
COLOUR_RANGE = (2, 98)  # percentiles of a component that get the darkest and the lightest colour
STAGES = ('layer4', 'layer3', 'layer2', 'layer1')


@dataclass(frozen=True)
class FeatureMap:
    """Features at the positions of images.

    Attributes:
        values: (N, h, w, C) float32.
        layer: name of the layer, in words.
    """

    values: np.ndarray
    layer: str


@contextmanager
def _outputs(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of modules, by name, in the block."""
    outputs: dict[str, Tensor] = {}

    def collect(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, arguments: object, output: Tensor) -> None:
            outputs[name] = output

        return hook

    hooks = [module.register_forward_hook(collect(name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def feature_map(network: nn.Module, images: Tensor) -> FeatureMap:
    """Return the last feature map of a ResNet, or the patch tokens of a ViT.

    A ResNet's map with fewer than ``LEAST_SIDE`` positions a side shows nothing, as for images of
    32 px; then it is the map of an earlier stage.

    Args:
        network: a ResNet or ViT of timm.
        images: (N, 3, H, W) normalised.

    Raises:
        ConfigError: the network is neither.
    """
    if isinstance(network, ResNet):
        modules = {name: network.get_submodule(name) for name in STAGES}
    elif isinstance(network, VisionTransformer):
        modules = {'norm': network.norm}
    else:
        raise ConfigError(
            f'maps are read from ResNets and ViTs of timm, and this backbone is a '
            f'{type(network).__name__}'
        )
    with torch.no_grad(), eval_mode(network), _outputs(modules) as outputs:
        network(images)
    if isinstance(network, VisionTransformer):
        tokens = outputs['norm'][:, network.num_prefix_tokens :].float().cpu()
        rows, columns = patch_grid(network, images)
        return FeatureMap(tokens.unflatten(1, (rows, columns)).numpy(), 'patch tokens')
    name = next((n for n in STAGES if min(outputs[n].shape[2:]) >= LEAST_SIDE), STAGES[0])
    layer = 'the last feature map' if name == STAGES[0] else f'the feature map of {name}'
    return FeatureMap(outputs[name].permute(0, 2, 3, 1).float().cpu().numpy(), layer)


def patch_grid(network: VisionTransformer, images: Tensor) -> tuple[int, int]:
    """Return the rows and columns of patches of (N, 3, H, W) images."""
    height, width = network.patch_embed.patch_size
    return images.shape[2] // height, images.shape[3] // width


def principal_components(features: np.ndarray) -> np.ndarray:
    """Return the first three principal components of the features at all positions.

    Args:
        features: (N, h, w, C).

    Returns:
        (N, h, w, 3) float64, scores of the components in descending order of variance; zeros for a
        component that does not exist. The sign of a component makes its largest loading positive.
    """
    flat = features.reshape(-1, features.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(0)
    _, singular, directions = np.linalg.svd(flat, full_matrices=False)
    scores = np.zeros((len(flat), 3))
    for number, direction in enumerate(directions[:3]):
        if singular[number] > 1e-9 * max(singular[0], 1e-30):
            sign = np.sign(direction[np.abs(direction).argmax()])
            scores[:, number] = sign * (flat @ direction)
    return scores.reshape(*features.shape[:-1], 3)


def as_colours(scores: np.ndarray) -> np.ndarray:
    """Scale each component over all images to [0, 1]: (N, h, w, 3) -> (N, h, w, 3) float64.

    0 and 1 are the percentiles of ``COLOUR_RANGE``: one position far from the others would leave
    them all in one colour.
    """
    low, high = np.percentile(scores, COLOUR_RANGE, axis=(0, 1, 2))
    span = high - low
    return ((scores - low) / np.where(span > 0, span, 1)).clip(0, 1)


def class_token_attention(network: nn.Module, images: Tensor) -> np.ndarray:
    """Return the attention of the last block's heads from the class token to the patches.

    Args:
        network: a ViT of timm with a class token.
        images: (N, 3, H, W) normalised.

    Returns:
        (N, heads, h, w) float32; the rest of a head's attention, to 1, is to the class token
        and other tokens without a place.

    Raises:
        ConfigError: the network is no ViT with a class token and softmax attention.
    """
    attention = _last_attention(network)
    # The fused kernel gives no attention weights.
    fused = attention.fused_attn
    attention.fused_attn = False
    modules = {'attention': attention.attn_drop}
    try:
        with torch.no_grad(), eval_mode(network), _outputs(modules) as outputs:
            network(images)
    finally:
        attention.fused_attn = fused
    weights = outputs['attention'][:, :, 0, network.num_prefix_tokens :]  # (N, heads, patches)
    return weights.unflatten(2, patch_grid(network, images)).float().cpu().numpy()


def _last_attention(network: nn.Module) -> nn.Module:
    if not isinstance(network, VisionTransformer):
        raise ConfigError(f'a {type(network).__name__} has no attention heads')
    if network.cls_token is None:
        raise ConfigError('this ViT has no class token')
    attention = getattr(network.blocks[-1], 'attn', None)
    if not hasattr(attention, 'fused_attn') or not hasattr(attention, 'attn_drop'):
        raise ConfigError('the blocks of this ViT have no softmax attention as in timm')
    return attention
