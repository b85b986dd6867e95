"""Every kind of file gets the treatment a user expects, or is unreadable with a reason."""

import ast
import io
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.data.decode import FORMATS, MAX_PIXELS, read_file, read_image, read_pixels
from ssl_zoo.errors import UnreadableImage

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
COLOUR = np.stack(
    [
        np.linspace(0, 255, 30).astype(np.uint8)[None].repeat(20, 0),
        np.full((20, 30), 90, np.uint8),
        np.linspace(255, 0, 20).astype(np.uint8)[:, None].repeat(30, 1),
    ],
    axis=2,
)


def pixels(path) -> np.ndarray:
    image, data = read_image(path), path.read_bytes()
    assert image.mode == 'RGB'
    for given in (data, np.frombuffer(data, np.uint8)):
        array = read_pixels(given)
        assert (
            array.flags.writeable
            and array.flags.c_contiguous
            and np.array_equal(array, np.asarray(image))
        )
    return array


def test_rgb_and_grayscale(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / 'a.png')
    assert np.array_equal(pixels(tmp_path / 'a.png'), COLOUR)
    Image.fromarray(GRAY).save(tmp_path / 'b.png')
    assert np.array_equal(pixels(tmp_path / 'b.png'), GRAY[..., None].repeat(3, 2))
    Image.fromarray(GRAY > 127).save(tmp_path / 'c.png')
    assert set(np.unique(pixels(tmp_path / 'c.png'))) == {0, 255}


def test_palette_with_and_without_transparency(tmp_path):
    palette = Image.fromarray(COLOUR).quantize(64)
    expected = np.asarray(palette.convert('RGB'))
    palette.save(tmp_path / 'a.png')
    assert np.array_equal(pixels(tmp_path / 'a.png'), expected)
    palette.save(tmp_path / 'b.png', transparency=bytes(range(64)))
    assert np.array_equal(pixels(tmp_path / 'b.png'), expected)


@pytest.mark.parametrize('mode', ['RGBA', 'LA'])
def test_alpha_is_dropped_and_colours_stay(tmp_path, mode):
    image = Image.fromarray(COLOUR if mode == 'RGBA' else GRAY).convert(mode)
    image.putalpha(Image.fromarray(GRAY))
    image.save(tmp_path / 'a.png')
    expected = COLOUR if mode == 'RGBA' else GRAY[..., None].repeat(3, 2)
    assert np.array_equal(pixels(tmp_path / 'a.png'), expected)


def test_cmyk(tmp_path):
    Image.fromarray(COLOUR).convert('CMYK').save(tmp_path / 'a.jpg', quality=95)
    assert np.abs(pixels(tmp_path / 'a.jpg').astype(int) - COLOUR).mean() < 4
    Image.fromarray(COLOUR).convert('CMYK').save(tmp_path / 'a.tif')
    assert np.abs(pixels(tmp_path / 'a.tif').astype(int) - COLOUR).mean() < 1


@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_16_bit_is_scaled_not_clipped(tmp_path, suffix):
    deep = GRAY.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / f'a.{suffix}')
    assert np.array_equal(pixels(tmp_path / f'a.{suffix}'), GRAY[..., None].repeat(3, 2))


def test_32_bit_float_and_integer(tmp_path):
    Image.fromarray((GRAY / 255).astype(np.float32)).save(tmp_path / 'a.tif')
    assert np.array_equal(pixels(tmp_path / 'a.tif')[..., 0], GRAY)
    Image.fromarray(GRAY.astype(np.float32)).save(tmp_path / 'b.tif')
    assert np.array_equal(pixels(tmp_path / 'b.tif')[..., 0], GRAY)
    Image.fromarray(GRAY.astype(np.int32)).save(tmp_path / 'c.tif')
    assert np.array_equal(pixels(tmp_path / 'c.tif')[..., 0], GRAY)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_rotation_comes_out_upright(tmp_path, orientation):
    """The stored pixels are turned so that orientation n brings COLOUR back."""
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turns[orientation](COLOUR))).save(
        tmp_path / 'a.png', exif=exif
    )
    assert np.array_equal(pixels(tmp_path / 'a.png'), COLOUR)


@pytest.mark.parametrize('suffix', ['gif', 'webp', 'png'])
def test_animation_gives_its_first_frame(tmp_path, suffix):
    frames = [Image.new('RGB', (8, 8), colour) for colour in ('red', 'lime', 'blue')]
    frames[0].save(
        tmp_path / f'a.{suffix}',
        save_all=True,
        append_images=frames[1:],
        **({'lossless': True} if suffix == 'webp' else {}),
    )
    with Image.open(tmp_path / f'a.{suffix}') as image:
        assert image.n_frames == 3
    assert pixels(tmp_path / f'a.{suffix}').reshape(-1, 3).tolist() == [[255, 0, 0]] * 64


def test_wide_ranges_are_scaled_and_holes_do_not_blacken(tmp_path):
    values = GRAY.astype(np.float32) / 255
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / 'a.tif')
    assert np.array_equal(pixels(tmp_path / 'a.tif')[1:, :, 0], GRAY[1:])
    Image.fromarray(GRAY.astype(np.int32) * 10_000).save(tmp_path / 'b.tif')
    assert (
        np.abs(pixels(tmp_path / 'b.tif')[..., 0].astype(int) - GRAY * (255 / GRAY.max())).max()
        <= 1
    )


def test_lab_is_refused(tmp_path):
    Image.new('LAB', (8, 8), (50, 0, 0)).save(tmp_path / 'a.tif')
    with pytest.raises(UnreadableImage, match='LAB'):
        read_image(tmp_path / 'a.tif')


def test_truncated_damaged_empty_and_missing_files_are_unreadable(tmp_path):
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for suffix in ('jpg', 'png'):
        Image.fromarray(noise).save(tmp_path / f'whole.{suffix}')
        data = (tmp_path / f'whole.{suffix}').read_bytes()
        (tmp_path / f'half.{suffix}').write_bytes(data[: len(data) // 2])
        with pytest.raises(UnreadableImage, match='truncated'):
            read_image(tmp_path / f'half.{suffix}')
    (tmp_path / 'text.jpg').write_text('not an image')
    (tmp_path / 'empty.jpg').write_bytes(b'')
    for name, reason in (
        ('text.jpg', 'UnidentifiedImageError'),
        ('empty.jpg', 'UnidentifiedImageError'),
        ('none.jpg', 'FileNotFoundError'),
    ):
        with pytest.raises(UnreadableImage, match=reason):
            read_image(tmp_path / name)


@pytest.mark.parametrize('orientation', [*range(1, 9), 0, 9])
@pytest.mark.parametrize('kind', ['RGB', 'L', 'CMYK'])
def test_jpeg_files_without_pillow_give_pillows_pixels(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for i, options in enumerate(
        (
            dict(),
            dict(progressive=True),
            dict(subsampling=0),
            dict(subsampling='4:2:2'),
            dict(quality=20),
            dict(exif=exif),
            dict(exif=exif, comment=b'words'),
            dict(icc_profile=b'x' * 70_000),
        )
    ):
        if kind != 'RGB':
            options.pop('subsampling', None)
        Image.fromarray(COLOUR).resize((37, 21)).convert(kind).save(
            tmp_path / f'{i}.jpg', **options
        )
        turned = 'exif' in options and orientation >= 5 and orientation < 9
        assert pixels(tmp_path / f'{i}.jpg').shape == ((37, 21, 3) if turned else (21, 37, 3))


def test_tags_behind_the_frame_header_turn_the_image_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(tmp_path / 'a.jpg', exif=exif)
    data = (tmp_path / 'a.jpg').read_bytes()
    start = data.index(b'\xff\xe1')
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4])
    tags, rest = data[start:end], data[:start] + data[end:]
    frame = rest.index(b'\xff\xc0')
    behind = frame + 2 + int.from_bytes(rest[frame + 2 : frame + 4])
    (tmp_path / 'b.jpg').write_bytes(rest[:behind] + tags + rest[behind:])
    assert pixels(tmp_path / 'b.jpg').shape == (30, 20, 3)


def test_which_jpeg_files_do_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr('ssl_zoo.data.decode.read_image', lambda *_: pytest.fail('went to Pillow'))
    Image.fromarray(COLOUR).save(tmp_path / 'a.jpg')
    data = (tmp_path / 'a.jpg').read_bytes()
    assert read_pixels(data).shape == COLOUR.shape
    for other in (b'', b'\xff\xd8\xff', data[:40], data[:-20], b'\x00' + data):
        with pytest.raises(pytest.fail.Exception):
            read_pixels(other)


def test_damaged_jpeg_files_are_what_they_are_to_pillow(tmp_path):
    """read_pixels reads the files that Pillow reads and refuses the others; equal pixels."""
    rng, counts = np.random.default_rng(3), dict(read=0, unreadable=0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(600):
        file = tmp_path / 'a.jpg'
        Image.fromarray(COLOUR).save(
            file, progressive=bool(i % 2), **(dict(exif=exif) if i % 3 == 0 else {})
        )
        data = np.fromfile(file, np.uint8)
        if i % 5 == 0:
            data = data[: rng.integers(1, len(data))]
        for at in rng.integers(0, len(data) if i % 2 else min(len(data), 200), rng.integers(1, 4)):
            data[at] = rng.integers(0, 256)
        try:
            expected = np.asarray(read_image(io.BytesIO(data.tobytes())))
        except UnreadableImage:
            counts['unreadable'] += 1
            with pytest.raises(UnreadableImage):
                read_pixels(data)
            continue
        counts['read'] += 1
        assert np.array_equal(read_pixels(data), expected), i
    assert min(counts.values()) > 50, counts


def test_damaged_bytes_never_raise_anything_else(tmp_path):
    """Random damage to real files either still decodes or is UnreadableImage."""
    noise = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    tried = unreadable = 0
    for suffix in ('jpg', 'png', 'gif', 'tif', 'webp', 'bmp'):
        Image.fromarray(noise).save(tmp_path / f'whole.{suffix}')
        data = np.frombuffer((tmp_path / f'whole.{suffix}').read_bytes(), np.uint8)
        for _ in range(60):
            broken = data.copy()
            broken[RNG.integers(0, min(len(data), 300), 8)] = RNG.integers(0, 256, 8)
            (tmp_path / f'broken.{suffix}').write_bytes(broken.tobytes())
            tried += 1
            try:
                read_image(tmp_path / f'broken.{suffix}')
            except UnreadableImage:
                unreadable += 1
    assert 0 < unreadable < tried


# --- Files that are made to do harm.


def test_postscript_is_no_image_under_any_name(tmp_path):
    file = tmp_path / 'x.jpg'
    file.write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n')
    assert Image.open(file).format == 'EPS'  # Pillow alone would hand it to Ghostscript
    for read in (read_image, lambda path: read_pixels(path.read_bytes(), path)):
        with pytest.raises(UnreadableImage, match='UnidentifiedImageError.*x.jpg'):
            read(file)


@pytest.mark.parametrize('name', sorted(set(FORMATS) - {'HEIF'}))
def test_every_named_format_is_read(name):
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, name)
    assert read_pixels(file.getvalue()).shape == COLOUR.shape


def opens_of_pillow(code):
    """Lines of the calls of PIL.Image.open, and of imports that hide them."""
    lines = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and node.attr == 'open':
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, 'id', None)
            if name in ('Image', 'ImageFile'):
                lines.append(node.lineno)
        if isinstance(node, ast.ImportFrom) and node.module in ('PIL.Image', 'PIL.ImageFile'):
            lines.append(node.lineno)
        if isinstance(node, ast.ImportFrom | ast.Import):
            renamed = {alias.name for alias in node.names if alias.asname}
            if renamed & {'PIL', 'PIL.Image', 'Image'}:
                lines.append(node.lineno)
    return lines


def test_one_function_opens_images(root):
    found = []
    for folder in ('ssl_zoo', 'methods', 'tools', 'configs', 'docs'):
        for path in sorted(Path(root, folder).rglob('*.py')):
            found += [path.relative_to(root).as_posix()] * len(opens_of_pillow(path.read_text()))
    for path in [*Path(root, 'docs').rglob('*.md'), Path(root, 'README.md')]:
        for block in re.findall(r'```python\n(.*?)```', path.read_text(), re.DOTALL):
            assert 'Image.open(' not in block, path
    assert found == ['ssl_zoo/data/decode.py']
    assert opens_of_pillow('import PIL.Image\nPIL.Image.open(x)') == [2]
    assert opens_of_pillow('from PIL.Image import open as o') == [1]
    assert opens_of_pillow('from PIL import Image as I\nI.open(x)') == [1]


def flat_png(width, height, bits, colour, channels, rows=None):
    """A black PNG, compressed a thousandfold; it may hold fewer rows than its header claims."""

    def chunk(name, content):
        checksum = struct.pack('>I', zlib.crc32(name + content))
        return struct.pack('>I', len(content)) + name + content + checksum

    compressor = zlib.compressobj(9)
    row = bytes(1 + width * channels * bits // 8)
    content = b''.join(compressor.compress(row) for _ in range(rows or height)) + compressor.flush()
    header = struct.pack('>IIBBBBB', width, height, bits, colour, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', content)
        + chunk(b'IEND', b'')
    )


def claiming_jpeg(width, height):
    """A JPEG of 16 x 16 pixels whose header claims another size."""
    file = io.BytesIO()
    Image.new('RGB', (16, 16)).save(file, 'JPEG')
    data = bytearray(file.getvalue())
    start = data.index(b'\xff\xc0')
    data[start + 5 : start + 9] = struct.pack('>HH', height, width)
    return bytes(data)


@pytest.mark.parametrize(
    'data',
    [
        claiming_jpeg(13000, 13000),
        flat_png(13000, 13000, 16, 0, 1, rows=1),
        claiming_jpeg(60000, 60000),
    ],
    ids=['jpeg', '16-bit png', 'above the limit of Pillow'],
)
def test_an_image_of_too_many_pixels_is_unreadable(data):
    words = r'00,000 pixels, more than data.max_pixels=128,000,000; .* raise data.max_pixels'
    for read in (read_pixels, lambda data: read_image(io.BytesIO(data))):
        with pytest.raises(UnreadableImage, match=words):
            read(data)


def test_the_limit_is_an_option_and_counts_pixels():
    data = flat_png(300, 200, 8, 2, 3)
    assert read_pixels(data, max_pixels=60_000).shape == (200, 300, 3)
    with pytest.raises(UnreadableImage, match='300 x 200 are 60,000 pixels, more than .*=59,999'):
        read_pixels(data, max_pixels=59_999)
    assert MAX_PIXELS > 12_032 * 9_024  # cameras of 108 million pixels


def test_a_raised_limit_goes_beyond_that_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1_000)
    data = flat_png(300, 200, 8, 2, 3)
    with pytest.raises(UnreadableImage, match='60,000 pixels, more than data.max_pixels=50,000'):
        read_pixels(data, max_pixels=50_000)
    assert read_pixels(data, max_pixels=60_000).shape == (200, 300, 3)


def memory_of_16_bit_png(side):
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_decode import flat_png, read_pixels
data = flat_png({side}, {side}, 16, 0, 1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_pixels(data)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    return int(subprocess.run([sys.executable, '-c', code], capture_output=True, check=True).stdout)


def test_16_bits_take_no_more_memory_than_their_pixels():
    side = 3000
    kib = memory_of_16_bit_png(side)
    # 16 bits, 8 bits, Pillow's RGB in 4 bytes, the array of 3 bytes; float64 took 27 and more.
    assert kib * 1024 < 14 * side**2


@pytest.mark.parametrize('dtype', [np.uint16, np.int32, np.float32])
def test_blocks_of_rows_give_what_the_whole_image_gives(dtype):
    values = RNG.integers(0, 65536, (1200, 1100)).astype(dtype)
    values[:2] = np.linspace(0, 65535, 2200).reshape(2, -1).astype(dtype)
    if dtype == np.float32:
        values = values / 70000
        values[7, :3] = [np.nan, -np.inf, -1]
    whole = np.nan_to_num(values.astype(np.float64))
    largest = next(v for v in (1, 255, 65535) if whole.max() <= v)
    expected = (whole.clip(0, largest) * (255 / largest)).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, 'TIFF')
    assert np.array_equal(read_pixels(file.getvalue()), expected[..., None].repeat(3, 2))


def test_the_size_of_a_file_is_checked_before_it_is_read(tmp_path):
    with open(tmp_path / 'x.jpg', 'wb') as file:
        file.truncate(1 << 40)  # sparse: no disk is used
    with pytest.raises(UnreadableImage, match='1,099,511,627,776 bytes, more than .*max_pixels'):
        read_file(tmp_path / 'x.jpg')
    (tmp_path / 'y.jpg').write_bytes(b'12345')
    assert read_file(tmp_path / 'y.jpg', max_pixels=1).tobytes() == b'12345'
    os.mkfifo(tmp_path / 'pipe.jpg')
    for name, words in (('pipe.jpg', 'not a regular file'), ('none.jpg', 'FileNotFoundError')):
        with pytest.raises(UnreadableImage, match=words):
            read_file(tmp_path / name)
    with pytest.raises(UnreadableImage):
        read_file(tmp_path)
    with pytest.raises(UnreadableImage, match='null'):
        read_file(str(tmp_path / 'a\0b.jpg'))
