"""Posterisation: fewer levels, as by careless tone curves or old displays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional.random import Randomness, device_of
from ..types import Shape
from .base import Degradation
from .compose import NoParams

__all__ = ["Posterise"]


class Posterise(Degradation[NoParams]):
    """Rounds every channel to evenly spaced levels, black and white among them.

    Arguments:
        levels: The number of levels, at least 2; 256 are those of files.
    """

    needs_range = True

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        levels: int = 16

        def build(self) -> Posterise:
            """Makes the degradation."""
            return Posterise(self.levels)

    def __init__(self, levels: int = 16) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels={levels}; give at least 2, which are black and white")
        self.config = Posterise.Config(levels)

    def sample(self, shape: Shape, *, generator: Randomness) -> NoParams:
        """Draws nothing."""
        return NoParams(torch.zeros(shape[0], device=device_of(generator)))

    def forward(self, x: Tensor, params: NoParams) -> Tensor:
        """Rounds images of shape (B, C, H, W)."""
        steps: int = self.config.levels - 1
        return (x * steps).round() / steps
