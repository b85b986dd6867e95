"""A picture of training images beside their views, with the random numbers drawn for each view."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from ssl_zoo.config.settings import Settings
from ssl_zoo.data.crop import crop_box
from ssl_zoo.data.image_sheet import ImageSheet, SheetCell, SheetColumn, fit
from ssl_zoo.data.on_device import DeviceDataset
from ssl_zoo.data.photometric import Photometric
from ssl_zoo.data.sources import Source
from ssl_zoo.data.splits import data_sources
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import COLUMN, JITTER_ORDERS, View
from ssl_zoo.errors import ConfigError

IMAGE_SIDE = 224  # pixels of the longer side of an image in the picture
CAPTION_WIDTH = 176  # pixels: the smallest width that a line of text fits into
MAX_IMAGES = 100
JITTER = ('brightness', 'contrast', 'saturation', 'hue')  # by their numbers in JITTER_ORDERS
# One colour for each view: Okabe and Ito's (jfly.uni-koeln.de/color), which colour-blind readers
# can tell apart, then three more, because DINO has ten views.
CROP_COLOURS = (
    '#d55e00',
    '#0072b2',
    '#009e73',
    '#cc79a7',
    '#e69f00',
    '#56b4e9',
    '#000000',
    '#7a3dbd',
    '#8b4513',
    '#b0b000',
)
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class ImageViews:
    """An image and the views that a run makes of it.

    Attributes:
        image: the image with a caption.
        views: the views with captions, as the network sees them before normalisation.
        crop_boxes: crop of each view, in pixels of the image.
    """

    image: SheetCell
    views: list[SheetCell]
    crop_boxes: list[Box]


def describe_params(params: np.ndarray, height: int, width: int) -> list[str]:
    """Describe how a view was made from an image, in the order of the operations.

    Args:
        params: (len(PARAMS),) float32, the numbers drawn for the view.
        height: height of the image, in pixels.
        width: width of the image, in pixels.

    Returns:
        Short lines of text; an operation that was not applied has no line.
    """
    value = {name: float(params[column]) for name, column in COLUMN.items()}
    left, top, right, bottom = crop_box(params, height, width)
    crop_width = right - left
    crop_height = bottom - top
    share = 100 * crop_width * crop_height / (height * width)
    lines = [
        f'crop {crop_width} x {crop_height} at ({left}, {top})',
        f'  {share:.3g} % of the area',
    ]
    if value['flip']:
        lines.append('mirrored')
    if value['order'] >= 0:
        lines += _describe_jitter(value)
    if value['gray']:
        lines.append('grayscale')
    if value['sigma']:
        lines.append(f'blur, sigma {value["sigma"]:.2f} px')
    if value['solarize']:
        lines.append('solarized')
    return lines


def _describe_jitter(value: dict[str, float]) -> list[str]:
    lines = []
    for number in JITTER_ORDERS[int(value['order'])]:
        name = JITTER[number]
        if name == 'hue' and value[name] != 0:
            lines.append(f'hue {value[name]:+.3f} turns')
        elif name != 'hue' and value[name] != 1:
            lines.append(f'{name} x {value[name]:.2f}')
    return lines


def make_views(
    settings: Settings, first: int = 0, images: int = 4, epoch: int = 0
) -> list[ImageViews]:
    """Make the views that a run with these settings makes of some training images in one epoch.

    Args:
        settings: settings of the run. ``data.val`` and ``data.test`` are read only where they
            decide which images are trained on.
        first: position of the first image in the training set.
        images: number of images, at most ``MAX_IMAGES``; fewer at the end of the set.
        epoch: number of the epoch, from 0.

    Raises:
        ConfigError: ``first``, ``images`` or ``epoch`` is out of range, data are missing, or none
            of the images can be read.
    """
    last_epoch = math.ceil(settings.epochs) - 1
    if not 0 <= epoch <= last_epoch:
        raise ConfigError(
            f'the epoch is {epoch}, but the run has epochs={settings.epochs:g}; '
            f'give one from 0 to {last_epoch}'
        )
    if not 1 <= images <= MAX_IMAGES:
        raise ConfigError(
            f'the number of images is {images}, but it must be from 1 to {MAX_IMAGES}'
        )
    source = _training_source(settings)
    if not 0 <= first < len(source):
        raise ConfigError(
            f'the first image is {first}, but data.train has {len(source)} images; '
            f'give one from 0 to {len(source) - 1}'
        )
    positions = range(first, min(first + images, len(source)))
    batch, pixels = _load(settings, source, positions, epoch)
    result = []
    for row, (index, position) in enumerate(zip(batch['index'].tolist(), positions, strict=True)):
        params = [drawn[row].numpy() for drawn in batch['params']]
        views = [
            Image.fromarray(view_pixels[row].permute(1, 2, 0).numpy()) for view_pixels in pixels
        ]
        result.append(_describe_image(source, index, position, views, params))
    return result


def _training_source(settings: Settings) -> Source:
    data = settings.data
    val_decides_train = not data.train_on_val and not isinstance(data.val, dict)
    val = data.val if val_decides_train else None
    return data_sources(replace(data, test=None, val=val))['train']


def _load(
    settings: Settings, source: Source, positions: range, epoch: int
) -> tuple[dict, list[torch.Tensor]]:
    """Return the batch of these images, and the pixels of each view, (B, 3, H, W) uint8."""
    data = settings.data
    views = settings.build_views()
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    if data.on_device:
        dataset = DeviceDataset(source, views, settings.seed, device)
    else:
        dataset = ViewDataset(source, views, settings.seed)
    batch = dataset.__getitems__([(epoch, position) for position in positions])
    if batch['views'] is None:
        index, reason = batch['unreadable'][0]
        raise ConfigError(f'no image can be read: {source.name(index)} ({reason}); check the data')
    photometric = Photometric(views, data.mean, data.std, settings.channels_last).to(device)
    return batch, [photometric.denormalise(view) for view in photometric(batch)['views']]


def _describe_image(
    source: Source, index: int, position: int, views: list[Image.Image], params: list[np.ndarray]
) -> ImageViews:
    image = source.read(index)
    size = image.height, image.width
    caption = [
        f'image {index} of {len(source):,}',
        source.name(index).encode(errors='replace').decode(),
        f'{image.width} x {image.height} px',
    ]
    if index != position:
        caption.append(f'in place of image {position}, which cannot be read')
    return ImageViews(
        SheetCell(image, caption),
        [
            SheetCell(view, describe_params(numbers, *size))
            for view, numbers in zip(views, params, strict=True)
        ],
        [crop_box(numbers, *size) for numbers in params],
    )


def views_sheet(views: list[View], images: list[ImageViews], footer: str) -> ImageSheet:
    """Return the sheet: a row for each image with its views.

    All views are scaled by one factor, a whole number for views of up to ``2 * IMAGE_SIDE``
    pixels. The frames on an image are the crops of its views, in the colours of the views' titles.

    Args:
        views: the settings of the views.
        images: images and views to show, from ``make_views``.
        footer: text below the last row.
    """
    largest = max(view.size for view in views)
    if largest <= 2 * IMAGE_SIDE:
        scale: float = max(IMAGE_SIDE // largest, 1)
    else:
        scale = 2 * IMAGE_SIDE / largest
    columns = [SheetColumn('image', IMAGE_SIDE, CAPTION_WIDTH)]
    for number, view in enumerate(views):
        title = f'view {number + 1}, {view.size} px'
        side = max(round(view.size * scale), 1)
        columns.append(SheetColumn(title, side, CAPTION_WIDTH, swatch=_crop_colour(number)))
    rows = [[_with_crops(shown), *shown.views] for shown in images]
    return ImageSheet(columns, rows, footer, gap=12, head=25, font_size=13)


def _crop_colour(view: int) -> str:
    return CROP_COLOURS[view % len(CROP_COLOURS)]


def _with_crops(shown: ImageViews) -> SheetCell:
    """Return the image's cell at its size in the sheet, with the crops of the views drawn on it."""
    image = shown.image.image
    picture = fit(image, IMAGE_SIDE)
    pen = ImageDraw.Draw(picture)
    for view, (left, top, right, bottom) in enumerate(shown.crop_boxes):
        x0 = round(left * picture.width / image.width)
        y0 = round(top * picture.height / image.height)
        x1 = max(round(right * picture.width / image.width) - 1, x0)
        y1 = max(round(bottom * picture.height / image.height) - 1, y0)
        pen.rectangle((x0, y0, x1, y1), outline=_crop_colour(view), width=2)
    return SheetCell(picture, shown.image.caption)


def save_views_sheet(
    settings: Settings, out: Path, first: int, images: int, epoch: int, config_name: str
) -> None:
    """Write the picture and print its path.

    Args:
        settings: see ``make_views``.
        out: a .png file.
        first: see ``make_views``.
        images: see ``make_views``.
        epoch: see ``make_views``.
        config_name: name of the settings in the footer.

    Raises:
        ConfigError: see ``make_views``; or ``out`` is not a .png file, or cannot be written.
    """
    if out.suffix.lower() != '.png':
        raise ConfigError(
            f'the picture would be {out}, but it must be a .png file, such as views.png'
        )
    shown = make_views(settings, first, images, epoch)
    views = settings.build_views()
    footer = (
        f'{config_name}, seed {settings.seed}, epoch {epoch}. Views: as the network sees them, '
        'before normalisation. Frames: their crops. Below each view: the operations, in order.'
    )
    sheet = views_sheet(views, shown, footer)
    try:
        sheet.save_png(out)
    except OSError as error:
        raise ConfigError(f'could not write {out}: {error}; choose another --out') from None
    plural = 's' if len(shown) > 1 else ''
    print(
        f'{len(shown)} image{plural} with {len(views)} views each, '
        f'{sheet.width} x {sheet.height} pixels: {out}'
    )
