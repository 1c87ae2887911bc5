r"""ANDNet: a restorer taught with the worst small damage, from clean images alone.

For each image x a random network that is the identity (but for the reduction by the restorer's scale) is drawn anew,
and perturbed within its radii so that the restorer T errs as much as it can; then T learns to undo just that:

.. math:: \min_T \; \mathbb{E}_x \max_{\theta \in S} \; \| x - T(F(x; \theta)) \|_1

What T meets in the end was in nobody's mind when it was trained, so it shall be good at whatever is near.

The paper's ablations are the same system with another perturbation: a random one of the same or another length
(``perturb="random"``), none, which is classical super-resolution from bicubic or other reductions (``"none"``), and
noise alone, which is a network without blocks but one (``blocks=(0, 1)`` and radii 0 for filters and slopes).

With a ``degradation`` d of its own, a restorer of damage is hardened: T is shown :math:`F(d(x); \theta)`.

References:
    | AND: Adversarial Neural Degradation for Learning Blind Image Super-Resolution (Luo et al., NeurIPS 2023)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..degradations import (
    STEP,
    STEPS,
    Chain,
    Degradation,
    Identity,
    NeuralDegradation,
    NeuralParams,
    attack,
    deviation,
)
from ..functional.pool import pool
from ..functional.random import Randomness
from ..functional.resample import modcrop
from ..functional.stages import to_8_bits
from ..restorers import FeedForward
from ..types import Shape
from .base import Group, Phase, Strength
from .restoring import RestoringSystem

__all__ = ["ANDNet"]

Perturb = Literal["worst", "random", "none"]


class ANDNet(RestoringSystem):
    """Trains a restorer against the worst perturbation of the identity.

    Arguments:
        config: The parts and how they are trained.
    """

    given: ClassVar[tuple[str, ...]] = ("degradation",)
    continued: ClassVar[tuple[str, ...]] = ("restorer",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The parts and how they are trained; where the paper says nothing, betas and decay are BasicSR's.

        Attributes:
            restorer: T.
            perturbation: The network F and its radii; its scale is the restorer's.
            perturb: Whether the worst perturbation is searched, or one is drawn, or none is made.
            steps: The number of steps of the search.
            step: The length of a step, in units of the radius.
            clean: The share of a batch that is left unperturbed, its last images.
            degradation: What befalls images before F; its scale times that of F is the restorer's.
            simulator: What that is, for the record.
            lr: Adam's learning rate.
            betas: Adam's decay rates.
            ema: The decay of the moving average, per iteration.
        """

        restorer: FeedForward.Config = FeedForward.Config()
        perturbation: NeuralDegradation.Config = NeuralDegradation.Config()
        perturb: Perturb = "worst"
        steps: int = STEPS
        step: float = STEP
        clean: float = 0.0
        degradation: Any = Identity.Config()
        simulator: str = ""
        lr: float = 1e-4
        betas: tuple[float, float] = (0.9, 0.99)
        ema: float = 0.999

        def __post_init__(self) -> None:
            """Checks the shares and the steps."""
            if not 0 <= self.clean <= 1 or self.steps < 0 or self.step <= 0:
                raise ValueError(
                    f"clean={self.clean}, steps={self.steps}, step={self.step}; give a share in [0, 1], at least 0 "
                    "steps, and a positive length"
                )

        def build(self) -> ANDNet:
            """Makes the system with freshly initialised networks."""
            return ANDNet(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.restorer = config.restorer.build()
        self.degradation: Degradation[Any] = config.degradation.build()
        self.perturbation = config.perturbation.build()
        grows, shrinks = self.restorer.scale, self.degradation.scale * self.perturbation.scale
        if grows != shrinks:
            raise ValueError(
                f"the restorer makes images {grows} times larger, and damage and perturbation {shrinks} times smaller; "
                "--scale sets the restorer's and the perturbation's"
            )
        self._pair: tuple[Tensor, Tensor] | None = None
        self._deviations: list[Tensor] = []

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The restorer's turn; the perturbation's is before it, in :meth:`prepare`."""
        return (Phase("T", (Group("restorer"),), self.config.lr, self.config.betas, average=True),)

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The restorer, and what it was trained against: damage if there is some, then perturbations at random."""
        seen: nn.Module = self.perturbation
        if not isinstance(self.degradation, Identity):
            seen = Chain([self.degradation, self.perturbation])
        return {"restorer": self.restorer, "degradation": seen}

    def lacks(self, name: str) -> bool:
        """Whether a given part is missing; damage need not be given."""
        return bool(self.get_submodule(name).state_dict())

    def prepare(self, batch: Tensor, generator: Randomness, iteration: int) -> None:
        """Perturbs a batch, for the phases of this iteration.

        Arguments:
            batch: Clean images in [0, 1], with shape (B, C, H, W).
            generator: The source of randomness.
            iteration: Not used.
        """
        x = modcrop(batch, self.restorer.scale)
        damaged = self._damaged(x, generator)
        n = self._perturbed_count(len(x))
        y = self._reduced(damaged)
        if n:
            with _constant(self):
                params = self.perturbed(damaged[:n], x[:n], generator)
            with torch.no_grad():
                moved = self.perturbation(damaged[:n], params)
            self._deviations.append(deviation(self.perturbation, damaged[:n], moved).median())
            y = torch.cat([moved, y[n:]])
        self._pair = (to_8_bits(y), x)

    def perturbed(self, damaged: Tensor, x: Tensor, generator: Randomness) -> NeuralParams:
        """Draws the networks of images, and perturbs them.

        Arguments:
            damaged: What is shown to them, in [0, 1], with shape (B, C, h, w).
            x: The clean images, with shape (B, C, H, W).
            generator: The source of randomness.
        """
        c = self.config
        if c.perturb == "random":
            return self.perturbation.sample(_shape(damaged), generator=generator)

        def loss(y: Tensor) -> Tensor:
            with self.autocast():
                estimate = self.restorer.estimate(y)
            return self.errors(estimate, x)

        with self.autocast():
            return attack(
                self.perturbation, damaged, loss, generator=generator, steps=c.steps, step=c.step
            )

    def errors(self, estimate: Tensor, x: Tensor) -> Tensor:
        """Returns what the attack maximises of each sample, with shape (B,): the mean absolute error.

        Arguments:
            estimate: Estimates, about in [0, 1], with shape (B, C, H, W).
            x: The clean images.
        """
        return (x - estimate).abs().flatten(1).mean(dim=1)

    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        """Returns the mean absolute error on what :meth:`prepare` made of this batch.

        Arguments:
            phase: ``T``.
            batch: Not used: its perturbed images are kept.
            generator: Not used: nothing is drawn.
            iteration: Not used.
        """
        y, x = self.pair()
        with self.autocast():
            estimate = self.restorer.estimate(y)
        return {"error": (x - estimate).abs().mean()}

    def pair(self) -> tuple[Tensor, Tensor]:
        """Returns the perturbed images of this iteration and the clean ones, in [0, 1].

        Raises:
            RuntimeError: If :meth:`prepare` was not called.
        """
        if self._pair is None:
            raise RuntimeError("there are no perturbed images: call prepare first")
        return self._pair

    @torch.no_grad()
    def shown(self, batch: Tensor, generator: Randomness) -> Tensor:
        """Returns a batch damaged and made smaller, but not perturbed, with shape (B, C, H / scale, W / scale)."""
        damaged = self._damaged(modcrop(batch, self.restorer.scale), generator)
        return to_8_bits(self._reduced(damaged))

    def strengths(self) -> dict[str, Strength]:
        """Returns how far the perturbations took images: the median PSNR to the unperturbed ones, in dB."""
        if not self._deviations:
            return {}
        value = float(torch.stack(self._deviations).mean())
        self._deviations.clear()
        far = "the perturbations are too strong or too weak to learn from: change system.perturbation.radii"
        return {"deviation_db": Strength(value, (15.0, 45.0), far)}

    def _perturbed_count(self, batch: int) -> int:
        """Returns how many images of a batch are perturbed, its first ones."""
        return 0 if self.config.perturb == "none" else batch - round(self.config.clean * batch)

    def _reduced(self, damaged: Tensor) -> Tensor:
        """Returns what the unperturbed identity makes of images."""
        return pool(damaged, self.perturbation.scale, self.config.perturbation.pool)

    @torch.no_grad()
    def _damaged(self, x: Tensor, generator: Randomness) -> Tensor:
        if isinstance(self.degradation, Identity):
            return x
        params = self.degradation.sample(_shape(x), generator=generator)
        return self.degradation(x, params).clamp(0, 1)


def _shape(x: Tensor) -> Shape:
    B, C, H, W = x.shape
    return B, C, H, W


@contextlib.contextmanager
def _constant(module: nn.Module) -> Iterator[None]:
    """Takes the parameters of a module for constants, so that no gradient of theirs is computed."""
    learned = [p for p in module.parameters() if p.requires_grad]
    for p in learned:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learned:
            p.requires_grad_(True)
