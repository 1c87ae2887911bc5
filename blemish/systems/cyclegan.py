r"""CycleGAN: a restorer learned from a set of damaged and another set of clean images.

No image has a partner; that the sets are what they are is all that is told. The restorer T makes clean images
of damaged ones, a second translator S damaged ones of clean ones, each judged by a discriminator of its own.
What goes around must come back:

.. math::
    L = L_{adv}(T(y); D_x) + L_{adv}(S(x); D_y)
        + \lambda_{cyc} \big( \| S(T(y)) - y \|_1 + \| T(S(x)) - x \|_1 \big)
        + \lambda_{id} \big( \| T(x) - x \|_1 + \| S(y) - y \|_1 \big)

S makes one damaged image of a clean one, and always the same: it has no randomness to draw the damage from.

References:
    | Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (Zhu et al., 2017), Eq. 1
      to 3 and Section 5.2
    | https://arxiv.org/abs/1703.10593
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), Section 7.6
    | https://arxiv.org/abs/2003.07849
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..functional.random import Randomness
from ..losses import generator_loss
from ..networks import ResNetDiscriminator
from ..restorers import FeedForward
from .adversary import discriminate, spread
from .base import Clean, Group, Phase
from .restoring import RestoringSystem

__all__ = ["CycleGAN"]


class CycleGAN(RestoringSystem):
    """Trains a restorer and its inverse between two sets of images.

    Arguments:
        config: The parts and the weights of the losses.
    """

    clean: ClassVar[Clean | None] = "set"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The parts and the weights of the losses.

        Networks, adversarial losses and rates are those of UNIR, so that both are compared under equal
        conditions; the weights of cycle and identity are those that CycleGAN's authors published.

        Attributes:
            restorer: The shape of T and S.
            discriminator: The shape of D_x and D_y.
            lr: Adam's learning rate of T and S.
            betas: Adam's decay rates.
            discriminator_rate: The learning rate of the discriminators relative to ``lr``.
            ema: The decay of the moving average of the restorer, per iteration.
            r1: The weight of the gradient penalty.
            r1_every: The penalty is computed once in this many iterations, with its weight times
                this number.
            cycle: :math:`\\lambda_{cyc}`, for differences on [-1, 1].
            identity: :math:`\\lambda_{id}`, for differences on [-1, 1].
        """

        restorer: FeedForward.Config = FeedForward.Config()
        discriminator: ResNetDiscriminator.Config = ResNetDiscriminator.Config()
        lr: float = 1e-4
        betas: tuple[float, float] = (0.0, 0.99)
        discriminator_rate: float = 1.0
        ema: float = 0.999
        r1: float = 10.0
        r1_every: int = 1
        cycle: float = 10.0
        identity: float = 5.0

        def __post_init__(self) -> None:
            """Checks the period of lazy regularisation."""
            if self.r1_every < 1:
                raise ValueError(f"r1_every={self.r1_every}; it must be at least 1")

        def build(self) -> CycleGAN:
            """Makes the system with freshly initialised networks."""
            return CycleGAN(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.restorer, self.degrader = config.restorer.build(), config.restorer.build()
        self.judge_clean, self.judge_damaged = (config.discriminator.build() for _ in range(2))

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The translators' turn, then the discriminators'; the former skip iteration 0."""
        c, rate = self.config, self.config.discriminator_rate
        judges = (Group("judge_clean", rate), Group("judge_damaged", rate))
        translators = (Group("restorer"), Group("degrader"))
        return (
            Phase("T", translators, c.lr, c.betas, start=1, average=True),
            Phase("D", judges, c.lr, c.betas, period=c.r1_every),
        )

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The restorer; the way back is not a degradation, for it draws nothing."""
        return {"restorer": self.restorer}

    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        """Returns the weighted loss terms of the translators (T) or the discriminators (D).

        Arguments:
            phase: ``T`` or ``D``.
            batch: Damaged images and clean ones, which are no partners, in [0, 1], with shape
                (B, 2 C, H, W).
            generator: The source of randomness.
            iteration: The number of finished iterations.
        """
        damaged, clean = batch.chunk(2, dim=1)
        if phase == "T":
            return self._translator_losses(damaged, clean)
        return self._discriminator_losses(damaged, clean, generator, iteration)

    def _translator_losses(self, y: Tensor, x: Tensor) -> dict[str, Tensor]:
        c = self.config
        x_hat, y_hat = self._translate(self.restorer, y), self._translate(self.degrader, x)
        cycle = _absolute(self._translate(self.degrader, x_hat) - y)
        cycle = cycle + _absolute(self._translate(self.restorer, y_hat) - x)
        same = _absolute(self._translate(self.restorer, x) - x)
        same = same + _absolute(self._translate(self.degrader, y) - y)
        return {
            # Eq. 1
            "adversarial_clean": self._fools(self.judge_clean, x_hat),
            "adversarial_damaged": self._fools(self.judge_damaged, y_hat),
            # Eq. 2
            "cycle": c.cycle * cycle,
            # Section 5.2
            "identity": c.identity * same,
        }

    def _discriminator_losses(
        self, y: Tensor, x: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        c = self.config
        with torch.no_grad():
            x_hat, y_hat = self._translate(self.restorer, y), self._translate(self.degrader, x)
        terms = {}
        sides = (("clean", self.judge_clean, x, x_hat), ("damaged", self.judge_damaged, y, y_hat))
        for name, judge, real, fake in sides:
            adversarial, penalty = discriminate(
                judge,
                spread(real, generator),
                fake,
                penalise=iteration % c.r1_every == 0,
                autocast=self.autocast,
            )
            terms[f"adversarial_{name}"] = adversarial
            if penalty is not None:
                terms[f"r1_{name}"] = c.r1 * c.r1_every * penalty
        return terms

    def _translate(self, translator: FeedForward, images: Tensor) -> Tensor:
        with self.autocast():
            return translator.estimate(images)

    def _fools(self, judge: nn.Module, images: Tensor) -> Tensor:
        with self.autocast():
            logits = judge(2 * images - 1)
        return generator_loss(logits.float())


def _absolute(difference: Tensor) -> Tensor:
    # On [-1, 1] a difference is twice that on [0, 1].
    return 2 * difference.abs().mean()
