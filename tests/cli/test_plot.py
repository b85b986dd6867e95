"""tools/plot.py as a user runs it."""

import importlib
import json
import re

import pytest
from PIL import Image

from ssl_zoo.reports.compare_runs import run_labels


@pytest.fixture
def runs(tmp_path):
    """Three runs whose folders share names; the last has no decay."""
    folders = [tmp_path / name / 'seed_0' for name in ('byol', 'moco/a', 'moco/b')]
    for i, folder in enumerate(folders):
        folder.mkdir(parents=True)
        rows = [
            {
                'step': s,
                'epoch': s / 10,
                'train/loss': 4.0 - s / 10,
                'train/feature_std': 0.9,
                'val/feature_std': 0.8,
                'val/knn': 60 + s + i,
                **({} if i == 2 else {'train/decay': 0.9}),
            }
            for s in range(11)
        ]
        (folder / 'log.jsonl').write_text(
            ''.join(json.dumps(row) + '\n' for row in rows) + '{"step": 11, "epo'
        )
    return [str(folder) for folder in folders]


@pytest.fixture
def plot(root, capsys, tmp_path, monkeypatch):
    """Function: the tool's main in this process, in tmp_path; exit code, stdout, stderr."""
    module = importlib.import_module('ssl_zoo.cli.plot')
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = module.main([str(a) for a in arguments])
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


def test_runs_side_by_side(runs, plot, tmp_path):
    code, out, err = plot(*runs)
    assert code == 0 and not err and out == 'b/seed_0 has no train/decay\nwrote plot.png\n'
    with Image.open(tmp_path / 'plot.png') as image:
        assert image.format == 'PNG' and image.width > 1000
    code, out, err = plot(*runs, '--out', 'new/curves.svg', '--keys', 'knn', 'loss')
    assert code == 0 and out == 'wrote new/curves.svg\n' and not err
    text = (tmp_path / 'new/curves.svg').read_text()
    words = re.findall(r'<text[^>]*>(?:<[^>]*>)?([^<]+)<', text)
    assert {'byol/seed_0', 'a/seed_0', 'b/seed_0', 'k-NN on val, %', 'loss', 'epoch'} <= set(words)
    assert (
        plot(*runs, '--out', 'again.svg', '--keys', 'knn', 'loss')[0] == 0
        and (tmp_path / 'again.svg').read_text() == text
    )


def test_labels_are_as_short_as_they_can_be():
    assert run_labels(['/x/byol', '/x/moco/log.jsonl']) == ['byol', 'moco']
    assert run_labels(['/x/a/0', '/y/a/0', '/x/b/0']) == ['x/a/0', 'y/a/0', 'x/b/0']


def test_mistakes_get_one_line(runs, plot, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty/log.jsonl').write_text('{"step": 1')
    for arguments, words in (
        (
            (runs[0], '--keys', 'train/los'),
            "no run has logged 'train/los': did you mean 'train/loss' or ",
        ),
        (
            (runs[0], '--keys', 'feature_std'),
            "'feature_std' may be val/feature_std or train/feature_std; write it in full",
        ),
        (
            (runs[0], 'none'),
            'there is no curve in none/log.jsonl; give the work directory of a run',
        ),
        (('empty',), 'there is no curve in empty/log.jsonl'),
        ((runs[0], runs[0]), 'is given twice'),
        (
            (runs[0], '--out', 'plot.gif'),
            "--out is 'plot.gif', but it must end in .png, .svg, .pdf",
        ),
        ((runs[0], '--out', f'{runs[1]}/log.jsonl/x.png'), 'could not write'),
    ):
        code, out, err = plot(*arguments)
        assert (
            code == 2
            and not out
            and err.startswith('error: ')
            and words in err
            and err.count('\n') == 1
        ), err
