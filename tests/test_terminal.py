"""Names of files and values of configs cannot act on the terminal."""

import io
import os
import sys

import pytest

from ssl_zoo.cli.main import main
from ssl_zoo.distributed.run_command import run_command
from ssl_zoo.engine.logger import make_logger
from ssl_zoo.engine.work_dir import make_work_dir
from ssl_zoo.errors import ConfigError
from ssl_zoo.terminal import PrintableStream, printable_output

pytestmark = pytest.mark.quick

HOSTILE = 'a\x1b]0;title\x07\x9b2J\rb\u202ec\udcff'
SHOWN = 'a\\x1b]0;title\\x07\\x9b2J\\x0db\\u202ec\\udcff'


def test_a_stream_shows_control_characters_escaped():
    stream = io.StringIO()
    with_escapes = PrintableStream(stream)
    print(HOSTILE, end='|', file=with_escapes)
    with_escapes.writelines(['\x1b\n', '\t'])
    with_escapes.write('\r50 %\r')  # a progress bar goes back to the start of its line
    assert stream.getvalue() == f'{SHOWN}|\\x1b\n\t\r50 %\\x0d'


def test_a_terminal_without_the_characters_shows_escapes():
    stream = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
    print('86 ± 1', file=PrintableStream(stream), flush=True)
    assert stream.buffer.getvalue() == b'86 \\xb1 1\n'


def test_what_a_command_prints_is_printable_and_an_error_is_one_line(capsys):
    def command():
        print(HOSTILE)
        raise ConfigError(f'there is no {HOSTILE}\nerror: none')

    assert run_command(command, '') == 2
    assert capsys.readouterr() == (f'{SHOWN}\n', f'error: there is no {SHOWN} error: none\n')
    assert not isinstance(sys.stderr, PrintableStream)


@pytest.mark.parametrize(
    'arguments',
    [
        [HOSTILE],
        ['compare', '--metric', HOSTILE, 'x.npz', 'x.npz'],
        ['compare', HOSTILE, HOSTILE],
        ['compare', 'a', 'b', '--x', HOSTILE],
        ['leaderboard', HOSTILE],
        ['plot', HOSTILE],
        ['new-method', HOSTILE],
        ['make-shards', HOSTILE, 'x'],
        ['train', HOSTILE],
        ['train', 'x.py', '--work-dir', 'a\udcff'],
        ['leaderboard', '.', '--csv', 'a\udcff'],
        ['make-shards', '{}', 'a\udcff'],
    ],
)
def test_arguments_in_messages_are_shown_escaped(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    printed = ''.join(capsys.readouterr())
    assert code == 2 and 'error: ' in printed
    assert printed.replace('\n', '').isprintable()


def test_a_work_directory_below_a_path_that_is_not_utf8_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='is not UTF-8'):
        make_work_dir(tmp_path / 'a\udcff' / 'run', unique=True)
    assert not list(tmp_path.iterdir())


def test_every_line_of_a_log_is_written(tmp_path, capsys):
    with printable_output():
        logger = make_logger(f'test {tmp_path}', tmp_path)
        logger.warning(HOSTILE)
    assert (tmp_path / 'train.log').read_bytes().endswith(f'  {SHOWN}\n'.encode())
    assert capsys.readouterr().out.endswith(f'  {SHOWN}\n')


def test_the_end_of_the_reader_of_a_pipe_ends_no_command(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, 'w') as stream:
        monkeypatch.setattr(sys, 'stdout', stream)
        with printable_output():
            for _ in range(3):
                print('a line of a table' * 1000, flush=True)
            print('a text that waits in the buffer')
