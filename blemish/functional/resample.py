r"""Changing the size of images.

*Area reduction.* Output pixel :math:`j` of a row of :math:`n` pixels reduced to :math:`m \le n`
covers the interval :math:`[j r, (j + 1) r)` with :math:`r = n / m`. Its value is the mean of the
(piecewise constant) input over that interval,

.. math:: y_j = \sum_i M_{ji} x_i, \qquad
    M_{ji} = \frac{1}{r} \, \bigl|\, [i, i + 1) \cap [j r, (j + 1) r) \,\bigr|,

for any ratio, whole or not; in two dimensions :math:`Y = M_h X M_w^\top`. Each row of :math:`M`
sums to one, so flat images stay flat, and the mean of an image is kept. (Adaptive average pooling
rounds the intervals to whole pixels instead.)

*Bicubic* interpolation with antialiasing widens the cubic kernel (a = -0.5) by the ratio where it
reduces. It can overshoot the range of its input.

*Legacy bilinear* interpolation is what TensorFlow 1 did without its align_corners: output pixel j is
read at the place :math:`j r` of the input, with :math:`r = n / m` and no shift by half a pixel, and
between the two pixels beside it; beyond the last pixel the last is repeated. It moves an image by
:math:`(r - 1) / 2` pixels and aliases where it reduces. Published scores were computed with it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "area",
    "area_matrix",
    "bicubic",
    "coverage_matrix",
    "legacy_bilinear",
    "modcrop",
    "repeated",
]

Size = int | tuple[int, int]


def area(x: Tensor, size: Size) -> Tensor:
    """Reduces images by exact area averages.

    Arguments:
        x: Floating images, with shape (..., H, W).
        size: The new height and width, or one side for both; neither exceeds the old.

    Returns:
        The reduced images, with shape (..., h, w).

    Raises:
        ValueError: If the images would have to grow.
    """
    (height, width), (h, w) = x.shape[-2:], _pair(size)
    rows = area_matrix(height, h, dtype=x.dtype, device=x.device)
    columns = area_matrix(width, w, dtype=x.dtype, device=x.device)
    return rows @ (x @ columns.T)


def area_matrix(
    old: int,
    new: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Returns the matrix M that reduces a row of pixels by area averages, with shape (new, old).

    Raises:
        ValueError: If the row would have to grow, or to vanish.
    """
    if not 1 <= new <= old:
        raise ValueError(
            f"cannot reduce {old} pixels to {new} by area; "
            f"choose 1 to {old}, or enlarge with bicubic"
        )
    return coverage_matrix(old, new, dtype=dtype, device=device)


def coverage_matrix(
    old: int,
    new: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Returns the matrix M of area averages for any two lengths, with shape (new, old).

    Where the row grows, a new pixel inside an old one repeats it, and one across an edge mixes both.
    """
    # In units of 1/new of a pixel all ends of intervals are integers, so that the overlaps are exact.
    pixel = torch.arange(old, dtype=torch.float64) * new
    cell = torch.arange(new, dtype=torch.float64)[:, None] * old
    overlap = torch.minimum(pixel + new, cell + old) - torch.maximum(pixel, cell)
    return (overlap.clamp(min=0) / old).to(dtype=dtype, device=device)


def modcrop(x: Tensor, factor: int) -> Tensor:
    """Cuts off the last rows and columns until a factor divides both sides.

    Arguments:
        x: Images, with shape (..., H, W).
        factor: The whole factor, at least 1.

    Returns:
        A view of the images, with shape (..., H - H % factor, W - W % factor).

    Raises:
        ValueError: If nothing would be left.
    """
    h, w = (side - side % factor for side in x.shape[-2:])
    if not h or not w:
        raise ValueError(
            f"images of {x.shape[-2]}x{x.shape[-1]} pixels cannot shrink by {factor}; "
            f"both sides need at least {factor} pixels"
        )
    return x[..., :h, :w]


def bicubic(x: Tensor, size: Size) -> Tensor:
    """Resizes images by bicubic interpolation with antialiasing.

    Arguments:
        x: Floating images, with shape (B, C, H, W).
        size: The new height and width, or one side for both.

    Returns:
        The resized images, with shape (B, C, h, w); not clamped.

    Raises:
        ValueError: If a side is smaller than 1.
    """
    if min(_pair(size)) < 1:
        raise ValueError(f"cannot resize to {_pair(size)}; sides are at least 1 pixel")
    return F.interpolate(x, _pair(size), mode="bicubic", align_corners=False, antialias=True)


def legacy_bilinear(x: Tensor, size: Size) -> Tensor:
    """Resizes images as TensorFlow 1 did, for scores that are defined with it.

    Arguments:
        x: Floating images, with shape (..., H, W).
        size: The new height and width, or one side for both.

    Returns:
        The resized images, with shape (..., h, w).

    Raises:
        ValueError: If a side is smaller than 1.
    """
    h, w = _pair(size)
    if min(h, w) < 1:
        raise ValueError(f"cannot resize to {(h, w)}; sides are at least 1 pixel")
    low, high, weight = _neighbours(x.shape[-1], w, x)
    x = torch.lerp(x[..., low], x[..., high], weight)
    low, high, weight = _neighbours(x.shape[-2], h, x)
    return torch.lerp(x[..., low, :], x[..., high, :], weight[:, None])


def repeated(x: Tensor, factor: int) -> Tensor:
    """Enlarges images by repeating pixels, so that each is shown as the block that it stands for.

    Arguments:
        x: Images, with shape (..., H, W).
        factor: How many times each pixel is repeated along both sides.

    Returns:
        The enlarged images, with shape (..., factor H, factor W).
    """
    return x.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def _neighbours(old: int, new: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # The two pixels beside each place j * old / new, and how far the place is from the first.
    place = torch.arange(new, dtype=torch.float64, device="cpu") * (old / new)
    low = place.long().clamp(max=old - 1)
    weight = (place - low).to(like)
    return low.to(like.device), (low + 1).clamp(max=old - 1).to(like.device), weight


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
