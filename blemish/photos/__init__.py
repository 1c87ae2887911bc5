"""Real photographs, in and out: restored in tiles, read and written with all that a file says about them."""

from __future__ import annotations

from .tiles import LEAST_TILE, TILE, NotEnoughMemory, Tiling, deviation, restore_tiled, tiling

__all__ = [
    "LEAST_TILE",
    "TILE",
    "NotEnoughMemory",
    "Tiling",
    "deviation",
    "restore_tiled",
    "tiling",
]
