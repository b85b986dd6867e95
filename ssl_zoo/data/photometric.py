"""The photometric step: colour jitter, grayscale, blur, solarize, normalise, for a batch with parameters of its own per image.

One implementation for CPU and GPU. Every operation equals torchvision's functional of the same name applied image by
image; torchvision's own classes draw one set of parameters for a whole batch (torchvision #8484). The parameters stay on
the host, so choosing which images an operation touches never waits for the device.
"""
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from .views import COLUMN, ORDERS, View

LUMA = (0.2989, 0.5870, 0.1140)                               # torchvision's rgb_to_grayscale


def grayscale(x: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    r, g, b = x.unbind(1)
    return (LUMA[0] * r + LUMA[1] * g + LUMA[2] * b).unsqueeze(1)


def shift_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue of (B, 3, H, W) images in [0, 1] by ``shift`` (B,) turns, keeping value and saturation of HSV."""
    r, g, b = x.unbind(1)
    high, low = x.amax(1), x.amin(1)
    chroma = high - low
    span = torch.where(chroma == 0, 1.0, chroma)
    hue = torch.where(high == r, (g - b) / span, torch.where(high == g, 2 + (b - r) / span, 4 + (r - g) / span))  # in sixths
    hue = hue + 6 * shift.view(-1, 1, 1)
    # Channel n of an HSV colour is value - chroma * clamp(min(k, 4 - k), 0, 1) with k = (n + hue) mod 6, n = 5, 3, 1.
    k = torch.remainder(torch.stack([hue + 5, hue + 3, hue + 1], dim=1), 6)
    return high.unsqueeze(1) - chroma.unsqueeze(1) * torch.minimum(k, 4 - k).clamp(0, 1)


def jitter(x: Tensor, params: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue of (B, 3, H, W) images in [0, 1], each image in its own order.

    Args:
        x: the images, float32.
        params: (B, len(PARAMS)) on the host; every ``order`` is >= 0.
    """
    order = torch.from_numpy(ORDERS)[params[:, COLUMN['order']].long()]                       # (B, 4): operation at each place
    factors = params[:, COLUMN['brightness']:COLUMN['hue'] + 1]
    for place in range(4):
        operation = order[:, place]
        factor = factors.gather(1, operation[:, None])[:, 0]
        # Brightness, contrast and saturation all blend the image with a reference: black, its mean gray, its gray.
        blend = torch.stack([torch.where(operation == 3, 1.0, factor), operation == 1, operation == 2]).to(x.device, non_blocking=True)
        keep, to_mean, to_gray = blend.view(3, -1, 1, 1, 1).unbind(0)
        gray = grayscale(x)
        reference = to_mean * gray.mean((2, 3), keepdim=True) + to_gray * gray
        blended = torch.lerp(reference.expand_as(x), x, keep).clamp_(0, 1)
        turned = (operation == 3).nonzero()[:, 0]
        if len(turned):
            rows = turned.to(x.device, non_blocking=True)
            blended[rows] = shift_hue(x[rows], factor[turned].to(x.device, non_blocking=True))
        x = blended
    return x


@lru_cache(maxsize=32)
def _shifts(size: int, kernel: int, device: torch.device) -> Tensor:
    """(kernel, size, size): matrix t takes a row of pixels to its neighbours at distance t - kernel // 2, reflected at the ends."""
    out = torch.zeros(kernel, size, size)
    position = np.arange(size)
    for t in range(kernel):
        source = np.abs(position + t - kernel // 2)
        source = np.where(source >= size, 2 * (size - 1) - source, source)
        out[t, source, position] = 1
    return out.to(device)


def blur(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Gaussian blur of (B, C, H, W) images with ``sigma`` (B,) each, ``kernel`` pixels wide, borders reflected.

    Two batched matrix products, x -> G_h x G_w, in which every image has band matrices of its own: they hold its sigma and the
    reflected borders, and need neither padding nor a convolution with a group per image.
    """
    height, width = x.shape[2:]
    if kernel // 2 >= min(height, width):
        raise ValueError(f'a blur of {kernel} pixels needs images of more than {kernel // 2} pixels, got {height} x {width}')
    distance = torch.arange(kernel, device=x.device) - kernel // 2
    weights = torch.exp(-0.5 * (distance / sigma[:, None]) ** 2)
    weights = weights / weights.sum(1, keepdim=True)                                          # (B, kernel)
    rows, columns = (torch.tensordot(weights, _shifts(n, kernel, x.device), 1) for n in (height, width))
    return (rows.transpose(1, 2).unsqueeze(1) @ x) @ columns.unsqueeze(1)


def augment(x: Tensor, params: Tensor, kernel: int) -> Tensor:
    """All photometric operations but the normalisation, in place where that is safe.

    Args:
        x: (B, 3, H, W) float32 in [0, 1]. It may be overwritten.
        params: (B, len(PARAMS)) float32 on the host.
        kernel: width of the blur.

    Returns:
        (B, 3, H, W) float32 in [0, 1].
    """
    def chosen(name, minimum=0.0):
        return (params[:, COLUMN[name]] > minimum).nonzero()[:, 0]
    for name, minimum, operation in (
            ('order', -0.5, jitter),
            ('gray', 0.5, lambda images, p: grayscale(images).expand_as(images)),
            ('sigma', 0.0, lambda images, p: blur(images, p[:, COLUMN['sigma']].to(images.device, non_blocking=True), kernel)),
            ('solarize', 0.5, lambda images, p: torch.where(images >= 0.5, 1 - images, images))):
        picked = chosen(name, minimum)
        if len(picked) == len(x):
            x = operation(x, params)
        elif len(picked):
            rows = picked.to(x.device, non_blocking=True)
            x[rows] = operation(x[rows], params[picked])
    return x


class Photometric(nn.Module):
    """mmengine's data preprocessor of a method: a batch of cropped uint8 views -> float32 views, normalised.

    Runs without gradient and outside autocast, so that bf16 training sees views computed in float32.

    Args:
        views: the recipes, one per view.
        mean, std: per channel, for values in [0, 1].
        channels_last: memory format of the views.
    """

    def __init__(self, views: list[View], mean: tuple[float, ...], std: tuple[float, ...], channels_last: bool = False):
        super().__init__()
        self.kernels = [view.kernel for view in views]
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.register_buffer('mean', torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalise(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 or float in [0, 1], on any device -> float32, normalised, on the module's device."""
        pixels = pixels.to(self.mean.device, non_blocking=True)
        pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        return ((pixels - self.mean) / self.std).contiguous(memory_format=self.memory_format)

    @torch.no_grad()
    def forward(self, data: dict, training: bool = True) -> dict:
        """{'views': [(B, 3, H, W) uint8], 'params': [(B, P)], 'index': (B,)} -> {'views': [float32], 'index'}."""
        with torch.autocast(self.mean.device.type, enabled=False):
            views = [self.normalise(augment(pixels.to(self.mean.device, non_blocking=True).float().div_(255), params, kernel))
                     for pixels, params, kernel in zip(data['views'], data['params'], self.kernels, strict=True)]
        return dict(views=views, index=data['index'].to(self.mean.device, non_blocking=True))
