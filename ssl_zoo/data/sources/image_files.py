"""Base of the sources whose images are files below a folder."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from ssl_zoo.data.decode import SUFFIXES, read_file, read_pixels
from ssl_zoo.data.sources.base import Source
from ssl_zoo.data.sources.class_labels import class_numbers
from ssl_zoo.errors import MissingData

# Number of files whose existence is checked: on a network drive the check of a million files takes
# minutes.
MAX_CHECKED_FILES = 10_000
# Sizes and times of files are asked for in threads, because a network drive answers late.
STAT_THREADS = 16
STAT_GROUP = 1_000


class ImageFiles(Source):
    """Image files below a folder.

    Args:
        root: the folder.
        files: paths relative to root, with '/', so that the manifest does not depend on where
            root is.
        labels: label of each file, or None.
        classes: name of each class, or None.
    """

    def __init__(
        self,
        root: Path,
        files: list[str],
        labels: list[int] | None = None,
        classes: list[str] | None = None,
    ):
        self.root = root
        self.files = files
        self.classes = classes
        if labels is not None:
            self.labels = class_numbers(labels, type(self).__name__)

    def __len__(self) -> int:
        return len(self.files)

    def pixels(self, i: int) -> np.ndarray:
        path = self.root / self.files[i]
        return read_pixels(read_file(path, self.max_pixels), path, self.max_pixels)

    def name(self, i: int) -> str:
        return self.files[i]

    def encoded(self, i: int) -> tuple[str, bytes]:
        path = self.root / self.files[i]
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            return super().encoded(i)
        return suffix, read_file(path, self.max_pixels).tobytes()

    def file_stats(self, only: np.ndarray | None = None) -> np.ndarray:
        files = self.files if only is None else [self.files[i] for i in only]
        groups = [files[i : i + STAT_GROUP] for i in range(0, len(files), STAT_GROUP)]
        with ThreadPoolExecutor(STAT_THREADS) as threads:
            stats = list(threads.map(self._stat_files, groups))
        return np.concatenate([np.empty((0, 2), np.int64), *stats])

    def _stat_files(self, files: list[str]) -> np.ndarray:
        stats = np.full((len(files), 2), -1, dtype=np.int64)
        for row, file in zip(stats, files, strict=True):
            with suppress(OSError, ValueError):
                status = os.stat(f'{self.root}/{file}')
                row[:] = status.st_size, status.st_mtime_ns
        return stats


def existing_folder(root: str, content: str) -> Path:
    """Return the folder that `root` names, with ~ expanded.

    Args:
        root: path of the folder.
        content: what the folder should hold, for the message.

    Raises:
        MissingData: there is no such folder.
    """
    path = Path(root).expanduser()
    if not path.is_dir():
        problem = 'is a file' if path.exists() else 'does not exist'
        raise MissingData(
            f'looked for {content} in {path.absolute()}, but that {problem}; '
            f'set root to a folder that holds it'
        )
    return path


def missing_files(folder: Path, files: list[str]) -> tuple[list[str], int]:
    """Check that files exist. Of 2 * MAX_CHECKED_FILES files or more, only a sample is.

    Args:
        folder: the folder.
        files: paths relative to ``folder``.

    Returns:
        the checked files that are missing, and the number of files checked.
    """
    checked = files[:: max(len(files) // MAX_CHECKED_FILES, 1)]
    return [file for file in checked if not (folder / file).is_file()], len(checked)
