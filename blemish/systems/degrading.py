"""What systems have in common that learn one degradation, from images that are damaged on the way or in pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..degradations import Degradation
from ..types import Shape
from .base import ImageShape, System

__all__ = ["LearnsDegradation", "shape_of"]


class LearnsDegradation(System):
    """A system that learns a degradation of images of any size.

    Attributes:
        config: Says the decay of the moving average, ``ema``.
        degradation: What is learned; it has ``channels``.
        damage: What befalls clean images of the training.
    """

    config: Any
    degradation: Any
    damage: Degradation[Any]

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The degradation."""
        return {"degradation": self.degradation}

    @property
    def image_shape(self) -> ImageShape:
        """Images may have any size."""
        return self.degradation.channels, None, None

    @property
    def ema_decay(self) -> float:
        """The decay of the moving average, per iteration."""
        decay: float = self.config.ema
        return decay

    def lacks(self, name: str) -> bool:
        """Whether the damage has weights that it still has to be given."""
        return bool(self.damage.state_dict())


def shape_of(batch: Tensor) -> Shape:
    """Returns the shape (B, C, H, W) of a batch."""
    B, C, H, W = batch.shape
    return B, C, H, W
