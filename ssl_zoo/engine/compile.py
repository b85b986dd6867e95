"""torch.compile for the backbones and the photometric step."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import torch

from ssl_zoo.errors import ConfigError
from ssl_zoo.method import Method


def compile_backbones(method: Method, device: torch.device, mode: bool | str = True) -> None:
    """Compile a method's backbones and photometric step; weights keep their names and values.

    The compiled code is kept in ~/.cache/ssl_zoo/inductor for the next run, unless
    TORCHINDUCTOR_CACHE_DIR names another folder. torch's default is in /tmp, which does not survive
    a restart of the machine.

    Args:
        method: changed in place.
        device: device of the run.
        mode: True, or torch.compile's mode for the backbones.

    Raises:
        ConfigError: the device is a CPU and there is no C++ compiler.
    """
    _set_cache_dir()
    compiler = os.environ.get('CXX') or 'g++'
    if device.type == 'cpu' and not shutil.which(compiler):
        raise ConfigError(
            f'compile=True needs a C++ compiler, and there is no {compiler}; install one, name it '
            f'in CXX, or leave compile out'
        )
    for backbone, _ in method.networks.values():
        method.get_submodule(backbone).compile(mode=None if mode is True else mode)
    method.data_preprocessor.compiled = True


def _set_cache_dir() -> None:
    with suppress(OSError, RuntimeError):  # no home, or not writable: torch's default stays
        cache_home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
        folder = Path(cache_home, 'ssl_zoo', 'inductor')
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(folder))
