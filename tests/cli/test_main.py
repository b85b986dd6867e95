"""The command ``ssl-zoo`` and the scripts in tools/ find the same functions."""

import os
import subprocess
import sys
from importlib import import_module

import pytest

import ssl_zoo
from ssl_zoo.cli.main import COMMANDS, main

pytestmark = pytest.mark.quick


@pytest.mark.parametrize('arguments', [[], ['-h'], ['--help']])
def test_without_a_command_the_commands_are_listed_with_a_line_each(arguments, capsys):
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for name, command in COMMANDS.items():
        [line] = [line for line in lines if line.split()[:1] == [name]]
        assert line.split(maxsplit=1)[1] == command.summary


def test_version(capsys):
    assert main(['--version']) == 0
    assert capsys.readouterr().out == f'ssl-zoo {ssl_zoo.__version__}\n'


@pytest.mark.parametrize(
    ('wrong', 'right'), [('trian', "'train'"), ('extract_features', "'extract-features'")]
)
def test_a_wrong_command_is_answered_with_the_nearest(wrong, right, capsys):
    assert main([wrong]) == 2
    message = capsys.readouterr().err
    assert f'{wrong!r} is not a command: did you mean {right}' in message


def test_every_module_with_a_main_is_a_command(root):
    with_main = {
        path.stem for path in (root / 'ssl_zoo/cli').glob('*.py') if 'def main(' in path.read_text()
    }
    assert with_main == {command.module for command in COMMANDS.values()} | {'main'}


@pytest.mark.parametrize('name', COMMANDS)
def test_a_command_and_its_script_have_the_same_help(name, root, monkeypatch, capsys):
    script = f'tools/{name.replace("-", "_")}.py'
    module = import_module(f'ssl_zoo.cli.{COMMANDS[name].module}')
    helps = []
    for program, shown in (('ssl-zoo', f'ssl-zoo {name}'), (str(root / script), script)):
        monkeypatch.setattr(sys, 'argv', [program])
        with pytest.raises(SystemExit, match='0'):
            module.main(['--help'])
        usage, text = capsys.readouterr().out.split('\n\n', 1)
        assert usage.startswith(f'usage: {shown} ')
        helps.append(text)
    assert helps[0] == helps[1]


def test_there_is_a_script_for_every_command(root):
    scripts = {path.stem.replace('_', '-'): path for path in (root / 'tools').glob('*.py')}
    assert set(scripts) == set(COMMANDS)
    # A reader of tools/train.py is sent straight to the training.
    assert "run_program('ssl_zoo.cli.train', sys.argv[1:])" in scripts.pop('train').read_text()
    for name, path in scripts.items():
        assert f"run_program('ssl_zoo.cli.main', ['{name}', *sys.argv[1:]])" in path.read_text()


def test_the_exit_code_is_that_of_the_command(capsys):
    assert main(['train', 'no/such_config']) == 2
    assert 'there is no config at' in capsys.readouterr().err


@pytest.mark.parametrize(('name', 'library'), [('train', 'torch'), ('leaderboard', 'html')])
def test_ctrl_c_while_libraries_are_imported_leaves_no_traceback(name, library, root, tmp_path):
    """An import that sends the signal to its own process, and hides it, stands for the imports."""
    (tmp_path / f'{library}.py').write_text(
        'import os, signal, time\n'
        'try:\n'
        '    os.kill(os.getpid(), signal.SIGINT)\n'
        '    time.sleep(1)\n'
        'except BaseException:\n'
        '    pass\n'
        'raise ImportError("broken")'
    )
    script = root / f'tools/{name}.py'
    code = (
        f'import runpy, sys; sys.path[:0] = [{str(tmp_path)!r}, {str(root)!r}]\n'
        f'sys.argv = [{str(script)!r}, "none"]\n'
        f'runpy.run_path({str(script)!r}, run_name="__main__")'
    )
    done = subprocess.run(
        [sys.executable, '-S', '-c', code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    assert done.returncode == 130
    assert done.stderr == 'stopped\n'
