r"""Changing the size of images by whole factors with a short filter.

An image is stuffed with zeros (u - 1 after each pixel of a row), padded, convolved with a filter h, and every d-th pixel of
the result is kept. Along one axis, with p zeros before the first pixel and q after the last,

.. math:: y_j = \sum_i h_{jd - iu + k - 1 - p} \, x_i, \qquad
    |y| = \Big\lfloor \frac{u |x| + p + q - k}{d} \Big\rfloor + 1,

where :math:`h_0 \ldots h_{k - 1}` are the taps. In two dimensions the filter is the taps' outer product. Nothing is clamped to
the border: beyond it are zeros.

*The filter [1, 3, 3, 1]* of the style generators, of unit sum, doubles images (:func:`doubled`) with a gain of 2 along each axis,
as half of what it meets is zeros, and halves them (:func:`halved`) with a gain of 1. Without their gains, each is the adjoint
of the other.

*After a convolution.* An up-sampling convolution (:func:`convolved_up`) is a transposed convolution of stride 2, of 2H + 1 pixels,
filtered down to 2H: the image stuffed with zeros, convolved with W and with the filter,

.. math:: y = 4 \; (h \otimes h) * W * (x \uparrow 2),

so that nothing is lost at the border between the two. It is a convolution with W, and no correlation as ``conv2d`` computes it.

All are sums of products of convolutions, whose derivatives of any order exist.

References:
    | Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020)
    | https://arxiv.org/abs/1912.04958
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["TAPS", "convolved_up", "doubled", "halved", "upfirdn"]

TAPS = (0.125, 0.375, 0.375, 0.125)
"""The style generators' filter [1, 3, 3, 1], of unit sum."""


def upfirdn(
    x: Tensor, taps: Sequence[float], *, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)
) -> Tensor:
    """Stuffs images with zeros, pads, filters and thins them out.

    Arguments:
        x: Images, with shape (B, C, H, W).
        taps: The filter along each axis.
        up: The factor by which zeros lengthen a row, at least 1.
        down: One of so many pixels is kept, at least 1.
        pad: The zeros before and after each row and column; below 0, pixels that are cut off.

    Returns:
        Images, with shape (B, C, (up H + p + q - k) // down + 1, (up W + p + q - k) // down + 1).

    Raises:
        ValueError: If a factor is below 1, or the filter is longer than what it filters.
    """
    if min(up, down) < 1:
        raise ValueError(f"up, down={up, down}; give whole factors of at least 1")
    k, (p, q) = len(taps), pad
    least = min(x.shape[-2:]) * up + p + q
    if not 1 <= k <= least:
        raise ValueError(f"a filter of {k} taps does not fit rows of {least} pixels")
    line = torch.tensor(taps, dtype=x.dtype, device=x.device)
    kernel = (line[:, None] * line).expand(x.shape[1], 1, k, k)
    if up == 1:
        # The library's convolution is a correlation.
        bordered = F.pad(x, (p, q, p, q)) if p or q else x
        return F.conv2d(bordered, kernel.flip((2, 3)), stride=down, groups=x.shape[1])
    # A transposed convolution skips the zeros. It begins k - 1 pixels before the first place where the filter lies within the
    # image, and lacks the zeros after the last pixel.
    y = F.conv_transpose2d(x, kernel, stride=up, groups=x.shape[1])
    before, after = p - k + 1, q - k + up
    return F.pad(y, (before, after, before, after))[..., ::down, ::down]


def doubled(x: Tensor) -> Tensor:
    """Doubles the sides of images by the filter [1, 3, 3, 1]; flat images stay flat inside, and fade by the border.

    Arguments:
        x: Images, with shape (B, C, H, W).

    Returns:
        Images, with shape (B, C, 2H, 2W).
    """
    return upfirdn(x, [2 * tap for tap in TAPS], up=2, pad=(2, 1))


def halved(x: Tensor) -> Tensor:
    """Halves the sides of images by the filter [1, 3, 3, 1].

    Arguments:
        x: Images, with shape (B, C, H, W).

    Returns:
        Images, with shape (B, C, H // 2, W // 2).
    """
    return upfirdn(x, TAPS, down=2, pad=(1, 1))


def convolved_up(x: Tensor, weight: Tensor) -> Tensor:
    """Doubles the sides of features by a convolution that the filter [1, 3, 3, 1] follows.

    Arguments:
        x: Features, with shape (B, C, H, W).
        weight: Filters W, with shape (O, C, k, k), where k is odd.

    Returns:
        Features, with shape (B, O, 2H, 2W).
    """
    margin = weight.shape[-1] // 2
    y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return upfirdn(y, [2 * tap for tap in TAPS], pad=(2 - margin, 2 - margin))
