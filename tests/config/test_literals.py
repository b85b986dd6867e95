import pytest

from ssl_zoo.config.literals import read_literal, read_source_config
from ssl_zoo.config.options import apply_option
from ssl_zoo.errors import ConfigError

pytestmark = pytest.mark.quick
PATH = '/photos/\udcff\x1b[2J\\é'  # bytes that are not UTF-8, as Python has them in sys.argv


def test_a_path_of_any_bytes_in_a_literal():
    text = repr(PATH).encode('utf-8', 'surrogateescape').decode('utf-8', 'surrogateescape')
    assert read_literal(text) == PATH
    assert read_literal("'/photos/\udcff'") == '/photos/\udcff'
    assert read_literal("'\\\\udcff'") == '\\udcff'  # six characters stay six
    config = dict(type='Images', root='/photos/\udcff')
    assert read_source_config("{'type': 'Images', 'root': '/photos/\udcff'}", '--source') == config
    cfg = dict(data=dict(train=None))
    apply_option(cfg, "data.train={'type': 'Images', 'root': '/photos/\udcff'}")
    assert cfg['data']['train'] == config


@pytest.mark.parametrize('text', ['(', 'Images', '{[]: 1}', '(' * 500 + '1' + ',)' * 500, 'f()'])
def test_what_is_no_literal_raises_one_error(text):
    with pytest.raises(ValueError, match='not a literal'):
        read_literal(text)
    with pytest.raises(ConfigError, match='--source .* is not a dict such as'):
        read_source_config(text, '--source')
