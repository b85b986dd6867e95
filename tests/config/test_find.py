"""A config and a study are found by path or by the name of a shipped one."""

import pytest

from ssl_zoo.config.find import config_names, find_config, find_study, study_names
from ssl_zoo.config.loading import load_config
from ssl_zoo.errors import ConfigError
from ssl_zoo.studies.load import load_study

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def outside_the_clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    'name', ['byol/digits', 'byol/digits.py', 'configs/byol/digits', 'configs/byol/digits.py']
)
def test_a_shipped_config_is_found_by_its_name(name, root):
    assert find_config(name) == root / 'configs/byol/digits.py'
    assert load_config(name).method['type'] == 'BYOL'  # its _base_ resolves as well


@pytest.mark.parametrize(
    'name', ['digits', 'digits.py', 'studies/digits', 'configs/studies/digits.py']
)
def test_a_shipped_study_is_found_by_its_name(name, root):
    assert find_study(name) == root / 'configs/studies/digits.py'
    assert load_study(name).name == 'digits'


def test_a_file_wins_over_the_name_of_a_shipped_config(tmp_path):
    (tmp_path / 'byol').mkdir()
    (tmp_path / 'byol/digits.py').write_text('')
    assert find_config('byol/digits.py').absolute() == tmp_path / 'byol/digits.py'


@pytest.mark.parametrize(
    ('find', 'name', 'sentence'),
    [
        (find_config, 'byol/digit', 'a shipped config, such as byol/digits'),
        (find_config, 'configs/byol/r18_cifar.py', 'such as byol/r18_cifar10'),
        (find_config, '../byol/digits.py', 'there is no config at'),
        (find_config, '_base_/digits', 'there is no config at'),
        (find_study, 'digts', 'a shipped study, such as digits'),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(find, name, sentence):
    with pytest.raises(ConfigError, match='there is no') as error:
        find(name)
    assert sentence in str(error.value)


def test_an_absolute_path_is_no_name(tmp_path):
    with pytest.raises(ConfigError, match='there is no config at'):
        find_config(tmp_path / 'byol/digits.py')


def test_names_are_those_of_the_files(root):
    files = {
        file.relative_to(root / 'configs').with_suffix('').as_posix()
        for file in (root / 'configs').rglob('*.py')
    }
    shipped = {*config_names(), *(f'studies/{name}' for name in study_names())}
    assert shipped == {name for name in files if not name.startswith('_base_/')}
