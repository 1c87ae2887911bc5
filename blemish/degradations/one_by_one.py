"""What the published degradation models share: their samples go through stages of their own sizes and order."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ..functional.pool import SCALES
from ..functional.resample import modcrop
from ..types import Params
from .base import Degradation

__all__ = ["OneByOne"]

P = TypeVar("P", bound=Params)


class OneByOne(Degradation[P]):
    """Damages images one by one and makes them smaller.

    Arguments:
        scale: By how much the images shrink: 1, 2, 3 or 4. The published models have 4 and 2.

    Attributes:
        title: How the published model is called.
    """

    needs_range = True
    title: ClassVar[str]
    Config: ClassVar[Any]

    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        if scale not in SCALES:
            raise ValueError(f"scale={scale} is not known to {self.title}; choose 1, 2, 3 or 4")
        self.scale = int(scale)
        self.config = self.Config(self.scale)

    def forward(self, x: Tensor, params: P) -> Tensor:
        """Damages images of shape (B, C, H, W); C is 1 or 3."""
        x = modcrop(x, self.scale)
        # One by one, as their sizes and the order of their stages differ; and JPEG and the rounding to 8 bits
        # would make a pixel's difference out of the last bit's, by which a batch differs from a single image.
        rows = [self._one(x[i : i + 1], params[i]) for i in range(len(x))]
        return torch.cat(rows) if rows else x[..., :: self.scale, :: self.scale]

    @abc.abstractmethod
    def _one(self, x: Tensor, params: P) -> Tensor:
        """Damages one image of shape (1, C, H, W), whose sides the scale divides."""
