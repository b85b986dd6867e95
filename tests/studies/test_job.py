"""A trial sees no test image, a run leaves figures and cost, what was measured is not repeated."""

import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ssl_zoo.build import build_method
from ssl_zoo.config.loading import load_config
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.studies import figures
from ssl_zoo.studies import job as job_module
from ssl_zoo.studies.job import main
from ssl_zoo.studies.json_files import read_json
from ssl_zoo.studies.load import load_study
from ssl_zoo.studies.plan import Jobs
from ssl_zoo.studies.results import read_study

ROOT = Path(__file__).parents[2]
STUDY = f"""
title = 'x'
methods = {{'BYOL': {str(ROOT / 'configs/byol/digits.py')!r}}}
recipe = [
    'epochs=2',
    'warmup_epochs=0',
    'batch_size=40',
    'method.backbone.width=0.125',
    'method.hidden_dim=32',
    'method.proj_dim=16',
    'data.train.limit=200',
    'data.on_device=True',
    'workers=0',
    'online_eval.every=1',
    'views.0.size=20',
    'views.1.size=20',
    'log_every=3',
]
seeds = [0]
tune = dict(factors=[1, 2], options=['epochs=1'])
_finetune = dict(lrs=[0.1, 0.2], epochs=[2], batch_size=20, flip_p=0.0)
evaluate = dict(strengths=[1, 100], labels=['10%'], finetune=_finetune)
"""


@pytest.fixture(scope='module')
def jobs(tmp_path_factory):
    """The jobs of a tiny study, all done in this process."""
    folder = tmp_path_factory.mktemp('study')
    (folder / 'tiny.py').write_text(STUDY)
    jobs = Jobs(load_study(folder / 'tiny.py'), folder / 'out')
    for job in jobs:
        jobs.prepare(job)
        assert main([str(job.folder)]) == 0
    return jobs


def record_of(job) -> dict:
    return read_json(job.folder / 'record.json')


def copy_task(job, folder, *more_options) -> None:
    """Write the job.json of a job into another folder, with further options."""
    task = read_json(job.folder / 'job.json')
    task['options'] = [*task['options'], *more_options]
    (folder / 'job.json').write_text(json.dumps(task))


@pytest.mark.long
def test_a_trial_sees_the_hold_out_and_no_test_image(jobs):
    trial = jobs.trials[1]
    record = record_of(trial)
    rows = rows_of(trial.folder / 'results.jsonl')
    assert {row['test'] for row in rows} == {'val'}
    assert {row['n'] for row in rows} == {180}
    [knn] = [
        row['value'] for row in rows if (row['metric'], row['weights']) == ('knn_top1', 'trained')
    ]
    expected = dict(status='done', key='base_lr', factor=2, value=16.0, n_val=180, val_knn=knn)
    assert expected.items() <= record.items()
    config = rows[0]['config']
    assert (config['base_lr'], config['seed'], config['epochs']) == (16.0, 1000, 1)


def test_a_run_leaves_the_figures_of_the_evaluation_commands(jobs):
    run = jobs.runs[0]
    record = record_of(run)
    best = max(map(record_of, jobs.trials), key=lambda trial: trial['val_knn'])
    assert record['lr'] == dict(
        variant='', **{key: best[key] for key in ('key', 'factor', 'value')}
    )
    assert record['config']['base_lr'] == best['value']
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
    assert record['n_test'] == 360
    assert {row['n'] for row in rows} == {360}
    assert {row['checkpoint_sha256'] for row in rows} == {record['checkpoint_sha256']}
    assert (run.folder / record['checkpoint']).is_file()
    assert not (run.folder / 'partial.json').exists()


def test_the_cost_of_a_run(jobs):
    run = jobs.runs[0]
    cost = record_of(run)['cost']
    speeds = [
        row['train/images_per_second']
        for row in rows_of(run.folder / 'log.jsonl')
        if 'train/images_per_second' in row and row['step'] > 1
    ]
    assert cost['images_per_second'] == statistics.median(speeds)
    assert (cost['epochs'], cost['images'], cost['steps']) == (2, 200, 10)
    assert 0 < cost['train_seconds'] < cost['total_seconds']
    assert cost['device_hours'] == cost['train_seconds'] * cost['devices'] / 3600
    assert 2**27 < cost['peak_memory_bytes'] < 2**35
    assert cost['memory_of'] == 'process'
    task = read_json(run.folder / 'job.json')
    method = build_method(load_config(task['config_file'], task['options']))
    assert cost['parameters'] == sum(p.numel() for p in method.backbone.parameters())


def test_the_map_is_of_test_images(jobs):
    with np.load(jobs.runs[0].folder / 'map.npz') as content:
        assert content['features'].shape[0] == content['labels'].shape[0] == 360
        assert content['thumbnails'].shape == (360, 32, 32, 3)
        assert list(content['classes']) == [str(i) for i in range(10)]


def test_the_untrained_network(jobs):
    record = record_of(jobs.baselines[0])
    assert record['method'] == 'random weights'
    assert record['status'] == 'done'
    assert set(record['figures']) == {'knn', 'linear', '10%'}
    rows = rows_of(jobs.baselines[0].folder / 'results.jsonl')
    assert {row['weights'] for row in rows} == {'random weights'}
    # The training's own report has measured the same network.
    report = rows_of(jobs.runs[0].folder / 'results.jsonl')
    start = next(row for row in report if row['weights'] == 'random weights')
    assert record['figures']['knn'] == start['value']


@pytest.mark.long
def test_what_was_measured_is_not_repeated(jobs, monkeypatch, tmp_path):
    """Stopped in the second figure, the job neither trains nor measures the first once more."""
    copy_task(jobs.runs[0], tmp_path, 'seed=3')

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(figures, 'evaluate_logistic', stop)
    assert main([str(tmp_path)]) == 130
    assert not (tmp_path / 'record.json').exists()
    assert list(read_json(tmp_path / 'partial.json')['figures']) == ['knn']
    monkeypatch.undo()
    # A call of these would raise.
    monkeypatch.setattr(figures, 'evaluate_knn', None)
    monkeypatch.setattr(job_module, 'build_trainer', None)
    assert main([str(tmp_path)]) == 0
    record = read_json(tmp_path / 'record.json')
    assert set(record['figures']) == set(record_of(jobs.runs[0])['figures'])
    assert record['cost']['total_seconds'] > record['cost']['train_seconds'] > 0


def test_other_evaluation_settings_repeat_no_training(jobs, monkeypatch, tmp_path):
    shutil.copytree(jobs.out, tmp_path / 'out')
    (tmp_path / 'tiny.py').write_text(STUDY.replace("labels=['10%']", "labels=['4-per-class']"))
    again = Jobs(load_study(tmp_path / 'tiny.py'), tmp_path / 'out')
    again.check_folders()
    monkeypatch.setattr(job_module, 'build_trainer', None)  # a training would fail
    [trial, _] = again.trials
    [run] = again.runs
    assert again.record(trial) is not None and again.record(run) is None
    assert again.is_trained(run)
    again.prepare(run)
    assert main([str(run.folder)]) == 0
    before, after = record_of(jobs.runs[0]), again.record(run)
    assert list(after['figures']) == ['knn', 'linear', '4-per-class']
    assert after['checkpoint_sha256'] == before['checkpoint_sha256']
    assert after['figures']['knn'] == before['figures']['knn']
    assert after['cost']['train_seconds'] == before['cost']['train_seconds']


def test_a_run_that_fails_in_its_evaluation_keeps_what_was_measured(jobs, tmp_path):
    shutil.copytree(jobs.out, tmp_path / 'out')
    other = Jobs(jobs.study, tmp_path / 'out')
    [run] = other.runs
    record = record_of(run)
    figure = dict(value=61.5, protocol='p', n=9, manifest='m', data=record['data'])
    progress = dict(seconds=1.0, figures=dict(knn=figure), cost=record['cost'])
    (run.folder / 'partial.json').write_text(json.dumps(progress))
    other.failed_record(run, 'ended with code 2')
    other.write_study()
    study = read_study(tmp_path / 'out')
    arm = study.find('BYOL', {})
    assert arm.values('knn') == {0: 61.5} and arm.values('10%') == {}
    assert arm.cost('train_seconds') == record['cost']['train_seconds']
    assert [failure['error'] for failure in study.failures] == ['ended with code 2']
    assert 'BYOL: no 10% of the labels for seed 0' in study.missing


def test_a_trial_that_diverges_has_ended(jobs, tmp_path, monkeypatch):
    def diverge(_):
        raise FloatingPointError('the loss is nan at step 3')

    copy_task(jobs.trials[0], tmp_path)
    monkeypatch.setattr(job_module, 'train', diverge)
    assert main([str(tmp_path)]) == 0
    record = read_json(tmp_path / 'record.json')
    expected = dict(status='done', val_knn=None, diverged='the loss is nan at step 3', value=8)
    assert expected.items() <= record.items()


@pytest.mark.long
def test_a_job_ends_with_its_scheduler(jobs, tmp_path):
    """A killed scheduler takes its job with it, which saves."""
    copy_task(jobs.runs[0], tmp_path, 'epochs=5000')
    scheduler = (
        'import os, subprocess, sys\n'
        'os.environ["SSL_ZOO_PARENT"] = str(os.getpid())\n'
        'command = [sys.executable, "-m", "ssl_zoo.studies", sys.argv[1]]\n'
        'output = open(sys.argv[1] + "/out", "w")\n'
        'job = subprocess.Popen(command, start_new_session=True, stdout=output)\n'
        'print(job.pid, flush=True)\n'
        'job.wait()\n'
    )
    command = [sys.executable, '-c', scheduler, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline())
        deadline = time.monotonic() + 600
        try:
            # After its first step the job saves when it is stopped.
            while not any('train/loss' in row for row in rows_of(tmp_path / 'log.jsonl')):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            process.kill()
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert any((tmp_path / 'checkpoints').glob('step_*.pth'))
    assert not (tmp_path / 'record.json').exists()


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().split()[2] != 'Z'
    except FileNotFoundError:
        return False


def test_a_folder_without_a_job(tmp_path):
    with pytest.raises(ConfigError, match='has no readable job.json'):
        main([str(tmp_path)])
