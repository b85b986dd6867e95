"""How processes meet: found from what torchrun or SLURM leave in the environment. And how they agree while they run."""

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from ssl_zoo.errors import ConfigError

TIMEOUT = 1800  # seconds after which a process that waits for another gives up


@dataclass(frozen=True)
class RankInfo:
    """Attributes: rank, size: this process and how many there are; local_rank, local_size: the same on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def rank_info() -> RankInfo:
    """This process's place among those started together by torchrun, or by srun, which leaves no address to meet at: that is the first
    machine's, at a port that follows from the job's number (MASTER_ADDR and MASTER_PORT are kept if they are set).

    Raises:
        ConfigError: an environment that names several processes and not where they meet.
    """
    env = os.environ
    if 'WORLD_SIZE' not in env and _number('SLURM_STEP_NUM_TASKS', 1) > 1:
        nodes = env.get('SLURM_STEP_NODELIST') or 'localhost'
        first = re.match(r'(\[[^]]*\]|[^\[,])+', nodes)  # node[03-05,9] of node[03-05,9],x
        if not first:
            raise ConfigError(
                f'the environment has SLURM_STEP_NODELIST={nodes}, which names no machine; unset it, or start with srun'
            )
        env.setdefault('MASTER_ADDR', re.sub(r'\[(\w*)[^]]*\]', r'\1', first[0]))
        env.setdefault(
            'MASTER_PORT',
            str(20000 + (_number('SLURM_JOB_ID', 0) * 7 + _number('SLURM_STEP_ID', 0)) % 20000),
        )
        for name, slurm in (
            ('WORLD_SIZE', 'SLURM_STEP_NUM_TASKS'),
            ('RANK', 'SLURM_PROCID'),
            ('LOCAL_RANK', 'SLURM_LOCALID'),
            ('LOCAL_WORLD_SIZE', 'SLURM_STEP_TASKS_PER_NODE'),
        ):
            if slurm in env:
                env[name] = re.sub(
                    r'(?<=\d)[(,].*', '', env[slurm]
                )  # tasks per node are written 8(x4)
    size = _number('WORLD_SIZE', 1)
    if size == 1:
        return RankInfo()
    missing = [key for key in ('RANK', 'MASTER_ADDR', 'MASTER_PORT') if not env.get(key)]
    if missing:
        raise ConfigError(
            f'the environment has WORLD_SIZE={size} without {", ".join(missing)}, as torchrun does not leave it; unset it, '
            f'or start with torchrun or srun'
        )
    for key, least, most in (
        ('WORLD_SIZE', 1, 2**31),
        ('RANK', 0, size - 1),
        ('MASTER_PORT', 1, 65535),
    ):  # others wait, or hang
        if not least <= _number(key, 0) <= most:
            raise ConfigError(
                f'the environment has {key}={env[key]} and WORLD_SIZE={size}, but {key} must be from {least} to {most}; '
                f'unset both, or start with torchrun or srun'
            )
    return RankInfo(
        _number('RANK', 0), size, _number('LOCAL_RANK', 0), max(_number('LOCAL_WORLD_SIZE', 1), 1)
    )


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ConfigError(
            f'the environment has {name}={text}, which is not a number; unset it, or start with torchrun or srun'
        )
    return int(text)


@contextmanager
def process_group(timeout: float = TIMEOUT):
    """Join the processes that were started together, if there are several: NCCL between GPUs, gloo between CPUs.

    Args:
        timeout: seconds that one waits for another before it gives up with an error.
    """
    here = rank_info()
    if here.size == 1:
        yield
        return
    backend = 'gloo'
    if torch.cuda.is_available():
        gpus = torch.cuda.device_count()
        own = (
            0 if gpus == 1 and 'SLURM_PROCID' in os.environ else here.local_rank
        )  # SLURM may show each task its own GPU alone
        if own >= gpus:
            raise ConfigError(
                f'process {here.local_rank} of this machine has no GPU: there are {gpus}; start one '
                f'process per GPU, or hide the GPUs with CUDA_VISIBLE_DEVICES='
            )
        torch.cuda.set_device(own)
        backend = 'cpu:gloo,cuda:nccl'
    try:
        dist.init_process_group(
            backend, timeout=timedelta(seconds=timeout), rank=here.rank, world_size=here.size
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f'process {here.rank} of {here.size} did not meet the others at {os.environ["MASTER_ADDR"]}:'
            f'{os.environ["MASTER_PORT"]}: {str(error).splitlines()[0]}'
        ) from None
    yield  # after an error there is no leave-taking: the others may be waiting elsewhere
    dist.destroy_process_group()
