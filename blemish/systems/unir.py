r"""UNIR: a restorer learned from damaged images alone, with a simulator of the damage.

The restorer T is judged by what it makes, damaged again. From observed images :math:`y^r` it makes
estimates, from these the simulator d makes generated observations, whose damage :math:`\theta` is known:

.. math::
    y^g = d(T(y^r), \theta), \qquad \theta \sim p_d(\theta).

Three losses are minimised (Eq. 10 to 12): a discriminator must not tell :math:`y^g` from observed images;
restoring :math:`y^g` and damaging the result by the *same* :math:`\theta` must give :math:`y^g` again; and
what is observed must not be changed more than necessary.

.. math::
    L = L_{adv}(y^g) + \lambda_{rec} \| y^g - d(T(y^g), \theta) \|^2 + \lambda_{id} \| y^r - T(y^r) \|^2

The norms are taken as they are printed: sums over the pixels and channels of an image, on the scale [-1, 1]. So
the reconstruction teaches most. The restorer's own estimates stand for clean images; damaged, they are nearly
what is observed, and to restore them is a regression. The discriminator keeps the estimates from fading.

The simulator may be any differentiable degradation: a named setting, which is to know the truth (UNIR), or
one that was learned from the same damaged images (BNCR-GAN+UNIR), so that no clean image is seen by anybody.

In the code that was published with UNIR the discriminator judges T(y^r) itself; by Eq. 10, which is followed
here, it judges :math:`y^g`.

References:
    | Unsupervised Adversarial Image Reconstruction (Pajot et al., 2019)
    | https://openreview.net/forum?id=BJg4Z3RqF7
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), Section 7.6 and Eq. 10 to 12
    | https://arxiv.org/abs/2003.07849
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..degradations import Degradation, Identity, is_differentiable
from ..functional.random import Randomness
from ..losses import generator_loss
from ..networks import ResNetDiscriminator
from ..restorers import FeedForward
from .adversary import discriminate, spread
from .base import Group, Phase, Strength
from .restoring import RestoringSystem

__all__ = ["UNIR"]

_FLAT = (
    "the discriminator has gone flat and teaches the restorer nothing; "
    "start again with a lower system.discriminator_rate or system.lr"
)


class UNIR(RestoringSystem):
    """Trains a restorer through a simulator against a discriminator of damaged images.

    Arguments:
        config: The parts and the weights of the losses.
    """

    given: ClassVar[tuple[str, ...]] = ("degradation",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The parts and the weights of the losses.

        The defaults are the paper's for CIFAR-10, but for the networks. Where it is silent: images are on
        the scale [-1, 1] of the networks; in the reconstruction :math:`y^g` is given, so that no gradient
        makes it easier to restore. The code that was published with UNIR takes means instead of sums, which
        for CIFAR-10 is to divide both weights by 3,072.

        Attributes:
            restorer: T.
            degradation: The simulator d; its weights, if it has some, are handed to the system.
            simulator: What the simulator is, for the record.
            discriminator: D_y.
            lr: Adam's learning rate of the restorer.
            betas: Adam's decay rates.
            discriminator_rate: The learning rate of the discriminator relative to ``lr``.
            ema: The decay of the moving average of the restorer, per iteration.
            r1: The weight of the gradient penalty.
            r1_every: The penalty is computed once in this many iterations, with its weight times
                this number.
            adversarial: The weight of the adversarial loss.
            reconstruction: :math:`\\lambda_{rec}`.
            identity: :math:`\\lambda_{id}`.
        """

        restorer: FeedForward.Config = FeedForward.Config()
        degradation: Any = Identity.Config()
        simulator: str = ""
        discriminator: ResNetDiscriminator.Config = ResNetDiscriminator.Config()
        lr: float = 1e-4
        betas: tuple[float, float] = (0.0, 0.99)
        discriminator_rate: float = 1.0
        ema: float = 0.999
        r1: float = 10.0
        r1_every: int = 1
        adversarial: float = 1.0
        reconstruction: float = 1.0
        identity: float = 0.1

        def __post_init__(self) -> None:
            """Checks the period of lazy regularisation."""
            if self.r1_every < 1:
                raise ValueError(f"r1_every={self.r1_every}; it must be at least 1")

        def build(self) -> UNIR:
            """Makes the system with freshly initialised networks."""
            return UNIR(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.restorer = config.restorer.build()
        self.degradation: Degradation[Any] = config.degradation.build()
        self.discriminator = config.discriminator.build()
        if not is_differentiable(self.degradation):
            raise ValueError(
                "the restorer learns through its simulator, and this one has no gradients; give the folder "
                "of a learned degradation, or setting:NAME, which simulates JPEG"
            )
        self._slopes: list[Tensor] = []

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The restorer's turn, then the discriminator's; the former skips iteration 0."""
        c = self.config
        judge = Group("discriminator", c.discriminator_rate)
        return (
            Phase("T", (Group("restorer"),), c.lr, c.betas, start=1, average=True),
            Phase("D", (judge,), c.lr, c.betas, period=c.r1_every),
        )

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The restorer, and the simulator as it was given."""
        return {"restorer": self.restorer, "degradation": self.degradation}

    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        """Returns the weighted loss terms of the restorer (T) or the discriminator (D).

        Arguments:
            phase: ``T`` or ``D``.
            batch: Observed images in [0, 1], with shape (B, C, H, W).
            generator: The source of randomness.
            iteration: The number of finished iterations.
        """
        if phase == "T":
            return self._restorer_losses(batch, generator)
        return self._discriminator_losses(batch, generator, iteration)

    def strengths(self) -> dict[str, Strength]:
        """Returns the slope of the discriminator since the last call."""
        if not self._slopes:
            return {}
        mean = torch.stack(self._slopes).mean().item()
        self._slopes.clear()
        return {"discriminator_slope": Strength(mean, (1e-3, math.inf), _FLAT)}

    def _restorer_losses(self, observed: Tensor, generator: Randomness) -> dict[str, Tensor]:
        c = self.config
        estimate = self._restore(observed)
        params = self._sample(estimate, generator)
        generated = self.degradation(estimate, params)
        with self.autocast():
            logits = self.discriminator(2 * generated - 1)
        given = generated.detach()
        again = self.degradation(self._restore(given), params)
        return {
            # Eq. 10
            "adversarial": c.adversarial * generator_loss(logits.float()),
            # Eq. 11
            "reconstruction": c.reconstruction * _squared(given - again),
            # Eq. 12
            "identity": c.identity * _squared(observed - estimate),
        }

    def _discriminator_losses(
        self, observed: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        c = self.config
        with torch.no_grad():
            estimate = self._restore(observed)
            generated = self.degradation(estimate, self._sample(estimate, generator))
        adversarial, penalty = discriminate(
            self.discriminator,
            spread(observed, generator),
            generated,
            penalise=iteration % c.r1_every == 0,
            autocast=self.autocast,
        )
        if penalty is None:
            return {"adversarial": adversarial}
        self._slopes.append(penalty.detach().sqrt())
        return {"adversarial": adversarial, "r1": c.r1 * c.r1_every * penalty}

    def _restore(self, y: Tensor) -> Tensor:
        with self.autocast():
            return self.restorer.estimate(y)

    @torch.no_grad()
    def _sample(self, images: Tensor, generator: Randomness) -> Any:
        B, C, H, W = images.shape
        return self.degradation.sample((B, C, H, W), generator=generator)


def _squared(difference: Tensor) -> Tensor:
    # On [-1, 1] a difference is twice that on [0, 1].
    return (2 * difference).square().flatten(1).sum(dim=1).mean()
