"""tar.members: the files of an archive, and archives that are damaged."""

import io
import tarfile

import numpy as np
import pytest

from ssl_zoo.data.sources.shards import TarShards
from ssl_zoo.data.sources.tar import BLOCK, DamagedArchive, members
from ssl_zoo.errors import ConfigError

pytestmark = pytest.mark.quick


def test_links_and_folders_are_no_images_whatever_size_they_claim(tmp_path, png, reds):
    with tarfile.open(tmp_path / 'a.tar', 'w') as tar:
        for name, kind in (
            ('0.png', tarfile.DIRTYPE),
            ('1.png', tarfile.SYMTYPE),
            ('2.png', tarfile.LNKTYPE),
            ('3.png', tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = (
                kind,
                100,
                'l' * (150 if kind == tarfile.LNKTYPE else 1),
            )
            tar.addfile(member)
        member = tarfile.TarInfo('4.png')
        member.size = len(png(4))
        tar.addfile(member, io.BytesIO(png(4)))
    assert reds(TarShards(str(tmp_path / 'a.tar'))) == [4]


def test_the_same_files_as_tarfile_finds(tmp_path, write_tar):
    rng = np.random.default_rng(0)
    names = [
        ''.join(rng.choice(list('abé/. \n'), int(size))).strip('/') or 'x'
        for size in rng.integers(1, 300, 60)
    ]
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = write_tar(
            tmp_path / 'a.tar',
            [(name, rng.bytes(int(rng.integers(0, 1500)))) for name in names],
            format=kind,
        )
        with tarfile.open(path) as tar, open(path, 'rb') as file:
            assert list(members(file.fileno(), path.stat().st_size)) == [
                (m.name, m.offset_data, m.size) for m in tar if m.isreg()
            ]


def test_sizes_in_binary_as_of_files_above_8_gib(tmp_path, png, write_tar, reds):
    path = write_tar(tmp_path / 'a.tar', [('0.png', png(3))])
    data = bytearray(path.read_bytes())
    data[124:136] = b'\x80' + len(png(3)).to_bytes(11)
    data[148:156] = b' ' * 8
    data[148:156] = b'%06o\0 ' % sum(data[:BLOCK])
    path.write_bytes(data)
    assert reds(TarShards(str(path))) == [3]


def test_every_cut_is_found(tmp_path, samples, write_tar):
    path = write_tar(tmp_path / 'a.tar', samples([1, 2]))
    data = path.read_bytes()
    end = len(data.rstrip(b'\0')) // BLOCK * BLOCK + BLOCK  # of the last file
    for size in [*range(0, end, 100), end, end + 511]:
        path.write_bytes(data[:size])
        with pytest.raises(ConfigError, match=r'the shard .*/a.tar is cut short'):
            TarShards(str(path))
        with open(path, 'rb') as file, pytest.raises(DamagedArchive):
            for _, offset, n in members(file.fileno(), size):
                assert offset + n <= size
    path.write_bytes(data[: end + BLOCK])
    assert len(TarShards(str(path))) == 2


def test_damage_to_headers_never_raises_anything_else(tmp_path, png, write_tar):
    rng = np.random.default_rng(0)
    whole, refused = [], 0
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        data = write_tar(
            tmp_path / 'a.tar',
            [('d/' * 80 + 'é.png', b'1'), ('0.png', png(0)), ('0.cls', b'3')],
            format=kind,
        ).read_bytes()
        for _ in range(300):
            changed = np.frombuffer(data, np.uint8).copy()
            changed[rng.integers(0, 4000, 4)] = rng.integers(0, 256, 4)
            for start in (
                range(0, 4096, BLOCK) if rng.random() < 0.7 else ()
            ):  # with checksums that fit
                header = changed[start : start + BLOCK]
                if bytes(header[257:262]) == b'ustar':
                    header[148:156] = 32
                    header[148:156] = np.frombuffer(b'%06o\0 ' % header.sum(), np.uint8)
            (tmp_path / 'b.tar').write_bytes(changed.tobytes())
            with open(tmp_path / 'b.tar', 'rb') as file:
                try:
                    for _, offset, size in members(file.fileno(), len(data)):
                        whole.append(0 <= offset <= offset + size <= len(data))
                except DamagedArchive:
                    refused += 1
    assert refused > 100 and len(whole) > 100 and all(whole)
