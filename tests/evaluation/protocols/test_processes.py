"""Every evaluation tool on two processes gives the figures of one, once."""

import json

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.evaluation.feature_store import load_features
from ssl_zoo.evaluation.predictions import Predictions


@pytest.fixture(scope='module')
def checkpoint(train_on_digits):
    """A run of 6 steps on 139 digits, 41 held out, tested on 61: odd for two processes."""
    test = dict(type='Digits', split='test', size=8, limit=61)
    return train_on_digits(val=41, test=test)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """--train and --test: 31 images of three classes, and 15."""
    root, rng = tmp_path_factory.mktemp('set'), np.random.default_rng(0)
    for name, sizes in (('train', (11, 10, 10)), ('test', (8, 4, 3))):
        for c, n in enumerate(sizes):
            (root / name / f'class_{c}').mkdir(parents=True)
            for i in range(n):
                Image.fromarray((rng.integers(0, 60, (8, 8, 3)) + 40 * c).astype(np.uint8)).save(
                    root / name / f'class_{c}' / f'{i}.png'
                )
    return '--train', root / 'train', '--test', root / 'test'


def rows(work) -> list[dict]:
    return [json.loads(line) for line in (work / 'results.jsonl').read_text().splitlines()]


SGD = ('--lrs', '0.5', '5', '--epochs', '3', '--batch-size', '21')  # shares of 11 and 10 images
TOOLS = {
    'knn': ('--k', '1', '5', '--temperature', '0.07'),
    'linear': SGD,
    'linear --retrain': ('--retrain', *SGD),
    'linear --cached': ('--cached', '--strengths', '1', '0.01', *SGD),
    'linear --preset mocov3': ('--preset', 'mocov3', *SGD),
    'semi_supervised': (
        '--labels',
        '4-per-class',
        '--lrs',
        '0.05',
        '0.2',
        '--epochs',
        '2',
        '--batch-size',
        '15',
        '--draws',
        '2',
    ),
    'transfer': ('--strengths', '1', '0.01'),
    'transfer --finetune': (
        '--finetune',
        '--steps',
        '4',
        '--lrs',
        '0.01',
        '0.1',
        '--weight-decays',
        '0',
        '--batch-size',
        '9',
    ),
}
SAME = (
    'metric',
    'n',
    'protocol',
    'weights',
    'network',
    'layer',
    'preprocessing',
    'test',
    'test_manifest',
    'left_out',
    'checkpoint',
    'checkpoint_sha256',
    'step',
    'seed',
    'setting',
    'recipe',
    'k',
    'temperature',
    'strength',
    'label_set',
    'labelled',
    'list_sha256',
    'unreadable',
    'draw',
    'config',
)


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=() if name in ('knn', 'semi_supervised') else pytest.mark.long)
        for name in TOOLS
    ],
)
def test_two_processes_measure_what_one_measures_and_say_it_once(
    processes, root, checkpoint, folders, tmp_path, name
):
    arguments = [*(folders if name.startswith('transfer') else ()), *TOOLS[name]]
    command = (root / f'tools/{name.split()[0]}.py', checkpoint, *arguments, '--work-dir')
    ended = [processes(n, *command, f'{n}', cwd=tmp_path / f'w{n}').ended() for n in (1, 2)]
    [(code1, alone, err)], [(code, out, first), (code2, silent, second)] = ended
    assert (code1, code, code2) == (0, 0, 0), err + first + second
    one, two = (rows(tmp_path / f'w{n}' / f'{n}') for n in (1, 2))
    assert len(one) == len(two) and [row['metric'] for row in one] == [row['metric'] for row in two]
    for a, b in zip(one, two, strict=True):
        assert b['value'] == pytest.approx(a['value'], abs=100 / a['n'] + 1e-6)
        for key in set(SAME) & a.keys():
            assert a[key] == b[key], key
        assert a.get('chosen', {}).keys() == b.get('chosen', {}).keys()
        assert a.keys() == b.keys()
        if 'predictions' in a:
            p, q = (
                Predictions.load(tmp_path / f'w{n}' / row['predictions'])
                for n, row in ((1, a), (2, b))
            )
            assert (
                p.names.tolist() == q.names.tolist()
                and p.labels.tolist() == q.labels.tolist()
                and len(p.names) == a['n']
            )
            assert (p.predicted[:, 0] != q.predicted[:, 0]).sum() <= 1
    assert len(list((tmp_path / 'w2/2/predictions').iterdir())) == sum(
        'predictions' in row for row in two
    )
    assert silent == '' and second == '' and 'Traceback' not in first
    for text in (alone, out):
        assert sum(line.startswith('  predictions in') for line in text.splitlines()) == len(
            [row for row in two if 'predictions' in row]
        )
    assert len(out.splitlines()) == len(alone.splitlines())
    left = [
        sorted(
            str(p.relative_to(tmp_path / f'w{n}' / f'{n}'))
            for p in (tmp_path / f'w{n}' / f'{n}').rglob('*')
            if p.is_file() and p.suffix != '.npz'
        )
        for n in (1, 2)
    ]
    assert left[0] == left[1]  # features, lists, records: the same files


def test_features_are_those_of_one_process(processes, root, checkpoint, tmp_path):
    for n in (1, 2):
        (code, out, err), *others = processes(
            n, root / 'tools/extract_features.py', checkpoint, '--work-dir', f'{n}'
        ).ended()
        assert code == 0 and [(c, o, e) for c, o, e in others] == [(0, '', '')] * (n - 1), err
        assert [line.split(':')[0] for line in out.splitlines()] == [
            'train',
            'val',
            'test',
        ] and 'test: 61 x 64 float32' in out
    one, two = (
        sorted(p for p in (tmp_path / f'{n}/features').iterdir() if p.is_dir()) for n in (1, 2)
    )
    assert [p.name for p in one] == [p.name for p in two] and len(one) == 3
    for a, b in zip(one, two, strict=True):
        assert sorted(p.name for p in a.iterdir()) == sorted(p.name for p in b.iterdir())
        a, b = load_features(a), load_features(b)
        np.testing.assert_allclose(b.values, a.values, rtol=1e-5, atol=1e-6)
        assert a.labels.tolist() == b.labels.tolist() and a.index.tolist() == b.index.tolist()


STOPPING = """
import os, runpy, signal, sys
from ssl_zoo.distributed import rank
from ssl_zoo.evaluation import classifier_optimizers
kind, number, *sys.argv = sys.argv[1:]
optimizer, seen = getattr(classifier_optimizers, kind), []
step = optimizer.step

def stopping(self, factor):
    step(self, factor)
    seen.append(factor)
    if len(seen) == int(number) and rank() == 1:
        os.kill(os.getpid(), signal.SIGTERM)
optimizer.step = stopping
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ('tool', 'kind', 'step', 'stopped', 'options'),
    [
        (
            'linear',
            'HeadsSGD',
            20,
            21,
            ('--lrs', '0.5', '5', '--epochs', '10', '--batch-size', '21'),
        ),  # of 66
        (
            'linear',
            'HeadsSGD',
            66,
            66,
            ('--lrs', '0.5', '5', '--epochs', '10', '--batch-size', '21'),
        ),
        # A process learns of the other's signal one step late. A signal in the last step of the
        # first setting must still stop the next setting.
        (
            'semi_supervised',
            'NetworkSGD',
            4,
            4,
            (
                '--labels',
                '4-per-class',
                '--lrs',
                '0.05',
                '0.2',
                '--epochs',
                '2',
                '--batch-size',
                '20',
            ),
        ),
    ],
)
def test_a_stop_of_one_process_stops_both_and_costs_nothing(
    processes, root, checkpoint, tmp_path, tool, kind, step, stopped, options
):
    (tmp_path / 'stopping.py').write_text(STOPPING)
    command = (root / f'tools/{tool}.py', checkpoint, *options, '--work-dir')
    assert [code for code, _, _ in processes(2, *command, 'whole').ended()] == [0, 0]
    (code, out, err), (other, out1, err1) = processes(
        2, tmp_path / 'stopping.py', kind, step, *command, 'stopped'
    ).ended()
    assert (code, other) == (143, 143) and out == out1 == '' and err1 == '', err + err1
    assert (
        err.splitlines()[-1]
        == f'stopped by SIGTERM after step {stopped}; the same command goes on from here'
    )
    [state] = (tmp_path / 'stopped').rglob('state.pth')
    assert not (tmp_path / 'stopped/results.jsonl').exists()
    (code, out, err), (other, _, _) = processes(2, *command, 'stopped').ended()
    assert (code, other) == (0, 0) and not state.exists() and out.count('<- chosen') == 1, err
    [a], [b] = rows(tmp_path / 'whole'), rows(tmp_path / 'stopped')
    assert (
        a['value'] == b['value']
        and a['setting'] == b['setting']
        and a['protocol'] == b['protocol']
        and a['chosen'] == b['chosen']
    )
    p, q = (Predictions.load(tmp_path / row['predictions']) for row in (a, b))
    assert np.array_equal(p.predicted, q.predicted)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (
            ('--lrs', '1', '--batch-size', '1'),
            'a batch of 1 images cannot be shared by 2 processes; start fewer',
        ),
        (
            ('--cfg-options', 'data.test={"type": "ImageFolder", "root": "/none"}'),
            'looked for class folders with images in /none',
        ),
        (('--eval-batch-size', '0'), 'the batch size is 0'),
    ],
)
def test_mistakes_are_told_once(processes, root, checkpoint, tmp_path, arguments, sentence):
    group = processes(2, root / 'tools/linear.py', checkpoint, '--work-dir', 'work', *arguments)
    (code, out, err), (other, out1, err1) = group.ended()
    assert (
        (code, other) == (2, 2)
        and err.startswith(f'error: {sentence}')
        and err.count('\n') == 1
        and (out, out1, err1) == ('', '', '')
    )
