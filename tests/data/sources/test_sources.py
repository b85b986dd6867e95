import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.data.crop import crop
from ssl_zoo.data.sources import Source, Subset, balanced_order, build_source
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.data.sources.file_list import FileList
from ssl_zoo.data.sources.folder import ImageFolder, Images
from ssl_zoo.data.splits import hold_out
from ssl_zoo.data.views import View, sample
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import SOURCES


def test_image_folder(image_folder):
    root = image_folder()
    (root / 'class_1' / 'deep' / 'er').mkdir(parents=True)
    shutil.copy(root / 'class_1' / '0.png', root / 'class_1' / 'deep' / 'er' / 'X.PNG')
    (root / 'class_0' / 'notes.txt').write_text('no image')
    (root / '.hidden').mkdir()
    shutil.copy(root / 'class_1' / '0.png', root / '.hidden' / 'a.png')
    source = ImageFolder(str(root))
    assert source.classes == ['class_0', 'class_1', 'class_2']
    assert np.bincount(source.labels).tolist() == [8, 9, 8]
    assert source.name(16) == 'class_1/deep/er/X.PNG' and source.labels[16] == 1
    assert np.array_equal(
        np.asarray(source.read(0)), np.asarray(Image.open(root / 'class_0' / '0.png'))
    )


def test_images_of_any_nested_folder(image_folder):
    root = image_folder()
    (root / 'loop').symlink_to(root, target_is_directory=True)  # must not be followed for ever
    source = Images(str(root))
    assert len(source) == 24 and source.labels is None and source.classes is None


def test_names_that_are_not_utf8_pipes_and_folders_named_like_images(image_folder):
    import os

    root = image_folder(classes=1, per_class=2)
    (root / 'class_0' / os.fsdecode(b'caf\xe9.png')).write_bytes(
        (root / 'class_0' / '0.png').read_bytes()
    )
    os.mkfifo(root / 'class_0' / 'pipe.png')
    (root / 'class_0' / 'folder.png').mkdir()
    source = ImageFolder(str(root))
    assert len(source) == 3 and len(source.manifest()) == 16
    assert all(source.read(i).size == (24, 24) for i in range(3))


def test_the_manifest_names_the_content_not_the_place(image_folder):
    one, two = image_folder(name='here'), image_folder(name='there')
    assert ImageFolder(str(one)).manifest() == ImageFolder(str(two)).manifest()
    (two / 'class_0' / '0.png').rename(two / 'class_0' / 'new.png')
    assert ImageFolder(str(one)).manifest() != ImageFolder(str(two)).manifest()


@pytest.mark.parametrize(
    ('text', 'labels', 'classes'),
    [
        ('class_0/0.png\nclass_2/1.png\n', None, None),
        ('class_0/0.png\tcat\n\nclass_2/1.png\tant\n', [1, 0], ['ant', 'cat']),
        ('class_0/0.png\t7\nclass_2/1.png\t0\n', [7, 0], [str(i) for i in range(8)]),
        ('class_0/0.png\t01440764\nclass_2/1.png\t15075141\n', [0, 1], ['01440764', '15075141']),
        ('class_0/0.png 7\r\nclass_2/1.png 0\r\n', [7, 0], [str(i) for i in range(8)]),
        ('\ufeffclass_0/0.png\nclass_2/1.png', None, None),
    ],
)
def test_file_list(image_folder, tmp_path, text, labels, classes):
    root = image_folder()
    (tmp_path / 'list.txt').write_text(text, encoding='utf-8', newline='')
    source = FileList(str(tmp_path / 'list.txt'), root=str(root))
    assert source.files == ['class_0/0.png', 'class_2/1.png']
    assert (source.labels is None and labels is None) or source.labels.tolist() == labels
    assert source.classes == classes
    assert source.read(1).size == (24, 24)


def test_file_list_with_spaces_in_names_and_beside_its_images(image_folder):
    root = image_folder()
    (root / 'my cat 3.png').write_bytes((root / 'class_0' / '0.png').read_bytes())
    (root / 'list.txt').write_text('my cat 3.png\nclass_0/1.png\n')
    assert FileList(str(root / 'list.txt')).files == ['my cat 3.png', 'class_0/1.png']


def test_missing_and_empty_data_says_what_was_looked_for_and_where(tmp_path, image_folder):
    root = image_folder()
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'list.txt').write_text('class_0/0.png\nclass_0/none.png\n')
    (tmp_path / 'mixed.txt').write_text('class_0/0.png\tcat\nclass_0/1.png\n')
    (tmp_path / 'blank.txt').write_text('\n\n')
    (tmp_path / 'latin.txt').write_bytes('caf\xe9.png\n'.encode('latin-1'))
    for cfg, words in (
        (
            dict(type='ImageFolder', root=str(tmp_path / 'none')),
            'looked for class folders with images in .*/none, but that does not exist',
        ),
        (dict(type='ImageFolder', root=str(tmp_path / 'list.txt')), 'is a file'),
        (dict(type='ImageFolder', root=str(tmp_path / 'empty')), 'found 0 folders'),
        (
            dict(type='ImageFolder', root=str(root / 'class_0')),
            "without class folders use type='Images'",
        ),
        (
            dict(type='Images', root=str(tmp_path / 'empty')),
            'looked for images .* in .*/empty and below, and found none',
        ),
        (dict(type='FileList', path=str(tmp_path / 'none.txt')), 'no such file'),
        (dict(type='FileList', path=str(tmp_path / 'blank.txt')), 'is empty'),
        (dict(type='FileList', path=str(tmp_path / 'latin.txt')), 'is not UTF-8 text'),
        (
            dict(type='FileList', path=str(tmp_path / 'list.txt'), root=str(root)),
            "1 of 2 files .* first is 'class_0/none.png'",
        ),
        (
            dict(type='FileList', path=str(tmp_path / 'mixed.txt'), root=str(root)),
            "not for 'class_0/1.png'",
        ),
        (
            dict(type='CIFAR10', root=str(tmp_path / 'none')),
            'looked for the files of CIFAR10 in .*/none.*download=True',
        ),
        (
            dict(type='CIFAR100', root=str(tmp_path / 'none'), split='test'),
            'looked for the files of CIFAR100',
        ),
        (
            dict(type='STL10', root=str(tmp_path / 'none'), split='unlabeled'),
            'looked for the files of STL10',
        ),
        (dict(type='STL10', root='x', split='unlabelled'), "did you mean 'unlabeled'"),
        (dict(type='CIFAR10', root='x', split='val'), "split is 'val'"),
        (
            dict(type='ImageFolder', root=str(root), limit=100),
            'limit=100, but ImageFolder has 24 images',
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            build_source(cfg)
    assert not (tmp_path / 'none').exists()  # nothing was fetched or made


def cifar_batch(n, labels_key, names):
    rng = np.random.default_rng(0)
    return {
        'data': rng.integers(0, 256, (n, 3072), dtype=np.uint8),
        labels_key: [i % len(names) for i in range(n)],
        'filenames': ['x'] * n,
    }


def test_cifar_and_stl_from_files_in_their_layout(tmp_path, monkeypatch):
    """Small files in the data sets' own layout; torchvision reads them, its checksum (of the real files) aside."""
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


def test_limit_is_fixed_and_balanced(image_folder):
    root = image_folder(classes=3, per_class=10)
    small, again, larger = (
        build_source(dict(type='ImageFolder', root=str(root), limit=n)) for n in (9, 9, 12)
    )
    assert np.bincount(small.labels).tolist() == [3, 3, 3]
    assert small.indices.tolist() == again.indices.tolist()
    assert set(small.indices) < set(larger.indices)
    assert small.name(0) == small.source.name(small.indices[0])


def test_hold_out_is_disjoint_complete_and_balanced(image_folder):
    source = ImageFolder(str(image_folder(classes=4, per_class=10)))
    for share, n in ((8, 8), (0.2, 8)):
        stay, out = hold_out(source, share)
        assert len(out) == n and sorted([*stay, *out]) == list(range(40))
        assert np.bincount(source.labels[out]).tolist() == [2] * 4
    for share in (0, 40, 1.5, -1):
        with pytest.raises(ConfigError, match='leaves nothing on one side'):
            hold_out(source, share)


def test_shuffled_differs_with_the_seed(image_folder):
    source = ImageFolder(str(image_folder()))
    assert balanced_order(source, 0).tolist() != balanced_order(source, 1).tolist()


def test_every_registered_source_is_documented():
    for name in SOURCES.names():
        assert SOURCES.find(name).__doc__, name


def test_read_and_pixels_follow_each_other():
    gray, white = np.full((4, 5, 3), 90, np.uint8), np.full((4, 5, 3), 255, np.uint8)

    class Read(Source):
        def read(self, i):
            return Image.fromarray(gray)

    class Pixels(Source):
        def pixels(self, i):
            return gray

    class Other:
        def read(self, i):
            return Image.fromarray(white)

    class Above(Pixels):
        def read(self, i):
            return super().read(i).resize((2, 2))

    for source, expected in (
        (Read(), gray),
        (Pixels(), gray),
        (type('Mixed', (Other, Pixels), {})(), white),
        (type('Below', (Above,), {})(), gray[:2, :2]),
    ):
        assert np.array_equal(np.asarray(source.read(0)), expected) and np.array_equal(
            source.pixels(0), expected
        )
        assert np.array_equal(Subset(source, [0]).pixels(0), expected)
    with pytest.raises(NotImplementedError, match='must define read'):
        Source().pixels(0)


def test_arrays_of_any_strides_are_cropped():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    out = [torch.empty(3, 4, 4, dtype=torch.uint8) for _ in range(3)]
    row = sample(View(4), 0, np.array([0]), np.array([0]), 0)
    for pixels, made in zip(
        (image, image[:, :, ::-1][:, :, ::-1], np.asfortranarray(image)), out, strict=True
    ):
        crop(pixels, [View(4)], row, [made])
    assert torch.equal(out[0], out[1]) and torch.equal(out[0], out[2])
    crop(image[:, ::-1], [View(4)], row, [out[0]])
