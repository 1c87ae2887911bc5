r"""A restorer taught with pairs that it makes itself: images, and what a simulator of the damage makes of them.

.. math:: L = \| x - T(d(x, \theta)) \|_1, \qquad \theta \sim p_d(\theta).

The images x are taken for clean. Where there are none, damaged photographs made smaller (``data.shrink``) stand for
them: what is left of their damage is smaller, too, and scenes look alike at every scale. Zero-shot super-resolution learns
from one photograph in this way; a folder of them teaches more.

References:
    | "Zero-Shot" Super-Resolution using Deep Internal Learning (Shocher et al., 2018)
    | https://arxiv.org/abs/1712.06087
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..degradations import Degradation, Identity
from ..functional.random import Randomness
from ..functional.resample import modcrop
from ..functional.stages import to_8_bits
from ..restorers import FeedForward
from .base import Group, Phase
from .restoring import RestoringSystem

__all__ = ["Synthetic"]


class Synthetic(RestoringSystem):
    """Trains a restorer on pairs that a simulator makes.

    Arguments:
        config: The parts and how they are trained.
    """

    given: ClassVar[tuple[str, ...]] = ("degradation",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The parts and how they are trained.

        Attributes:
            restorer: T.
            degradation: The simulator d, which need not be differentiable; its weights, if it has some, are
                handed to the system.
            simulator: What the simulator is, for the record.
            lr: Adam's learning rate.
            betas: Adam's decay rates.
            ema: The decay of the moving average, per iteration.
        """

        restorer: FeedForward.Config = FeedForward.Config()
        degradation: Any = Identity.Config()
        simulator: str = ""
        lr: float = 1e-3
        betas: tuple[float, float] = (0.9, 0.99)
        ema: float = 0.999

        def build(self) -> Synthetic:
            """Makes the system with freshly initialised networks."""
            return Synthetic(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.restorer = config.restorer.build()
        self.degradation: Degradation[Any] = config.degradation.build()
        shrinks, grows = self.degradation.scale, self.restorer.scale
        if shrinks != grows:
            raise ValueError(
                f"the simulator makes images {shrinks} times smaller, and the restorer {grows} times larger; give "
                "another simulator, or --scale"
            )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The restorer's turn."""
        return (Phase("T", (Group("restorer"),), self.config.lr, self.config.betas, average=True),)

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The restorer, and the simulator as it was given."""
        return {"restorer": self.restorer, "degradation": self.degradation}

    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        """Returns the mean absolute error.

        Arguments:
            phase: ``T``.
            batch: Images taken for clean, in [0, 1], with shape (B, C, H, W).
            generator: The source of randomness.
            iteration: Not used.
        """
        batch = modcrop(batch, self.restorer.scale)
        damaged = self.shown(batch, generator)
        with self.autocast():
            estimate = self.restorer.estimate(damaged)
        return {"error": (batch - estimate).abs().mean()}

    @torch.no_grad()
    def shown(self, batch: Tensor, generator: Randomness) -> Tensor:
        """Returns a batch as the simulator damages it, rounded to 8 bits."""
        B, C, H, W = batch.shape
        y = self.degradation(batch, self.degradation.sample((B, C, H, W), generator=generator))
        # Observed images have 8 bits.
        return to_8_bits(y)
