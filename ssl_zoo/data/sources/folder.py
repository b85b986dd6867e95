"""The image files of a folder, with one folder per class (ImageFolder) or unlabelled (Images)."""

import os
from pathlib import Path

from ssl_zoo.data.decode import SUFFIXES
from ssl_zoo.data.sources.image_files import ImageFiles, existing_folder
from ssl_zoo.errors import MissingData
from ssl_zoo.registry import SOURCES


def _images_below(folder: Path) -> list[str]:
    """Find image files at any depth below a folder; follow links, skip hidden files and folders.

    Returns:
        sorted paths relative to the folder.
    """
    files = []
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
                pending.append(path)
            elif path.suffix.lower() in SUFFIXES and entry.is_file():
                files.append(path.relative_to(folder).as_posix())
    return sorted(files)


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
        classes = sorted(
            entry.name
            for entry in folder.iterdir()
            if entry.is_dir() and not entry.name.startswith('.')
        )
        files = []
        labels = []
        for label, class_name in enumerate(classes):
            class_files = _images_below(folder / class_name)
            files += [f'{class_name}/{file}' for file in class_files]
            labels += [label] * len(class_files)
        if not files:
            raise MissingData(
                f'looked for class folders with images ({" ".join(SUFFIXES)}) in '
                f'{folder.absolute()}, and found {len(classes)} folders and no images in them; '
                f"for images without class folders use type='Images'"
            )
        super().__init__(folder, files, labels, classes)


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
        files = _images_below(folder)
        if not files:
            raise MissingData(
                f'looked for images ({" ".join(SUFFIXES)}) in {folder.absolute()} and below, '
                f'and found none'
            )
        super().__init__(folder, files)
