"""Steps that the published degradation models have in common, on images in [0, 1].

They differ from their namesakes elsewhere in the package on purpose: resizing does not avoid aliasing, as OpenCV and
torch do not by default, and borders are reflected as often as a small image needs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .blur import blur
from .jpeg import BLUE, GREEN, RED, jpeg
from .noise import poisson_of_levels
from .resample import coverage_matrix

__all__ = [
    "RESIZES",
    "file_jpeg",
    "grey_of",
    "mirror",
    "mirrored_blur",
    "mixed_noise",
    "resize",
    "shot_noise",
    "to_8_bits",
]

RESIZES = ("bilinear", "bicubic", "area")
"""The ways to resize, in the order of their numbers in drawn parameters."""


def to_8_bits(x: Tensor) -> Tensor:
    """Clips images to [0, 1] and rounds them to multiples of 1/255."""
    return (x.clamp(0, 1) * 255).round() / 255


def file_jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """Passes images through a JPEG file, on any device.

    The tables, the rounding of coefficients and the enlarging of 4:2:0 chroma are libjpeg's; what libjpeg rounds in
    between is not, which leaves about 46 dB between them.

    Arguments:
        x: Images, with shape (B, C, H, W); C is 1 or 3. They are clipped to [0, 1], not rounded.
        quality: The qualities in [1, 100], with shape (B,).

    Returns:
        Images in [0, 1], not rounded, with the shape of x.
    """
    return jpeg(
        x.clamp(0, 1), quality, rounding="straight-through", table="integer", chroma="bilinear"
    )


def mirror(x: Tensor, margin: int) -> Tensor:
    """Reflects images at the centres of their border pixels, again and again where the margin is wide.

    Arguments:
        x: Images, with shape (..., H, W).
        margin: How many pixels are added on each side; any number.

    Returns:
        Images, with shape (..., H + 2 margin, W + 2 margin).
    """
    rows, columns = (_mirrored(side, margin, x.device) for side in x.shape[-2:])
    return x.index_select(-2, rows).index_select(-1, columns)


def mirrored_blur(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolves images of any size, each with its own kernel, with mirrored borders.

    Arguments:
        x: Images, with shape (B, C, H, W).
        kernel: Kernels, with shape (B, 1, k, k); k is odd and at most 31.

    Returns:
        Images, with the shape of x.
    """
    m = kernel.shape[-1] // 2
    h, w = x.shape[-2:]
    return blur(mirror(x, m), kernel, padding="zeros")[..., m : m + h, m : m + w]


def resize(x: Tensor, size: tuple[int, int], mode: int, *, pooled: bool = False) -> Tensor:
    """Resizes images about their centre without avoiding aliasing, as OpenCV and torch do.

    Arguments:
        x: Images, with shape (B, C, H, W).
        size: The new height and width.
        mode: The place in :data:`RESIZES`: bilinear; bicubic with a = -0.75; area.
        pooled: Whether the area of a new pixel is rounded to whole old pixels, as torch's is, or exact, as OpenCV's is.

    Returns:
        The resized images, not clamped, with shape (B, C, h, w).
    """
    if x.shape[-2:] == size:
        return x
    name = RESIZES[mode]
    if name != "area":
        return F.interpolate(x, size, mode=name, align_corners=False)
    if pooled:
        return F.interpolate(x, size, mode="area")
    rows = coverage_matrix(x.shape[-2], size[0], dtype=x.dtype, device=x.device)
    columns = coverage_matrix(x.shape[-1], size[1], dtype=x.dtype, device=x.device)
    return rows @ (x @ columns.T)


def grey_of(x: Tensor) -> Tensor:
    """Returns the luma 0.299 R + 0.587 G + 0.114 B, with shape (B, 1, H, W); grey images are kept."""
    if x.shape[1] == 1:
        return x
    weights = torch.tensor([RED, GREEN, BLUE], dtype=x.dtype, device=x.device)
    return (x * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)


def mixed_noise(x: Tensor, mixing: Tensor, eps: Tensor) -> Tensor:
    r"""Adds Gaussian noise whose channels may go together, :math:`y = x + M \epsilon`, and clips.

    Arguments:
        x: Images, with shape (B, C, H, W).
        mixing: The matrices M, with shape (B, C, C); the covariance of a pixel's noise is M M^T.
        eps: Standard normal numbers, with shape (B, C, H, W) or larger; what is too much is cut off.

    Returns:
        Images in [0, 1], with the shape of x.
    """
    noise = torch.einsum("bij,bjhw->bihw", mixing, eps[..., : x.shape[-2], : x.shape[-1]])
    return (x + noise).clamp(0, 1)


def shot_noise(x: Tensor, strength: Tensor, eps: Tensor, *, grey: bool) -> Tensor:
    r"""Adds Real-ESRGAN's Poisson noise to one image and clips.

    The image is rounded to 8 bits, :math:`x_8`, and counts are drawn with the mean :math:`v x_8`, where v is the
    number of its different values rounded up to a power of two. The deviation :math:`n / v - x_8` is multiplied by the
    strength.

    Arguments:
        x: One image, with shape (1, C, H, W).
        strength: The factor of the deviation, with shape (1,).
        eps: Standard normal numbers, with shape (1, C, H, W) or larger, from whose probabilities the counts follow.
        grey: Whether the noise is that of the luma, the same in all channels.

    Returns:
        An image in [0, 1], with the shape of x.
    """
    seen = grey_of(x) if grey else x
    level = (seen.clamp(0, 1) * 255).round()
    peak = 1 << math.ceil(math.log2(torch.unique(level).numel()))
    drawn = eps[:, : seen.shape[1], : x.shape[-2], : x.shape[-1]]
    # In float64, where the probability of no float32 number rounds to 1.
    count = poisson_of_levels(torch.special.ndtr(drawn.double()), level, peak)
    deviation = count / peak - level.double() / 255
    return (x + strength.view(1, 1, 1, 1) * deviation.to(x.dtype)).clamp(0, 1)


def _mirrored(side: int, margin: int, device: torch.device) -> Tensor:
    place = torch.arange(-margin, side + margin, device=device)
    # A reflected row has the period 2 (side - 1); a single pixel is repeated.
    period = max(2 * (side - 1), 1)
    place = place.remainder(period)
    return torch.minimum(place, period - place) if side > 1 else torch.zeros_like(place)
