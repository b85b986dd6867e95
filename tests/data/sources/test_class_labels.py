"""Labels that are no classes: measured values, several classes in one, one class per image."""

from pathlib import Path

import numpy as np
import pytest
import timm

from ssl_zoo.config.settings import Data
from ssl_zoo.data.sources import Source, build_source
from ssl_zoo.data.sources.arrays import Arrays
from ssl_zoo.data.sources.class_labels import class_warnings, combinations
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.data.splits import data_sources, data_warnings
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import SOURCES

pytestmark = pytest.mark.quick


@pytest.fixture
def listed(image_folder, tmp_path):
    """Function: the config of a list that gives these labels to images, one after the other."""
    root = image_folder(classes=1, per_class=30)

    def make(*labels, header='') -> dict:
        lines = [f'class_0/{i}.png\t{label}\n' for i, label in enumerate(labels)]
        (tmp_path / 'list.txt').write_text(header + ''.join(lines))
        return dict(type='FileList', path=str(tmp_path / 'list.txt'), root=str(root))

    return make


@pytest.mark.parametrize(
    ('labels', 'words'),
    [
        (['0.731', '0.5', '-1', ''], "'class_0/0.png' the label '0.731', one of 2 different numb"),
        (['3', '12.5'], "'class_0/1.png' the label '12.5'"),
        (['3.0', '1.0', '3.0'], "the label '3.0', one of 2 different numbers, and a class is a wh"),
        (['1', '1e-3'], "the label '1e-3'"),
        (['1', 'nan'], "the label 'nan'"),
        (['2', '0', '-2'], "'class_0/2.png' the label '-2'"),
        (['cat', 'dog', 'cat,dog'], "label 'cat,dog', .* one class, apart from those of 'cat' and"),
        (['cat', 'dog', 'dog; cat'], "label 'dog; cat', .* apart from those of 'dog' and 'cat'"),
        (['a|b', 'b|c', 'c|a'], r"label 'a\|b', .* apart from those of 'a' and 'b'"),
        (['3,17', '3', '17'], "label '3,17'"),
    ],
)
def test_labels_that_are_no_classes_are_refused(listed, refusal, labels, words):
    cfg = listed(*labels)
    refusal(cfg, words)
    refusal(cfg, 'set labelled=False to train without labels|separator=.* or set labelled=False')
    source = build_source(dict(cfg, labelled=False))
    assert source.labels is None and source.classes is None and len(source) == len(labels)


@pytest.mark.parametrize(
    'labels',
    [
        ['3', '17', '-1', ''],
        ['01440764', '15075141'],
        ['0.5x', '1', '2.5x'],
        ['maillot', 'maillot, tank suit', 'projectile, missile'],
        ['cat,', ',dog', 'cat', 'dog'],
        ['cat+dog', 'cat', 'dog'],
    ],
)
def test_classes_are_read(listed, labels):
    source = build_source(listed(*labels))
    assert len(set(source.labels[source.labels >= 0])) == len(set(labels) - {'-1', ''})
    assert not class_warnings(source)


def test_numbered_classes_may_have_any_names(listed, tmp_path):
    (tmp_path / 'classes.txt').write_text('cat\ndog\ncat,dog\n')
    assert build_source(listed(0, 1, 2, 2)).classes == ['cat', 'dog', 'cat,dog']


def test_synonyms_in_the_names_of_imagenet_are_no_combinations():
    file = Path(timm.__file__).parent / 'data' / '_info' / 'imagenet_synset_to_lemma.txt'
    names = [line.split('\t')[1] for line in file.read_text().splitlines()]
    assert combinations(names) == ([], [])
    made, _ = combinations(['cat', 'dog', 'cat,dog'])
    assert [one.name for one in made] == ['cat,dog']


class Own(Source):
    """A source of a user's own, with any labels."""

    def __init__(self, labels, classes=None):
        self.labels = labels
        self.classes = classes

    def __len__(self) -> int:
        return 3

    def pixels(self, i: int) -> np.ndarray:
        return np.zeros((4, 4, 3), np.uint8)


@pytest.fixture
def own_source():
    """Function: the config of a source of a user's own."""
    SOURCES.register_module(name='Own', module=Own, force=True)
    yield lambda labels, classes=None: dict(type='Own', labels=labels, classes=classes)
    SOURCES.module_dict.pop('Own')


@pytest.mark.parametrize(
    ('labels', 'classes', 'words'),
    [
        (np.array([0.0, 0.731, 2.0]), None, 'label of image 1 of Own is 0.731, but a class is a'),
        ([1.0, float('nan'), 0.0], None, 'label of image 1 of Own is nan'),
        ([0, 1, -2], None, 'label of image 2 of Own is -2'),
        (
            np.eye(3, dtype=np.int64),
            None,
            r'shape \(3, 3\) and .* several classes go into multi_la',
        ),
        (['a', 'b', 'a'], None, 'the type <U1, but each image has one class'),
        ([0, 1], None, 'Own has 2 labels for 3 images'),
        ([0, 1, 2], ['a', 'b'], 'Own names 2 classes, and its labels go up to 2'),
    ],
)
def test_labels_of_any_source_are_checked(own_source, refusal, labels, classes, words):
    refusal(own_source(labels, classes), words)


def test_whole_numbers_of_any_type_are_classes(own_source):
    for labels in ([1, 0, -1], np.array([1, 0, -1], np.int8), np.array([1.0, 0.0, -1.0])):
        source = build_source(own_source(labels))
        assert source.labels.dtype == np.int64 and source.labels.tolist() == [1, 0, -1]
    labels = np.array([0, 1, 2])
    assert build_source(own_source(labels)).labels is labels
    assert build_source(own_source(None)).labels is None


def test_sources_of_arrays_and_files_do_not_cut_fractions_off():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(ConfigError, match=r'label of image 1 of Arrays is 1\.9'):
        Arrays(images, [0, 1.9])
    assert Arrays(images, [0, 1]).labels.tolist() == [0, 1]


def test_labels_that_may_be_no_classes_are_told_with_every_figure(listed, image_folder):
    names = [f'image_{i}' for i in range(11)]
    cfg = listed(*names, *['more'] * 19)
    warning = (
        '11 of 12 classes of data.train have one image each, such as image_0, image_1, image_10: '
        'names of images or measured values are no classes, and figures on such labels say nothing'
    )
    sources = data_sources(Data(train=cfg, val=3, test=cfg))
    assert data_warnings(sources)[0] == warning and warning in sources['test'].warnings
    with pytest.raises(ConfigError, match='each of the 11 images has a class of its own'):
        data_sources(Data(train=listed(*names), val=0.2))
    assert not class_warnings(build_source(listed(*names[:10])))  # few classes
    assert not class_warnings(build_source(listed(*names, *names)))

    sources = data_sources(Data(train=listed('cat,dog', 'cat,bird', 'fox, the')))
    assert data_warnings(sources) == [
        "'cat,bird' counts as one class of data.train, apart from others that share a part of its "
        'name; if it stands for several classes, the figures are wrong'
    ]


def test_class_folders_are_classes_whatever_their_names(image_folder):
    root = image_folder(classes=3)
    for i, name in enumerate(('cat', 'dog', 'cat,dog')):
        (root / f'class_{i}').rename(root / name)
    source = ImageFolder(str(root))
    assert source.classes == ['cat', 'cat,dog', 'dog']
    assert "'cat,dog' counts as one class" in class_warnings(source)[0]
