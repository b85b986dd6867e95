import pytest

from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import METHODS, SOURCES, Registry

pytestmark = pytest.mark.quick


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"'BYLO' is not a registered method: did you mean 'BYOL'"
    ):
        METHODS.find('BYLO')
    with pytest.raises(ConfigError, match="did you mean 'ImageFolder'"):
        SOURCES.create(dict(type='ImagesFolder', root='x'))


def test_a_misspelt_or_missing_argument_is_named():
    with pytest.raises(
        ConfigError, match=r"source 'Digits' has no argument 'spilt': did you mean 'split'"
    ):
        SOURCES.create(dict(type='Digits', spilt='train'))
    with pytest.raises(ConfigError, match="source 'ImageFolder' needs 'root'"):
        SOURCES.create(dict(type='ImageFolder'))
    with pytest.raises(ConfigError, match='is written dict'):
        SOURCES.create('Digits')


@pytest.mark.parametrize('name', ['os.system', 'torch.nn.Linear', 'mmengine.BaseModel'])
def test_no_dotted_path_is_imported(name):
    with pytest.raises(ConfigError, match='is not a registered'):
        METHODS.create(dict(type=name))


def test_a_class_registers_and_builds():
    registry = Registry('thing')

    @registry.register_module()
    class Thing:
        def __init__(self, a, b=2):
            self.sum = a + b

    assert registry.create(dict(type='Thing', a=1), b=5).sum == 6
    assert registry.names() == ['Thing']
