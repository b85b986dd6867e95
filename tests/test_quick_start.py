"""The quick start does what the README says. About a minute and a half on two cores."""

import json


def test_digits_reach_what_the_readme_says(run_tool, root, tmp_path):
    done = run_tool(
        root / 'tools/train.py',
        root / 'configs/byol/digits.py',
        '--work-dir',
        tmp_path / 'run',
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    rows = [
        json.loads(line) for line in (tmp_path / 'run' / 'results.jsonl').read_text().splitlines()
    ]
    value = {(row['metric'], row['weights']): row['value'] for row in rows}
    assert value['knn_top1', 'trained'] >= 95
    assert (
        value['probe_2_per_class_top1', 'trained']
        >= value['probe_2_per_class_top1', 'random weights'] + 20
    )
    assert 'warning' not in done.stdout
