"""A view as data: its recipe (View), and the parameters drawn for each image (`sample`).

Step 1 of the four from image bytes to the loss, see ssl_zoo.data.
"""

from dataclasses import asdict, dataclass, fields
from itertools import permutations
from typing import Any

import numpy as np

from ssl_zoo.data.random import uniform
from ssl_zoo.errors import ConfigError, nearest

# The parameters of one view of one image: columns of a float32 array.
PARAMS = (
    'area',  # of the crop, relative to the image's
    'ratio',  # width / height of the crop
    'top',  # position of the crop among all positions that fit, in [0, 1)
    'left',
    'flip',  # 0 or 1
    'order',  # of the jitter: index into JITTER_ORDERS, -1 for no jitter
    'brightness',  # jitter factors
    'contrast',
    'saturation',
    'hue',  # shift in turns
    'gray',  # 0 or 1
    'sigma',  # of the blur in pixels, 0 for no blur
    'solarize',  # 0 or 1
)
COLUMN = {name: i for i, name in enumerate(PARAMS)}

# The uniform numbers drawn for one view, in the order of the generator's counter. `jitter` and
# `blur` decide whether the operation is applied. A draw appended at the end does not change the
# others; another order changes every view.
DRAWS = (
    'area',
    'ratio',
    'top',
    'left',
    'flip',
    'jitter',
    'order',
    'brightness',
    'contrast',
    'saturation',
    'hue',
    'gray',
    'blur',
    'sigma',
    'solarize',
)

# (24, 4) int64: the orders of brightness 0, contrast 1, saturation 2, hue 3.
JITTER_ORDERS = np.array(list(permutations(range(4))))

# Increase it when the same parameters give other pixels: a run then resumes no older checkpoint.
VIEW_VERSION = 2

LARGEST_SIZE = 2048  # pixels; a larger size is a typing error and would need too much memory
MOST_VIEWS = 256  # the published recipes have at most 12
INTERPOLATIONS = ('bicubic', 'bilinear')


@dataclass(frozen=True)
class View:
    """The recipe of one view.

    The order of operations is crop, flip, jitter, grayscale, blur, solarize, normalise.

    Attributes:
        size: side of the view in pixels.
        crop: smallest and largest area of the crop, relative to the image's.
        ratio: smallest and largest width / height of the crop, drawn log-uniformly.
        interpolation: 'bicubic' or 'bilinear', both antialiased.
        flip_p: probability of a horizontal flip.
        jitter: largest change of brightness, contrast, saturation and hue, as in torchvision's
            ColorJitter. The order of the four is drawn for each image.
        jitter_p: probability of the colour jitter.
        gray_p: probability of the conversion to grayscale.
        blur_p: probability of the Gaussian blur.
        blur_sigma: smallest and largest sigma of the blur, in pixels.
        blur_kernel: width of the blur's kernel in pixels, odd; None for a tenth of the size, as in
            BYOL (appendix B: 23 at 224 px). PIL's blur has no limit: 13 holds three sigma of 2.
        solarize_p: probability of solarize.

    Raises:
        ConfigError: a value outside its range.
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
    blur_kernel: int | None = None
    solarize_p: float = 0.0

    def __post_init__(self):
        self._require(
            'size', _is_size(self.size), f'a positive number of pixels, at most {LARGEST_SIZE}'
        )
        self._require_range('crop', low=0, high=1)
        self._require_range('ratio', low=0, high=np.inf)
        self._require_range('blur_sigma', low=0, high=np.inf)
        self._require(
            'jitter',
            _is_jitter(self.jitter),
            'four numbers (brightness, contrast, saturation, hue) between 0 and 1, hue at most 0.5',
        )
        for name in ('flip_p', 'jitter_p', 'gray_p', 'blur_p', 'solarize_p'):
            self._require(name, _is_probability(getattr(self, name)), 'a probability in [0, 1]')
        self._require(
            'blur_kernel',
            self.blur_kernel is None or _is_kernel(self.blur_kernel, self.size),
            f'None, or an odd number of pixels from 3 to {2 * self.size - 1}',
        )
        self._require(
            'blur_p',
            self.blur_p == 0 or self.kernel > 1,
            '0 below size=20 without blur_kernel: the kernel has one pixel, which blurs nothing',
        )
        self._require(
            'interpolation',
            self.interpolation in INTERPOLATIONS,
            f'one of {", ".join(INTERPOLATIONS)}',
        )

    def _require(self, name: str, valid: bool, allowed: str) -> None:
        if not valid:
            raise ConfigError(f'view: {name}={getattr(self, name)!r}, but it must be {allowed}')

    def _require_range(self, name: str, low: float, high: float) -> None:
        pair = getattr(self, name)
        valid = _are_numbers(pair, 2) and low < pair[0] <= pair[1] <= high
        self._require(name, valid, f'two numbers in rising order, above {low} and at most {high}')

    @property
    def kernel(self) -> int:
        """Width of the blur's kernel in pixels."""
        if self.blur_kernel is not None:
            return self.blur_kernel
        return 2 * int(self.size / 20) + 1


def _are_numbers(values: object, n: int) -> bool:
    if not isinstance(values, (tuple, list)) or len(values) != n:
        return False
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_SIZE


def _is_kernel(value: Any, size: int) -> bool:
    return _is_size(value) and value % 2 == 1 and 3 <= value < 2 * size


def _is_jitter(values: Any) -> bool:
    if not _are_numbers(values, 4):
        return False
    return min(values) >= 0 and max(values[:3]) <= 1 and values[3] <= 0.5


def _is_probability(value: Any) -> bool:
    return _are_numbers((value,), 1) and 0 <= value <= 1


def build_views(recipes: list[dict]) -> list[View]:
    """Build the views of a config.

    Args:
        recipes: one dict per view with attributes of View; lists are converted to tuples.

    Raises:
        ConfigError: there are no recipes, or a recipe has an unknown key, a bad value or no size.
    """
    if not isinstance(recipes, (list, tuple)) or not recipes:
        raise ConfigError(f'views={recipes!r}, but it must be a list with one dict per view')
    if len(recipes) > MOST_VIEWS:
        raise ConfigError(
            f'views has {len(recipes):,} views, but it must have at most {MOST_VIEWS}'
        )
    return [_build_view(recipe, i) for i, recipe in enumerate(recipes)]


def _build_view(recipe: dict, i: int) -> View:
    if not isinstance(recipe, dict):
        raise ConfigError(f'views.{i}={recipe!r}, but it must be dict(size=...)')
    names = [field.name for field in fields(View)]
    for key in recipe:
        if key not in names:
            raise ConfigError(f'views.{i} has an unknown key {key!r}: {nearest(key, names)}')
    if 'size' not in recipe:
        raise ConfigError(f'views.{i} needs a size in pixels')
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in recipe.items()
    }
    return View(**values)


def describe(view: View) -> str:
    """Describe a recipe in one line: size, crop, and attributes that differ from the default."""
    defaults = {field.name: field.default for field in fields(View)}
    shown = {
        name: value
        for name, value in asdict(view).items()
        if name in ('size', 'crop') or value != defaults[name]
    }
    return ', '.join(f'{name}={value}' for name, value in shown.items())


def _between(low: float, high: float, u: np.ndarray) -> np.ndarray:
    return low + (high - low) * u


def sample(
    view: View, number: int, epochs: np.ndarray, indices: np.ndarray, seed: int
) -> np.ndarray:
    """Draw the parameters of one view for n images.

    The parameters are a pure function of (seed, epoch, image index, view number).

    Args:
        view: the recipe.
        number: position of the view among the views of an image.
        epochs: (n,) integers.
        indices: (n,) integers, the images' positions in the source.
        seed: the run's seed.

    Returns:
        (n, len(PARAMS)) float32, columns as in PARAMS.
    """
    draws = uniform(len(DRAWS), indices, epochs, number, seed=seed)  # (n, 15)
    u = dict(zip(DRAWS, np.moveaxis(draws, -1, 0), strict=True))
    jitter_p = view.jitter_p if any(view.jitter) else 0.0
    brightness, contrast, saturation, hue = view.jitter
    least_log_ratio, most_log_ratio = np.log(view.ratio)
    sigma = _between(*view.blur_sigma, u['sigma'])
    jitter_order = np.floor(u['order'] * len(JITTER_ORDERS))
    values = dict(
        area=_between(*view.crop, u['area']),
        ratio=np.exp(_between(least_log_ratio, most_log_ratio, u['ratio'])),
        top=u['top'],
        left=u['left'],
        flip=u['flip'] < view.flip_p,
        order=np.where(u['jitter'] < jitter_p, jitter_order, -1),
        brightness=_between(1 - brightness, 1 + brightness, u['brightness']),
        contrast=_between(1 - contrast, 1 + contrast, u['contrast']),
        saturation=_between(1 - saturation, 1 + saturation, u['saturation']),
        hue=_between(-hue, hue, u['hue']),
        gray=u['gray'] < view.gray_p,
        sigma=np.where(u['blur'] < view.blur_p, sigma, 0),
        solarize=u['solarize'] < view.solarize_p,
    )
    params = np.empty((len(indices), len(PARAMS)), dtype=np.float32)
    for name, column in COLUMN.items():
        params[:, column] = values[name]
    return params
