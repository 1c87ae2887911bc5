"""Images that are made smaller when they are read."""

from __future__ import annotations

from typing import final

from torch import Tensor

from ..functional.resample import area
from .base import Source

__all__ = ["Shrunk"]


@final
class Shrunk(Source):
    """The images of a source, reduced by area averages to a fraction of their sides.

    What the factor leaves over is cut off at the right and at the bottom. The first images are kept in memory.

    Arguments:
        source: The images as they are.
        factor: How many times smaller the sides are, at least 1.
        memory: The most bytes of small images that are kept.

    Raises:
        ValueError: If the factor is below 1.
    """

    def __init__(self, source: Source, factor: int, *, memory: int = 1 << 30) -> None:
        if factor < 1:
            raise ValueError(f"shrink={factor}; give a whole number of at least 1")
        self.source, self.factor = source, factor
        self.title, self.channels, self.skipped = source.title, source.channels, source.skipped
        self.size = None
        if source.size is not None:
            self.size = (source.size[0] // factor, source.size[1] // factor)
        self._kept: dict[int, Tensor] = {}
        self._room = memory

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """Returns the name of the image."""
        return self.source.name(index)

    def read(self, index: int) -> Tensor:
        """Reads one image and makes it smaller, uint8, with shape (C, H, W)."""
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        image = self.source.read(index)
        if self.factor == 1:
            return image
        height, width = (side // self.factor for side in image.shape[-2:])
        cut = image[:, : height * self.factor, : width * self.factor]
        small = (area(cut.float(), (height, width)) + 0.5).floor().to(image.dtype)
        if small.numel() <= self._room:
            self._room -= small.numel()
            self._kept[index] = small
        return small
