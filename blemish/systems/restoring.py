"""What the systems of restorers share."""

from __future__ import annotations

from typing import Any

from ..restorers import FeedForward
from .base import ImageShape, System

__all__ = ["RestoringSystem"]


class RestoringSystem(System):
    """A system that trains a restorer of images of any size.

    Attributes:
        restorer: T.
        config: Its configuration, with the decay ``ema``.
    """

    restorer: FeedForward
    config: Any

    @property
    def image_shape(self) -> ImageShape:
        """Observed images may have any size."""
        return self.restorer.channels, None, None

    @property
    def ema_decay(self) -> float:
        """The decay of the moving average, per iteration."""
        return float(self.config.ema)
