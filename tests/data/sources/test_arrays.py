"""Sources in memory: CIFAR and STL-10 from files in their layout, the digits' fixed split."""

import pickle

import numpy as np
import pytest

from ssl_zoo.data.sources import build_source
from ssl_zoo.data.sources.arrays import Digits

pytestmark = pytest.mark.quick


def cifar_batch(n, labels_key, names):
    rng = np.random.default_rng(0)
    return {
        'data': rng.integers(0, 256, (n, 3072), dtype=np.uint8),
        labels_key: [i % len(names) for i in range(n)],
        'filenames': ['x'] * n,
    }


def test_cifar_and_stl_from_files_in_their_layout(tmp_path, monkeypatch):
    """torchvision reads small files in the data sets' layout, without the real files' checksums."""
    from torchvision import datasets

    for cls in (datasets.CIFAR10, datasets.CIFAR100, datasets.STL10):
        monkeypatch.setattr(cls, '_check_integrity', lambda self: True)
    for cls, meta_md5 in ((datasets.CIFAR10, None), (datasets.CIFAR100, None)):
        monkeypatch.setattr(cls, 'meta', {**cls.meta, 'md5': meta_md5})
    folder = tmp_path / 'cifar-10-batches-py'
    folder.mkdir()
    names = [f'c{i}' for i in range(10)]
    for file in (
        'data_batch_1',
        'data_batch_2',
        'data_batch_3',
        'data_batch_4',
        'data_batch_5',
        'test_batch',
    ):
        (folder / file).write_bytes(pickle.dumps(cifar_batch(4, 'labels', names)))
    (folder / 'batches.meta').write_bytes(pickle.dumps({'label_names': names}))
    source = build_source(dict(type='CIFAR10', root=str(tmp_path)))
    assert (
        len(source) == 20 and source.classes == names and source.labels[:4].tolist() == [0, 1, 2, 3]
    )
    expected = cifar_batch(4, 'labels', names)['data'][1].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(np.asarray(source.read(1)), expected)
    assert len(build_source(dict(type='CIFAR10', root=str(tmp_path), split='test'))) == 4

    folder = tmp_path / 'stl10_binary'
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 96, 96), dtype=np.uint8)
    for file in ('train_X.bin', 'test_X.bin', 'unlabeled_X.bin'):
        (folder / file).write_bytes(pixels.tobytes())
    for file in ('train_y.bin', 'test_y.bin'):
        (folder / file).write_bytes(np.array([1, 2, 3, 10, 1, 2], np.uint8).tobytes())
    (folder / 'class_names.txt').write_text('\n'.join(names))
    stl = build_source(dict(type='STL10', root=str(tmp_path)))
    assert stl.labels.tolist() == [0, 1, 2, 9, 0, 1] and stl.read(2).size == (96, 96)
    assert np.array_equal(np.asarray(stl.read(2)), pixels[2].transpose(2, 1, 0))
    for split, n in (('unlabeled', 6), ('train+unlabeled', 12)):
        unlabelled = build_source(dict(type='STL10', root=str(tmp_path), split=split))
        assert len(unlabelled) == n and unlabelled.labels is None


def test_digits_split_is_stratified_and_disjoint():
    parts = {split: Digits(split) for split in ('train', 'val', 'test')}
    assert [len(part) for part in parts.values()] == [1257, 180, 360]
    assert len(np.unique(np.concatenate([part.positions for part in parts.values()]))) == 1797
    for part in parts.values():
        shares = np.bincount(part.labels) / len(part)
        assert shares.min() > 0.085 and shares.max() < 0.115
    assert parts['train'].read(0).size == (32, 32) and parts['train'].read(0).mode == 'RGB'


@pytest.mark.parametrize(
    ('cfg', 'words'),
    [
        (dict(type='CIFAR10'), 'looked for the files of CIFAR10 in .*/none.*download=True'),
        (dict(type='CIFAR100', split='test'), 'looked for the files of CIFAR100'),
        (dict(type='STL10', split='unlabeled'), 'looked for the files of STL10'),
        (dict(type='STL10', split='unlabelled'), "did you mean 'unlabeled'"),
        (dict(type='CIFAR10', split='val'), "split is 'val'"),
    ],
)
def test_missing_files_and_unknown_splits(tmp_path, refusal, cfg, words):
    refusal(dict(root=str(tmp_path / 'none'), **cfg), words)
    assert not (tmp_path / 'none').exists()  # nothing was fetched or made
