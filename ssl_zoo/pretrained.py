"""Which tensors of a backbone its pretrained weights do not have.

timm loads without ``strict`` into a network without classifier, and a tensor that the weights lack
keeps its initial value without a word.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from ssl_zoo.errors import ConfigError

SHOWN = 3  # names in a message


class Differences(NamedTuple):
    """Names by which weights and a network differed in ``load_state_dict``.

    Attributes:
        missing: names of the network that the weights do not have.
        unexpected: names of the weights that the network does not have.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


@contextmanager
def recorded_loading() -> Iterator[dict[nn.Module, Differences]]:
    """Record each ``load_state_dict`` of a network that is built in the block.

    Yields:
        The differences of each module that weights were loaded into; filled within the block.
    """
    found: dict[nn.Module, Differences] = {}
    handles: dict[nn.Module, Any] = {}

    def record(module: nn.Module, incompatible: Any) -> None:
        found[module] = Differences(
            tuple(incompatible.missing_keys), tuple(incompatible.unexpected_keys)
        )

    def watch(module: nn.Module, name: str, submodule: nn.Module | None) -> None:
        if module not in handles:
            handles[module] = module.register_load_state_dict_post_hook(record)

    registration = register_module_module_registration_hook(watch)
    try:
        yield found
    finally:
        registration.remove()
        for handle in handles.values():
            handle.remove()


def note_missing(name: str, network: nn.Module, differences: Differences) -> None:
    """Note in ``network.not_pretrained`` the tensors that the pretrained weights do not have.

    Raises:
        ConfigError: they have none of the network's parameters.
    """
    parameters = {key for key, _ in network.named_parameters()}
    # Old weights lack the counters of BatchNorm's batches, which nothing uses.
    missing = [key for key in differences.missing if not key.endswith('num_batches_tracked')]
    if parameters and parameters.issubset(missing):
        names = ', '.join(differences.unexpected[:SHOWN]) or 'no names'
        raise ConfigError(
            f'the pretrained weights have no parameter of {name!r}: they have {names}, and the '
            f'network has {", ".join(missing[:SHOWN])}; give weights of this network'
        )
    network.not_pretrained = tuple(missing)


def random_warnings(method: nn.Module) -> list[str]:
    """Return a warning for each set of tensors that pretrained weights did not have."""
    noted = [getattr(module, 'not_pretrained', ()) for module in method.modules()]
    return [_warning(names) for names in dict.fromkeys(noted) if names]


def _warning(names: tuple[str, ...]) -> str:
    shown = ', '.join(names[:SHOWN])
    if len(names) > SHOWN:
        shown += f' and {len(names) - SHOWN} more'
    return f'the pretrained weights do not have {shown}: these began with their initial values'
