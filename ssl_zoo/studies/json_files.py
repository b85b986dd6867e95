"""Read and write the JSON files in the folders of a study's jobs."""

import json
from pathlib import Path

from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.storage.reading import read_regular


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file, completely or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(content, indent=1)
    atomic_write(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> dict | None:
    """Return the content of a JSON file; None if there is no such file, or it is damaged."""
    try:
        content = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
