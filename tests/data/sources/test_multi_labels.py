"""Images that have several classes: lists, VOC 2007, sources of one's own, sources of a run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.config.settings import Data
from ssl_zoo.data.sources import Joined, Source, Subset, build_source
from ssl_zoo.data.sources.transfer_sets import transfer_sources
from ssl_zoo.data.sources.voc2007 import CLASSES
from ssl_zoo.data.splits import data_notes, data_sources, data_warnings
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import SOURCES

pytestmark = pytest.mark.quick


@pytest.fixture
def listed(image_folder, tmp_path):
    """Function: the config of a list with these lines; {0}, {1} ... are paths of images."""
    root = image_folder(classes=1, per_class=12)

    def make(*lines, name='list.txt', separator=',', **arguments) -> dict:
        paths = [f'class_0/{i}.png' for i in range(12)]
        (tmp_path / name).write_text(''.join(f'{line}\n' for line in lines).format(*paths))
        path = str(tmp_path / name)
        return dict(type='FileList', path=path, root=str(root), separator=separator, **arguments)

    return make


@pytest.mark.parametrize(
    ('lines', 'separator', 'classes', 'columns'),
    [
        (['{0}\tcat,dog', '{1}\tdog'], ',', ['cat', 'dog'], [[1, 1], [0, 1]]),
        (['{0}\tdog; cat;dog', '{1}\t;'], ';', ['cat', 'dog'], [[1, 1], [0, 0]]),
        (['{0}\ta|b', '{1}\t-1', '{2}\t'], '|', ['a', 'b'], [[1, 1], [-1, -1], [-1, -1]]),
        (['{0} cat,dog', '{1} bird,dog'], ',', ['bird', 'cat', 'dog'], [[0, 1, 1], [1, 0, 1]]),
        (['path,labels', '{0},"b,a"', '{1},b'], ',', ['a', 'b'], [[1, 1], [0, 1]]),
        (['image;classes', '{0};b,a', '{1};b'], ',', ['a', 'b'], [[1, 1], [0, 1]]),
        (['{0}\t17,3', '{1}\t3'], ',', ['3', '17'], [[1, 1], [1, 0]]),
        (['{0}\tcat', '{1}\tdog'], ',', ['cat', 'dog'], [[1, 0], [0, 1]]),
    ],
)
def test_the_classes_of_a_list_become_columns(listed, lines, separator, classes, columns):
    source = build_source(listed(*lines, separator=separator))
    assert source.classes == classes and source.multi_labels.tolist() == columns
    assert source.multi_labels.dtype == np.int8 and source.labels is None and source.is_labelled


@pytest.mark.parametrize(
    ('lines', 'arguments', 'words'),
    [
        (['{0}\ta,b'], dict(separator=''), "separator is '', but it must be a text such as ','"),
        (['{0}', '{1}'], {}, 'has 0; leave separator out'),
        (['{0}\t,', '{1}\t-1'], {}, 'has 0; leave separator out'),
        (['{0}\t1,2'], dict(classes='names.txt'), 'has 2; leave classes out'),
        (['{0}\t0.5,0.7', '{1}\t3'], {}, "the label '0.5', one of 3 different numbers"),
        (['{0}\ta;b', '{1}\ta,b'], {}, "the label 'a;b', .* set separator=';' for several"),
    ],
)
def test_lists_that_cannot_be_divided(listed, refusal, lines, arguments, words):
    refusal(listed(*lines, **arguments), words)


def test_a_list_with_several_classes_says_how_it_is_read(listed, refusal):
    cfg = listed('{0}\tcat', '{1}\tdog', '{2}\tcat|dog', separator=None)
    error = refusal(cfg, r"set separator='\|' for several classes per image")
    assert str(error).endswith('or set labelled=False to train without labels')
    assert build_source(dict(cfg, separator='|')).multi_labels.tolist() == [[1, 0], [0, 1], [1, 1]]


def test_columns_go_with_the_images_and_are_part_of_the_manifest(listed):
    cfg = listed('{0}\ta', '{1}\ta,b', '{2}\tb')
    source = build_source(cfg)
    assert Subset(source, [2, 1]).multi_labels.tolist() == [[0, 1], [1, 1]]
    assert Joined(source, Subset(source, [0])).multi_labels[3].tolist() == [1, 0]
    other = build_source(listed('{0}\ta', '{1}\tb', '{2}\ta,b'))
    assert source.manifest() == build_source(
        listed('{0}\ta', '{1}\tb,a', '{2}\tb')
    ).manifest() and (source.manifest() != other.manifest())


class Several(Source):
    """A source of a user's own, whose images have several classes."""

    def __init__(self, columns, classes=('a', 'b'), labels=None):
        self.multi_labels = columns
        self.classes = classes and list(classes)
        self.labels = labels

    def __len__(self) -> int:
        return 3

    def pixels(self, i: int) -> np.ndarray:
        return np.zeros((4, 4, 3), np.uint8)


@pytest.fixture
def several():
    """Function: the config of a source of a user's own."""
    SOURCES.register_module(name='Several', module=Several, force=True)
    yield lambda columns, **arguments: dict(type='Several', columns=columns, **arguments)
    SOURCES.module_dict.pop('Several')


def test_columns_of_any_source_are_checked(several, refusal):
    columns = [[0, 1], [1, 1], [-1, 0]]
    assert build_source(several(columns)).multi_labels.dtype == np.int8
    refusal(several(columns[:2]), r'shape \(2, 2\) .* 3 images and 2 classes need the shape \(3, 2')
    refusal(several([[0, 1], [1, 1], [2, 0]]), 'values from 0 to 2, but')
    refusal(several(np.full((3, 2), 0.5)), r'values from 0\.0 to 0\.5, but')
    refusal(several(columns, classes=None), 'needs classes, the names of their columns')
    refusal(several(columns, labels=[0, 1, 0]), 'and no labels')


def test_sources_of_a_run_have_their_columns_in_the_order_of_training(listed):
    train = listed('{0}\ta,b', '{1}\tb', '{2}\tb,c', '{3}\ta', '{4}\t-1', name='train.txt')
    test = listed('{5}\tc', '{6}\tb', '{7}\t-1', name='test.txt')
    sources = data_sources(Data(train=train, val=1, test=test), labelled=True)
    assert len(sources['train']) == 4 and len(sources['bank']) == 3 and len(sources['val']) == 1
    assert sources['test'].classes == ['a', 'b', 'c']
    assert sources['test'].multi_labels.tolist() == [[0, 0, 1], [0, 1, 0]]
    assert {
        '1 of 5 images of data.train have no label and are left out of evaluations',
        '1 of 3 images of data.test have no label and are left out of evaluations',
    } < set(data_warnings(sources))
    assert 'images of data.train have several classes each' in ''.join(data_notes(sources))
    rare = listed('{5}\tc', name='test.txt')
    sources = data_sources(Data(train=train, val=3, test=rare))
    assert '1 of 3 classes of the test images have no training image and cannot be found: c' in (
        sources['test'].warnings
    )
    with pytest.raises(ConfigError, match='data.test has classes that data.train does not have: x'):
        data_sources(Data(train=train, test=listed('{5}\tx,a', name='test.txt')))


def test_one_class_and_several_are_not_compared(listed):
    several = listed('{0}\ta,b', '{1}\tb', name='several.txt')
    one = listed('{0}\ta', '{1}\tb', name='one.txt', separator=None)
    with pytest.raises(ConfigError, match='data.train have several classes .* data.test have one'):
        data_sources(Data(train=several, test=one))
    with pytest.raises(ConfigError, match='data.val have several classes .* data.train have one'):
        data_sources(Data(train=one, val=several))
    with pytest.raises(ConfigError, match='data.train has no labels'):
        data_sources(Data(train=dict(several, separator=None, labelled=False), test=several))


SPLITS = dict(train=[3, 5], val=[8], test=[10, 11, 12])


def voc(root: Path) -> None:
    """Write a small VOC 2007: image n has class n modulo 20, is difficult in the next one."""
    folder = root / 'VOCdevkit' / 'VOC2007'
    (folder / 'JPEGImages').mkdir(parents=True)
    (folder / 'ImageSets' / 'Main').mkdir(parents=True)
    splits = {**SPLITS, 'trainval': SPLITS['train'] + SPLITS['val']}
    for split, numbers in splits.items():
        text = ''.join(f'{n:06d}\n' for n in numbers)
        (folder / 'ImageSets' / 'Main' / f'{split}.txt').write_text(text)
        for c, name in enumerate(CLASSES):
            lines = [f'{n:06d} {1 if n == c else 0 if n + 1 == c else -1:2d}\n' for n in numbers]
            (folder / 'ImageSets' / 'Main' / f'{name}_{split}.txt').write_text(''.join(lines))
    for n in sum(SPLITS.values(), []):
        Image.new('RGB', (16, 12), (n, 0, 0)).save(folder / 'JPEGImages' / f'{n:06d}.jpg')


def test_voc_has_the_labels_of_the_challenge(tmp_path):
    voc(tmp_path)
    for split, numbers in {**SPLITS, 'trainval': [3, 5, 8]}.items():
        source = build_source(dict(type='VOC2007', root=str(tmp_path), split=split))
        assert source.classes == list(CLASSES) and len(CLASSES) == 20
        for row, n in zip(source.multi_labels, numbers, strict=True):
            assert row[n] == 1 and row[n + 1] == -1 and np.abs(row).sum() == 2
        assert source.files == [f'VOCdevkit/VOC2007/JPEGImages/{n:06d}.jpg' for n in numbers]
        assert source.read(0).size == (16, 12) and source.labels is None
    train, test = map(build_source, transfer_sources('VOC2007', str(tmp_path)))
    assert (len(train), len(test)) == (3, 3)


def test_a_voc_that_is_not_complete(tmp_path, refusal):
    cfg = dict(type='VOC2007', root=str(tmp_path))
    refusal(cfg, 'looked for the folder VOCdevkit/VOC2007 in .* download=True')
    refusal(dict(cfg, split='all'), "split is 'all'")
    voc(tmp_path)
    main = tmp_path / 'VOCdevkit' / 'VOC2007' / 'ImageSets' / 'Main'
    file = main / 'cow_trainval.txt'
    text = file.read_text()
    for damaged, words in (
        (text.replace('-1', '2', 1), 'KeyError'),
        (text.replace('000003 ', '000004 '), 'does not name the images of trainval.txt'),
        (text[:5], 'cannot be read'),
    ):
        file.write_text(damaged)
        refusal(cfg, f'{words}.* fetch VOC2007 again')
    file.unlink()
    refusal(cfg, 'FileNotFoundError.* fetch VOC2007 again')
    file.write_text(text)
    (main.parents[1] / 'JPEGImages' / '000005.jpg').unlink()
    refusal(cfg, '1 of 3 images checked of VOC2007 are not in .*000005.jpg')
    (main / 'trainval.txt').unlink()
    refusal(cfg, 'are not complete')
