"""The digest of a data set: what changes it, and what a checkpoint says of its training images."""

import os

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.data.data_digest import data_digest, trained_on
from ssl_zoo.data.identity import content_identity
from ssl_zoo.data.sources import build_source

pytestmark = pytest.mark.quick


def test_names_labels_and_files_change_the_digest_and_a_copy_does_not(image_folder):
    root = image_folder(classes=2, per_class=4)
    other_place = image_folder(classes=2, per_class=4, name='copy')

    def digest(folder=root):
        return data_digest(build_source(dict(type='ImageFolder', root=str(folder))))

    before = digest()
    os.utime(other_place / 'class_0/0.png', (0, 0))
    assert digest(other_place) == before
    (root / 'class_0/3.png').rename(root / 'class_1/9.png')  # another label
    labelled = digest()
    assert labelled != before
    Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(root / 'class_0/0.png')  # a smaller file
    assert digest() not in (before, labelled)


def test_a_checkpoint_says_what_the_source_says(image_folder):
    source = build_source(dict(type='ImageFolder', root=str(image_folder())))
    checkpoint = dict(manifest=source.manifest(), data_identity=content_identity(source))
    assert trained_on(checkpoint) == data_digest(source)
    assert trained_on(dict(manifest=source.manifest())) is None
