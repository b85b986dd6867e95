import ast
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl_zoo.config.loading import load_config
from ssl_zoo.config.writing import config_text

pytestmark = pytest.mark.quick

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.sampled_from(['lr', 'class', 'self', 'type']), inner)
    ),
    max_leaves=30,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(['method', 'data', 'views', 'epochs']), VALUES))
def test_the_text_gives_the_settings_again(values):
    scope = {}
    exec(config_text(values), scope)
    scope.pop('__builtins__')
    assert scope == values
    assert repr(scope) == repr({name: values[name] for name in scope})  # 1 is no 1.0, -0.0 no 0.0


def test_a_name_that_python_would_normalise_stays():
    scope = {}
    exec(config_text({'method': {'\u00b5': 1}}), scope)  # as an identifier it becomes U+03BC
    assert scope['method'] == {'\u00b5': 1}


def test_values_that_are_not_finite():
    assert config_text(dict(a=math.inf, b=[-math.inf])) == "a = float('inf')\nb = [float('-inf')]\n"
    assert config_text(dict(a=math.nan)) == "a = float('nan')\n"


def test_long_values_are_broken_into_lines():
    views = [dict(size=224, jitter=[0.4, 0.4, 0.2, 0.1], jitter_p=0.8, flip_p=0.5, name='one')] * 2
    assert config_text(dict(epochs=3, views=views, one=(1,), mine={'a b': 1})) == (
        'epochs = 3\n'
        'views = [\n'
        "    dict(size=224, jitter=[0.4, 0.4, 0.2, 0.1], jitter_p=0.8, flip_p=0.5, name='one'),\n"
        "    dict(size=224, jitter=[0.4, 0.4, 0.2, 0.1], jitter_p=0.8, flip_p=0.5, name='one'),\n"
        ']\n'
        'one = (1,)\n'
        "mine = {'a b': 1}\n"
    )


@pytest.mark.parametrize('name', ['byol/r50_imagenet', 'dino/vit_s16_imagenet', 'swav/digits'])
def test_a_shipped_config_is_read_again_as_it_was(name, tmp_path):
    settings = load_config(name)
    text = config_text(settings.to_builtin())
    path = tmp_path / 'config.py'
    path.write_text(text)
    assert load_config(path).to_builtin() == settings.to_builtin()
    assert max(map(len, text.splitlines())) <= 100
    ast.parse(text)
