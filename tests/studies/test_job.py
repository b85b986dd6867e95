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
from ssl_zoo.studies import figures
from ssl_zoo.studies import job as job_module
from ssl_zoo.studies.job import main
from ssl_zoo.studies.json_files import read_json
from ssl_zoo.studies.load import load_study
from ssl_zoo.studies.plan import Jobs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def jobs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('study')
    (folder / 'tiny.py').write_text(f"""
title = 'x'
methods = {{'BYOL': {str(ROOT / 'configs/byol/digits.py')!r}}}
recipe = ['epochs=2', 'warmup_epochs=0', 'batch_size=40', 'method.backbone.width=0.125', 'method.hidden_dim=32', 'method.proj_dim=16',
          'data.train.limit=200', 'data.on_device=True', 'schedulers=0', 'online_eval.every=1', 'views.0.size=20', 'views.1.size=20', 'log_every=3']
seeds = [0]
tune = dict(factors=[1, 2], options=['epochs=1'])
evaluate = dict(strengths=[1, 100], labels=['10%'], finetune=dict(lrs=[0.1, 0.2], epochs=[2], batch_size=20, flip_p=0.0))
""")
    jobs = Jobs(load_study(folder / 'tiny.py'), folder / 'out')
    for job in jobs:
        jobs.prepare(job)
        assert main(str(job.folder)) == 0
    return jobs


def test_a_trial_sees_the_hold_out_and_no_test_image(jobs):
    trial = jobs.trials[1]
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


def test_a_run_leaves_figures_that_the_tools_would_give(jobs):
    run = jobs.runs[0]
    record = read_json(run.folder / 'record.json')
    best = max(
        (read_json(job.folder / 'record.json') for job in jobs.trials),
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


def test_its_cost(jobs):
    record = read_json(jobs.runs[0].folder / 'record.json')
    cost = record['cost']
    speeds = [
        row['train/images_per_second']
        for row in rows_of(jobs.runs[0].folder / 'log.jsonl')
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

    task = read_json(jobs.runs[0].folder / 'job.json')
    method = build_method(load_config(task['config_file'], task['options']))
    assert cost['parameters'] == sum(p.numel() for p in method.backbone.parameters())


def test_the_map_is_of_test_images(jobs):
    with np.load(jobs.runs[0].folder / 'map.npz') as content:
        assert content['features'].shape[0] == content['labels'].shape[0] == 360 and content[
            'thumbnails'
        ].shape == (360, 32, 32, 3)
        assert list(content['classes']) == [str(i) for i in range(10)]


def test_the_untrained_network(jobs):
    record = read_json(jobs.baselines[0].folder / 'record.json')
    rows = rows_of(jobs.baselines[0].folder / 'results.jsonl')
    assert (
        record['method'] == 'random weights'
        and set(record['figures']) == {'knn', 'linear', '10%'}
        and record['status'] == 'done'
    )
    assert {row['weights'] for row in rows} == {'random weights'}
    start = next(
        row
        for row in rows_of(jobs.runs[0].folder / 'results.jsonl')
        if row['weights'] == 'random weights'
    )
    assert record['figures']['knn'] == start['value']  # what the training's own report says of them


def test_what_was_found_is_not_found_again(jobs, monkeypatch, tmp_path):
    """Stopped in the second figure, the job neither trains nor measures the first once more."""
    run = jobs.runs[0]
    before = read_json(run.folder / 'record.json')
    task = read_json(run.folder / 'job.json')
    task['options'] = [*task['options'], 'seed=3']
    (tmp_path / 'job.json').write_text(json.dumps(task))

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(figures, 'evaluate_logistic', stopped)
    assert main(str(tmp_path)) == 130 and not (tmp_path / 'record.json').exists()
    assert list(read_json(tmp_path / 'partial.json')['figures']) == ['knn']
    monkeypatch.undo()
    # A call would raise.
    monkeypatch.setattr(figures, 'evaluate_knn', None)
    monkeypatch.setattr(job_module, 'build_runner', None)
    assert main(str(tmp_path)) == 0
    record = read_json(tmp_path / 'record.json')
    assert (
        set(record['figures']) == set(before['figures'])
        and record['cost']['total_seconds'] > record['cost']['train_seconds'] > 0
    )


def test_a_trial_that_diverges_has_come_to_its_end(jobs, tmp_path, monkeypatch):
    def diverged(_):
        raise FloatingPointError('the loss is nan at step 3')

    task = read_json(jobs.trials[0].folder / 'job.json')
    (tmp_path / 'job.json').write_text(json.dumps(task))
    monkeypatch.setattr(job_module, 'train', diverged)
    assert main(str(tmp_path)) == 0
    record = read_json(tmp_path / 'record.json')
    assert (record['status'], record['val_knn'], record['diverged'], record['value']) == (
        'done',
        None,
        'the loss is nan at step 3',
        8,
    )


def test_a_job_dies_with_its_scheduler(jobs, tmp_path):
    task = read_json(jobs.runs[0].folder / 'job.json')
    task['options'] = [*task['options'], 'epochs=5000']
    (tmp_path / 'job.json').write_text(json.dumps(task))
    scheduler = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-m', 'ssl_zoo.studies.job', sys.argv[1]], "
        "start_new_session=True, stdout=open(sys.argv[1] + '/out', 'w')); print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen(
        [sys.executable, '-c', scheduler, str(tmp_path)], stdout=subprocess.PIPE, text=True
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


def test_a_folder_without_a_job(tmp_path):
    from ssl_zoo.errors import ConfigError

    with pytest.raises(ConfigError, match='has no readable job.json'):
        main(str(tmp_path))
