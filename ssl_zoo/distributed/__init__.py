"""Several processes: process group, collectives, synchronised BatchNorm, sharding, signals."""

from ssl_zoo.distributed.collectives import (
    all_gather,
    all_reduce_mean,
    all_reduce_sum,
    broadcast,
    global_norms,
    local_rows,
    local_shards,
    rank,
    world_size,
)

__all__ = [
    'all_gather',
    'all_reduce_mean',
    'all_reduce_sum',
    'broadcast',
    'global_norms',
    'local_rows',
    'local_shards',
    'rank',
    'world_size',
]
