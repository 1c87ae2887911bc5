r"""A likelihood of damaged images, learned from pairs: clean images x, and what became of them, y.

.. math:: L = -\frac{1}{C H W \ln 2} \operatorname{E} \log p(y \mid x)

in bits for each value: what y costs for who knows x.

*Guesses.* A search for x, which is what the likelihood is for, asks it about images that no pair of the training has:
blurred ones, noisy ones, ones of too little contrast. A network that saw none of them may say anything there. So a share of the
conditions are such guesses, :math:`\tilde x = g(x)`, of the same y, with the same loss: the law averages over what a
guess leaves open, and how much a better guess gains, it learns at all strengths.

*Held-out images.* The loss of the training falls for ever, as a network can learn its pairs by heart; that
of images kept back tells when it begins to. :mod:`blemish.training.stopping` keeps the best weights and ends the run.

The paper has neither of both: it tells that a law trained for 379 epochs was far better in likelihood than after 29, and
that what was found by it looked strange (Sec. 4.3).

References:
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning (Han et al., 2021)
    | https://arxiv.org/abs/2103.03010
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..degradations import (
    JPEG,
    Chain,
    Contrast,
    Degradation,
    GaussianBlur,
    GaussianNoise,
    LearnedLikelihood,
    Partial,
    QualityLaw,
    bits_per_dim,
)
from ..functional.random import Randomness, rand
from ..functional.stages import to_8_bits
from .base import Clean, Group, Phase
from .degrading import LearnsDegradation, shape_of

__all__ = ["GUESS", "LikelihoodLearning", "LikelihoodPairs"]

GUESS = Chain.Config(
    (
        Partial.Config(GaussianBlur.Config((0.3, 2.5)), 0.5),
        Partial.Config(Contrast.Config((0.6, 1.1), 0.05), 0.5),
        Partial.Config(GaussianNoise.Config((0.0, 0.08)), 0.5),
    )
)
"""How a guess differs from the clean image: any of three, each in half of the cases."""


class LikelihoodLearning(LearnsDegradation):
    """Learns a likelihood from images that it damages itself.

    Arguments:
        config: The parts and how they are trained.
    """

    given: ClassVar[tuple[str, ...]] = ("damage",)
    watched: ClassVar[bool] = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The parts and how they are trained.

        Attributes:
            degradation: The law that is learned.
            damage: What befalls clean images; it is rounded to 8 bits afterwards.
            guessed: The share of conditions that are guesses.
            guess: How a guess differs from the clean image.
            shuffled: Whether each image is given another one's condition; a control, which can learn no dependence.
            lr: Adam's learning rate.
            betas: Adam's decay rates.
            clip: The largest norm of the gradient.
            ema: The decay of the moving average, per iteration.
        """

        degradation: LearnedLikelihood.Config = LearnedLikelihood.Config()
        damage: Any = JPEG.Config(QualityLaw(10, 50))
        guessed: float = 0.25
        guess: Any = GUESS
        shuffled: bool = False
        lr: float = 1e-3
        betas: tuple[float, float] = (0.95, 0.9995)
        clip: float = 1.0
        ema: float = 0.999

        def __post_init__(self) -> None:
            """Checks the share of guesses."""
            if not 0 <= self.guessed <= 1:
                raise ValueError(f"guessed={self.guessed} is no share; give a number from 0 to 1")

        def build(self) -> LikelihoodLearning:
            """Makes the system with a freshly initialised network."""
            return LikelihoodLearning(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.degradation: LearnedLikelihood = config.degradation.build()
        self.damage: Degradation[Any] = config.damage.build()
        self.guess: Degradation[Any] = config.guess.build()
        for name, one in (("damage", self.damage), ("guess", self.guess)):
            if one.scale != 1:
                raise ValueError(
                    f"the {name} makes images {one.scale} times smaller, of which this likelihood knows nothing; give another"
                )
        self._pairs: tuple[Tensor, Tensor] | None = None

    @property
    def phases(self) -> tuple[Phase, ...]:
        """One turn."""
        c = self.config
        return (Phase("L", (Group("degradation"),), c.lr, c.betas, average=True, clip=c.clip),)

    @torch.no_grad()
    def pairs(self, batch: Tensor, generator: Randomness) -> tuple[Tensor, Tensor]:
        """Returns clean images, and what became of them, in [0, 1].

        Arguments:
            batch: Images of the run in [0, 1], with shape (B, C, H, W).
            generator: The source of randomness.
        """
        params = self.damage.sample(shape_of(batch), generator=generator)
        return batch, to_8_bits(self.damage(batch, params))

    @torch.no_grad()
    def conditions(self, x: Tensor, generator: Randomness) -> Tensor:
        """Returns what the network is told of clean images: themselves, or guesses.

        Arguments:
            x: Clean images in [0, 1], with shape (B, C, H, W).
            generator: The source of randomness.
        """
        c = self.config
        if c.shuffled:
            x = x.roll(1, 0)
        if not c.guessed:
            return x
        guesses = self.guess(x, self.guess.sample(shape_of(x), generator=generator))
        chosen = rand((len(x), 1, 1, 1), generator) < c.guessed
        return torch.where(chosen, guesses, x)

    def prepare(self, batch: Tensor, generator: Randomness, iteration: int) -> None:
        """Makes the pairs of an iteration.

        Arguments:
            batch: The images of the run, see :meth:`pairs`.
            generator: The source of randomness.
            iteration: Not used.
        """
        x, y = self.pairs(batch, generator)
        self._pairs = self.conditions(x, generator), y

    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        """Returns the bits for each value of what :meth:`prepare` made of this batch.

        Arguments:
            phase: Not used: there is one.
            batch: Not used: its pairs are kept.
            generator: The source of randomness, of the dropout.
            iteration: Not used.
        """
        if self._pairs is None:
            raise RuntimeError("there are no pairs: call prepare first")
        x, y = self._pairs
        with self.autocast():
            log_p = self.degradation.pixels(y, x, generator).float()
        return {"bits": bits_per_dim(log_p.flatten(1).sum(dim=1), y.shape).mean()}

    @torch.no_grad()
    def judged(
        self, batch: Tensor, parts: Mapping[str, nn.Module], generator: Randomness
    ) -> Tensor:
        """Returns the bits for each value of true pairs, with shape (B,).

        Arguments:
            batch: Images of the run in [0, 1], see :meth:`pairs`.
            parts: The averaged :attr:`parts`.
            generator: The source of randomness, of the damage.
        """
        model: Any = parts["degradation"]
        x, y = self.pairs(batch, generator)
        if self.config.shuffled:
            x = x.roll(1, 0)
        return bits_per_dim(model.log_prob(y, x), y.shape)

    @torch.no_grad()
    def compared(
        self, y: Tensor, parts: Mapping[str, nn.Module], generator: Randomness
    ) -> tuple[Tensor, Tensor]:
        """Returns damaged images, and for each of their pixels what the likelihood draws, given those before it.

        Arguments:
            y: Clean images in [0, 1], with shape (B, C, H, W).
            parts: The averaged :attr:`parts`.
            generator: The source of randomness.
        """
        model: Any = parts["degradation"]
        x, damaged = self.pairs(y, generator)
        return damaged, model.redrawn(damaged, x, model.sample(shape_of(x), generator=generator))


class LikelihoodPairs(LikelihoodLearning):
    """Learns a likelihood from observed images and their clean partners.

    Arguments:
        config: The parts and how they are trained; its ``damage`` is not used.
    """

    clean: ClassVar[Clean | None] = "partners"

    @dataclass(frozen=True, kw_only=True)
    class Config(LikelihoodLearning.Config):
        """The parts and how they are trained."""

        def build(self) -> LikelihoodPairs:
            """Makes the system with a freshly initialised network."""
            return LikelihoodPairs(self)

    def pairs(self, batch: Tensor, generator: Randomness) -> tuple[Tensor, Tensor]:
        """Returns clean images and observed ones, in [0, 1].

        Arguments:
            batch: Observed images and their clean partners in [0, 1], with shape (B, 2 C, H, W).
            generator: Not used: nothing is drawn.
        """
        observed, clean = batch.chunk(2, dim=1)
        return clean, observed

    @torch.no_grad()
    def compared(
        self, y: Tensor, parts: Mapping[str, nn.Module], generator: Randomness
    ) -> tuple[Tensor, Tensor]:
        """Returns observed images, and for each pixel what the likelihood draws, where these are taken for clean ones.

        Arguments:
            y: Observed images in [0, 1], with shape (B, C, H, W).
            parts: The averaged :attr:`parts`.
            generator: The source of randomness.
        """
        model: Any = parts["degradation"]
        return y, model.redrawn(y, y, model.sample(shape_of(y), generator=generator))
