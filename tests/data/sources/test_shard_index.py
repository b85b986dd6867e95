"""The index of tar shards: stored and used, made anew where it does not fit; refused shards."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ssl_zoo.data.sources import shard_index
from ssl_zoo.data.sources.shards import TarShards
from ssl_zoo.errors import UnreadableImage

pytestmark = pytest.mark.quick


def stored(folder) -> Path:
    [path] = folder.glob('index-*.npz')
    return path


def test_the_index_is_stored_and_used(shard_folder, monkeypatch, reds):
    first = TarShards(str(shard_folder))
    assert stored(shard_folder).stat().st_size < 10_000
    monkeypatch.setattr(shard_index, '_build', None)
    second = TarShards(str(shard_folder))
    assert all(
        np.array_equal(a, b) for a, b in zip(first.index, second.index, strict=True)
    ) and reds(second) == list(range(42))


def test_an_index_of_other_shards_is_not_used(shard_folder, samples, write_tar, reds):
    TarShards(str(shard_folder))
    write_tar(shard_folder / 'a-3.tar', samples([77]))
    assert reds(TarShards(str(shard_folder))) == [*range(18), 77, *range(24, 42)]
    was = (shard_folder / 'a-3.tar').stat()
    write_tar(shard_folder / 'a-3.tar', samples([78]))  # of the same size, at another time
    os.utime(shard_folder / 'a-3.tar', ns=(was.st_atime_ns, was.st_mtime_ns + 1))
    assert (shard_folder / 'a-3.tar').stat().st_size == was.st_size
    source = TarShards(str(shard_folder))
    assert source.name(18) == 'a-3.tar/00078' and reds(source)[18] == 78


def test_a_damaged_index_is_made_anew(shard_folder):
    reference = TarShards(str(shard_folder)).index
    data = stored(shard_folder).read_bytes()
    rng = np.random.default_rng(0)
    broken = [b'', b'text', data[: len(data) // 2]]
    for _ in range(40):
        changed = np.frombuffer(data, np.uint8).copy()
        changed[rng.integers(0, len(data), 3)] ^= rng.integers(1, 256, 3, dtype=np.uint8)
        broken.append(changed.tobytes())
    for content in broken:
        stored(shard_folder).write_bytes(content)
        index = TarShards(str(shard_folder)).index
        assert all(np.array_equal(a, b) for a, b in zip(index, reference, strict=True))
    assert stored(shard_folder).read_bytes() == data


@pytest.mark.parametrize(
    ('field', 'change'),
    [
        ('offsets', lambda a: a + 10**6),
        ('offsets', lambda a: a - 10**6),
        ('offsets', lambda a: a[:-1]),
        ('offsets', lambda a: a[0]),
        ('offsets', lambda a: a.astype(float)),
        ('sizes', lambda a: a + 10**6),
        ('sizes', lambda a: -a),
        ('sizes', lambda a: a + np.int64(2**63 - 1)),
        ('counts', lambda a: a[::-1][:3]),
        ('counts', lambda a: a + [1, -1, 0, 0, 0, 0, 0]),
        ('counts', lambda a: a - [99, -99, 0, 0, 0, 0, 0]),
        ('labels', lambda a: a - 10),
        ('labels', lambda a: a + 10**9),
        ('labels', lambda a: a[1:]),
        ('ends', lambda a: a[::-1]),
        ('ends', lambda a: a + 1),
        ('suffixes', lambda a: a + 90),
        ('keys', lambda a: a[1:]),
        ('keys', lambda a: np.array([{}], dtype=object)),
        ('others', lambda a: np.frombuffer(b'many .txt\n', np.uint8)),
    ],
)
def test_an_index_that_points_elsewhere_is_made_anew(shard_folder, field, change):
    reference = TarShards(str(shard_folder)).index
    with np.load(stored(shard_folder)) as arrays:
        arrays = dict(arrays)
    arrays[field] = change(arrays[field])
    np.savez(stored(shard_folder), **arrays)
    source = TarShards(str(shard_folder))
    if field != 'counts' or len(arrays['counts']) != 7 or (arrays['counts'] < 0).any():
        assert all(np.array_equal(a, b) for a, b in zip(source.index, reference, strict=True))
    for i in range(42):  # never outside a shard, whatever is believed
        try:
            source.read(i)
        except UnreadableImage:
            pass


def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    shard_folder, monkeypatch, write_tar, reds
):
    def refuse(path, write):
        raise PermissionError('read-only')

    monkeypatch.setattr(shard_index, 'atomic_write', refuse)
    assert reds(TarShards(str(shard_folder))) == list(range(42)) and not list(
        shard_folder.glob('index-*')
    )


@pytest.mark.parametrize(
    ('files', 'words'),
    [
        (dict(other={'0.txt': b'no'}), 'and found none'),
        (
            dict(nolabel={'1.png': 1, '1.cls': b'1', '2.png': 2, '2.cls': b'2', '9.png': 9}),
            "for some images and not for '9'",
        ),
        (
            dict(noimage={'1.png': 1, '1.cls': b'1', '9.heic': b'x', '9.cls': b'1'}),
            "a label and no image for '9'",
        ),
        (dict(double={'0.png': 1, '0.jpg': 1}), "two images with the key '0'"),
        (
            dict(labels={'x/0.png': 1, 'x/0.cls': b'1', 'x/0.CLS': b'2'}),
            "the shard .*/labels.tar has two labels .* with the key 'x/0'",
        ),
        (
            dict(word={'0.png': 1, '0.cls': b'cat'}),
            "0.cls in the shard .* holds b'cat', but a label is",
        ),
        (dict(minus={'0.png': 1, '0.cls': b'-2'}), "holds b'-2'"),
        (dict(large={'0.png': 1, '0.cls': b'100000'}), 'from 0 to 99,999'),
        (
            dict(first={'1.png': 1, '1.cls': b'1'}, second={'2.png': 2}),
            'images in .*/first.tar have labels .*, and those in .*/second.tar have none',
        ),
    ],
)
def test_images_and_labels_that_do_not_fit(tmp_path, write_tar, png, refusal, files, words):
    """A number stands for a PNG file of that red."""
    for shard, members in files.items():
        contents = [
            (name, png(content) if isinstance(content, int) else content)
            for name, content in members.items()
        ]
        write_tar(tmp_path / 'folder' / f'{shard}.tar', contents)
    refusal(dict(type='TarShards', shards=str(tmp_path / 'folder')), words)


def test_archives_that_are_no_plain_tar(tmp_path, shard_folder, write_tar, samples, png, refusal):
    compressed = write_tar(tmp_path / 'a.tar.gz', samples([1]), mode='w:gz')
    text = tmp_path / 'text.tar'
    text.write_text('text' * 200)
    twice = tmp_path / 'two.tar'
    twice.write_bytes((shard_folder / 'a-0.tar').read_bytes() * 2)
    sparse = write_tar(tmp_path / 'sparse.tar', [('0.png', png(0))], format=tarfile.PAX_FORMAT)
    with tarfile.open(sparse, 'w') as archive:
        member = tarfile.TarInfo('0.png')
        member.pax_headers = {'GNU.sparse.major': '1'}
        archive.addfile(member)
    for path, words in (
        (compressed, 'a.tar.gz is compressed with gzip'),
        (text, 'is not an intact tar archive: there is no header at byte 0;'),
        (twice, 'continues after its end mark'),
        (sparse, 'holds sparse files'),
    ):
        refusal(dict(type='TarShards', shards=str(path)), words)
