"""Write a source as tar archives in WebDataset's layout, which TarShards reads."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources.base import Source
from ssl_zoo.data.sources.class_names import CLASSES_FILE, class_names_text
from ssl_zoo.data.sources.tar import DamagedArchive, members
from ssl_zoo.errors import ConfigError, UnreadableImage
from ssl_zoo.progress_bar import progress_bar
from ssl_zoo.storage.atomic import atomic_write, leftovers

PLAN_FILE = 'shards.json'  # facts of the data set, and the options that made the shards


def write_shards(source: Source, folder: Path, per_shard: int, in_order: bool) -> int:
    """Write shard-000000.tar, shard-000001.tar, ..., PLAN_FILE, and CLASSES_FILE for named classes.

    The bytes are a function of the arguments alone. Complete shards of an earlier call with
    the same arguments are kept, so that a call continues where an earlier call stopped.

    Args:
        source: the images.
        folder: receives the files; it is created.
        per_shard: number of images in a shard.
        in_order: True for the order of the source, False for a fixed random order.

    Returns:
        the number of shards.

    Raises:
        ConfigError: the folder holds other shards; an image cannot be read.
        OSError: the folder cannot be written.
    """
    n = len(source)
    labelled = source.labels is not None
    plan = dict(
        images=n,
        manifest=source.manifest(),
        labels=labelled,
        per_shard=per_shard,
        in_order=in_order,
    )
    has_names = labelled and not source.classes_are_numbers
    _prepare_folder(folder, plan, source.classes if has_names else None)
    order = np.arange(n) if in_order else permutation(n, 0)
    starts = range(0, n, per_shard)
    with progress_bar(n, str(folder)) as progress:
        for number, start in enumerate(starts):
            indices = order[start : start + per_shard].tolist()
            path = folder / f'shard-{number:06d}.tar'
            if not _is_whole(path, len(indices), labelled):
                _write_shard(path, source, indices)
            progress.update(len(indices))
    return len(starts)


def _prepare_folder(folder: Path, plan: dict, classes: list[str] | None) -> None:
    """Create the folder, or check that its shards follow the plan; remove unfinished files."""
    stored_plan = _read_plan(folder)
    has_other_files = stored_plan is None and (
        any(folder.glob('*.tar')) or os.path.lexists(folder / CLASSES_FILE)
    )
    if stored_plan not in (None, plan) or has_other_files:
        raise ConfigError(
            f'{folder} holds shards of another data set, or made with other options; '
            f'choose another folder, or remove them'
        )
    # First the plan: with it, a later call knows that the other files are its own.
    atomic_write(folder / PLAN_FILE, lambda file: file.write(json.dumps(plan).encode()))
    if classes is not None:
        text = class_names_text(classes)
        atomic_write(folder / CLASSES_FILE, lambda file: file.write(text))
    for unfinished in leftovers(folder, r'shard-[0-9]{6,}\.tar'):
        unfinished.unlink()


def _read_plan(folder: Path) -> dict | str | None:
    try:
        return json.loads((folder / PLAN_FILE).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return 'damaged'


def _is_whole(path: Path, images: int, labelled: bool) -> bool:
    """Whether the shard exists and holds all of its files."""
    files_per_image = 2 if labelled else 1
    try:
        with open(path, 'rb') as file:
            length = os.fstat(file.fileno()).st_size
            files = sum(1 for _ in members(file.fileno(), length))
    except (FileNotFoundError, DamagedArchive):
        return False
    return files == images * files_per_image


def _write_shard(path: Path, source: Source, indices: list[int]) -> None:
    try:
        atomic_write(path, lambda file: _write_archive(file, source, indices))
    except UnreadableImage as error:
        raise ConfigError(
            f'an image cannot be read ({error}); remove it from the data set'
        ) from None


def _write_archive(file: BinaryIO, source: Source, indices: list[int]) -> None:
    with tarfile.open(fileobj=file, mode='w', format=tarfile.USTAR_FORMAT) as archive:
        for i in indices:
            suffix, data = source.encoded(i)
            _add_file(archive, f'{i:09d}{suffix}', data)
            if source.labels is not None:
                _add_file(archive, f'{i:09d}.cls', str(source.labels[i]).encode())


def _add_file(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # owner 0, mode 644, time 0: the bytes depend on nothing else
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
