"""ImageFolder and Images: which files of a folder are images, their labels, their manifest."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.data.sources.folder import ImageFolder, Images

pytestmark = pytest.mark.quick


def test_image_folder(image_folder):
    root = image_folder()
    (root / 'class_1' / 'deep' / 'er').mkdir(parents=True)
    shutil.copy(root / 'class_1' / '0.png', root / 'class_1' / 'deep' / 'er' / 'X.PNG')
    (root / 'class_0' / 'notes.txt').write_text('no image')
    (root / '.hidden').mkdir()
    shutil.copy(root / 'class_1' / '0.png', root / '.hidden' / 'a.png')
    source = ImageFolder(str(root))
    assert source.classes == ['class_0', 'class_1', 'class_2']
    assert np.bincount(source.labels).tolist() == [8, 9, 8]
    assert source.name(16) == 'class_1/deep/er/X.PNG' and source.labels[16] == 1
    assert np.array_equal(
        np.asarray(source.read(0)), np.asarray(Image.open(root / 'class_0' / '0.png'))
    )


def test_images_of_any_nested_folder(image_folder):
    root = image_folder()
    (root / 'loop').symlink_to(root, target_is_directory=True)  # must not be followed for ever
    source = Images(str(root))
    assert len(source) == 24 and source.labels is None and source.classes is None


def test_names_that_are_not_utf8_pipes_and_folders_named_like_images(image_folder):

    root = image_folder(classes=1, per_class=2)
    (root / 'class_0' / os.fsdecode(b'caf\xe9.png')).write_bytes(
        (root / 'class_0' / '0.png').read_bytes()
    )
    os.mkfifo(root / 'class_0' / 'pipe.png')
    (root / 'class_0' / 'folder.png').mkdir()
    source = ImageFolder(str(root))
    assert len(source) == 3 and len(source.manifest()) == 16
    assert all(source.read(i).size == (24, 24) for i in range(3))


def test_the_manifest_names_the_content_not_the_place(image_folder):
    one, two = image_folder(name='here'), image_folder(name='there')
    assert ImageFolder(str(one)).manifest() == ImageFolder(str(two)).manifest()
    (two / 'class_0' / '0.png').rename(two / 'class_0' / 'new.png')
    assert ImageFolder(str(one)).manifest() != ImageFolder(str(two)).manifest()


@pytest.mark.parametrize(
    ('source', 'root', 'words'),
    [
        (
            'ImageFolder',
            'none',
            'looked for class folders with images in .*/none, but that does not exist',
        ),
        ('ImageFolder', 'file', 'is a file'),
        ('ImageFolder', 'empty', 'found 0 folders'),
        ('ImageFolder', 'images/class_0', "without class folders use type='Images'"),
        ('Images', 'empty', 'looked for images .* in .*/empty and below, and found none'),
    ],
)
def test_folders_without_images(tmp_path, image_folder, refusal, source, root, words):
    image_folder()
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').write_text('class_0/0.png\n')
    refusal(dict(type=source, root=str(tmp_path / root)), words)
    assert not (tmp_path / 'none').exists()
