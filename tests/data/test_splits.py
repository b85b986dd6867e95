"""The sources of a run: hold-outs, and the numbers of the classes."""

import shutil

import numpy as np
import pytest

from ssl_zoo.config.settings import Data
from ssl_zoo.data.sources.arrays import Arrays
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.data.sources.write_shards import write_shards
from ssl_zoo.data.splits import (
    align_classes,
    compare_numbers,
    data_sources,
    data_warnings,
    hold_out,
)
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import SOURCES

pytestmark = pytest.mark.quick


def test_hold_out_is_disjoint_complete_and_balanced(image_folder):
    source = ImageFolder(str(image_folder(classes=4, per_class=10)))
    for share, n in ((8, 8), (0.2, 8)):
        stay, out = hold_out(source, share)
        assert len(out) == n and sorted([*stay, *out]) == list(range(40))
        assert np.bincount(source.labels[out]).tolist() == [2] * 4
    for share in (0, 40, 1.5, -1):
        with pytest.raises(ConfigError, match='leaves nothing on one side'):
            hold_out(source, share)


def test_classes_get_the_numbers_that_they_have_in_training(named_source):
    bank = named_source('abc', [0, 1, 2], ['ant', 'bee', 'cat'])
    other = named_source('wxyz', [1, 0, 1, 0], ['bee', 'cat'])
    align_classes(other, bank, 'test')
    assert other.labels.tolist() == [2, 1, 2, 1] and other.classes == bank.classes
    align_classes(other, bank, 'test')
    assert other.labels.tolist() == [2, 1, 2, 1]
    for strange, words in (
        (['bee', 'dog'], 'have: dog; data.train has 3: ant, bee, cat ...'),
        (list('vwxyz'), 'have: v, w, x ...; data'),
    ):
        with pytest.raises(
            ConfigError, match=f'data.test has classes that data.train does not {words}'
        ):
            align_classes(named_source('abcde', range(len(strange)), strange), bank, 'test')


@pytest.mark.parametrize(
    ('labels', 'warning'),
    [
        ([0, 1, 2, 3], ''),
        ([3, 1, 0], 'data.test lacks 1 of the 4 classes of data.train and has 0 others'),
        ([3], 'data.test lacks 3 of the 4 classes of data.train and has 0 others'),
        ([0, 1, 2], None),  # the signature of a set that was numbered anew
        ([0, 0], None),
    ],
)
def test_numbers_without_names_are_compared(named_source, labels, warning):
    bank = named_source('abcd', [0, 1, 2, 3], list('0123'))
    other = named_source('x' * len(labels), labels, list('0123')[: max(labels) + 1])
    if warning is None:
        with pytest.raises(ConfigError, match='name the classes of both in classes.txt'):
            compare_numbers(other, bank, 'test')
    else:
        assert ''.join(compare_numbers(other, bank, 'test')).endswith(warning)


def test_shards_that_lack_a_class_are_matched_by_name(image_folder, tmp_path):
    """The class that the test shards lack comes first, so that all their numbers differ."""
    train = ImageFolder(str(image_folder(classes=3, per_class=4, name='train')))
    root = image_folder(classes=3, per_class=4, name='test')
    shutil.rmtree(root / 'class_0')
    write_shards(train, tmp_path / 'a', 5, in_order=True)
    write_shards(ImageFolder(str(root)), tmp_path / 'b', 5, in_order=True)
    folders = [dict(type='TarShards', shards=str(tmp_path / name)) for name in 'ab']
    test = data_sources(Data(train=folders[0], test=folders[1]))['test']
    assert test.labels.tolist() == [1] * 4 + [2] * 4 and test.warnings == ()
    (tmp_path / 'b' / 'classes.txt').unlink()
    with pytest.raises(ConfigError, match='data.test has classes that data.train does not'):
        data_sources(Data(train=folders[0], test=folders[1]))
    (tmp_path / 'a' / 'classes.txt').unlink()
    with pytest.raises(ConfigError, match='classes 0 to 1 and data.train 0 to 2, numbers without'):
        data_sources(Data(train=folders[0], test=folders[1]))


def test_numbered_lists_are_compared_and_a_difference_is_in_the_warning(image_folder, tmp_path):
    root = image_folder(classes=3, per_class=4)
    lists = {}
    for name, numbers in dict(train=(0, 1, 2), last=(1, 2), first=(0, 1)).items():
        lines = [f'class_{i}/{j}.png\t{i}\n' for i in numbers for j in range(4)]
        (tmp_path / f'{name}.txt').write_text(''.join(lines))
        lists[name] = dict(type='FileList', path=str(tmp_path / f'{name}.txt'), root=str(root))
    test = data_sources(Data(train=lists['train'], test=lists['last']))['test']
    assert 'data.test lacks 1 of the 3 classes' in ''.join(test.warnings)
    assert data_sources(Data(train=lists['train'], test=lists['train']))['test'].warnings == ()
    with pytest.raises(ConfigError, match='0 to 1 and data.train 0 to 2'):
        data_sources(Data(train=lists['train'], val=lists['first']))
    (tmp_path / 'classes.txt').write_text('x\ny\nz\n')
    test = data_sources(Data(train=lists['train'], test=lists['first']))['test']
    assert test.labels.tolist() == [0] * 4 + [1] * 4 and test.warnings == ()


def test_a_runs_hold_out_is_cut_from_training_or_a_source_of_its_own(image_folder):
    train, other = (
        image_folder(classes=3, name='train'),
        image_folder(classes=2, per_class=3, name='other'),
    )
    (other / 'class_0').rename(other / 'class_2')  # class_1 and class_2, there 0 and 1
    folders = [dict(type='ImageFolder', root=str(root)) for root in (train, other)]
    cut = data_sources(Data(train=folders[0], val=6, test=folders[1]))
    names = [{source.name(i) for i in range(len(source))} for source in (cut['train'], cut['val'])]
    assert (
        cut['train'] is cut['bank'] and list(map(len, names)) == [18, 6] and not names[0] & names[1]
    )
    assert np.bincount(cut['val'].labels).tolist() == [2, 2, 2]
    assert cut['test'].labels.tolist() == [1] * 3 + [2] * 3 and cut['test'].classes == [
        'class_0',
        'class_1',
        'class_2',
    ]
    assert len(data_sources(Data(train=folders[0], val=6, train_on_val=True))['train']) == 24
    own = data_sources(Data(train=folders[0], val=folders[1]))
    assert (
        len(own['train']) == len(own['bank']) == 24
        and own['val'].labels.tolist() == [1] * 3 + [2] * 3
        and own['test'] is None
    )
    with pytest.raises(
        ConfigError,
        match='data.val has classes that data.train does not have: class_0; data.train has 2',
    ):
        data_sources(Data(train=folders[1], val=folders[0]))


def test_images_without_label_are_pretrained_on_and_evaluated_nowhere(source_types):
    labels = [0, 1, -1, 0, 1, -1, 0, 1, 0, 1]
    sources = data_sources(Data(train=source_types(labels), val=2, test=source_types([0, -1, 1])))
    assert len(sources['train']) == 8 and len(sources['bank']) == 6 and len(sources['val']) == 2
    assert np.sum(sources['train'].labels == -1) == 2
    for name in ('bank', 'val', 'test', 'labelled'):
        assert (sources[name].labels >= 0).all(), name
    assert len(sources['test']) == 2
    assert data_warnings(sources) == [
        '2 of 10 images of data.train have no label and are left out of evaluations',
        '1 of 3 images of data.test have no label and are left out of evaluations',
    ]
    with pytest.raises(ConfigError, match='all labels of data.train are -1'):
        data_sources(Data(train=source_types([-1, -1])))


def test_classes_that_cannot_be_right_are_told(source_types):
    train = source_types([0, 1, 2, 0, 1, 2], classes=['a', 'b', 'c', 'empty'])
    test = source_types([0, 3, 3], classes=['a', 'b', 'c', 'empty'])
    sources = data_sources(Data(train=train, test=test))
    assert sources['test'].warnings == (
        '2 of 3 test images are of classes without a training image and cannot be right: empty',
    )
    more = source_types([0, 1], classes=['a', 'b', 'strange'])  # without an image of it
    assert data_sources(Data(train=train, test=more))['test'].labels.tolist() == [0, 1]


def test_a_hold_out_without_some_class_is_told(source_types):
    sources = data_sources(Data(train=source_types([0] * 30 + [1] * 30 + [2]), val=10))
    assert data_warnings(sources) == [
        'the hold-out of 10 images has none of 1 of 3 classes, which are too small: 2'
    ]


@pytest.fixture
def source_types():
    """Function: the config of a source with these labels."""

    def make(labels, classes=None) -> dict:
        return dict(type='Labelled', labels=labels, classes=classes)

    with_labels = type('Labelled', (Arrays,), dict(__init__=_labelled))
    SOURCES.register_module(name='Labelled', module=with_labels, force=True)
    yield make
    SOURCES.module_dict.pop('Labelled')


def _labelled(self, labels, classes) -> None:
    Arrays.__init__(self, np.zeros((len(labels), 4, 4, 3), np.uint8), labels, classes)
