"""Features of a data set, as evaluation sees it: no augmentation, the network in eval mode."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ssl_zoo.data.loader import eval_loader
from ssl_zoo.data.photometric import Photometric
from ssl_zoo.data.sources import Source, Subset
from ssl_zoo.distributed import rank, world_size
from ssl_zoo.distributed.objects import all_gather_object, barrier
from ssl_zoo.errors import ConfigError, UnreadableImage
from ssl_zoo.progress_bar import progress_bar
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.storage.digest import sha256_of_json
from ssl_zoo.storage.lock import FileLock

STORE = 'ssl_zoo features 1'
BLOCK = 4096  # images that are stored, or after a stop extracted again, together


@dataclass
class Features:
    """Attributes: values (N, D) float32, or float16 if stored so; labels (N,) int64 or None; index (N,) int64, the rows'
    positions in the source; unreadable [(position, reason)], the images left out."""

    values: np.ndarray
    labels: np.ndarray | None
    index: np.ndarray
    unreadable: list = field(default_factory=list)


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image before the network.

    Attributes:
        size, resize: short side resized to ``resize``, antialiased, then a centre crop of ``size``.
        mean, std: of the normalisation, for values in [0, 1].
        precision: of the network, 'float32' or 'bf16' (autocast).
        channels_last: memory format of the images.
        interpolation: of the resizing, 'bicubic' or 'bilinear'.
    """

    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str = 'float32'
    channels_last: bool = False
    interpolation: str = 'bicubic'

    def normaliser(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """(B, 3, H, W) uint8 -> float32, normalised, on the device."""
        return Photometric([], self.mean, self.std, self.channels_last).to(device).normalise

    def autocast(self, device: torch.device):
        return (
            torch.autocast(device.type, torch.bfloat16)
            if self.precision == 'bf16'
            else nullcontext()
        )


@contextmanager
def eval_mode(network: nn.Module):
    """The network in eval mode; afterwards every part of it is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def embedded(
    encode: Callable[[Tensor], Tensor],
    source: Source,
    preprocessing: Preprocessing,
    device: torch.device,
    batch_size: int = 256,
    workers: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray | None, list]]:
    """Batch after batch: positions (b,), outputs (b, ...) float32 (None if no image could be read), unreadable [(position, reason)]."""
    normalise = preprocessing.normaliser(device)
    for batch in eval_loader(
        source,
        preprocessing.size,
        preprocessing.resize,
        batch_size,
        workers,
        preprocessing.interpolation,
    ):
        out = None
        if len(batch['index']):
            with preprocessing.autocast(device):
                out = encode(normalise(batch['pixels'])).float().cpu().numpy()
        yield batch['index'].numpy(), out, batch['unreadable']


def extract_features(
    network: nn.Module,
    source: Source,
    preprocessing: Preprocessing,
    batch_size: int = 256,
    workers: int = 0,
) -> Features:
    """Features of every readable image of a source, in memory. The network's modes and statistics stay as they are.

    Several processes share the images out, and all get all features.

    Args:
        network: (B, 3, H, W) -> (B, D).
        source: the images.
        preprocessing, batch_size, workers: see above.
    """
    mine = np.arange(rank(), len(source), world_size())
    rows, index, unreadable = [], [], []
    with eval_mode(network):
        for positions, values, failed in (
            embedded(
                network,
                Subset(source, mine) if world_size() > 1 else source,
                preprocessing,
                _device(network),
                batch_size,
                workers,
            )
            if len(mine)
            else ()
        ):
            index.append(mine[positions])
            rows += [] if values is None else [values]
            unreadable += [(int(mine[i]), reason) for i, reason in failed]
    index, rows, unreadable = (
        sum(parts, []) for parts in zip(*all_gather_object((index, rows, unreadable)), strict=True)
    )
    index = np.concatenate(index)
    values = np.concatenate(rows) if rows else np.empty((0, 0), np.float32)
    if world_size() > 1:
        order, unreadable = index.argsort(), sorted(unreadable)
        index, values = index[order], values[order] if len(values) else values
    return Features(
        values, None if source.labels is None else source.labels[index], index, unreadable
    )


def _device(network: nn.Module) -> torch.device:
    return next((p.device for p in network.parameters()), torch.device('cpu'))


# --- On disk. A folder holds features.npy (N, D), labels.npy, index.npy (positions in the source), names.json and, when all
# is there, manifest.json with the key. While it is made, rows.npy has a row for every image, filled in blocks; each block that is
# on disk leaves a file in done/, so that a stopped extraction goes on and several processes share the work.


def key_of(**parts) -> str:
    """What a set of features depends on, as one hash: 16 hexadecimal digits."""
    return sha256_of_json(parts)[:16]


def load_features(folder: str | Path) -> Features:
    """Stored features, memory-mapped. Raises ConfigError if the folder does not hold a complete set."""
    folder = Path(folder)
    manifest = _manifest(folder)
    try:
        labels = np.load(folder / 'labels.npy') if (folder / 'labels.npy').exists() else None
        values, index = (
            np.load(folder / 'features.npy', mmap_mode='r'),
            np.load(folder / 'index.npy'),
        )
        if len(values) == len(index) == manifest['images'] and (
            labels is None or len(labels) == len(index)
        ):
            return Features(values, labels, index, [tuple(pair) for pair in manifest['unreadable']])
    except (OSError, ValueError, KeyError, TypeError):  # missing, torn or something else
        pass
    raise ConfigError(
        f'{folder} holds no complete set of features; make it with tools/extract_features.py'
    )


def _manifest(folder: Path) -> dict | None:
    try:
        manifest = json.loads((folder / 'manifest.json').read_text())
        return manifest if manifest['format'] == STORE else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _usable(folder: Path, key: dict, source: Source) -> bool:
    """Whether the features of this key are there, and the images that could not be read still cannot be."""
    manifest = _manifest(folder)
    if manifest is None or manifest.get('key') != key:
        return False
    try:
        unreadable = load_features(folder).unreadable
    except ConfigError:
        return False
    return not any(_readable(source, i) for i, _ in unreadable)


def _readable(source: Source, i: int) -> bool:
    try:
        source.read(i)
    except UnreadableImage:
        return False
    return True


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
    """Features of every readable image of a source, in files, memory-mapped; what is there already is not made again.

    Memory holds one batch, whatever the number of images. Under torchrun every process makes its share of the blocks, all in
    the same folder, which must be one file system for all.

    Args:
        network: (B, 3, H, W) -> (B, D).
        source: the images.
        preprocessing, batch_size, workers: see above.
        folder: where the files go.
        key: all that the features depend on. A set with another key is made anew.
        dtype: 'float32' or 'float16'.
    Raises:
        ConfigError: no image can be read; the disk is full.
    """
    folder, key = Path(folder), json.loads(json.dumps(key))
    if not len(source):
        raise ConfigError('there are no images to extract features of')
    try:
        with _alone(folder):
            barrier()
            if not _usable(folder, key, source):
                _extract(network, source, preprocessing, folder, key, dtype, batch_size, workers)
    except OSError as error:
        raise ConfigError(
            f'could not write features to {folder}: {error}; free some space, or choose another folder with '
            f'--work-dir; the same command goes on from here'
        ) from None
    return load_features(folder)


@contextmanager
def _alone(folder: Path):
    """Wait for another run that makes the same features."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f'.{folder.name}.lock'))
    try:
        if rank() == 0:
            lock.acquire(wait=True)
        yield
    finally:
        lock.release()


def _extract(
    network,
    source,
    preprocessing,
    folder: Path,
    key: dict,
    dtype: str,
    batch_size: int,
    workers: int,
) -> None:
    device, done = _device(network), folder / 'done'
    path, started = folder / 'rows.npy', done / 'key.json'
    with eval_mode(network):
        # The width: the network is asked with one black image.
        with torch.no_grad(), preprocessing.autocast(device):
            width = network(
                torch.zeros(1, 3, preprocessing.size, preprocessing.size, device=device)
            ).shape[1]
        if rank() == 0:
            begun = json.loads(started.read_text()) if started.exists() else None
            if (
                begun != key
                or not (path.exists() or (folder / 'features.npy').exists())
                or (folder / 'manifest.json').exists()
            ):
                shutil.rmtree(
                    folder, ignore_errors=True
                )  # left-overs of another set, or a set that is damaged
                done.mkdir(parents=True)
                np.lib.format.open_memmap(
                    path, 'w+', dtype=dtype, shape=(len(source), width)
                ).flush()
                atomic_write(started, lambda file: file.write(json.dumps(key).encode()))
        barrier()
        blocks = range(-(-len(source) // BLOCK))
        mine = [
            b for b in blocks if b % world_size() == rank() and not (done / f'{b}.json').exists()
        ]
        n = sum(min(BLOCK, len(source) - b * BLOCK) for b in mine)
        with progress_bar(n, f'features {folder.name.rsplit("-", 1)[0]}') as progress:
            for block in mine:
                first = block * BLOCK
                part = Subset(source, np.arange(first, min(first + BLOCK, len(source))))
                failed = []
                with open(path, 'r+b') as file:
                    for positions, values, unreadable in embedded(
                        network, part, preprocessing, device, batch_size, workers
                    ):
                        failed += [(first + i, reason) for i, reason in unreadable]
                        for start, rows in _runs(positions, values, dtype):
                            if not np.isfinite(rows).all():
                                raise ConfigError(
                                    f'features of images {first + start} to {first + start + len(rows) - 1} are not finite: '
                                    f'the network has diverged, or {dtype} is too small for them'
                                )
                            file.seek(
                                _data_offset(path)
                                + (first + start) * width * np.dtype(dtype).itemsize
                            )
                            file.write(rows.tobytes())
                        progress.update(len(positions) + len(unreadable))
                    file.flush()
                    os.fsync(file.fileno())
                atomic_write(
                    done / f'{block}.json',
                    lambda f, failed=failed: f.write(json.dumps(failed).encode()),
                )
        barrier()
        unreadable = sorted(
            tuple(pair) for b in blocks for pair in json.loads((done / f'{b}.json').read_text())
        )
        barrier()  # all have read what the first process removes
        if len(unreadable) == len(source):
            if rank() == 0:
                shutil.rmtree(folder, ignore_errors=True)
            raise ConfigError(
                f'none of the {len(source)} images can be read, the first is {source.name(0)} ({unreadable[0][1]}); '
                f'check them'
            )
        if rank() == 0:
            _finish(source, folder, key, unreadable)
        barrier()


def _data_offset(path: Path) -> int:
    """Bytes before the first row of a .npy file."""
    return np.load(path, mmap_mode='r').offset


def _runs(positions: np.ndarray, values: np.ndarray | None, dtype: str):
    """(first position, rows) of every stretch without gaps."""
    if len(positions):
        cuts = np.flatnonzero(np.diff(positions) != 1) + 1
        with np.errstate(over='ignore'):  # what is too large for float16 is told below
            values = values.astype(dtype)
        for part, rows in zip(np.split(positions, cuts), np.split(values, cuts), strict=True):
            yield int(part[0]), rows


def _finish(source: Source, folder: Path, key: dict, unreadable: list[tuple[int, str]]) -> None:
    """Write labels, names, the rows of the images that could be read and, last of all, the manifest. It can be stopped and called
    again at any point."""
    index, rows, features = (
        np.setdiff1d(np.arange(len(source)), [i for i, _ in unreadable]),
        folder / 'rows.npy',
        folder / 'features.npy',
    )
    atomic_write(folder / 'index.npy', lambda file: np.save(file, index))
    if source.labels is not None:
        atomic_write(folder / 'labels.npy', lambda file: np.save(file, source.labels[index]))
    names = json.dumps([source.name(i) for i in index]).encode()
    atomic_write(folder / 'names.json', lambda file: file.write(names))
    if rows.exists() and not unreadable:
        os.replace(rows, features)
    elif rows.exists():
        whole = np.load(rows, mmap_mode='r')
        header = dict(
            descr=np.lib.format.dtype_to_descr(whole.dtype),
            fortran_order=False,
            shape=(len(index), whole.shape[1]),
        )

        def write(file):  # not through a memory map: with it a full disk is a bus error
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(index), BLOCK):
                file.write(whole[index[start : start + BLOCK]].tobytes())

        atomic_write(features, write)
        rows.unlink()
    manifest = dict(
        format=STORE,
        key=key,
        images=len(index),
        unreadable=unreadable,
        classes=source.classes,
        made=time.strftime('%Y-%m-%dT%H:%M:%S'),
    )
    atomic_write(
        folder / 'manifest.json', lambda file: file.write(json.dumps(manifest, indent=1).encode())
    )
    shutil.rmtree(folder / 'done', ignore_errors=True)
