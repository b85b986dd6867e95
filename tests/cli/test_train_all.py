"""tools/train_all.py runs several configs, continues, reports what fails, prints a table."""

import json

import pytest

from ssl_zoo.engine.plan import Plan
from ssl_zoo.errors import ConfigError
from ssl_zoo.studies.config_runs import ConfigRun, read_result, results_table, run_folder

SMALL = [
    'method.backbone.width=0.125',
    'views.0.size=20',
    'views.1.size=20',
    'batch_size=20',
    'epochs=1',
    'workers=0',
    'data.train.split=val',
    'data.test.split=val',
    'warmup_epochs=0',
    'method.proj_dim=16',
    'data.val=40',
]


@pytest.mark.long
def test_a_table_of_two_methods_and_a_failure(run_tool, root, tmp_path):
    bad = tmp_path / 'bad' / 'digits.py'
    bad.parent.mkdir()
    bad.write_text(
        (root / 'configs/byol/digits.py')
        .read_text()
        .replace("'../_base_", f"'{root}/configs/_base_")
        .replace("type='BYOL'", "type='BYOL', hidden_dm=3")
    )
    command = [
        root / 'tools/train_all.py',
        root / 'configs/byol/digits.py',
        root / 'configs/simclr/digits.py',
        bad,
        root / 'configs/_base_/digits.py',
        root / 'configs/studies/digits.py',  # as configs/*/digits*.py takes them along
        '--seeds',
        0,
        1,
        '--out',
        tmp_path / 'out',
        '--jobs',
        2,
    ]
    done = run_tool(*command, '--cfg-options', *SMALL, cwd=tmp_path, timeout=600)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert "has no argument 'hidden_dm': did you mean 'hidden_dim'" in done.stdout
    assert '2 of 6 runs failed' in done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith('|')]
    assert len(lines) == 4 and lines[0].startswith('| config | method | k-NN')
    cells = {
        line.split(' | ')[1]: [cell.strip(' |') for cell in line.split(' | ')] for line in lines[2:]
    }
    assert set(cells) == {'BYOL', 'SimCLR'}
    accuracies = []
    for seed in (0, 1):
        rows = [
            json.loads(line)
            for line in (tmp_path / f'out/byol_digits/seed_{seed}/results.jsonl')
            .read_text()
            .splitlines()
        ]
        accuracies += [
            row['value']
            for row in rows
            if (row['metric'], row['weights']) == ('knn_top1', 'trained')
        ]
        assert all(row['seed'] == seed for row in rows)
    assert (
        cells['BYOL'][2]
        == f'{sum(accuracies) / 2:.2f} % ({abs(accuracies[0] - accuracies[1]) / 2**0.5:.2f})'
    )
    assert cells['BYOL'][-1] == '2'
    assert (tmp_path / 'out/table.md').read_text().strip().splitlines() == lines
    again = run_tool(
        *command[:3],
        '--seeds',
        0,
        1,
        '--out',
        tmp_path / 'out',
        '--cfg-options',
        *SMALL,
        cwd=tmp_path,
    )
    assert again.returncode == 0 and again.stdout.count('done before') == 4
    other = run_tool(
        *command[:2], '--out', tmp_path / 'out', '--cfg-options', *SMALL, 'base_lr=7', cwd=tmp_path
    )
    assert (
        other.returncode == 1 and 'seed_0 holds a finished run with other settings' in other.stdout
    )


@pytest.mark.parametrize(
    ('arguments', 'code', 'sentence'),
    [
        (['nowhere.py'], 1, 'there is no config at'),
        (['a/digits.py', 'b/../a/digits.py'], 2, 'two configs are called a/digits.py'),
        (['nowhere.py', '--jobs', '0'], 2, '--jobs is 0, but it must be from 1 to 1024'),
    ],
)
def test_mistakes(arguments, code, sentence, run_tool, root, tmp_path):
    done = run_tool(root / 'tools/train_all.py', *arguments, cwd=tmp_path)
    assert (
        done.returncode == code
        and sentence in done.stdout + done.stderr
        and 'Traceback' not in done.stderr
    )


def result_rows(**fields):
    """The rows of the figures that the table shows, as a training writes them."""
    row = dict(config=dict(method=dict(type='BYOL')), seconds=60, **fields)
    return [
        dict(row, metric=metric, weights=weights, value=value)
        for metric, weights, value in (
            ('knn_top1', 'trained', 90.0),
            ('knn_top1', 'random weights', 50.0),
            ('probe_2_per_class_top1', 'trained', 70.0),
        )
    ]


@pytest.mark.parametrize('torn', [b'{"metric": "knn_to', b'3', b'[]', b'\xff\xfe', b'{}'])
def test_a_torn_row_does_not_make_a_finished_run_unfinished(torn, tmp_path):
    rows = [json.dumps(row).encode() for row in result_rows()]
    (tmp_path / 'results.jsonl').write_bytes(b'\n'.join([torn, *rows, torn]))
    (tmp_path / 'log.jsonl').write_bytes(torn + b'\n{"val/feature_std": 0.5}\n' + torn)
    result = read_result(tmp_path)
    assert (result['k-NN'], result['feature_std'], result['RankMe']) == (90.0, 0.5, None)


def test_a_torn_row_of_a_figure_makes_the_run_unfinished(tmp_path):
    rows = [json.dumps(row) for row in result_rows()]
    (tmp_path / 'log.jsonl').touch()
    for i in range(3):
        torn = [row[: len(row) // 2] if j == i else row for j, row in enumerate(rows)]
        (tmp_path / 'results.jsonl').write_text('\n'.join(torn))
        assert read_result(tmp_path) is None
    (tmp_path / 'results.jsonl').write_text(json.dumps(dict(result_rows()[0], value='90')))
    assert read_result(tmp_path) is None


def test_a_run_with_other_images_is_left_out_of_the_table_and_named(tmp_path):
    for seed, images in enumerate(('a', 'a', 'b')):
        folder = run_folder(tmp_path, 'byol/digits.py', seed)
        folder.mkdir(parents=True)
        rows = result_rows(train_data=images)
        (folder / 'results.jsonl').write_text('\n'.join(map(json.dumps, rows)))
        (folder / 'log.jsonl').touch()
    lines = results_table(['byol/digits.py'], [0, 1, 2], tmp_path).splitlines()
    assert lines[2].endswith('| 2 |')
    assert lines[-1] == (
        'byol/digits.py, seed 2: its training images are not those of the other seeds; it is left '
        'out'
    )


def test_later_evaluations_in_the_same_folder_do_not_change_the_table(tmp_path):
    row = dict(config=dict(method=dict(type='BYOL')), seconds=60)
    rows = [
        dict(row, metric=metric, weights=weights, value=value)
        for metric, weights, value in (
            ('knn_top1', 'trained', 90.0),
            ('knn_top1', 'random weights', 50.0),
            ('probe_2_per_class_top1', 'trained', 70.0),
        )
    ]
    rows.append(
        dict(
            row,
            metric='knn_top1',
            weights='trained',
            value=91.0,
            seconds=5,
            checkpoint_sha256='0123',
        )
    )
    (tmp_path / 'results.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in rows))
    (tmp_path / 'log.jsonl').write_text('')
    result = read_result(tmp_path)
    assert (result['k-NN'], result['seconds']) == (90.0, 60)


def test_a_run_with_an_automatic_decay_is_recognised(root, tmp_path):
    """The results of the run hold the number that the run has put in place of base_ema='auto'."""
    options = ('method.base_ema=auto',)
    run = ConfigRun(str(root / 'configs/byol/digits.py'), 0, tmp_path, options)
    assert not run.is_done()
    config = Plan.of(run.settings(), 1257).settings.to_builtin()
    assert config['method']['base_ema'] == 0.6
    (tmp_path / 'log.jsonl').write_text('')

    def write(config):
        rows = [
            dict(metric=metric, weights=weights, value=50.0, seconds=1.0, config=config)
            for metric, weights in (
                ('knn_top1', 'trained'),
                ('knn_top1', 'random weights'),
                ('probe_2_per_class_top1', 'trained'),
            )
        ]
        lines = ''.join(json.dumps(row) + '\n' for row in rows)
        (tmp_path / 'results.jsonl').write_text(lines)

    write(config)
    assert run.is_done()
    write({**config, 'epochs': 31})
    with pytest.raises(ConfigError, match='holds a finished run with other settings'):
        run.is_done()
