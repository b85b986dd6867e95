"""Build torchvision's data sets; turn the exceptions that torchvision raises into ConfigError."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_zoo.errors import ConfigError, MissingData, nearest

if TYPE_CHECKING:  # torchvision is imported only where a data set is built
    from torchvision.datasets import VisionDataset


def check_split(split: str, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError if the split is not one of those allowed."""
    if split not in allowed:
        raise ConfigError(f'split is {split!r}: {nearest(split, allowed)}')


def torchvision_set(name: str, root: str, download: bool, **arguments: Any) -> 'VisionDataset':
    """Build a data set of torchvision.datasets.

    Args:
        name: name of its class.
        root: folder of the files, ~ expanded.
        download: fetch the files if they are missing.
        arguments: further arguments of the class.

    Returns:
        the instance of torchvision's class.

    Raises:
        MissingData: the files are missing.
        ConfigError: some files are missing, the files cannot be read or fetched, or scipy, which
            reads .mat files, is missing.
    """
    from torchvision import datasets

    dataset_class = getattr(datasets, name)
    folder = Path(root).expanduser()
    try:
        return dataset_class(str(folder), download=download, **arguments)
    except MemoryError:
        raise
    except Exception as error:
        raise _explain(error, name, folder.absolute(), download) from error


def _explain(error: Exception, name: str, folder: Path, download: bool) -> ConfigError:
    # torchvision raises RuntimeError for missing files, and in one place for a missing scipy.
    if isinstance(error, (RuntimeError, ImportError)):
        if 'scipy' in str(error).lower():
            return ConfigError(
                f'{name} keeps its labels in .mat files, and scipy, which reads them, cannot be '
                f'imported ({error}); install it: pip install scipy'
            )
        if download:
            return MissingData(
                f'fetched {name} into {folder}, but its files are not as they should be: {error}; '
                f'remove them and try again'
            )
        return MissingData(
            f'looked for the files of {name} in {folder}: {error}; set root to the folder that '
            f'holds them, or download=True to fetch them'
        )
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return ConfigError(
            f'the files of {name} in {folder} are not complete: {error}; remove them and fetch '
            f'{name} again'
        )
    if isinstance(error, OSError):
        action = f'fetch {name} into' if download else f'read {name} in'
        return ConfigError(f'could not {action} {folder}: {error}')
    # The annotations are cut short or edited: torchvision reads them without checks.
    return ConfigError(
        f'the files of {name} in {folder} are not as torchvision expects them '
        f'({type(error).__name__}: {error}); remove them and fetch {name} again'
    )
