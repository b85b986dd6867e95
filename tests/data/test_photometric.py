"""Every operation against torchvision's functional, image by image with the same parameters."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from ssl_zoo.data.photometric import (
    Photometric,
    augment,
    blur,
    grayscale,
    horizontal_flip,
    jitter,
    shift_hue,
)
from ssl_zoo.data.views import COLUMN, JITTER_ORDERS, PARAMS, View, sample

pytestmark = pytest.mark.quick

B = 48
CLOSE = dict(atol=1e-4, rtol=0)


@pytest.fixture
def images():
    """Noise, ramps, gray, pure colours, black, white: the corners of hue and saturation."""
    x = torch.rand(B, 3, 40, 36)
    x[0], x[1], x[2] = 0, 1, 0.5
    x[3] = torch.tensor([1.0, 0, 0]).view(3, 1, 1)
    x[4] = torch.tensor([0, 1.0, 1.0]).view(3, 1, 1)
    x[5] = torch.linspace(0, 1, 36)
    x[6, 1] = x[6, 0]  # two channels tie for the maximum or the minimum
    return x


def parameters(**columns) -> torch.Tensor:
    p = torch.zeros(B, len(PARAMS))
    p[:, COLUMN['order']] = -1
    for name in ('brightness', 'contrast', 'saturation'):
        p[:, COLUMN[name]] = 1
    for name, values in columns.items():
        p[:, COLUMN[name]] = torch.as_tensor(values, dtype=torch.float32)
    return p


def augmented(images, rows, kernel, compiled=False):
    """Without normalisation, of images in [0, 1]."""
    return augment(
        images * 255, rows, kernel, torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1), compiled
    )


def test_only_images_with_the_parameter_are_flipped():
    x = torch.randint(0, 256, (6, 3, 4, 5), dtype=torch.uint8)
    rows = torch.from_numpy(sample(View(4), 0, np.zeros(6, int), np.arange(6), 0))
    flip = rows[:, COLUMN['flip']].bool().tolist()
    assert 0 < sum(flip) < 6
    for before, after, turned in zip(x, horizontal_flip(x, rows), flip, strict=True):
        assert torch.equal(after, F.horizontal_flip(before) if turned else before)


def torchvision_jitter(image, row):
    p = {name: row[COLUMN[name]].item() for name in PARAMS}
    operations = (
        lambda x: F.adjust_brightness(x, p['brightness']),
        lambda x: F.adjust_contrast(x, p['contrast']),
        lambda x: F.adjust_saturation(x, p['saturation']),
        lambda x: F.adjust_hue(x, p['hue']),
    )
    for operation in JITTER_ORDERS[int(p['order'])]:
        image = operations[operation](image)
    return image


def test_grayscale(images):
    for x, got in zip(images, grayscale(images), strict=True):
        torch.testing.assert_close(got.expand(3, -1, -1), F.rgb_to_grayscale(x, 3), **CLOSE)


def test_hue(images):
    shift = torch.linspace(-0.5, 0.5, B)
    for x, got, s in zip(images, shift_hue(images, shift), shift.tolist(), strict=True):
        torch.testing.assert_close(got, F.adjust_hue(x, s), **CLOSE)


@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation'])
def test_each_blend(images, name):
    factors = torch.linspace(0.2, 1.8, B)
    adjust = getattr(F, f'adjust_{name}')
    got = jitter(images.clone(), parameters(order=0, **{name: factors}))
    for x, out, factor in zip(images, got, factors.tolist(), strict=True):
        torch.testing.assert_close(out, adjust(x, factor), **CLOSE)


def test_jitter_in_every_order(images):
    rng = np.random.default_rng(0)
    for orders in (range(24), range(23, -1, -1)):
        rows = parameters(
            order=list(orders) * 2,
            brightness=rng.uniform(0.2, 1.8, B),
            contrast=rng.uniform(0.2, 1.8, B),
            saturation=rng.uniform(0.2, 1.8, B),
            hue=rng.uniform(-0.5, 0.5, B),
        )
        for x, out, row in zip(images, jitter(images.clone(), rows), rows, strict=True):
            torch.testing.assert_close(out, torchvision_jitter(x, row), **CLOSE)


def test_images_without_jitter_stay_as_they_are(images):
    rows = parameters(
        order=[-1, 5] * (B // 2), brightness=0.5, contrast=0.5, saturation=0.5, hue=0.3
    )
    out = jitter(images.clone(), rows)
    assert torch.equal(out[::2], images[::2]) and not torch.equal(out[1::2], images[1::2])
    assert torch.equal(shift_hue(images, torch.zeros(B)), images)


@pytest.mark.parametrize('kernel', [3, 9, 23])
def test_blur(images, kernel):
    sigma = torch.linspace(0.1, 2.0, B)
    for x, got, s in zip(images, blur(images, sigma, kernel), sigma.tolist(), strict=True):
        torch.testing.assert_close(got, F.gaussian_blur(x, [kernel, kernel], [s, s]), **CLOSE)


def test_blur_refuses_images_smaller_than_its_kernel():
    with pytest.raises(ValueError, match='needs images of more than 11 pixels'):
        blur(torch.rand(1, 3, 8, 8), torch.ones(1), 23)


def test_the_whole_pipeline_image_by_image(images):
    view = View(
        40, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.3, blur_p=0.5, solarize_p=0.4
    )
    rows = torch.from_numpy(sample(view, 0, np.zeros(B, int), np.arange(B), 0))
    got = augmented(images, rows, 23)
    touched = dict(flip=0, jitter=0, gray=0, blur=0, solarize=0)
    for x, out, row in zip(images, got, rows, strict=True):
        p = {name: row[COLUMN[name]].item() for name in PARAMS}
        if p['flip']:
            x = F.horizontal_flip(x)
            touched['flip'] += 1
        if p['order'] >= 0:
            x = torchvision_jitter(x, row)
            touched['jitter'] += 1
        if p['gray']:
            x = F.rgb_to_grayscale(x, 3)
            touched['gray'] += 1
        if p['sigma']:
            x = F.gaussian_blur(x, [23, 23], [p['sigma']] * 2)
            touched['blur'] += 1
        if p['solarize']:
            # Rounding decides exactly at the threshold; torchvision is checked away from it.
            x = torch.where((x - 0.5).abs() < 1e-5, out, F.solarize(x, 0.5))
            touched['solarize'] += 1
        torch.testing.assert_close(out, x, **CLOSE)
    assert all(0 < n < B for n in touched.values()), touched


def test_a_constant_batch_gets_different_draws():
    view = View(32, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=1.0)
    rows = torch.from_numpy(sample(view, 0, np.zeros(8, int), np.arange(8), 0))
    out = augmented(
        torch.full((8, 3, 32, 32), 0.3) * torch.tensor([1, 0.8, 0.5]).view(3, 1, 1), rows, 3
    )
    assert len({tuple(v) for v in out[:, :, 0, 0].tolist()}) == 8


@pytest.mark.parametrize('channels_last', [False, True])
def test_the_module_normalises_without_gradient_and_outside_autocast(channels_last):
    view = View(16, solarize_p=1.0, flip_p=0.0)
    module = Photometric(
        [view, View(16, flip_p=0.0)], (0.1, 0.2, 0.3), (0.5, 0.25, 0.2), channels_last
    )
    pixels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    rows = [
        torch.from_numpy(sample(v, i, np.zeros(4, int), np.arange(4), 0))
        for i, v in enumerate(module_views(view))
    ]
    with torch.autocast('cpu', torch.bfloat16):
        out = module(
            dict(views=[pixels, pixels], params=rows, index=torch.arange(4), unreadable=[])
        )
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.1, 0.2, 0.3), (0.5, 0.25, 0.2)))
    for got, p in zip(
        out['views'], (F.solarize(pixels.float() / 255, 0.5), pixels.float() / 255), strict=True
    ):
        assert got.dtype == torch.float32 and not got.requires_grad
        torch.testing.assert_close(got, (p - mean) / std)
        assert got.is_contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )
    assert out['index'].tolist() == [0, 1, 2, 3]
    assert set(out) == {'views', 'index'}
    torch.testing.assert_close(module.normalise(pixels), (pixels.float() / 255 - mean) / std)
    assert not module.state_dict()  # constants of the config, not weights


def module_views(view):
    return [view, View(16, flip_p=0.0)]
