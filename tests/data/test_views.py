import numpy as np
import pytest

from ssl_zoo.data.views import COLUMN, PARAMS, View, build_views, sample
from ssl_zoo.errors import ConfigError

pytestmark = pytest.mark.quick

BYOL_1 = View(224, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2, blur_p=1.0)
BYOL_2 = View(
    224, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2, blur_p=0.1, solarize_p=0.2
)


def draw(view, n=20000, number=0, seed=0):
    rows = sample(view, number, np.zeros(n, int), np.arange(n), seed)
    return {name: rows[:, COLUMN[name]] for name in PARAMS}


def test_ranges_and_shares_of_byols_second_view():
    p = draw(BYOL_2)
    for name, low, high in (
        ('area', 0.08, 1),
        ('ratio', 3 / 4, 4 / 3),
        ('top', 0, 1),
        ('left', 0, 1),
        ('brightness', 0.6, 1.4),
        ('contrast', 0.6, 1.4),
        ('saturation', 0.8, 1.2),
        ('hue', -0.1, 0.1),
    ):
        span = high - low
        assert (
            low - 1e-6 <= p[name].min() < low + 0.01 * span
            and high - 0.01 * span < p[name].max() <= high + 1e-6
        ), name
    assert np.log(p['ratio']).mean() == pytest.approx(0, abs=0.01)  # log-uniform
    for name, share in (('flip', 0.5), ('gray', 0.2), ('solarize', 0.2)):
        assert set(p[name]) == {0, 1} and p[name].mean() == pytest.approx(share, abs=0.015)
    assert (p['sigma'] > 0).mean() == pytest.approx(0.1, abs=0.01)
    blurred = p['sigma'][p['sigma'] > 0]
    assert (
        0.1 <= blurred.min()
        and blurred.max() <= 2
        and blurred.mean() == pytest.approx(1.05, abs=0.05)
    )
    jittered = p['order'][p['order'] >= 0]
    assert len(jittered) / len(p['order']) == pytest.approx(0.8, abs=0.015)
    counts = np.bincount(jittered.astype(int), minlength=24)
    assert (
        counts.min() > 0.8 * counts.mean() and counts.max() < 1.2 * counts.mean()
    )  # every order equally often


def test_view_1_is_always_blurred_and_never_solarized():
    p = draw(BYOL_1)
    assert p['sigma'].min() > 0 and p['solarize'].max() == 0


def test_no_two_samples_of_a_batch_share_their_draw():
    rows = sample(BYOL_1, 0, np.zeros(500, int), np.arange(500), 0)
    assert len({tuple(row[:4]) for row in rows}) == 500


def test_views_and_epochs_differ_and_a_batch_does_not_matter():
    one = sample(BYOL_2, 1, np.array([3]), np.array([17]), 5)
    many = sample(BYOL_2, 1, np.array([3, 3, 3]), np.array([16, 17, 18]), 5)
    assert np.array_equal(one[0], many[1])
    for view, epoch, seed in ((0, 3, 5), (1, 4, 5), (1, 3, 6)):
        assert not np.array_equal(
            one, sample(BYOL_2, view, np.array([epoch]), np.array([17]), seed)
        )


def test_kernel_of_the_paper():
    assert View(224).kernel == 23 and View(32).kernel == 3 and View(96).kernel == 9
    assert View(32, blur_p=0.5, blur_kernel=13).kernel == 13
    assert View(16, blur_p=0.5, blur_kernel=3).kernel == 3


@pytest.mark.parametrize(
    ('recipe', 'sentence'),
    [
        (
            dict(size=32, jiter_p=0.5),
            "views.0 has an unknown key 'jiter_p': did you mean 'jitter_p'",
        ),
        (dict(crop=(0.1, 1)), 'views.0 needs a size'),
        (dict(size=0), 'size=0, but it must be a positive'),
        (dict(size=32, crop=(0.5, 0.1)), 'crop=.*rising'),
        (dict(size=32, crop=0.5), 'crop=0.5'),
        (dict(size=16, blur_p=0.5), 'the kernel has one pixel'),
        (dict(size=32, blur_kernel=4), 'blur_kernel=4, but it must be None, or an odd .* 3 to 63'),
        (dict(size=32, blur_kernel=1), 'blur_kernel=1'),
        (dict(size=32, blur_kernel=65), 'blur_kernel=65'),
        (dict(size=32, blur_kernel=5.0), 'blur_kernel=5.0'),
        (dict(size=32, flip_p=1.5), r'flip_p=1.5, but it must be a probability'),
        (dict(size=32, jitter=(0.4, 0.4, 0.4)), 'jitter=.*four numbers'),
        (dict(size=32, jitter=(0.4, 0.4, 0.4, 0.9)), 'hue at most 0.5'),
        (dict(size=32, interpolation='nearest'), 'one of bicubic, bilinear'),
    ],
)
def test_mistakes_get_a_sentence(recipe, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_views([recipe])


def test_an_empty_list_of_views_is_a_mistake():
    with pytest.raises(ConfigError, match='one dict per view'):
        build_views([])
