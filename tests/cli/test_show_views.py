"""tools/show_views.py shows the very views of the training, and the numbers drawn for them."""

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.build import build_method
from ssl_zoo.cli import show_views
from ssl_zoo.data.crop import crop_box
from ssl_zoo.data.loader import train_loader
from ssl_zoo.data.splits import data_sources
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import COLUMN, JITTER_ORDERS, PARAMS
from ssl_zoo.reports.views_sheet import (
    CROP_COLOURS,
    IMAGE_SIDE,
    describe_params,
    make_views,
    views_sheet,
)


@pytest.fixture
def tool(capsys):
    """Function: the command's main in this process; exit code, stdout, stderr."""

    def run(*arguments):
        code = show_views.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def trained_on(settings, image, epoch):
    """The views of an image in an epoch of training: for each (3, H, W) uint8 and its numbers."""
    source = data_sources(settings.data)['train']
    method = build_method(settings)
    first = epoch * len(source) // settings.batch_size
    for batch in train_loader(
        ViewDataset(source, settings.build_views(), settings.seed),
        settings.batch_size,
        None,
        first,
        first + 20,
    ):
        if image in batch['index'].tolist():
            k = batch['index'].tolist().index(image)
            views = method.data_preprocessor(batch)['views']
            mean, std = (
                torch.tensor(v).view(3, 1, 1) for v in (settings.data.mean, settings.data.std)
            )
            return [((v[k] * std + mean) * 255).round().byte() for v in views], [
                p[k].numpy() for p in batch['params']
            ]


def pasted(sheet, pixels, scale):
    """Whether the picture holds (3, H, W) pixels, each as a square of scale x scale."""
    wanted = np.repeat(np.repeat(pixels.permute(1, 2, 0).numpy(), scale, 0), scale, 1)
    h, w = wanted.shape[:2]
    corners = np.argwhere((sheet == wanted[0, 0]).all(2))
    return any(
        sheet[y : y + h, x : x + w].shape == wanted.shape
        and (sheet[y : y + h, x : x + w] == wanted).all()
        for y, x in corners
    )


SMALL = dict(size=12, crop=(0.05, 0.3), flip_p=0.5, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8)


@pytest.mark.long
@pytest.mark.parametrize('held_out', [True, False])
def test_the_views_are_those_of_the_training(held_out, tiny):
    method = dict(
        type='SwAV', backbone=tiny().method['backbone'], hidden_dim=16, proj_dim=8, prototypes=8
    )
    data = dict(
        train=dict(type='Digits', split='val'),
        val=40,
        train_on_val=not held_out,
        mean=[0.4, 0.5, 0.6],
        std=[0.2, 0.3, 0.4],
    )
    settings = tiny(method=method, views=[*tiny().views, SMALL], data=data, seed=3)
    expected, params = trained_on(settings, 17, 1)
    images = make_views(settings, first=16, images=3, epoch=1)
    for shown in images:
        assert shown.image.image.size == (32, 32)
        assert [cell.image.size for cell in shown.views] == [(20, 20), (20, 20), (12, 12)]
    for cell, pixels, numbers in zip(images[1].views, expected, params, strict=True):
        assert (np.asarray(cell.image) == pixels.permute(1, 2, 0).numpy()).all()
        assert cell.caption == describe_params(numbers, 32, 32)
    assert images[1].image.caption[0] == f'image 17 of {140 if held_out else 180}'
    assert images[1].crop_boxes == [crop_box(numbers, 32, 32) for numbers in params]
    sheet = np.asarray(views_sheet(settings.build_views(), images, 'footer').draw())
    assert all(pasted(sheet, pixels, IMAGE_SIDE // 20) for pixels in expected)
    assert not pasted(sheet, 255 - expected[0], IMAGE_SIDE // 20)
    [in_another_epoch] = make_views(settings, 17, 1, epoch=0)
    for a, b in zip(images[1].views, in_another_epoch.views, strict=True):
        assert (np.asarray(a.image) != np.asarray(b.image)).any()


def test_images_held_on_the_device(tiny):
    data = dict(train=dict(type='Digits', split='val'), val=40, mean=[0.5] * 3, std=[0.5] * 3)
    on_device, loaded = (
        make_views(tiny(data=dict(data, on_device=on_device)), images=2)[1]
        for on_device in (True, False)
    )
    for a, b in zip(on_device.views, loaded.views, strict=True):
        assert a.caption == b.caption
        assert np.abs(np.asarray(a.image, int) - np.asarray(b.image, int)).mean() < 1


def test_what_was_done_is_said_in_its_order():
    numbers = dict(
        area=0.25,
        ratio=1.0,
        top=0.0,
        left=0.999,
        flip=1,
        order=np.argmax((JITTER_ORDERS == [3, 1, 0, 2]).all(1)),
        brightness=0.75,
        contrast=1.25,
        saturation=1.0,
        hue=-0.05,
        gray=1,
        sigma=1.5,
        solarize=1,
    )
    params = np.array([numbers[name] for name in PARAMS], dtype=np.float32)
    assert describe_params(params, 100, 200) == [
        'crop 71 x 71 at (129, 0)',
        '  25.2 % of the area',
        'mirrored',
        'hue -0.050 turns',
        'contrast x 1.25',
        'brightness x 0.75',
        'grayscale',
        'blur, sigma 1.50 px',
        'solarized',
    ]
    for name in ('flip', 'gray', 'sigma', 'solarize'):
        params[COLUMN[name]] = 0
    params[COLUMN['order']] = -1
    assert describe_params(params, 100, 200) == ['crop 71 x 71 at (129, 0)', '  25.2 % of the area']


def test_frames_show_the_crops(tiny):
    settings = tiny()
    images = make_views(settings, images=1)
    sheet = np.asarray(views_sheet(settings.build_views(), images, '').draw())
    # The frame of the last view lies on top.
    colour = [int(CROP_COLOURS[1][k : k + 2], 16) for k in (1, 3, 5)]
    y, x = np.nonzero((sheet[37 : 37 + IMAGE_SIDE, 12 : 12 + IMAGE_SIDE] == colour).all(2))
    frame = (x.min() / 7, y.min() / 7, (x.max() + 1) / 7, (y.max() + 1) / 7)
    assert frame == images[0].crop_boxes[1]


def test_an_image_that_cannot_be_read_is_replaced_and_named(tiny, image_folder):
    root = image_folder(classes=2, per_class=4)
    (root / 'class_0' / '1.png').write_bytes(b'broken')
    settings = tiny(data=dict(train=dict(type='ImageFolder', root=str(root))))
    readable, replaced = make_views(settings, images=2)
    assert readable.image.caption[:2] == ['image 0 of 8', 'class_0/0.png']
    assert len(readable.image.caption) == 3
    assert replaced.image.caption[-1] == 'in place of image 1, which cannot be read'
    assert not replaced.image.caption[0].startswith('image 1 ')


def test_the_tool_writes_where_it_says(tool, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = tool(root / 'configs/byol/digits.py', '--images', 1, '--seed', 2)
    assert (
        (code, err) == (0, '')
        and out.startswith('1 image with 2 views each')
        and out.endswith('work_dirs/views/byol_digits.png\n')
    )
    assert Image.open(tmp_path / 'work_dirs/views/byol_digits.png').format == 'PNG'


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--epoch', 30], 'the epoch is 30, but the run has epochs=30; give one from 0 to 29'),
        (['--epoch', -1], 'the epoch is -1'),
        (['--images', 0], 'the number of images is 0, but it must be from 1 to 100'),
        (
            ['--first', 1257],
            'the first image is 1257, but data.train has 1257 images; give one from 0 to 1256',
        ),
        (['--out', 'views.jpg'], 'the picture would be views.jpg, but it must be a .png file'),
        (['--out', '/dev/null/views.png'], 'could not write /dev/null/views.png'),
        (['--cfg-options', 'epoch=3'], "did you mean 'epochs'"),
    ],
)
def test_mistakes(arguments, sentence, tool, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = tool(root / 'configs/byol/digits.py', *arguments)
    assert (code, out) == (2, '') and sentence in err and len(err.splitlines()) == 1, err
