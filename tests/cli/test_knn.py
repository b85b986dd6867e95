"""tools/knn.py: figures against a slow k-NN, what is chosen on what, what a row says, mistakes."""

import hashlib
import importlib
import itertools
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.build import build_method
from ssl_zoo.checkpoint import FORMAT, add_digest, checkpoints_in
from ssl_zoo.config.loading import import_file
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.evaluation import feature_store
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.evaluation.protocols.describe import describe_row

METHOD = '''
"""A method of one's own: an image's pixels."""
import torch
from torch import nn
from ssl_zoo import METHODS, Method


@METHODS.register_module()
class PixelsForKnn(Method):
    """Pixels."""

    def __init__(self):
        super().__init__()
        layer, self.embed_dim = nn.Linear(12, 12, bias=False), 12
        layer.weight.data = torch.eye(12)
        self.backbone = nn.Sequential(nn.Flatten(), layer)

    def loss(self, views, **batch):
        return dict(loss=self.backbone(views[0]).square().mean())
'''
COLOURS = dict(a=(150, 110, 120), b=(120, 150, 110), c=(110, 120, 150))
COUNTS = dict(train=70, val=8, test=10)  # of each class: just enough training images for k=200


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """A folder with a method, a checkpoint of it, and images of 2 px whose classes overlap."""
    home = tmp_path_factory.mktemp('home')
    (home / 'my_method.py').write_text(METHOD)
    import_file(str(home / 'my_method.py'))
    rng = np.random.default_rng(0)
    for part, n in COUNTS.items():
        for c, colour in COLOURS.items():
            for i in range(n):
                paint(home / part / c / f'{i}.png', rng.normal(colour, 60, (2, 2, 3)))
    save(home / 'checkpoint.pth', {part: folder(home / part) for part in COUNTS})
    return home


def paint(path: Path, pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.clip(np.broadcast_to(pixels, (2, 2, 3)), 0, 255).round().astype(np.uint8)
    ).save(path)


def folder(path: Path) -> dict:
    return dict(type='ImageFolder', root=str(path))


def save(path: Path, data: dict) -> Path:
    """A checkpoint of the method of pixels."""
    settings = settings_from_dict(
        dict(
            method=dict(type='PixelsForKnn'),
            views=[dict(size=2)],
            optimizer=dict(type='SGD'),
            epochs=1,
            batch_size=4,
            base_lr=1.0,
            data=dict(data, mean=[0.5] * 3, std=[0.5] * 3),
            workers=0,
            seed=4,
        )
    )
    torch.save(
        add_digest(
            dict(
                format=FORMAT,
                config=settings.to_builtin(),
                step=3,
                method=build_method(settings).state_dict(),
            )
        ),
        path,
    )
    return path


@pytest.fixture
def knn_eval(home, tmp_path, root, capsys):
    """Function: run the tool in this process.

    Returns (exit code, stdout, stderr without progress bars, results rows).
    """
    tool = importlib.import_module('ssl_zoo.cli.knn')

    def call(*arguments, checkpoint=home / 'checkpoint.pth', work='work'):
        results = tmp_path / work / 'results.jsonl'
        before = len(results.read_text().splitlines()) if results.exists() else 0
        code = tool.main(
            [str(checkpoint), '--work-dir', str(tmp_path / work), *map(str, arguments)]
        )
        out, err = capsys.readouterr()
        err = ''.join(f'{line}\n' for line in err.splitlines() if line and ' images/s' not in line)
        return (
            code,
            out,
            err,
            [json.loads(line) for line in results.read_text().splitlines()[before:]]
            if results.exists()
            else [],
        )

    return call


def points(root: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Pixels in [-1, 1], channel after channel, in float64; labels; names."""
    source = ImageFolder(str(root))
    values = [
        (np.asarray(Image.open(root / name)) / 127.5 - 1).transpose(2, 0, 1).reshape(-1)
        for name in source.files
    ]
    return np.array(values), source.labels, source.files


def slow(bank, labels, query, k, temperature, classes=3) -> list[int]:
    """The classes that the k nearest by cosine vote for, most votes first, then -1."""
    cosines = [float(b @ query) / math.sqrt(float(b @ b) * float(query @ query)) for b in bank]
    votes = [0.0] * classes
    for i in sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]:
        votes[labels[i]] += math.exp(cosines[i] / temperature)
    return [c if votes[c] > 0 else -1 for c in sorted(range(classes), key=lambda c: -votes[c])]


def predictions(row: dict) -> list[list[int]]:
    return Predictions.load(row['predictions']).predicted.tolist()


def test_figures_are_those_of_a_slow_k_nn_and_the_choice_that_of_the_hold_out(knn_eval, home):
    bank, labels, _ = points(home / 'train')
    (held_out, held_labels, _), (queries, test_labels, names) = (
        points(home / 'val'),
        points(home / 'test'),
    )
    ks, ts = (1, 3, 10), (0.05, 0.3)
    right = {
        (k, t): sum(
            slow(bank, labels, q, k, t)[0] == c for q, c in zip(held_out, held_labels, strict=True)
        )
        for k in ks
        for t in ts
    }
    best = min(right, key=lambda cell: (-right[cell], cell))
    on_test = {
        cell: [slow(bank, labels, q, *cell) for q in queries]
        for cell in (best, (20, 0.07), (200, 0.1))
    }

    code, out, err, rows = knn_eval('--k', *ks, '--temperature', *ts)
    assert (code, err) == (0, '') and [(row['k'], row['temperature']) for row in rows] == list(
        on_test
    )
    for row, (cell, wanted) in zip(rows, on_test.items(), strict=True):
        assert predictions(row) == wanted
        assert row['value'] == pytest.approx(
            100 * np.mean([w[0] == c for w, c in zip(wanted, test_labels, strict=True)])
        )
        saved = Predictions.load(row['predictions'])
        assert saved.labels.tolist() == test_labels.tolist() and saved.names.tolist() == names
        assert f'weighted k-NN, k={cell[0]}, T={cell[1]:g}, cosine, bank of 210' in describe_row(
            row
        )
    assert [row['selection'] for row in rows] == [
        'chosen of 6 on 24 held-out images',
        'as DINO',
        'as lightly',
    ]
    assert (
        40 < rows[0]['value'] < 100
        and len({row['value'] for row in rows} | set(right.values())) > 3
    )
    table = [[float(x) for x in re.findall(r'[\d.]+', line)] for line in out.splitlines()[2:5]]
    np.testing.assert_allclose(
        table, [[k, *[100 * right[k, t] / 24 for t in ts]] for k in ks], atol=0.006
    )
    assert (
        out.startswith('top-1 in percent on 24 held-out images')
        and out.count('on 30 test images') == 3
    )


def test_a_row_holds_all_it_takes_to_judge_a_figure(knn_eval, home, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['tools/knn.py', 'x.pth'])
    code, out, err, rows = knn_eval('--k', '5', '--temperature', '0.1', '--seed', '2')
    _, labels, names = points(home / 'test')
    lines = ''.join(f'{name}\t{label}\n' for name, label in zip(names, labels, strict=True))
    for row in rows:
        assert row['metric'] == 'knn_top1' and row['n'] == 30 and row['left_out'] == 0
        low, high = row['ci95']
        assert 0 <= low <= row['value'] <= high <= 100
        assert (
            row['test'] == 'ImageFolder'
            and row['test_manifest'] == hashlib.sha256(lines.encode()).hexdigest()[:16]
        )
        assert (
            row['checkpoint_sha256']
            == hashlib.sha256((home / 'checkpoint.pth').read_bytes()).hexdigest()[:16]
        )
        assert (
            row['checkpoint'] == str(home / 'checkpoint.pth')
            and row['command'] == 'tools/knn.py x.pth'
        )
        assert (row['weights'], row['network'], row['layer'], row['step'], row['seed']) == (
            'trained',
            'online',
            'backbone',
            3,
            2,
        )
        assert (
            row['config']['method'] == dict(type='PixelsForKnn')
            and row['config']['seed'] == 4
            and row['versions']['device']
        )
        assert (
            0 < row['seconds'] < 60 and row['protocol'] and row['time'] and 'top5' not in row
        )  # of three classes


def swap(home: Path, tmp_path: Path) -> list[str]:
    """Options for images on which the choice of k shows.

    Of three training images close to each other the nearest is of class a, the two others of b.
    Held-out images are of class a: k=1 is right, k=3 wrong. Test images are of b: they would
    choose k=3. Also returns options for test images of class a.
    """
    for name, colour in (
        ('a/0', (255, 128, 128)),
        ('b/0', (254, 138, 128)),
        ('b/1', (254, 128, 138)),
    ):
        paint(tmp_path / 'bank' / f'{name}.png', colour)
    for i in range(4):
        paint(tmp_path / 'held_out' / 'a' / f'{i}.png', (255, 128, 128 - i))
        paint(tmp_path / 'of_b' / 'b' / f'{i}.png', (255, 128, 128 - i))
        paint(tmp_path / 'of_a' / 'a' / f'{i}.png', (255, 128, 128 - i))
    return [f'data.train={folder(tmp_path / "bank")}', f'data.val={folder(tmp_path / "held_out")}']


def test_k_is_chosen_on_the_hold_out_though_the_test_would_prefer_another(knn_eval, home, tmp_path):
    options = swap(home, tmp_path)
    for test, value in (('of_b', 0), ('of_a', 100)):
        code, out, err, [row] = knn_eval(
            '--k', 1, 3, '--cfg-options', *options, f'data.test={folder(tmp_path / test)}'
        )
        assert (code, err) == (0, '') and row['k'] == 1 and row['value'] == value
    # and the other way round: what was the test set is now held out, and k=3 is right
    code, out, err, [row] = knn_eval(
        '--k',
        1,
        3,
        '--cfg-options',
        options[0],
        f'data.val={folder(tmp_path / "of_b")}',
        f'data.test={folder(tmp_path / "held_out")}',
    )
    assert row['k'] == 3 and row['value'] == 0


@pytest.mark.parametrize('ks', list(itertools.permutations((1, 2, 3))))
def test_the_smallest_is_chosen_where_several_are_best_in_whatever_order_they_are_given(
    knn_eval, tmp_path, ks
):
    for c, colour in (('a', (255, 0, 0)), ('b', (0, 255, 0))):
        for part in ('bank', 'held_out', 'test'):
            for i in range(3):
                paint(tmp_path / part / c / f'{i}.png', colour)
    options = [
        f'data.{key}={folder(tmp_path / part)}'
        for key, part in (('train', 'bank'), ('val', 'held_out'), ('test', 'test'))
    ]
    _, out, _, [row] = knn_eval(
        '--k', *ks, '--temperature', 0.5, 0.1, 0.2, '--cfg-options', *options
    )
    assert (row['k'], row['temperature'], row['value']) == (1, 0.1, 100)


def test_a_row_does_not_speak_of_more_neighbours_than_there_are(knn_eval, tmp_path, home):
    options = swap(home, tmp_path)
    _, out, _, [row] = knn_eval(
        '--k',
        2,
        50,
        9000,
        '--cfg-options',
        options[0],
        f'data.val={folder(tmp_path / "of_b")}',
        f'data.test={folder(tmp_path / "of_b")}',
    )
    assert row['k'] == 3 and 'k=3,' in describe_row(row)


def test_without_a_hold_out_only_the_usual_settings_are_reported(knn_eval, home):
    code, out, err, rows = knn_eval('--k', 1, 3, '--cfg-options', 'data.val=None')
    assert (code, err) == (0, '') and 'held-out' not in out
    assert [(row['k'], row['temperature'], row['selection']) for row in rows] == [
        (20, 0.07, 'as DINO'),
        (200, 0.1, 'as lightly'),
    ]
    bank, labels, _ = points(home / 'train')
    assert predictions(rows[0]) == [
        slow(bank, labels, q, 20, 0.07) for q in points(home / 'test')[0]
    ]
    code, out, err, rows = knn_eval(
        '--k', 1, '--cfg-options', 'data.val=None', 'data.train.limit=199'
    )
    assert [row['k'] for row in rows] == [20] and 'bank of 199' in describe_row(rows[0])
    code, out, err, rows = knn_eval('--cfg-options', 'data.val=None', 'data.train.limit=19')
    assert (
        code == 2
        and rows == []
        and err.startswith('error: ')
        and '19 ' in err
        and 'data.val=' in err
    )


def test_a_hold_out_that_is_cut_from_training_is_not_in_the_bank(knn_eval):
    code, out, err, rows = knn_eval('--k', 1, '--temperature', 0.1, '--cfg-options', 'data.val=30')
    assert (
        'bank of 180' in describe_row(rows[0])
        and rows[0]['selection'] == 'chosen of 1 on 30 held-out images'
    )
    held_out = float(out.splitlines()[2].split()[1])
    assert held_out < 95  # with itself in the bank every image would be right


def test_images_that_cannot_be_read_are_left_out_and_counted(knn_eval, home, tmp_path):
    for part in COUNTS:
        for c in COLOURS:
            for i in range(6):
                path = tmp_path / part / c / f'{i}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes((home / part / c / f'{i}.png').read_bytes() if i else b'torn')
    options = [f'data.{part}={folder(tmp_path / part)}' for part in COUNTS]
    code, out, err, [row] = knn_eval('--k', 3, '--temperature', 0.1, '--cfg-options', *options)
    assert (
        code == 0
        and row['n'] == 15
        and row['left_out'] == 3
        and 'bank of 15' in describe_row(row)
        and '15 held-out' in row['selection']
    )
    assert Predictions.load(row['predictions']).names.tolist() == [
        f'{c}/{i}.png' for c in COLOURS for i in range(1, 6)
    ]
    for path in tmp_path.rglob('*/0.png'):
        path.unlink()
    _, _, _, [whole] = knn_eval(
        '--k', 3, '--temperature', 0.1, '--cfg-options', *options, work='whole'
    )
    assert (
        predictions(whole) == predictions(row)
        and whole['left_out'] == 0
        and whole['test_manifest'] != row['test_manifest']
    )


def test_classes_that_are_empty_or_missing_in_the_test_set(knn_eval, home, tmp_path):
    for part, classes in (('bank', 'abc'), ('test', 'ac')):
        for c in classes:
            for i in range(5):
                path = tmp_path / part / c / f'{i}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(
                    (home / 'train' / c / f'{i + 10 * (part == "test")}.png').read_bytes()
                )
    (tmp_path / 'bank' / 'aa_empty').mkdir()
    options = [
        f'data.train={folder(tmp_path / "bank")}',
        'data.val=3',
        f'data.test={folder(tmp_path / "test")}',
    ]
    code, out, err, [row] = knn_eval('--k', 1, '--cfg-options', *options)
    saved = Predictions.load(row['predictions'])
    assert (
        (code, err) == (0, '')
        and saved.labels.tolist() == [0] * 5 + [3] * 5
        and not (saved.predicted == 1).any()
    )
    assert row['value'] == 100 * np.mean(saved.predicted[:, 0] == saved.labels)


def test_features_are_stored_and_used_again_under_any_k(knn_eval, tmp_path, monkeypatch):
    _, _, _, first = knn_eval('--k', 3)
    stored = {
        path: path.stat().st_mtime_ns for path in (tmp_path / 'work' / 'features').rglob('*.npy')
    }
    assert {path.parent.name.rsplit('-', 1)[0] for path in stored} == {'train', 'val', 'test'}
    monkeypatch.setattr(feature_store, '_Extraction', None)
    code, _, _, again = knn_eval('--k', 3)
    assert code == 0 and [row['value'] for row in again] == [row['value'] for row in first]
    assert knn_eval('--k', 1, 7, '--temperature', 0.3, '--ivf', 4)[0] == 0
    assert stored == {
        path: path.stat().st_mtime_ns for path in (tmp_path / 'work' / 'features').rglob('*.npy')
    }


def test_float16_and_clusters_come_close_to_the_exact_search(knn_eval):
    _, _, _, exact = knn_eval('--k', 5, '--temperature', 0.1)
    _, _, _, half = knn_eval('--k', 5, '--temperature', 0.1, '--dtype', 'float16')
    code, out, err, clusters = knn_eval('--k', 5, '--temperature', 0.1, '--ivf', 4, '--probes', 4)
    for rows in (half, clusters):
        assert len(rows) == 3 and all(
            abs(a['value'] - b['value']) <= 7 for a, b in zip(rows, exact, strict=True)
        )
    said = re.search(
        r'IVF of 4 clusters, 4 probed, 8 bits, recall ([\d.]+) %', describe_row(clusters[0])
    )
    assert (
        code == 0
        and float(said[1]) > 90
        and 'recall against the exact search' in out
        and 'IVF' not in describe_row(exact[0])
    )
    _, _, _, few = knn_eval('--k', 5, '--temperature', 0.1, '--ivf', 20, '--probes', 1)
    assert float(re.search(r'recall ([\d.]+) %', describe_row(few[0]))[1]) < float(said[1])
    for seed in (2**31, 2**40):
        assert knn_eval('--k', 5, '--temperature', 0.1, '--ivf', 4, '--seed', seed)[0] == 0


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run of 7 steps of BYOL, with the figures that training writes at its end."""
    folder = tmp_path_factory.mktemp('run')
    build_trainer(
        settings_from_dict(
            dict(
                method=dict(
                    type='BYOL',
                    backbone=dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1]),
                    hidden_dim=32,
                    proj_dim=16,
                ),
                data=dict(
                    train=dict(type='Digits', split='val', size=8),
                    val=40,
                    test=dict(type='Digits', split='test', size=8, limit=100),
                    mean=[0.5] * 3,
                    std=[0.5] * 3,
                ),
                views=[dict(size=8)] * 2,
                optimizer=dict(type='LARS', momentum=0.9),
                epochs=1,
                batch_size=20,
                base_lr=1.0,
                workers=0,
                online_eval=dict(every=0),
            )
        ),
        folder,
    ).fit()
    rows = [json.loads(line) for line in (folder / 'results.jsonl').read_text().splitlines()]
    return checkpoints_in(folder)[0], {
        row['weights']: row['value'] for row in rows if row['metric'] == 'knn_top1'
    }


def test_figures_are_those_at_the_end_of_training_with_trained_and_with_random_weights(
    run, knn_eval
):
    checkpoint, figures = run
    for arguments, weights in (([], 'trained'), (['--random-weights'], 'random weights')):
        code, out, err, rows = knn_eval('--k', 1, *arguments, checkpoint=checkpoint)
        assert (
            rows[1]['selection'] == 'as DINO'
            and rows[1]['value'] == figures[weights]
            and rows[1]['weights'] == weights
        )
        assert (
            rows[1]['top5'] > rows[1]['value']
            and rows[1]['step'] == (7 if weights == 'trained' else 0)
            and f'[{weights}, online' in out
        )
    assert figures['trained'] != figures['random weights']
    _, _, _, rows = knn_eval(
        '--k', 1, '--network', 'target', '--layer', 'projector', checkpoint=checkpoint
    )
    assert (rows[0]['network'], rows[0]['layer']) == ('target', 'projector')


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--k', '0'], '--k is [0]'),
        (['--k', '5', '-3'], '--k is [5, -3]'),
        (['--temperature', '0'], '--temperature is [0.0]'),
        (['--temperature', '0.1', '-1'], '--temperature is [0.1, -1.0]'),
        (['--temperature', 'nan'], '--temperature is [nan]'),
        (['--temperature', '0.1', 'nan'], '--temperature is [0.1, nan]'),
        (['--temperature', 'inf'], '--temperature is [inf]'),
        (['--ivf', '0'], '--ivf 0'),
        (['--ivf', '4', '--probes', '0'], '--probes 0'),
        (['--ivf', '211'], '--ivf 211, but there are 210 training images'),
        (
            ['--cfg-options', 'data.test=None'],
            'the config has no data.test: all figures are measured on the test images',
        ),
        (['--cfg-options', 'data.val=1000'], 'data.val=1000 of 210 images'),
        (
            ['--cfg-options', 'data.train.root=/none'],
            'looked for class folders with images in /none',
        ),
        (['--cfg-options', 'epochs=2'], 'would change what was trained'),
        (['--network', 'target'], "has no 'target' network: Allowed: online."),
        (['--layer', 'projector'], "has no projector under the name 'projector'"),
        (['--workers', '-2'], '-2'),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else '',
)
def test_mistakes_end_with_one_sentence(knn_eval, tmp_path, arguments, sentence):
    code, out, err, rows = knn_eval(*arguments)
    assert (
        code == 2
        and out == ''
        and rows == []
        and err.startswith('error: ')
        and err.count('\n') == 1
        and sentence in err
    )
    assert not list(tmp_path.rglob('*.npy'))  # told before any work


def test_data_that_does_not_fit_is_told(knn_eval, home, tmp_path):
    for c in 'ax':
        paint(tmp_path / 'strange' / c / '0.png', (1, 2, 3))
    images = dict(type='Images', root=str(home / 'train'))
    for options, sentence in (
        (
            [f'data.test={folder(tmp_path / "strange")}'],
            'data.test has classes that data.train does not have: x;',
        ),
        (
            [f'data.val={folder(tmp_path / "strange")}'],
            'data.val has classes that data.train does not have: x',
        ),
        ([f'data.train={images}', 'data.val=3'], 'data.train (Images) has no labels'),
        ([f'data.test={images}'], 'data.test (Images) has no labels'),
        ([f'data.val={images}'], 'data.val has no labels, and choices need them'),
    ):
        code, out, err, rows = knn_eval('--cfg-options', *options)
        assert (
            code == 2
            and out == ''
            and err.startswith('error: ')
            and err.count('\n') == 1
            and sentence in err
            and not rows
        )


def test_a_mistake_as_a_user_makes_it(run_tool, run, root, tmp_path):
    torn = tmp_path / 'step_00000007.pth'
    torn.write_bytes(run[0].read_bytes()[:3000])
    done = run_tool(root / 'tools/knn.py', torn, cwd=tmp_path)
    assert (
        done.returncode == 2
        and done.stdout == ''
        and 'Traceback' not in done.stderr
        and len(done.stderr.splitlines()) == 1
    )
    assert done.stderr.startswith(f'error: {torn} is not a readable checkpoint')
