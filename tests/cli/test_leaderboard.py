"""tools/leaderboard.py as a user runs it."""

import csv
import json

import pytest


@pytest.mark.long
def test_two_seeds_and_what_is_refused(run_tool, root, tmp_path):
    for seed, value in ((0, 90.0), (1, 92.0)):
        folder = tmp_path / 'work_dirs' / f'seed_{seed}'
        folder.mkdir(parents=True)
        row = dict(
            metric='knn_top1',
            value=value,
            weights='trained',
            protocol=dict(name='own', k=20),
            test='Digits',
            test_manifest='aa11',
            n=360,
            seed=seed,
            config=dict(method=dict(type='BYOL'), seed=seed),
        )
        (folder / 'results.jsonl').write_text(json.dumps(row) + '\n')
    tool = root / 'tools/leaderboard.py'
    done = run_tool(tool, 'work_dirs', '--csv', 'table.csv', cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert (
        '91.00 (1.41, 2 seeds)  BYOL' in done.stdout
        and '1 figures of 2 rows in 2 files' in done.stdout
    )
    assert 'written: work_dirs/leaderboard.html\nwritten: table.csv' in done.stdout
    assert (tmp_path / 'work_dirs/leaderboard.html').read_text().startswith('<!DOCTYPE html>')
    assert [line['seeds'] for line in csv.DictReader(open(tmp_path / 'table.csv'))] == ['0, 1']
    for arguments, sentence in (
        (['nowhere'], 'error: there is nothing at'),
        (['work_dirs', '--metric', 'knn'], "has the metric 'knn'"),
        (
            ['work_dirs', '--out', '/dev/null/board.html'],
            'error: could not write /dev/null/board.html',
        ),
    ):
        refused = run_tool(tool, *arguments, cwd=tmp_path)
        assert (
            refused.returncode == 2
            and sentence in refused.stderr
            and len(refused.stderr.splitlines()) == 1
        ), refused.stderr
