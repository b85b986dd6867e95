"""Collectives on Python objects, and errors that all ranks raise together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch.distributed as dist

from ssl_zoo.distributed.collectives import rank, world_size
from ssl_zoo.errors import CollectiveConfigError, ConfigError
from ssl_zoo.storage.atomic import write_or_raise

T = TypeVar('T')


def barrier() -> None:
    """Wait until all ranks have called this function."""
    if world_size() > 1:
        all_gather_object(None)


def all_gather_object(value: T) -> list[T]:
    """Gather a plain value from every rank; all ranks get the same list, ordered by rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_object(value: T) -> T:
    """Return the plain value of rank 0 on all ranks."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def raise_together(function: Callable[[], T]) -> T:
    """Call a function on every rank; if it raises ConfigError on one rank, all ranks raise.

    So no rank waits for a rank that has failed.

    Raises:
        ConfigError: there is one process; its own error is raised.
        CollectiveConfigError: there are several processes; the message is that of the lowest
            failing rank.
    """
    result = None
    error = None
    try:
        result = function()
    except ConfigError as caught:
        error = caught
    if world_size() == 1:
        if error is not None:
            raise error
        return result
    messages = all_gather_object(None if error is None else str(error))
    first = next((message for message in messages if message), None)
    if first:
        raise CollectiveConfigError(first)
    return result


def on_rank0(function: Callable[[], T]) -> T:
    """Call a function on rank 0; all ranks return its plain value or raise its ConfigError."""
    if rank() == 0:
        return broadcast_object(raise_together(function))
    return broadcast_object(raise_together(lambda: None))


def write_on_rank0(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file on rank 0 with ``write_or_raise``; all ranks wait, or raise its error."""
    raise_together(lambda: write_or_raise(path, write) if rank() == 0 else None)
