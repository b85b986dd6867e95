"""What a loss needs of the other processes. With one process every function here is the identity, or nearly so.

Image i of a global batch is on process i % world_size, and ``gather`` puts rows back into that order: so whatever depends on the
order of a batch (queues, parts of it) is the same on any number of processes.

A loss is the mean over the process's own anchors (or the same global value on every process), and DistributedDataParallel
averages gradients over processes. For that average to be the gradient on the global batch, the backward of ``gather`` and
``total`` sums over processes.
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        parts = [
            torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())
        ]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts, 1).flatten(0, 1)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone(
            memory_format=torch.contiguous_format
        )  # other nodes of the graph may hold the same tensor
        dist.all_reduce(gradient)
        return gradient[rank() :: world_size()]


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


def all_gather(x: Tensor) -> Tensor:
    """Rows of all processes in the order of the global batch, with gradient: (B, ...) -> (world_size * B, ...)."""
    return _Gather.apply(x) if world_size() > 1 else x


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum over all processes, with gradient; same shape."""
    return _Total.apply(x) if world_size() > 1 else x


def local_rows(n: int, device: torch.device | str | None = None) -> Tensor:
    """Where this process's n rows are after ``gather``: (n,) int64."""
    return torch.arange(n, device=device) * world_size() + rank()


def broadcast(x: Tensor) -> Tensor:
    """The tensor of process 0, on all: for random numbers that the processes must share (each has a generator of its own)."""
    if world_size() > 1:
        x = x.contiguous()
        dist.broadcast(x, src=0)
    return x


@torch.no_grad()
def all_reduce_mean(tensors: list[Tensor]) -> None:
    """Every tensor becomes its mean over the processes, in place."""
    if world_size() > 1 and tensors:
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        parts = (flat / world_size()).split([t.numel() for t in tensors])
        torch._foreach_copy_(
            tensors, [part.view_as(t) for part, t in zip(parts, tensors, strict=True)]
        )


def local_shards(tensors: list[Tensor]) -> tuple[list[Tensor], dist.ProcessGroup | None]:
    """What this process holds of sharded tensors, for in-place operations on single elements.

    Args:
        tensors: all sharded alike (``engine.sharding``), or none.
    Returns:
        Tensors that share their memory, and the processes that hold the other parts; whole tensors as they are, and None.
    """
    if not tensors or not isinstance(tensors[0], DTensor):
        return tensors, None
    return [tensor.to_local() for tensor in tensors], tensors[0].device_mesh.get_group()


def global_norms(parts: list[Tensor], group: dist.ProcessGroup | None = None) -> list[Tensor]:
    """Euclidean norms (scalars) of whole tensors, whose other parts the processes of ``group`` hold; None: there are none."""
    own = torch._foreach_norm(parts)
    if group is None:
        return own
    squares = torch.stack(own).square()
    dist.all_reduce(squares, group=group)
    return list(squares.sqrt().unbind())
