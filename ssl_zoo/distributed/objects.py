"""Collectives on Python objects and on functions: gather, broadcast, and errors that all ranks raise together."""

from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from ssl_zoo.distributed.collectives import rank, world_size
from ssl_zoo.errors import CollectiveConfigError, ConfigError
from ssl_zoo.storage.atomic import write_or_raise


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        all_gather_object(None)


def all_gather_object(value) -> list:
    """A plain value of every process, by rank."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_object(value):
    """The plain value of process 0, on all."""
    if world_size() > 1:
        box = [value]
        dist.broadcast_object_list(box, src=0)
        [value] = box
    return value


def raise_together(function: Callable):
    """``function()`` on every process. If it raises ConfigError on one, all raise it: none is left waiting for one that has given up."""
    result = error = None
    try:
        result = function()
    except ConfigError as caught:
        error = caught
    if world_size() == 1:
        if error is not None:
            raise error
        return result
    first = next((text for text in all_gather_object(error and str(error)) if text), None)
    if first:
        raise CollectiveConfigError(first)
    return result


def on_rank0(function: Callable):
    """``function()`` on process 0 alone; its plain value, or its ConfigError, on all."""
    return broadcast_object(raise_together(function if rank() == 0 else lambda: None))


def write_on_rank0(path: Path, write: Callable) -> None:
    """Process 0 writes a file, see ssl_zoo.storage.atomic.keep; all have it, or its error."""
    raise_together(lambda: write_or_raise(path, write) if rank() == 0 else None)
