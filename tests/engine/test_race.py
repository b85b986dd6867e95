"""The race: its accuracy, its clock, what it leaves, and how it goes on."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from ssl_zoo.checkpoint import checkpoints_in
from ssl_zoo.cli import speedrun
from ssl_zoo.config.writing import config_text
from ssl_zoo.engine.hooks import race as race_module
from ssl_zoo.engine.hooks.race import RECORD, Race, TargetReached
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.step_flops import step_flops
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Preprocessing, extract_features
from ssl_zoo.evaluation.knn import knn_predict
from ssl_zoo.evaluation.metrics import accuracy
from ssl_zoo.versions import source_commit


class Clock:
    """Stands in for the module ``time``: every call is a second later."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        self.now += 1
        return self.now

    process_time = perf_counter


@pytest.fixture
def settings(tiny):
    """Function: settings of a race of two epochs on 60 digits, with 40 test images."""

    def make(target=100.0, every=1, **changes):
        data = dict(
            train=dict(type='Digits', split='val', limit=60),
            test=dict(type='Digits', split='test', limit=40),
            mean=[0.5] * 3,
            std=[0.5] * 3,
            eval_size=20,
        )
        hooks = [dict(type='Race', target=target, every=every)]
        return tiny(data=data, hooks=hooks, **changes)

    return make


@pytest.fixture
def begin(settings, tmp_path):
    """Function: a runner whose race has begun, and its race."""

    def make(resume=False, **changes):
        runner = build_trainer(settings(**changes), tmp_path / 'run', resume)
        [race] = [hook for hook in runner.hooks if isinstance(hook, Race)]
        race.started = 0.0
        return runner, race

    return make


def test_votes_and_ties_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(300, 8)), rng.normal(size=(200, 8))
    labels = rng.integers(0, 4, 300)
    theirs = KNeighborsClassifier(n_neighbors=10, metric='cosine').fit(bank, labels)
    ours = knn_predict(bank, labels, queries, 4, 10, temperature=math.inf)
    assert (ours == theirs.predict(queries)).all()


def test_a_race_that_is_not_won_looks_to_the_end(begin, tmp_path, monkeypatch):
    monkeypatch.setattr(race_module, 'time', Clock())
    measured = iter([10.0, 50.0, 40.0])
    monkeypatch.setattr(Race, '_measure', lambda self, runner: next(measured))
    monkeypatch.setattr(Race, 'record', lambda self, runner: dict(looks=self.looks))
    runner, race = begin(every=1)
    race._images = dict(test=(None, [0] * 40))
    runner.fit()
    assert [(look['step'], look['accuracy']) for look in race.looks] == [
        (0, 10.0),
        (3, 50.0),
        (6, 40.0),
    ]
    # A second passes between two calls of the clock; the looks themselves do not count.
    seconds = [look['seconds'] for look in race.looks]
    assert seconds == sorted(seconds) and seconds[-1] < race.training_seconds()
    assert race._look_seconds == 3 * 2  # of three looks, each two readings after its start
    assert len(json.loads((tmp_path / 'run' / RECORD).read_text())['looks']) == 3


def test_the_clock_counts_from_the_start_of_the_command_without_the_looks(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(race_module, 'time', clock)
    race = Race(target=50.0)
    race.started = 0.0
    clock.now = 99.0
    race._look_seconds = 30.0
    assert race.training_seconds() == 70.0
    saved = dict(looks=[], seconds=1000.0, processor=9.0, look_seconds=5.0, resumes=0)
    race.after_load_checkpoint(None, {race_module.STATE: saved})
    assert race.training_seconds() == 1071.0  # the earlier process, and all of this one but looks
    assert race.resumes == 1


def test_the_first_look_at_the_target_ends_the_race(begin, settings, tmp_path):
    runner, race = begin(target=1.0)
    with pytest.raises(TargetReached):
        runner.fit()
    record = json.loads((tmp_path / 'run' / RECORD).read_text())
    assert record['reached'] and record['steps'] == 0 and record['pflop'] == 0
    assert record['train_images'] == 60 and record['test_images'] == 40
    assert record['curve'] == [[0.0, record['minutes'], record['accuracy']]]
    assert record['torch'] == str(torch.__version__) and record['commit'] == source_commit()
    # The accuracy is that of the features of the evaluation.
    made = settings()
    preprocessing = Preprocessing(20, 20, made.data.mean, made.data.std)
    bank, test = (
        extract_features(runner.method.encoder(), source, preprocessing)
        for source in (runner.sources['bank'], runner.sources['test'])
    )
    predicted = knn_predict(bank.values, bank.labels, test.values, 10, 10, math.inf)
    assert record['accuracy'] == pytest.approx(accuracy(predicted, test.labels))
    # A race that is over does not go on.
    runner, _ = begin(resume=True, target=1.0)
    with pytest.raises(ConfigError, match='has reached its target'):
        runner.fit()


def test_only_the_command_starts_the_clock(settings, tmp_path):
    runner = build_trainer(settings(), tmp_path / 'run')
    with pytest.raises(ConfigError, match='ssl-zoo speedrun'):
        runner.fit()


@pytest.mark.parametrize('arguments', [dict(target=0), dict(target=101), dict(target=9, every=0)])
def test_mistakes_in_a_race_are_told(arguments):
    with pytest.raises(ConfigError, match='of the race'):
        Race(**arguments)


def test_the_command_writes_a_row_and_goes_on_after_a_stop(settings, tmp_path, monkeypatch, capsys):
    config = tmp_path / 'entry.py'
    config.write_text(config_text(settings(checkpoint=dict(every=1)).to_builtin()))
    arguments = [str(config), '--work-dir', str(tmp_path / 'run')]
    arguments += ['--records', str(tmp_path / 'rows.jsonl')]
    whole = Race.after_optimizer_step

    def stop_in_the_second_epoch(self, runner):
        if runner.step == 4:
            raise KeyboardInterrupt
        whole(self, runner)

    monkeypatch.setattr(sys, 'argv', ['ssl-zoo', 'speedrun', *arguments])
    monkeypatch.setattr(Race, 'after_optimizer_step', stop_in_the_second_epoch)
    assert speedrun.main(arguments) == 130
    assert not (tmp_path / 'rows.jsonl').exists()
    cut = json.loads((tmp_path / 'run' / RECORD).read_text())
    assert [epoch for epoch, _, _ in cut['curve']] == [0, 1]
    monkeypatch.setattr(Race, 'after_optimizer_step', whole)
    assert speedrun.main([*arguments, '--resume']) == 0
    [line] = (tmp_path / 'rows.jsonl').read_text().splitlines()
    row = json.loads(line)
    assert (row['entry'], row['resumes'], row['reached'], row['steps']) == ('entry', 1, False, 6)
    assert row['curve'][:2] == cut['curve'] and row['minutes'] > cut['minutes']
    assert row['command'] == f'ssl-zoo speedrun {" ".join(arguments)}'
    assert len(checkpoints_in(tmp_path / 'run')) == 2


def test_a_config_without_a_race_is_refused(tiny, tmp_path, capsys):
    config = tmp_path / 'entry.py'
    config.write_text(config_text(tiny().to_builtin()))
    assert speedrun.main([str(config), '--work-dir', str(tmp_path / 'run')]) == 2
    assert 'has 0 races, but it must have one' in capsys.readouterr().err


def test_operations_of_a_step_are_twice_the_multiplications(tiny):
    """BYOL without a network: the heads alone, by hand."""
    settings = tiny()
    plan = Plan.of(settings, 140)
    total = step_flops(plan)
    with_wider_heads = tiny(method=dict(settings.method, hidden_dim=64))
    d, hidden, proj, batch = 64, 32, 16, 20
    # Products of projector and predictor, (d + proj) x hidden and (proj + proj) x hidden. Two views
    # go forward (1) and backward (2) through both, and two views forward through the projector of
    # the target.
    products = 3 * (d + proj + 2 * proj) + (d + proj)
    added = 2 * 2 * batch * hidden * products
    assert step_flops(Plan.of(with_wider_heads, 140)) - total == added
