"""k-NN: the vote against loops and lightly's formula, odd banks; clustered index; protocol."""

import json
import math
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_zoo.checkpoint import checkpoints_in
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.data.splits import hold_out
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Features
from ssl_zoo.evaluation.knn import (
    clustered_index,
    exact_neighbours,
    knn_grid,
    knn_predict,
    l2_normalize,
    neighbours,
    recall,
    vote,
)
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.evaluation.protocols import knn as protocol
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.evaluation.protocols.describe import describe
from ssl_zoo.evaluation.protocols.knn import evaluate_knn

RNG = np.random.default_rng(0)
KS, TEMPERATURES = [1, 2, 7, 20, 150, 300], [0.01, 0.07, 0.5, 10.0]


def slow_knn(bank, labels, query, classes, k, temperature):
    votes = [0.0] * classes
    cosines = [
        float(b @ query / np.linalg.norm(b) / np.linalg.norm(query))
        for b in bank.astype(np.float64)
    ]
    for i in sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]:
        votes[labels[i]] += math.exp(cosines[i] / temperature)
    return votes.index(max(votes))


def plain_knn(bank, labels, queries, classes, k, temperature, top=5):
    """Votes exp(cos / T) of the top k of the cosine matrix, in float64.

    Returns (M, min(top, classes)): of equal classes the smaller first, -1 without a vote.
    """
    bank, queries = (
        F.normalize(torch.tensor(np.asarray(x), dtype=torch.float64)) for x in (bank, queries)
    )
    cosines, nearest = (queries @ bank.T).topk(min(k, len(bank)))
    votes = torch.zeros(len(queries), classes, dtype=torch.float64)
    votes.scatter_add_(1, torch.tensor(labels)[nearest], (cosines / temperature).exp())
    ranked = [
        sorted(range(classes), key=lambda c, row=row: (-row[c], c))[:top] for row in votes.tolist()
    ]
    return np.array(
        [
            [c if row[c] > 0 else -1 for c in best]
            for row, best in zip(votes.tolist(), ranked, strict=True)
        ]
    )


def blobs(n, dim, classes, noise=1.0, seed=0):
    """Features around one centre per class, and their classes."""
    centres, rng = (
        np.random.default_rng(99).normal(size=(classes, dim)),
        np.random.default_rng(seed),
    )
    labels = rng.integers(0, classes, n)
    return (centres[labels] + noise * rng.normal(size=(n, dim))).astype(np.float32), labels


@pytest.mark.parametrize(('k', 'temperature'), [(1, 0.07), (20, 0.07), (50, 0.5), (500, 0.1)])
def test_knn_equals_a_slow_loop(k, temperature):
    bank, labels, queries = (
        RNG.normal(size=(200, 16)),
        RNG.integers(0, 5, 200),
        RNG.normal(size=(40, 16)),
    )
    expected = [slow_knn(bank, labels, q, 7, k, temperature) for q in queries.astype(np.float64)]
    assert (
        knn_predict(bank, labels, queries, classes=7, k=k, temperature=temperature).tolist()
        == expected
    )


def test_the_defaults_are_those_of_dino():
    bank, labels = blobs(200, 8, 8, noise=3)
    queries, _ = blobs(300, 8, 8, noise=3, seed=1)
    np.testing.assert_array_equal(
        knn_predict(bank, labels, queries, 8), plain_knn(bank, labels, queries, 8, 20, 0.07)[:, 0]
    )


@pytest.mark.parametrize(
    ('present', 'classes'),
    [
        (range(6), 6),
        ((0, 3, 4, 11), 12),
        (range(3), 3),
        (range(2), 2),
        ((0,), 1),
        ((7,), 9),
        (range(100), 100),
    ],
)
def test_the_grid_equals_a_plain_implementation(present, classes):
    bank, queries = RNG.normal(size=(300, 16)), RNG.normal(size=(60, 16))
    labels = RNG.choice(list(present), 300)  # random: nothing helps but the formula
    grid = knn_grid(bank, labels, queries, classes, KS, TEMPERATURES)
    assert grid.shape == (6, 4, 60, min(5, classes)) and grid.dtype == np.int64
    for i, k in enumerate(KS):
        for j, temperature in enumerate(TEMPERATURES):
            np.testing.assert_array_equal(
                grid[i, j],
                plain_knn(bank, labels, queries, classes, k, temperature),
                f'k={k}, T={temperature}',
            )


def test_the_grid_is_in_the_order_asked_for():
    bank, labels = blobs(200, 8, 8, noise=2)
    queries, _ = blobs(50, 8, 8, noise=2, seed=1)
    ks, temperatures = [50, 1, 200, 50, 7], [0.5, 0.02, 0.5]
    grid = knn_grid(bank, labels, queries, 8, ks, temperatures)
    for i, k in enumerate(ks):
        for j, temperature in enumerate(temperatures):
            np.testing.assert_array_equal(
                grid[i, j], plain_knn(bank, labels, queries, 8, k, temperature)
            )
    assert not np.array_equal(grid[0, 0], grid[1, 0]) and not np.array_equal(grid[2, 0], grid[2, 1])


def test_the_formula_of_lightly():
    bank, labels = blobs(500, 24, 10, noise=2)
    queries, _ = blobs(80, 24, 10, noise=2, seed=1)
    feature, feature_bank = F.normalize(torch.tensor(queries)), F.normalize(torch.tensor(bank)).t()
    sim_weight, sim_indices = torch.mm(feature, feature_bank).topk(k=200, dim=-1)
    sim_labels = torch.gather(torch.tensor(labels).expand(80, -1), dim=-1, index=sim_indices)
    sim_weight = (sim_weight / 0.1).exp()
    one_hot = torch.zeros(80 * 200, 10).scatter(dim=-1, index=sim_labels.view(-1, 1), value=1.0)
    scores = torch.sum(one_hot.view(80, -1, 10) * sim_weight.unsqueeze(dim=-1), dim=1)
    np.testing.assert_array_equal(
        knn_grid(bank, labels, queries, 10, [200], [0.1])[0, 0],
        scores.argsort(dim=-1, descending=True)[:, :5].numpy(),
    )


def test_equal_votes_go_to_the_smaller_class():
    bank = np.eye(4, dtype=np.float32)[[0, 0, 0, 1, 1, 1, 1]]
    labels = np.array([6, 2, 4, 3, 1, 3, 1])
    queries = np.eye(4, dtype=np.float32)[[0, 1]]
    grid = knn_grid(bank, labels, queries, 8, [3, 7], [0.01, 2.0])
    assert grid[0, :, 0].tolist() == [[2, 4, 6, -1, -1]] * 2
    assert knn_grid(bank, labels, queries, 8, [4], [0.07])[0, 0, 1].tolist() == [1, 3, -1, -1, -1]
    assert grid[1, :, 0].tolist() == [
        [2, 4, 6, 1, 3],
        [1, 3, 2, 4, 6],
    ]  # two votes of 1 lose to one of e^100, and beat one of e^0.5
    assert grid[1, 1, 1].tolist() == [1, 3, 2, 4, 6]


def test_classes_without_votes_are_not_named():
    bank, labels = blobs(40, 8, 2)
    grid = knn_grid(bank, labels * 7, bank[:9], 8, [1, 40], [0.07])  # classes 0 and 7, the last
    assert (grid[0, 0, :, 0] == labels[:9] * 7).all() and (grid[0, 0, :, 1:] == -1).all()
    assert (np.sort(grid[1, 0, :, :2]) == [0, 7]).all() and (grid[1, 0, :, 2:] == -1).all()


@pytest.mark.parametrize('temperature', [1e-2, 1e-3, 1e-6, 1e-300, 1e6])
def test_no_temperature_overflows(temperature):
    bank, labels = blobs(100, 8, 5)
    with np.errstate(over='ignore'):
        best = knn_grid(bank, labels, bank[:30], 5, [1, 100], [temperature])[:, 0, :, 0]
    majority = np.bincount(labels).argmax()
    assert (best[0] == labels[:30]).all()
    assert (best[1] == (labels[:30] if temperature < 1 else majority)).all()


def test_features_count_by_direction_alone():
    bank, labels = blobs(200, 8, 6, noise=2)
    queries, _ = blobs(40, 8, 6, noise=2, seed=1)
    expected = knn_grid(bank, labels, queries, 6, [20], [0.07])
    scaled = (
        bank * RNG.choice([1e-4, 1, 1e3], (200, 1)),
        queries * RNG.choice([1e-4, 1, 1e3], (40, 1)),
    )
    np.testing.assert_array_equal(knn_grid(scaled[0], labels, scaled[1], 6, [20], [0.07]), expected)
    np.testing.assert_allclose(np.linalg.norm(l2_normalize(scaled[0]), axis=1), 1, atol=1e-6)


def test_half_precision_and_memory_mapped_banks(tmp_path):
    bank, labels = blobs(300, 16, 5, noise=2)
    queries, _ = blobs(50, 16, 5, noise=2, seed=1)
    half, half_queries = bank.astype(np.float16), queries.astype(np.float16)
    np.save(tmp_path / 'bank.npy', half)
    mapped = np.load(tmp_path / 'bank.npy', mmap_mode='r')
    expected = knn_grid(
        half.astype(np.float64), labels, half_queries.astype(np.float64), 5, [1, 20, 300], [0.07]
    )
    np.testing.assert_array_equal(
        knn_grid(half, labels, half_queries, 5, [1, 20, 300], [0.07]), expected
    )
    np.testing.assert_array_equal(
        knn_grid(mapped, labels, half_queries, 5, [1, 20, 300], [0.07]), expected
    )
    np.testing.assert_array_equal(
        knn_grid(np.asfortranarray(half), labels, half_queries[::-1], 5, [1, 20, 300], [0.07]),
        expected[:, :, ::-1],
    )
    large = np.full((1, 4), 6e4, dtype=np.float16)  # its squares do not fit float16
    assert knn_predict(np.concatenate([large, -large]), np.array([1, 0]), large, 2).tolist() == [1]
    a, b = (
        neighbours(x, queries, 9, clustered_index(x, clusters=4, probes=4)) for x in (half, mapped)
    )
    np.testing.assert_array_equal(a[1], b[1])


def test_more_neighbours_than_the_bank_has_are_the_whole_bank():
    bank, labels = blobs(30, 8, 4, noise=3)
    queries, _ = blobs(40, 8, 4, noise=3, seed=1)
    grid = knn_grid(bank, labels, queries, 4, [31, 30, 10**6], [0.07, 0.5])
    for j, temperature in enumerate((0.07, 0.5)):
        for i in range(3):
            np.testing.assert_array_equal(
                grid[i, j], plain_knn(bank, labels, queries, 4, 30, temperature)
            )


def test_no_queries_give_no_predictions():
    bank, labels = blobs(30, 8, 4)
    assert knn_grid(bank, labels, bank[:0], 4, [1, 5], [0.07, 0.1, 1.0]).shape == (2, 3, 0, 4)
    assert knn_grid(bank, labels, bank[:0], 9, [1], [0.07]).shape == (1, 1, 0, 5)
    assert knn_predict(bank, labels, bank[:0], 4).shape == (0,)


def test_zero_vectors_are_like_nothing_and_break_nothing():
    bank = np.array([[1, 0], [0, 0], [0, 0], [-1, 0]], dtype=np.float32)
    labels = np.array([2, 1, 1, 3])
    grid = knn_grid(bank, labels, np.array([[5, 0], [-5, 0], [0, 0]]), 4, [1, 3, 4], [1.0])[:, 0]
    assert grid[0, :2, 0].tolist() == [2, 3]
    assert grid[1, 0, :3].tolist() == [2, 1, -1] and grid[1, 1, :3].tolist() == [3, 1, -1]  # e > 2
    assert grid[2, 2].tolist() == [1, 2, 3, -1]  # all alike: the frequent class, then by number


def test_queries_beyond_one_part():
    bank, labels = blobs(60, 8, 6, noise=2)  # 4,096 are searched at a time
    queries, _ = blobs(5000, 8, 6, noise=2, seed=1)
    np.testing.assert_array_equal(
        knn_grid(bank, labels, queries, 6, [10, 60], [0.1])[1, 0],
        plain_knn(bank, labels, queries, 6, 60, 0.1),
    )


@pytest.mark.parametrize('clusters', [None, 8])
def test_banks_beyond_one_part(clusters):
    bank = RNG.normal(size=(70_000, 8)).astype(np.float16)  # 65,536 rows are copied at a time
    chosen = np.append(RNG.integers(0, 70_000, 98), [65_535, 65_536])
    index = clusters and clustered_index(bank, clusters)
    cosines, positions = neighbours(bank, 3 * bank[chosen], 1, index)
    if clusters is None:
        assert (positions[:, 0] == chosen).all() and cosines == pytest.approx(1, abs=1e-5)
        true = np.argsort(
            -l2_normalize(bank[chosen]).astype(np.float64)
            @ l2_normalize(bank).astype(np.float64).T,
            axis=1,
        )[:, :10]
        assert (exact_neighbours(bank, bank[chosen], 10)[1] == true).mean() > 0.999
    else:
        assert (positions[:, 0] == chosen).mean() > 0.9 and recall(
            index, bank, bank[chosen], 10
        ) > 90


@pytest.fixture(scope='module')
def clustered():
    """A bank of 2,000, 100 queries, and an index of 16 clusters for every number of probes."""
    bank, labels = blobs(2000, 16, 10, noise=2)
    queries, _ = blobs(100, 16, 10, noise=2, seed=1)
    return (
        bank,
        labels,
        queries,
        {probes: clustered_index(bank, clusters=16, probes=probes) for probes in (1, 4, 16)},
    )


def found_by_hand(index, bank, queries, k):
    """The share of the true nearest k that an index finds, in percent, by sorting all cosines."""
    bank, queries = (
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (bank.astype(np.float64), queries.astype(np.float64))
    )
    true = np.argsort(-queries @ bank.T, axis=1)[:, :k]
    _, positions = index.search(queries.astype(np.float32), k)
    return 100 * np.mean(
        [len(set(a) & set(b)) / k for a, b in zip(true.tolist(), positions.tolist(), strict=True)]
    )


def test_recall_agrees_with_a_brute_force(clustered):
    bank, _, queries, indices = clustered
    for k in (1, 10, 50):
        by_hand = {
            probes: found_by_hand(index, bank, queries, k) for probes, index in indices.items()
        }
        for probes, index in indices.items():
            assert recall(index, bank, queries, k) == pytest.approx(by_hand[probes], abs=1e-9)
        assert by_hand[1] < by_hand[4] < by_hand[16] and by_hand[1] < 80 and by_hand[16] > 95
    assert recall(None, bank, queries, 50) == 100
    assert (
        recall(clustered_index(bank[::-1], 4, 4), bank, queries, 5) < 5
    )  # positions count, not how near they are


def test_recall_of_the_whole_bank_and_more():
    bank, queries = RNG.normal(size=(20, 6)), RNG.normal(size=(5, 6))
    index = clustered_index(bank, clusters=2, probes=2)
    assert recall(index, bank, queries, 20) == 100
    assert recall(index, bank, queries, 30) == 100


def test_clusters_all_probed_predict_like_the_exact_search(clustered):
    bank, labels, queries, indices = clustered
    exact = knn_grid(bank, labels, queries, 10, [1, 20, 2000], [0.07])[:, 0, :, 0]
    same = {
        probes: (
            knn_grid(bank, labels, queries, 10, [1, 20, 2000], [0.07], index)[:, 0, :, 0] == exact
        ).mean(1)
        for probes, index in indices.items()
    }
    assert same[16].min() >= 0.96
    assert same[1][2] < 0.9  # a cluster alone is not the bank


def test_an_index_of_clusters_is_small_and_fixed_by_its_seed(clustered):
    bank, _, queries, indices = clustered
    index = indices[4]
    assert (
        index.nprobe == 4 and index.nlist == 16 and index.ntotal == 2000 and index.code_size == 16
    )  # bytes per vector of 16
    assert clustered_index(bank, clusters=4, probes=32).nprobe == 4

    def centres(seed):
        made = clustered_index(bank[:300], clusters=16, seed=seed)
        return faiss.downcast_index(made.quantizer).reconstruct_n(0, 16)

    np.testing.assert_array_equal(centres(0), centres(0))
    assert not np.array_equal(centres(0), centres(1))
    _, again = clustered_index(bank, clusters=16, probes=4).search(l2_normalize(queries), 10)
    np.testing.assert_array_equal(again, index.search(l2_normalize(queries), 10)[1])


def test_neighbours_that_clusters_do_not_find_have_no_vote():
    bank = np.eye(8, dtype=np.float32)[[0] * 5 + [1] * 20] + 0.01 * RNG.normal(size=(25, 8)).astype(
        np.float32
    )
    labels = np.array([2] * 5 + [3] * 20)  # the last image's class must not take what is missing
    index = clustered_index(bank, clusters=2, probes=1)
    query = np.eye(8, dtype=np.float32)[[0, 1]]
    _, positions = neighbours(bank, query, 25, index)
    assert (positions[0] == -1).sum() == 20 and (positions[1] == -1).sum() == 5
    assert knn_grid(bank, labels, query, 4, [25], [100.0], index)[0, 0].tolist() == [
        [2, -1, -1, -1],
        [3, -1, -1, -1],
    ]
    index.reset()  # a query may find nothing at all
    assert (knn_grid(bank, labels, query, 4, [1, 25], [0.07], index) == -1).all()
    cosines, classes = (
        np.array([[0.9, 0.9, 0.8], [0.9, 0.9, 0.9]], dtype=np.float32),
        np.array([[1, -1, 2], [-1, -1, -1]]),
    )
    assert vote(cosines, classes, 4, [1, 2, 3], [10.0], top=2)[:, 0].tolist() == [
        [[1, -1], [-1, -1]]
    ] * 2 + [[[1, 2], [-1, -1]]]


def test_queries_that_are_not_numbers_have_no_class():
    bank, labels = blobs(20, 4, 3)
    queries = bank[:3].copy()
    queries[1] = np.nan
    assert knn_predict(bank, labels, queries, 3, k=1).tolist() == [labels[0], -1, labels[2]]


# --- The protocol


class Made:
    """A context of made features; its report gives back what it is told."""

    seed = 0

    def __init__(self, classes=6, train=100, val=60, test=80, noise=2.0, unreadable=0):
        made = {
            name: blobs(n, 8, classes, noise, seed) if n else None
            for seed, (name, n) in enumerate((('train', train), ('val', val), ('test', test)))
        }
        self.made = {
            name: made[name] and Features(*made[name], np.arange(len(made[name][0])))
            for name in made
        }
        self.sources = {
            name: made[name] and SimpleSource(name, n)
            for name, n in (('train', train), ('val', val), ('test', test))
        }
        if unreadable:
            whole = self.made['train']
            self.made['train'] = Features(
                whole.values[unreadable:], whole.labels[unreadable:], whole.index[unreadable:]
            )
        self.classes, self.reported = classes, []

    def source(self, name):
        return self.sources[name]

    def features(self, source, name, dtype):
        assert source is self.sources[name]
        return self.made[name]

    def report(self, tool, metric, predicted, labels, names, test, protocol, chosen, **more):
        row = SimpleNamespace(
            tool=tool,
            metric=metric,
            predicted=predicted,
            labels=labels,
            names=names,
            test=test,
            protocol=protocol,
            chosen=chosen,
            **more,
        )
        self.reported.append(row)
        return row

    def expected(self, name, k, temperature):
        bank, queries = self.made['train'], self.made[name]
        return plain_knn(bank.values, bank.labels, queries.values, self.classes, k, temperature)

    def right(self, name, k, temperature):
        return 100 * (self.expected(name, k, temperature)[:, 0] == self.made[name].labels).mean()


class SimpleSource:
    def __init__(self, what, n):
        self.what, self.n = what, n

    def __len__(self):
        return self.n

    def name(self, i):
        return f'{self.what}/{i}.png'


def test_k_and_temperature_are_chosen_on_the_hold_out_not_on_the_test_images():
    context, ks, temperatures = Made(train=250), [1, 5, 20, 60], [0.02, 0.1, 0.5]
    cells = [(k, t) for k in ks for t in temperatures]
    best = max(cells, key=lambda cell: context.right('val', *cell))
    assert max(context.right('test', *cell) for cell in cells) > context.right(
        'test', *best
    )  # or the test could not tell
    chosen, dino, lightly = evaluate_knn(context, ks, temperatures)
    assert (chosen.k, chosen.temperature, chosen.selection) == (
        *best,
        'chosen of 12 on 60 held-out images',
    )
    assert (dino.k, dino.temperature, dino.selection) == (20, 0.07, 'as DINO')
    assert (lightly.k, lightly.temperature, lightly.selection) == (200, 0.1, 'as lightly')
    for row in (chosen, dino, lightly):
        np.testing.assert_array_equal(
            row.predicted, context.expected('test', row.k, row.temperature)
        )
        np.testing.assert_array_equal(row.labels, context.made['test'].labels)
        assert row.names == [f'test/{i}.png' for i in range(80)] and (row.tool, row.metric) == (
            'knn',
            'top1',
        )
        assert row.test is context.sources['test']
    common = dict(name='knn', distance='cosine', bank=250, index=None, dtype='float32')
    assert dino.protocol == dict(common, k=20, temperature=0.07) and dino.chosen == {}
    assert lightly.protocol == dict(common, k=200, temperature=0.1) and lightly.chosen == {}
    candidates = dict(k=ks, temperature=temperatures)
    assert chosen.protocol == dict(common, candidates=candidates, holdout=60)
    right = context.right('val', *best)
    assert chosen.chosen == dict(k=best[0], temperature=best[1], holdout_accuracy=right)
    assert describe(chosen.protocol, chosen.chosen) == (
        f'weighted k-NN, k={best[0]}, T={best[1]:g}, cosine, bank of 250, '
        f'chosen of 12 on 60 held-out images ({right:.2f} %)'
    )
    assert describe(dino.protocol, dino.chosen) == (
        'weighted k-NN, k=20, T=0.07, cosine, bank of 250, as DINO'
    )


def test_the_table_shows_every_cell(capsys):
    context = Made()
    evaluate_knn(context, [1, 10], [0.02, 0.5])
    head, columns, *rows = capsys.readouterr().out.splitlines()
    assert head == 'top-1 in percent on 60 held-out images' and columns.split() == [
        'k',
        'T=0.02',
        'T=0.5',
    ]
    assert [row.split() for row in rows] == [
        [str(k), *(f'{context.right("val", k, t):.2f}' for t in (0.02, 0.5))] for k in (1, 10)
    ]


@pytest.mark.parametrize(
    ('ks', 'temperatures'),
    [([1, 5, 20], [0.02, 0.07]), ([20, 1, 5], [0.02, 0.07]), ([1, 5, 20], [0.07, 0.02])],
)
def test_where_several_settings_are_best_the_smallest_is_chosen(ks, temperatures):
    chosen, *_ = evaluate_knn(Made(noise=0.01), ks, temperatures)  # all are right
    assert (chosen.k, chosen.temperature) == (1, 0.02)


def test_without_a_hold_out_the_usual_settings_alone_are_reported():
    assert [(row.k, row.selection) for row in evaluate_knn(Made(val=0, train=250), [1], [0.1])] == [
        (20, 'as DINO'),
        (200, 'as lightly'),
    ]
    assert [(row.k, row.selection) for row in evaluate_knn(Made(val=0, train=100), [1], [0.1])] == [
        (20, 'as DINO')
    ]


def test_unreadable_images_keep_no_name_and_no_label():
    context = Made()
    whole, kept = context.made['test'], np.setdiff1d(np.arange(80), [0, 7, 79])
    context.made['test'] = Features(whole.values[kept], whole.labels[kept], kept)
    for row in evaluate_knn(context, [1, 20], [0.07]):
        assert (
            row.names == [f'test/{i}.png' for i in kept]
            and row.labels.tolist() == whole.labels[kept].tolist()
        )
        np.testing.assert_array_equal(
            row.predicted, context.expected('test', row.k, row.temperature)
        )


def test_a_bank_too_small_for_the_usual_settings():
    [chosen] = evaluate_knn(Made(train=12), [1, 5], [0.1])
    assert chosen.selection.startswith('chosen of 2')
    with pytest.raises(ConfigError, match='12'):
        evaluate_knn(Made(train=12, val=0), [1, 5], [0.1])


def test_a_row_does_not_claim_more_neighbours_than_the_bank_has():
    chosen, dino = evaluate_knn(Made(train=100), [500], [0.1])
    assert dino.k == 20 and chosen.k == 100


def test_a_row_does_not_claim_more_probes_than_there_are_clusters():
    for row in evaluate_knn(Made(train=400), [1], [0.1], clusters=4, probes=500):
        assert row.protocol['index'] == dict(type='IVF', clusters=4, probes=4, bits=8)
        assert 'IVF of 4 clusters, 4 probed' in describe(row.protocol, row.chosen)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (dict(ks=[]), r'--k is \[\]'),
        (dict(ks=[5, 0]), r'--k is \[5, 0\], but it must be one or more numbers of at least 1'),
        (dict(ks=[-3]), '--k is'),
        (dict(temperatures=[]), r'--temperature is \[\]'),
        (
            dict(temperatures=[0.1, 0.0]),
            r'--temperature is \[0.1, 0.0\], but it must be one or more finite numbers above 0',
        ),
        (dict(temperatures=[-0.1]), '--temperature is'),
        (dict(temperatures=[float('nan')]), '--temperature is'),
        (dict(temperatures=[0.1, float('nan')]), '--temperature is'),
        (dict(clusters=0), '--ivf 0 .*must be at least 1'),
        (dict(clusters=-4), '--ivf -4 .*must be at least 1'),
        (dict(clusters=4, probes=0), '--probes 0 must be at least 1'),
        (dict(probes=-1), '--probes -1 must be at least 1'),
        (dict(clusters=101), '--ivf 101, but there are 100 training images'),
    ],
)
def test_wrong_numbers_get_a_sentence(arguments, words):
    context = Made()
    with pytest.raises(ConfigError, match=words):
        evaluate_knn(context, **{'ks': [1], 'temperatures': [0.1], **arguments})
    assert not context.reported


def test_more_clusters_than_readable_images_get_a_sentence():
    with pytest.raises(ConfigError, match='--ivf 98'):
        evaluate_knn(Made(unreadable=5), [1], [0.1], clusters=98)


def test_clusters_are_told_with_their_recall(capsys):
    context = Made(train=1000, test=30)
    rows = evaluate_knn(context, [1, 40], [0.07], clusters=8, probes=2)
    index = clustered_index(context.made['train'].values, 8, 2, seed=0)
    found = found_by_hand(index, context.made['train'].values, context.made['test'].values, 40)
    assert 20 < found < 99
    assert (
        f'recall against the exact search: {found:.2f} % of the 40 nearest, 30 queries'
        in capsys.readouterr().out
    )
    assert all(
        f'bank of 1,000, IVF of 8 clusters, 2 probed, 8 bits, recall {found:.1f} %'
        in describe(row.protocol, row.chosen)
        for row in rows
    )
    assert all(row.chosen['recall'] == pytest.approx(found) for row in rows)
    bank, test = context.made['train'], context.made['test']
    for row in rows:
        np.testing.assert_array_equal(
            row.predicted,
            knn_grid(bank.values, bank.labels, test.values, 6, [row.k], [row.temperature], index)[
                0, 0
            ],
        )
    evaluate_knn(context, [1], [0.07], clusters=1000, probes=5000)  # as many clusters as images


def test_the_other_processes_report_nothing(monkeypatch, capsys):
    context = Made()
    monkeypatch.setattr(protocol, 'rank', lambda: 1)
    assert (
        evaluate_knn(context, [1], [0.1]) == []
        and not context.reported
        and not capsys.readouterr().out
    )


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory):
    """A run of 14 steps on 140 digits, 40 held out and 60 to test on."""
    folder = tmp_path_factory.mktemp('knn') / 'run'
    view = dict(
        size=20,
        flip_p=0.0,
        jitter=[0.4, 0.4, 0.2, 0.1],
        jitter_p=0.8,
        gray_p=0.2,
        blur_p=0.5,
        solarize_p=0.2,
    )
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
                    train=dict(type='Digits', split='val'),
                    val=40,
                    test=dict(type='Digits', split='test', limit=60),
                    mean=[0.5] * 3,
                    std=[0.5] * 3,
                ),
                views=[view] * 2,
                optimizer=dict(type='LARS', momentum=0.9),
                epochs=2,
                batch_size=20,
                base_lr=1.0,
                warmup_epochs=0.5,
                workers=0,
                online_eval=dict(every=0),
            )
        ),
        folder,
    ).fit()
    return folder


@pytest.fixture(scope='module')
def evaluated(run_dir):
    """The context and the rows of a plain evaluation of the run."""
    context = EvaluationContext(str(checkpoints_in(run_dir)[0]), work_dir=str(run_dir / 'out'))
    return context, evaluate_knn(context, [1, 3, 10, 30], [0.02, 0.1, 0.5])


def test_a_run_is_evaluated_on_its_own_split(evaluated, run_dir):
    context, rows = evaluated
    whole, test = Digits('val'), context.source('test')
    stay, out = hold_out(whole, 40)
    stored = {
        path.name.split('-')[0]: path
        for path in (run_dir / 'out' / 'features').iterdir()
        if path.is_dir()
    }
    values = {name: np.load(path / 'features.npy') for name, path in stored.items()}
    assert {name: len(v) for name, v in values.items()} == dict(train=140, val=40, test=60)
    assert json.loads((stored['train'] / 'names.json').read_text()) == [whole.name(i) for i in stay]
    assert json.loads((stored['val'] / 'names.json').read_text()) == [whole.name(i) for i in out]

    cells = [(k, t) for k in (1, 3, 10, 30) for t in (0.02, 0.1, 0.5)]
    right = [
        (
            plain_knn(values['train'], whole.labels[stay], values['val'], 10, *cell)[:, 0]
            == whole.labels[out]
        ).mean()
        for cell in cells
    ]
    best = cells[int(np.argmax(right))]
    assert [(row['k'], row['temperature']) for row in rows] == [best, (20, 0.07)]
    for row in rows:
        expected = plain_knn(
            values['train'], whole.labels[stay], values['test'], 10, row['k'], row['temperature']
        )
        saved = Predictions.load(row['predictions'])
        np.testing.assert_array_equal(saved.predicted, expected)
        np.testing.assert_array_equal(saved.labels, test.labels)
        assert saved.names.tolist() == [test.name(i) for i in range(60)]
        assert (
            row['value'] == pytest.approx(100 * (expected[:, 0] == test.labels).mean())
            and row['n'] == 60
        )
        assert row['top5'] == pytest.approx(100 * (expected == test.labels[:, None]).any(1).mean())
        assert row['metric'] == 'knn_top1' and row['ci95'][0] <= row['value'] <= row['ci95'][1]
    assert [
        json.loads(line)['value']
        for line in (run_dir / 'out' / 'results.jsonl').read_text().splitlines()
    ] == [row['value'] for row in rows]


def test_half_precision_features_are_stored_beside_the_others(evaluated, run_dir):
    context, rows = evaluated
    half = evaluate_knn(context, [1, 3, 10, 30], [0.02, 0.1, 0.5], dtype='float16')
    dtypes = [
        np.load(path / 'features.npy', mmap_mode='r').dtype
        for path in sorted((run_dir / 'out' / 'features').iterdir())
        if path.is_dir()
    ]
    assert sorted(map(str, dtypes)) == ['float16'] * 3 + ['float32'] * 3
    a, b = (Predictions.load(r[-1]['predictions']).predicted[:, 0] for r in (rows, half))
    assert (a == b).mean() > 0.95
