"""How processes meet: found from what torchrun or SLURM leave in the environment. And how they agree while they run."""
import os
import re
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from .atomic import keep
from .distributed import rank, world_size
from .registry import ConfigError
from .stopping import Stopped

TIMEOUT = 1800                    # seconds after which a process that waits for another gives up


@dataclass(frozen=True)
class Place:
    """Attributes: rank, size: this process and how many there are; local_rank, local_size: the same on its machine."""
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def place() -> Place:
    """This process's place among those started together by torchrun, or by srun, which leaves no address to meet at: that is the first
    machine's, at a port that follows from the job's number (MASTER_ADDR and MASTER_PORT are kept if they are set).

    Raises:
        ConfigError: an environment that names several processes and not where they meet.
    """
    env = os.environ
    if 'WORLD_SIZE' not in env and _number('SLURM_STEP_NUM_TASKS', 1) > 1:
        nodes = env.get('SLURM_STEP_NODELIST') or 'localhost'
        first = re.match(r'(\[[^]]*\]|[^\[,])+', nodes)                  # node[03-05,9] of node[03-05,9],x
        if not first:
            raise ConfigError(f'the environment has SLURM_STEP_NODELIST={nodes}, which names no machine; unset it, or start with srun')
        env.setdefault('MASTER_ADDR', re.sub(r'\[(\w*)[^]]*\]', r'\1', first[0]))
        env.setdefault('MASTER_PORT', str(20000 + (_number('SLURM_JOB_ID', 0) * 7 + _number('SLURM_STEP_ID', 0)) % 20000))
        for name, slurm in (('WORLD_SIZE', 'SLURM_STEP_NUM_TASKS'), ('RANK', 'SLURM_PROCID'), ('LOCAL_RANK', 'SLURM_LOCALID'),
                            ('LOCAL_WORLD_SIZE', 'SLURM_STEP_TASKS_PER_NODE')):
            if slurm in env:
                env[name] = re.sub(r'(?<=\d)[(,].*', '', env[slurm])     # tasks per node are written 8(x4)
    size = _number('WORLD_SIZE', 1)
    if size == 1:
        return Place()
    missing = [key for key in ('RANK', 'MASTER_ADDR', 'MASTER_PORT') if not env.get(key)]
    if missing:
        raise ConfigError(f'the environment has WORLD_SIZE={size} without {", ".join(missing)}, as torchrun does not leave it; unset it, '
                          f'or start with torchrun or srun')
    for key, least, most in (('WORLD_SIZE', 1, 2 ** 31), ('RANK', 0, size - 1), ('MASTER_PORT', 1, 65535)):     # others wait, or hang
        if not least <= _number(key, 0) <= most:
            raise ConfigError(f'the environment has {key}={env[key]} and WORLD_SIZE={size}, but {key} must be from {least} to {most}; '
                              f'unset both, or start with torchrun or srun')
    return Place(_number('RANK', 0), size, _number('LOCAL_RANK', 0), max(_number('LOCAL_WORLD_SIZE', 1), 1))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ConfigError(f'the environment has {name}={text}, which is not a number; unset it, or start with torchrun or srun')
    return int(text)


@contextmanager
def joined(timeout: float = TIMEOUT):
    """Join the processes that were started together, if there are several: NCCL between GPUs, gloo between CPUs.

    Args:
        timeout: seconds that one waits for another before it gives up with an error.
    """
    here = place()
    if here.size == 1:
        yield
        return
    backend = 'gloo'
    if torch.cuda.is_available():
        gpus = torch.cuda.device_count()
        own = 0 if gpus == 1 and 'SLURM_PROCID' in os.environ else here.local_rank       # SLURM may show each task its own GPU alone
        if own >= gpus:
            raise ConfigError(f'process {here.local_rank} of this machine has no GPU: there are {gpus}; start one '
                              f'process per GPU, or hide the GPUs with CUDA_VISIBLE_DEVICES=')
        torch.cuda.set_device(own)
        backend = 'cpu:gloo,cuda:nccl'
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout), rank=here.rank, world_size=here.size)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f'process {here.rank} of {here.size} did not meet the others at {os.environ["MASTER_ADDR"]}:'
                          f'{os.environ["MASTER_PORT"]}: {str(error).splitlines()[0]}') from None
    yield                                        # after an error there is no leave-taking: the others may be waiting elsewhere
    dist.destroy_process_group()


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        everyones(None)


def everyones(value) -> list:
    """A plain value of every process, by rank."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def first_ones(value):
    """The plain value of process 0, on all."""
    if world_size() > 1:
        box = [value]
        dist.broadcast_object_list(box, src=0)
        [value] = box
    return value


class CommonError(ConfigError):
    """A ConfigError that every process raises; the first tells it."""


def together(function: Callable):
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
    first = next((text for text in everyones(error and str(error)) if text), None)
    if first:
        raise CommonError(first)
    return result


def on_first(function: Callable):
    """``function()`` on process 0 alone; its plain value, or its ConfigError, on all."""
    return first_ones(together(function if rank() == 0 else lambda: None))


def keep_on_first(path: Path, write: Callable) -> None:
    """Process 0 writes a file, see ssl_zoo.atomic.keep; all have it, or its error."""
    together(lambda: keep(path, write) if rank() == 0 else None)


class Counts:
    """Numbers added up over the processes at every step without waiting: what a step reported is read at the next one.

    So all processes learn the same at the same step, which is what they need to stop together. With one process it is known at once.
    """

    def __init__(self, n: int):
        self.sums, self.pending = torch.zeros(n, dtype=torch.int64), None

    def add(self, *numbers: int) -> list[int]:
        """Report numbers; the sums over processes of all that was reported until the step before."""
        if world_size() == 1:
            self.sums += torch.tensor(numbers)
            return self.sums.tolist()
        if self.pending is not None:
            work, tensor = self.pending
            work.wait()
            self.sums += tensor
        tensor = torch.tensor(numbers)
        self.pending = dist.all_reduce(tensor, async_op=True), tensor
        return self.sums.tolist()

    def finish(self) -> list[int]:
        """The sums of all that was reported."""
        if self.pending is not None:
            work, tensor = self.pending
            work.wait()
            self.sums, self.pending = self.sums + tensor, None
        return self.sums.tolist()


LOST = ('Connection closed by peer', 'Connection reset', 'Timed out waiting', 'NCCL', 'gloo', 'Broken pipe', 'Application timeout')


def told(function: Callable[[], int], goes_on: str) -> int:
    """``function()``, its errors told in a sentence. Returns the exit code: function's own, 2 for a mistake that the user can mend, 3 for
    values that are not finite, 75 when another process was lost, 128 + n after signal n.

    Args:
        goes_on: how to continue after a stop.
    """
    here = Place()

    def say(error, code: int, text: str | None = None) -> int:
        common = isinstance(error, (CommonError, FloatingPointError, Stopped))
        # Before they have met, the processes of one machine mostly say the same.
        if here.rank == 0 or not common and (here.local_rank == 0 or dist.is_initialized()):
            who = f'[process {here.rank}] ' if here.size > 1 and not common else ''
            label = '' if isinstance(error, (Stopped, KeyboardInterrupt)) else 'error: '
            print(f'{who}{label}{text or error}', file=sys.stderr, flush=True)
        return code
    try:
        here = place()
        return function()
    except ConfigError as error:
        return say(error, 2)
    except FloatingPointError as error:
        return say(error, 3)
    except Stopped as stopped:
        return say(stopped, stopped.exit_code, '; '.join([str(stopped), *getattr(stopped, '__notes__', [goes_on])]))
    except KeyboardInterrupt as error:
        return say(error, 130, f'stopped; {goes_on}')
    except torch.OutOfMemoryError as error:
        return say(error, 2, f'the device has too little memory ({str(error).splitlines()[0]}); for a training set accumulate=auto and '
                             f'max_device_batch, for an evaluation a smaller --eval-batch-size')
    except OSError as error:
        return say(error, 2, f'{error}; check the folder and its space, or choose another with --work-dir')
    except RuntimeError as error:
        if here.size == 1 or not (isinstance(error, dist.DistError) or any(sign in str(error) for sign in LOST)):
            raise
        return say(error, 75, f'another process of this run was lost or did not answer ({str(error).splitlines()[0]}); {goes_on}')
