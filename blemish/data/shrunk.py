"""Images that are made smaller when they are read."""

from __future__ import annotations

import threading
from typing import final

import torch
from torch import Tensor

from .base import Source
from .open import MEMORY

__all__ = ["SHRINK", "Shrunk", "shrink"]

SHRINK = 3
"""How many times smaller photographs are made to stand for clean ones: of a blur of 4 pixels that leaves the blur of good
lenses, and of white noise a third."""


def shrink(image: Tensor, factor: int) -> Tensor:
    """Reduces an image by the averages of blocks, rounded to the nearest level, exactly alike on every machine.

    Arguments:
        image: uint8, with shape (C, H, W).
        factor: The side f of the blocks in pixels.

    Returns:
        uint8, with shape (C, H // f, W // f); what is left over at the right and at the bottom is cut off.
    """
    C, H, W = image.shape
    h, w = H // factor, W // factor
    blocks = image[:, : h * factor, : w * factor].reshape(C, h, factor, w, factor)
    sums = blocks.sum(dim=4, dtype=torch.int32).sum(dim=2, dtype=torch.int32)
    return ((2 * sums + factor**2) // (2 * factor**2)).to(torch.uint8)


@final
class Shrunk(Source):
    """The images of a source, made smaller by a whole factor; as many as fit are kept in memory.

    Arguments:
        source: The images as they are.
        factor: How many times smaller the sides are, at least 1.
        memory: The most bytes of small images that are kept.

    Raises:
        ValueError: If the factor is below 1.
    """

    def __init__(self, source: Source, factor: int, *, memory: int = MEMORY) -> None:
        if factor < 1:
            raise ValueError(f"shrink={factor}; give a whole number of at least 1")
        self.source, self.factor = source, factor
        self.title = f"{source.title}, made {factor} times smaller"
        self.channels, self.skipped = source.channels, source.skipped
        self.size = None
        if source.size is not None:
            self.size = (source.size[0] // factor, source.size[1] // factor)
        self._kept: dict[int, Tensor] = {}
        self._room = memory
        # Images are read by several threads.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """Returns the name of the image."""
        return self.source.name(index)

    def label(self, index: int) -> int | None:
        """Returns the label of the image."""
        return self.source.label(index)

    def read(self, index: int) -> Tensor:
        """Reads one image and makes it smaller, uint8, with shape (C, H // factor, W // factor)."""
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        small = shrink(self.source.read(index), self.factor)
        with self._lock:
            if index not in self._kept and small.numel() <= self._room:
                self._room -= small.numel()
                self._kept[index] = small
        return small
