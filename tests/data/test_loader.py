"""train_loader: the same views for any number of workers and any first batch."""

import multiprocessing
import pickle
import sys
from types import SimpleNamespace

import pytest
import torch

from ssl_zoo.config.imported import module_name
from ssl_zoo.config.loading import import_file
from ssl_zoo.data import loader as loader_module
from ssl_zoo.data.loader import eval_loader, start_method, train_loader
from ssl_zoo.data.resilient_loader import ResilientLoader
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View
from ssl_zoo.errors import ConfigError

pytestmark = pytest.mark.quick

VIEWS = [View(20, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, blur_p=0.5), View(12, solarize_p=0.5)]


@pytest.fixture
def batches(digits):
    """Function: the batches of a loader with these workers."""

    def load(workers, start=0):
        return list(train_loader(ViewDataset(digits, VIEWS, 3), 50, workers, start, stop=8))

    return load


def assert_equal(batches, expected):
    for ours, theirs in zip(batches, expected, strict=True):
        assert ours['unreadable'] == theirs['unreadable']
        assert torch.equal(ours['index'], theirs['index'])
        for key in ('views', 'params'):
            for a, b in zip(ours[key], theirs[key], strict=True):
                assert torch.equal(a, b)


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
@pytest.mark.parametrize('workers', [1, 3, None])
def test_views_do_not_depend_on_the_workers(batches, workers):
    reference = batches(0)
    assert [view.shape for view in reference[0]['views']] == [(50, 3, 20, 20), (50, 3, 12, 12)]
    assert len(reference) == 8
    assert_equal(batches(workers), reference)


def test_a_run_can_start_at_any_batch(batches):
    assert_equal(batches(1, start=5), batches(0)[5:])


@pytest.fixture
def shared_memory(monkeypatch):
    """Function: let /dev/shm have this number of bytes free."""

    def set_free(free):
        monkeypatch.setattr(
            loader_module.os, 'statvfs', lambda _: SimpleNamespace(f_bavail=free, f_frsize=1)
        )

    return set_free


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
def test_batches_prepared_in_advance_fit_into_shared_memory(digits, shared_memory):
    dataset = ViewDataset(digits, VIEWS, 3)
    batch = 50 * 3 * (20**2 + 12**2)
    for batches, expected in ((100, 4), (13, 4), (12, 3), (4, 1)):
        shared_memory(batches * batch)
        assert train_loader(dataset, 50, 3).prefetch_factor == expected
    shared_memory(4 * batch - 1)
    with pytest.raises(ConfigError, match=r'--shm-size=8g, or take workers=2, workers=0 or'):
        train_loader(dataset, 50, 3)
    with pytest.raises(ConfigError, match=r'3 loader workers need .* of shared memory'):
        eval_loader(digits, 400, 400, 50, workers=3)
    shared_memory(0)
    assert train_loader(dataset, 50, 0).num_workers == 0


def test_a_lack_of_shared_memory_ends_with_a_sentence(digits, monkeypatch):
    def fail(tensor):
        raise RuntimeError('unable to allocate shared memory(shm) for file </torch_1>: No space')

    monkeypatch.setattr(torch.Tensor, 'share_memory_', fail)
    dataset = ViewDataset(digits, VIEWS, 3)
    loader = ResilientLoader(lambda start: train_loader(dataset, 50, 1, start, 8))
    with pytest.raises(
        ConfigError, match='was full at batch 0; .*--shm-size=8g, or take workers=0'
    ):
        loader.next()
    assert not loader.workers


SOURCE = """
import numpy as np
from ssl_zoo.data.sources import Source

class OfAFile(Source):
    def __len__(self):
        return 40
    def pixels(self, i):
        return np.full((8, 8, 3), i, np.uint8)

class NotToBeSent(OfAFile):
    def __init__(self):
        self.function = lambda: 0
"""


def test_objects_of_an_imported_file_can_be_sent_to_a_process_that_has_not_imported_it(tmp_path):
    file = tmp_path / 'my.own%2Esource.py'
    file.write_text(SOURCE)
    import_file(str(file))
    name = module_name(file)
    data = pickle.dumps(sys.modules[name].OfAFile())
    del sys.modules[name]
    assert pickle.loads(data).pixels(3).max() == 3
    assert sys.modules[name].__file__ == str(file)


@pytest.mark.filterwarnings('ignore:Got pickle error')
def test_every_loader_uses_the_start_method_that_was_set(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(multiprocessing, 'get_start_method', lambda allow_none=False: None)
    assert start_method() == 'fork'
    monkeypatch.setattr(multiprocessing, 'get_start_method', lambda allow_none=False: 'spawn')
    loaders = (
        eval_loader(digits, 8, 8, 20, workers=1),
        train_loader(ViewDataset(digits, VIEWS, 3), 20, 1),
    )
    for loader in loaders:
        assert loader.multiprocessing_context.get_start_method() == 'spawn'
    file = tmp_path / 'mine.py'
    file.write_text(SOURCE)
    import_file(str(file))
    source = sys.modules[module_name(file)].NotToBeSent()
    resilient = ResilientLoader(lambda start: eval_loader(source, 8, 8, 20, workers=1))
    with pytest.raises(ConfigError, match="sent to loader workers, .*'spawn'.* take workers=0"):
        resilient.next()
