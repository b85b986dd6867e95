"""Measures without labels against slow transcriptions of their papers and closed forms."""

import random

import numpy as np
import pytest
import timm
import torch
from scipy.special import hyp0f1
from torch import nn

from ssl_zoo.data.photometric import Photometric
from ssl_zoo.data.sources import Source
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View
from ssl_zoo.errors import UnreadableImage
from ssl_zoo.evaluation import view_features as view_features_module
from ssl_zoo.evaluation.alignment import alignment, uniformity
from ssl_zoo.evaluation.alpha_req import alpha_req
from ssl_zoo.evaluation.features import Preprocessing
from ssl_zoo.evaluation.label_free import MEASURES, measure_features, measure_views
from ssl_zoo.evaluation.lidar import lidar
from ssl_zoo.evaluation.view_features import view_features

RNG = np.random.default_rng(0)


def rotation(d):
    return np.linalg.qr(np.random.default_rng(1).normal(size=(d, d)))[0]


def lidar_by_loops(views, delta=1e-4, epsilon=1e-8):
    """arXiv 2312.04000, equations 1 to 4: S_w^-1/2 S_b S_w^-1/2, one outer product at a time."""
    n, q, d = views.shape
    means = [sum(views[i]) / q for i in range(n)]
    mean = sum(means) / n
    s_b, s_w = np.zeros((d, d)), np.zeros((d, d))
    for i in range(n):
        s_b += np.outer(means[i] - mean, means[i] - mean) / (n - 1)
        for j in range(q):
            s_w += np.outer(views[i, j] - means[i], views[i, j] - means[i]) / (n * (q - 1))
    values, vectors = np.linalg.eigh(s_w + delta * np.eye(d))
    root = sum(np.outer(v, v) / value**0.5 for v, value in zip(vectors.T, values, strict=True))
    eigenvalues = np.abs(np.linalg.eigvalsh(root @ s_b @ root))
    p = [value / eigenvalues.sum() + epsilon for value in eigenvalues]
    return np.exp(-sum(share * np.log(share) for share in p))


@pytest.mark.parametrize('shape', [(30, 4, 7), (6, 3, 20), (5, 2, 5)])
def test_lidar_is_that_of_the_paper(shape):
    n, q, d = shape
    classes = RNG.normal(size=(n, 1, d)) * np.arange(1, d + 1)
    views = classes + RNG.normal(size=shape)
    assert lidar(views) == pytest.approx(lidar_by_loops(views), rel=1e-6)
    assert lidar(views @ rotation(d)) == pytest.approx(lidar(views), rel=1e-9)
    assert lidar(views + 5) == pytest.approx(lidar(views), rel=1e-6)


def test_lidar_in_closed_form():
    # The corners of a regular simplex differ in n - 1 directions equally.
    corners = np.repeat(np.eye(12)[:, None], 3, axis=1)
    assert lidar(corners) == pytest.approx(11, abs=1e-3)
    # Of two directions with equal distances between images, one varies as much within an image:
    # the eigenvalues are as 1 / delta to 1 / (1 + delta), so that only one direction is left.
    views = np.zeros((4, 2, 2))
    views[:, :, 0] = np.array([1, 1, -1, -1])[:, None]
    views[:, :, 1] = np.array([1, -1, 1, -1])[:, None]
    assert lidar(views) == pytest.approx(2, abs=1e-3)
    views[:, 0, 1] += 1
    views[:, 1, 1] -= 1
    assert lidar(views) == pytest.approx(1, abs=1e-2)
    assert lidar(np.ones((10, 4, 6))) == pytest.approx(1, abs=1e-4)  # collapsed
    line = np.arange(8.0)[:, None, None] * np.ones((1, 3, 5))
    assert lidar(line) == pytest.approx(1, abs=1e-4)


def alpha_by_loops(features):
    """The fit of Stringer et al.: weighted least squares, normal equations written out."""
    eigenvalues = sorted(np.linalg.eigvalsh(np.cov(features, rowvar=False)), reverse=True)
    last = min(100, len(eigenvalues) - 10)
    sums = dict.fromkeys(('w', 'x', 'y', 'xx', 'xy'), 0.0)
    for rank in range(11, last + 1):
        x, y, w = np.log(rank), np.log(eigenvalues[rank - 1]), 1 / rank
        for key, value in (('w', 1), ('x', x), ('y', y), ('xx', x * x), ('xy', x * y)):
            sums[key] += w * value
    slope = (sums['w'] * sums['xy'] - sums['x'] * sums['y']) / (
        sums['w'] * sums['xx'] - sums['x'] ** 2
    )
    return -slope


def with_spectrum(eigenvalues, n):
    """(n, D) features whose covariance has exactly these eigenvalues, up to a factor."""
    gaussian = np.random.default_rng(2).normal(size=(n, len(eigenvalues)))
    orthogonal = np.linalg.qr(gaussian - gaussian.mean(0))[0]  # centred columns
    return orthogonal * np.sqrt(eigenvalues)


@pytest.mark.parametrize('alpha', [0.0, 0.7, 1.0, 2.5])
@pytest.mark.parametrize('d', [40, 150])
def test_alpha_req_of_a_power_law_is_its_exponent(alpha, d):
    features = with_spectrum(np.arange(1.0, d + 1) ** -alpha, 400)
    assert alpha_req(features) == pytest.approx(alpha, abs=1e-6)
    assert alpha_req(3 * features @ rotation(d) + 7) == pytest.approx(alpha, abs=1e-6)
    # Fewer images than dimensions: more zeros, and the same eigenvalues otherwise.
    wide = np.hstack([features, np.zeros((400, 400))])
    assert alpha_req(wide) == pytest.approx(alpha, abs=1e-6)


def test_alpha_req_is_the_fit_of_the_authors():
    features = RNG.normal(size=(300, 60)) * np.exp(-np.arange(60) / 20)
    assert alpha_req(features) == pytest.approx(alpha_by_loops(features), abs=1e-9)
    isotropic = RNG.normal(size=(20_000, 120))
    assert abs(alpha_req(isotropic)) < 0.1
    assert np.isnan(alpha_req(features[:, :29]))  # too few eigenvalues
    assert np.isnan(alpha_req(np.ones((300, 60))))  # collapsed


def test_alignment_in_closed_form():
    equal = np.repeat(RNG.normal(size=(5, 1, 8)), 3, axis=1)
    assert alignment(equal) == pytest.approx(0, abs=1e-12)
    assert alignment(equal * np.array([1, 2, 5])[:, None]) == pytest.approx(0, abs=1e-12)
    opposite = np.array([[[1.0, 0], [-1, 0]]])
    assert alignment(opposite) == pytest.approx(4) and alignment(opposite, 1) == pytest.approx(2)
    assert alignment(np.eye(4)[None]) == pytest.approx(2)  # all pairs are at right angles
    assert alignment(RNG.normal(size=(50, 4, 4000))) == pytest.approx(2, abs=0.01)


def test_uniformity_in_closed_form():
    opposite = np.array([[[2.0, 0]], [[-1, 0]]])
    assert uniformity(opposite) == pytest.approx(-2 * 4)
    assert uniformity(opposite, 0.5) == pytest.approx(-0.5 * 4)
    assert uniformity(np.ones((9, 2, 5))) == pytest.approx(0, abs=1e-12)  # collapsed
    # Uniform on a sphere: the mean of exp(2 t cos) is 0F1(d / 2; t^2).
    uniform = RNG.normal(size=(3000, 1, 16))
    assert uniformity(uniform) == pytest.approx(-4 + np.log(hyp0f1(8, 4)), abs=0.01)


def test_alignment_and_uniformity_are_those_of_the_paper():
    views = RNG.normal(size=(7, 3, 5))
    unit = [[v / np.sqrt(v @ v) for v in of_image] for of_image in views]
    aligned = [
        sum((of_image[a] - of_image[b]) ** 2)
        for of_image in unit
        for a in range(3)
        for b in range(3)
        if a < b
    ]
    assert alignment(views) == pytest.approx(np.mean(aligned))
    of_views = []
    for view in range(3):
        pairs = [(i, j) for i in range(7) for j in range(i)]
        terms = [np.exp(-2 * sum((unit[i][view] - unit[j][view]) ** 2)) for i, j in pairs]
        of_views.append(np.log(np.mean(terms)))
    assert uniformity(views) == pytest.approx(np.mean(of_views))
    for measure in (alignment, uniformity):
        assert measure(views @ rotation(5)) == pytest.approx(measure(views))


def test_features_that_are_not_finite_and_too_few_views_have_no_measure():
    views = RNG.normal(size=(5, 3, 4))
    broken = views.copy()
    broken[2, 1, 0] = np.inf
    for few in (broken, views[:1], np.empty((0, 3, 0))):
        assert np.isnan(
            [value for key, value in measure_views(few).items() if key != 'alignment']
        ).all()
    assert np.isnan(list(measure_views(broken).values())).all()
    assert np.isnan(measure_views(views[:, :1])['alignment'])
    assert np.isnan(list(measure_features(broken[:, 1]).values())).all()


def test_scores_are_greater_for_better_values():
    of = {measure.key: measure.score for measure in MEASURES}
    assert of['rankme'](9) > of['rankme'](8) and of['lidar'](9) > of['lidar'](8)
    assert of['alignment'](0.1) > of['alignment'](0.2)
    assert of['uniformity'](-3) > of['uniformity'](-2)
    assert of['alpha_req'](1) > of['alpha_req'](1.1) > of['alpha_req'](0.8)
    values = measure_features(np.eye(3)) | measure_views(np.ones((2, 2, 3)))
    assert list(values) == list(of)


class Noise(Source):
    """Images of noise; the fourth cannot be read."""

    labels = None
    classes = None

    def __len__(self):
        return 9

    def pixels(self, i):
        if i == 3:
            raise UnreadableImage('broken')
        return np.random.default_rng(i).integers(0, 256, (30, 26, 3)).astype(np.uint8)


RECIPES = [
    View(size=16, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2),
    View(size=16, crop=(0.5, 1), solarize_p=0.5),
    View(size=8),
]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()
    )


def test_view_features_are_of_training_views_and_change_no_random_state(network, monkeypatch):
    preprocessing = Preprocessing(16, 16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    buffers = {name: value.clone() for name, value in network.state_dict().items()}
    found = view_features(network, Noise(), RECIPES, preprocessing, views=4)
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[2]
    assert (np.random.get_state()[1] == states[1][1]).all()
    assert all(torch.equal(value, buffers[k]) for k, value in network.state_dict().items())
    assert network.training and network[1].training
    assert found.shape == (8, 4, 6 * 14 * 14)
    network.eval()
    in_turn = RECIPES[:2] * 2
    photometric = Photometric(in_turn, preprocessing.mean, preprocessing.std)
    for row, image in enumerate((0, 1, 2, 4, 5, 6, 7, 8)):
        batch = ViewDataset(Noise(), in_turn, 0).__getitems__([(0, image)])
        for number, view in enumerate(photometric(batch)['views']):
            expected = network(view)[0].detach().numpy()
            assert np.allclose(found[row, number], expected, atol=1e-5)
    monkeypatch.setattr(view_features_module, 'BATCH', 8)  # two images at a time
    again = view_features(network, Noise(), RECIPES, preprocessing, views=4)
    assert np.allclose(again, found, atol=1e-5)


def test_views_of_a_trained_direction_are_aligned():
    """A network that sees colour alone is invariant to crops, and one with random filters less."""
    preprocessing = Preprocessing(16, 16, (0.5,) * 3, (0.25,) * 3)
    recipes = [View(size=16)]
    mean_colour = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pixels = nn.Flatten()
    of_colour = alignment(view_features(mean_colour, Noise(), recipes, preprocessing))
    of_pixels = alignment(view_features(pixels, Noise(), recipes, preprocessing))
    assert of_colour < of_pixels
    resnet = timm.create_model('resnet18', num_classes=0, layers=[1, 1, 1, 1])
    of_views = measure_views(view_features(resnet, Noise(), recipes, preprocessing, views=3))
    assert 1 <= of_views['lidar'] <= 7 and of_views['uniformity'] <= 0
