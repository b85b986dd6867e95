"""The photometric step: flip, colour jitter, grayscale, blur, solarize, normalise.

Step 3 of the four from image bytes to the loss, see ssl_zoo.data. One implementation serves CPU and
GPU. Each operation equals torchvision's functional of the same name applied image by image;
torchvision's own classes draw one set of parameters for a whole batch (torchvision issue 8484). The
parameters stay on the host: to select the images that an operation changes, the host need not wait
for the device.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.data.views import COLUMN, JITTER_ORDERS, View

LUMA = (0.2989, 0.5870, 0.1140)  # weights of R, G and B in torchvision's rgb_to_grayscale
CONTRAST = 1  # numbers of the operations in JITTER_ORDERS
SATURATION = 2
HUE = 3
BLUR_BLOCK = 32  # pixels that one band matrix blurs
CHUNK_VALUES = 2**20  # values of a batch that one core processes at a time: they fit its caches


@lru_cache
def _compile(function: Callable) -> Callable:
    return torch.compile(function)


def maybe_compile(function: Callable, compiled: bool) -> Callable:
    """Return the function, or its form from torch.compile, which is made once per process."""
    return _compile(function) if compiled else function


def _per_image(values: Tensor, device: torch.device) -> Tensor:
    """Copy (B,) on the host -> (B, 1, 1, 1) on the device, without waiting for the device."""
    return values.view(-1, 1, 1, 1).to(device, non_blocking=True)


def horizontal_flip(x: Tensor, params: Tensor) -> Tensor:
    """Flip the images whose `flip` parameter is set.

    Args:
        x: (B, C, H, W), any dtype.
        params: (B, len(PARAMS)) float32 on the host.

    Returns:
        (B, C, H, W); `x` itself if no image is flipped.
    """
    flip = params[:, COLUMN['flip']] > 0
    if not flip.any():
        return x
    return torch.where(_per_image(flip, x.device), x.flip(3), x)


def grayscale(x: Tensor) -> Tensor:
    """Compute the luma: (B, 3, H, W) RGB -> (B, 1, H, W)."""
    r, g, b = x.unbind(1)
    return (LUMA[0] * r + LUMA[1] * g + LUMA[2] * b).unsqueeze(1)


def shift_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue of images; their value and saturation (HSV) stay the same.

    Args:
        x: (B, 3, H, W) in [0, 1].
        shift: (B,) in turns. Images with a shift of 0 are returned unchanged.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    r, g, b = x.unbind(1)
    high = x.amax(1)
    chroma = high - x.amin(1)
    divisor = torch.where(chroma == 0, 1.0, chroma)
    hue_where_green = 2 + (b - r) / divisor
    hue_where_blue = 4 + (r - g) / divisor
    hue = torch.where(
        high == r,
        (g - b) / divisor,
        torch.where(high == g, hue_where_green, hue_where_blue),
    )  # (B, H, W) in sixths of a turn
    hue = hue + 6 * shift.view(-1, 1, 1)
    # Channel n of an HSV colour is value - chroma * clamp(min(k, 4 - k), 0, 1) with k = (n + hue)
    # mod 6, n = 5, 3, 1.
    k = torch.stack([hue + 5, hue + 3, hue + 1], dim=1)
    k = k - 6 * torch.floor(k / 6)  # mod 6: compilers do not vectorise the remainder
    shifted = high.unsqueeze(1) - chroma.unsqueeze(1) * torch.minimum(k, 4 - k).clamp(0, 1)
    return torch.where((shift == 0).view(-1, 1, 1, 1), x, shifted)


def blend(x: Tensor, image_weight: Tensor, use_mean: Tensor, use_gray: Tensor) -> Tensor:
    """Apply brightness, contrast and saturation, each once or not, in an order of each image.

    Each of the three blends an image with a reference: black (brightness), the mean of its luma
    (contrast), its luma (saturation). A weight of 1 leaves
    the image as it is.

    Args:
        x: (B, 3, H, W) in [0, 1].
        image_weight: (3, B, 1, 1, 1), weight of the image in each of the three operations.
        use_mean: (3, B, 1, 1, 1), 1 if the reference is the mean luma, else 0.
        use_gray: (3, B, 1, 1, 1), 1 if the reference is the luma, else 0.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    for weight, mean, gray in zip(image_weight, use_mean, use_gray, strict=True):
        luma = grayscale(x)
        reference = mean * luma.mean((2, 3), keepdim=True) + gray * luma
        x = torch.lerp(reference.expand_as(x), x, weight).clamp(0, 1)
    return x


def _blend_coefficients(params: Tensor) -> Tensor:
    """Compute the arguments of `blend` before and after the hue shift, for images of any order.

    Args:
        params: (B, len(PARAMS)) on the host.

    Returns:
        (3, 6, B) float32. First dimension: image_weight, use_mean, use_gray of `blend`. Second
        dimension: three operations before the hue shift, then three after it.
    """
    order_index = params[:, COLUMN['order']].long()  # (B,)
    order = torch.from_numpy(JITTER_ORDERS)[order_index.clamp(min=0)]  # (B, 4)
    factors = params[:, COLUMN['brightness'] : COLUMN['hue'] + 1].gather(1, order)  # (B, 4)
    hue_position = (order == HUE).long().argmax(1, keepdim=True)  # (B, 1)
    jittered = (order_index >= 0)[:, None]
    before_hue = (torch.arange(3) < hue_position) & jittered
    after_hue = (torch.arange(1, 4) > hue_position) & jittered
    used = torch.cat([before_hue, after_hue], 1)  # (B, 6)
    factors = torch.cat([factors[:, :3], factors[:, 1:]], 1)
    order = torch.cat([order[:, :3], order[:, 1:]], 1)
    image_weight = torch.where(used, factors, 1.0)
    use_mean = used & (order == CONTRAST)
    use_gray = used & (order == SATURATION)
    return torch.stack([image_weight, use_mean, use_gray]).transpose(1, 2)


def jitter(x: Tensor, params: Tensor, compiled: bool = False) -> Tensor:
    """Change brightness, contrast, saturation and hue, in the order drawn for each image.

    The whole batch is blended three times, shifted in hue, and blended three times. An operation
    that comes before the hue shift in an image's order is among the first three blends; unused
    blends have a weight of 1.

    Args:
        x: (B, 3, H, W) float32 in [0, 1].
        params: (B, len(PARAMS)) float32 on the host; images with an `order` below 0 stay as they
            are.
        compiled: whether to compile the operations.

    Returns:
        (B, 3, H, W) float32 in [0, 1].
    """
    coefficients = _blend_coefficients(params).contiguous().to(x.device, non_blocking=True)
    jittered = params[:, COLUMN['order']].long() >= 0
    hue = torch.where(jittered, params[:, COLUMN['hue']], 0.0)
    hue = hue.to(x.device, non_blocking=True)
    before_hue = coefficients[:, :3].reshape(3, 3, -1, 1, 1, 1).unbind(0)
    after_hue = coefficients[:, 3:].reshape(3, 3, -1, 1, 1, 1).unbind(0)
    # Three compiled functions, not one: in a single function the compiled code would compute the
    # blends again in every pass over the pixels.
    x = maybe_compile(blend, compiled)(x, *before_hue)
    x = maybe_compile(shift_hue, compiled)(x, hue)
    return maybe_compile(blend, compiled)(x, *after_hue)


def blur(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Apply a Gaussian blur with a sigma per image; borders are reflected.

    Two batched matrix products, along rows and along columns. The band matrix of an image holds
    its Gaussian. The matrix maps BLUR_BLOCK + kernel - 1 pixels to BLUR_BLOCK, so that few of its
    entries are zeros, and is used for every block of a line.

    Args:
        x: (B, C, H, W) float32.
        sigma: (B,) in pixels, on the images' device.
        kernel: width in pixels, odd.

    Returns:
        (B, C, H, W) float32.

    Raises:
        ValueError: a side of the images has at most kernel // 2 pixels.
    """
    height, width = x.shape[2:]
    margin = kernel // 2
    if margin >= min(height, width):
        raise ValueError(
            f'a blur of {kernel} pixels needs images of more than {margin} pixels, '
            f'got {height} x {width}'
        )
    rows = torch.arange(BLUR_BLOCK + kernel - 1, device=x.device)[:, None]
    offset = rows - torch.arange(BLUR_BLOCK, device=x.device)
    band = torch.exp(-0.5 * ((offset - margin) / sigma.view(-1, 1, 1)) ** 2)
    band = torch.where((offset >= 0) & (offset < kernel), band, 0.0)
    band = band / band.sum(1, keepdim=True)  # (B, BLUR_BLOCK + kernel - 1, BLUR_BLOCK)
    x = F.pad(x, (margin,) * 4, mode='reflect')
    x = F.pad(x, (0, -width % BLUR_BLOCK, 0, -height % BLUR_BLOCK))  # to whole blocks
    blocks = x.unfold(3, len(offset), BLUR_BLOCK)  # along rows
    x = (blocks.flatten(1, 3) @ band).view(*x.shape[:3], -1)[..., :width]
    blocks = x.unfold(2, len(offset), BLUR_BLOCK).transpose(3, 4)  # along columns
    x = band.transpose(1, 2)[:, None, None] @ blocks
    return x.flatten(2, 3)[:, :, :height]


def solarize_and_normalise(x: Tensor, solarize: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Invert values of at least 0.5 in images with `solarize` set, then normalise all images.

    Args:
        x: (B, 3, H, W) in [0, 1].
        solarize: (B, 1, 1, 1) bool.
        mean: (1, 3, 1, 1).
        std: (1, 3, 1, 1).
    """
    return (torch.where(solarize & (x >= 0.5), 1 - x, x) - mean) / std


def grayscale_where(x: Tensor, mask: Tensor) -> Tensor:
    """Grayscale the images (B, 3, H, W) for which the mask (B, 1, 1, 1) is true."""
    return torch.where(mask, grayscale(x), x)


def _blur_where(x: Tensor, params: Tensor, kernel: int) -> Tensor:
    """Blur the images whose sigma is above 0; `x` may be changed in place."""
    all_sigmas = params[:, COLUMN['sigma']]
    rows = (all_sigmas > 0).nonzero()[:, 0]
    if not len(rows):
        return x
    sigma = all_sigmas[rows].to(x.device, non_blocking=True)
    if len(rows) == len(x):
        return blur(x, sigma, kernel)
    rows = rows.to(x.device, non_blocking=True)
    x[rows] = blur(x[rows], sigma, kernel)
    return x


def augment(
    x: Tensor, params: Tensor, kernel: int, mean: Tensor, std: Tensor, compiled: bool = False
) -> Tensor:
    """Run the photometric step of one view; skip operations that no image of the batch needs.

    Args:
        x: (B, 3, H, W) uint8, or float32 in [0, 255].
        params: (B, len(PARAMS)) float32 on the host. The host makes all decisions and reads no
            value from the device.
        kernel: width of the blur in pixels.
        mean: (1, 3, 1, 1), for values in [0, 1].
        std: (1, 3, 1, 1), for values in [0, 1].
        compiled: whether to compile the operations, which then read the pixels fewer times.

    Returns:
        (B, 3, H, W) float32, normalised.
    """
    gray = params[:, COLUMN['gray']] > 0
    solarize = params[:, COLUMN['solarize']] > 0
    x = horizontal_flip(x, params).to(torch.float32, copy=True).div_(255)
    if (params[:, COLUMN['order']] >= 0).any():
        x = jitter(x, params, compiled)
    if gray.any():
        x = maybe_compile(grayscale_where, compiled)(x, _per_image(gray, x.device))
    x = _blur_where(x, params, kernel)
    finish = maybe_compile(solarize_and_normalise, compiled)
    return finish(x, _per_image(solarize, x.device), mean, std)


class Photometric(nn.Module):
    """The data preprocessor of a method: cropped uint8 views -> normalised float32 views.

    It runs without gradient and outside autocast, so that views are computed in float32 when the
    training is in bfloat16.

    Args:
        views: recipe of each view.
        mean: mean of each channel, for values in [0, 1].
        std: standard deviation of each channel, for values in [0, 1].
        channels_last: memory format of the views.

    Attributes:
        compiled: whether torch.compile compiles the operations.
    """

    def __init__(
        self,
        views: list[View],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        channels_last: bool = False,
    ):
        super().__init__()
        self.views = views
        self.compiled = False
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.register_buffer('mean', torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalise images as evaluation does, without augmentation.

        Args:
            pixels: (B, 3, H, W) uint8, or float in [0, 1], on any device.

        Returns:
            (B, 3, H, W) float32 on the module's device.
        """
        pixels = pixels.to(self.mean.device, non_blocking=True)
        if pixels.dtype == torch.uint8:
            pixels = pixels.float() / 255
        return ((pixels - self.mean) / self.std).contiguous(memory_format=self.memory_format)

    def denormalise(self, views: Tensor) -> Tensor:
        """Undo the normalisation: (B, 3, H, W) float32 -> uint8 on the host, for display."""
        return ((views * self.std + self.mean).clamp(0, 1) * 255).round().byte().cpu()

    @torch.no_grad()
    def forward(self, data: dict, training: bool = True) -> dict:
        """Augment a batch from ViewDataset.

        Args:
            data: `views`, a list of (B, 3, H, W) uint8; `params`, a list of (B, len(PARAMS))
                float32 on the host; `index`, (B,) int64.
            training: part of mmengine's interface, unused.

        Returns:
            `views`, a list of (B, 3, H, W) float32, and `index`, on the module's device.
        """
        device = self.mean.device
        index = data['index'].to(device, non_blocking=True)
        views = []
        with torch.autocast(device.type, enabled=False):
            for pixels, params, view in zip(data['views'], data['params'], self.views, strict=True):
                pixels = pixels.to(device, non_blocking=True)
                views.append(self._augment_in_chunks(pixels, params, view))
        return dict(views=views, index=index)

    def _augment_in_chunks(self, x: Tensor, params: Tensor, view: View) -> Tensor:
        """Augment a batch; on a CPU in chunks that fit its caches, to save memory accesses."""
        out = torch.empty(
            x.shape, dtype=torch.float32, device=x.device, memory_format=self.memory_format
        )
        chunks = 1
        if x.device.type == 'cpu':
            chunk_values = CHUNK_VALUES * torch.get_num_threads()
            chunks = min(-(-x.numel() // chunk_values), len(x))
        for out_chunk, x_chunk, params_chunk in zip(
            out.tensor_split(chunks),
            x.tensor_split(chunks),
            params.tensor_split(chunks),
            strict=True,
        ):
            out_chunk.copy_(
                augment(x_chunk, params_chunk, view.kernel, self.mean, self.std, self.compiled)
            )
        return out
