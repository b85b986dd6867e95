"""ssl_zoo/studies/scheduler.py: what is ready starts, what is done is left alone, one failure stops nobody, a stop is handed on."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from ssl_zoo.studies import scheduler
from ssl_zoo.studies.job import read_json, write_json
from ssl_zoo.studies.load import load_study
from ssl_zoo.studies.plan import Jobs
from ssl_zoo.studies.scheduler import Worker, claimed

ROOT = Path(__file__).parents[2]
UNIT = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
unit = json.loads((folder / 'unit.json').read_text())
log = folder.joinpath(*[os.pardir] * len(folder.relative_to(pathlib.Path(os.environ['OUT'])).parts), 'order.txt')
with open(log, 'a') as file:
    file.write(f"{unit['kind']} {unit['method']} {unit['seed']} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}\\n")
if os.environ.get('SLOW'):
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        (folder / 'saved').touch()
        sys.exit(130)
if os.environ.get('BREAK') == unit['method']:
    sys.exit('out of luck')
record = {key: unit[key] for key in unit['recorded']} | dict(status='done', val_knn=50 + unit.get('factor', 0), figures=dict(knn=1.0))
(folder / 'record.json').write_text(json.dumps(record))
"""


@pytest.fixture
def units(tmp_path, monkeypatch):
    (tmp_path / 'study.py').write_text(f"""
title = 'x'
methods = {{name: {str(ROOT / 'configs/byol/digits.py')!r} for name in ('A', 'B')}}
seeds = [0, 1]
tune = dict(factors=[1, 2])
""")
    (tmp_path / 'fake.py').write_text(UNIT)
    monkeypatch.setattr(scheduler, 'COMMAND', (sys.executable, '-S', str(tmp_path / 'fake.py')))
    monkeypatch.setattr(scheduler, 'POLL', 0.01)
    monkeypatch.setattr(scheduler, 'ELSEWHERE', 0.05)
    monkeypatch.setenv('OUT', str(tmp_path / 'out'))
    return Jobs(load_study(tmp_path / 'study.py'), tmp_path / 'out')


def order(units) -> list[str]:
    return (units.out / 'order.txt').read_text().splitlines()


def test_all_is_done_once_trials_first(units):
    lines = []
    records = Worker(units, [{}], {}, lines.append).work()
    assert len(records) == 10 and all(record['status'] == 'done' for record in records)
    kinds = [line.split()[0] for line in order(units)]
    assert (
        kinds == ['trial'] * 4 + ['run'] * 4 + ['baseline'] * 2 and len(set(order(units))) == 8
    )  # trials of a method say the same
    assert read_json(units.runs[0].folder / 'record.json')['lr'] == dict(
        key='base_lr', factor=2, value=16.0
    )
    assert (
        lines[-1].startswith('10/10  random weights')
        and 'left' in lines[3]
        and 'left' not in lines[-1]
    )
    assert (
        len(Worker(units, [{}], {}, lines.append).work()) == 10 and len(order(units)) == 10
    )  # nothing again


def test_two_places_at_a_time(units):
    Worker(
        units,
        [dict(CUDA_VISIBLE_DEVICES='3'), dict(CUDA_VISIBLE_DEVICES='5')],
        {},
        lambda line: None,
    ).work()
    assert {line.split()[-1] for line in order(units)} == {'3', '5'} and len(order(units)) == 10


def test_a_failure_stops_nobody_and_is_tried_again(units, monkeypatch):
    monkeypatch.setenv('BREAK', 'B')
    lines = []
    records = Worker(units, [{}], {}, lines.append).work()
    wrong = [record for record in records if record['status'] != 'done']
    assert (
        len(records) == 10 and {record['method'] for record in wrong} == {'B'} and len(wrong) == 4
    )
    assert sum('exit code 1: out of luck' in line for line in lines) == 2  # the trials
    assert sum('2 of the 2 trials of B failed' in line for line in lines) == 2  # and so the runs
    assert read_json(units.trials[1].folder / 'record.json')['error'] == 'exit code 1: out of luck'
    monkeypatch.delenv('BREAK')
    before = len(order(units))
    assert all(
        record['status'] == 'done' for record in Worker(units, [{}], {}, lines.append).work()
    )
    assert len(order(units)) == before + 4  # B's, no other


def test_workers_share_a_study(units):
    """A second process has claimed the first unit: this one does the others, waits, and takes its record as it is."""
    first = units.trials[0]
    units.prepare(first)
    ready, go = os.pipe(), os.pipe()
    if (pid := os.fork()) == 0:
        lock = claimed(first.folder)
        os.write(ready[1], b'x')
        os.read(go[0], 1)
        unit = read_json(first.folder / 'unit.json')
        write_json(
            first.folder / 'record.json',
            {key: unit[key] for key in unit['recorded']} | dict(status='done', val_knn=99.0),
        )
        lock.release()
        os._exit(0)
    os.read(ready[0], 1)
    threading.Timer(1.0, lambda: os.write(go[1], b'x')).start()
    records = Worker(units, [{}], {}, lambda line: None).work()
    os.waitpid(pid, 0)
    assert len(records) == 10 and len(order(units)) == 9
    assert (
        read_json(units.runs[0].folder / 'record.json')['lr']['factor'] == 1
    )  # of the other's 99 %


def test_nothing_is_started_after_a_stop(units, monkeypatch):
    """The signal comes while units are being started: what was started hears it once, and nothing else is."""
    monkeypatch.setenv('SLOW', '1')
    worker = Worker(units, [{}] * 4, {}, lambda line: None)
    prepare, started = units.prepare, []

    def prepared(unit):
        started.append(unit)
        prepare(unit)
        if len(started) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(units, 'prepare', prepared)
    began = time.monotonic()
    assert worker.work() == [] and len(started) == 2 and time.monotonic() - began < 20


def test_a_stop_is_handed_on_and_the_work_goes_on_later(units, monkeypatch):
    monkeypatch.setenv('SLOW', '1')
    worker, lines = Worker(units, [{}, {}], {}, None), []
    worker.tell = lines.append

    def stop():
        while not (units.out / 'order.txt').exists() or len(order(units)) < 2:
            time.sleep(0.01)
        time.sleep(0.1)  # until they sleep
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop).start()
    began = time.monotonic()
    records = worker.work()
    assert worker.signal == signal.SIGINT and time.monotonic() - began < 20 and records == []
    assert '2 at work save what they have' in lines[0]
    assert len(list(units.out.glob('trials/*/*/saved'))) == 2 and not list(
        units.out.glob('trials/*/*/record.json')
    )
    monkeypatch.delenv('SLOW')
    assert len(Worker(units, [{}], {}, lines.append).work()) == 10
    assert json.loads((units.out / 'runs/a/seed_0/record.json').read_text())['status'] == 'done'
