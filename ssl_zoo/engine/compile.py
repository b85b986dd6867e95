"""torch.compile for the backbones and the photometric step."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import torch

from ssl_zoo.errors import ConfigError
from ssl_zoo.method import Method


def compile_backbones(method: Method, device: torch.device, mode: bool | str = True) -> None:
    """torch.compile the method's backbones and its photometric step; names and values of their weights stay.

    What is compiled is kept in ~/.cache/ssl_zoo/inductor for the next run, unless TORCHINDUCTOR_CACHE_DIR names another place: torch's
    own default, in /tmp, does not survive a restart of the machine.

    Args:
        mode: True, or torch.compile's mode for the backbones.
    Raises:
        ConfigError: on a CPU without a C++ compiler.
    """
    with suppress(OSError, RuntimeError):  # no home, or one that cannot be written: torch's default
        kept = Path(
            os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'ssl_zoo', 'inductor'
        )
        kept.mkdir(parents=True, exist_ok=True)
        if os.access(kept, os.W_OK):
            os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(kept))
    compiler = os.environ.get('CXX') or 'g++'
    if device.type == 'cpu' and not shutil.which(compiler):
        raise ConfigError(
            f'compile=True needs a C++ compiler, and there is no {compiler}; install one, name it in CXX, or leave compile '
            f'out'
        )
    for backbone, _ in method.networks.values():
        method.get_submodule(backbone).compile(mode=None if mode is True else mode)
    method.data_preprocessor.compiled = True
