"""Crop and resize: one image on the host, or a batch of images of one size on any device.

Step 2 of the four from image bytes to the loss, see ssl_zoo.data.
"""

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.data.views import View

# The kernels that F.interpolate(..., antialias=True) calls. F.interpolate has no `out`, and its
# result would be copied.
RESIZE = dict(
    bicubic=torch.ops.aten._upsample_bicubic2d_aa.out,
    bilinear=torch.ops.aten._upsample_bilinear2d_aa.out,
)


def crop_box(params: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """Compute the crop of one image.

    Sides are rounded and clipped to the image, as in BYOL's official code; torchvision draws again,
    up to ten times.

    Args:
        params: (len(PARAMS),), see ssl_zoo.data.views.
        height: height of the image in pixels.
        width: width of the image in pixels.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    relative_area, ratio, top, left = params[:4].tolist()
    area = relative_area * (height * width)
    crop_width = min(max(round((area * ratio) ** 0.5), 1), width)
    crop_height = min(max(round((area / ratio) ** 0.5), 1), height)
    y = min(int(top * (height - crop_height + 1)), height - crop_height)
    x = min(int(left * (width - crop_width + 1)), width - crop_width)
    return x, y, x + crop_width, y + crop_height


def crop(pixels: np.ndarray, views: list[View], params: np.ndarray, out: list[Tensor]) -> None:
    """Crop one image for every view and resize the crops with antialiasing.

    The photometric step does the flip. The pixels are on average within one grey level of Pillow's
    resize, whose weights are rounded less coarsely; Pillow takes five times as long.

    Args:
        pixels: (H, W, 3) uint8, RGB.
        views: recipe of each view.
        params: (len(views), len(PARAMS)) float32, the parameters of each view.
        out: for each view a contiguous uint8 tensor (3, size, size), which receives its crop.
    """
    image = torch.from_numpy(np.require(pixels, requirements=['C', 'W']))
    image = image.permute(2, 0, 1).unsqueeze(0)  # (1, 3, H, W)
    for view, row, view_out in zip(views, params, out, strict=True):
        left, top, right, bottom = crop_box(row, *pixels.shape[:2])
        RESIZE[view.interpolation](
            image[:, :, top:bottom, left:right],
            (view.size, view.size),
            False,  # align_corners
            None,  # scales, which follow from the sizes
            None,
            out=view_out.unsqueeze(0),
        )


def crop_boxes(params: np.ndarray, height: int, width: int) -> Tensor:
    """Compute the crops of B images of one size.

    Args:
        params: (B, len(PARAMS)) float32.
        height: height of the images in pixels.
        width: width of the images in pixels.

    Returns:
        (B, 4) float32 on the host: left, top, right, bottom in pixels.
    """
    return torch.tensor([crop_box(row, height, width) for row in params], dtype=torch.float32)


def crop_batch(images: Tensor, boxes: Tensor, size: int, interpolation: str) -> Tensor:
    """Crop and resize a batch of images of one size on any device; equals `crop` up to rounding.

    Two batched matrix products resample along rows, then along columns. The matrices hold the
    resampling weights of each image and its box. As in Pillow, values are rounded to grey levels
    after each of the two.

    Args:
        images: (B, 3, H, W) uint8.
        boxes: (B, 4) float32 from `crop_boxes`, on the images' device.
        size: side of the crops in pixels.
        interpolation: 'bicubic' or 'bilinear'.

    Returns:
        (B, 3, size, size) uint8, contiguous.
    """
    n, _, height, width = images.shape
    left, top, right, bottom = boxes.unbind(1)
    column_weights = _resampling_weights(left, right - left, width, size, interpolation)
    row_weights = _resampling_weights(top, bottom - top, height, size, interpolation)
    lines = images.transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    lines = lines.view(n, height * 3, width)
    narrow = _to_grey_levels(torch.bmm(lines, column_weights.transpose(1, 2)))  # (B, H * 3, size)
    small = _to_grey_levels(torch.bmm(row_weights, narrow.view(n, height, 3 * size)))
    small = small.view(n, size, 3, size).transpose(1, 2)
    return small.to(torch.uint8, memory_format=torch.contiguous_format)


def _to_grey_levels(x: Tensor) -> Tensor:
    return x.add(0.5).floor().clamp(0, 255)


def _resampling_weights(
    start: Tensor, length: Tensor, total: int, size: int, interpolation: str
) -> Tensor:
    """Compute the antialiased filter that resamples a segment of a line of pixels.

    Args:
        start: (B,) first pixel of the segment.
        length: (B,) number of pixels of the segment.
        total: number of pixels of the line.
        size: number of pixels after resampling.
        interpolation: 'bicubic' or 'bilinear'.

    Returns:
        (B, size, total) float32; weights of one output pixel sum to 1.
    """
    start = start.view(-1, 1, 1)
    length = length.view(-1, 1, 1)
    scale = length / size
    target = torch.arange(size, device=start.device) + 0.5
    source = torch.arange(total, device=start.device) + 0.5
    # Distances are in output pixels if the filter shrinks the segment, in input pixels if it
    # enlarges the segment.
    distance = ((source - start - scale * target[:, None]) / scale.clamp(min=1)).abs()
    if interpolation == 'bilinear':
        weights = (1 - distance).clamp(min=0)
    else:
        weights = _keys_cubic(distance)
    weights = torch.where((source > start) & (source < start + length), weights, 0.0)
    return weights / weights.sum(2, keepdim=True)


def _keys_cubic(distance: Tensor) -> Tensor:
    """Compute Keys' cubic convolution kernel with a = -1/2, as in Pillow."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
