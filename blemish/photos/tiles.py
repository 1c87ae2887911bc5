r"""Restoring a large picture in tiles.

Along each side of n pixels, the picture is cut at the multiples of a step s. Between two cuts lies the
inside of a tile; the tile itself reaches v pixels beyond, where the picture does not end. For tiles of t
pixels

.. math:: s + 2 v \le t.

A pixel of the estimate depends on the pixels of y at most r away, where 2 r + 1 is the receptive field.
With :math:`v \ge r`, the inside of a tile is therefore what it would be in the whole picture, and the
insides are put side by side: tiled equals untiled, but for the order in which numbers are added. All
cuts and v are multiples of the restorer's ``multiple``, so that grids of blocks fall as in the whole.

Reaching far costs: :math:`(t / s)^2` times the work of the whole. So v is at most t / 4, which is four
times. A restorer that sees farther is restored approximately (``exact`` is False): two neighbours have
2 v pixels in common, over which one fades linearly into the other. :func:`deviation` measures what that
costs.

The picture stays where it is, as it is: pixels of 8 or 16 bits are converted tile by tile and rounded
row by row of tiles, so that beside input and output only a row of tiles is kept in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..restorers import Restorer

__all__ = [
    "LEAST_TILE",
    "TILE",
    "NotEnoughMemory",
    "Tiling",
    "deviation",
    "levels",
    "restore_tiled",
    "tiling",
    "unit",
]

TILE = 512
"""The side of a tile in pixels, where none is given."""

LEAST_TILE = 64
"""The smallest side to which tiles are halved when memory runs out."""

_PEAKS = {torch.uint8: 255, torch.uint16: 65535}


class NotEnoughMemory(Exception):
    """A picture cannot be restored in the memory that there is."""


@dataclass(frozen=True)
class Part:
    """One tile's share of a side; all in pixels of y, from the picture's edge.

    Attributes:
        start: Where the tile begins.
        stop: Where it ends.
        left: Where its share of the estimate begins.
        right: Where that ends.
        before: The first pixels of the share in common with the tile before.
        after: The last ones in common with the tile after.
    """

    start: int
    stop: int
    left: int
    right: int
    before: int
    after: int

    def inside(self, scale: int) -> slice:
        """Returns the share's place in the restored tile."""
        return slice(scale * (self.left - self.start), scale * (self.right - self.start))

    def weights(self, scale: int) -> Tensor:
        """Returns how much each pixel of the share counts, with shape (scale (right - left)); neighbours add up to 1."""
        weights = torch.ones(scale * (self.right - self.left))
        if self.before:
            weights[: scale * self.before] = _ramp(scale * self.before)
        if self.after:
            weights[-scale * self.after :] = 1 - _ramp(scale * self.after)
        return weights


@dataclass(frozen=True)
class Tiling:
    """How pictures are cut for a restorer.

    Attributes:
        tile: The side t of a tile; None for a restorer that needs the whole picture.
        step: The side s of its inside.
        overlap: The pixels v by which a tile reaches beyond it on each side.
        exact: Whether v reaches as far as the restorer sees.
    """

    tile: int | None
    step: int
    overlap: int
    exact: bool

    def parts(self, length: int) -> list[Part]:
        """Returns the tiles of a side of so many pixels."""
        if self.tile is None or length <= self.tile:
            return [Part(0, length, 0, length, 0, 0)]
        parts = []
        for cut in range(0, length, self.step):
            end = min(cut + self.step, length)
            start, stop = max(0, cut - self.overlap), min(length, end + self.overlap)
            if self.exact:
                parts.append(Part(start, stop, cut, end, 0, 0))
            else:
                before = min(cut + self.overlap, length) - start if cut else 0
                parts.append(
                    Part(
                        start,
                        stop,
                        start,
                        stop,
                        before,
                        stop - end + self.overlap if end < length else 0,
                    )
                )
        return parts


def tiling(restorer: Restorer, tile: int = TILE) -> Tiling:
    """Returns how pictures are cut for a restorer.

    Arguments:
        restorer: The restorer.
        tile: The largest side of a tile in pixels; one of less than two of the restorer's blocks is
            taken as two of them.

    Raises:
        ValueError: If the side is below 1.
    """
    if tile < 1:
        raise ValueError(f"tile={tile} is not allowed; a tile has at least 1 pixel a side")
    if restorer.receptive_field is None:
        return Tiling(None, 0, 0, exact=True)
    m = restorer.multiple
    tile = max(tile // m, 2) * m
    wanted = -(-(restorer.receptive_field // 2) // m) * m
    overlap = min(wanted, tile // 4 // m * m)
    return Tiling(tile, tile - 2 * overlap, overlap, exact=overlap == wanted)


@torch.no_grad()
def restore_tiled(
    restorer: Restorer,
    y: Tensor,
    *,
    tile: int = TILE,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], object] | None = None,
    smaller: Callable[[int], object] | None = None,
) -> Tensor:
    """Restores one picture in tiles.

    Where memory runs out, it begins anew with tiles of half the side, down to :data:`LEAST_TILE`.

    Arguments:
        restorer: The restorer, on ``device``.
        y: The picture, with shape (1, C, H, W): float32 in [0, 1], or uint8 or uint16, whose largest value
            is white. Only a tile at a time is copied to the device.
        tile: The largest side of a tile in pixels. A restorer without a receptive field gets the whole.
        device: Where tiles are restored.
        progress: Is told how many tiles are done, and of how many.
        smaller: Is told once, in the end, to what side the tiles were halved, if they were.

    Returns:
        The estimate, with shape (1, C, scale H, scale W), where y is and of its dtype.

    Raises:
        ValueError: If y is not one picture of these kinds, or the estimate is not finite.
        NotEnoughMemory: If memory runs out with the smallest tiles, too.
    """
    if y.ndim != 4 or len(y) != 1 or 0 in y.shape or y.dtype not in (torch.float32, *_PEAKS):
        raise ValueError(
            f"got {y.dtype} of shape {tuple(y.shape)}; give one picture (1, C, H, W) of float32 in [0, 1], "
            "uint8 or uint16"
        )
    side = tile
    while (x := _attempt(restorer, y, tiling(restorer, side), device, progress)) is None:
        side = min(side, max(y.shape[-2:])) // 2
        if restorer.receptive_field is None or side < LEAST_TILE:
            raise NotEnoughMemory(_too_large(restorer, y))
    if side != tile and smaller:
        smaller(side)
    return x


@torch.no_grad()
def deviation(
    restorer: Restorer,
    y: Tensor,
    *,
    tile: int = TILE,
    device: torch.device | str = "cpu",
) -> tuple[float, tuple[int, int]] | None:
    """Measures how far tiled is from untiled, on the middle of a picture, at most 2 tiles a side.

    Arguments:
        restorer: The restorer, on ``device``.
        y: The picture, with shape (1, C, H, W), as in :func:`restore_tiled`.
        tile: The largest side of a tile in pixels.
        device: Where tiles are restored.

    Returns:
        The largest difference of a pixel, on the scale [0, 1], and the size (H, W) of the middle; None where
        the middle cannot be restored at once for want of memory.
    """
    sides = [min(2 * tile, n) for n in y.shape[-2:]]
    top, left = ((n - side) // 2 for n, side in zip(y.shape[-2:], sides, strict=True))
    middle = unit(y[..., top : top + sides[0], left : left + sides[1]])
    whole = _attempt(restorer, middle, Tiling(None, 0, 0, exact=True), device, None)
    tiled = _attempt(restorer, middle, tiling(restorer, tile), device, None)
    if whole is None or tiled is None:
        return None
    return float((whole - tiled).abs().max()), (sides[0], sides[1])


def _attempt(
    restorer: Restorer,
    y: Tensor,
    cut: Tiling,
    device: torch.device | str,
    progress: Callable[[int, int], object] | None,
) -> Tensor | None:
    """Restores a picture; None means that memory ran out."""
    rows, columns = cut.parts(y.shape[-2]), cut.parts(y.shape[-1])
    try:
        x = _like(y, restorer.scale)
        strips = _strips(restorer, y, rows, columns, device, progress or (lambda done, total: None))
        for top, strip in strips:
            x[0, :, top : top + strip.shape[1]] = levels(strip, y.dtype)
    except (MemoryError, RuntimeError) as error:
        if not _is_want_of_memory(error):
            raise
        return None
    return x


def _strips(
    restorer: Restorer,
    y: Tensor,
    rows: list[Part],
    columns: list[Part],
    device: torch.device | str,
    progress: Callable[[int, int], object],
) -> Iterator[tuple[int, Tensor]]:
    """Yields finished rows of the estimate from its top to its bottom: the first one's number, and (C, h, W)."""
    scale, done = restorer.scale, 0
    carry = torch.zeros(0)
    for row in rows:
        strip = torch.zeros(y.shape[1], scale * (row.right - row.left), scale * y.shape[-1])
        for column in columns:
            part = unit(y[..., row.start : row.stop, column.start : column.stop]).to(device)
            piece = restorer(part)[0, :, row.inside(scale), column.inside(scale)].cpu()
            place = slice(scale * column.left, scale * column.right)
            strip[..., place] += piece * column.weights(scale)
            done += 1
            progress(done, len(rows) * len(columns))
        strip *= row.weights(scale)[:, None]
        if row.before:
            strip[:, : scale * row.before] += carry
        finished = strip.shape[1] - scale * row.after
        carry = strip[:, finished:].clone()
        yield scale * row.left, strip[:, :finished]


def _like(y: Tensor, scale: int) -> Tensor:
    """Returns an empty picture of the size of the estimate, with channels that vary fastest, as files have them."""
    _, channels, height, width = y.shape
    pixels = torch.empty(1, scale * height, scale * width, channels, dtype=y.dtype)
    return pixels.permute(0, 3, 1, 2)


def unit(y: Tensor) -> Tensor:
    """Returns pixels of 8 or 16 bits in [0, 1]; others are taken to lie there."""
    return y.float() / _PEAKS[y.dtype] if y.dtype in _PEAKS else y


def levels(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns pixels in [0, 1] as such of 8 or 16 bits, rounded, or as they are.

    Raises:
        ValueError: If some are no numbers.
    """
    if not x.isfinite().all():
        raise ValueError(
            "the restorer gave values that are no numbers; was its training stopped in time?"
        )
    if dtype not in _PEAKS:
        return x
    return (x * _PEAKS[dtype]).round_().clamp_(0, _PEAKS[dtype]).to(dtype)


def _ramp(length: int) -> Tensor:
    return (torch.arange(length) + 0.5) / length


def _is_want_of_memory(error: Exception) -> bool:
    # The CPU's allocator raises a plain RuntimeError, as some back ends do.
    words = str(error).lower()
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or "not enough memory" in words or "out of memory" in words


def _too_large(restorer: Restorer, y: Tensor) -> str:
    size = f"a picture of {y.shape[-1]}x{y.shape[-2]} pixels"
    if restorer.receptive_field is None:
        return f"not enough memory for {size}, which this restorer needs whole; make it smaller"
    return (
        f"not enough memory for {size}, even in tiles of {LEAST_TILE} pixels; close other programs"
    )
