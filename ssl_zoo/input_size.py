"""The sizes of images that a backbone takes, and backbones made to take another size.

Networks differ in what they need: a fixed size, a multiple of the patches, a least size. No list of
networks is kept. A dry pass of a copy on the meta device, where tensors have shapes and no numbers,
finds out in tenths of a second and leaves weights and random states as they are.
"""

import copy
from collections.abc import Collection, Hashable
from itertools import chain

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn

from ssl_zoo.errors import ConfigError, reason

IMAGES = 2  # of a dry pass
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
# Where another size is sought: multiples of usual patches and windows, sizes of timm's networks.
STEPS = (4, 7, 8, 14, 16, 32)
USUAL_SIZES = (32, 64, 96, 128, 160, 192, 224, 256, 299, 320, 384, 448, 512)

# Sizes that networks take, by what determines the network: a run builds one several times.
_taken: set[tuple[Hashable, int]] = set()


def size_error(network: nn.Module, size: int, key: Hashable = None) -> str | None:
    """Say why a backbone cannot take RGB images of ``size`` x ``size`` pixels.

    Args:
        network: (B, 3, H, W) -> (B, D). It does not change.
        size: side of the images in pixels.
        key: what determines the network, such as its config: a network with the same key is not
            tried again at a size that it took. None to try it.

    Returns:
        The message of the network; None if it takes the images. A network that is not timm's is
        believed only if it takes another size: it may fail on the CPU for reasons of its own.
    """
    if key is not None and (key, size) in _taken:
        return None
    error = _dry_error(without_numbers(network), size)
    # Networks with tensors that are no buffers, or with decisions that depend on numbers, fail on
    # the meta device alone.
    if error is not None and not _is_on_meta(network):
        error = _error_with_numbers(network, size)
    if error is None and key is not None:
        _taken.add((key, size))
    return error


def _error_with_numbers(network: nn.Module, size: int) -> str | None:
    network = copy.deepcopy(network).eval()
    error = _dry_error(network, size)
    if error is None or type(network).__module__.startswith('timm.'):
        return error
    takes_another = any(_dry_error(network, other) is None for other in USUAL_SIZES)
    return error if takes_another else None


def other_sizes(network: nn.Module, size: int) -> list[int]:
    """Return the nearest sizes that a backbone takes, at most one below and one above ``size``.

    Args:
        network: (B, 3, H, W) -> (B, D). It does not change.
        size: side of the images in pixels, which the network does not take.
    """
    dry = without_numbers(network)
    below = {size // step * step for step in STEPS} - {0, size}
    above = {(size // step + 1) * step for step in STEPS}
    found = []
    for candidates in (sorted(below, reverse=True), sorted(above)):
        found += _first_taken(dry, candidates)
    return found or _first_taken(dry, USUAL_SIZES)


def _first_taken(dry: nn.Module, sizes: Collection[int]) -> list[int]:
    for size in sizes:
        if _dry_error(dry, size) is None:
            return [size]
    return []


def fit_input_size(
    network: nn.Module, size: int, trained: Collection[int], key: Hashable = None
) -> str | None:
    """Make a backbone take images of ``size`` x ``size`` pixels, in place.

    A backbone that takes them stays as it is. Others are changed by timm's ``set_input_size``:
    position embeddings are interpolated, windows and relative positions are scaled.

    Args:
        network: (B, 3, H, W) -> (B, D).
        size: side of the images in pixels.
        trained: sizes of the images that the network was trained on, in pixels.
        key: see size_error.

    Returns:
        The sentence that a figure at this size must carry; None for a network without positions,
        and for a size that it was trained on.

    Raises:
        ConfigError: the network cannot take this size.
    """
    error = size_error(network, size, key)
    if error is None:
        return _dynamic_warning(network, size, trained)
    before = _tokens(network)
    _set_input_size(network, size, trained, error)
    after = _tokens(network)
    if not _has_position_embeddings(network) or before is None or after is None:
        return _warning(f'windows and relative positions were scaled to {size} x {size} px')
    return _interpolation_warning(before, after)


def fitting_copy(network: nn.Module, size: int) -> nn.Module:
    """Return a backbone that takes images of ``size`` x ``size`` pixels: itself, or a copy.

    Raises:
        ConfigError: the network cannot take this size.
    """
    if size_error(network, size) is None:
        return network
    network = copy.deepcopy(network)
    fit_input_size(network, size, ())
    return network


def without_numbers(network: nn.Module) -> nn.Module:
    """Copy a network to the meta device, in eval mode, for dry passes. No number is copied.

    Norm layers of torch and timm, which keep the shape, return their input: half of a dry pass
    would be theirs.
    """
    memo: dict[int, object] = {}
    for tensor in chain(network.parameters(), network.buffers()):
        empty = torch.empty_like(tensor, device='meta')
        if isinstance(tensor, nn.Parameter):
            empty = nn.Parameter(empty, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = empty
    copied = copy.deepcopy(network, memo).eval()
    for layer in copied.modules():
        is_known = type(layer).__module__.startswith(('torch.', 'timm.'))
        if isinstance(layer, NORMS) and is_known:
            layer.forward = _return_input
    return copied


def _return_input(x: Tensor) -> Tensor:
    return x


@torch.no_grad()
def _dry_error(network: nn.Module, size: int) -> str | None:
    """Return the message with which a pass of images of this size fails; None if it does not."""
    first = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    images = torch.zeros(IMAGES, 3, size, size, device=first.device, dtype=first.dtype)
    try:
        with torch.random.fork_rng(devices=[]):
            network(images)
    except Exception as error:  # every network raises its own types
        return reason(error)
    return None


def _is_on_meta(network: nn.Module) -> bool:
    return any(parameter.is_meta for parameter in network.parameters())


def _set_input_size(network: nn.Module, size: int, trained: Collection[int], error: str) -> None:
    """Call timm's ``set_input_size``.

    Raises:
        ConfigError: the network does not take the size.
    """
    remedies = sorted({*other_sizes(network, size), *trained})
    if hasattr(network, 'set_input_size'):
        try:
            with torch.no_grad():
                network.set_input_size(img_size=(size, size))
            remaining_error = size_error(network, size)
        except Exception as raised:  # timm checks few arguments
            remaining_error = reason(raised)
        if remaining_error is None:
            return
        error = remaining_error
    raise ConfigError(
        f'{type(network).__name__} cannot take images of {size} x {size} px ({error}), and timm '
        f'cannot resize it to them; choose data.eval_size={" or ".join(map(str, remedies))}'
    )


def _has_position_embeddings(network: nn.Module) -> bool:
    return isinstance(getattr(network, 'pos_embed', None), Tensor)


def _tokens(network: nn.Module) -> tuple[int, ...] | None:
    """Return the rows and columns of a network's tokens at its own size, None without tokens."""
    return getattr(getattr(network, 'patch_embed', None), 'grid_size', None)


def _dynamic_warning(network: nn.Module, size: int, trained: Collection[int]) -> str | None:
    """Return the warning of a network that interpolates in every pass (``dynamic_img_size``)."""
    is_dynamic = getattr(network, 'dynamic_img_size', False) and _has_position_embeddings(network)
    embed = getattr(network, 'patch_embed', None)
    if size in trained or not trained or not is_dynamic or not isinstance(embed, PatchEmbed):
        return None
    nearest_trained = min(trained, key=lambda each: abs(each - size))
    before = embed.dynamic_feat_size((nearest_trained, nearest_trained))
    return _interpolation_warning(before, embed.dynamic_feat_size((size, size)))


def _interpolation_warning(before: tuple[int, ...], after: tuple[int, ...]) -> str | None:
    if tuple(before) == tuple(after):
        return None
    return _warning(
        f'position embeddings were interpolated from {before[0]} x {before[1]} to {after[0]} x '
        f'{after[1]} tokens'
    )


def _warning(change: str) -> str:
    return f'{change}: the network was not trained at this size'
