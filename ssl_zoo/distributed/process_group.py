"""Create the process group from torchrun or SLURM environment variables."""

import os
import re
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from ssl_zoo.errors import ConfigError
from ssl_zoo.terminal import print_error

TIMEOUT = 1800  # seconds that a process waits for another before it fails
SILENCE = 2  # seconds of waiting after which a process says for whom it waits
GRACE = 1  # further seconds, in which torch itself reports a timeout and names its reason

# torchrun's variable -> SLURM's variable of the same meaning. srun sets no address and no port.
SLURM_VARIABLES = dict(
    WORLD_SIZE='SLURM_STEP_NUM_TASKS',
    RANK='SLURM_PROCID',
    LOCAL_RANK='SLURM_LOCALID',
    LOCAL_WORLD_SIZE='SLURM_STEP_TASKS_PER_NODE',
)


@dataclass(frozen=True)
class RankInfo:
    """The position of this process among all processes of a run.

    Attributes:
        rank: index of this process.
        size: number of processes.
        local_rank: index of this process on its machine.
        local_size: number of processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def rank_info() -> RankInfo:
    """Read the rank of this process from the environment variables of torchrun or srun.

    If srun started the processes, torchrun's variables are added to the environment. srun gives no
    address: MASTER_ADDR becomes the first machine of the step, and MASTER_PORT a port that follows
    from the numbers of job and step. Variables that are set already are kept.

    Raises:
        ConfigError: the environment names several processes but lacks their address, or a variable
            is not a number or out of range.
    """
    env = os.environ
    if 'WORLD_SIZE' not in env and _number('SLURM_STEP_NUM_TASKS', 1) > 1:
        _set_from_slurm(env)
    size = _number('WORLD_SIZE', 1)
    if size == 1:
        return RankInfo()
    _check_environment(size)
    return RankInfo(
        rank=_number('RANK', 0),
        size=size,
        local_rank=_number('LOCAL_RANK', 0),
        local_size=max(_number('LOCAL_WORLD_SIZE', 1), 1),
    )


def _set_from_slurm(env: MutableMapping[str, str]) -> None:
    nodes = env.get('SLURM_STEP_NODELIST') or 'localhost'
    first = re.match(r'(\[[^]]*\]|[^\[,])+', nodes)  # node[03-05,9] of node[03-05,9],x
    if not first:
        raise ConfigError(
            f'the environment has SLURM_STEP_NODELIST={nodes}, which names no machine; '
            f'unset it, or start with srun'
        )
    address = re.sub(r'\[(\w*)[^]]*\]', r'\1', first[0])  # node03 of node[03-05,9]
    port = 20000 + (_number('SLURM_JOB_ID', 0) * 7 + _number('SLURM_STEP_ID', 0)) % 20000
    env.setdefault('MASTER_ADDR', address)
    env.setdefault('MASTER_PORT', str(port))
    for name, slurm_name in SLURM_VARIABLES.items():
        if slurm_name in env:
            # SLURM writes tasks per node as 8(x4) or 4,3; the first number belongs to the first
            # machine.
            env[name] = re.sub(r'(?<=\d)[(,].*', '', env[slurm_name])


def _check_environment(size: int) -> None:
    """Raise ConfigError for values with which the processes would wait for each other forever."""
    env = os.environ
    missing = [key for key in ('RANK', 'MASTER_ADDR', 'MASTER_PORT') if not env.get(key)]
    if missing:
        raise ConfigError(
            f'the environment has {_name_of_size(size)}={size} without {", ".join(missing)}, which '
            f'torchrun and srun set too; unset it, or start with torchrun or srun'
        )
    ranges = dict(WORLD_SIZE=(1, 2**31), RANK=(0, size - 1), MASTER_PORT=(1, 65535))
    for key, (smallest, largest) in ranges.items():
        if not smallest <= _number(key, 0) <= largest:
            raise ConfigError(
                f'the environment has {key}={env[key]} and WORLD_SIZE={size}, but {key} must be '
                f'from {smallest} to {largest}; unset both, or start with torchrun or srun'
            )


def _name_of_size(size: int) -> str:
    """Return the variable of the user's environment that gives the number of processes."""
    env = os.environ
    # torchrun may run inside a step of SLURM; it sets a number of its own.
    if env.get('SLURM_STEP_NUM_TASKS') == str(size) and 'TORCHELASTIC_RUN_ID' not in env:
        return 'SLURM_STEP_NUM_TASKS'
    return 'WORLD_SIZE'


def _number(name: str, default: int) -> int:
    """Return an environment variable as a number."""
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ConfigError(
            f'the environment has {name}={text}, which is not a number; unset it, or start with '
            f'torchrun or srun'
        )
    return int(text)


@contextmanager
def process_group(timeout: float = TIMEOUT) -> Iterator[None]:
    """Join the process group if there are several processes: NCCL between GPUs, gloo between CPUs.

    Args:
        timeout: seconds that a process waits for another before it fails.

    Raises:
        ConfigError: the environment is wrong, this process has no GPU, or the processes could not
            connect.
    """
    info = rank_info()
    if info.size == 1:
        yield
        return
    _meet(info, timeout)
    yield
    # Not in a ``finally``: after an error the other processes may wait in another collective.
    dist.destroy_process_group()


def _meet(info: RankInfo, timeout: float) -> None:
    """Create the process group within ``timeout`` seconds, or raise ConfigError.

    A thread creates the group: torch waits without a limit for a peer that accepts a connection
    and does not answer.
    """
    backend = _select_backend(info)
    failures = []

    def init() -> None:
        if 'nccl' in backend:
            torch.cuda.set_device(_gpu_of(info))  # the choice of a GPU holds for one thread
        try:
            dist.init_process_group(
                backend, timeout=timedelta(seconds=timeout), rank=info.rank, world_size=info.size
            )
        except (RuntimeError, ValueError) as error:
            failures.append(error)

    thread = threading.Thread(target=init, name='process group', daemon=True)
    thread.start()
    silence = min(SILENCE, timeout)
    thread.join(silence)
    if thread.is_alive() and info.local_rank == 0:
        print_error(_describe_wait(info, timeout))
    thread.join(timeout + GRACE - silence)
    address = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
    if thread.is_alive():
        others = 'all others' if info.rank == 0 else 'process 0, which listens there, or others'
        raise ConfigError(
            f'process {info.rank} of {info.size} did not meet the others at {address}: it waited '
            f'{timeout:g} s (parallel.timeout) for {others}, and had no answer; check that all '
            f'{info.size} processes run, and that no other program uses this port'
        )
    if failures:
        raise ConfigError(
            f'process {info.rank} of {info.size} did not meet the others at {address}: '
            f'{str(failures[0]).splitlines()[0]}'
        )


def _describe_wait(info: RankInfo, timeout: float) -> str:
    """Say for whom this process waits, where, why, and for how long."""
    env = os.environ
    source = _name_of_size(info.size)
    others = f'the {info.size - 1} others' if info.rank == 0 else 'process 0 and the others'
    return (
        f'process {info.rank} of {info.size} waits at {env["MASTER_ADDR"]}:{env["MASTER_PORT"]} '
        f'for {others}, at most {timeout:g} s (parallel.timeout), because the environment has '
        f'{source}={info.size}; to run one process alone, as in an interactive shell, stop with '
        f'Ctrl-C and start with `env -u {source} python ...`'
    )


def _select_backend(info: RankInfo) -> str:
    """Choose the GPU of this process, if there are GPUs, and return the name of the backend."""
    if not torch.cuda.is_available():
        return 'gloo'
    torch.cuda.set_device(_gpu_of(info))
    return 'cpu:gloo,cuda:nccl'


def _gpu_of(info: RankInfo) -> int:
    """Return the index of the GPU of this process. Raises ConfigError if there is none."""
    gpus = torch.cuda.device_count()
    gpu = info.local_rank
    if gpus == 1 and 'SLURM_PROCID' in os.environ:
        gpu = 0  # SLURM may show each task only its own GPU
    if gpu >= gpus:
        raise ConfigError(
            f'process {info.local_rank} of this machine has no GPU: there are {gpus}; start one '
            f'process per GPU, or hide the GPUs with CUDA_VISIBLE_DEVICES='
        )
    return gpu
