"""Fixtures of the tests of data sources: tar archives of small images."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from ssl_zoo.data.sources import build_source
from ssl_zoo.errors import ConfigError


@pytest.fixture
def png():
    """Function: a PNG file of one colour with red `value` and green 255 - `value`, as bytes."""

    def make(value, size=6) -> bytes:
        file = io.BytesIO()
        Image.new('RGB', (size, size), (value, 255 - value, 7)).save(file, 'PNG')
        return file.getvalue()

    return make


@pytest.fixture
def samples(png):
    """Function: (name, bytes) of an image and its label for each value; class `value` % 3."""

    def make(values):
        files = []
        for value in values:
            files.append((f'{value:05d}.png', png(value)))
            files.append((f'{value:05d}.cls', str(value % 3).encode()))
        return files

    return make


@pytest.fixture
def write_tar():
    """Function: write a tar archive of (name, bytes); returns its path."""

    def write(path, files, **options) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, **{'mode': 'w', **options}) as archive:
            for name, content in files:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path

    return write


@pytest.fixture
def shard_folder(tmp_path, write_tar, samples):
    """7 shards of 3 to 9 images each, 42 images; image i has red i."""
    start = 0
    for number, n in enumerate((6, 3, 9, 6, 8, 4, 6)):
        write_tar(tmp_path / 'shards' / f'a-{number}.tar', samples(range(start, start + n)))
        start += n
    return tmp_path / 'shards'


@pytest.fixture
def reds():
    """Function: the red of each image of a source."""

    def read(source) -> list[int]:
        return [source.read(i).getpixel((0, 0))[0] for i in range(len(source))]

    return read


@pytest.fixture
def refusal():
    """Function: the ConfigError of a source's config, one sentence that matches `words`."""

    def build(cfg, words) -> ConfigError:
        with pytest.raises(ConfigError, match=words) as caught:
            build_source(cfg)
        # Not the registry's sentence for exceptions that a source did not foresee.
        assert 'cannot be built' not in str(caught.value)
        assert '\n' not in str(caught.value)
        return caught.value

    return build
