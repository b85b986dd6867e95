"""Spread and rank, the probes, features in memory."""

import random
import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from torch import nn

from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.evaluation.collapse import alike_warning, collapse_warning, rankme
from ssl_zoo.evaluation.features import Preprocessing, extract_features
from ssl_zoo.evaluation.probe import few_label_probe, linear_probe
from ssl_zoo.losses import feature_std
from ssl_zoo.method import Method

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)
TWO = Preprocessing(2, 2, (0.5,) * 3, (0.5,) * 3)


def test_spread_and_rankme_in_closed_form():
    sphere = RNG.normal(size=(20000, 32))
    assert feature_std(torch.from_numpy(sphere)).item() == pytest.approx(1, abs=0.02)
    assert rankme(sphere) == pytest.approx(32, abs=0.3)
    assert feature_std(torch.ones(10, 8) * torch.arange(1, 11)[:, None]).item() == pytest.approx(
        0, abs=1e-6
    )  # one direction
    assert rankme(np.outer(np.arange(1, 11), np.ones(8))) == pytest.approx(1, abs=1e-4)
    assert rankme(np.diag([1.0, 1, 1, 0, 0])) == pytest.approx(3, abs=1e-3)


def test_collapse_is_told_in_words():
    start = dict(feature_std_at_start=0.1, rank_at_start=14)
    assert collapse_warning(0.5, 30, **start) is None
    assert collapse_warning(0.08, 13, **start) is None  # hardly changed
    assert 'collapsing' in collapse_warning(0.01, 30, **start)
    assert 'collapsing' in collapse_warning(0.5, 3, **start)
    assert 'diverged' in collapse_warning(float('nan'), 30, **start)


def test_images_that_look_alike_before_the_first_step_are_told():
    pixels = RNG.uniform(size=(64, 48))
    random_weights = RNG.normal(size=(48, 32))

    def rank(mean, std):
        return rankme(np.maximum((pixels - mean) / std @ random_weights, 0))

    assert alike_warning(rank(0.5, 0.25), 64) is None
    assert 'look alike' in alike_warning(rank(123.7, 58.4), 64)
    assert alike_warning(1.0, 4) is None  # too few images to tell
    assert alike_warning(float('nan'), 64) is None


def test_few_label_probe_uses_few_labels_and_is_fixed_by_its_seed():
    centres = RNG.normal(size=(4, 10)) * 5
    labels = np.arange(400) % 4
    features = (centres[labels] + RNG.normal(size=(400, 10))).astype(np.float32)
    scores = few_label_probe(
        features[:200], labels[:200], features[200:], labels[200:], per_class=2, draws=5
    )
    assert len(scores) == 5 and min(scores) > 95
    assert scores == few_label_probe(
        features[:200], labels[:200], features[200:], labels[200:], per_class=2, draws=5
    )
    noise = few_label_probe(
        RNG.normal(size=(200, 10)), labels[:200], RNG.normal(size=(200, 10)), labels[200:]
    )
    assert np.mean(noise) < 45  # chance is 25
    shuffled = labels[:200].copy()
    shuffled[10:] = (shuffled[10:] + 1) % 4  # wrong labels must hurt: they are what is learnt
    assert np.mean(few_label_probe(features[:200], shuffled, features[200:], labels[200:])) < 50


def overlapping(n, seed, classes=5, dim=12):
    """Features of overlapping classes, with dimensions of different scale and offset; classes."""
    labels, rng = np.arange(n) % classes, np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(classes, dim))
    features = (centres[labels] + 2 * rng.normal(size=(n, dim))) * np.logspace(
        -1.5, 0.5, dim
    ) + np.linspace(0, 2, dim)
    return (features * rng.uniform(0.2, 5, (n, 1))).astype(np.float32), labels


@pytest.mark.parametrize('max_iter', [100, 1, 3])
def test_linear_probe_is_scikit_learns_logistic_regression(max_iter):
    (train, labels), (test, test_labels) = overlapping(300, 1), overlapping(500, 2)
    by_hand = make_pipeline(Normalizer(), StandardScaler(), LogisticRegression(max_iter=max_iter))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        expected = 100 * by_hand.fit(train.astype(np.float64), labels).score(
            test.astype(np.float64), test_labels
        )
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # too few steps are meant
        found = linear_probe(
            train, labels, test, test_labels, **({} if max_iter == 100 else dict(max_iter=max_iter))
        )
    assert found == pytest.approx(expected, abs=0.01) and 30 < found < 90


def test_linear_probe_learns_from_labels_alone():
    (train, labels), (test, test_labels) = overlapping(300, 1), overlapping(500, 2)
    assert linear_probe(train, labels, test, test_labels) > 40
    assert linear_probe(train, RNG.permutation(labels), test, test_labels) < 32  # chance is 20
    assert linear_probe(test, test_labels, test, test_labels) > linear_probe(
        train, labels, test, test_labels
    )
    half = linear_probe(train.astype(np.float16), labels, test.astype(np.float16), test_labels)
    assert half == pytest.approx(linear_probe(train, labels, test, test_labels), abs=1)


def test_linear_probe_of_one_class_and_of_constant_features():
    features, labels = overlapping(60, 1)
    assert linear_probe(features, np.full(60, 3), features, labels) == 20
    assert linear_probe(features[:1], labels[:1], features, labels) == 20
    constant = np.ones((60, 4), dtype=np.float32)
    assert (
        linear_probe(constant, np.repeat([0, 1], [50, 10]), constant, np.repeat([0, 1], [30, 30]))
        == 50
    )
    assert linear_probe(np.zeros_like(constant), labels, np.zeros_like(constant), labels) == 20


def test_linear_probe_draws_no_random_numbers_and_leaves_its_features_alone():
    (train, labels), (test, test_labels) = overlapping(300, 1), overlapping(200, 2)
    before, scores = train.copy(), []
    for seed in range(2):
        np.random.seed(seed), random.seed(seed), torch.manual_seed(seed)
        states = (
            np.random.get_state()[1].tolist(),
            np.random.get_state()[2],
            random.getstate(),
            torch.get_rng_state().tolist(),
        )
        scores.append(linear_probe(train, labels, test, test_labels))
        assert states == (
            np.random.get_state()[1].tolist(),
            np.random.get_state()[2],
            random.getstate(),
            torch.get_rng_state().tolist(),
        )
    assert scores[0] == scores[1]
    np.testing.assert_array_equal(train, before)


class Flat(Method):
    """Embeds an image as its normalised pixels. BatchNorm and dropout show train or eval mode."""

    embed_dim = 12

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(12, affine=False), nn.Dropout(0.5)
        )


def test_features_are_those_of_eval_mode_and_leave_the_method_as_it_was(image_folder):
    root = image_folder(classes=2, per_class=5, size=2)
    (root / 'class_0' / '1.png').write_bytes(b'broken')
    source, method = ImageFolder(str(root)), Flat().train()
    method.backbone[2].eval()  # a mixed mode must come back as it was
    state = torch.get_rng_state()
    features = extract_features(method.encoder(), source, TWO, batch_size=3)
    assert features.index.tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9] and [
        i for i, _ in features.unreadable
    ] == [1]
    assert features.labels.tolist() == [0] * 4 + [1] * 5
    expected = np.stack(
        [
            np.asarray(source.read(i)).transpose(2, 0, 1).reshape(-1) / 127.5 - 1
            for i in features.index
        ]
    )
    np.testing.assert_allclose(features.values, expected, atol=1e-4)
    assert features.values.dtype == np.float32
    assert [m.training for m in method.backbone] == [True, True, False]
    assert method.backbone[1].num_batches_tracked == 0
    assert torch.equal(state, torch.get_rng_state())


def test_features_do_not_depend_on_the_batch_size():
    source, method = Digits('val', size=2), Flat()
    a, b = (extract_features(method.encoder(), source, TWO, batch_size=n).values for n in (7, 180))
    np.testing.assert_allclose(a, b, atol=1e-6)
