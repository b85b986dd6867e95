"""Run a module as a program that handles Ctrl-C and the end of its parent from its first line on.

This module imports nothing that takes long.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import NoReturn

PARENT = 'SSL_ZOO_PARENT'  # environment variable: the process that this one must not outlive
TORCHRUN = 'TORCHELASTIC_RUN_ID'  # torchrun sets it for its processes
PR_SET_PDEATHSIG = 1  # from linux/prctl.h
IMPORT_SYSTEM = '<frozen importlib._bootstrap>'


def run_program(module: str, arguments: Sequence[str]) -> NoReturn:
    """Import a module, call its function ``main``, and end the process with the exit code.

    Ctrl-C prints no traceback, whenever it comes. ``main`` may handle it as KeyboardInterrupt.

    Args:
        module: name of the module. Its ``main`` takes the arguments and returns an exit code.
        arguments: the arguments.
    """
    end_with_parent()
    # Where Ctrl-C is ignored, as in a background job of a shell script, it stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, on_ctrl_c)
    try:
        exit_code = import_module(module).main(arguments)
    except KeyboardInterrupt:
        print('stopped', file=sys.stderr)
        exit_code = 130
    finally:
        # Python would print a traceback for a KeyboardInterrupt while it shuts down.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(exit_code)


def on_ctrl_c(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; during an import, end the process at once.

    Many libraries turn an exception in their imports into another one, or ignore it.
    """
    if _is_importing(frame):
        with suppress(Exception):
            sys.stdout.flush()
            print('stopped', file=sys.stderr, flush=True)
        os._exit(130)
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False


def end_with_parent() -> None:
    """Let this process get SIGTERM when its parent ends, even if the parent is killed.

    A parent that sets ``PARENT``, and torchrun, ask for this: without them a process would go on
    alone, and another could be started for the same work. A run that gets SIGTERM saves its state.
    Only Linux can do this.
    """
    parent = os.environ.pop(PARENT, None)
    if sys.platform != 'linux' or (parent is None and TORCHRUN not in os.environ):
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if parent is not None and os.getppid() != int(parent):  # it has ended before this call
        os.kill(os.getpid(), signal.SIGTERM)
