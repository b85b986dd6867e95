"""Files that are written whole or not at all."""
import os
from pathlib import Path


def write_atomically(path: Path, write) -> None:
    """Call ``write(file)`` on a temporary file beside ``path``, flush it to disk, rename it to ``path``."""
    temporary = path.with_name(f'{path.name}.tmp.{os.getpid()}')
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, 'wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)                                        # or the rename itself may be lost
    finally:
        os.close(folder)
