"""tools/report.py: exit codes and messages."""

import json

import pytest

from ssl_zoo.cli import report


@pytest.fixture
def tool(capsys):
    """Function: the command's main in this process; exit code, stdout, stderr."""

    def run(*arguments):
        code = report.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def run(tmp_path):
    """A folder with a log alone."""
    rows = [{'step': step, 'epoch': step / 10, 'train/loss': 1 / step} for step in range(1, 9)]
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'log.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return folder


def test_curves_of_a_run_that_has_a_log_alone(tool, run, tmp_path):
    code, out, err = tool(run)
    path = run / 'report.html'
    assert code == 0 and out.endswith(f'wrote {path}\n') and not err
    assert 'no checkpoint that can be read' in out
    page = path.read_text()
    assert 'loss (train/loss): 1 at epoch 0.1, 0.125 at epoch 0.8.' in page
    code, out, err = tool(run, '--no-images', '--out', tmp_path / 'new' / 'page.html')
    assert code == 0 and out == f'wrote {tmp_path}/new/page.html\n' and not err


def test_mistakes_are_one_sentence(tool, run, tmp_path):
    (tmp_path / 'file').write_text('mine')
    (tmp_path / 'empty').mkdir()
    for arguments, message in (
        ([tmp_path / 'missing'], 'there is no run at'),
        ([tmp_path / 'file'], 'there is no run at'),
        ([tmp_path / 'empty'], 'is no work directory of a run'),
        ([run, '--out', tmp_path / 'file'], 'choose another file with --out'),
        ([run, '--out', tmp_path / 'empty'], 'choose another file with --out'),
    ):
        code, out, err = tool(*arguments)
        assert code == 2 and not out and err.count('\n') == 1 and message in err
    assert (tmp_path / 'file').read_text() == 'mine'
