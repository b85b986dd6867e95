"""Collectives on tensors, for losses and optimizers. With one process nothing is communicated.

Image i of a global batch is on rank i % world_size, and ``all_gather`` puts rows back into that
order. So everything that depends on the order of a batch (queues, parts of a batch) does not depend
on the number of processes.

A loss is the mean over the anchors of its rank, or the same global value on every rank, and
DistributedDataParallel averages gradients over ranks. For that average to be the gradient on the
global batch, the backward passes of ``all_gather`` and ``all_reduce_sum`` sum over ranks.
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor


def world_size() -> int:
    """Return the number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the index of this process; 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        parts = [
            torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())
        ]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts, 1).flatten(0, 1)  # row j of rank r becomes row j * world_size + r

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        # all_reduce works on a copy: other nodes of the graph may hold the same tensor.
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[rank() :: world_size()]


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


def all_gather(x: Tensor) -> Tensor:
    """Gather the rows of all ranks in the order of the global batch, with gradient.

    Args:
        x: (B, ...), the same shape on every rank.

    Returns:
        (world_size * B, ...).
    """
    return _AllGather.apply(x) if world_size() > 1 else x


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum a tensor over ranks, with gradient; same shape."""
    return _AllReduceSum.apply(x) if world_size() > 1 else x


def local_rows(n: int, device: torch.device | str | None = None) -> Tensor:
    """Return the positions of this rank's n rows in the result of ``all_gather``: (n,) int64."""
    return torch.arange(n, device=device) * world_size() + rank()


def broadcast(x: Tensor) -> Tensor:
    """Return the tensor of rank 0 on all ranks.

    Use it for random numbers that all ranks must share, because each rank has its own generator.
    """
    if world_size() > 1:
        x = x.contiguous()
        dist.broadcast(x, src=0)
    return x


@torch.no_grad()
def all_reduce_mean(tensors: list[Tensor]) -> None:
    """Replace every tensor by its mean over ranks, in place, in one collective."""
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    means = (flat / world_size()).split([tensor.numel() for tensor in tensors])
    shaped = [mean.view_as(tensor) for tensor, mean in zip(tensors, means, strict=True)]
    torch._foreach_copy_(tensors, shaped)


def local_shards(tensors: list[Tensor]) -> tuple[list[Tensor], dist.ProcessGroup | None]:
    """Return this rank's shards of sharded tensors, for elementwise operations in place.

    Args:
        tensors: all sharded alike (see ``ssl_zoo.distributed.sharding``), or none sharded.

    Returns:
        Tensors that share memory with the shards, and the process group that holds the other
        shards; for tensors that are not sharded the tensors themselves, and None.
    """
    if not tensors or not isinstance(tensors[0], DTensor):
        return tensors, None
    shards = [tensor.to_local() for tensor in tensors]
    return shards, tensors[0].device_mesh.get_group()


def global_norms(shards: list[Tensor], group: dist.ProcessGroup | None = None) -> list[Tensor]:
    """Compute the Euclidean norms (scalars) of whole tensors from their shards.

    Args:
        shards: shards of this rank, see ``local_shards``.
        group: process group that holds the other shards; None if ``shards`` are whole tensors.
    """
    norms = torch._foreach_norm(shards)
    if group is None:
        return norms
    squares = torch.stack(norms).square()
    dist.all_reduce(squares, group=group)
    return list(squares.sqrt().unbind())
