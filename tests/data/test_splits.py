"""The sources of a run: hold-outs, and the numbers of the classes."""

import numpy as np
import pytest

from ssl_zoo.config.settings import Data
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.data.splits import align_classes, data_sources, hold_out
from ssl_zoo.errors import ConfigError

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
            align_classes(named_source('a', [0], strange), bank, 'test')


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
