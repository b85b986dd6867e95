"""train_loader: the same views for any number of workers and any first batch."""

import pytest
import torch

from ssl_zoo.data.loader import train_loader
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View

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
