"""ResilientLoader when workers are killed, hang or die repeatedly; no worker outlives it."""

import inspect
import os
import random
import select
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import active_children

import numpy as np
import pytest
import torch

from ssl_zoo.config.settings import Parallel
from ssl_zoo.data import resilient_loader
from ssl_zoo.data.loader import WORKER_TIMEOUT, train_loader
from ssl_zoo.data.resilient_loader import ResilientLoader, WaitStopped
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View
from ssl_zoo.distributed.signals import StopSignals, stop_requested
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Preprocessing, encode_batches
from ssl_zoo.evaluation.labelled_batches import ImageBatches
from ssl_zoo.evaluation.recipes import FINETUNE

BATCHES = 24
BATCH_SIZE = 20
LAST_RESORT = 120  # seconds after which an event that should come counts as missing


class FaultyDigits(Digits):
    """Digits that take `seconds` to read, and call `fault` when image `at` is read.

    With the file `once`, which the fault creates, it is called once, even in several processes.
    """

    def __init__(self, seconds=0.0, at=None, fault=None, once=None):
        super().__init__('val')
        self.seconds = seconds
        self.at = at
        self.fault = fault
        self.once = once

    def read(self, i):
        time.sleep(self.seconds)
        if i == self.at and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            self.fault()
        return super().read(i)


@pytest.fixture
def resilient():
    """Function: make a ResilientLoader and its list of warnings; its workers end with the test."""
    loaders = []

    def make(source, workers=2, timeout=0, first=0, stop=BATCHES):
        warnings = []
        dataset = ViewDataset(source, [View(16, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8)], 3)
        loader = ResilientLoader(
            lambda start: train_loader(dataset, BATCH_SIZE, workers, start, stop, timeout=timeout),
            first,
            warnings.append,
        )
        loaders.append(loader)
        return loader, warnings

    yield make
    for loader in loaders:
        loader.close(lost=True)


@pytest.fixture(scope='module')
def reference():
    """The batches without workers."""
    dataset = ViewDataset(Digits('val'), [View(16, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8)], 3)
    return list(train_loader(dataset, BATCH_SIZE, None, stop=BATCHES))


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for ours, theirs in zip(batches, expected, strict=True):
        assert torch.equal(ours['index'], theirs['index'])
        assert torch.equal(ours['views'][0], theirs['views'][0])
        assert torch.equal(ours['params'][0], theirs['params'][0])


def first_batch_with(image, batches):
    return min(k for k, batch in enumerate(batches) if image in batch['index'])


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def stop_itself():
    os.kill(os.getpid(), signal.SIGSTOP)


def hang():
    """Wait without end, and without the signals that Python would handle."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
    while True:
        signal.pause()


@pytest.mark.parametrize('seed', range(3))
def test_workers_killed_at_random_moments_lose_no_batch(resilient, reference, seed):
    loader, warnings = resilient(FaultyDigits(0.0004))
    rng = random.Random(seed)
    batches = []
    killed = []
    batch_arrived = threading.Event()
    ended = threading.Event()

    def kill_workers():
        # At most one kill after each batch: three at one batch would rightly end the run.
        while len(killed) < 5:
            batch_arrived.wait()
            batch_arrived.clear()
            if ended.wait(rng.uniform(0, 0.05)):
                return
            workers = list(loader.workers)
            if workers:
                pid = rng.choice(workers).pid
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    killer = threading.Thread(target=kill_workers)
    killer.start()
    try:
        while len(batches) < BATCHES:
            batches.append(loader.next())
            batch_arrived.set()
            end_of_step = time.monotonic() + 0.02
            while time.monotonic() < end_of_step:  # a step, in which nothing may be raised
                np.arange(100).sum()
    finally:
        ended.set()
        batch_arrived.set()
        killer.join()
        loader.close()
    assert_same(batches, reference)
    assert killed and 1 <= len(warnings) <= 2 * len(killed)
    assert all('starting new workers' in warning for warning in warnings)


def test_a_worker_killed_inside_a_step_raises_nothing_there(resilient, reference):
    loader, warnings = resilient(FaultyDigits())
    batches = [loader.next()]
    worker = next(iter(loader.workers))
    os.kill(worker.pid, signal.SIGKILL)
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    # Wait for its end, not for its sentinel, which comes earlier; the loader gets the exit status.
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    assert not warnings
    batches += [loader.next() for _ in range(BATCHES - 1)]
    loader.close()
    assert_same(batches, reference)
    assert len(warnings) == 1 and 'batch 1' in warnings[0]


def test_a_worker_that_hangs_is_replaced_and_does_not_stay(resilient, reference, tmp_path):
    image = reference[5]['index'][3].item()
    source = FaultyDigits(at=image, fault=hang, once=tmp_path / 'hung')
    loader, warnings = resilient(source, timeout=4)
    batches = [loader.next()]
    first_workers = set(loader.workers)
    shut_down = loader.batches._shutdown_workers
    alive_at_shutdown = []

    def recorded_shut_down():
        alive_at_shutdown.extend(worker.is_alive() for worker in first_workers)
        shut_down()

    loader.batches._shutdown_workers = recorded_shut_down
    batches += [loader.next() for _ in range(BATCHES - 1)]
    loader.close()
    assert_same(batches, reference)
    assert len(warnings) == 1 and 'timed out after 4' in warnings[0]
    # Killed before torch is asked, which would wait 5 s for each worker.
    assert alive_at_shutdown == [False, False]
    assert not any(worker.is_alive() for worker in first_workers)


def test_workers_that_die_repeatedly_end_with_a_sentence(resilient, reference):
    image = reference[3]['index'][0].item()
    loader, warnings = resilient(FaultyDigits(at=image, fault=die))
    batches = []
    sentence = r'lost 3 times at batch \d+ \(.*lack of memory: use fewer with --workers'
    with pytest.raises(ConfigError, match=sentence):
        while True:
            batches.append(loader.next())
    assert len(batches) <= first_batch_with(image, reference)
    assert_same(batches, reference[: len(batches)])
    assert 2 <= len(warnings) <= 8
    assert not active_children() and signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL


class OddError(Exception):
    pass


@pytest.mark.parametrize(
    ('error', 'workers'),
    [
        (OddError('odd'), 2),
        (RuntimeError('DataLoader worker looks odd'), 2),
        (KeyError('odd'), 0),
    ],
)
def test_an_exception_of_the_source_is_raised_and_no_worker_stays(
    resilient, reference, error, workers
):
    def fault():
        raise error

    image = reference[2]['index'][0].item()
    position = first_batch_with(image, reference)
    loader, warnings = resilient(FaultyDigits(at=image, fault=fault), workers)
    batches = [loader.next() for _ in range(position)]
    with pytest.raises(type(error), match='odd') as raised:
        loader.next()
    assert not warnings
    assert_same(batches, reference[:position])
    loader.close()
    assert raised.value is not None and not active_children()  # though the traceback is still held


@pytest.mark.parametrize('workers', [0, 2])
def test_a_loader_begins_at_any_batch_and_is_closed_twice(resilient, reference, digits, workers):
    loader, _ = resilient(digits, workers, first=7)
    assert_same([loader.next() for _ in range(3)], reference[7:10])
    loader.close()
    loader.close()
    assert not active_children()


# --- Evaluation.

PREPROCESSING = Preprocessing(16, 16, (0.5,) * 3, (0.5,) * 3)


def encode_all(source, workers, **arguments):
    """Positions, and the sum of each image's inputs, in the order of the loader."""
    batches = encode_batches(
        lambda x: x.sum((1, 2, 3)),
        source,
        PREPROCESSING,
        torch.device('cpu'),
        BATCH_SIZE,
        workers,
        **arguments,
    )
    positions, outputs, unreadable = zip(*batches, strict=True)
    assert not any(unreadable) and not active_children()
    return np.concatenate(positions), np.concatenate(outputs)


def train_all(source, workers, **arguments):
    """The same for the images that a classifier trains on, from the middle of an epoch on."""
    batches = ImageBatches(
        source, FINETUNE, PREPROCESSING, 3, workers, torch.device('cpu'), **arguments
    )
    images, labels = zip(*batches.steps(BATCH_SIZE, 3, 14), strict=True)
    assert not active_children()
    return np.concatenate(labels), np.concatenate([x.sum((1, 2, 3)).numpy() for x in images])


@pytest.mark.parametrize('evaluate', [encode_all, train_all])
@pytest.mark.parametrize('fault', [die, stop_itself])
def test_an_evaluation_goes_on_when_a_worker_dies_or_is_stopped(evaluate, fault, tmp_path, capfd):
    expected = evaluate(FaultyDigits(), 0)
    source = FaultyDigits(at=87, fault=fault, once=tmp_path / 'happened')
    arguments = dict(timeout=4) if fault is stop_itself else {}
    found = evaluate(source, 2, **arguments)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(ours, theirs)
    errors = capfd.readouterr().err
    assert (tmp_path / 'happened').exists()
    assert 'warning: batch' in errors and 'starting new workers (1 of 2)' in errors
    assert 'Traceback' not in errors


@pytest.mark.parametrize('evaluate', [encode_all, train_all])
def test_an_evaluation_whose_workers_die_repeatedly_ends_with_a_sentence(evaluate):
    with pytest.raises(ConfigError, match='lost 3 times at batch .*use fewer with --workers$'):
        evaluate(FaultyDigits(at=87, fault=die), 2)
    assert not active_children()


@pytest.mark.parametrize('timeout', [0, LAST_RESORT])
def test_a_stop_signal_ends_the_wait_for_a_batch(resilient, reference, monkeypatch, timeout):
    monkeypatch.setattr(resilient_loader, 'STOP_SECONDS', 0)
    image = reference[0]['index'][0].item()
    loader, warnings = resilient(FaultyDigits(at=image, fault=hang), timeout=timeout)
    signals = StopSignals()
    signals.catch(warnings.append)
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try:
        with pytest.raises(WaitStopped):
            loader.next()
        assert stop_requested() and len(warnings) == 1 and not loader.workers
    finally:
        signals.release()
    assert not stop_requested()


def test_an_evaluation_waits_for_no_batch_longer_than_the_other_processes_wait():
    assert 0 < WORKER_TIMEOUT < Parallel().timeout
    for function in (encode_batches, ImageBatches.__init__):
        assert inspect.signature(function).parameters['timeout'].default == WORKER_TIMEOUT


def test_workers_serve_a_thread_of_the_users_program():
    with ThreadPoolExecutor(1) as threads:
        positions, _ = threads.submit(encode_all, Digits('val'), 1).result()
    assert positions.tolist() == list(range(180))


ENDLESS = """
from ssl_zoo.data.loader import train_loader
from ssl_zoo.data import resilient_loader
from ssl_zoo.data.resilient_loader import ResilientLoader, WaitStopped
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View

dataset = ViewDataset(Digits('val'), [View(16)], 3)
loader = ResilientLoader(lambda start: train_loader(dataset, 20, 2, start), 0, print)
try:
    for _ in range(2):  # a batch of each worker: both have set their signal handlers
        loader.next()
    print(len(loader.workers), flush=True)
    while True:
        loader.next()
finally:
    loader.close()
"""


@pytest.mark.parametrize(
    ('sent', 'to_group'),
    [
        (signal.SIGKILL, False),
        pytest.param(signal.SIGINT, False, marks=pytest.mark.long),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.long),
    ],
)
def test_no_worker_outlives_the_main_process(start_python, root, sent, to_group):
    # The process and its workers hold the writing end; the reading end is at its end of file when
    # the last of them has gone.
    reading, writing = os.pipe()
    process = start_python('-c', ENDLESS, cwd=root, pass_fds=[writing])
    os.close(writing)
    with os.fdopen(reading):
        assert process.stdout.readline() == '2\n'
        assert not select.select([reading], [], [], 0)[0]
        if to_group:
            os.killpg(process.pid, sent)
        else:
            os.kill(process.pid, sent)
        process.wait(LAST_RESORT)
        # Killed, the process cannot end its workers; torch's workers look for it every 5 s.
        # Interrupted, it has ended them before it ends.
        limit = LAST_RESORT if sent == signal.SIGKILL else 0
        assert select.select([reading], [], [], limit)[0], 'a worker outlives the main process'
        assert os.read(reading, 1) == b''
    errors = process.stderr.read()
    # The KeyboardInterrupt of the main process alone.
    assert 'Process' not in errors and 'Aborted' not in errors
