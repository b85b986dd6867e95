"""Store the features of a data set in files, extracted in blocks by one or several processes.

A complete folder holds features.npy (N, D), labels.npy, index.npy (positions in the source),
names.json and manifest.json with the key. During the extraction, rows.npy has one row for every
image of the source, and done/ has one file for every block of rows that is on disk. A stopped
extraction continues with the blocks that done/ lacks, and several processes share the blocks.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ssl_zoo.data.sources import Source, Subset
from ssl_zoo.distributed import rank, world_size
from ssl_zoo.distributed.objects import barrier
from ssl_zoo.errors import ConfigError, UnreadableImage
from ssl_zoo.evaluation.features import (
    Features,
    Preprocessing,
    device_of,
    encode_batches,
    eval_mode,
)
from ssl_zoo.progress_bar import progress_bar
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.storage.digest import sha256_of_json
from ssl_zoo.storage.lock import FileLock

FORMAT = 'ssl_zoo features 1'
OWN_FILES = (
    'rows.npy',
    'features.npy',
    'index.npy',
    'labels.npy',
    'multi_labels.npy',
    'names.json',
    'manifest.json',
)
BLOCK = 4096  # images per block: a stop loses at most one block of each process


def json_hash(**values: Any) -> str:
    """Hash keyword arguments of plain values: 16 hexadecimal digits, independent of their order."""
    return sha256_of_json(values)[:16]


def load_features(folder: str | Path) -> Features:
    """Load stored features, memory-mapped.

    Raises:
        ConfigError: the folder does not hold a complete set of features.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    try:
        labels = np.load(folder / 'labels.npy') if (folder / 'labels.npy').exists() else None
        values = np.load(folder / 'features.npy', mmap_mode='r')
        index = np.load(folder / 'index.npy')
        labels_fit = labels is None or len(labels) == len(index)
        if len(values) == len(index) == manifest['images'] and labels_fit:
            return Features(values, labels, index, [tuple(pair) for pair in manifest['unreadable']])
    except (OSError, ValueError, KeyError, TypeError):  # a missing, torn or foreign file
        pass
    raise ConfigError(
        f'{folder} holds no complete set of features; make it with tools/extract_features.py'
    )


def store_features(
    network: nn.Module,
    source: Source,
    preprocessing: Preprocessing,
    folder: str | Path,
    key: dict,
    dtype: str = 'float32',
    batch_size: int = 256,
    workers: int = 0,
) -> Features:
    """Extract features of every readable image of a source into files, unless they are there.

    Memory holds one batch, whatever the number of images. Under torchrun each process
    extracts its share of the blocks. All processes write to the same folder, so the folder must be
    on a file system that all of them see.

    Args:
        network: (B, 3, H, W) -> (B, D).
        source: the images.
        preprocessing: what happens to an image before the network.
        folder: folder of the files.
        key: everything that the features depend on; stored features with another key are replaced.
        dtype: 'float32' or 'float16'.
        batch_size: images per batch.
        workers: processes of the loader.

    Returns:
        The features, memory-mapped.

    Raises:
        ConfigError: no image can be read, a feature is not finite, or the disk is full.
    """
    folder = Path(folder)
    key = json.loads(json.dumps(key))
    if not len(source):
        raise ConfigError('there are no images to extract features from')
    try:
        with _exclusive(folder):
            barrier()
            if not _is_complete(folder, key, source):
                extraction = _Extraction(
                    network, source, preprocessing, folder, key, dtype, batch_size, workers
                )
                extraction.run()
    except OSError as error:
        raise ConfigError(
            f'could not write features to {folder}: {error}; free some space, or choose another '
            f'folder with --work-dir; the same command goes on from here'
        ) from None
    return load_features(folder)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder, so that two commands do not extract the same features."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f'.{folder.name}.lock'))
    try:
        if rank() == 0:
            lock.acquire(wait=True)
        yield
    finally:
        lock.release()


def _read_manifest(folder: Path) -> dict | None:
    try:
        manifest = json.loads((folder / 'manifest.json').read_text())
        return manifest if manifest['format'] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_complete(folder: Path, key: dict, source: Source) -> bool:
    """Return whether the folder holds all features of this key.

    False if an image that was skipped as unreadable can be read now.
    """
    manifest = _read_manifest(folder)
    if manifest is None or manifest.get('key') != key:
        return False
    try:
        unreadable = load_features(folder).unreadable
    except ConfigError:
        return False
    return not any(_is_readable(source, i) for i, _ in unreadable)


def _is_readable(source: Source, i: int) -> bool:
    try:
        source.read(i)
    except UnreadableImage:
        return False
    return True


@dataclass
class _Extraction:
    """One extraction into a folder; the attributes are the arguments of store_features."""

    network: nn.Module
    source: Source
    preprocessing: Preprocessing
    folder: Path
    key: dict
    dtype: str
    batch_size: int
    workers: int

    def __post_init__(self):
        self.device = device_of(self.network)
        self.done = self.folder / 'done'
        self.rows = self.folder / 'rows.npy'
        self.blocks = range(-(-len(self.source) // BLOCK))

    def run(self) -> None:
        """Extract the blocks that are missing, then write the manifest."""
        with eval_mode(self.network):
            width = self._measure_width()
            if rank() == 0:
                self._prepare_folder(width)
            barrier()
            self._extract_own_blocks(width)
        barrier()
        unreadable = self._read_unreadable()
        barrier()  # all processes have read the files that process 0 removes
        if len(unreadable) == len(self.source):
            if rank() == 0:
                self._remove_own_files()
            raise ConfigError(
                f'none of the {len(self.source)} images can be read, the first is '
                f'{self.source.name(0)} ({unreadable[0][1]}); check them'
            )
        if rank() == 0:
            self._complete(unreadable)
        barrier()

    def _measure_width(self) -> int:
        """Return D, measured on one black image."""
        size = self.preprocessing.size
        with torch.no_grad(), self.preprocessing.autocast(self.device):
            return self.network(torch.zeros(1, 3, size, size, device=self.device)).shape[1]

    def _prepare_folder(self, width: int) -> None:
        """Make rows.npy, unless a stopped extraction with the same key left it."""
        started = self.done / 'key.json'
        started_key = json.loads(started.read_text()) if started.exists() else None
        has_rows = self.rows.exists() or (self.folder / 'features.npy').exists()
        is_damaged = (self.folder / 'manifest.json').exists()  # complete, but not usable
        if started_key == self.key and has_rows and not is_damaged:
            return
        self._remove_own_files()
        self.done.mkdir(parents=True, exist_ok=True)
        shape = (len(self.source), width)
        np.lib.format.open_memmap(self.rows, 'w+', dtype=self.dtype, shape=shape).flush()
        atomic_write(started, lambda file: file.write(json.dumps(self.key).encode()))

    def _remove_own_files(self) -> None:
        """Remove what an extraction writes; other files in the folder are the user's."""
        shutil.rmtree(self.done, ignore_errors=True)
        for name in OWN_FILES:
            with suppress(OSError):
                (self.folder / name).unlink()
        with suppress(OSError):
            self.folder.rmdir()

    def _extract_own_blocks(self, width: int) -> None:
        own = [
            block
            for block in self.blocks
            if block % world_size() == rank() and not self._done_file(block).exists()
        ]
        images = sum(len(self._positions(block)) for block in own)
        name = self.folder.name.rsplit('-', 1)[0]
        with progress_bar(images, f'features {name}') as progress:
            for block in own:
                self._extract_block(block, width, progress)

    def _done_file(self, block: int) -> Path:
        """Return the path of the file that marks the block as written."""
        return self.done / f'{block}.json'

    def _positions(self, block: int) -> np.ndarray:
        first = block * BLOCK
        return np.arange(first, min(first + BLOCK, len(self.source)))

    def _extract_block(self, block: int, width: int, progress) -> None:
        """Write the rows of a block to rows.npy, then its unreadable images to done/."""
        first = block * BLOCK
        row_bytes = width * np.dtype(self.dtype).itemsize
        unreadable = []
        batches = encode_batches(
            self.network,
            Subset(self.source, self._positions(block)),
            self.preprocessing,
            self.device,
            self.batch_size,
            self.workers,
        )
        with open(self.rows, 'r+b') as file:
            for positions, values, failed in batches:
                unreadable += [(first + i, reason) for i, reason in failed]
                for start, rows in _stretches(positions, values, self.dtype):
                    self._check_finite(first + start, rows)
                    file.seek(_data_offset(self.rows) + (first + start) * row_bytes)
                    file.write(rows.tobytes())
                progress.update(len(positions) + len(failed))
            file.flush()
            os.fsync(file.fileno())
        content = json.dumps(unreadable).encode()
        atomic_write(self._done_file(block), lambda file: file.write(content))

    def _check_finite(self, first: int, rows: np.ndarray) -> None:
        if not np.isfinite(rows).all():
            raise ConfigError(
                f'features of images {first} to {first + len(rows) - 1} are not finite: '
                f'the network has diverged, or {self.dtype} is too small for them'
            )

    def _read_unreadable(self) -> list[tuple[int, str]]:
        """Return (position, reason) of the unreadable images of all blocks."""
        return sorted(
            tuple(pair)
            for block in self.blocks
            for pair in json.loads(self._done_file(block).read_text())
        )

    def _complete(self, unreadable: list[tuple[int, str]]) -> None:
        """Write the other files, the manifest last.

        After a stop at any point this method can be called again.
        """
        source = self.source
        index = np.setdiff1d(np.arange(len(source)), [i for i, _ in unreadable])
        atomic_write(self.folder / 'index.npy', lambda file: np.save(file, index))
        if source.labels is not None:
            labels = source.labels[index]
            atomic_write(self.folder / 'labels.npy', lambda file: np.save(file, labels))
        if source.multi_labels is not None:
            columns = source.multi_labels[index]
            atomic_write(self.folder / 'multi_labels.npy', lambda file: np.save(file, columns))
        names = json.dumps([source.name(i) for i in index]).encode()
        atomic_write(self.folder / 'names.json', lambda file: file.write(names))
        if self.rows.exists():
            self._rows_to_features(index, bool(unreadable))
        manifest = dict(
            format=FORMAT,
            key=self.key,
            images=len(index),
            unreadable=unreadable,
            classes=source.classes,
            made=time.strftime('%Y-%m-%dT%H:%M:%S'),
        )
        content = json.dumps(manifest, indent=1).encode()
        atomic_write(self.folder / 'manifest.json', lambda file: file.write(content))
        shutil.rmtree(self.done, ignore_errors=True)

    def _rows_to_features(self, index: np.ndarray, has_gaps: bool) -> None:
        """Rename rows.npy to features.npy; if it has gaps, copy only the rows in ``index``."""
        features = self.folder / 'features.npy'
        if not has_gaps:
            os.replace(self.rows, features)
            return
        all_rows = np.load(self.rows, mmap_mode='r')
        header = dict(
            descr=np.lib.format.dtype_to_descr(all_rows.dtype),
            fortran_order=False,
            shape=(len(index), all_rows.shape[1]),
        )

        def write(file) -> None:  # not through a memory map, where a full disk is a bus error
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(index), BLOCK):
                file.write(all_rows[index[start : start + BLOCK]].tobytes())

        atomic_write(features, write)
        self.rows.unlink()


def _data_offset(path: Path) -> int:
    """Return the number of bytes before the first row of a .npy file."""
    return np.load(path, mmap_mode='r').offset


def _stretches(
    positions: np.ndarray, values: np.ndarray | None, dtype: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first position, rows as ``dtype``) of every stretch of consecutive positions."""
    if not len(positions):
        return
    cuts = np.flatnonzero(np.diff(positions) != 1) + 1
    with np.errstate(over='ignore'):  # _check_finite reports values too large for float16
        values = values.astype(dtype)
    for stretch, rows in zip(np.split(positions, cuts), np.split(values, cuts), strict=True):
        yield int(stretch[0]), rows
