"""StreamSampler: every image once in an epoch, another order in the next."""

from functools import partial

import pytest

from ssl_zoo.data.stream_sampler import StreamSampler, order_of

pytestmark = pytest.mark.quick


def test_seeds_give_other_orders():
    a, b = (
        [
            key
            for batch in StreamSampler(180, 50, partial(order_of, n=180, seed=s), stop=3)
            for key in batch
        ]
        for s in (0, 1)
    )
    assert a != b


def test_a_batch_larger_than_the_data_set():
    [batch] = StreamSampler(7, 20, partial(order_of, n=7, seed=0), stop=1)
    assert [e for e, _ in batch] == [0] * 7 + [1] * 7 + [2] * 6


def test_epochs_see_every_image_once_in_another_order():
    sampler = StreamSampler(180, 50, partial(order_of, n=180, seed=3), stop=11)
    stream = [key for batch in sampler for key in batch]  # 550 images: three epochs and 10 images
    for number in range(3):
        epoch = stream[180 * number : 180 * (number + 1)]
        assert {e for e, _ in epoch} == {number}
        assert sorted(i for _, i in epoch) == list(range(180))
    assert [i for _, i in stream[:180]] != [i for _, i in stream[180:360]]
