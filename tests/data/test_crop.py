"""Crop and resize, on the host and in batches, against torchvision and Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ssl_zoo.data.crop import crop, crop_batch, crop_box, crop_boxes
from ssl_zoo.data.photometric import horizontal_flip
from ssl_zoo.data.views import COLUMN, View, sample

pytestmark = pytest.mark.quick

BYOL_1 = View(224, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2, blur_p=1.0)


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
    # A quarter of 200 x 100 pixels, twice as wide as high: 100 x 50. 51 positions from the top,
    # 101 from the left.
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


def test_arrays_of_any_strides_are_cropped():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    out = [torch.empty(3, 4, 4, dtype=torch.uint8) for _ in range(3)]
    row = sample(View(4), 0, np.array([0]), np.array([0]), 0)
    for pixels, made in zip(
        (image, image[:, :, ::-1][:, :, ::-1], np.asfortranarray(image)), out, strict=True
    ):
        crop(pixels, [View(4)], row, [made])
    assert torch.equal(out[0], out[1]) and torch.equal(out[0], out[2])
    crop(image[:, ::-1], [View(4)], row, [out[0]])
