r"""A restorer taught with pairs: the upper bound that the others are compared with.

.. math:: L = \| x - T(y) \|_1

for observed images y and the clean ones x that they were made from. Where pairs exist, nothing is better; the
other systems are for where they do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..functional.random import Randomness
from ..restorers import FeedForward
from .base import Clean, Group, Phase
from .restoring import RestoringSystem

__all__ = ["Supervised"]


class Supervised(RestoringSystem):
    """Trains a restorer on pairs of observed and clean images.

    Arguments:
        config: The restorer and how it is trained.
    """

    clean: ClassVar[Clean | None] = "partners"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The restorer and how it is trained.

        Attributes:
            restorer: T.
            lr: Adam's learning rate.
            betas: Adam's decay rates.
            ema: The decay of the moving average, per iteration.
        """

        restorer: FeedForward.Config = FeedForward.Config()
        lr: float = 2e-4
        betas: tuple[float, float] = (0.9, 0.99)
        ema: float = 0.999

        def build(self) -> Supervised:
            """Makes the system with freshly initialised networks."""
            return Supervised(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.restorer = config.restorer.build()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The restorer's turn."""
        return (Phase("T", (Group("restorer"),), self.config.lr, self.config.betas, average=True),)

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The restorer."""
        return {"restorer": self.restorer}

    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        """Returns the mean absolute error.

        Arguments:
            phase: ``T``.
            batch: Observed images and their clean partners in [0, 1], with shape (B, 2 C, H, W).
            generator: Not used: nothing is drawn.
            iteration: Not used.
        """
        observed, clean = batch.chunk(2, dim=1)
        with self.autocast():
            estimate = self.restorer.estimate(observed)
        return {"error": (clean - estimate).abs().mean()}
