"""Run the function of a command; turn its exceptions into one sentence and an exit code."""

import sys
from collections.abc import Callable

import torch
import torch.distributed as dist

from ssl_zoo.distributed.process_group import RankInfo, rank_info
from ssl_zoo.errors import CollectiveConfigError, ConfigError, Stopped

LOST = (
    'Connection closed by peer',
    'Connection reset',
    'Timed out waiting',
    'NCCL',
    'gloo',
    'Broken pipe',
    'Application timeout',
)


def run_command(function: Callable[[], int], goes_on: str) -> int:
    """``function()``, its errors told in a sentence. Returns the exit code: function's own, 2 for a mistake that the user can mend, 3 for
    values that are not finite, 75 when another process was lost, 128 + n after signal n.

    Args:
        goes_on: how to continue after a stop.
    """
    here = RankInfo()

    def say(error, code: int, text: str | None = None) -> int:
        common = isinstance(error, (CollectiveConfigError, FloatingPointError, Stopped))
        # Before they have met, the processes of one machine mostly say the same.
        if here.rank == 0 or not common and (here.local_rank == 0 or dist.is_initialized()):
            who = f'[process {here.rank}] ' if here.size > 1 and not common else ''
            label = '' if isinstance(error, (Stopped, KeyboardInterrupt)) else 'error: '
            print(f'{who}{label}{text or error}', file=sys.stderr, flush=True)
        return code

    try:
        here = rank_info()
        return function()
    except ConfigError as error:
        return say(error, 2)
    except FloatingPointError as error:
        return say(error, 3)
    except Stopped as stopped:
        return say(
            stopped,
            stopped.exit_code,
            '; '.join([str(stopped), *getattr(stopped, '__notes__', [goes_on])]),
        )
    except KeyboardInterrupt as error:
        return say(error, 130, f'stopped; {goes_on}')
    except torch.OutOfMemoryError as error:
        return say(
            error,
            2,
            f'the device has too little memory ({str(error).splitlines()[0]}); for a training set accumulate=auto and '
            f'max_device_batch, for an evaluation a smaller --eval-batch-size',
        )
    except OSError as error:
        return say(
            error, 2, f'{error}; check the folder and its space, or choose another with --work-dir'
        )
    except RuntimeError as error:
        if here.size == 1 or not (
            isinstance(error, dist.DistError) or any(sign in str(error) for sign in LOST)
        ):
            raise
        return say(
            error,
            75,
            f'another process of this run was lost or did not answer ({str(error).splitlines()[0]}); {goes_on}',
        )
