"""Shard parameters, gradients and optimizer state over ranks (FSDP2), for large networks.

    method = shard(build_method(settings), networks=['online.backbone'])  # then its optimizer
    content = full_state(method.state_dict())  # equals the state_dict of an unsharded run
    load_full_state(method, content)

A sharded run computes what DistributedDataParallel computes: gradients are averaged over ranks.
With accumulation they are averaged after every pass, not only after the last, so that they stay
sharded between passes; the accumulated gradient is the same. Buffers (BatchNorm's statistics,
queues, centres) are not sharded: each rank has its own.

Limit: a part of the model, such as its backbone, cannot be called outside of the model's forward
pass, because only there its parameters are whole. To evaluate, load ``full_state`` into a newly
built model. With bf16 autocast, the bf16 copies of whole weights stay in memory from forward to
backward; in float32 the whole weights of a block exist only while the block is used.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(
    model: nn.Module,
    networks: Iterable[str],
    device: torch.device | str | None = None,
) -> nn.Module:
    """Shard the parameters of a model over all ranks, in place.

    Call it before building the optimizer. Each block of ``networks`` is gathered when it is used;
    the rest of the model (stems, heads, prototypes) is gathered for the whole pass. All ranks
    start from the weights and buffers of rank 0, as with DistributedDataParallel.

    Args:
        model: the model, on the CPU or on the device; whole blocks move to the device one at a
            time.
        networks: paths of its submodules that have blocks, such as 'online.backbone', EMA networks
            included.
        device: type of device that the ranks compute on, 'cpu' or 'cuda'; None for CUDA if it is
            available. For 'cuda' each process must have set its own device.

    Returns:
        The model. Its class is replaced by a subclass; its parameters are DTensors, split along
        their first dimension.

    Raises:
        ValueError: there is no process group, or the model is sharded already.
    """
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    device_type = torch.device(device).type
    mesh = init_device_mesh(device_type, (dist.get_world_size(),))
    if is_sharded(model):
        raise ValueError(f'{type(model).__name__} is sharded already')
    _broadcast_from_rank0(model, device_type)
    for path in networks:
        for block in _blocks(model.get_submodule(path)):
            if any(not isinstance(p, DTensor) for p in block.parameters()):
                fully_shard(block, mesh=mesh)
                # FSDP prefetches in the reverse order of forward passes, also for the blocks of an
                # EMA network, which have no backward pass.
                block.set_unshard_in_backward(any(p.requires_grad for p in block.parameters()))
    return fully_shard(model, mesh=mesh)


def _broadcast_from_rank0(model: nn.Module, device_type: str) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        # FSDP takes contiguous parameters only, so parameters in channels_last become contiguous.
        # Images stay in channels_last.
        whole = tensor.detach().to(device_type).contiguous()
        dist.broadcast(whole, src=0)
        tensor.data = whole.to(tensor.device)


def is_sharded(model: nn.Module) -> bool:
    """Whether any parameter of the model is sharded."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def _blocks(network: nn.Module) -> list[nn.Module]:
    """List the blocks of a ResNet or ViT, inner blocks first.

    A block is a child of a Sequential or ModuleList; it has submodules itself.
    """
    blocks = [
        child
        for container in network.modules()
        if isinstance(container, (nn.Sequential, nn.ModuleList))
        for child in container.children()
        if next(child.children(), None) is not None
        and not isinstance(child, (nn.ModuleList, nn.ModuleDict))
    ]
    return blocks[::-1]


@torch.no_grad()
def full_state(state: Any) -> Any:
    """Make all tensors of a state_dict whole and move them to the CPU. All ranks must call it.

    Args:
        state: state_dict of a model or an optimizer: tensors and plain values in dicts, lists and
            tuples.

    Returns:
        The same state on every rank, except for buffers, which are the rank's own. As with
        DistributedDataParallel, the buffers of the run are those of rank 0. Tensors that are
        already whole and on the CPU share their memory with ``state``.
    """
    if isinstance(state, DTensor):
        return state.full_tensor().detach().cpu()
    if isinstance(state, Tensor):
        return state.detach().cpu()
    if isinstance(state, dict):
        return {key: full_state(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(full_state(value) for value in state)
    return state


def load_full_state(owner: nn.Module | torch.optim.Optimizer, state: dict) -> None:
    """Load a state of whole tensors; each rank keeps its shards. No rank waits for another.

    Args:
        owner: a model or an optimizer, sharded or not.
        state: from an unsharded run or from ``full_state``, the same on all ranks; it is copied.

    Raises:
        RuntimeError, ValueError: as load_state_dict, if the state belongs to another model or
            optimizer.
    """
    if isinstance(owner, torch.optim.Optimizer):
        state = _sharded_optimizer_state(owner, state)
    else:
        own_state = owner.state_dict()
        state = {name: _shard_like(value, own_state.get(name)) for name, value in state.items()}
    owner.load_state_dict(state)


def _sharded_optimizer_state(optimizer: torch.optim.Optimizer, state: dict) -> dict:
    indices = [index for group in state['param_groups'] for index in group['params']]
    params = [p for group in optimizer.param_groups for p in group['params']]
    by_index = dict(zip(indices, params, strict=False))  # load_state_dict checks their number
    tensors = {
        index: {key: _shard_like(value, by_index.get(index)) for key, value in values.items()}
        for index, values in state['state'].items()
    }
    return {**state, 'state': tensors}


def _shard_like(value: Any, like: Tensor | None) -> Any:
    """Copy ``value``; only this rank's shard if ``like`` is a sharded tensor of the same shape.

    The step count of an optimizer has another shape than its parameter, so it is not sharded.
    """
    if not isinstance(value, Tensor):
        return value
    if isinstance(like, DTensor) and value.shape == like.shape:
        value = distribute_tensor(
            value.detach(), like.device_mesh, like.placements, src_data_rank=None
        )
    return value.clone()  # an optimizer keeps the tensors that it is given
