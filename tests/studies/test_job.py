"""ssl_zoo/studies/job.py: a trial never sees test images, a run leaves its figures and cost, what was found is not found again."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.studies import job as unit_module
from ssl_zoo.studies.job import main, read_json
from ssl_zoo.studies.load import load_study
from ssl_zoo.studies.plan import Jobs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def units(tmp_path_factory):
    folder = tmp_path_factory.mktemp('study')
    (folder / 'tiny.py').write_text(f"""
title = 'x'
methods = {{'BYOL': {str(ROOT / 'configs/byol/digits.py')!r}}}
recipe = ['epochs=2', 'warmup_epochs=0', 'batch_size=40', 'method.backbone.width=0.125', 'method.hidden_dim=32', 'method.proj_dim=16',
          'data.train.limit=200', 'data.on_device=True', 'workers=0', 'online_eval.every=1', 'views.0.size=20', 'views.1.size=20', 'log_every=3']
seeds = [0]
tune = dict(factors=[1, 2], options=['epochs=1'])
evaluate = dict(strengths=[1, 100], labels=['10%'], finetune=dict(lrs=[0.1, 0.2], epochs=[2], batch_size=20, flip_p=0.0))
""")
    units = Jobs(load_study(folder / 'tiny.py'), folder / 'out')
    for unit in units:
        units.prepare(unit)
        assert main(str(unit.folder)) == 0
    return units


def test_a_trial_sees_the_hold_out_and_no_test_image(units):
    trial = units.trials[1]
    record = read_json(trial.folder / 'record.json')
    rows = rows_of(trial.folder / 'results.jsonl')
    assert {row['test'] for row in rows} == {'val'} and {row['n'] for row in rows} == {180}
    assert record['val_knn'] == next(
        row['value'] for row in rows if (row['metric'], row['weights']) == ('knn_top1', 'trained')
    )
    assert (
        record['status'],
        record['key'],
        record['factor'],
        record['value'],
        record['n_val'],
    ) == ('done', 'base_lr', 2, 16.0, 180)
    assert (
        rows[0]['config']['base_lr'] == 16.0
        and rows[0]['config']['seed'] == 1000
        and rows[0]['config']['epochs'] == 1
    )


def test_a_run_leaves_figures_that_the_tools_would_give(units):
    run = units.runs[0]
    record = read_json(run.folder / 'record.json')
    best = max(
        (read_json(unit.folder / 'record.json') for unit in units.trials),
        key=lambda r: r['val_knn'],
    )
    assert (
        record['lr'] == {key: best[key] for key in ('key', 'factor', 'value')}
        and record['config']['base_lr'] == best['value']
    )
    rows = [row for row in rows_of(run.folder / 'results.jsonl') if 'checkpoint_sha256' in row]
    values = {
        row['metric']: row['value']
        for row in rows
        if row.get('selection', 'chosen').startswith('chosen')
    }
    assert record['figures'] == {
        'knn': values['knn_top1'],
        'linear': values['logistic_top1'],
        '10%': values['semi_supervised_top1'],
    }
    assert record['n_test'] == 360 and {row['n'] for row in rows} == {360}
    assert {row['checkpoint_sha256'] for row in rows} == {record['checkpoint_sha256']}
    assert (run.folder / record['checkpoint']).is_file() and not (
        run.folder / 'partial.json'
    ).exists()


def test_its_cost(units):
    record = read_json(units.runs[0].folder / 'record.json')
    cost = record['cost']
    speeds = [
        row['train/images_per_second']
        for row in rows_of(units.runs[0].folder / 'log.jsonl')
        if 'train/images_per_second' in row and row['step'] > 1
    ]
    assert cost['images_per_second'] == statistics.median(speeds) and (
        cost['epochs'],
        cost['images'],
        cost['steps'],
    ) == (2, 200, 10)
    assert (
        0 < cost['train_seconds'] < cost['total_seconds']
        and cost['device_hours'] == cost['train_seconds'] * cost['devices'] / 3600
    )
    assert 2**27 < cost['peak_memory_bytes'] < 2**35 and cost['memory_of'] == 'process'
    from ssl_zoo.build import build_method
    from ssl_zoo.config.loading import load_config

    said = read_json(units.runs[0].folder / 'unit.json')
    method = build_method(load_config(said['config_file'], said['options']))
    assert cost['parameters'] == sum(p.numel() for p in method.backbone.parameters())


def test_the_map_is_of_test_images(units):
    with np.load(units.runs[0].folder / 'map.npz') as content:
        assert content['features'].shape[0] == content['labels'].shape[0] == 360 and content[
            'thumbnails'
        ].shape == (360, 32, 32, 3)
        assert list(content['classes']) == [str(i) for i in range(10)]


def test_the_untrained_network(units):
    record = read_json(units.baselines[0].folder / 'record.json')
    rows = rows_of(units.baselines[0].folder / 'results.jsonl')
    assert (
        record['method'] == 'random weights'
        and set(record['figures']) == {'knn', 'linear', '10%'}
        and record['status'] == 'done'
    )
    assert {row['weights'] for row in rows} == {'random weights'}
    start = next(
        row
        for row in rows_of(units.runs[0].folder / 'results.jsonl')
        if row['weights'] == 'random weights'
    )
    assert record['figures']['knn'] == start['value']  # what the training's own report says of them


def test_what_was_found_is_not_found_again(units, monkeypatch, tmp_path):
    """Stopped in the second figure, the unit neither trains nor measures the first once more."""
    run = units.runs[0]
    before = read_json(run.folder / 'record.json')
    said = read_json(run.folder / 'unit.json')
    said['options'] = [*said['options'], 'seed=3']
    (tmp_path / 'unit.json').write_text(json.dumps(said))

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(unit_module, 'evaluate_logistic', stopped)
    assert main(str(tmp_path)) == 130 and not (tmp_path / 'record.json').exists()
    assert list(read_json(tmp_path / 'partial.json')['figures']) == ['knn']
    monkeypatch.undo()
    for name in ('evaluate_knn', 'build_runner'):
        monkeypatch.setattr(unit_module, name, None)  # a call would raise
    assert main(str(tmp_path)) == 0
    record = read_json(tmp_path / 'record.json')
    assert (
        set(record['figures']) == set(before['figures'])
        and record['cost']['total_seconds'] > record['cost']['train_seconds'] > 0
    )


def test_a_trial_that_diverges_has_come_to_its_end(units, tmp_path, monkeypatch):
    def diverged(_):
        raise FloatingPointError('the loss is nan at step 3')

    said = read_json(units.trials[0].folder / 'unit.json')
    (tmp_path / 'unit.json').write_text(json.dumps(said))
    monkeypatch.setattr(unit_module.Work, 'train', diverged)
    assert main(str(tmp_path)) == 0
    record = read_json(tmp_path / 'record.json')
    assert (record['status'], record['val_knn'], record['diverged'], record['value']) == (
        'done',
        None,
        'the loss is nan at step 3',
        8,
    )


def test_a_unit_dies_with_its_worker(units, tmp_path):
    said = read_json(units.runs[0].folder / 'unit.json')
    said['options'] = [*said['options'], 'epochs=5000']
    (tmp_path / 'unit.json').write_text(json.dumps(said))
    worker = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-m', 'ssl_zoo.studies.job', sys.argv[1]], "
        "start_new_session=True, stdout=open(sys.argv[1] + '/out', 'w')); print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen(
        [sys.executable, '-c', worker, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        pid = int(process.stdout.readline())
        deadline = time.monotonic() + 60
        while (
            not any('train/loss' in row for row in rows_of(tmp_path / 'log.jsonl'))
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)  # a step is done: from then on it saves
        process.kill()
    while (
        Path(f'/proc/{pid}/stat').exists()
        and Path(f'/proc/{pid}/stat').read_text().split()[2] != 'Z'
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (
        any((tmp_path / 'checkpoints').glob('step_*.pth'))
        and not (tmp_path / 'record.json').exists()
    )  # it saved


def test_a_folder_without_a_unit(tmp_path):
    from ssl_zoo.errors import ConfigError

    with pytest.raises(ConfigError, match='has no readable unit.json'):
        main(str(tmp_path))
