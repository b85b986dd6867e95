"""Fixtures of the tests of ssl_zoo.data: digits in memory, processes that end with their test."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from ssl_zoo.data.sources.arrays import Digits


@pytest.fixture(scope='session')
def digits() -> Digits:
    """180 images of 32 px in memory, with labels. Tests do not change them."""
    return Digits('val')


@pytest.fixture
def start_python():
    """Function: start Python in a process group of its own, which is killed when the test ends."""
    processes = []

    def start(*arguments: str, **options) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **options,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
