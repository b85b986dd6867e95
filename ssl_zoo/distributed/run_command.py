"""Run the function of a command; report an exception as one sentence and an exit code."""

from collections.abc import Callable

import torch
import torch.distributed as dist

from ssl_zoo.distributed.process_group import RankInfo, rank_info
from ssl_zoo.errors import CollectiveConfigError, ConfigError, Stopped
from ssl_zoo.terminal import print_error, printable_output

# Parts of the messages of gloo and NCCL when another process has ended or does not answer.
LOST = (
    'Connection closed by peer',
    'Connection reset',
    'Timed out waiting',
    'NCCL',
    'gloo',
    'Broken pipe',
    'Application timeout',
)


def run_command(function: Callable[[], int], how_to_continue: str) -> int:
    """Call ``function`` and report its exceptions on stderr, each as one sentence.

    Control characters in what the function prints are shown escaped.

    Args:
        function: the command; returns its exit code.
        how_to_continue: text of the message on how to continue after a stop.

    Returns:
        The exit code: that of ``function``; 2 for a mistake that the user can correct, for too
        little memory, and for files that cannot be read or written; 3 for values that are not
        finite; 75 if another process was lost; 128 + n after signal n.
    """
    with printable_output():
        return _run_command(function, how_to_continue)


def _run_command(function: Callable[[], int], how_to_continue: str) -> int:
    info = RankInfo()
    try:
        info = rank_info()
        return function()
    except ConfigError as error:
        _report(info, error, f'error: {error}')
        return 2
    except FloatingPointError as error:
        _report(info, error, f'error: {error}')
        return 3
    except Stopped as stopped:
        notes = getattr(stopped, '__notes__', [how_to_continue])
        _report(info, stopped, '; '.join([str(stopped), *notes]))
        return stopped.exit_code
    except KeyboardInterrupt as error:
        _report(info, error, f'stopped; {how_to_continue}')
        return 130
    except torch.OutOfMemoryError as error:
        _report(
            info,
            error,
            f'error: the device has too little memory ({_first_line(error)}); for a training set '
            f'accumulate=auto and max_device_batch, for an evaluation a smaller --eval-batch-size',
        )
        return 2
    except OSError as error:
        remedy = 'check the folder and its space, or choose another with --work-dir'
        _report(info, error, f'error: {error}; {remedy}')
        return 2
    except RuntimeError as error:
        if info.size == 1 or not _says_process_was_lost(error):
            raise
        _report(
            info,
            error,
            f'error: another process of this run was lost or did not answer '
            f'({_first_line(error)}); {how_to_continue}',
        )
        return 75


def _report(info: RankInfo, error: BaseException, sentence: str) -> None:
    """Print a sentence on stderr; of several processes with the same error only one prints."""
    is_common = isinstance(error, (CollectiveConfigError, FloatingPointError, Stopped))
    if info.rank != 0:
        if is_common:  # all ranks have the error, and rank 0 reports it
            return
        # Before the process group exists, all processes of a machine usually have the same error.
        if info.local_rank != 0 and not dist.is_initialized():
            return
    prefix = f'[process {info.rank}] ' if info.size > 1 and not is_common else ''
    print_error(f'{prefix}{sentence}')


def _says_process_was_lost(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in LOST)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
