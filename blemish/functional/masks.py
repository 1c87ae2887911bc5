r"""Masks, and damage under them.

A mask :math:`m \in [0, 1]` says how much of a damage each pixel gets. Places and sizes are fractions of the image's
sides, so that a mask means the same at any resolution: the pixel (i, j) of an image with the sides (H, W) lies at
:math:`p = ((i + \tfrac12) / H, (j + \tfrac12) / W)`.

A region has a radius r(p) that is 1 on its edge, as the ellipse with the middle c and the half sides h,
:math:`r = |(p - c) / h|`. Its edge is softened over the width s, in half sides,

.. math:: m = \operatorname{clip} \left( \frac{1 - r}{s} + \frac12, \; 0, \; 1 \right).

A graded blur has the standard deviation :math:`m \sigma` at each pixel. It blends between copies of the image that are
blurred by :math:`\sigma_k = k \sigma / K`, with the weights :math:`\max(0, 1 - |K m - k|)`: where m is 0 the image stays
as it is, and where m is 1 everywhere this is the blur by :math:`\sigma`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .blur import blur
from .kernels import gaussian

__all__ = ["box", "drops", "each_drop", "ellipse", "graded_blur", "pull", "ramp", "refract"]

COPIES = 4
"""The number K of blurred copies between which a graded blur blends."""

TAPER = 0.4
"""By how much a drop is wider below its middle than at it, and narrower above, in half widths at its ends."""

TINY = 1e-6

Size = tuple[int, int]


def box(middle: Tensor, half: Tensor, softness: Tensor, size: Size) -> Tensor:
    """Draws boxes with soft edges.

    Arguments:
        middle: The middles (row, column) as fractions of the sides, with shape (B, 2).
        half: Half the height and width as fractions of the sides, positive, with shape (B, 2).
        softness: The widths of the edges in half sides, with shape (B,); 0 is a hard edge.
        size: The height H and width W in pixels.

    Returns:
        Masks in [0, 1], with shape (B, 1, H, W).
    """
    row, column = _seen_from(middle, half, size)
    s = softness[:, None, None]
    return (_inside(row.abs(), s) * _inside(column.abs(), s))[:, None]


def ellipse(middle: Tensor, half: Tensor, softness: Tensor, size: Size) -> Tensor:
    """Draws ellipses with soft edges.

    Arguments:
        middle: The middles (row, column) as fractions of the sides, with shape (B, 2).
        half: Half the height and width as fractions of the sides, positive, with shape (B, 2).
        softness: The widths of the edges in half sides, with shape (B,); 0 is a hard edge.
        size: The height H and width W in pixels.

    Returns:
        Masks in [0, 1], with shape (B, 1, H, W).
    """
    row, column = _seen_from(middle, half, size)
    return _inside(torch.hypot(row, column), softness[:, None, None])[:, None]


def ramp(angle: Tensor, size: Size) -> Tensor:
    """Draws masks that grow linearly across the image, from 0 in one corner of it to 1 in the opposite one.

    Arguments:
        angle: The directions in which they grow in radians, 0 along a row and pi / 2 down a column, with both sides
            taken as 1; with shape (B,).
        size: The height H and width W in pixels.

    Returns:
        Masks in [0, 1], with shape (B, 1, H, W).
    """
    rows, columns = _places(size, angle)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along = cos * (columns - 0.5) + sin * (rows[:, None] - 0.5)
    # Rounding must not leave the range.
    return (along / (cos.abs() + sin.abs()) + 0.5).clamp(0, 1)[:, None]


def drops(middle: Tensor, half: Tensor, softness: Tensor, size: Size) -> Tensor:
    """Draws several drops, narrower above than below, with soft edges; where they overlap, the stronger one counts.

    Arguments:
        middle: The middles (row, column) as fractions of the sides, with shape (B, K, 2).
        half: Half the heights and widths as fractions of the sides, with shape (B, K, 2); 0 leaves a drop out.
        softness: The widths of the edges in half sides, with shape (B,); 0 is a hard edge.
        size: The height H and width W in pixels.

    Returns:
        Masks in [0, 1], with shape (B, 1, H, W).
    """
    return each_drop(middle, half, softness, size).amax(1, keepdim=True)


def each_drop(middle: Tensor, half: Tensor, softness: Tensor, size: Size) -> Tensor:
    """Draws the drops of :func:`drops`, from the same arguments, each for itself, with shape (B, K, H, W)."""
    row, column = _seen_from(middle, half, size)
    width = 1 + TAPER * row.clamp(-1, 1)
    mask = _inside(torch.hypot(row, column / width), softness[:, None, None, None])
    return torch.where((half > 0).all(-1)[..., None, None], mask, 0)


def pull(middle: Tensor, half: Tensor, softness: Tensor, size: Size) -> Tensor:
    """Returns the way from each pixel to the middle of the drop that counts there.

    Arguments:
        middle: As for :func:`drops`, with shape (B, K, 2).
        half: As for :func:`drops`, with shape (B, K, 2).
        softness: As for :func:`drops`, with shape (B,).
        size: The height H and width W in pixels.

    Returns:
        The (row, column) as fractions of the sides, with shape (B, 2, H, W); 0 where no drop is.
    """
    masks = each_drop(middle, half, softness, size)
    strongest = masks.argmax(1)
    rows, columns = _places(size, middle)
    batch = torch.arange(len(middle), device=middle.device)[:, None, None]
    # The middle that each pixel looks at: (row, column) in the last dimension.
    chosen = middle[batch, strongest]
    way = torch.stack([chosen[..., 0] - rows[:, None], chosen[..., 1] - columns], dim=1)
    return torch.where(masks.amax(1, keepdim=True) > 0, way, 0)


def graded_blur(x: Tensor, mask: Tensor, sigma: Tensor, size: int) -> Tensor:
    """Blurs each pixel as much as a mask says; see the module's docstring.

    Arguments:
        x: Images, with shape (B, C, H, W); borders are reflected.
        mask: The masks m in [0, 1], with shape (B, 1, H, W).
        sigma: The standard deviations where the mask is 1, in pixels, with shape (B,).
        size: The odd size of the kernels, at most 31.

    Returns:
        Images, with the shape and dtype of x.
    """
    level = COPIES * mask.to(x.dtype)
    y = x * (1 - level).clamp_min(0)
    for k in range(1, COPIES + 1):
        weight = (1 - (level - k).abs()).clamp_min(0)
        # Kernels in the images' precision, which decides whether a sample is the same in any batch.
        y = y + weight * blur(x, gaussian(sigma.to(x.dtype) * (k / COPIES), size))
    return y


def refract(x: Tensor, way: Tensor) -> Tensor:
    """Shows at each pixel what lies some way off, interpolated bilinearly; borders are replicated.

    Arguments:
        x: Images, with shape (B, C, H, W).
        way: The ways (row, column) as fractions of the sides, with shape (B, 2, H, W).

    Returns:
        Images, with the shape and dtype of x.
    """
    rows, columns = _places((x.shape[2], x.shape[3]), x)
    row, column = way.to(x.dtype).unbind(1)
    # grid_sample counts from -1 to 1, columns first.
    grid = torch.stack([columns + column, rows[:, None] + row], dim=-1) * 2 - 1
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _places(size: Size, like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the places of the rows (H,) and of the columns (W,) as fractions of the sides."""
    rows, columns = (
        (torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) / side for side in size
    )
    return rows, columns


def _seen_from(middle: Tensor, half: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Returns how far each pixel lies from the middles (..., 2), in half sides: rows (..., H, 1), columns (..., 1, W)."""
    rows, columns = _places(size, middle)
    half = half.clamp_min(TINY)
    row = (rows - middle[..., :1]) / half[..., :1]
    column = (columns - middle[..., 1:]) / half[..., 1:]
    return row[..., :, None], column[..., None, :]


def _inside(radius: Tensor, softness: Tensor) -> Tensor:
    """Returns how much inside of an edge at radius 1 something is, in [0, 1]."""
    return ((1 - radius) / softness.clamp_min(TINY) + 0.5).clamp(0, 1)
