"""Tell a damaged zip archive from one that cannot be read now."""

import zipfile
from pathlib import Path

MAGIC = b'PK\x03\x04'  # the first bytes of an archive
CHUNK = 2**20


def is_damaged_zip(path: str | Path) -> bool:
    """Whether a file is a zip archive that was cut short, or whose bytes have changed.

    False is no proof that the archive is whole: the file may be no zip archive, or it cannot be
    read (permissions, a failing disk, too little memory).
    """
    try:
        with open(path, 'rb') as file:
            start = file.read(len(MAGIC))
            if not zipfile.is_zipfile(file):  # it has no table of contents
                return MAGIC.startswith(start)
            with zipfile.ZipFile(file) as archive:
                return not _is_sound(archive, Path(path).stat().st_size)
    except (OSError, MemoryError):
        return False
    except Exception:  # zipfile raises many types for headers with changed bytes
        return True


def _is_sound(archive: zipfile.ZipFile, size: int) -> bool:
    """Check the members of an archive. Raises an error of zipfile for a wrong checksum.

    Members that expand to more than the size of the archive are not read to their ends: this
    project compresses nothing, so the archive is another program's.
    """
    bytes_left = size
    for member in archive.infolist():
        is_stored = member.compress_type == zipfile.ZIP_STORED
        if is_stored and member.file_size != member.compress_size:
            return False
        with archive.open(member) as file:
            while chunk := file.read(CHUNK):
                bytes_left -= len(chunk)
                if bytes_left < 0:
                    return True
    return True
