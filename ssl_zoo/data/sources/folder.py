"""The image files of a folder, with one folder per class (ImageFolder) or unlabelled (Images)."""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ssl_zoo.data.decode import readable_suffixes
from ssl_zoo.data.sources.base import Source
from ssl_zoo.data.sources.composed import Subset
from ssl_zoo.data.sources.image_files import ImageFiles, existing_folder
from ssl_zoo.data.sources.left_out import kind_of, left_out_note
from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.registry import SOURCES
from ssl_zoo.storage.lock import is_work_dir

WORK_DIRS = 'work_dirs'  # the folder of runs and pictures of the zoo, by default


class _Found(NamedTuple):
    """What lies below a folder.

    Attributes:
        images: sorted paths relative to the folder.
        left_out: number of other files by their kind, see left_out_note.
        work_dirs: number of folders left out because they hold the files of runs.
    """

    images: list[str]
    left_out: Counter
    work_dirs: int


def _find_below(folder: Path) -> _Found:
    """Find image files at any depth below a folder.

    Links are followed. Hidden files and folders, and folders of runs, which hold pictures of
    views, are skipped.
    """
    suffixes = readable_suffixes()
    images = []
    left_out: Counter = Counter()
    work_dirs = 0
    visited = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        resolved = current.resolve()
        if resolved in visited:  # a link to a folder that was visited before
            continue
        visited.add(resolved)
        for entry in os.scandir(current):
            if entry.name.startswith('.'):
                continue
            path = Path(entry.path)
            if entry.is_dir():
                if _holds_runs(path):
                    work_dirs += 1
                else:
                    pending.append(path)
            elif not entry.is_file():
                left_out[_kind_of_no_file(entry)] += 1
            elif path.suffix.lower() in suffixes:
                images.append(path.relative_to(folder).as_posix())
            else:
                left_out[kind_of(entry.name)] += 1
    return _Found(sorted(images), left_out, work_dirs)


def _find_in_class(folder: Path) -> _Found:
    return _Found([], Counter(), 1) if _holds_runs(folder) else _find_below(folder)


def _holds_runs(folder: Path) -> bool:
    return folder.name == WORK_DIRS or is_work_dir(folder)


def _kind_of_no_file(entry: os.DirEntry) -> str:
    return 'dangling links' if entry.is_symlink() else 'pipes or devices'


def _notes(folder: Path, images: int, left_out: Counter, work_dirs: int) -> tuple[str, ...]:
    notes = left_out_note(folder, images, left_out)
    if work_dirs:
        folders = 'folder' if work_dirs == 1 else 'folders'
        notes += (f'{folder}: {work_dirs:,} {folders} of runs left out',)
    return notes


def _in_brackets(notes: tuple[str, ...]) -> str:
    return f' ({"; ".join(notes)})' if notes else ''


def check_work_dir(source: Source | None, work_dir: Path, name: str) -> None:
    """Check that a run will not write its files among the images of a folder.

    Args:
        source: images of a run, or None.
        work_dir: the work directory of the run.
        name: key of the source in the section `data` of the config, for the message.

    Raises:
        ConfigError: images of a searched folder lie in the work directory. A later search would
            find the pictures of the run, or leave all these images out as files of a run.
    """
    while isinstance(source, Subset):
        source = source.source
    if not isinstance(source, (ImageFolder, Images)):
        return
    root = source.root.resolve()
    place = work_dir.resolve()
    if not place.is_relative_to(root):
        return
    start = '' if place == root else f'{place.relative_to(root).as_posix()}/'
    if any(file.startswith(start) for file in source.files):
        raise ConfigError(
            f'the work directory {place} holds images of data.{name}, and the pictures that a run '
            f'writes there would become training images; choose another --work-dir, such as '
            f'{root.parent / WORK_DIRS}'
        )


@SOURCES.register_module()
class ImageFolder(ImageFiles):
    """One folder per class, ``root/<class>/.../image``, images at any depth.

    Classes are numbered in sorted order.

    Args:
        root: the folder that holds the class folders.

    Raises:
        MissingData: there is no such folder, no class folder, or no image.
    """

    def __init__(self, root: str):
        folder = existing_folder(root, 'class folders with images')
        folders = sorted(
            entry.name
            for entry in folder.iterdir()
            if entry.is_dir() and not entry.name.startswith('.')
        )
        found = {name: _find_in_class(folder / name) for name in folders}
        # A folder that holds runs alone is no class: it would be one more when a run resumes.
        classes = [name for name in folders if found[name].images or not found[name].work_dirs]
        files = []
        labels = []
        for label, class_name in enumerate(classes):
            class_files = found[class_name].images
            files += [f'{class_name}/{file}' for file in class_files]
            labels += [label] * len(class_files)
        left_out = sum((found[name].left_out for name in folders), _beside_classes(folder))
        work_dirs = sum(found[name].work_dirs for name in folders)
        notes = _notes(folder, len(files), left_out, work_dirs)
        if not files:
            raise MissingData(
                f'looked for class folders with images ({" ".join(readable_suffixes())}) in '
                f'{folder.absolute()}, and found {len(classes)} folders and no images in them'
                f"{_in_brackets(notes)}; for images without class folders use type='Images'"
            )
        super().__init__(folder, files, labels, classes)
        self.notes = notes


def _beside_classes(folder: Path) -> Counter:
    """Count the files beside the class folders by their kind; images there have no class."""
    left_out: Counter = Counter()
    for entry in os.scandir(folder):
        if entry.name.startswith('.') or entry.is_dir():
            continue
        if not entry.is_file():
            left_out[_kind_of_no_file(entry)] += 1
        elif Path(entry.name).suffix.lower() in readable_suffixes():
            left_out['images beside the class folders'] += 1
        else:
            left_out[kind_of(entry.name)] += 1
    return left_out


@SOURCES.register_module()
class Images(ImageFiles):
    """All images below a folder, at any depth, without labels.

    Args:
        root: the folder.

    Raises:
        MissingData: there is no such folder, or no image.
    """

    def __init__(self, root: str):
        folder = existing_folder(root, 'images')
        files, left_out, work_dirs = _find_below(folder)
        notes = _notes(folder, len(files), left_out, work_dirs)
        if not files:
            raise MissingData(
                f'looked for images ({" ".join(readable_suffixes())}) in {folder.absolute()} and '
                f'below, and found none{_in_brackets(notes)}'
            )
        super().__init__(folder, files)
        self.notes = notes
