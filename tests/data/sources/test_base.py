"""Source: read and pixels follow each other; every registered source is documented."""

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.data.sources import Source, Subset
from ssl_zoo.registry import SOURCES

pytestmark = pytest.mark.quick


def test_read_and_pixels_follow_each_other():
    gray, white = np.full((4, 5, 3), 90, np.uint8), np.full((4, 5, 3), 255, np.uint8)

    class Read(Source):
        def read(self, i):
            return Image.fromarray(gray)

    class Pixels(Source):
        def pixels(self, i):
            return gray

    class Other:
        def read(self, i):
            return Image.fromarray(white)

    class Above(Pixels):
        def read(self, i):
            return super().read(i).resize((2, 2))

    for source, expected in (
        (Read(), gray),
        (Pixels(), gray),
        (type('Mixed', (Other, Pixels), {})(), white),
        (type('Below', (Above,), {})(), gray[:2, :2]),
    ):
        assert np.array_equal(np.asarray(source.read(0)), expected) and np.array_equal(
            source.pixels(0), expected
        )
        assert np.array_equal(Subset(source, [0]).pixels(0), expected)
    with pytest.raises(NotImplementedError, match='must define read'):
        Source().pixels(0)


def test_every_registered_source_is_documented():
    for name in SOURCES.names():
        assert SOURCES.find(name).__doc__, name
