"""ResilientLoader under fire: workers that are killed, hang, die again and again; who is left when all is over."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import active_children

import numpy as np
import pytest
import torch

from ssl_zoo.data.loader import train_loader
from ssl_zoo.data.resilient_loader import ResilientLoader
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View
from ssl_zoo.errors import ConfigError

N, BATCH = 24, 20


class Slow(Digits):
    """Digits that take a while; at image ``at`` it does what it is told to, once, or every time where ``mark`` is None."""

    def __init__(self, seconds=0.0, at=None, act=None, mark=None):
        super().__init__('val')
        self.seconds, self.at, self.act, self.mark = seconds, at, act, mark

    def read(self, i):
        time.sleep(self.seconds)
        if i == self.at and not (self.mark and self.mark.exists()):
            if self.mark:
                self.mark.touch()
            self.act()
        return super().read(i)


def feed_of(source, workers=2, timeout=0, first=0, stop=N):
    warnings = []
    dataset = ViewDataset(source, [View(16, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8)], 3)
    return ResilientLoader(
        lambda start: train_loader(dataset, BATCH, workers, start, stop, timeout=timeout),
        first,
        warnings.append,
    ), warnings


def same(batches, reference):
    return len(batches) == len(reference) and all(
        torch.equal(a['index'], b['index'])
        and torch.equal(a['views'][0], b['views'][0])
        and torch.equal(a['params'][0], b['params'][0])
        for a, b in zip(batches, reference, strict=True)
    )


@pytest.fixture(scope='module')
def reference():
    feed, _ = feed_of(Digits('val'), 0)
    return [feed.next() for _ in range(N)]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    """Deaf to all that Python would hear."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
    time.sleep(1000)


def gone(pids, seconds):
    """Whether the processes end within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        alive = [
            pid
            for pid in pids
            if os.path.exists(f'/proc/{pid}') and open(f'/proc/{pid}/stat').read().split()[2] != 'Z'
        ]
        if not alive:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize('seed', range(3))
def test_workers_killed_at_random_moments_cost_no_batch(reference, seed):
    feed, warnings = feed_of(Slow(0.0004))
    draw, got, kills, stop = random.Random(seed), [], [], threading.Event()

    def kill():
        while not stop.wait(draw.uniform(0.1, 0.4)) and len(kills) < 5:
            workers = list(feed.workers)
            if workers:
                kills.append(draw.choice(workers).pid)
                os.kill(kills[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        while len(got) < N:
            got.append(feed.next())
            deadline = time.monotonic() + 0.02  # a step, in which nothing may be raised
            while time.monotonic() < deadline:
                np.arange(100).sum()
    finally:
        stop.set()
        killer.join()
        feed.close()
    assert same(got, reference) and kills
    assert 1 <= len(warnings) <= 2 * len(kills) and all(
        'starting new workers' in text for text in warnings
    )


def test_a_worker_killed_inside_a_step_raises_nothing_there(reference):
    feed, warnings = feed_of(Slow())
    got = [feed.next()]
    os.kill(next(iter(feed.workers)).pid, signal.SIGKILL)
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    time.sleep(0.2)
    assert not warnings
    got += [feed.next() for _ in range(N - 1)]
    feed.close()
    assert same(got, reference) and len(warnings) == 1 and 'batch 1' in warnings[0]


def test_a_worker_that_hangs_is_replaced_and_does_not_stay(reference, tmp_path):
    at = reference[5]['index'][3].item()
    feed, warnings = feed_of(Slow(at=at, act=hang, mark=tmp_path / 'hung'), timeout=2)
    first, got, started = None, [], time.monotonic()
    while len(got) < N:
        got.append(feed.next())
        first = first or {worker.pid for worker in feed.workers}
    assert time.monotonic() - started < 9, 'the timeout is 2 s'
    feed.close()
    assert same(got, reference) and len(warnings) == 1 and 'timed out after 2' in warnings[0]
    assert gone(first, 1)


def test_workers_that_die_again_and_again_end_with_a_sentence(reference):
    at = reference[3]['index'][0].item()
    feed, warnings = feed_of(Slow(at=at, act=die))
    place = min(k for k, batch in enumerate(reference) if at in batch['index'])
    got = []
    with pytest.raises(
        ConfigError,
        match=r'lost 3 times at batch \d+ \(.*lack of memory: use fewer with workers=.*--resume',
    ):
        while True:
            got.append(feed.next())
    assert len(got) <= place and same(got, reference[: len(got)]) and 2 <= len(warnings) <= 8
    assert not active_children() and signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL


class Odd(Exception):
    pass


@pytest.mark.parametrize(
    ('error', 'workers'),
    [(Odd('odd'), 2), (RuntimeError('DataLoader worker looks odd'), 2), (KeyError('odd'), 0)],
)
def test_an_exception_of_the_data_set_comes_through_and_no_worker_stays(reference, error, workers):
    def act():
        raise error

    at = reference[2]['index'][0].item()
    place = min(k for k, batch in enumerate(reference) if at in batch['index'])
    feed, warnings = feed_of(Slow(at=at, act=act), workers)
    got = [feed.next() for _ in range(place)]
    with pytest.raises(type(error), match='odd') as raised:
        feed.next()
    assert not warnings and same(got, reference[:place])
    feed.close()
    assert raised.value is not None and not active_children()  # though the traceback is still held


def test_a_feed_can_begin_anywhere_and_closed_twice(reference):
    for workers in (0, 2):
        feed, _ = feed_of(Digits('val'), workers, first=7)
        assert same([feed.next() for _ in range(3)], reference[7:10])
        feed.close()
        feed.close()
    assert not active_children()


MAIN = """
import sys, time
sys.path.insert(0, {here!r})
from test_feed import Slow, feed_of
feed, _ = feed_of(Slow(0.001), stop=None)
try:
    feed.next()
    print(*[worker.pid for worker in feed.workers], flush=True)
    while True:
        feed.next()
finally:
    feed.close()
"""


@pytest.mark.parametrize(
    ('how', 'whole_group'), [(signal.SIGKILL, False), (signal.SIGINT, False), (signal.SIGINT, True)]
)
def test_no_worker_outlives_the_main_process(root, how, whole_group):
    process = subprocess.Popen(
        [sys.executable, '-c', MAIN.format(here=str(root / 'tests/data'))],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    (os.killpg if whole_group else os.kill)(process.pid, how)
    _, err = process.communicate(timeout=30)
    assert gone(workers, 8)
    assert (
        'Process' not in err and 'Aborted' not in err
    )  # the main process's KeyboardInterrupt alone
