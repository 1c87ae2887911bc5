"""A picture on which damage can be seen: edges of all directions, texture, gradients and thin lines, drawn by arithmetic.

Overlapping disks of all sizes have the statistics of photographs' edges (dead leaves); on the right are lines that become
thinner, and a gradient.

References:
    | Occlusion Models for Natural Images: A Statistical Study of a Scale-Invariant Dead Leaves Model (Lee et al., 2001)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..degradations import Degradation
from ..functional.random import generator_for, generators_for, rand
from ..functional.resample import modcrop, repeated
from .pictures import Picture, sheet

__all__ = ["damaged_specimen", "specimen"]

SIDE = 96
"""The side of the picture in pixels, where no other is asked for."""

_LEAVES = 250
_DRAWS = 7


def specimen(channels: int = 3, height: int = SIDE, width: int = SIDE) -> Tensor:
    """Returns the picture, in [0, 1], with shape (1, channels, height, width).

    Arguments:
        channels: 1 for grey, 3 for RGB.
        height: The height in pixels.
        width: The width in pixels.
    """
    u = rand((_LEAVES, 6), generator_for("specimen"))
    y = (torch.arange(height) + 0.5)[:, None] / height
    x = (torch.arange(width) + 0.5)[None] / width
    card = torch.full((channels, height, width), 0.5)
    for x_0, y_0, size, *colour in u.tolist():
        inside = (x - x_0) ** 2 + (y - y_0) ** 2 < (0.02 / (0.06 + size)) ** 2
        paint = 0.1 + 0.8 * torch.tensor(colour[:channels])[:, None, None]
        card = torch.where(inside, paint, card)
    # Waves whose length falls from the top to the bottom, a quarter of the width
    waves = (0.5 + 0.5 * torch.cos(2 * math.pi * width * x * (0.05 + 0.35 * y))).expand(height, -1)
    card[:, :, 3 * width // 4 :] = waves[:, 3 * width // 4 :]
    card[:, 7 * height // 8 :] = x.expand(height, -1)[7 * height // 8 :]
    return card[None]


@torch.no_grad()
def damaged_specimen(
    degradation: Degradation[Any], shape: tuple[int, int, int] | None, seed: int
) -> Picture:
    """Returns a sheet with the picture as it is, and as several draws of a degradation damage it.

    Arguments:
        degradation: The degradation; what it makes smaller is shown in larger pixels.
        shape: The shape (C, H, W) of the images that it is for, where it has one.
        seed: The seed of the draws.
    """
    channels, height, width = shape or (3, SIDE, SIDE)
    card = modcrop(specimen(channels, height, width), degradation.scale)
    B, C, H, W = card.expand(_DRAWS, -1, -1, -1).shape
    params = degradation.sample((B, C, H, W), generator=generators_for(seed, range(_DRAWS)))
    damaged = degradation(card.expand(B, -1, -1, -1), params).clamp(0, 1)
    pictures = torch.cat([card, repeated(damaged, degradation.scale)])
    return sheet(pictures, 4, "a drawn picture, and the same after some draws", "first: as it is")
