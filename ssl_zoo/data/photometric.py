"""The photometric step: mirror, colour jitter, grayscale, blur, solarize, normalise, for a batch with parameters of its own per image.

One implementation for CPU and GPU. Every operation equals torchvision's functional of the same name applied image by
image; torchvision's own classes draw one set of parameters for a whole batch (torchvision #8484). The parameters stay on
the host, so choosing which images an operation touches never waits for the device.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.data.views import COLUMN, JITTER_ORDERS, View, mirror

LUMA = (0.2989, 0.5870, 0.1140)  # torchvision's rgb_to_grayscale


def grayscale(x: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    r, g, b = x.unbind(1)
    return (LUMA[0] * r + LUMA[1] * g + LUMA[2] * b).unsqueeze(1)


def shift_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue of (B, 3, H, W) images in [0, 1] by ``shift`` (B,) turns, keeping value and saturation of HSV; by 0 exactly none."""
    r, g, b = x.unbind(1)
    high, low = x.amax(1), x.amin(1)
    chroma = high - low
    span = torch.where(chroma == 0, 1.0, chroma)
    hue = torch.where(
        high == r, (g - b) / span, torch.where(high == g, 2 + (b - r) / span, 4 + (r - g) / span)
    )  # in sixths
    hue = hue + 6 * shift.view(-1, 1, 1)
    # Channel n of an HSV colour is value - chroma * clamp(min(k, 4 - k), 0, 1) with k = (n + hue) mod 6, n = 5, 3, 1.
    k = torch.stack([hue + 5, hue + 3, hue + 1], dim=1)
    k = k - 6 * torch.floor(k / 6)  # compilers vectorise no remainder
    turned = high.unsqueeze(1) - chroma.unsqueeze(1) * torch.minimum(k, 4 - k).clamp(0, 1)
    return torch.where((shift == 0).view(-1, 1, 1, 1), x, turned)


def blend(x: Tensor, keep: Tensor, to_mean: Tensor, to_gray: Tensor) -> Tensor:
    """Three operations in a row on (B, 3, H, W) images, each brightness, contrast, saturation or nothing.

    All three blend an image with a reference: black, its mean gray, its gray. With ``keep`` = 1 nothing changes.

    Args:
        keep, to_mean, to_gray: (3, B, 1, 1, 1): what stays of the image, and which reference, 0 or 1.
    """
    for k, mean, luma in zip(keep, to_mean, to_gray, strict=True):
        gray = grayscale(x)
        reference = mean * gray.mean((2, 3), keepdim=True) + luma * gray
        x = torch.lerp(reference.expand_as(x), x, k).clamp(0, 1)
    return x


def jitter(x: Tensor, params: Tensor, compiled: bool = False) -> Tensor:
    """Brightness, contrast, saturation and hue of (B, 3, H, W) images in [0, 1], each image in its own order.

    All images are blended up to three times, turned in hue, and blended up to three times: what comes before the hue in an image's
    order is in the first three.

    Args:
        x: the images, float32.
        params: (B, len(PARAMS)) on the host; images whose ``order`` is below 0 stay as they are.
    """
    number = params[:, COLUMN['order']].long()
    order = torch.from_numpy(JITTER_ORDERS)[number.clamp(min=0)]  # (B, 4): operation at each place
    factor = params[:, COLUMN['brightness'] : COLUMN['hue'] + 1].gather(
        1, order
    )  # (B, 4): its factor
    hue_place = (order == 3).long().argmax(1, keepdim=True)
    jittered = (number >= 0)[:, None]
    before, after = (
        (torch.arange(3) < hue_place) & jittered,
        (torch.arange(1, 4) > hue_place) & jittered,
    )
    factor, order = (torch.cat([v[:, :3], v[:, 1:]], 1) for v in (factor, order))  # (B, 6)
    used = torch.cat([before, after], 1)
    blends = torch.stack(
        [torch.where(used, factor, 1.0), used & (order == 1), used & (order == 2)]
    ).transpose(1, 2)
    hue = torch.where(jittered[:, 0], params[:, COLUMN['hue']], 0.0)
    blends, hue = (
        blends.contiguous().to(x.device, non_blocking=True),
        hue.to(x.device, non_blocking=True),
    )
    first, second = (
        blends[:, part].reshape(3, 3, -1, 1, 1, 1).unbind(0) for part in (slice(3), slice(3, 6))
    )
    # Three compiled functions and not one: the compiler would work out the blends again for every pass over the pixels.
    return run(blend, compiled)(
        run(shift_hue, compiled)(run(blend, compiled)(x, *first), hue), *second
    )


CACHED = 2**20  # values of a part of a batch that one core works on at a time
BLOCK = 32  # pixels that one band matrix blurs


def blur(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Gaussian blur of (B, C, H, W) images with ``sigma`` (B,) each, ``kernel`` pixels wide, borders reflected.

    Two batched matrix products, along rows and along columns. An image's band matrix holds its Gaussian; it takes BLOCK + kernel - 1
    pixels to BLOCK, so that little of it is zeros, and serves all stretches of so many pixels.
    """
    height, width = x.shape[2:]
    if kernel // 2 >= min(height, width):
        raise ValueError(
            f'a blur of {kernel} pixels needs images of more than {kernel // 2} pixels, got {height} x {width}'
        )
    offset = torch.arange(BLOCK + kernel - 1, device=x.device)[:, None] - torch.arange(
        BLOCK, device=x.device
    )
    band = torch.exp(-0.5 * ((offset - kernel // 2) / sigma.view(-1, 1, 1)) ** 2)
    band = torch.where((offset >= 0) & (offset < kernel), band, 0.0)
    band = band / band.sum(1, keepdim=True)  # (B, BLOCK + kernel - 1, BLOCK)
    margin = kernel // 2
    x = F.pad(F.pad(x, (margin,) * 4, mode='reflect'), (0, -width % BLOCK, 0, -height % BLOCK))
    parts = x.unfold(3, len(offset), BLOCK)
    x = (parts.flatten(1, 3) @ band).view(*x.shape[:3], -1)[..., :width]  # along rows
    x = band.transpose(1, 2)[:, None, None] @ x.unfold(2, len(offset), BLOCK).transpose(
        3, 4
    )  # along columns
    return x.flatten(2, 3)[:, :, :height]


def finish(x: Tensor, solarize: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Solarize where ``solarize`` (B, 1, 1, 1) says so, then normalise."""
    return (torch.where(solarize & (x >= 0.5), 1 - x, x) - mean) / std


def to_gray(x: Tensor, which: Tensor) -> Tensor:
    """Grayscale where ``which`` (B, 1, 1, 1) says so."""
    return torch.where(which, grayscale(x), x)


@lru_cache
def _compiled(function):
    return torch.compile(function)


def run(function, compiled: bool):
    """``function``, or what torch.compile makes of it."""
    return _compiled(function) if compiled else function


def augment(
    x: Tensor, params: Tensor, kernel: int, mean: Tensor, std: Tensor, compiled: bool = False
) -> Tensor:
    """All that is done to a view once it is cropped. An operation that no image of the batch asks for is left out.

    Args:
        x: (B, 3, H, W) uint8, or float32 in 0 to 255.
        params: (B, len(PARAMS)) float32 on the host, as are all decisions made from it: no value of the device is asked for.
        kernel: width of the blur.
        mean, std: (1, 3, 1, 1), of values in [0, 1].
        compiled: by torch.compile, which does it in fewer passes over the pixels.

    Returns:
        (B, 3, H, W) float32, normalised.
    """

    def chosen(name: str) -> Tensor:
        return params[:, COLUMN[name]] > 0

    def there(mask: Tensor) -> Tensor:
        return mask.view(-1, 1, 1, 1).to(x.device, non_blocking=True)

    x = mirror(x, params).to(torch.float32, copy=True).div_(255)
    if (params[:, COLUMN['order']] >= 0).any():
        x = jitter(x, params, compiled)
    if (gray := chosen('gray')).any():
        x = run(to_gray, compiled)(x, there(gray))
    blurred = chosen('sigma').nonzero()[:, 0]
    sigma = params[blurred, COLUMN['sigma']].to(x.device, non_blocking=True)
    if len(blurred) == len(x):
        x = blur(x, sigma, kernel)
    elif len(blurred):
        rows = blurred.to(x.device, non_blocking=True)
        x[rows] = blur(x[rows], sigma, kernel)
    return run(finish, compiled)(x, there(chosen('solarize')), mean, std)


class Photometric(nn.Module):
    """mmengine's data preprocessor of a method: a batch of cropped uint8 views -> float32 views, normalised.

    Runs without gradient and outside autocast, so that bf16 training sees views computed in float32.

    Args:
        views: the recipes, one per view.
        mean, std: per channel, for values in [0, 1].
        channels_last: memory format of the views.

    Attributes:
        compiled: whether torch.compile makes the operations.
    """

    def __init__(
        self,
        views: list[View],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        channels_last: bool = False,
    ):
        super().__init__()
        self.views, self.compiled = views, False
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.register_buffer('mean', torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalise(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 or float in [0, 1], on any device -> float32, normalised, on the module's device."""
        pixels = pixels.to(self.mean.device, non_blocking=True)
        pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        return ((pixels - self.mean) / self.std).contiguous(memory_format=self.memory_format)

    def pixels(self, views: Tensor) -> Tensor:
        """What was normalised: (B, 3, H, W) float32 -> uint8 on the host, for people to look at."""
        return ((views * self.std + self.mean).clamp(0, 1) * 255).round().byte().cpu()

    @torch.no_grad()
    def forward(self, data: dict, training: bool = True) -> dict:
        """{'views': [(B, 3, H, W) uint8], 'params': [(B, P)], 'index': (B,)} -> {'views': [float32], 'index'}."""
        index = data['index'].to(self.mean.device, non_blocking=True)
        with torch.autocast(self.mean.device.type, enabled=False):
            views = [
                self._augmented(pixels.to(self.mean.device, non_blocking=True), params, view)
                for pixels, params, view in zip(
                    data['views'], data['params'], self.views, strict=True
                )
            ]
        return dict(views=views, index=index)

    def _augmented(self, x: Tensor, params: Tensor, view: View) -> Tensor:
        """On a CPU in parts that its caches hold: in one piece every operation would wait for the memory."""
        out = torch.empty(
            x.shape, dtype=torch.float32, device=x.device, memory_format=self.memory_format
        )
        parts = (
            1
            if x.device.type != 'cpu'
            else min(-(-x.numel() // (CACHED * torch.get_num_threads())), len(x))
        )
        for place, some, rows in zip(
            *(v.tensor_split(parts) for v in (out, x, params)), strict=True
        ):
            place.copy_(augment(some, rows, view.kernel, self.mean, self.std, self.compiled))
        return out
