"""Locate the files in an uncompressed tar archive without reading them: ustar, GNU and PAX headers.

Python's tarfile treats a damaged header as the end of the archive, and takes more than twice the
time. Format: POSIX.1-2017, "pax Interchange Format", and the GNU tar manual, "Basic Tar Format".
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

BLOCK = 512
MAX_EXTENSION_BYTES = 1 << 20  # of a PAX or GNU header; a damaged header may claim any size
COMPRESSED_STARTS = (
    (b'\x1f\x8b', 'gzip'),
    (b'BZh', 'bzip2'),
    (b'\xfd7zXZ', 'xz'),
    (b'\x28\xb5\x2f\xfd', 'zstd'),
    (b'\x04\x22\x4d\x18', 'lz4'),
)

# The type flag of a header, one byte. NUL is a regular file of old archives, 7 a contiguous file.
REGULAR = (b'0', b'\0', b'7')
WITHOUT_CONTENT = (b'1', b'2', b'3', b'4', b'5', b'6')  # links, devices, folders, pipes
PAX_HEADER = b'x'
GNU_LONG_NAME = b'L'
EXTENSIONS = (PAX_HEADER, b'g', GNU_LONG_NAME, b'K')  # g: global PAX header, K: long name of a link
GNU_SPARSE = b'S'


class DamagedArchive(Exception):
    """An archive that cannot be indexed.

    The message continues a sentence about the file, such as 'is cut short: ...'.
    """


class _Header(NamedTuple):
    """One header of an archive.

    Attributes:
        type_flag: one byte, see REGULAR and EXTENSIONS.
        name: path in the archive.
        size: number of bytes of content after the header.
    """

    type_flag: bytes
    name: bytes
    size: int


def members(fd: int, length: int) -> Iterator[tuple[str, int, int]]:
    """Locate the regular files of an archive.

    Args:
        fd: file descriptor of the archive, open for reading.
        length: number of bytes of the archive.

    Yields:
        (name, offset, size in bytes) of each regular file, in the order of the archive. Every file
        lies within the archive. Bytes of a name that are not UTF-8 are kept as surrogates.

    Raises:
        DamagedArchive: the file is compressed, cut short, not a tar archive or several archives in
            one file, or it holds sparse files.
    """
    _check_uncompressed(os.pread(fd, BLOCK, 0))
    position = 0
    # Records of PAX and GNU headers that describe the next file.
    extensions: dict[str, bytes] = {}
    while (block := os.pread(fd, BLOCK, position)) != bytes(BLOCK):
        if len(block) < BLOCK:
            raise DamagedArchive(
                f'is cut short: it ends at byte {length:,} without the end mark of a tar archive; '
                f'copy or write it anew'
            )
        start = position + BLOCK
        try:
            header = _parse_header(block, extensions)
            _check_end(start + header.size, length)
            extensions |= _read_extension(fd, start, header)
        except ValueError:
            raise DamagedArchive(
                f'is not an intact tar archive: there is no header at byte {position:,}; '
                f'copy or write it anew'
            ) from None
        position = start + -(-header.size // BLOCK) * BLOCK
        if header.type_flag in EXTENSIONS:
            continue
        if header.type_flag == GNU_SPARSE or any(
            key.startswith('GNU.sparse') for key in extensions
        ):
            raise DamagedArchive('holds sparse files; write it without --sparse')
        if header.type_flag in REGULAR:
            name = extensions.get('path') or header.name
            yield name.decode(errors='surrogateescape'), start, header.size
        extensions = {}
    if extensions:
        raise DamagedArchive(
            'is not an intact tar archive: its last header names a file that does not follow; '
            'write it anew'
        )
    if os.pread(fd, 32 * BLOCK, position).strip(b'\0'):
        raise DamagedArchive(
            f'continues after its end mark at byte {position:,}, as when archives are joined with '
            f'cat; make one archive of each'
        )


def _check_uncompressed(first_block: bytes) -> None:
    for start, compression in COMPRESSED_STARTS:
        if first_block.startswith(start):
            raise DamagedArchive(
                f'is compressed with {compression}, and no image in it could be read without all '
                f'images before it; unpack it to a plain .tar'
            )


def _check_end(end: int, length: int) -> None:
    if end > length:
        raise DamagedArchive(
            f'is cut short: it has {length:,} bytes, and a file in it ends at byte {end:,}; '
            f'copy or write it anew'
        )


def _parse_header(block: bytes, extensions: dict[str, bytes]) -> _Header:
    """Parse a block of 512 bytes. Raises ValueError if the block is not a header."""
    checksum = block[148:156]
    # The checksum is the sum of all bytes, with the field of the checksum counted as spaces.
    if _parse_number(checksum) != sum(block) - sum(checksum) + 8 * ord(' '):
        raise ValueError
    type_flag = block[156:157]
    size = 0
    if type_flag not in EXTENSIONS:
        size = int(extensions.get('size', 0))  # a PAX header may give the size of its file
    size = size or _parse_number(block[124:136])
    if type_flag in WITHOUT_CONTENT:  # no content follows, whatever the size field says
        size = 0
    if size < 0:
        raise ValueError
    return _Header(type_flag, _parse_name(block), size)


def _read_extension(fd: int, start: int, header: _Header) -> dict[str, bytes]:
    """Return the records of a PAX or GNU header. Raises ValueError if they are damaged."""
    if header.type_flag not in (PAX_HEADER, GNU_LONG_NAME):
        return {}
    if header.size > MAX_EXTENSION_BYTES:
        raise ValueError
    content = os.pread(fd, header.size, start)
    if header.type_flag == GNU_LONG_NAME:
        return {'path': content.split(b'\0')[0]}
    return _parse_pax_records(content)


def _parse_number(field: bytes) -> int:
    """Parse octal digits, or a binary number, marked by the first bit (GNU tar above 8 GiB).

    Returns:
        the number; -1 for any negative binary number.

    Raises:
        ValueError: the field has other characters.
    """
    if not field[0] & 0x80:
        return int(field.split(b'\0')[0].strip() or b'0', 8)
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    return -1


def _parse_name(block: bytes) -> bytes:
    name = block[:100].split(b'\0')[0]
    prefix = block[345:500].split(b'\0')[0]
    if prefix and block[257:263] == b'ustar\0':  # GNU tar stores times where ustar has the prefix
        return prefix + b'/' + name
    return name


def _parse_pax_records(content: bytes) -> dict[str, bytes]:
    """Parse the records '<length> <key>=<value>\\n' of a PAX header. Raises ValueError."""
    records = {}
    start = 0
    while start < len(content):
        digits = content[start : start + 20].split(b' ')[0]
        end = start + int(digits)
        key, equals, value = content[start + len(digits) + 1 : end].partition(b'=')
        if not equals or not value.endswith(b'\n') or end > len(content):
            raise ValueError
        records[key.decode()] = value[:-1]
        start = end
    return records
