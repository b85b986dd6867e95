"""Small fakes of each data set, in the layout of the real one, read by torchvision itself.

The colour of an image tells its class, whatever the annotations say.
"""

import inspect
import json
import shutil
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.data.sources import build_source
from ssl_zoo.data.sources.transfer_sets import TRANSFER_SETS, transfer_sources
from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.registry import SOURCES

COLOURS = ((230, 20, 20), (20, 200, 20), (128, 128, 128))


def draw(path: Path, colour: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new('RGB', (16, 12), COLOURS[colour])
    (image.convert('L') if colour == 2 else image).save(
        path
    )  # the third class is of grayscale files


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{line}\n' for line in lines))


# Each fake writes a data set below root. It returns the classes in the order of their labels, and
# {split: [(file, colour), ...]}, where a colour is the number of a class. Splits differ in size.


def food(root):
    folder, splits = root / 'food-101', {}
    for split, per_class in (('train', 3), ('test', 2)):
        meta, splits[split] = {}, []
        for colour, name in (
            (2, 'waffles'),
            (0, 'apple_pie'),
            (1, 'sushi'),
        ):  # not in the order of the labels
            files = [f'{name}/{split}_{i}' for i in range(per_class)]
            meta[name] = files
            for file in files:
                draw(folder / 'images' / f'{file}.jpg', colour)
                splits[split].append((f'food-101/images/{file}.jpg', colour))
        write(folder / 'meta' / f'{split}.json', json.dumps(meta))
    return ['apple_pie', 'sushi', 'waffles'], splits


def sun(root):
    folder, splits = root / 'SUN397', {}
    names = ['abbey', 'apartment_building/outdoor', 'zoo']
    write(folder / 'ClassName.txt', *(f'/{name[0]}/{name}' for name in names))
    for split, file, per_class in (
        ('train', 'Training_01.txt', 3),
        ('test', 'Testing_01.txt', 2),
        (None, None, 4),
    ):
        lines = []  # None: images in no split
        for colour in (1, 2, 0):
            for i in range(per_class):
                lines.append((f'/{names[colour][0]}/{names[colour]}/sun_a{split}{i}.jpg', colour))
                draw(Path(f'{folder}{lines[-1][0]}'), colour)
        if split:
            write(folder / file, *(line for line, _ in lines))
            splits[split] = [(f'SUN397{line}', colour) for line, colour in lines]
    return names, splits


def cars(root):
    from scipy.io import savemat

    folder, splits = root / 'stanford_cars', {}
    names = ['AM General Hummer SUV 2000', 'smart fortwo Convertible 2012', 'Acura RL Sedan 2012']
    (folder / 'devkit').mkdir(parents=True)
    savemat(folder / 'devkit' / 'cars_meta.mat', {'class_names': np.array(names, dtype=object)})
    for split, file, labels in (
        ('train', 'devkit/cars_train_annos.mat', [3, 1, 2, 2]),
        ('test', 'cars_test_annos_withlabels.mat', [2, 3]),
    ):
        rows = [(f'{i + 1:05d}.jpg', np.uint8(label)) for i, label in enumerate(labels)]
        savemat(
            folder / file,
            {'annotations': np.array(rows, dtype=[('fname', object), ('class', object)])},
        )
        splits[split] = [(f'stanford_cars/cars_{split}/{name}', label - 1) for name, label in rows]
        for path, colour in splits[split]:
            draw(root / path, colour)
    return names, splits


def aircraft(root):
    folder, splits = root / 'fgvc-aircraft-2013b' / 'data', {}
    names = ['A300B4', '707-320', 'Cessna 172']  # not sorted; with a space
    write(folder / 'variants.txt', *names)
    for n, (split, colours) in enumerate(
        (('train', [1, 0, 2]), ('val', [2, 0]), ('test', [0, 1, 2, 1]))
    ):
        splits[split] = [
            (f'fgvc-aircraft-2013b/data/images/{n}{i:06d}.jpg', colour)
            for i, colour in enumerate(colours)
        ]
    splits['trainval'] = sorted(splits['train'] + splits['val'], reverse=True)
    for split, rows in splits.items():
        write(
            folder / f'images_variant_{split}.txt',
            *(f'{Path(path).stem} {names[colour]}' for path, colour in rows),
        )
        for path, colour in rows:
            draw(root / path, colour)
    return names, splits


def dtd(root):
    folder, splits, names = root / 'dtd' / 'dtd', {}, ['banded', 'dotted', 'zigzagged']
    for split, per_class in (('train', 3), ('val', 1), ('test', 2)):
        rows = [
            (f'{names[colour]}/{names[colour]}_{split}{i}.jpg', colour)
            for colour in (2, 0, 1)
            for i in range(per_class)
        ]
        write(folder / 'labels' / f'{split}1.txt', *(file for file, _ in rows))
        splits[split] = [(f'dtd/dtd/images/{file}', colour) for file, colour in rows]
        for path, colour in splits[split]:
            draw(root / path, colour)
    splits['trainval'] = splits['train'] + splits['val']
    for split in ('train', 'val', 'test'):  # another partition, never to be read
        write(
            folder / 'labels' / f'{split}2.txt',
            *(file.removeprefix('dtd/dtd/images/') for file, _ in splits['test']),
        )
    return names, splits


def pet(root):
    folder, splits = root / 'oxford-iiit-pet', {}
    ids = ['Abyssinian', 'american_bulldog', 'Bengal']
    for split, colours in (('trainval', [2, 1, 0, 1]), ('test', [1, 2, 0])):
        rows = [
            (f'{ids[colour]}_{split}{i}'.replace('_test', '_1').replace('_trainval', '_2'), colour)
            for i, colour in enumerate(colours)
        ]
        write(
            folder / 'annotations' / f'{split}.txt',
            *(f'{name} {colour + 1} {1 + colour % 2} 1' for name, colour in rows),
        )
        splits[split] = [(f'oxford-iiit-pet/images/{name}.jpg', colour) for name, colour in rows]
        for path, colour in splits[split]:
            draw(root / path, colour)
    return ['Abyssinian', 'American Bulldog', 'Bengal'], splits


def caltech(root):
    folder, names, rows = (
        root / 'caltech101' / '101_ObjectCategories',
        ['Faces', 'accordion', 'wrench'],
        [],
    )
    for colour, (name, n) in enumerate(zip(names, (31, 33, 35), strict=True)):
        for i in range(n):
            rows.append((f'caltech101/101_ObjectCategories/{name}/image_{i + 1:04d}.jpg', colour))
            draw(root / rows[-1][0], colour)
    draw(folder / 'BACKGROUND_Google' / 'image_0001.jpg', 0)
    return names, {'all': rows}


def flowers(root):
    from scipy.io import savemat

    folder, splits = root / 'flowers-102', {}
    labels = np.array([3, 1, 2, 2, 1, 3, 3, 2, 1, 1, 3], dtype=np.uint8)  # of the images 1, 2, ...
    ids = dict(trnid=[9, 2, 1], valid=[4, 6], tstid=[3, 5, 7, 8, 10, 11])
    folder.mkdir(parents=True)
    savemat(folder / 'imagelabels.mat', {'labels': labels[None]})
    savemat(
        folder / 'setid.mat',
        {key: np.array([value], dtype=np.uint16) for key, value in ids.items()},
    )
    for split, key in (('train', 'trnid'), ('val', 'valid'), ('test', 'tstid')):
        splits[split] = [
            (f'flowers-102/jpg/image_{i:05d}.jpg', int(labels[i - 1]) - 1) for i in ids[key]
        ]
        for path, colour in splits[split]:
            draw(root / path, colour)
    splits['trainval'] = splits['train'] + splits['val']
    return ['pink primrose', 'hard-leaved pocket orchid', 'canterbury bells'], splits


FAKES = dict(
    Food101=food,
    SUN397=sun,
    StanfordCars=cars,
    FGVCAircraft=aircraft,
    DTD=dtd,
    OxfordIIITPet=pet,
    Caltech101=caltech,
    Flowers102=flowers,
)
SPLITS = dict(
    Food101=['train', 'test'],
    SUN397=['train', 'test'],
    StanfordCars=['train', 'test'],
    FGVCAircraft=['trainval', 'train', 'val', 'test'],
    DTD=['trainval', 'train', 'val', 'test'],
    OxfordIIITPet=['trainval', 'test'],
    Caltech101=['train', 'test'],
    Flowers102=['trainval', 'train', 'val', 'test'],
)


@pytest.fixture(autouse=True)
def _no_checksums(monkeypatch):
    """Flowers' annotations have a checksum, which is that of the real files."""
    from torchvision.datasets import Flowers102

    monkeypatch.setattr(
        Flowers102,
        '_file_dict',
        {key: (file, None) for key, (file, _) in Flowers102._file_dict.items()},
    )


def colour_of(image: Image.Image) -> int:
    distance = np.abs(np.asarray(image, dtype=int).mean((0, 1)) - np.array(COLOURS)).sum(1)
    assert distance.min() < 12  # what JPEG makes of it
    return int(distance.argmin())


def source(name, root, **arguments):
    return build_source(dict(type=name, root=str(root), **arguments))


@pytest.mark.parametrize('name', FAKES)
def test_files_labels_and_classes_of_every_split(name, tmp_path):
    classes, expected = FAKES[name](tmp_path)
    for split in SPLITS[name]:
        data = source(name, tmp_path, split=split)
        assert (
            data.classes == classes
            or name == 'Flowers102'
            and data.classes[:3] == classes
            and len(data.classes) == 102
        )
        assert data.labels.dtype == np.int64 and data.labels.shape == (len(data),)
        if name != 'Caltech101':
            assert sorted(data.files) == sorted(file for file, _ in expected[split])
            assert dict(zip(data.files, data.labels.tolist(), strict=True)) == dict(expected[split])
        for i, label in enumerate(data.labels):
            image = data.read(i)
            assert image.mode == 'RGB' and image.size == (16, 12)
            assert colour_of(image) == label, (split, data.name(i))
    default = source(name, tmp_path)
    assert (
        default.manifest()
        == source(name, tmp_path, split=SPLITS[name][0]).manifest()
        != data.manifest()
    )


@pytest.mark.parametrize('name', FAKES)
def test_train_and_test_are_disjoint_and_trainval_is_train_and_val(name, tmp_path):
    FAKES[name](tmp_path)
    files = {split: source(name, tmp_path, split=split).files for split in SPLITS[name]}
    for split in files.keys() - {'test'}:
        assert not set(files[split]) & set(files['test']) and len(set(files[split])) == len(
            files[split]
        )
    if 'val' in files:
        assert not set(files['train']) & set(files['val'])
        assert sorted(files['trainval']) == sorted(files['train'] + files['val'])


@pytest.mark.parametrize('name', FAKES)
def test_the_manifest_does_not_depend_on_the_place(name, tmp_path, monkeypatch):
    FAKES[name](tmp_path / 'here')
    shutil.copytree(tmp_path / 'here', tmp_path / 'there')
    manifest = source(name, tmp_path / 'here').manifest()
    assert source(name, tmp_path / 'there').manifest() == manifest
    monkeypatch.chdir(tmp_path / 'here')
    assert source(name, '.').manifest() == manifest
    monkeypatch.setenv('HOME', str(tmp_path))
    assert source(name, '~/there').manifest() == manifest


def test_caltech_takes_thirty_of_each_class_and_always_the_same(tmp_path):
    _, expected = caltech(tmp_path)
    train, test = (source('Caltech101', tmp_path, split=split) for split in ('train', 'test'))
    assert np.bincount(train.labels).tolist() == [30, 30, 30] and np.bincount(
        test.labels
    ).tolist() == [1, 3, 5]
    assert sorted(train.files + test.files) == sorted(file for file, _ in expected['all'])
    held_out = [int(file[-8:-4]) for file in test.files]
    assert held_out == [
        9,
        *(13, 31, 33),
        *(1, 5, 22, 29, 31),
    ]  # another choice would make figures incomparable
    assert train.files != [file for file, _ in expected['all'] if int(file[-8:-4]) <= 30]


@pytest.mark.parametrize('place', ['SUN397', 'SUN397/Partitions', '.'])
def test_sun_finds_its_partition(place, tmp_path):
    _, expected = sun(tmp_path)
    (tmp_path / place).mkdir(exist_ok=True)
    for file in ('Training_01.txt', 'Testing_01.txt'):
        text = (tmp_path / 'SUN397' / file).read_text()
        (tmp_path / 'SUN397' / file).unlink()
        (tmp_path / place / file).write_text(text.replace('\n', '\r\n') + '\r\n', newline='')
    for split, rows in expected.items():
        data = source('SUN397', tmp_path, split=split)
        assert data.files == [file for file, _ in rows] and data.labels.tolist() == [
            colour for _, colour in rows
        ]


def one_sentence(words, name, root, **arguments):
    with pytest.raises(ConfigError, match=words) as caught:
        source(name, root, **arguments)
    assert 'cannot be built with these values' not in str(caught.value) and '\n' not in str(
        caught.value
    )
    return caught.value


@pytest.mark.parametrize('name', FAKES)
def test_unknown_splits_and_missing_folders(name, tmp_path):
    one_sentence("split is 'tests': did you mean 'test'", name, tmp_path, split='tests')
    for split in {'train', 'val', 'trainval', 'unlabeled'} - set(SPLITS[name]):
        one_sentence(
            f"split is '{split}'.* Allowed: {', '.join(sorted(SPLITS[name]))}",
            name,
            tmp_path,
            split=split,
        )
    for root in (tmp_path, tmp_path / 'none'):
        error = one_sentence(f'looked for .* of {name} in {root}', name, root)
        assert isinstance(error, MissingData)
    assert not list(tmp_path.iterdir())  # nothing was fetched or made


def test_sun_without_its_partition(tmp_path, monkeypatch):
    sun(tmp_path)
    (tmp_path / 'SUN397' / 'Testing_01.txt').unlink()
    source('SUN397', tmp_path)
    words = 'looked for Testing_01.txt.*/SUN397, .*/SUN397/Partitions, .*unpack Partitions.zip from https://vision.princeton.edu'
    assert isinstance(one_sentence(words, 'SUN397', tmp_path, split='test'), MissingData)
    monkeypatch.setattr('torchvision.datasets.sun397.download_and_extract_archive', None)
    one_sentence(
        'looked for Training_01.txt', 'SUN397', tmp_path / 'none', download=True
    )  # before 37 GB are fetched
    write(
        tmp_path / 'SUN397' / 'Testing_01.txt', '/a/abbey/sun_atest0.jpg', '/a/abbey/sun_none.jpg'
    )
    one_sentence(
        "1 of 2 images that .*Testing_01.txt names .* first is 'SUN397/a/abbey/sun_none.jpg'",
        'SUN397',
        tmp_path,
        split='test',
    )
    write(tmp_path / 'SUN397' / 'Testing_01.txt')
    one_sentence('0 of 0 images', 'SUN397', tmp_path, split='test')


def test_cars_cannot_be_downloaded(tmp_path):
    one_sentence(
        'looked for devkit/cars_meta.mat, cars_test_annos_withlabels.mat, cars_test of .*by hand'
        '.*torchvision cannot download',
        'StanfordCars',
        tmp_path,
        split='test',
        download=True,
    )
    cars(tmp_path)
    assert (
        len(source('StanfordCars', tmp_path, download=True)) == 4
    )  # they are there, so there is nothing to download
    (tmp_path / 'stanford_cars' / 'devkit' / 'cars_train_annos.mat').unlink()
    one_sentence('looked for devkit/cars_train_annos.mat of StanfordCars', 'StanfordCars', tmp_path)


@pytest.mark.parametrize('name', ['StanfordCars', 'Flowers102'])
def test_without_scipy(name, tmp_path, monkeypatch):
    FAKES[name](tmp_path)
    monkeypatch.setitem(sys.modules, 'scipy.io', None)
    monkeypatch.delitem(sys.modules, 'scipy', raising=False)
    one_sentence(
        f'{name} keeps its labels in .mat files, and scipy.* pip install scipy', name, tmp_path
    )


@pytest.mark.parametrize(
    ('name', 'file', 'text', 'words'),
    [
        (
            'Food101',
            'food-101/images/sushi/train_1.jpg',
            None,
            "1 of 9 images checked .* first is 'food-101/images/sushi/train_1.jpg'",
        ),
        ('Food101', 'food-101/meta/train.json', None, 'are not complete: .*train.json'),
        (
            'Food101',
            'food-101/meta/train.json',
            '{"sushi": ["sus',
            'not as torchvision expects them .JSONDecodeError',
        ),
        ('Food101', 'food-101/meta/train.json', '{}', 'name 0 images'),
        ('Food101', 'food-101/meta', None, 'looked for the files of Food101'),
        (
            'SUN397',
            'SUN397/ClassName.txt',
            '/a/abbey\n',
            'not as torchvision expects them .KeyError',
        ),
        (
            'StanfordCars',
            'stanford_cars/devkit/cars_meta.mat',
            'none',
            'not as torchvision expects them',
        ),
        ('StanfordCars', 'stanford_cars/cars_train/00002.jpg', None, '1 of 4 images checked'),
        (
            'FGVCAircraft',
            'fgvc-aircraft-2013b/data/variants.txt',
            'A300B4\n',
            'not as torchvision expects them .KeyError',
        ),
        ('FGVCAircraft', 'fgvc-aircraft-2013b/data', None, 'are not complete: .*variants.txt'),
        ('DTD', 'dtd/dtd', None, 'looked for the files of DTD'),
        ('DTD', 'dtd/dtd/labels/val1.txt', None, 'are not complete: .*val1.txt'),
        (
            'DTD',
            'dtd/dtd/labels/val1.txt',
            'zigzagged/zigzagged_val0.jpg\n',
            'do not have the same classes .3 and 1.',
        ),
        (
            'OxfordIIITPet',
            'oxford-iiit-pet/annotations/trainval.txt',
            'Bengal_21 3 1 1\n',
            'labels from 2 to 2 of 1 classes',
        ),
        (
            'OxfordIIITPet',
            'oxford-iiit-pet/annotations/trainval.txt',
            'Bengal_21 3\n',
            'not as torchvision expects them .ValueError',
        ),
        (
            'Caltech101',
            'caltech101/101_ObjectCategories',
            None,
            'looked for the files of Caltech101',
        ),
        (
            'Caltech101',
            'caltech101/101_ObjectCategories/BACKGROUND_Google',
            None,
            'not as torchvision expects them .ValueError',
        ),
        (
            'Caltech101',
            'caltech101/101_ObjectCategories/Faces/image_0031.jpg',
            None,
            "class 'Faces' .* has 30 images",
        ),
        (
            'Caltech101',
            'caltech101/101_ObjectCategories/wrench/.DS_Store',
            '',
            'first is .*wrench/image_0036.jpg',
        ),
        ('Flowers102', 'flowers-102/setid.mat', None, 'looked for the files of Flowers102'),
        ('Flowers102', 'flowers-102/imagelabels.mat', '', 'not as torchvision expects them'),
    ],
)
def test_files_that_are_incomplete_or_damaged(name, file, text, words, tmp_path):
    FAKES[name](tmp_path)
    path = tmp_path / file
    if text is not None:
        path.write_text(text)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    one_sentence(words, name, tmp_path)


def test_downloads_that_fail(tmp_path, monkeypatch):
    def fail(error):
        def fetch(*args, **kwargs):
            raise error

        return fetch

    where = 'torchvision.datasets.food101.download_and_extract_archive'
    monkeypatch.setattr(where, fail(urllib.error.URLError('no route to host')))
    one_sentence(
        f'could not fetch Food101 into {tmp_path}: .*no route', 'Food101', tmp_path, download=True
    )
    monkeypatch.setattr(where, fail(RuntimeError('File not found or corrupted.')))
    one_sentence(
        'fetched Food101 .* not as they should be: File not found or corrupted',
        'Food101',
        tmp_path,
        download=True,
    )
    food(tmp_path)
    assert len(source('Food101', tmp_path, download=True)) == 9  # nothing is fetched twice


def test_train_and_test_configs_by_name_alone(tmp_path):
    assert set(TRANSFER_SETS) == {*FAKES, 'CIFAR10', 'CIFAR100', 'VOC2007'}
    metrics = {name: reported.metric for name, reported in TRANSFER_SETS.items()}
    per_class = {name for name, metric in metrics.items() if metric == 'mean_per_class'}
    assert per_class == {'FGVCAircraft', 'OxfordIIITPet', 'Caltech101', 'Flowers102'}
    assert metrics.pop('VOC2007') == 'map_11point'
    assert set(metrics.values()) == {'top1', 'mean_per_class'}
    for name in TRANSFER_SETS:
        train, test = transfer_sources(name, str(tmp_path / name))
        assert train == dict(
            type=name,
            root=str(tmp_path / name),
            split=TRANSFER_SETS[name].train_split,
            download=False,
        )
        assert test == {**train, 'split': 'test'}
        assert (
            inspect.signature(SOURCES.find(name)).parameters['split'].default
            == TRANSFER_SETS[name].train_split
        )
        assert [cfg['download'] for cfg in transfer_sources(name, 'x', download=True)] == [
            True,
            True,
        ]
        if name in FAKES:
            FAKES[name](tmp_path / name)
            train, test = build_source(train), build_source(test)
            assert (
                len(train) != len(test)
                and not set(train.files) & set(test.files)
                and train.classes == test.classes
            )
    with pytest.raises(
        ConfigError, match="'Flowers' is not a data set to transfer to: did you mean 'Flowers102'"
    ):
        transfer_sources('Flowers', 'x')


@pytest.mark.long
def test_the_names_are_found_without_torchvision(root):
    code = (
        'import sys; from ssl_zoo.registry import SOURCES; SOURCES.find("Food101"); '
        'print([m for m in ("torchvision", "scipy") if m in sys.modules])'
    )
    out = subprocess.run(
        [sys.executable, '-c', code], cwd=root, check=True, capture_output=True, text=True
    ).stdout
    assert out.strip() == '[]'
