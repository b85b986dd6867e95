"""A picture of training images beside their views, as the network sees them, with the numbers that were drawn for each."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ssl_zoo.data.loader import ViewDataset
from ssl_zoo.data.on_device import DeviceDataset
from ssl_zoo.data.photometric import Photometric
from ssl_zoo.data.splits import data_sources
from ssl_zoo.data.views import COLUMN, JITTER_ORDERS, View, crop_box
from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.atomic import atomic_write

SIDE, NARROW, GAP, LINE, FONT = (
    224,
    176,
    12,
    17,
    13,
)  # pixels; NARROW: the least that a line of text fits into
MOST = 100  # images of a picture
JITTER = ('brightness', 'contrast', 'saturation', 'hue')  # by their numbers in JITTER_ORDERS
# Of the crops, by view: Okabe and Ito's colours (jfly.uni-koeln.de/color), which colour-blind readers tell apart, then three more, for
# DINO has ten views.
COLOURS = (
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


@dataclass(frozen=True)
class Cell:
    """Attributes: image: what is shown; lines: of text below it."""

    image: Image.Image
    lines: list[str]


@dataclass(frozen=True)
class Shown:
    """What a picture shows.

    Attributes:
        views: the recipes; rows: for each image a Cell of the image itself and one of every view; boxes: for each image the crop of
            every view, (left, top, right, bottom) in its pixels.
    """

    views: list[View]
    rows: list[list[Cell]]
    boxes: list[list[tuple[int, int, int, int]]]


def describe_params(params: np.ndarray, height: int, width: int) -> list[str]:
    """What was done to an image to make a view, in short lines, in the order in which it was done; what was not done is left out.

    Args:
        params: (len(PARAMS),) float32; height, width: of the image, in pixels.
    """
    value = {name: float(params[column]) for name, column in COLUMN.items()}
    left, top, right, bottom = crop_box(params, height, width)
    w, h = right - left, bottom - top
    lines = [
        f'crop {w} x {h} at ({left}, {top})',
        f'  {100 * w * h / (height * width):.3g} % of the area',
    ]
    if value['flip']:
        lines.append('mirrored')
    if value['order'] >= 0:
        for name in (JITTER[i] for i in JITTER_ORDERS[int(value['order'])]):
            if value[name] != (0 if name == 'hue' else 1):
                lines.append(
                    f'{name} {value[name]:+.3f} turns'
                    if name == 'hue'
                    else f'{name} x {value[name]:.2f}'
                )
    if value['gray']:
        lines.append('grayscale')
    if value['sigma']:
        lines.append(f'blur, sigma {value["sigma"]:.2f} px')
    if value['solarize']:
        lines.append('solarized')
    return lines


def shown(settings, first: int = 0, images: int = 4, epoch: int = 0) -> Shown:
    """The views that a run with these settings makes of some training images in one epoch.

    Args:
        settings: of the run; data.val and data.test are read only where they decide which images are trained on.
        first: position of the first image in the training set; images: how many, at most MOST, fewer at the end of the set.
        epoch: counted from 0.
    Raises:
        ConfigError: a number outside of the data or of the run, data that are missing, no image that can be read.
    """
    last = math.ceil(settings.epochs) - 1
    if not 0 <= epoch <= last:
        raise ConfigError(
            f'the epoch is {epoch}, but the run has epochs={settings.epochs:g}; give one from 0 to {last}'
        )
    if not 1 <= images <= MOST:
        raise ConfigError(f'the number of images is {images}, but it must be from 1 to {MOST}')
    data = settings.data
    needed = None if data.train_on_val or isinstance(data.val, dict) else data.val
    source = data_sources(replace(data, test=None, val=needed))['train']
    if not 0 <= first < len(source):
        raise ConfigError(
            f'the first image is {first}, but data.train has {len(source)} images; give one from 0 to {len(source) - 1}'
        )
    views, device = (
        settings.build_views(),
        torch.device('cuda' if torch.cuda.is_available() else 'cpu'),
    )
    dataset = (
        DeviceDataset(source, views, settings.seed, device)
        if data.on_device
        else ViewDataset(source, views, settings.seed)
    )
    wanted = range(first, min(first + images, len(source)))
    batch = dataset.__getitems__([(epoch, i) for i in wanted])
    if batch['views'] is None:
        raise ConfigError(
            f'no image can be read: {source.name(batch["unreadable"][0][0])} ({batch["unreadable"][0][1]}); check the data'
        )
    photometric = Photometric(views, data.mean, data.std, settings.channels_last).to(device)
    seen = [photometric.pixels(view) for view in photometric(batch)['views']]
    rows, boxes = [], []
    for k, (i, asked) in enumerate(zip(batch['index'].tolist(), wanted, strict=True)):
        image = source.read(i)
        size = image.height, image.width
        about = [
            f'image {i} of {len(source):,}',
            source.name(i).encode(errors='replace').decode(),
            f'{image.width} x {image.height} px',
        ]
        about += [f'in place of image {asked}, which cannot be read'] if i != asked else []
        params = [drawn[k].numpy() for drawn in batch['params']]
        rows.append(
            [Cell(image, about)]
            + [
                Cell(
                    Image.fromarray(pixels[k].permute(1, 2, 0).numpy()),
                    describe_params(numbers, *size),
                )
                for pixels, numbers in zip(seen, params, strict=True)
            ]
        )
        boxes.append([crop_box(numbers, *size) for numbers in params])
    return Shown(views, rows, boxes)


def draw(what: Shown, footer: str) -> Image.Image:
    """The sheet: a row for each image, under every view what was done for it. Views of all sizes have one scale, a whole number for
    views of up to 2 * SIDE pixels; the frames on an image are its crops, in the colours of the views' titles."""
    font, bold = ImageFont.load_default(FONT), ImageFont.load_default(FONT + 2)
    largest = max(view.size for view in what.views)
    scale = max(SIDE // largest, 1) if largest <= 2 * SIDE else 2 * SIDE / largest
    sides = [SIDE, *(max(round(view.size * scale), 1) for view in what.views)]
    widths = [max(side, NARROW) for side in sides]
    lefts = [GAP + sum(widths[:c]) + c * GAP for c in range(len(widths))]
    total = lefts[-1] + widths[-1] + GAP
    texts = [
        [
            [line for text in cell.lines for line in wrapped(text, width, font)]
            for cell, width in zip(row, widths, strict=True)
        ]
        for row in what.rows
    ]
    heights = [max(sides) + 6 + LINE * max(map(len, row)) + GAP for row in texts]
    below = wrapped(footer, total - 2 * GAP, font)
    head = GAP + LINE + 8
    sheet = Image.new('RGB', (total, head + sum(heights) + LINE * len(below) + GAP), 'white')
    pen = ImageDraw.Draw(sheet)
    for c, (x, title) in enumerate(
        zip(
            lefts,
            ['image', *(f'view {i + 1}, {v.size} px' for i, v in enumerate(what.views))],
            strict=True,
        )
    ):
        if c:
            pen.rectangle((x, GAP + 2, x + 10, GAP + 12), fill=COLOURS[(c - 1) % len(COLOURS)])
        pen.text((x + (16 if c else 0), GAP - 2), title, fill='black', font=bold)
    y = head
    for row, lines, boxes, height in zip(what.rows, texts, what.boxes, heights, strict=True):
        for c, (cell, x, side) in enumerate(zip(row, lefts, sides, strict=True)):
            picture = fitted(cell.image, side)
            if not c:
                framed(picture, cell.image.size, boxes)
            sheet.paste(picture, (x, y))
            for i, line in enumerate(lines[c]):
                # Under its own picture: a small view has its text close to it.
                pen.text((x, y + picture.height + 4 + i * LINE), line, fill='black', font=font)
        y += height
    for line in below:
        pen.text((GAP, y), line, fill='#444444', font=font)
        y += LINE
    return sheet


def fitted(image: Image.Image, side: int) -> Image.Image:
    """A copy whose longer side has so many pixels; enlarged, each pixel stays a rectangle of one colour."""
    scale = side / max(image.size)
    size = tuple(max(round(s * scale), 1) for s in image.size)
    return image.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BICUBIC)


def framed(
    picture: Image.Image, size: tuple[int, int], boxes: list[tuple[int, int, int, int]]
) -> None:
    """Draw the crops of an image of ``size`` = (width, height) pixels on its picture."""
    pen = ImageDraw.Draw(picture)
    for i, (left, top, right, bottom) in enumerate(boxes):
        (x0, x1), (y0, y1) = (
            (round(a * shown / full), round(b * shown / full) - 1)
            for a, b, shown, full in (
                (left, right, picture.width, size[0]),
                (top, bottom, picture.height, size[1]),
            )
        )
        pen.rectangle(
            (x0, y0, max(x1, x0), max(y1, y0)), outline=COLOURS[i % len(COLOURS)], width=2
        )


def wrapped(text: str, width: int, font) -> list[str]:
    """The text in lines of at most ``width`` pixels, broken at spaces, and within words that are longer."""
    lines, indent = [''], len(text) - len(text.lstrip())
    for word in text.split():
        joined = f'{lines[-1]} {word}' if lines[-1].strip() else ' ' * indent + word
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1].strip():
            lines.append('')
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > width:
                lines.append('')
            lines[-1] += character
    return lines


def save(settings, out: Path, first: int, images: int, epoch: int, config: str) -> None:
    """Write the picture to ``out`` and say so. Arguments as of ``shown``; ``config`` is what the footer calls the settings.

    Raises:
        ConfigError: see ``shown``; a file that is no .png, or that cannot be written.
    """
    if out.suffix.lower() != '.png':
        raise ConfigError(
            f'the picture would be {out}, but it must be a .png file, such as views.png'
        )
    what = shown(settings, first, images, epoch)
    sheet = draw(
        what,
        f'{config}, seed {settings.seed}, epoch {epoch}. Views as the network sees them, before normalisation; frames: '
        f'their crops; what was done, in its order, below each.',
    )
    try:
        atomic_write(out, lambda file: sheet.save(file, format='png'))
    except OSError as error:
        raise ConfigError(f'could not write {out}: {error}; choose another --out') from None
    count = len(what.rows)
    print(
        f'{count} image{"s" * (count > 1)} with {len(what.views)} views each, {sheet.width} x {sheet.height} pixels: {out}'
    )
