"""A view is data: its recipe (View), the numbers drawn for one image (columns PARAMS), and the crop made from them."""

from dataclasses import asdict, dataclass, fields
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.data.random import uniform
from ssl_zoo.errors import ConfigError, nearest

# The numbers that make one view of one image, as columns of a float32 array.
#   area, ratio: of the crop, relative to the image and width / height; top, left: its place, in [0, 1)
#   flip, gray, solarize: 0 or 1;  order: which of JITTER_ORDERS, -1 for no jitter;  brightness ... hue: jitter factors
#   sigma: of the blur in pixels, 0 for none
PARAMS = (
    'area',
    'ratio',
    'top',
    'left',
    'flip',
    'order',
    'brightness',
    'contrast',
    'saturation',
    'hue',
    'gray',
    'sigma',
    'solarize',
)
COLUMN = {name: i for i, name in enumerate(PARAMS)}
JITTER_ORDERS = np.array(
    list(permutations(range(4)))
)  # of brightness 0, contrast 1, saturation 2, hue 3
VIEW_VERSION = (
    2  # raised when the same numbers come to make other pixels, so that no run resumes on them
)
LARGEST_SIZE = 16384  # pixels; a larger view is a slip, and would only end for lack of memory
RESAMPLING = ('bicubic', 'bilinear')
# What F.interpolate(..., antialias=True) calls, which has no ``out``.
RESIZE = dict(
    bicubic=torch.ops.aten._upsample_bicubic2d_aa.out,
    bilinear=torch.ops.aten._upsample_bilinear2d_aa.out,
)


@dataclass(frozen=True)
class View:
    """The recipe of one view. The order of operations is crop, flip, jitter, grayscale, blur, solarize, normalise.

    Attributes:
        size: side of the view in pixels.
        crop: smallest and largest area of the crop, relative to the image.
        ratio: smallest and largest width / height of the crop, drawn log-uniformly.
        interpolation: 'bicubic' or 'bilinear', both antialiased.
        flip_p: probability of a horizontal flip.
        jitter: maximal change of brightness, contrast, saturation and hue, as in torchvision's ColorJitter; each image
            applies the four in an order of its own.
        jitter_p, gray_p, blur_p, solarize_p: probability of colour jitter, grayscale, Gaussian blur, solarize.
        blur_sigma: smallest and largest sigma of the blur, in pixels. Its kernel is 2 * int(size / 20) + 1 wide (BYOL
            appendix B: 23 at 224 px).
    """

    size: int
    crop: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = 'bicubic'
    flip_p: float = 0.5
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_p: float = 0.0
    gray_p: float = 0.0
    blur_p: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_p: float = 0.0

    def __post_init__(self):
        def need(name, holds, what):
            if not holds:
                raise ConfigError(f'view: {name}={getattr(self, name)!r}, but it must be {what}')

        need(
            'size',
            isinstance(self.size, int)
            and not isinstance(self.size, bool)
            and 0 < self.size <= LARGEST_SIZE,
            f'a positive number of pixels, at most {LARGEST_SIZE}',
        )
        for name, low, high in (('crop', 0, 1), ('ratio', 0, np.inf), ('blur_sigma', 0, np.inf)):
            pair = getattr(self, name)
            need(
                name,
                _numbers(pair, 2) and low < pair[0] <= pair[1] <= high,
                f'two numbers above {low}, rising, at most {high}',
            )
        need(
            'jitter',
            _numbers(self.jitter, 4)
            and min(self.jitter) >= 0
            and max(self.jitter[:3]) <= 1
            and self.jitter[3] <= 0.5,
            'four numbers (brightness, contrast, saturation, hue) between 0 and 1, hue at most 0.5',
        )
        for field in fields(self):
            if field.name.endswith('_p'):
                p = getattr(self, field.name)
                need(field.name, _numbers((p,), 1) and 0 <= p <= 1, 'a probability in [0, 1]')
        need(
            'blur_p',
            self.blur_p == 0 or self.kernel > 1,
            'a probability above 0 only from size=20 upwards: a smaller view has a '
            'kernel of one pixel, which blurs nothing',
        )
        need('interpolation', self.interpolation in RESAMPLING, f'one of {", ".join(RESAMPLING)}')

    @property
    def kernel(self) -> int:
        return 2 * int(self.size / 20) + 1


def _numbers(values, n: int) -> bool:
    return (
        isinstance(values, (tuple, list))
        and len(values) == n
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    )


def build_views(recipes: list[dict]) -> list[View]:
    """Views from a config's list of dicts. Raises ConfigError for an unknown key, a bad value, an empty list."""
    if not isinstance(recipes, (list, tuple)) or not recipes:
        raise ConfigError(f'views={recipes!r}, but it must be a list with one dict per view')
    names = [field.name for field in fields(View)]
    views = []
    for i, recipe in enumerate(recipes):
        if not isinstance(recipe, dict):
            raise ConfigError(f'views.{i}={recipe!r}, but it must be dict(size=...)')
        for key in recipe:
            if key not in names:
                raise ConfigError(f'views.{i} has an unknown key {key!r}: {nearest(key, names)}')
        if 'size' not in recipe:
            raise ConfigError(f'views.{i} needs a size in pixels')
        views.append(View(**{k: tuple(v) if isinstance(v, list) else v for k, v in recipe.items()}))
    return views


def sample(
    view: View, number: int, epochs: np.ndarray, indices: np.ndarray, seed: int
) -> np.ndarray:
    """Draw the numbers of one view for many images: a pure function of (seed, epoch, image index, view number).

    Args:
        view: the recipe.
        number: position of the view among the views of an image.
        epochs, indices: (n,) integers.
        seed: the run's seed.

    Returns:
        (n, len(PARAMS)) float32, columns as in PARAMS.
    """
    u = iter(np.moveaxis(uniform(15, indices, epochs, number, seed=seed), -1, 0))

    def between(low, high):
        return low + (high - low) * next(u)

    def happens(p):
        return next(u) < p

    out = np.empty((len(indices), len(PARAMS)), dtype=np.float32)

    def put(name, values):
        out[:, COLUMN[name]] = values

    put('area', between(*view.crop))
    put('ratio', np.exp(between(*np.log(view.ratio))))
    put('top', next(u))
    put('left', next(u))
    put('flip', happens(view.flip_p))
    jitters = happens(view.jitter_p if any(view.jitter) else 0.0)
    put('order', np.where(jitters, np.floor(next(u) * len(JITTER_ORDERS)), -1))
    for name, strength in zip(
        ('brightness', 'contrast', 'saturation'), view.jitter[:3], strict=True
    ):
        put(name, between(1 - strength, 1 + strength))
    put('hue', between(-view.jitter[3], view.jitter[3]))
    put('gray', happens(view.gray_p))
    blurs = happens(view.blur_p)
    put('sigma', np.where(blurs, between(*view.blur_sigma), 0))
    put('solarize', happens(view.solarize_p))
    return out


def crop_box(params: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """The crop of an image of height x width pixels: (left, top, right, bottom).

    As in BYOL's official code, sides are rounded and clipped to the image; torchvision draws again, up to ten times.
    """
    area, ratio, top, left = params[:4].tolist()
    area *= height * width
    w = min(max(round((area * ratio) ** 0.5), 1), width)
    h = min(max(round((area / ratio) ** 0.5), 1), height)
    y, x = min(int(top * (height - h + 1)), height - h), min(int(left * (width - w + 1)), width - w)
    return x, y, x + w, y + h


def crop(pixels: np.ndarray, views: list[View], params: np.ndarray, out: list[Tensor]) -> None:
    """Crop and resize with antialiasing: an RGB image (H, W, 3) uint8 -> ``out``, a (3, size, size) uint8 tensor for each view.

    Within a grey level of Pillow's resize on average, which rounds weights less coarsely, in a fifth of its time. Mirroring is left to
    ``mirror``, on the device.

    Args:
        params: (len(views), len(PARAMS)), the numbers of each view.
    """
    image = (
        torch.from_numpy(np.require(pixels, requirements=['C', 'W'])).permute(2, 0, 1).unsqueeze(0)
    )
    for view, row, made in zip(views, params, out, strict=True):
        left, top, right, bottom = crop_box(row, *pixels.shape[:2])
        RESIZE[view.interpolation](
            image[:, :, top:bottom, left:right],
            (view.size, view.size),
            False,
            None,
            None,
            out=made.unsqueeze(0),
        )


def mirror(x: Tensor, params: Tensor) -> Tensor:
    """The crops (B, 3, H, W) of which ``params`` (B, len(PARAMS)), on the host, says so, left to right."""
    flip = params[:, COLUMN['flip']] > 0
    return (
        torch.where(flip.view(-1, 1, 1, 1).to(x.device, non_blocking=True), x.flip(3), x)
        if flip.any()
        else x
    )


def crop_boxes(params: np.ndarray, height: int, width: int) -> Tensor:
    """The crops of images of one size, (B, len(PARAMS)) -> (B, 4) float32."""
    return torch.tensor([crop_box(row, height, width) for row in params], dtype=torch.float32)


def crops(images: Tensor, boxes: Tensor, size: int, interpolation: str) -> Tensor:
    """What ``crop`` makes of images of one size, on any device: (B, 3, H, W) uint8 -> (B, 3, size, size) uint8.

    Two batched matrix products, with matrices that hold each image's box and its resampling weights. Pillow's arithmetic: along rows
    first, rounded to grey levels in between and at the end.

    Args:
        boxes: from ``crop_boxes``, on the images' device.
    """
    n, _, height, width = images.shape
    left, top, right, bottom = boxes.unbind(1)
    columns = _resampling(left, right - left, width, size, interpolation)  # (B, size, W)
    rows = _resampling(top, bottom - top, height, size, interpolation)  # (B, size, H)
    lines = (
        images.transpose(1, 2)
        .to(torch.float32, memory_format=torch.contiguous_format)
        .view(n, height * 3, width)
    )
    wide = (
        torch.bmm(lines, columns.transpose(1, 2))
        .add(0.5)
        .floor()
        .clamp(0, 255)
        .view(n, height, 3 * size)
    )
    return (
        torch.bmm(rows, wide)
        .add(0.5)
        .floor()
        .clamp(0, 255)
        .view(n, size, 3, size)
        .transpose(1, 2)
        .to(torch.uint8, memory_format=torch.contiguous_format)
    )


def _resampling(start: Tensor, length: Tensor, total: int, size: int, interpolation: str) -> Tensor:
    """(B, size, total): the antialiased filter that takes the ``length`` pixels from ``start`` on, of ``total``, to ``size``."""
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    scale = length / size
    target, source = (torch.arange(n, device=start.device) + 0.5 for n in (size, total))
    distance = (
        (source - start - scale * target[:, None]) / scale.clamp(min=1)
    ).abs()  # the filter is wider where it shrinks
    if interpolation == 'bilinear':
        weights = (1 - distance).clamp(min=0)
    else:  # Keys' cubic with a = -1/2, as Pillow's
        near, far = (
            (1.5 * distance - 2.5) * distance**2 + 1,
            ((-0.5 * distance + 2.5) * distance - 4) * distance + 2,
        )
        weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    weights = torch.where((source > start) & (source < start + length), weights, 0.0)
    return weights / weights.sum(2, keepdim=True)


def describe(view: View) -> str:
    """The recipe in one line, what is at its default left out."""
    defaults = {field.name: field.default for field in fields(View)}
    return ', '.join(
        f'{k}={v}' for k, v in asdict(view).items() if k in ('size', 'crop') or v != defaults[k]
    )
