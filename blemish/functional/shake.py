r"""Blur kernels of a short shake: straight lines and arcs, given by three numbers.

During the exposure :math:`t \in [-\tfrac12, \tfrac12]` the camera runs along an arc of the length L at constant speed,
and its direction turns at a constant rate, by the angle :math:`\beta` in all. With the plane as complex numbers
(column + i row) and the direction :math:`\varphi` in the middle of the exposure,

.. math::
    x(t) = L \int_0^t e^{i (\varphi + \beta s)} \, ds
         = L t \, e^{i (\varphi + \beta t / 2)} \, \frac{\sin(\beta t / 2)}{\beta t / 2},

which is a straight line for :math:`\beta = 0`. The kernel is the time spent at each pixel: positions at evenly spaced
times are spread bilinearly over their four pixels, as in :mod:`~blemish.functional.motion`. As spreading keeps the
centroid, and the positions' mean is taken off them first, the centroid is the middle pixel. No position is farther from
the mean than L / 2: the mean distance to all others along the arc is at most that.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .kernels import normalised, positions

__all__ = ["shake_kernel", "shake_size"]

STEPS = 128
"""Positions on an arc: five in each pixel of the longest that a kernel of 31 pixels holds."""


def shake_kernel(length: Tensor, angle: Tensor, bend: Tensor, size: int) -> Tensor:
    r"""Draws arcs into kernels.

    Arguments:
        length: The lengths L in pixels, at least 0, with shape (B,).
        angle: The directions :math:`\varphi` in the middle in radians, 0 along a row and pi / 2 down a column, with
            shape (B,).
        bend: By how much the direction turns, :math:`\beta` in radians, with shape (B,).
        size: The odd kernel size k; see :func:`shake_size`. What leaves the support is cut, and the rest normalised.

    Returns:
        Kernels that sum to 1, with shape (B, 1, k, k).
    """
    pixel = positions(size, length)
    t = (torch.arange(STEPS, device=length.device, dtype=length.dtype) + 0.5) / STEPS - 0.5
    half_turn = bend[:, None] * t / 2
    # torch.sinc has the factor pi inside.
    radius = length[:, None] * t * torch.sinc(half_turn / math.pi)
    direction = angle[:, None] + half_turn
    column, row = radius * direction.cos(), radius * direction.sin()
    rows = _hat(row - row.mean(1, keepdim=True), pixel)
    columns = _hat(column - column.mean(1, keepdim=True), pixel)
    return normalised(rows @ columns.mT)[:, None]


def shake_size(length: float) -> int:
    """Returns the smallest odd kernel size that holds every arc of a length in pixels."""
    return 2 * (math.floor(length / 2) + 1) + 1 if length > 0 else 1


def _hat(x: Tensor, pixel: Tensor) -> Tensor:
    """Returns the bilinear share of each position (B, N) at each pixel (k,), with shape (B, k, N)."""
    return (1 - (x[:, None] - pixel[:, None]).abs()).clamp_min(0)
