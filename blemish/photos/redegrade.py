r"""Reading damage off pictures of any size, and putting it onto others, in tiles.

*Reading.* What an encoder says of the whole is a function of averages over the picture; of a large one they are averaged
over its tiles. Its map is computed tile by tile, with margins.

*Putting.* A tile is redegraded with a margin as wide as the network sees, and its inside is taken. Each tile draws noise
of its own, from the seed and its corner, as white as that of the whole. No tile fades into another: two draws of noise
that fade into one another are too weak where they meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..degradations import UniversalDegradation, UniversalParams
from ..functional.random import generator_for
from .tiles import levels, unit

__all__ = ["encode_picture", "redegrade_picture"]

LARGEST = 1024
"""The side up to which a picture is one tile, in pixels."""


@dataclass(frozen=True)
class _Window:
    """The inside of a tile, and the tile itself, which reaches a margin farther where the picture does.

    Attributes:
        rows: The inside's first row, and the one after its last.
        columns: Likewise its columns.
        tall: The tile's rows.
        wide: The tile's columns.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    tall: tuple[int, int]
    wide: tuple[int, int]

    def of(self, x: Tensor, r: int = 1) -> Tensor:
        """Returns the tile, of a picture or of a map of an r-th of its resolution."""
        return x[..., self.tall[0] // r : self.tall[1] // r, self.wide[0] // r : self.wide[1] // r]

    def place(self, x: Tensor, r: int = 1) -> Tensor:
        """Returns the inside, in a picture or in a map."""
        rows, columns = self.rows, self.columns
        return x[..., rows[0] // r : rows[1] // r, columns[0] // r : columns[1] // r]

    def inside(self, tile: Tensor, r: int = 1) -> Tensor:
        """Returns the inside, in a tile or in a tile of a map."""
        top, left = (self.rows[0] - self.tall[0]) // r, (self.columns[0] - self.wide[0]) // r
        height, width = (self.rows[1] - self.rows[0]) // r, (self.columns[1] - self.columns[0]) // r
        return tile[..., top : top + height, left : left + width]


@torch.no_grad()
def encode_picture(
    degradation: UniversalDegradation,
    y: Tensor,
    *,
    largest: int = LARGEST,
    device: torch.device | str = "cpu",
) -> UniversalParams:
    """Reads the code off a picture, rounded.

    Arguments:
        degradation: The model, on the device.
        y: The picture, with shape (1, C, H, W): float32 in [0, 1], uint8 or uint16.
        largest: The side up to which it is one tile, in pixels.
        device: Where it is computed.

    Returns:
        The code, on the CPU; its noise has no entries.
    """
    if max(y.shape[-2:]) <= largest:
        e_g, e_l = degradation.latents(unit(y).to(device))
    else:
        e_g, e_l = _tiled_latents(degradation, y, largest, device)
    return degradation.rounded(e_g, e_l).to("cpu")


@torch.no_grad()
def redegrade_picture(
    degradation: UniversalDegradation,
    x: Tensor,
    params: UniversalParams,
    *,
    seed: int,
    largest: int = LARGEST,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], object] | None = None,
) -> Tensor:
    """Puts a degradation onto a picture.

    Arguments:
        degradation: The model, on the device.
        x: The picture, with shape (1, C, H, W): float32 in [0, 1], uint8 or uint16.
        params: The code of one image, whose map fits the picture; its noise is not used.
        seed: The seed of the noise.
        largest: The side up to which the picture is one tile, in pixels.
        device: Where tiles are computed.
        progress: Is told how many tiles are done, and of how many.

    Returns:
        The picture, with the shape and the dtype of x.
    """
    config = degradation.config.redegrader
    H, W = x.shape[-2:]
    padded = _continued(x, *config.padded(H, W))
    y = torch.empty_like(padded)
    margin = _up(config.receptive_field // 2, config.multiple)
    windows = list(_windows(padded.shape[-2], padded.shape[-1], largest, margin, config.multiple))
    e_g = degradation.tail(params.e_g.to(device))
    for done, window in enumerate(windows, 1):
        part = unit(window.of(padded)).to(device)
        generator = generator_for(seed, "tile", window.rows[0], window.columns[0])
        shape = (1, part.shape[1], part.shape[2], part.shape[3])
        noise = degradation.noise(shape, generator).to(device)
        tile = degradation.redegrade(
            part, e_g, window.of(params.e_l, config.ratio).to(device), noise
        )
        window.place(y).copy_(levels(window.inside(tile.clamp(0, 1)).cpu(), x.dtype))
        if progress is not None:
            progress(done, len(windows))
    return y[..., :H, :W]


def _tiled_latents(
    degradation: UniversalDegradation, y: Tensor, largest: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    config = degradation.config.redegrader
    grid = math.lcm(config.multiple, degradation.global_encoder.config.stride)
    height, width = degradation.cells(*y.shape[-2:])
    y = _continued(y, *(_up(side, grid) for side in y.shape[-2:]))
    H, W = y.shape[-2:]
    sums = torch.zeros(1, device=device)
    e_l = torch.zeros(1, config.local, H // config.ratio, W // config.ratio, device=device)
    margin = _up(degradation.global_encoder.config.reach, grid)
    for window in _windows(H, W, largest, margin, grid):
        tile = 2 * unit(window.of(y)).to(device) - 1
        inside = window.inside(tile)
        share = inside.shape[-2] * inside.shape[-1] / (H * W)
        sums = sums + share * degradation.global_encoder.features(inside)
        if degradation.local_encoder is not None:
            found = degradation.local_encoder(tile)
            window.place(e_l, config.ratio).copy_(window.inside(found, config.ratio))
    e_g = degradation.head(degradation.global_encoder.embed(sums))
    return e_g, e_l[..., :height, :width]


def _windows(height: int, width: int, largest: int, margin: int, grid: int) -> Iterator[_Window]:
    """Yields tiles whose insides cover a picture and begin at multiples of the grid, row by row."""
    rows, columns = (_cuts(side, largest, margin, grid) for side in (height, width))
    for top, bottom in rows:
        for left, right in columns:
            tall = max(0, top - margin), min(height, bottom + margin)
            wide = max(0, left - margin), min(width, right + margin)
            yield _Window((top, bottom), (left, right), tall, wide)


def _cuts(side: int, largest: int, margin: int, grid: int) -> list[tuple[int, int]]:
    if side <= largest:
        return [(0, side)]
    step = max(largest - 2 * margin, grid) // grid * grid
    return [(start, min(start + step, side)) for start in range(0, side, step)]


def _continued(x: Tensor, height: int, width: int) -> Tensor:
    """Repeats the last rows and columns, of pictures of any dtype."""
    H, W = x.shape[-2:]
    rows = torch.arange(height).clamp_max(H - 1)
    columns = torch.arange(width).clamp_max(W - 1)
    return x if (height, width) == (H, W) else x[..., rows, :][..., columns]


def _up(value: int, grid: int) -> int:
    return -(-value // grid) * grid
