"""Accuracies by hand, intervals against resampling, saved predictions, paired comparison."""

import dataclasses
import io
import json
import math
import os
import pickle
import random
import zipfile

import numpy as np
import pytest
from scipy.stats import binomtest

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.metrics import (
    accuracy,
    bootstrap,
    interval,
    mean_per_class,
    measure,
    top_k,
)
from ssl_zoo.evaluation.predictions import PredictionComparison, Predictions, compare

RNG = np.random.default_rng(0)


def test_accuracy_is_in_percent():
    assert accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0])) == 75


def test_mean_per_class_by_hand():
    labels, predicted = (
        np.array([0, 0, 0, 2, 2, 7]),
        np.array([0, 0, 1, 2, 9, 7]),
    )  # 1, 3 to 6 do not occur; 9 is beyond them all
    assert mean_per_class(predicted, labels) == pytest.approx(100 * (2 / 3 + 1 / 2 + 1) / 3)
    assert mean_per_class(np.full(6, -1), labels) == 0
    assert mean_per_class(labels, labels) == 100
    assert mean_per_class(np.array([5, 5, 5, 5]), np.array([5, 5, 5, 6])) == 50  # where top-1 is 75
    assert mean_per_class(np.array([3]), np.array([3])) == 100


def test_mean_per_class_equals_a_loop():
    labels, predicted = (
        RNG.choice([0, 3, 4, 90], 500, p=[0.7, 0.2, 0.09, 0.01]),
        RNG.choice([0, 3, 4, 5], 500),
    )
    shares = [
        sum(p == c for p, y in zip(predicted, labels, strict=True) if y == c)
        / sum(y == c for y in labels)
        for c in set(labels)
    ]
    assert mean_per_class(predicted, labels) == pytest.approx(100 * sum(shares) / len(shares))


def test_top_k_by_hand():
    predicted, labels = (
        np.array([[1, 2, 3], [2, 1, 3], [0, 4, 1], [5, -1, -1]]),
        np.array([1, 1, 1, 2]),
    )
    assert [top_k(predicted, labels, k) for k in (1, 2, 3, 5)] == [25, 50, 75, 75]


def test_measures_look_at_the_best_class_alone():
    labels, predicted = np.array([0, 0, 0, 1]), np.array([[0, 1], [0, 1], [1, 0], [0, 1]])
    for given in (predicted, predicted[:, :1], predicted[:, 0]):
        assert measure('top1', given, labels) == 50 and measure(
            'mean_per_class', given, labels
        ) == pytest.approx(100 / 3)
        assert interval('top1', given, labels) == interval('top1', predicted, labels)


def test_an_unknown_metric_gets_a_sentence():
    with pytest.raises(
        ConfigError,
        match="the metric is 'top_1': did you mean 'top1'.*Allowed: mean_per_class, top1",
    ):
        measure('top_1', np.zeros(3, int), np.zeros(3, int))
    with pytest.raises(ConfigError, match="the metric is 'top5'"):
        interval('top5', np.zeros(3, int), np.zeros(3, int))


# --- Intervals


def naive(metric, signs, labels, samples=4000, seed=1):
    """The metric in samples drawn with replacement, image by image; image i counts signs[i]."""
    rng, values = np.random.default_rng(seed), []
    for _ in range(samples):
        drawn = rng.integers(0, len(labels), len(labels))
        if metric == 'top1':
            values.append(100 * signs[drawn].mean())
        else:
            values.append(
                100
                * np.mean(
                    [signs[drawn][labels[drawn] == c].mean() for c in np.unique(labels[drawn])]
                )
            )
    return np.array(values)


# Few images of some classes: many samples lack them.
UNEVEN = np.repeat([0, 1, 4, 5, 9], [150, 60, 3, 2, 1])


@pytest.mark.parametrize('metric', ['top1', 'mean_per_class'])
@pytest.mark.parametrize('labels', [UNEVEN, np.arange(300) % 10], ids=['uneven', 'even'])
def test_intervals_are_those_of_naive_resampling(metric, labels):
    predicted = np.where(RNG.random(len(labels)) < 0.7, labels, -1)
    values = naive(metric, (predicted == labels).astype(int), labels)
    assert interval(metric, predicted, labels) == pytest.approx(
        np.percentile(values, [2.5, 97.5]), abs=0.25 * values.std()
    )


def test_the_interval_of_a_share_has_its_closed_form():
    labels = np.zeros(10_000, dtype=int)
    predicted = (np.arange(10_000) % 5 == 0).astype(int)  # 80 %
    half = 1.96 * math.sqrt(0.8 * 0.2 / 10_000) * 100
    assert interval('top1', predicted, labels) == pytest.approx((80 - half, 80 + half), abs=0.05)


@pytest.mark.parametrize(('metric', 'draws'), [('top1', 1000), ('mean_per_class', 500)])
@pytest.mark.long
def test_intervals_hold_the_truth_about_95_times_of_100(metric, draws):
    rng, chances, held = np.random.default_rng(2), np.array([0.9, 0.75, 0.6, 0.4]), 0
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    truth = 100 * (chances @ shares if metric == 'top1' else chances.mean())
    for draw in range(draws):
        labels = rng.choice(4, 400, p=shares)
        predicted = np.where(rng.random(400) < chances[labels], labels, -1)
        low, high = interval(metric, predicted, labels, seed=draw)
        held += low <= truth <= high
    assert 0.925 <= held / draws <= 0.975


@pytest.mark.parametrize('metric', ['top1', 'mean_per_class'])
def test_intervals_at_the_ends_and_of_one_image(metric):
    labels = np.arange(50) % 4
    assert interval(metric, labels, labels) == (100, 100) and interval(
        metric, labels - 5, labels
    ) == (0, 0)
    assert interval(metric, np.array([3]), np.array([3])) == (100, 100)
    rare = np.array([1000] + [0] * 9)  # class numbers with gaps
    assert interval(metric, rare, rare) == (100, 100)


def test_intervals_are_fixed_by_their_seed_and_draw_from_no_other():
    labels = np.arange(200) % 7
    predicted = np.where(RNG.random(200) < 0.5, labels, 0)
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    assert interval('top1', predicted, labels, seed=3) == interval(
        'top1', predicted, labels, seed=3
    )
    assert interval('mean_per_class', predicted, labels, seed=3) != interval(
        'mean_per_class', predicted, labels, seed=4
    )
    assert (np.random.get_state()[1] == state).all()


def test_many_classes_are_resampled_in_parts():
    labels = np.arange(6000) % 400  # 1,200 cells: too many for one array
    predicted = np.where(RNG.random(6000) < 0.5, labels, -1)
    value, half = mean_per_class(predicted, labels), 1.96 * math.sqrt(0.25 / 6000) * 100
    assert interval('mean_per_class', predicted, labels) == pytest.approx(
        (value - half, value + half), abs=0.12
    )
    assert len(bootstrap('mean_per_class', np.ones(6000, dtype=int), labels, 0)) == 10_000


# --- Files


def predictions(n=40, columns=5, seed=0, right=0.6, classes=10):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    predicted = rng.integers(0, classes, (n, columns))
    predicted[:, 0] = np.where(rng.random(n) < right, labels, (labels + 1) % classes)
    names = np.array([f'{c}/{i}.png' for i, c in enumerate(labels)])
    return Predictions(
        predicted,
        labels,
        names,
        dict(metric='knn_top1', value=60.0, config=dict(method=dict(type='BYOL'))),
    )


def test_predictions_are_read_as_they_were_saved(tmp_path):
    made = predictions()
    made.predicted[3] = -1
    made.names[:3] = ['später/ä b.png', 'a\nb.png', '']
    made.row = dict(
        value=61.25, ci95=[1, 2.5], text='«ä»\n"\'', none=None, nested=dict(a=[dict(b=True)])
    )
    made.save(tmp_path / 'new' / 'folder' / 'made.npz')
    read = Predictions.load(str(tmp_path / 'new' / 'folder' / 'made.npz'))
    for name in ('predicted', 'labels', 'names'):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
        assert getattr(read, name).dtype == getattr(made, name).dtype
    assert read.row == made.row
    assert [p.name for p in (tmp_path / 'new' / 'folder').iterdir()] == ['made.npz']


def test_a_full_disk_leaves_the_predictions_that_were_there(tmp_path, monkeypatch):
    made, path = predictions(), tmp_path / 'made.npz'
    made.save(path)
    before = path.read_bytes()

    def full(file, **arrays):
        file.write(b'torn')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'savez_compressed', full)
    with pytest.raises(OSError, match='No space'):
        predictions(seed=1).save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ['made.npz']


class Hostile:
    marker: str

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def arrays_of(made, **changes):
    return {
        **dict(
            predicted=made.predicted,
            labels=made.labels,
            names=made.names,
            row=np.array(json.dumps(made.row)),
        ),
        **changes,
    }


def test_pickled_files_are_refused_and_not_executed(tmp_path):
    Hostile.marker = str(tmp_path / 'executed')
    hostile = np.array([Hostile()] * 40, dtype=object)
    np.savez(tmp_path / 'names.npz', **arrays_of(predictions(), names=hostile))
    np.savez(
        tmp_path / 'row.npz', **arrays_of(predictions(), row=np.array(Hostile(), dtype=object))
    )
    np.save(tmp_path / 'array.npy', hostile)
    (tmp_path / 'pickle.npz').write_bytes(pickle.dumps(Hostile()))
    with zipfile.ZipFile(tmp_path / 'zipped.npz', 'w') as file:
        for name in ('predicted.npy', 'labels.npy', 'names.npy', 'row.npy'):
            file.writestr(name, pickle.dumps(Hostile()))
    for name in ('names.npz', 'row.npz', 'array.npy', 'pickle.npz', 'zipped.npz'):
        with pytest.raises(ConfigError, match=f'{name} holds no predictions of ssl_zoo'):
            Predictions.load(tmp_path / name)
    assert not (tmp_path / 'executed').exists()


def test_torn_and_changed_files_get_a_sentence(tmp_path):
    predictions(400).save(tmp_path / 'whole.npz')
    content = (tmp_path / 'whole.npz').read_bytes()
    for i, torn in enumerate(
        (
            b'',
            content[:10],
            content[: len(content) // 2],
            content[:-1],
            content[100:],
            content[::-1],
            content[:200] + bytes([content[200] ^ 255]) + content[201:],
        )
    ):
        (tmp_path / f'{i}.npz').write_bytes(torn)
        with pytest.raises(ConfigError, match=f'{i}.npz holds no predictions of ssl_zoo'):
            Predictions.load(tmp_path / f'{i}.npz')


def test_foreign_and_missing_files_get_a_sentence(tmp_path):
    np.savez(tmp_path / 'other.npz', features=np.zeros((3, 2)))
    np.save(tmp_path / 'array.npy', np.zeros((3, 2)))
    (tmp_path / 'text.npz').write_text('{"value": 1}\n')
    np.savez(tmp_path / 'no_json.npz', **arrays_of(predictions(), row=np.array('{torn')))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, dict(descr='<i8', fortran_order=False, shape=(10**14,))
    )
    with zipfile.ZipFile(tmp_path / 'huge.npz', 'w') as file:
        for name in ('predicted.npy', 'labels.npy', 'names.npy', 'row.npy'):
            file.writestr(name, header.getvalue())
    for name in ('other.npz', 'array.npy', 'text.npz', 'no_json.npz', 'huge.npz'):
        with pytest.raises(ConfigError, match=f'{name} holds no predictions of ssl_zoo'):
            Predictions.load(tmp_path / name)
    for path in (tmp_path / 'none.npz', tmp_path):
        with pytest.raises(ConfigError, match='there are no predictions at /'):
            Predictions.load(path)


@pytest.mark.parametrize(
    'changes',
    [
        dict(predicted=np.arange(40)),
        dict(predicted=np.zeros((39, 5), int)),
        dict(predicted=np.zeros((40, 0), int)),
        dict(predicted=np.full((40, 5), 'a')),
        dict(labels=np.zeros((40, 1), int)),
        dict(labels=np.zeros(41, int)),
        dict(labels=np.full(40, 0.5)),
        dict(names=np.array(['a'])),
        dict(names=np.array('a')),
        dict(row=np.array('[1, 2]')),
        dict(row=np.array('null')),
        dict(predicted=np.zeros((0, 5), int), labels=np.zeros(0, int), names=np.zeros(0, str)),
    ],
    ids=lambda changes: ' '.join(f'{k}{v.shape}{v.dtype}' for k, v in changes.items()),
)
def test_files_of_other_shapes_get_a_sentence(tmp_path, changes):
    np.savez(tmp_path / 'odd.npz', **arrays_of(predictions(), **changes))
    with pytest.raises(ConfigError, match='odd.npz holds no predictions of ssl_zoo'):
        Predictions.load(tmp_path / 'odd.npz')


# --- Comparisons


def pair(both, only_a, only_b, neither, columns=1, classes=3):
    """Predictions for the same images, so many of which each has right."""
    right_a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    right_b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    labels, names = (
        np.arange(len(right_a)) % classes,
        np.array([f'{i:04}.png' for i in range(len(right_a))]),
    )
    a, b = (
        np.where(right, labels, (labels + 1) % classes)[:, None] for right in (right_a, right_b)
    )
    more = RNG.integers(0, classes, (len(labels), columns - 1))
    return (Predictions(np.concatenate([x, more], 1), labels, names, {}) for x in (a, b))


def mcnemar(b, c):
    """The exact two-sided p: twice the binomial tail, at most 1."""
    return min(1.0, 2 * sum(math.comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c))


@pytest.mark.parametrize(
    ('only_a', 'only_b'),
    [(0, 0), (0, 1), (1, 1), (0, 6), (5, 0), (3, 9), (10, 10), (30, 12), (7, 60)],
)
def test_the_p_of_mcnemars_exact_test(only_a, only_b):
    a, b = pair(50, only_a, only_b, 20)
    result, n = compare(a, b), 70 + only_a + only_b
    assert (result.only_a, result.only_b, result.images) == (only_a, only_b, n)
    assert result.p == pytest.approx(mcnemar(only_a, only_b))
    if only_a + only_b:
        assert result.p == pytest.approx(
            binomtest(only_b, only_a + only_b, 0.5, alternative='two-sided').pvalue
        )
    assert (result.a, result.b) == (
        pytest.approx(100 * (50 + only_a) / n),
        pytest.approx(100 * (50 + only_b) / n),
    )
    assert result.difference == pytest.approx(100 * (only_b - only_a) / n)
    assert result.low <= result.difference <= result.high


@pytest.mark.parametrize('metric', ['top1', 'mean_per_class'])
def test_a_comparison_the_other_way_round(metric):
    a, b = predictions(300, seed=0), predictions(300, seed=1, right=0.7)
    one, other = compare(a, b, metric), compare(b, a, metric)
    assert (one.a, one.b, one.only_a, one.only_b, one.p) == (
        other.b,
        other.a,
        other.only_b,
        other.only_a,
        other.p,
    )
    assert one.difference == -other.difference and one.difference > 0
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.4)
    assert compare(a, b, metric) == one


@pytest.mark.parametrize('metric', ['top1', 'mean_per_class'])
def test_the_order_of_the_images_does_not_matter(metric):
    a, b = predictions(120, seed=0), predictions(120, seed=1)
    rng, expected = np.random.default_rng(5), compare(a, b, metric)
    for order_a, order_b in (
        (np.arange(120), rng.permutation(120)),
        (rng.permutation(120), rng.permutation(120)),
    ):
        a2, b2 = (
            Predictions(x.predicted[o], x.labels[o], x.names[o], {})
            for x, o in ((a, order_a), (b, order_b))
        )
        assert compare(a2, b2, metric) == expected


def test_images_are_paired_and_not_only_counted():
    a, b = pair(10, 20, 20, 10)
    assert compare(a, b).only_a == 20 and compare(a, b).low < 0 < compare(a, b).high
    same = compare(a, a)
    assert (same.only_a, same.only_b, same.low, same.high, same.p) == (0, 0, 0, 0, 1)


@pytest.mark.parametrize('metric', ['top1', 'mean_per_class'])
def test_identical_predictions_do_not_differ(metric):
    a = predictions(90)
    result = compare(a, predictions(90), metric)
    assert result == PredictionComparison(
        result.a, result.a, 0, 0, 0, 0, 0, 1, 90
    ) and result.a == measure(metric, a.predicted, a.labels)


@pytest.mark.parametrize(('columns_a', 'columns_b'), [(1, 1), (5, 5), (1, 5), (5, 2)])
def test_any_number_of_classes_may_be_named(columns_a, columns_b):
    a, b = predictions(60, 5, seed=0), predictions(60, 5, seed=1)
    expected = compare(a, b)
    a2, b2 = (
        Predictions(x.predicted[:, :n], x.labels, x.names, {})
        for x, n in ((a, columns_a), (b, columns_b))
    )
    assert compare(a2, b2) == expected


def test_both_wrong_in_different_ways_is_no_difference():
    names, labels = np.array(['x', 'y']), np.array([0, 1])
    a, b = (Predictions(np.array(p)[:, None], labels, names, {}) for p in ([1, 1], [-1, 1]))
    assert compare(a, b) == PredictionComparison(50, 50, 0, 0, 0, 0, 0, 1, 2)


@pytest.mark.parametrize('metric', ['top1', 'mean_per_class'])
@pytest.mark.parametrize('labels', [UNEVEN, np.arange(300) % 10], ids=['uneven', 'even'])
def test_the_paired_interval_is_that_of_naive_resampling(metric, labels):
    rng, names = np.random.default_rng(3), np.array([f'{i:04}' for i in range(len(labels))])
    right_a = rng.random(len(labels)) < 0.6
    right_b = np.where(
        rng.random(len(labels)) < 0.85, right_a, rng.random(len(labels)) < 0.9
    )  # much alike, b better
    a, b = (
        Predictions(np.where(right, labels, -1)[:, None], labels, names, {})
        for right in (right_a, right_b)
    )
    values = naive(metric, right_b.astype(int) - right_a, labels)
    result = compare(a, b, metric)
    assert (result.low, result.high) == pytest.approx(
        np.percentile(values, [2.5, 97.5]), abs=0.25 * values.std()
    )
    single = naive(metric, right_a.astype(int), labels, 300).std()
    assert metric == 'mean_per_class' or values.std() < single  # what pairing is for


def test_mean_per_class_is_compared_in_its_own_value():
    labels, names = np.array([0] * 8 + [1] * 2), np.array(list('abcdefghij'))
    a = Predictions(np.array([0] * 8 + [0, 0])[:, None], labels, names, {})
    b = Predictions(np.array([0] * 6 + [1] * 4)[:, None], labels, names, {})
    result = compare(a, b, 'mean_per_class')
    assert (result.a, result.b, result.difference) == (50, 87.5, 37.5) and (
        result.only_a,
        result.only_b,
        result.p,
    ) == (2, 2, 1)
    assert compare(a, b).difference == 0
    with pytest.raises(ConfigError, match="the metric is 'top5'"):
        compare(a, b, 'top5')


def test_other_images_and_labels_are_refused():
    a = predictions(40)
    fewer, renamed, relabelled, twice = (predictions(40) for _ in range(4))
    fewer = Predictions(fewer.predicted[1:], fewer.labels[1:], fewer.names[1:], {})
    renamed.names[7] = 'none.png'
    relabelled.labels[7] = 3
    twice.names[1] = twice.names[0]
    for b, words in (
        (fewer, "40 and 39, 1 of them in one file alone, such as '0/0.png'"),
        (renamed, "40 and 40, 2 of them in one file alone, such as '7/7.png'"),
        (twice, 'for different images'),
        (relabelled, 'different labels to the same images'),
    ):
        for x, y in ((a, b), (b, a)):
            with pytest.raises(ConfigError, match='compare two on the same test set'):
                compare(x, y)
        with pytest.raises(ConfigError, match=words):
            compare(a, b)
    repeated = Predictions(
        np.concatenate([a.predicted, a.predicted[:1]]),
        np.append(a.labels, 0),
        np.append(a.names, a.names[0]),
        {},
    )
    with pytest.raises(ConfigError, match='40 and 41, 0 of them in one file alone'):
        compare(a, repeated)


def test_no_images_are_refused():
    a, b = pair(0, 0, 0, 0)
    with pytest.raises(ConfigError, match='no images'):
        compare(a, b)


def test_a_comparison_draws_from_no_global_numbers():
    a, b = predictions(100, seed=0), predictions(100, seed=1)
    states = random.getstate(), np.random.get_state()[1].tolist()
    one = compare(a, b, seed=1)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    assert compare(a, b, seed=1) == one
    other = compare(a, b, 'mean_per_class', seed=2)
    assert other.low != compare(a, b, 'mean_per_class', seed=1).low
    assert dataclasses.replace(other, low=0) == dataclasses.replace(
        compare(a, b, 'mean_per_class', seed=1), low=0, high=other.high
    )
