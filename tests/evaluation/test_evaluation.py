import math

import numpy as np
import pytest
import torch
from torch import nn

from ssl_zoo.data.arrays import Digits
from ssl_zoo.data.files import ImageFolder
from ssl_zoo.data.photometric import Photometric
from ssl_zoo.data.views import View
from ssl_zoo.evaluation.collapse import collapse_warning, rankme
from ssl_zoo.evaluation.features import extract_features
from ssl_zoo.evaluation.knn import accuracy, knn_predict
from ssl_zoo.evaluation.probe import few_label_probe
from ssl_zoo.losses import spread
from ssl_zoo.method import Method

RNG = np.random.default_rng(0)


def slow_knn(bank, labels, query, classes, k, temperature):
    votes = [0.0] * classes
    cosines = [float(b @ query / np.linalg.norm(b) / np.linalg.norm(query)) for b in bank.astype(np.float64)]
    for i in sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]:
        votes[labels[i]] += math.exp(cosines[i] / temperature)
    return votes.index(max(votes))


@pytest.mark.parametrize(('k', 'temperature'), [(1, 0.07), (20, 0.07), (50, 0.5), (500, 0.1)])
def test_knn_equals_a_slow_loop(k, temperature):
    bank, labels, queries = RNG.normal(size=(200, 16)), RNG.integers(0, 5, 200), RNG.normal(size=(40, 16))
    expected = [slow_knn(bank, labels, q, 7, k, temperature) for q in queries.astype(np.float64)]
    assert knn_predict(bank, labels, queries, classes=7, k=k, temperature=temperature).tolist() == expected


def test_accuracy_is_in_percent():
    assert accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0])) == 75


def test_spread_and_rankme_in_closed_form():
    sphere = RNG.normal(size=(20000, 32))
    assert spread(torch.from_numpy(sphere)).item() == pytest.approx(1, abs=0.02)
    assert rankme(sphere) == pytest.approx(32, abs=0.3)
    assert spread(torch.ones(10, 8) * torch.arange(1, 11)[:, None]).item() == pytest.approx(0, abs=1e-6)      # one direction
    assert rankme(np.outer(np.arange(1, 11), np.ones(8))) == pytest.approx(1, abs=1e-4)
    assert rankme(np.diag([1.0, 1, 1, 0, 0])) == pytest.approx(3, abs=1e-3)


def test_collapse_is_told_in_words():
    start = dict(spread_at_start=0.1, rank_at_start=14)
    assert collapse_warning(0.5, 30, **start) is None
    assert collapse_warning(0.08, 13, **start) is None                      # hardly changed
    assert 'collapsing' in collapse_warning(0.01, 30, **start)
    assert 'collapsing' in collapse_warning(0.5, 3, **start)
    assert 'diverged' in collapse_warning(float('nan'), 30, **start)


def test_few_label_probe_uses_few_labels_and_is_fixed_by_its_seed():
    centres = RNG.normal(size=(4, 10)) * 5
    labels = np.arange(400) % 4
    features = (centres[labels] + RNG.normal(size=(400, 10))).astype(np.float32)
    scores = few_label_probe(features[:200], labels[:200], features[200:], labels[200:], per_class=2, draws=5)
    assert len(scores) == 5 and min(scores) > 95
    assert scores == few_label_probe(features[:200], labels[:200], features[200:], labels[200:], per_class=2, draws=5)
    noise = few_label_probe(RNG.normal(size=(200, 10)), labels[:200], RNG.normal(size=(200, 10)), labels[200:])
    assert np.mean(noise) < 45                                              # chance is 25
    shuffled = labels[:200].copy()
    shuffled[10:] = (shuffled[10:] + 1) % 4                                 # wrong labels must hurt: they are what is learnt
    assert np.mean(few_label_probe(features[:200], shuffled, features[200:], labels[200:])) < 50


class Flat(Method):
    """Embeds an image as its normalised pixels; its BatchNorm and dropout show the mode it is in."""
    embed_dim = 12

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12, affine=False), nn.Dropout(0.5))
        self.data_preprocessor = Photometric([View(2)], (0.5,) * 3, (0.5,) * 3)


def test_features_are_those_of_eval_mode_and_leave_the_method_as_it_was(image_folder):
    root = image_folder(classes=2, per_class=5, size=2)
    (root / 'class_0' / '1.png').write_bytes(b'broken')
    source, method = ImageFolder(str(root)), Flat().train()
    method.backbone[2].eval()                                               # a mixed mode must come back as it was
    state = torch.get_rng_state()
    features = extract_features(method, source, size=2, resize=2, batch_size=3)
    assert features.index.tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9] and [i for i, _ in features.unreadable] == [1]
    assert features.labels.tolist() == [0] * 4 + [1] * 5
    expected = np.stack([np.asarray(source.read(i)).transpose(2, 0, 1).reshape(-1) / 127.5 - 1 for i in features.index])
    np.testing.assert_allclose(features.values, expected, atol=1e-4)
    assert features.values.dtype == np.float32
    assert [m.training for m in method.backbone] == [True, True, False]
    assert method.backbone[1].num_batches_tracked == 0
    assert torch.equal(state, torch.get_rng_state())


def test_features_do_not_depend_on_the_batch_size():
    source, method = Digits('val', size=2), Flat()
    a, b = (extract_features(method, source, 2, 2, batch_size=n).values for n in (7, 180))
    np.testing.assert_allclose(a, b, atol=1e-6)
