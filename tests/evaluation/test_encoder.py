"""The encoder of a checkpoint, for programs: every kind of input gives the tools' features."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch.utils.data import Dataset

import ssl_zoo
from ssl_zoo.build import load_method
from ssl_zoo.data.sources import Subset
from ssl_zoo.errors import ConfigError, UnreadableImage
from ssl_zoo.evaluation.features import Preprocessing, extract_features
from ssl_zoo.registry import SOURCES
from ssl_zoo.sklearn import Encoder as SklearnEncoder


@pytest.fixture(scope='module')
def checkpoint(train_on_digits):
    return train_on_digits()


@pytest.fixture(scope='module')
def encoder(checkpoint):
    return ssl_zoo.load_encoder(checkpoint)


@pytest.fixture(scope='module')
def digits():
    return Subset(SOURCES.create(dict(type='Digits', split='test', size=8)), np.arange(20))


@pytest.fixture(scope='module')
def pixels(digits):
    return np.stack([digits.pixels(i) for i in range(len(digits))])  # (20, 8, 8, 3) uint8


def test_features_are_those_of_the_tools(checkpoint, encoder, digits):
    method, settings, _ = load_method(checkpoint)
    data = settings.data
    preprocessing = Preprocessing(*settings.eval_geometry(), data.mean, data.std)
    expected = extract_features(method.encoder(), digits, preprocessing)
    found = ssl_zoo.extract_features(encoder, digits)
    assert np.array_equal(found.values, expected.values)
    assert np.array_equal(found.labels, digits.labels) and found.values.shape == (20, 64)


class Torch(Dataset):
    def __init__(self, pixels, labels):
        self.pixels, self.targets = pixels, labels.tolist()

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, i):
        return Image.fromarray(self.pixels[i]), self.targets[i]


def test_every_kind_of_input_gives_the_same_features(encoder, digits, pixels, tmp_path):
    expected = encoder(digits)
    paths = [tmp_path / f'{i}.png' for i in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    dataset = Torch(pixels, digits.labels)
    for images in (
        pixels,
        torch.from_numpy(pixels),
        list(pixels),
        [Image.fromarray(image) for image in pixels],
        [Image.fromarray(image).convert('L') for image in pixels],
        pixels[..., :1],
        torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()),
        paths,
        [str(path) for path in paths],
        dataset,
    ):
        assert np.array_equal(encoder(images), expected)
    for image in (pixels[3], Image.fromarray(pixels[3]), paths[3], pixels[3, :, :, 0]):
        one = encoder(image)
        assert one.shape == (64,)
        np.testing.assert_allclose(one, expected[3], rtol=1e-5, atol=1e-6)
    assert np.array_equal(ssl_zoo.extract_features(encoder, dataset).labels, digits.labels)


def test_in_a_pipeline_of_scikit_learn(checkpoint, digits, pixels):
    model = make_pipeline(SklearnEncoder(checkpoint), LogisticRegression(max_iter=500))
    model.fit(pixels, digits.labels)
    assert model.predict(pixels).shape == (20,)
    assert model.get_params()['encoder__layer'] == 'backbone'


@pytest.mark.parametrize(
    ('images', 'sentence'),
    [
        ([np.zeros((8, 8, 3))], r'array of \(8, 8, 3\) float64, but it must be'),
        ([np.zeros((8, 8, 4), np.uint8)], r'array of \(8, 8, 4\) uint8'),
        ([5], 'an image is a int, but it must be the path of an image file'),
        ([], 'there are no images'),
        (dict(a=1), 'images is a dict'),
    ],
)
def test_what_is_no_image_gets_a_sentence(encoder, images, sentence):
    with pytest.raises(ConfigError, match=sentence):
        encoder(images)


def test_a_file_that_cannot_be_read_is_named(encoder, tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'no image')
    with pytest.raises(UnreadableImage, match=r'broken\.png cannot be read'):
        encoder([tmp_path / 'broken.png'])
    two = np.zeros((2, 8, 8, 3), np.uint8)
    for labels in ([1], ['cat', 'dog'], [0.5, 1.0], [-1, 0]):
        with pytest.raises(ConfigError, match='labels of shape'):
            encoder.features(two, labels=labels)
    assert encoder(np.zeros((3, 8, 8), np.uint8)).shape == (3, 64)  # three grayscale images
