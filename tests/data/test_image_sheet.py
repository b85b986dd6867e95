"""ssl_zoo/data/image_sheet.py: cells are where the sheet says, lines fit, rows can be cut off."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from ssl_zoo.data.image_sheet import (
    Frame,
    ImageSheet,
    SheetCell,
    SheetColumn,
    as_jpeg,
    crop_rows,
    fit,
    wrap,
)

pytestmark = pytest.mark.quick

SIDE = 20
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


@pytest.fixture
def sheet():
    """Three rows of two images of one colour each, the second with a caption and a frame."""
    columns = [SheetColumn('left', SIDE), SheetColumn('right', SIDE, width=40, indent=7)]
    rows = [
        [
            SheetCell(Image.new('RGB', (2, 2), colour)),
            SheetCell(
                Image.new('RGB', (40, 20), colour), ['a line'], Frame('#0072b2', sign='tick')
            ),
        ]
        for colour in COLOURS
    ]
    return ImageSheet(columns, rows, 'footer')


def test_every_image_is_where_the_sheet_says(sheet):
    pixels = np.asarray(sheet.draw())
    assert pixels.shape == (sheet.height, sheet.width, 3)
    for row, colour in enumerate(COLOURS):
        x, y = sheet.cell_position(row, 0)
        assert (pixels[y : y + SIDE, x : x + SIDE] == colour).all()
        x, y = sheet.cell_position(row, 1)
        assert (pixels[y : y + SIDE // 2, x : x + SIDE] == colour).all()
        assert tuple(pixels[y - 1, x]) == tuple(pixels[y + SIDE // 2, x - 2]) == (0, 114, 178)


def test_a_sheet_without_captions_has_a_constant_step():
    cell = SheetCell(Image.new('RGB', (1, 1)))
    sheet = ImageSheet([SheetColumn('', 112)] * 3, [[cell] * 3] * 8)
    assert (sheet.width, sheet.height) == (3 * 116 + 4, 16 + 8 * 116 + 4)
    assert [sheet.cell_position(row, 1) for row in (0, 1)] == [(4 + 116, 20), (4 + 116, 136)]


def test_rows_are_cut_off_where_the_file_says(sheet, tmp_path):
    path = tmp_path / 'sheet.png'
    sheet.save_png(path)
    whole = np.asarray(sheet.draw())
    first_two = np.asarray(crop_rows(path, 2))
    assert len(first_two) == sheet.row_bottoms[1] == sheet.cell_position(2, 0)[1]
    assert np.array_equal(first_two, whole[: len(first_two)])
    assert np.array_equal(crop_rows(path, 3), whole)
    sheet.draw().save(tmp_path / 'silent.png')
    assert np.array_equal(crop_rows(tmp_path / 'silent.png', 2), whole)


def test_a_dashed_frame_has_gaps_and_a_cross_differs_from_a_tick():
    def frame_pixels(frame):
        cell = SheetCell(Image.new('RGB', (1, 1), 'white'), ['x'], frame)
        pixels = np.asarray(ImageSheet([SheetColumn('', 30)], [[cell]]).draw()).astype(int)
        return (np.abs(pixels - (213, 94, 0)).sum(2) == 0).sum()

    whole = frame_pixels(Frame('#d55e00'))
    assert whole == 34**2 - 30**2
    assert 0.3 * whole < frame_pixels(Frame('#d55e00', dashed=True)) < 0.8 * whole
    signs = {frame_pixels(Frame('#d55e00', sign=sign)) for sign in ('', 'tick', 'cross')}
    assert len(signs) == 3


def test_an_enlarged_image_keeps_its_pixels_as_rectangles():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    enlarged = np.asarray(fit(Image.fromarray(pixels), 6))
    assert np.array_equal(enlarged, pixels.repeat(3, 0).repeat(3, 1))
    assert fit(Image.new('RGB', (100, 1)), 10).size == (10, 1)


def test_a_jpeg_is_made_smaller_to_its_longest_side():
    content = as_jpeg(Image.new('RGB', (100, 50)), longest_side=40)
    assert content[:2] == b'\xff\xd8' and content.endswith(b'\xff\xd9')


def test_lines_fit_their_columns():
    font = ImageFont.load_default(13)
    lines = wrap('  ' + 'folder/' * 20 + 'photo.jpg of a class', 100, font)
    assert all(font.getlength(line) <= 100 for line in lines) and len(lines) > 5
    assert ''.join(''.join(lines).split()) == 'folder/' * 20 + 'photo.jpgofaclass'
