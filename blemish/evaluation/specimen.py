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
import torch.nn.functional as F
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
_AT_ONCE = 1 << 22
"""The number of pixels of all leaves that are painted at once."""


def specimen(
    channels: int = 3, height: int = SIDE, width: int = SIDE, *, seed: int | None = None
) -> Tensor:
    """Returns the picture, or one that is more like a photograph, in [0, 1], with shape (1, channels, height, width).

    Arguments:
        channels: 1 for grey, 3 for RGB.
        height: The height in pixels.
        width: The width in pixels.
        seed: Which one of those that have disks alone, mostly grey and seen through a lens, so that noise and blur are
            measured on them as on photographs; None is the picture of all pages.
    """
    if seed is not None:
        return _scene(channels, height, width, seed)
    u = rand((_LEAVES, 6), generator_for("specimen"))
    y, x = _places(height, width)
    card = _painted(u, 0.1 + 0.8 * u[:, 3 : 3 + channels], y, x)
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


def _scene(channels: int, height: int, width: int, seed: int) -> Tensor:
    u = rand((_LEAVES, 6), generator_for("specimen", seed))
    grey, colour = u[:, 3:4], u[:, 3 : 3 + channels]
    paints = 0.1 + 0.8 * (0.8 * grey + 0.2 * colour)
    # Pixels gather light; without that, and without a lens, edges would pass for noise.
    gathered = F.avg_pool2d(_painted(u, paints, *_places(2 * height, 2 * width)), 2)
    wide = F.pad(gathered[None], (1, 1, 1, 1), mode="replicate")
    # Twice the mean of neighbours: the lens (1, 2, 1) / 4
    return F.avg_pool2d(F.avg_pool2d(wide, 2, stride=1), 2, stride=1)


def _places(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns the middles of pixels as fractions of the sides, with shapes (height, 1) and (1, width)."""
    y = (torch.arange(height) + 0.5)[:, None] / height
    return y, (torch.arange(width) + 0.5)[None] / width


def _painted(u: Tensor, paints: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Paints leaves u one over the other on grey ground, each with its row of paints, with shape (C, height, width)."""
    every = torch.cat([paints.new_full((1, paints.shape[1]), 0.5), paints])
    return every[_topmost(u, y, x)].permute(2, 0, 1).contiguous()


def _topmost(u: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Returns the number of the last leaf over each pixel, from 1, or 0, with shape (height, width)."""
    x_0, y_0 = u[:, 0, None], u[:, 1, None]
    reach = (0.02 / (0.06 + u[:, 2].double())).square().float()[:, None, None]
    along, number = (x - x_0).square()[:, None], torch.arange(1, len(u) + 1, dtype=torch.int16)
    rows = max(1, _AT_ONCE // (len(u) * x.shape[1]))
    strips = [
        ((along + (part.T - y_0).square()[..., None] < reach) * number[:, None, None]).amax(dim=0)
        for part in torch.split(y, rows)
    ]
    return torch.cat(strips).long()
