"""Versions of the software and the hardware that a result depends on."""

import platform

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
