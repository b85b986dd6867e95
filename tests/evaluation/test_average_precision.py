"""Average precision: scikit-learn, VOC 2007's code, ties, images that do not count, intervals."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation import average_precision as ap

pytestmark = pytest.mark.quick


def voc2007(scores, labels) -> float:
    """The 11 points of VOC 2007's development kit (VOCevalcls.m), line by line."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    found, precisions, recalls = 0, [], []
    for rank, i in enumerate(order, 1):
        found += labels[i]
        precisions.append(found / rank)
        recalls.append(found / sum(labels))
    value = 0.0
    for tenths in range(11):
        above = [p for p, r in zip(precisions, recalls, strict=True) if r >= tenths / 10 - 1e-9]
        value += max(above, default=0) / 11
    return value


def drawn(seed, n=60, classes=4, ties=False):
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, classes)) < 0.3).astype(np.int8)
    scores = rng.normal(size=(n, classes)) + labels
    return (scores.round(0) if ties else scores), labels


def test_a_worked_example():
    # By score: right, wrong, right, wrong, right. Precision 1 at recall 1/3, 2/3 at 2/3, 3/5 at 1.
    scores = np.array([0.1, 0.9, 0.5, 0.7, 0.3])
    labels = np.array([1, 1, 1, 0, 0])[[0, 1, 2, 3, 4]]
    assert ap.average_precision(scores, labels) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    # Recalls 0 to 0.3: 1; 0.4 to 0.6: 2/3; 0.7 to 1: 3/5.
    eleven = (4 * 1 + 3 * 2 / 3 + 4 * 3 / 5) / 11
    assert ap.average_precision_11point(scores, labels) == pytest.approx(eleven)


def test_three_of_ten_images_are_a_recall_of_three_tenths():
    labels = np.array([1] * 3 + [0] * 7 + [1] * 7)
    scores = np.arange(17, 0, -1.0)
    eleven = (4 * 1 + sum((3 + k) / (10 + k) for k in [7] * 7)) / 11
    assert ap.average_precision_11point(scores, labels) == pytest.approx(eleven)
    assert voc2007(scores, labels) == pytest.approx(eleven)


@pytest.mark.parametrize('seed', range(5))
def test_values_are_those_of_scikit_learn_and_of_voc(seed):
    scores, labels = drawn(seed)
    for metric, oracle in (
        ('map', lambda s, y: average_precision_score(y, s)),
        ('map_11point', voc2007),
    ):
        expected = [100 * oracle(scores[:, c], labels[:, c]) for c in range(4)]
        np.testing.assert_allclose(ap.per_class(metric, scores, labels), expected)
        assert ap.measure(metric, scores, labels) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize('ties', [False, True])
def test_the_curve_of_a_sample_is_that_of_its_images(ties):
    scores, labels = drawn(7, ties=ties)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(60, np.full(60, 1 / 60), 20)
    counts[0] = 1
    curve = ap._Curve(scores[:, 0], labels[:, 0], counts)
    for i, sample in enumerate(counts):
        s, y = np.repeat(scores[:, 0], sample), np.repeat(labels[:, 0], sample)
        assert curve.average_precision()[i] == pytest.approx(average_precision_score(y, s))
        assert curve.eleven_points()[i] == pytest.approx(ap.average_precision_11point(s, y))


@pytest.mark.parametrize('metric', ap.METRICS)
def test_the_order_of_images_with_equal_scores_does_not_matter(metric):
    scores, labels = drawn(3, ties=True)
    order = np.random.default_rng(1).permutation(60)
    values = ap.per_class(metric, scores, labels)
    np.testing.assert_allclose(ap.per_class(metric, scores[order], labels[order]), values)
    # All the same score: the share of the class, at every recall.
    same = ap.per_class(metric, np.zeros((60, 4)), labels)
    np.testing.assert_allclose(same, 100 * labels.mean(0))


@pytest.mark.parametrize('metric', ap.METRICS)
def test_images_that_do_not_count_and_classes_without_images_are_left_out(metric):
    scores, labels = drawn(4)
    left_out = labels.copy()
    left_out[10:30, 1] = -1
    left_out[:, 2] = 0
    left_out[5, 2] = -1
    values = ap.per_class(metric, scores, left_out)
    kept = np.delete(np.arange(60), np.arange(10, 30))
    assert values[1] == pytest.approx(ap.per_class(metric, scores[kept], labels[kept])[1])
    assert np.isnan(values[2]) and values[0] == ap.per_class(metric, scores, labels)[0]
    assert ap.measure(metric, scores, left_out) == pytest.approx(values[[0, 1, 3]].mean())
    low, high = ap.interval(metric, scores, left_out)
    assert low < ap.measure(metric, scores, left_out) < high


@pytest.mark.long
@pytest.mark.parametrize('metric', ap.METRICS)
def test_the_interval_is_that_of_the_bootstrap(metric, monkeypatch):
    scores, labels = drawn(5, n=30)
    low, high = ap.interval(metric, scores, labels)
    rng = np.random.default_rng(9)
    values = []
    for _ in range(400):
        sample = rng.integers(30, size=30)
        values.append(ap.measure(metric, scores[sample], labels[sample]))
    slow = np.percentile(values, [2.5, 97.5])
    np.testing.assert_allclose([low, high], slow, atol=3)
    monkeypatch.setattr(ap, 'DRAWN_NUMBERS', 30 * 64)  # in parts
    np.testing.assert_allclose(ap.interval(metric, scores, labels), [low, high], atol=2)


def test_a_sample_without_a_class_does_not_count_there():
    labels = np.zeros((4, 1), np.int8)
    labels[0] = 1
    low, high = ap.interval('map', np.array([[4.0], [3.0], [2.0], [1.0]]), labels)
    assert (low, high) == (100, 100)  # one sample in three has no such image


def test_an_unknown_metric():
    with pytest.raises(ConfigError, match="metric is 'top1', but of images with several classes"):
        ap.check_metric('top1')
