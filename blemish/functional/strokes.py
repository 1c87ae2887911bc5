r"""Strokes of a round brush, as whoever paints over a part of a picture makes them.

A stroke is a poly-line of vertices :math:`p_1, \dots, p_V`. The round brush of width b, drawn along it, covers the
pixels whose centres c are no farther from it than half its width:

.. math:: \min_v \, \operatorname{dist}(c, \overline{p_v p_{v+1}}) \le b / 2, \qquad
    \operatorname{dist}(c, \overline{p q}) = | c - p - t (q - p) |, \quad
    t = \operatorname{clamp} \Bigl( \frac{(c - p) \cdot (q - p)}{|q - p|^2}, 0, 1 \Bigr).

A straight stroke of length l covers the area :math:`b l + \pi b^2 / 4`: the line and the two halves of its round ends.

Coordinates are (row, column) in pixels: pixel i reaches from i to i + 1, and its centre is at i + 1/2.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["strokes"]


def strokes(vertices: Tensor, width: float, size: tuple[int, int]) -> Tensor:
    """Returns what the strokes of a brush cover.

    Arguments:
        vertices: The vertices of S strokes for each picture, as (row, column) in pixels, with shape (B, S, V, 2) and at
            least two vertices. They may lie outside of the picture, and may be equal: a dot.
        width: The width b of the brush in pixels.
        size: The height and width of the pictures.

    Returns:
        Truth values, with shape (B, 1, H, W).

    Raises:
        ValueError: If strokes have fewer than two vertices.
    """
    if vertices.ndim != 4 or vertices.shape[2] < 2 or vertices.shape[3] != 2:
        raise ValueError(
            f"got vertices with shape {tuple(vertices.shape)}; expected (B, S, V, 2) with V of at least 2"
        )
    starts, ends = vertices[:, :, :-1].flatten(1, 2), vertices[:, :, 1:].flatten(1, 2)
    nearest = vertices.new_full((len(vertices), *size), torch.inf)
    # One line after the other: all at once would be as many pictures in memory.
    for start, end in zip(starts.unbind(1), ends.unbind(1), strict=True):
        nearest = torch.minimum(nearest, _squared_distance(start, end, size))
    return (nearest <= (width / 2) ** 2)[:, None]


def _squared_distance(start: Tensor, end: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the squared distances of all pixels' centres from lines (B, 2), with shape (B, H, W)."""
    line = (end - start)[:, :, None, None]
    rows = torch.arange(size[0], device=start.device).to(start) + 0.5
    columns = torch.arange(size[1], device=start.device).to(start) + 0.5
    across = rows[:, None] - start[:, 0, None, None]
    along = columns - start[:, 1, None, None]
    # Of a line without length any of its points is the nearest one.
    length = line.square().sum(dim=1).clamp_min(torch.finfo(start.dtype).tiny)
    t = ((across * (line[:, 0] / length)) + (along * (line[:, 1] / length))).clamp(0, 1)
    return (across - t * line[:, 0]).square() + (along - t * line[:, 1]).square()
