"""Parameters, gradients and optimiser state shared out over the processes (FSDP2), for networks that do not fit on each.

    method = shard(build_method(settings))                   # then the optimizer, then steps through ``method(...)`` as ever
    content = full_state(method.state_dict())               # what an unsharded run has, under the same names
    load_full_state(method, content)

A sharded run computes what DistributedDataParallel does: gradients are averaged over processes. With accumulation they are
averaged after every pass, so that they stay sharded between passes; their sum is the same. Buffers (BatchNorm's statistics,
queues, centres) are each process's own and whole.

What it cannot do: call a part of the method, such as its backbone, outside of ``method(...)``: parameters are whole only there. To
evaluate, load full_state into a method built anew. bf16 by autocast keeps the bf16 copies of whole weights from forward to
backward; in float32 each block's whole weights live for its own pass alone.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ssl_zoo.method import Method


def shard(method: Method, device: torch.device | str | None = None) -> Method:
    """Share out a method's parameters over all processes, in place. To be called before its optimizer is built.

    Blocks of the backbones, those of an EMA network like those of the one it follows, are gathered one by one when they are
    used; the rest (stems, heads, prototypes) for the whole pass. All processes start from the weights and buffers of rank 0, as
    with DistributedDataParallel.

    Args:
        method: on the CPU or the device; whole blocks go to the device one at a time.
        device: what kind the processes compute on, 'cpu' or 'cuda'; None for CUDA where there is one. For 'cuda' each
            process must have set its own.
    Returns:
        The method, its class replaced by a subclass, its parameters DTensors split along their first dimension.
    Raises:
        ValueError: there is no process group, or the method is sharded already.
    """
    kind = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu')).type
    mesh = init_device_mesh(kind, (dist.get_world_size(),))
    if is_sharded(method):
        raise ValueError(f'{type(method).__name__} is sharded already')
    for tensor in (*method.parameters(), *method.buffers()):
        # FSDP takes contiguous parameters only, so those in channels_last go back; images in channels_last stay so.
        whole = tensor.detach().to(kind).contiguous()
        dist.broadcast(whole, src=0)
        tensor.data = whole.to(tensor.device)
    for path, _ in method.networks.values():
        for block in _blocks(method.get_submodule(path)):
            if any(not isinstance(p, DTensor) for p in block.parameters()):
                fully_shard(block, mesh=mesh)
                # FSDP prefetches in the reverse order of forwards, those of an EMA network too, which has no backward.
                block.set_unshard_in_backward(any(p.requires_grad for p in block.parameters()))
    return fully_shard(method, mesh=mesh)


def is_sharded(method: Method) -> bool:
    return any(isinstance(p, DTensor) for p in method.parameters())


def _blocks(network: nn.Module) -> list[nn.Module]:
    """What stands in a Sequential or ModuleList and has parts of its own: the blocks of ResNets and ViTs. Inner ones come first."""
    blocks = [
        child
        for row in network.modules()
        if isinstance(row, (nn.Sequential, nn.ModuleList))
        for child in row.children()
        if next(child.children(), None) is not None
        and not isinstance(child, (nn.ModuleList, nn.ModuleDict))
    ]
    return blocks[::-1]


@torch.no_grad()
def full_state(state):
    """A state_dict of a method or an optimizer with all tensors whole and on the CPU. All processes must call it.

    Args:
        state: tensors and plain values in dicts, lists and tuples.
    Returns:
        The same on every process, but for buffers, which are its own: as with DistributedDataParallel, rank 0's are the run's.
        Like state_dict it shares the memory of what is whole and on the CPU already.
    """
    if isinstance(state, Tensor):
        return (state.full_tensor() if isinstance(state, DTensor) else state).detach().cpu()
    if isinstance(state, dict):
        return {key: full_state(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(full_state(value) for value in state)
    return state


def load_full_state(owner: Method | torch.optim.Optimizer, state: dict) -> None:
    """``owner.load_state_dict(state)``, of which each process keeps its part. No process waits for another.

    Args:
        owner: a method or an optimizer, sharded or not.
        state: of an unsharded run, or from ``full_state``; the same on all processes. It is copied, not kept.
    Raises:
        RuntimeError, ValueError: as load_state_dict, if the state is that of another method or optimizer.
    """
    if isinstance(owner, torch.optim.Optimizer):
        names = [name for group in state['param_groups'] for name in group['params']]
        params = dict(
            zip(names, (p for group in owner.param_groups for p in group['params']), strict=False)
        )  # checked below
        state = {
            **state,
            'state': {
                name: {key: _part(value, params.get(name)) for key, value in values.items()}
                for name, values in state['state'].items()
            },
        }
    else:
        own = owner.state_dict()
        state = {name: _part(value, own.get(name)) for name, value in state.items()}
    owner.load_state_dict(state)


def _part(value, like):
    """A copy of ``value``, of this process's part if ``like`` is a sharded tensor of its shape (an optimizer's step count is not)."""
    if not isinstance(value, Tensor):
        return value
    if isinstance(like, DTensor) and value.shape == like.shape:
        value = distribute_tensor(
            value.detach(), like.device_mesh, like.placements, src_data_rank=None
        )
    return value.clone()  # an optimizer keeps what it gets
