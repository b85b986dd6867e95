"""What a loss needs of the other processes. With one process every function here is the identity, or nearly so.

A loss is the mean over the process's own anchors (or the same global value on every process), and DistributedDataParallel
averages gradients over processes. For that average to be the gradient on the global batch, the backward of ``gather`` and
``total`` sums over processes.
"""
import os
from contextlib import contextmanager
from datetime import timedelta

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
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone(memory_format=torch.contiguous_format)     # other nodes of the graph may hold the same tensor
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


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


def gather(x: Tensor) -> Tensor:
    """Rows of all processes in the order of their ranks, with gradient: (B, ...) -> (world_size * B, ...)."""
    return _Gather.apply(x) if world_size() > 1 else x


def total(x: Tensor) -> Tensor:
    """Sum over all processes, with gradient; same shape."""
    return _Total.apply(x) if world_size() > 1 else x


def own_rows(n: int, device: torch.device | str | None = None) -> Tensor:
    """Where this process's n rows are after ``gather``: (n,) int64."""
    return torch.arange(n, device=device) + rank() * n


@torch.no_grad()
def shuffled(network, x: Tensor) -> Tensor:
    """``network(x)`` with the images of all processes dealt out anew for the pass, and the outputs brought back.

    MoCo's shuffled BatchNorm (arXiv 1911.05722, sec. 3.3): a key is normalised with other images than its query, so statistics
    cannot tell which belong together. With one process the images change places within the batch.

    Args:
        network: (B, ...) -> (B, D), called without gradient.
        x: (B, ...).
    """
    own = own_rows(len(x), x.device)
    order = torch.randperm(len(x) * world_size()).to(x.device, non_blocking=True)
    if world_size() > 1:
        dist.broadcast(order, src=0)
    out = network(gather(x)[order[own]])
    return gather(out)[order.argsort()[own]]


def own_parts(tensors: list[Tensor]) -> tuple[list[Tensor], dist.ProcessGroup | None]:
    """What this process holds of sharded tensors, for in-place operations on single elements.

    Args:
        tensors: all sharded alike (``engine.sharding``), or none.
    Returns:
        Tensors that share their memory, and the processes that hold the other parts; whole tensors as they are, and None.
    """
    if not tensors or not isinstance(tensors[0], DTensor):
        return tensors, None
    return [tensor.to_local() for tensor in tensors], tensors[0].device_mesh.get_group()


def norms(parts: list[Tensor], group: dist.ProcessGroup | None = None) -> list[Tensor]:
    """Euclidean norms (scalars) of whole tensors, whose other parts the processes of ``group`` hold; None: there are none."""
    own = torch._foreach_norm(parts)
    if group is None:
        return own
    squares = torch.stack(own).square()
    dist.all_reduce(squares, group=group)
    return list(squares.sqrt().unbind())


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def joined():
    """Join the processes that torchrun has started, if it has, to share out work without gradients. Device: the rank's GPU."""
    if int(os.environ.get('WORLD_SIZE') or 1) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count())
    dist.init_process_group('gloo', timeout=timedelta(days=1))       # the others wait for the slowest
    try:
        yield
    finally:
        dist.destroy_process_group()
