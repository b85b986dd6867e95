from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.data.crop import crop
from ssl_zoo.data.eval_dataset import EvalDataset
from ssl_zoo.data.loader import eval_loader, train_loader
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.data.stream_sampler import StreamSampler, order_of
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View, sample

VIEWS = [View(20, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, blur_p=0.5), View(12, solarize_p=0.5)]


def batches(workers, start=0, stop=8, seed=3, source=None):
    return list(
        train_loader(ViewDataset(source or Digits('val'), VIEWS, seed), 50, workers, start, stop)
    )


def equal(a, b):
    return (
        all(
            torch.equal(x, y)
            for key in ('views', 'params')
            for x, y in zip(a[key], b[key], strict=True)
        )
        and torch.equal(a['index'], b['index'])
        and a['unreadable'] == b['unreadable']
    )


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
def test_views_are_the_same_for_0_1_and_3_workers():
    reference = batches(0)
    assert [v.shape for v in reference[0]['views']] == [(50, 3, 20, 20), (50, 3, 12, 12)]
    for workers in (1, 3):
        other = batches(workers)
        assert len(other) == len(reference) == 8
        assert all(equal(a, b) for a, b in zip(reference, other, strict=True))


def test_a_run_can_start_at_any_batch():
    reference = batches(0)
    assert all(equal(a, b) for a, b in zip(reference[5:], batches(1, start=5), strict=True))


def test_epochs_see_every_image_once_in_another_order_with_other_views():
    sampler = StreamSampler(
        180, 50, partial(order_of, n=180, seed=3), stop=11
    )  # 550 images: three epochs and a bit
    stream = [key for batch in sampler for key in batch]
    for epoch in range(3):
        part = stream[180 * epoch : 180 * (epoch + 1)]
        assert {e for e, _ in part} == {epoch}
        assert sorted(i for _, i in part) == list(range(180))
    assert [i for _, i in stream[:180]] != [i for _, i in stream[180:360]]
    dataset = ViewDataset(Digits('val'), VIEWS, 3)
    first, second = dataset.__getitems__([(0, 7)]), dataset.__getitems__([(1, 7)])
    assert not torch.equal(first['views'][0], second['views'][0])


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


def test_an_unreadable_image_is_replaced_and_reported(image_folder):
    root = image_folder(classes=2, per_class=4)
    (root / 'class_0' / '2.png').write_bytes(b'broken')
    (root / 'class_0' / '3.png').write_bytes((root / 'class_0' / '1.png').read_bytes()[:60])
    dataset = ViewDataset(ImageFolder(str(root)), VIEWS, 0)
    batch = dataset.__getitems__([(0, 1), (0, 2), (0, 7)])
    assert batch['index'].tolist() == [1, 7, 7]  # 2 is broken and replaced by 7, 5 further on
    assert [i for i, _ in batch['unreadable']] == [2]
    assert 'UnidentifiedImageError' in batch['unreadable'][0][1]
    assert len(batch['views'][0]) == 3


def test_all_unreadable_is_an_error_not_an_endless_search(image_folder):
    root = image_folder(classes=1, per_class=3)
    for file in root.rglob('*.png'):
        file.write_bytes(b'')
    batch = ViewDataset(ImageFolder(str(root)), VIEWS, 0).__getitems__([(0, 0)])
    assert batch['views'] is None and sorted(i for i, _ in batch['unreadable']) == [0, 1, 2]


def test_params_are_those_of_each_view():
    dataset = ViewDataset(Digits('val'), VIEWS, 3)
    batch = dataset.__getitems__([(2, 7), (2, 9)])
    for number, view in enumerate(VIEWS):
        expected = sample(view, number, np.array([2, 2]), np.array([7, 9]), 3)
        assert np.array_equal(batch['params'][number].numpy(), expected)
        for row, i, pixels in zip(expected, (7, 9), batch['views'][number], strict=True):
            crop(dataset.source.pixels(i), [view], row[None], [made := torch.empty_like(pixels)])
            assert torch.equal(pixels, made)


def test_a_very_long_image_does_not_fill_the_memory(image_folder):
    root = image_folder(classes=1, per_class=1)
    Image.new('RGB', (20000, 2), 'red').save(root / 'class_0' / 'long.png')
    [batch] = eval_loader(ImageFolder(str(root)), size=224, resize=256)
    assert batch['pixels'].shape == (2, 3, 224, 224) and batch['pixels'][1, 0].min() > 250


def test_evaluation_resizes_the_short_side_and_cuts_the_centre(image_folder):
    from torchvision import transforms

    rng = np.random.default_rng(0)
    root = image_folder(classes=1, per_class=1)
    Image.fromarray(rng.integers(0, 256, (90, 61, 3), dtype=np.uint8)).save(
        root / 'class_0' / '1.png'
    )
    (root / 'class_0' / '2.png').write_bytes(b'broken')
    source = ImageFolder(str(root))
    [batch] = eval_loader(source, size=28, resize=32)
    reference = transforms.Compose(
        [
            transforms.Resize(32, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(28),
            transforms.PILToTensor(),
        ]
    )
    assert batch['index'].tolist() == [0, 1] and batch['unreadable'][0][0] == 2
    for pixels, i in zip(batch['pixels'], batch['index'].tolist(), strict=True):
        assert torch.equal(pixels, reference(source.read(i)))


def test_evaluation_leaves_images_of_the_right_size_alone():
    source = Digits('val')
    batch = EvalDataset(source, 32, 32).__getitems__([4])
    assert np.array_equal(batch['pixels'][0].numpy().transpose(1, 2, 0), source.images[4])
