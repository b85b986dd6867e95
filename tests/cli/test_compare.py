"""tools/compare.py as a user runs it."""

import importlib
import json
import math
import re

import numpy as np
import pytest

from ssl_zoo.evaluation.predictions import Predictions, compare

pytestmark = pytest.mark.quick

ROW = dict(
    metric='linear_top1',
    value=1.0,
    protocol=dict(name='frozen encoder'),
    weights='trained',
    network='online',
    layer='backbone',
    checkpoint='work_dirs/a/checkpoints/step_00000014.pth',
    config=dict(method=dict(type='BYOL')),
)


@pytest.fixture
def saved(tmp_path):
    """Function: save predictions of 60 images of 6 classes, some right; returns the path."""

    def make(name, right, columns=5, reverse=False, **row):
        labels = np.arange(60) % 6
        predicted = np.stack([(labels + i) % 6 for i in range(columns)], 1)
        wrong = np.ones(60, dtype=bool)
        wrong[right] = False
        predicted[wrong, 0] = (labels[wrong] + 1) % 6
        names = np.array([f'class_{c}/{i}.png' for i, c in enumerate(labels)])
        step = -1 if reverse else 1
        path = tmp_path / f'{name}.npz'
        Predictions(predicted[::step], labels[::step], names[::step], {**ROW, **row}).save(path)
        return path

    return make


@pytest.fixture
def compare_tool(root, capsys):
    """Function: the tool's main in this process; exit code, stdout, stderr."""
    module = importlib.import_module('ssl_zoo.cli.compare')

    def run(*arguments):
        code = module.main([str(a) for a in arguments])
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


def test_the_text_says_what_was_compared_and_how_sure_it_is(saved, run_tool, root, tmp_path):
    a = saved('a', slice(0, 40))
    b = saved(
        'b',
        slice(10, 60),
        1,
        True,
        protocol=dict(name='k-NN'),
        network='target',
        layer='projector',
        weights='random weights',
        checkpoint='b.pth',
        config=dict(method=dict(type='DINO')),
    )
    done = run_tool(root / 'tools/compare.py', a.name, b, cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    first, second, third, fourth = done.stdout.splitlines()
    assert (
        first
        == f'A   66.67 %  BYOL, trained, online, backbone, frozen encoder, {ROW["checkpoint"]}'
    )
    assert second == 'B   83.33 %  DINO, random weights, target, projector, k-NN, b.pth'
    found = re.fullmatch(
        r'B - A: \+16\.67 points, 95 % interval ([+-][\d.]+) to ([+-][\d.]+) '
        r'\(paired bootstrap over 60 images\)',
        third,
    )
    expected = compare(Predictions.load(a), Predictions.load(b))
    assert [float(x) for x in found.groups()] == [round(expected.low, 2), round(expected.high, 2)]
    p = 2 * sum(math.comb(30, i) for i in range(11)) / 2**30
    assert (
        fourth
        == f"right in A alone: 10, in B alone: 20; McNemar's exact test (of top-1): p = {p:.3g}"
    )


def test_json_has_every_figure(saved, run_tool, root, tmp_path):
    a, b = saved('a', slice(0, 40)), saved('b', slice(10, 60), 1, True)
    done = run_tool(root / 'tools/compare.py', a, b, '--json', cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    result = json.loads(done.stdout)
    low, high = result.pop('low'), result.pop('high')
    assert result == dict(
        a=pytest.approx(200 / 3),
        b=pytest.approx(250 / 3),
        difference=pytest.approx(50 / 3),
        only_a=10,
        only_b=20,
        p=pytest.approx(2 * sum(math.comb(30, i) for i in range(11)) / 2**30),
        images=60,
        metric='top1',
        file_a=str(a),
        file_b=str(b),
    )
    assert -5 < low < 50 / 3 < high < 36


def test_a_file_compared_with_itself(saved, compare_tool):
    a = saved('a', slice(0, 45))
    code, out, err = compare_tool(a, a)
    assert code == 0 and not err
    assert 'B - A: +0.00 points, 95 % interval +0.00 to +0.00' in out and out.endswith('p = 1\n')
    code, out, _ = compare_tool(a, a, '--json')
    assert json.loads(out)['p'] == 1 and json.loads(out)['difference'] == 0


def test_mean_per_class(saved, compare_tool):
    a, b = saved('a', np.arange(60) % 6 < 3), saved('b', slice(0, 0))
    code, out, _ = compare_tool(a, b, '--metric', 'mean_per_class')
    assert code == 0 and out.startswith('A   50.00 %') and 'B - A: -50.00 points' in out
    assert (
        json.loads(compare_tool(a, b, '--metric', 'mean_per_class', '--json')[1])['metric']
        == 'mean_per_class'
    )


def test_mistakes_get_one_line(saved, compare_tool, run_tool, root, tmp_path):
    a, b = saved('a', slice(0, 40)), saved('b', slice(0, 30))
    (tmp_path / 'torn.npz').write_bytes(a.read_bytes()[:500])
    (tmp_path / 'text.npz').write_text('top-1 61 %')
    whole = Predictions.load(b)
    Predictions(whole.predicted[:9], whole.labels[:9], whole.names[:9], whole.row).save(
        tmp_path / 'fewer.npz'
    )
    Predictions(whole.predicted, whole.labels[::-1], whole.names, whole.row).save(
        tmp_path / 'relabelled.npz'
    )
    for arguments, words in (
        ((a, tmp_path / 'none.npz'), 'there are no predictions at'),
        ((tmp_path, a), 'there are no predictions at'),
        ((a, ''), 'there are no predictions at'),
        ((a, tmp_path / 'torn.npz'), 'torn.npz holds no predictions of ssl_zoo'),
        ((tmp_path / 'text.npz', a), 'text.npz holds no predictions of ssl_zoo'),
        ((a, tmp_path / 'fewer.npz'), 'different images: 60 and 9, 51 of them'),
        ((a, tmp_path / 'relabelled.npz'), 'labels to the same images'),
        ((a, b, '--metric', 'top-1'), "the metric is 'top-1': did you mean 'top1'"),
    ):
        for more in ((), ('--json',)):
            code, out, err = compare_tool(*arguments, *more)
            assert (
                code == 2
                and not out
                and err.startswith('error: ')
                and words in err
                and err.count('\n') == 1
            )
    done = run_tool(root / 'tools/compare.py', a, 'none.npz', cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == (
        f'error: there are no predictions at {tmp_path}/none.npz; an evaluation names the file '
        f'it saves\n'
    )


@pytest.mark.parametrize(
    'row',
    [
        dict(),
        dict(config={}),
        dict(ROW, config=dict(method='BYOL')),
        {k: v for k, v in ROW.items() if k != 'layer'},
    ],
    ids=['empty', 'no method', 'odd method', 'no layer'],
)
def test_a_row_that_says_less_gets_a_sentence_or_a_comparison(saved, compare_tool, tmp_path, row):
    whole = Predictions.load(saved('a', slice(0, 40)))
    whole.row = row
    whole.save(tmp_path / 'less.npz')
    code, out, err = compare_tool(tmp_path / 'a.npz', tmp_path / 'less.npz')
    assert (code == 2 and err.startswith('error: ') and 'less.npz' in err) or (
        code == 0 and 'p = 1' in out
    )


@pytest.mark.parametrize(
    'changes',
    [
        dict(predicted=np.arange(60)),
        dict(predicted=np.zeros((59, 5), int)),
        dict(labels=np.zeros(59, int)),
        dict(names=np.array(['a'])),
        dict(row=np.array('[]')),
    ],
    ids=lambda c: next(iter(c)),
)
def test_a_file_of_other_shapes_gets_a_sentence(saved, compare_tool, tmp_path, changes):
    a = saved('a', slice(0, 40))
    with np.load(a) as file:
        np.savez(tmp_path / 'odd.npz', **{**file, **changes})
    for files in (
        (a, tmp_path / 'odd.npz'),
        (tmp_path / 'odd.npz', a),
        (tmp_path / 'odd.npz',) * 2,
    ):
        code, out, err = compare_tool(*files)
        assert (
            code == 2
            and not out
            and err.startswith('error: ')
            and 'odd.npz' in err
            and err.count('\n') == 1
        )


def test_a_name_too_long_for_a_file_gets_one_line(saved, compare_tool):
    code, out, err = compare_tool(saved('a', slice(0, 40)), 'x' * 300)
    assert code == 2 and not out and err.startswith('error: ') and err.count('\n') == 1


def test_predictions_whose_protocol_is_text_are_refused_with_a_sentence(saved, compare_tool):
    a = saved('a', slice(0, 40))
    b = saved('b', slice(10, 60), protocol='frozen encoder')
    code, out, err = compare_tool(a, b)
    assert (code, out) == (2, '') and len(err.splitlines()) == 1
    assert "the protocol of the row is 'frozen encoder', but it must be a dict" in err
