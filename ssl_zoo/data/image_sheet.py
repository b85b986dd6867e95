"""A sheet of images in rows and columns, with titles, captions and frames, drawn with PIL alone."""

import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ssl_zoo.data.decode import open_image
from ssl_zoo.errors import UnreadableImage
from ssl_zoo.storage.atomic import atomic_write

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

CAPTION_OFFSET = 4  # pixels between an image and its caption
CAPTION_PADDING = 6  # pixels added to the height of a row with captions
SWATCH_SIDE = 10
SIGN_WIDTH = 12
FRAME_WIDTH = 2
DASH = 5  # pixels of a line of a dashed frame, and of the space after it
ROW_BOTTOMS_KEY = 'row_bottoms'  # key of the PNG text chunk that `crop_rows` reads


@dataclass(frozen=True)
class Frame:
    """A frame around an image, and a sign before its caption.

    Attributes:
        colour: colour of frame and sign, such as '#0072b2'.
        dashed: whether the frame is a dashed line.
        sign: 'tick', 'cross' or '' for none.
    """

    colour: str
    dashed: bool = False
    sign: str = ''


@dataclass(frozen=True)
class SheetColumn:
    """A column of a sheet.

    Attributes:
        title: text above the column.
        side: length of the longer side of its images, in pixels.
        width: smallest width of the column in pixels, as room for captions.
        indent: additional pixels to the left of the column.
        swatch: colour of a small square before the title, '' for none.
    """

    title: str
    side: int
    width: int = 0
    indent: int = 0
    swatch: str = ''


@dataclass(frozen=True)
class SheetCell:
    """An image of a sheet.

    Attributes:
        image: any size; the sheet scales it to the side of its column.
        caption: lines of text below the image; the sheet wraps them to the width of the column.
        frame: drawn around the image, None for no frame.
    """

    image: Image.Image
    caption: list[str] = field(default_factory=list)
    frame: Frame | None = None


@dataclass
class ImageSheet:
    """A sheet of images.

    Attributes:
        columns: titles and sizes of the columns.
        rows: the cells; each row has one cell per column.
        footer: text below the last row; '' for none.
        gap: pixels between cells and around them.
        head: height of the titles in pixels.
        font_size: size of captions and footer; the size of titles is 2 larger.
    """

    columns: list[SheetColumn]
    rows: list[list[SheetCell]]
    footer: str = ''
    gap: int = 4
    head: int = 16
    font_size: int = 10

    @cached_property
    def _font(self) -> Font:
        return ImageFont.load_default(self.font_size)

    @property
    def _line_height(self) -> int:
        return self.font_size + 4

    @cached_property
    def _widths(self) -> list[int]:
        return [max(column.side, column.width) for column in self.columns]

    @cached_property
    def _lefts(self) -> list[int]:
        lefts = []
        x = self.gap
        for column, width in zip(self.columns, self._widths, strict=True):
            x += column.indent
            lefts.append(x)
            x += width + self.gap
        return lefts

    @cached_property
    def _captions(self) -> list[list[list[str]]]:
        """Wrapped lines of every cell, by row and column."""
        captions: list[list[list[str]]] = []
        for row in self.rows:
            captions.append([])
            for cell, width in zip(row, self._widths, strict=True):
                room = width - SIGN_WIDTH if _has_sign(cell) else width
                lines = [line for text in cell.caption for line in wrap(text, room, self._font)]
                captions[-1].append(lines)
        return captions

    @cached_property
    def _footer_lines(self) -> list[str]:
        if not self.footer:
            return []
        return wrap(self.footer, self.width - 2 * self.gap, self._font)

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self._lefts[-1] + self._widths[-1] + self.gap

    @property
    def height(self) -> int:
        """Height in pixels."""
        bottom = self.row_bottoms[-1]
        if self._footer_lines:
            bottom += len(self._footer_lines) * self._line_height + self.gap
        return bottom

    @cached_property
    def row_bottoms(self) -> list[int]:
        """Distance of each row's end from the top of the sheet, in pixels."""
        bottoms = []
        y = self.head + self.gap
        side = max(column.side for column in self.columns)
        for captions in self._captions:
            y += side + self.gap
            lines = max(map(len, captions))
            if lines:
                y += CAPTION_PADDING + lines * self._line_height
            bottoms.append(y)
        return bottoms

    def cell_position(self, row: int, column: int) -> tuple[int, int]:
        """Return (x, y) of the upper left pixel of an image."""
        y = self.row_bottoms[row - 1] if row else self.head + self.gap
        return self._lefts[column], y

    def draw(self) -> Image.Image:
        """Return the sheet as an RGB image."""
        sheet = Image.new('RGB', (self.width, self.height), 'white')
        pen = ImageDraw.Draw(sheet)
        for x, column in zip(self._lefts, self.columns, strict=True):
            self._draw_title(pen, x, column)
        for row, cells in enumerate(self.rows):
            for i in range(len(cells)):
                self._draw_cell(sheet, pen, row, i)
        y = self.row_bottoms[-1]
        for line in self._footer_lines:
            pen.text((self.gap, y), line, fill='#444444', font=self._font)
            y += self._line_height
        return sheet

    def _draw_title(self, pen: ImageDraw.ImageDraw, x: int, column: SheetColumn) -> None:
        y = self.gap // 2
        font = ImageFont.load_default(self.font_size + 2)
        if column.swatch:
            top = y + 4
            box = (x, top, x + SWATCH_SIDE, top + SWATCH_SIDE)
            pen.rectangle(box, fill=column.swatch)
            x += SWATCH_SIDE + 6
        pen.text((x, y), column.title, fill='black', font=font)

    def _draw_cell(
        self, sheet: Image.Image, pen: ImageDraw.ImageDraw, row: int, column: int
    ) -> None:
        cell = self.rows[row][column]
        x, y = self.cell_position(row, column)
        image = fit(cell.image, self.columns[column].side)
        sheet.paste(image, (x, y))
        if cell.frame:
            box = (x, y, x + image.width - 1, y + image.height - 1)
            _draw_frame(pen, box, cell.frame)
        # The caption is close to its own image, however high the row is.
        y += image.height + CAPTION_OFFSET
        if _has_sign(cell):
            _draw_sign(pen, x, y + 2, cell.frame)
            x += SIGN_WIDTH
        for line in self._captions[row][column]:
            pen.text((x, y), line, fill='black', font=self._font)
            y += self._line_height

    def save_png(self, path: Path) -> None:
        """Write the sheet and, in a text chunk for ``crop_rows``, the ends of its rows.

        Raises:
            OSError: the file cannot be written.
        """
        facts = PngInfo()
        facts.add_text(ROW_BOTTOMS_KEY, json.dumps(self.row_bottoms))
        sheet = self.draw()

        def write(file: BinaryIO) -> None:
            sheet.save(file, format='png', pnginfo=facts)

        atomic_write(path, write, start=b'\x89PNG')


def crop_rows(path: Path, rows: int) -> Image.Image:
    """Return the titles and the first rows of a PNG file that ``ImageSheet.save_png`` wrote.

    Args:
        path: the file. A PNG without the ends of its rows is returned whole.
        rows: number of rows; a sheet with fewer rows is returned whole.

    Raises:
        OSError: the file cannot be read, or is no image.
    """
    try:
        with open_image(path, ['PNG']) as sheet:
            image = sheet.convert('RGB')
            bottoms = json.loads(sheet.info.get(ROW_BOTTOMS_KEY, '[]'))
    except UnreadableImage as error:
        raise OSError(str(error)) from None
    if rows >= len(bottoms):
        return image
    return image.crop((0, 0, image.width, bottoms[rows - 1]))


def as_jpeg(image: Image.Image, longest_side: int = 840) -> bytes:
    """Return an image as a JPEG file, made smaller if a side is longer than ``longest_side``."""
    image = image.copy()
    image.thumbnail((longest_side, longest_side))
    file = io.BytesIO()
    image.save(file, 'jpeg', quality=80, optimize=True)
    return file.getvalue()


def fit(image: Image.Image, side: int) -> Image.Image:
    """Return a copy whose longer side has ``side`` pixels.

    An enlarged image shows each pixel as a rectangle of one colour.
    """
    scale = side / max(image.size)
    width = max(round(image.width * scale), 1)
    height = max(round(image.height * scale), 1)
    resampling = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BICUBIC
    return image.resize((width, height), resampling)


def wrap(text: str, width: int, font: Font) -> list[str]:
    """Return text in lines of at most ``width`` pixels.

    Lines break at spaces, and within words that are longer than a line. The first line keeps the
    spaces that the text begins with.
    """
    indent = len(text) - len(text.lstrip())
    lines = ['']
    for word in text.split():
        if lines[-1].strip():
            extended_line = f'{lines[-1]} {word}'
        else:
            extended_line = ' ' * indent + word
        if font.getlength(extended_line) <= width:
            lines[-1] = extended_line
            continue
        if lines[-1].strip():
            lines.append('')
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > width:
                lines.append('')
            lines[-1] += character
    return lines


def _has_sign(cell: SheetCell) -> bool:
    return cell.frame is not None and cell.frame.sign != ''


def _draw_frame(
    pen: ImageDraw.ImageDraw, image_box: tuple[int, int, int, int], frame: Frame
) -> None:
    left, top, right, bottom = image_box
    left -= FRAME_WIDTH
    top -= FRAME_WIDTH
    right += FRAME_WIDTH
    bottom += FRAME_WIDTH
    if not frame.dashed:
        pen.rectangle((left, top, right, bottom), outline=frame.colour, width=FRAME_WIDTH)
        return
    for start in range(left, right, 2 * DASH):
        stop = min(start + DASH, right)
        for y in (top, bottom - 1):
            pen.line((start, y, stop, y), frame.colour, FRAME_WIDTH)
    for start in range(top, bottom, 2 * DASH):
        stop = min(start + DASH, bottom)
        for x in (left, right - 1):
            pen.line((x, start, x, stop), frame.colour, FRAME_WIDTH)


def _draw_sign(pen: ImageDraw.ImageDraw, x: int, y: int, frame: Frame) -> None:
    if frame.sign == 'tick':
        points = (x, y + 5, x + 3, y + 8, x + 8, y + 1)
        pen.line(points, frame.colour, FRAME_WIDTH, joint='curve')
        return
    pen.line((x + 1, y + 1, x + 8, y + 8), frame.colour, FRAME_WIDTH)
    pen.line((x + 8, y + 1, x + 1, y + 8), frame.colour, FRAME_WIDTH)
