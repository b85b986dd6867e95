import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ssl_zoo.data.crop import crop, crop_batch, crop_box, crop_boxes
from ssl_zoo.data.photometric import horizontal_flip
from ssl_zoo.data.views import COLUMN, PARAMS, View, build_views, sample
from ssl_zoo.errors import ConfigError

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


def crop_of(pixels: np.ndarray, view: View, row) -> torch.Tensor:
    out = torch.empty(3, view.size, view.size, dtype=torch.uint8)
    crop(pixels, [view], row[None], [out])
    return horizontal_flip(out[None], torch.from_numpy(row[None]))[0]


def test_crop_box_follows_area_and_ratio_and_stays_inside():
    for row in sample(BYOL_1, 0, np.zeros(2000, int), np.arange(2000), 0):
        left, top, right, bottom = crop_box(row, height=375, width=500)
        assert 0 <= left < right <= 500 and 0 <= top < bottom <= 375
        area, ratio = row[COLUMN['area']], row[COLUMN['ratio']]
        if right - left < 500 and bottom - top < 375:  # not clipped
            assert (right - left) * (bottom - top) == pytest.approx(area * 375 * 500, rel=0.03)
            assert (right - left) / (bottom - top) == pytest.approx(ratio, rel=0.03)
    assert crop_box(np.array([1, 1, 0.999, 0.999]), 1, 1) == (0, 0, 1, 1)


def test_crop_box_by_hand():
    # A quarter of 200 x 100 pixels, twice as wide as high: 100 x 50. 51 places from the top, 101 from the left.
    assert crop_box(np.array([0.25, 2.0, 0.0, 0.0]), height=100, width=200) == (0, 0, 100, 50)
    assert crop_box(np.array([0.25, 2.0, 0.5, 0.25]), height=100, width=200) == (25, 25, 125, 75)
    assert crop_box(np.array([0.25, 2.0, 0.9999, 0.9999]), height=100, width=200) == (
        100,
        50,
        200,
        100,
    )
    assert crop_box(np.array([1.0, 4 / 3, 0.5, 0.5]), height=100, width=100) == (
        0,
        7,
        100,
        94,
    )  # 115 x 87, clipped; 14 places


@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('shape', [(375, 500), (40, 37)])
def test_crop_equals_torchvisions_resized_crop(shape, interpolation):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    view = View(96, interpolation=interpolation)
    for row in sample(view, 0, np.zeros(10, int), np.arange(10), 0):
        left, top, right, bottom = crop_box(row, *shape)
        expected = F.resized_crop(
            image,
            top,
            left,
            bottom - top,
            right - left,
            [96, 96],
            InterpolationMode(interpolation),
            antialias=True,
        )
        if row[COLUMN['flip']]:
            expected = F.horizontal_flip(expected)
        got = crop_of(pixels, view, row)
        assert got.shape == (3, 96, 96) and got.dtype == torch.uint8
        assert torch.equal(got, expected)


def crops_of(images: torch.Tensor, view: View, rows: np.ndarray) -> torch.Tensor:
    return crop_batch(images, crop_boxes(rows, *images.shape[2:]), view.size, view.interpolation)


def pillow_crop(pixels: np.ndarray, view: View, row) -> np.ndarray:
    out = (
        Image.fromarray(pixels)
        .crop(crop_box(row, *pixels.shape[:2]))
        .resize(
            (view.size, view.size),
            view.interpolation == 'bicubic'
            and Image.Resampling.BICUBIC
            or Image.Resampling.BILINEAR,
        )
    )
    out = np.asarray(out).astype(np.int64)
    return (out[:, ::-1] if row[COLUMN['flip']] else out).transpose(2, 0, 1)


@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
@pytest.mark.parametrize(
    ('shape', 'size'), [((375, 500), 96), ((32, 32), 32), ((40, 37), 64), ((3000, 2000), 224)]
)
def test_crops_of_both_kinds_against_pillow(shape, size, interpolation):
    """Noise is the hardest image there is: photographs are far closer."""
    view, rng = View(size, interpolation=interpolation), np.random.default_rng(1)
    noise = rng.integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    rows = sample(view, 0, np.zeros(2, int), np.arange(2), 3)
    batch = horizontal_flip(
        crops_of(torch.from_numpy(noise).permute(0, 3, 1, 2), view, rows), torch.from_numpy(rows)
    )
    assert (
        batch.shape == (2, 3, size, size) and batch.dtype == torch.uint8 and batch.is_contiguous()
    )
    for pixels, row, from_batch in zip(noise, rows, batch.numpy(), strict=True):
        expected = pillow_crop(pixels, view, row)
        assert np.abs(crop_of(pixels, view, row).numpy() - expected).mean() < 1
        difference = np.abs(from_batch.astype(int) - expected)  # but for sums that fall on a half
        assert difference.max() <= 1 and (difference > 0).mean() < 0.002


def test_crops_are_each_images_own():
    view, pixels = (
        View(16, crop=(0.3, 1.0)),
        torch.randint(0, 256, (6, 3, 20, 24), dtype=torch.uint8),
    )
    rows = sample(view, 0, np.zeros(6, int), np.arange(6), 0)
    for i in range(6):
        assert torch.equal(
            crops_of(pixels[i : i + 1], view, rows[i : i + 1])[0], crops_of(pixels, view, rows)[i]
        )


def test_mirror_turns_those_that_are_to_be():
    x = torch.randint(0, 256, (6, 3, 4, 5), dtype=torch.uint8)
    rows = torch.from_numpy(sample(View(4), 0, np.zeros(6, int), np.arange(6), 0))
    flip = rows[:, COLUMN['flip']].bool().tolist()
    assert 0 < sum(flip) < 6
    for before, after, turned in zip(x, horizontal_flip(x, rows), flip, strict=True):
        assert torch.equal(after, F.horizontal_flip(before) if turned else before)


def test_kernel_of_the_paper():
    assert View(224).kernel == 23 and View(32).kernel == 3 and View(96).kernel == 9


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
        (dict(size=16, blur_p=0.5), 'kernel of one pixel'),
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
