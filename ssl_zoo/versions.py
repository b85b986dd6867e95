"""Versions of the software and the hardware that a result depends on."""

import platform
import subprocess
from pathlib import Path

import torch

from ssl_zoo import __version__


def versions() -> dict[str, str]:
    """Return versions of libraries and Python, the platform, and the device."""
    import mmengine
    import timm
    import torchvision

    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f'cpu, {torch.get_num_threads()} threads'
    return dict(
        ssl_zoo=__version__,
        torch=str(torch.__version__),
        torchvision=str(torchvision.__version__),
        timm=timm.__version__,
        mmengine=mmengine.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        device=device,
    )


def source_commit() -> str | None:
    """Return the git commit of this project's files, with '+' if tracked files have changed.

    Returns:
        The commit; None where the files are no clone, or git is missing.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ['git', '-C', str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git('rev-parse', '--show-toplevel')).resolve() != folder.parent.resolve():
            return None  # installed below another project's clone
        changed = git('status', '--porcelain', '--untracked-files=no')
        return git('rev-parse', '--short=12', 'HEAD') + ('+' if changed else '')
    except (OSError, subprocess.CalledProcessError):
        return None
