"""Fixtures of the tests of ssl_zoo.data: digits in memory, processes that end with their test."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest

from ssl_zoo.data.sources import Source
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


class NamedSource(Source):
    """Names and labels; in place of an image, its name."""

    def __init__(self, names, labels=None, classes=None):
        self.names = list(names)
        self.classes = classes
        if labels is not None:
            self.labels = np.array(labels, dtype=np.int64)

    def __len__(self):
        return len(self.names)

    def read(self, i):
        return self.names[i]

    def name(self, i):
        return self.names[i]


@pytest.fixture
def named_source():
    """The class of a source of (names, labels, classes) without images: read(i) gives the name."""
    return NamedSource
