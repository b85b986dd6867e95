"""The versions that a result depends on."""

import platform

import torch

from ssl_zoo import __version__


def versions() -> dict[str, str]:
    """What the run stands on."""
    import mmengine
    import timm
    import torchvision

    return dict(
        ssl_zoo=__version__,
        torch=str(torch.__version__),
        torchvision=str(torchvision.__version__),
        timm=timm.__version__,
        mmengine=mmengine.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        device=torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f'cpu, {torch.get_num_threads()} threads',
    )
