"""Where the files in an uncompressed tar archive are, without reading them: ustar, GNU and PAX headers.

Python's tarfile takes a damaged header for the end of the archive, and more than twice the time.
"""

import os
from collections.abc import Iterator

BLOCK = 512
LONGEST_NAME = 1 << 20  # bytes of a PAX or GNU header; a damaged one may claim any number
_COMPRESSED = (
    (b'\x1f\x8b', 'gzip'),
    (b'BZh', 'bzip2'),
    (b'\xfd7zXZ', 'xz'),
    (b'\x28\xb5\x2f\xfd', 'zstd'),
    (b'\x04\x22\x4d\x18', 'lz4'),
)


class Damaged(Exception):
    """An archive that cannot be indexed. Its text goes on from the name of the file: 'is cut short: ...'."""


def members(fd: int, length: int) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size in bytes) of each regular file in the archive, in its order. Bytes of names that are not UTF-8 are kept.

    Args:
        fd: the open archive; length: its size in bytes. Every file yielded lies within it.
    Raises:
        Damaged: compressed, cut short, not a tar archive, several archives in one file, sparse files.
    """
    position, known = 0, {}  # known: what a PAX or GNU header says of the file that follows
    while (header := os.pread(fd, BLOCK, position)) != bytes(BLOCK):
        for magic, name in _COMPRESSED if position == 0 else ():
            if header.startswith(magic):
                raise Damaged(
                    f'is compressed with {name}, and no image in it could be read without all before; unpack it to a plain .tar'
                )
        if len(header) < BLOCK:
            raise Damaged(
                f'is cut short: it ends at byte {length:,} without the end mark of a tar archive; copy or write it anew'
            )
        kind, start = header[156:157], position + BLOCK
        try:
            if _number(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(' '):
                raise ValueError
            size = (
                _number(header[124:136])
                if kind in b'xgLK'
                else int(known.get('size', 0)) or _number(header[124:136])
            )
            if (
                kind in b'123456'
            ):  # links, folders, devices, pipes: no bytes follow, whatever the size says
                size = 0
            if size < 0:
                raise ValueError
            if start + size > length:
                raise Damaged(
                    f'is cut short: it has {length:,} bytes, and a file in it goes on to byte {start + size:,}; copy or write it '
                    f'anew'
                )
            if kind in b'xL':
                if size > LONGEST_NAME:
                    raise ValueError
                data = os.pread(fd, size, start)
                known |= _records(data) if kind == b'x' else {'path': data.split(b'\0')[0]}
        except ValueError:
            raise Damaged(
                f'is not an intact tar archive: there is no header at byte {position:,}; copy or write it anew'
            ) from None
        position = start + -(-size // BLOCK) * BLOCK
        if kind in b'xgLK':
            continue
        if kind == b'S' or any(key.startswith('GNU.sparse') for key in known):
            raise Damaged('holds sparse files; write it without --sparse')
        if kind in b'0\x007':
            name = known.get('path') or _name(header)
            yield name.decode(errors='surrogateescape'), start, size
        known = {}
    if known:
        raise Damaged(
            'is not an intact tar archive: its last header names a file that does not follow; write it anew'
        )
    if os.pread(fd, 32 * BLOCK, position).strip(b'\0'):
        raise Damaged(
            f'goes on after its end mark at byte {position:,}, as when archives are put together with cat; make one of each'
        )


def _number(field: bytes) -> int:
    """Octal digits, or binary if the first bit is set, as GNU tar writes sizes above 8 GiB."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:]) if field[0] == 0x80 else -1
    return int(field.split(b'\0')[0].strip() or b'0', 8)


def _name(header: bytes) -> bytes:
    name, prefix = header[:100].split(b'\0')[0], header[345:500].split(b'\0')[0]
    return (
        prefix + b'/' + name if prefix and header[257:263] == b'ustar\0' else name
    )  # GNU tar keeps times in the prefix


def _records(data: bytes) -> dict:
    """The records '<length> <key>=<value>\\n' of a PAX header. Raises ValueError."""
    found, start = {}, 0
    while start < len(data):
        digits = data[start : start + 20].split(b' ')[0]
        end = start + int(digits)
        key, equals, value = data[start + len(digits) + 1 : end].partition(b'=')
        if not equals or not value.endswith(b'\n') or end > len(data):
            raise ValueError
        found[key.decode()] = value[:-1]
        start = end
    return found
