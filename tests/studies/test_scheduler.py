"""The scheduler starts what is ready, repeats nothing, survives failures, and forwards a stop."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from ssl_zoo.storage.lock import FileLock
from ssl_zoo.studies import plan, scheduler
from ssl_zoo.studies.json_files import read_json, write_json
from ssl_zoo.studies.load import load_study
from ssl_zoo.studies.plan import Jobs
from ssl_zoo.studies.scheduler import Scheduler, claim

ROOT = Path(__file__).parents[2]
# What a job does here: a line in OUT/order.txt, and its record.
FAKE_JOB = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
task = json.loads((folder / 'job.json').read_text())
with open(pathlib.Path(os.environ['OUT'], 'order.txt'), 'a') as file:
    device = os.environ.get('CUDA_VISIBLE_DEVICES', '')
    file.write(f"{task['kind']} {task['method']} {task['seed']} {device}\\n")
if os.environ.get('SLOW'):
    try:
        (folder / 'asleep').touch()
        time.sleep(30)
    except KeyboardInterrupt:
        (folder / 'saved').touch()
        sys.exit(130)
if os.environ.get('BREAK') == task['method']:
    sys.exit('out of luck')
record = {key: task[key] for key in task['recorded']}
record |= dict(status='done', val_knn=50 + task.get('factor', 0), figures=dict(knn=1.0))
(folder / 'record.json').write_text(json.dumps(record))
"""


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """The ten jobs of a study: four trials, four runs, two baselines."""
    (tmp_path / 'study.py').write_text(f"""
title = 'x'
methods = {{name: {str(ROOT / 'configs/byol/digits.py')!r} for name in ('A', 'B')}}
seeds = [0, 1]
tune = dict(factors=[1, 2])
""")
    (tmp_path / 'fake.py').write_text(FAKE_JOB)
    monkeypatch.setattr(plan, 'COMMAND', (sys.executable, '-S', str(tmp_path / 'fake.py')))
    monkeypatch.setattr(scheduler, 'POLL_SECONDS', 0.01)
    monkeypatch.setattr(scheduler, 'RESCAN_SECONDS', 0.05)
    monkeypatch.setenv('OUT', str(tmp_path / 'out'))
    return Jobs(load_study(tmp_path / 'study.py'), tmp_path / 'out')


def make_scheduler(jobs, lines=None, environments=({},)) -> Scheduler:
    lines = [] if lines is None else lines
    return Scheduler(jobs, list(environments), print_line=lines.append)


def started(jobs) -> list[str]:
    """Kind, method, seed and device of every job that was started, in order."""
    return (jobs.out / 'order.txt').read_text().splitlines()


def test_all_is_done_once_trials_first(jobs):
    lines = []
    records = make_scheduler(jobs, lines).run()
    assert [record['status'] for record in records] == ['done'] * 10
    kinds = [line.split()[0] for line in started(jobs)]
    assert kinds == ['trial'] * 4 + ['run'] * 4 + ['baseline'] * 2
    assert len(set(started(jobs))) == 8  # the trials of a method write the same line
    record = read_json(jobs.runs[0].folder / 'record.json')
    assert record['lr'] == dict(key='base_lr', factor=2, value=16.0, variant='')
    assert lines[-1].startswith('10/10  random weights')
    assert 'left' in lines[3] and 'left' not in lines[-1]
    assert len(make_scheduler(jobs).run()) == 10
    assert len(started(jobs)) == 10  # nothing was repeated


def test_two_devices_at_a_time(jobs):
    devices = [dict(CUDA_VISIBLE_DEVICES='3'), dict(CUDA_VISIBLE_DEVICES='5')]
    make_scheduler(jobs, environments=devices).run()
    assert {line.split()[-1] for line in started(jobs)} == {'3', '5'}
    assert len(started(jobs)) == 10


def test_a_failure_stops_nobody_and_is_tried_again(jobs, monkeypatch):
    monkeypatch.setenv('BREAK', 'B')
    lines = []
    records = make_scheduler(jobs, lines).run()
    failed = [record for record in records if record['status'] != 'done']
    assert len(records) == 10
    assert [record['method'] for record in failed] == ['B'] * 4
    assert sum('exit code 1: out of luck' in line for line in lines) == 2  # the trials
    assert sum('2 of the 2 trials of B failed' in line for line in lines) == 2  # and so the runs
    record = read_json(jobs.trials[1].folder / 'record.json')
    assert record['error'] == 'exit code 1: out of luck'
    monkeypatch.delenv('BREAK')
    before = len(started(jobs))
    records = make_scheduler(jobs).run()
    assert all(record['status'] == 'done' for record in records)
    assert len(started(jobs)) == before + 4  # those of B alone


def test_a_failure_is_tried_again_whatever_the_clock_of_its_machine_said(jobs):
    record = dict(kind='trial', status='failed', error='x', time=time.time() + 1e9)
    write_json(jobs.trials[0].folder / 'record.json', record)
    records = make_scheduler(jobs).run()
    assert [record['status'] for record in records] == ['done'] * 10


def test_a_failure_under_another_scheduler_counts_whatever_its_clock_said(jobs):
    """The other scheduler works on the job when this one starts, and its clock is slow."""
    this = make_scheduler(jobs)
    record = dict(kind='trial', status='failed', error='elsewhere', time=0.0)
    write_json(jobs.trials[0].folder / 'record.json', record)
    failed = [record['error'] for record in this.run() if record['status'] != 'done']
    assert failed[0] == 'elsewhere'
    assert len(started(jobs)) == 10 - 1 - 2  # that trial and the runs that need it do not start


def test_a_job_waits_for_a_run_that_its_killed_scheduler_has_left(jobs):
    """The run saves its state; it would refuse another run in its folder, which would then fail."""
    first = jobs.trials[0]
    first.folder.mkdir(parents=True)
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()
    if (pid := os.fork()) == 0:
        lock = FileLock(first.folder / '.lock')
        lock.acquire()
        os.write(ready_write, b'x')
        os.read(go_read, 1)
        os._exit(0)
    os.read(ready_read, 1)
    lines = []

    def end_run(line):
        lines.append(line)
        if len(lines) == 2:  # other jobs have ended meanwhile
            os.write(go_write, b'x')
            os.waitpid(pid, 0)

    records = Scheduler(jobs, [{}], print_line=end_run).run()
    assert [record['status'] for record in records] == ['done'] * 10
    assert len(started(jobs)) == 10
    assert first.label not in lines[0] + lines[1]


def test_schedulers_share_a_study(jobs):
    """A second process has claimed the first job: this one does all others and waits for it."""
    first = jobs.trials[0]
    jobs.prepare(first)
    claimed_read, claimed_write = os.pipe()
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        lock = claim(first.folder)
        os.write(claimed_write, b'x')
        os.read(go_read, 1)
        task = read_json(first.folder / 'job.json')
        record = {key: task[key] for key in task['recorded']}
        write_json(first.folder / 'record.json', dict(record, status='done', val_knn=99.0))
        lock.release()
        os._exit(0)
    os.read(claimed_read, 1)
    threading.Timer(1.0, lambda: os.write(go_write, b'x')).start()
    records = make_scheduler(jobs).run()
    os.waitpid(pid, 0)
    assert len(records) == 10 and len(started(jobs)) == 9
    record = read_json(jobs.runs[0].folder / 'record.json')
    assert record['lr']['factor'] == 1  # the other process's 99 % is the best


def test_nothing_is_started_after_a_stop(jobs, monkeypatch):
    """The signal comes while jobs are started: those that started get it once, no other starts."""
    monkeypatch.setenv('SLOW', '1')
    prepare = jobs.prepare
    prepared = []

    def prepare_and_stop(job):
        prepared.append(job)
        prepare(job)
        if len(prepared) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(jobs, 'prepare', prepare_and_stop)
    began = time.monotonic()
    assert make_scheduler(jobs, environments=[{}] * 4).run() == []
    assert len(prepared) == 2
    assert time.monotonic() - began < 20


def test_a_stop_is_forwarded_and_the_jobs_continue_later(jobs, monkeypatch):
    monkeypatch.setenv('SLOW', '1')
    lines = []
    stopped = make_scheduler(jobs, lines, environments=[{}, {}])

    def stop_when_two_sleep():
        while len(list(jobs.out.glob('trials/*/*/asleep'))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop_when_two_sleep).start()
    began = time.monotonic()
    assert stopped.run() == []
    assert stopped.signal == signal.SIGINT
    assert time.monotonic() - began < 20
    assert '2 running jobs save their state' in lines[0]
    assert len(list(jobs.out.glob('trials/*/*/saved'))) == 2
    assert not list(jobs.out.glob('trials/*/*/record.json'))
    monkeypatch.delenv('SLOW')
    assert len(make_scheduler(jobs).run()) == 10
    assert read_json(jobs.out / 'runs/a/seed_0/record.json')['status'] == 'done'
