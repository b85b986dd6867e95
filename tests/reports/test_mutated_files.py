"""Rows, logs, records and predictions with any value in any place: a table, or one sentence."""

import copy
import json
import os
import random

import numpy as np
import pytest
from matplotlib.figure import Figure

from ssl_zoo.cli import compare, leaderboard, plot
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.reports.curves import find_keys, logged_keys, read_log, series
from ssl_zoo.reports.leaderboard import build_leaderboard
from ssl_zoo.reports.leaderboard_page import page
from ssl_zoo.reports.leaderboard_text import as_csv, as_text
from ssl_zoo.reports.run import figures
from ssl_zoo.reports.run import report as run_report
from ssl_zoo.reports.run.records import RunRecords
from ssl_zoo.reports.study import report
from ssl_zoo.reports.study.csv_files import arms_csv, runs_csv
from ssl_zoo.reports.study.report_figures import ReportFigures
from ssl_zoo.storage.reading import parse_json
from ssl_zoo.studies.config_runs import read_result, results_table, run_folder
from ssl_zoo.studies.plan import Jobs
from ssl_zoo.studies.records import is_done, record_or_none
from ssl_zoo.studies.results import read_study

VALUES = (
    [None, True, [], {}, 'x', '', -1, 0, 1.5, 10**19, 10**400, 1e99, 1e308, -1e308, 1e-320]
    + [float('nan'), float('inf'), -float('inf'), [1, 1, 1], ['a'], [None], [[]], [{}]]
    + [{'a': {}}, {'a': 1}, {'': ''}, '\ud800', '\x1b[31m', '$\\frac$', 'a/b', '=cmd|x', '<b>']
)
NAMES = ('\ud800', '$x$', '\x1b[0m', 'new', '<i>', '')
ROW = dict(
    metric='knn_top1',
    value=90.0,
    std=1.0,
    draws=2,
    ci95=[88.0, 92.0],
    weights='trained',
    protocol=dict(name='knn', distance='cosine', bank=100, index=None, k=20, temperature=0.07),
    chosen=dict(k=20),
    network='backbone',
    layer='backbone',
    test='Digits',
    test_manifest='aa11',
    bank_data='b',
    n=360,
    labelled=5,
    label_set='1%',
    step=589,
    seed=0,
    seconds=60,
    time='2026-01-01T00:00:00+00:00',
    checkpoint='runs/seed_0/step.pth',
    checkpoint_sha256='00',
    versions=dict(device='cpu'),
    config=dict(method=dict(type='BYOL', source=dict(layout='x')), epochs=3, seed=0, views=[{}]),
)
LOG = [
    {'step': step, 'epoch': step / 5, 'train/loss': 4.0, 'val/knn': 50.0, 'val/feature_std': 0.5}
    for step in range(3)
]


def places(value, place=()):
    """Yield the keys that lead to every part of a nested value."""
    yield place
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*place, key))


def mutated(value, rng):
    """Return a copy with one part removed, renamed or replaced."""
    value = copy.deepcopy(value)
    *parents, last = rng.choice(list(places(value))[1:])
    part = value
    for key in parents:
        part = part[key]
    change = rng.random()
    if change < 0.2:
        del part[last]
    elif change < 0.3 and isinstance(part, dict):
        part[rng.choice(NAMES)] = part.pop(last)
    else:
        part[last] = rng.choice(VALUES)
    return value


def write_lines(path, rows):
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def check_text(*texts):
    """Texts can be written to a file, and have nothing that a terminal acts on."""
    for text in texts:
        assert '\x1b' not in text
        text.encode()


def check_sentence(error):
    check_text(str(error))
    assert '\n' not in str(error)


@pytest.mark.quick
@pytest.mark.parametrize('seed', range(4))
def test_a_leaderboard_of_mutated_rows(seed, tmp_path):
    rng = random.Random(seed)
    for _ in range(60):
        rows = [dict(ROW, seed=seed, value=90.0 + seed) for seed in range(3)]
        rows += [dict(ROW, config=dict(ROW['config'], base_lr=1.0))]
        write_lines(tmp_path / 'results.jsonl', [mutated(row, rng) for row in rows] + [ROW])
        board = build_leaderboard([str(tmp_path)])
        assert board.rows + len(board.damaged) == 5
        check_text(page(board), as_text(board, 100), as_csv(board.entries))


@pytest.mark.quick
def test_seeds_of_trainings_and_of_evaluations_mix(tmp_path):
    rows = [dict(ROW), dict(ROW, seed=None), dict(ROW, seed=2)]
    del rows[2]['checkpoint_sha256']
    config = dict(ROW['config'], seed='0')
    write_lines(tmp_path / 'results.jsonl', [*rows, dict(ROW, config=config)])
    assert as_text(build_leaderboard([str(tmp_path)]), 100)


@pytest.mark.quick
def test_the_log_of_a_run_with_mutated_rows(tmp_path):
    rng = random.Random(0)
    for _ in range(200):
        write_lines(tmp_path / 'log.jsonl', [mutated(row, rng) for row in LOG])
        log = read_log(tmp_path)
        keys = logged_keys([log])
        check_text(*keys)
        values = [value for key in keys for value in series(log, key).items()]
        assert np.isfinite(np.array(values, dtype=float)).all()
        with pytest.raises(ConfigError):
            find_keys(['none', 'x'], [log])


def test_a_figure_of_a_log_with_every_value(tmp_path, capsys):
    """One row for each value in place of the loss, of the epoch and of the k-NN accuracy."""
    run = tmp_path / 'a $\\frac$ \x1b[31m'
    run.mkdir()
    rows = [dict(row, **{key: value}) for row in LOG for key in LOG[0] for value in VALUES]
    rows += [dict(LOG[0], **{name + '/$\\q$': 1.0}) for name in NAMES]
    write_lines(run / 'log.jsonl', rows)
    keys = ['--keys', 'train/loss', 'new/$\\q$']
    for suffix in ('svg', 'png'):
        out = tmp_path / f'curves.{suffix}'
        assert plot.main([str(run), '--out', str(out), *keys]) == 0, capsys.readouterr().err
        assert out.stat().st_size > 1000
    check_text(capsys.readouterr().out)


@pytest.mark.quick
def test_the_page_of_a_run_with_mutated_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, 'plot_curves', lambda *_, **__: Figure())  # drawing takes long
    monkeypatch.setattr(figures, 'figure_bytes', lambda *_: b'')
    rng = random.Random(0)
    config = dict(method=dict(type='BYOL'), data=dict(train=dict(type='X')), batch_size=4, epochs=2)
    for _ in range(60):
        rows = [mutated(dict(ROW, warnings=['few']), rng) for _ in range(3)]
        write_lines(tmp_path / 'results.jsonl', rows)
        write_lines(tmp_path / 'log.jsonl', [mutated(row, rng) for row in LOG])
        (tmp_path / 'versions.json').write_text(json.dumps(mutated(dict(torch='2'), rng)))
        lines = [f'{key} = {value!r}\n' for key, value in mutated(config, rng).items()]
        (tmp_path / 'config.py').write_bytes(''.join(lines).encode(errors='replace'))
        check_text(run_report.page_content(RunRecords.read(tmp_path), None, 'no images'))


@pytest.mark.long
@pytest.mark.parametrize(('draws_figures', 'times'), [(False, 100), (True, 8)])
def test_the_report_of_mutated_records(draws_figures, times, study_folder, monkeypatch):
    monkeypatch.setattr(ReportFigures, '_save_plot', lambda *_, **__: [])
    if not draws_figures:  # drawing takes most of the time
        for name in ('accuracy', 'axes', 'cost', 'tuning', 'val_curves'):
            monkeypatch.setattr(ReportFigures, name, lambda _: [])
        monkeypatch.setattr(ReportFigures, 'of_method', lambda *_: [])
    rng = random.Random(times)
    figures = {(m, s, label): 90.0 + s for m in 'AB' for s in (0, 1) for label in ('64', '32')}
    trials = [('A', 0.5, 90.0), ('A', 1, 91.0), ('A', 2, None), ('B', 0.5, 80.0)]
    failed = [('B', 1, 'bad')]
    out = study_folder(figures, ('64', '32'), trials, failed=failed, reference='A')
    contents = {path: json.loads(path.read_text()) for path in out.rglob('*.json')}
    others = [path for path in contents if path.name == 'record.json']
    for _ in range(times):
        changed = [*rng.sample(others, 3), *rng.choices([out / 'study.json', others[0]], k=1)]
        for path in changed:
            path.write_text(json.dumps(mutated(contents[path], rng)))
        try:
            check_report(out)
        except ConfigError as error:
            check_sentence(error)
        for path in changed:
            record = record_or_none(path.parent) if path in others else None
            if record is not None and is_done(record):
                check_text(Jobs.describe_record(None, record))
            path.write_text(json.dumps(contents[path]))


def check_report(out):
    study = read_study(out)
    figures = ReportFigures(study, out / 'report')
    content = report.page_content(study, figures)
    check_text(content, report.markdown(study), arms_csv(study), runs_csv(study))


@pytest.mark.quick
def test_the_table_of_all_runs_with_mutated_rows(tmp_path):
    rng = random.Random(0)
    rows = [
        dict(ROW, metric=metric, weights=weights)
        for metric, weights in (
            ('knn_top1', 'trained'),
            ('knn_top1', 'random weights'),
            ('probe_2_per_class_top1', 'trained'),
        )
    ]
    for row in rows:
        del row['checkpoint_sha256']
    folder = run_folder(tmp_path, 'byol/digits.py', 0)
    folder.mkdir(parents=True)
    whole = 0
    for _ in range(60):
        write_lines(folder / 'results.jsonl', [mutated(row, rng) for row in rows])
        write_lines(folder / 'log.jsonl', [mutated(row, rng) for row in LOG])
        whole += read_result(folder) is not None
        check_text(results_table(['byol/digits.py'], [0], tmp_path))
    assert whole


@pytest.mark.quick
def test_a_comparison_of_mutated_predictions(tmp_path, capsys):
    rng = random.Random(0)
    arrays = dict(
        predicted=np.array([[0, 1], [1, 0], [2, 1]]),
        labels=np.array([0, 1, 1]),
        names=np.array(['a', 'b', '\udcff']),
        classes=np.array(['x', 'y', 'z']),
    )
    good = tmp_path / 'good.npz'
    Predictions(**arrays, row=ROW).save(good)
    path = tmp_path / 'mutated.npz'
    replacements = [
        np.array(value)
        for value in (-5, [-5, 0, 1], [2**62, 0, 1], [0.5, 1, 2], ['x'] * 3, [], [[1]] * 3)
    ]
    for i in range(60):
        content = dict(arrays, row=np.array(json.dumps(mutated(ROW, rng))))
        if i % 2:
            content[rng.choice(list(content))] = rng.choice(replacements)
        np.savez(path, **content)
        metric = rng.choice(['top1', 'mean_per_class'])
        code = compare.main([str(good), str(path), '--metric', metric])
        done = capsys.readouterr()
        check_text(done.out, done.err)
        assert code == 0 or (code == 2 and done.err.count('\n') == 1)


@pytest.mark.quick
@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('[' * 100_000, 'nested too deeply'),
        ('[' * 200 + ']' * 200, 'nested too deeply'),
        ('1' + '0' * 200, 'a number beyond 1e\\+100'),
        ('1' + '0' * 5000, 'a number of too many digits'),
        ('{"a": -1e101}', 'a number beyond'),
        ('{"a"', 'not JSON'),
    ],
)
def test_json_that_is_refused(text, reason):
    with pytest.raises(ValueError, match=f'^{reason}'):
        parse_json(text)


@pytest.mark.quick
def test_strings_of_json_are_printable_and_stay_different():
    assert parse_json('{"\\u001b": ["\\udcff", "\\udcfe", "\\n\\t\\u00e9"]}') == {
        '\\x1b': ['\\udcff', '\\udcfe', '\n\té']
    }


@pytest.mark.quick
def test_only_regular_files_are_read(tmp_path, capsys):
    """A FIFO would block for ever, /dev/zero has no end."""
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        os.mkfifo(tmp_path / folder / 'results.jsonl')
        os.mkfifo(tmp_path / folder / 'log.jsonl')
    out = ['--out', str(tmp_path / 'x.html')]
    long = str(tmp_path / ('x' * 5000))
    fifo = str(tmp_path / 'a/results.jsonl')
    for arguments, words in (
        ([str(tmp_path)], 'it is not a regular file'),
        ([fifo], 'neither a regular file nor a folder'),
        (['/dev/zero'], 'neither a regular file nor a folder'),
        ([long], 'there is nothing at'),
    ):
        assert leaderboard.main([*arguments, *out]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count('\n') == 1
    for run, words in (
        (str(tmp_path / 'a'), 'cannot be read: it is not a regular file'),
        (long, 'cannot be read: File name too long'),
        ('/dev/zero', 'there is no curve in'),
    ):
        assert plot.main([run, '--out', str(tmp_path / 'x.png')]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count('\n') == 1


@pytest.mark.quick
def test_a_fifo_beside_results_does_not_hide_them(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'b').mkdir()
    os.mkfifo(tmp_path / 'a/results.jsonl')
    write_lines(tmp_path / 'b/results.jsonl', [ROW])
    board = build_leaderboard([str(tmp_path)])
    assert len(board.entries) == 1
    assert board.damaged == [f'{tmp_path}/a/results.jsonl cannot be read: it is not a regular file']


@pytest.mark.quick
def test_a_study_with_more_arms_than_can_be_shown(study_folder):
    axes = {f'axis {i}': list(map(str, range(10))) for i in range(40)}
    out = study_folder(axes=axes)
    with pytest.raises(ConfigError, match='arms, but at most 10,000 are read'):
        read_study(out)


@pytest.mark.quick
def test_formulas_are_guarded_in_all_tables(study_folder):
    study = read_study(study_folder({('=cmd|x', 0): 90.0, ('+1', 0): 95.0}, reference='+1'))
    text = arms_csv(study) + runs_csv(study)
    assert "\n'=cmd|x," in text
    assert '\n=cmd' not in text
    assert ',-5.00,' in text  # a difference stays a number
