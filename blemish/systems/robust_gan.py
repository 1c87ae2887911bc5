r"""The robust GAN family: a clean generator and a model of the damage, learned from damaged images.

The discriminator only ever compares damaged images. The generator makes clean images, which go
through a degradation before they are judged:

.. math:: x^g = G_x(z_x), \qquad y^g = d(x^g, \theta), \qquad \theta \sim p_d(\theta).

What the degradation is makes the member of the family: none (GAN), the true one (AmbientGAN), one
directly learned parameter (P-AmbientGAN), or generators of kernels, noise levels and JPEG qualities
(BR-GAN, NR-GAN, CR-GAN, BNCR-GAN).

References:
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021)
    | https://arxiv.org/abs/2003.07849
    | AmbientGAN: Generative models from lossy measurements (Bora et al., 2018)
    | https://openreview.net/forum?id=Hy7fDog0b
    | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium
    | (Heusel et al., 2017), https://arxiv.org/abs/1706.08500
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..degradations import (
    Chain,
    Degradation,
    Identity,
    LearnedBlur,
    LearnedJPEG,
    LearnedNoise,
)
from ..degradations.learned import LearnedBlurParams, LearnedJPEGParams, LearnedNoiseParams
from ..functional.kernels import entropy
from ..functional.noise import read_shot
from ..functional.random import Randomness, generator_for
from ..losses import (
    blur_weight,
    compression_weight,
    consistency_loss,
    diversity_loss,
    generator_loss,
)
from ..networks import ResNetDiscriminator
from ..priors import GANPrior
from ..types import Params
from .adversary import discriminate, spread
from .base import RUNNING_AWAY, Group, ImageShape, Phase, Strength, System

__all__ = ["RobustGAN"]

# Ranges beyond which a learned strength is no plausible damage any more, but explains the image. The
# paper's generators start beyond some of them; _widened makes room for that.
_SANE = {
    "sigma_read": (0.0, 0.15),
    "sigma_shot": (0.0, 0.3),
    "quality": (5.0, 100.0),
    "kernel_sum": (0.8, 1.25),
    "discriminator_slope": (1e-3, math.inf),
}

_BEYOND = {
    "discriminator_slope": "the discriminator has gone flat and teaches the generators nothing; "
    "start again with a lower system.discriminator_rate or system.lr",
}


class RobustGAN(System):
    """Trains a prior through a degradation against a discriminator of degraded images.

    Arguments:
        config: The parts and the weights of the losses.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The parts and the weights of the losses.

        The defaults are what the paper gives for CIFAR-10 (but for the degradation and for the
        weights of the consistencies, which differ between its models). Where it is silent:

        * Two kernels are compared by the sum of their taps' differences: at the paper's weight the
          mean would be a term 81 times smaller (``diversity_kernel_reduction``).
        * The diversity of the noise compares the noise at the clean image, not at the blurred one.
        * The consistencies are means over pixels, with weights that carry no gradient.
        * Borders are reflected, and kernels that do not sum to 1 are left so.
        * Differentiable JPEG is the codec of Shin & Song, whom it cites, in the paper's presets.

        What is chosen about the damaged data stands in :mod:`blemish.degradations.settings`.

        Attributes:
            prior: G_x, a :class:`~blemish.priors.GANPrior` or a :class:`~blemish.priors.StylePrior`.
            degradation: What the generated images go through; a chain or an identity.
            discriminator: D_y.
            lr: Adam's learning rate of the generators.
            betas: Adam's decay rates.
            degradation_rate: The learning rate of the degradation relative to ``lr``. Below 1 it
                keeps short runs from explaining everything by damage; the paper uses 1.
            quality_rate: The learning rate of the qualities relative to the degradation's. A quality
                is one number, which all weights of its generator move the same way: early on it runs
                to 100, where it has no gradient. The paper uses 1.
            discriminator_rate: The learning rate of the discriminator relative to ``lr``. Above 1
                (the two time-scale rule of Heusel et al., 2017) a narrow discriminator keeps up
                with the generators instead of going flat; the paper uses 1.
            ema: The decay of the moving averages, per iteration.
            batch_multiple: Generated images per observed image in the generator's turn (NR-GAN: 2).
            r1: The weight of the gradient penalty.
            r1_every: The penalty is computed once in this many iterations, with its weight times
                this number (lazy regularisation; the paper computes it always).
            diversity_blur: The weight of the kernels' diversity.
            diversity_noise: The weight of the noise's diversity.
            diversity_quality: The weight of the qualities' diversity.
            diversity_kernel_reduction: How two kernels are compared; the paper does not say.
            consistency_blur: The weight of the adaptive consistency of blur; 0 leaves it out.
            consistency_compression: The same for JPEG.
            mu_blur: The scale of the entropy in its weight; 0 is non-adaptive.
            mu_compression: The scale of the quality in its weight; 0 is non-adaptive.
            sane_radius: A mean kernel radius in pixels above which the run warns, unless the fresh
                kernels are about as wide; see :meth:`RobustGAN.strengths`.
        """

        prior: Any = GANPrior.Config()
        degradation: Any = Identity.Config()
        discriminator: ResNetDiscriminator.Config = ResNetDiscriminator.Config()
        lr: float = 2e-4
        betas: tuple[float, float] = (0.0, 0.99)
        degradation_rate: float = 1.0
        quality_rate: float = 1.0
        discriminator_rate: float = 1.0
        ema: float = 0.999
        batch_multiple: int = 2
        r1: float = 10.0
        r1_every: int = 1
        diversity_blur: float = 4e-4
        diversity_noise: float = 0.02
        diversity_quality: float = 1e-5
        diversity_kernel_reduction: Literal["mean", "sum"] = "sum"
        consistency_blur: float = 0.0
        consistency_compression: float = 0.0
        mu_blur: float = 1.0
        mu_compression: float = 10.0
        sane_radius: float = 4.0

        def __post_init__(self) -> None:
            """Checks the multiple of the batch and the period of lazy regularisation."""
            if self.batch_multiple < 1 or self.r1_every < 1:
                raise ValueError("batch_multiple and r1_every must be at least 1")

        def build(self) -> RobustGAN:
            """Makes the system with freshly initialised networks."""
            return RobustGAN(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        _check_players(config)
        self.prior = config.prior.build()
        degradation: Degradation[Any] = config.degradation.build()
        self.degradation = degradation if isinstance(degradation, Chain) else Chain([degradation])
        self.discriminator = config.discriminator.build()
        self._strengths: dict[str, list[Tensor]] = {}
        self._fresh = self._measure_fresh()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The generators' turn, then the discriminator's; the former skip iteration 0."""
        c = self.config
        groups: tuple[Group, ...] = (Group("prior"),)
        if any(True for _ in self.degradation.parameters()):
            groups += self._degradation_groups()
        return (
            Phase("G", groups, c.lr, c.betas, start=1, average=True),
            Phase(
                "D",
                (Group("discriminator", c.discriminator_rate),),
                c.lr,
                c.betas,
                period=c.r1_every,
            ),
        )

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The prior and the degradation."""
        return {"prior": self.prior, "degradation": self.degradation}

    @property
    def ema_decay(self) -> float:
        """The decay of the moving averages, per iteration."""
        return self.config.ema

    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        """Returns the weighted loss terms of the generators (G) or the discriminator (D).

        Arguments:
            phase: ``G`` or ``D``.
            batch: Observed images in [0, 1], with shape (B, C, H, W).
            generator: The source of randomness.
            iteration: The number of finished iterations.
        """
        if phase == "G":
            return self._generator_losses(len(batch), generator)
        return self._discriminator_losses(batch, generator, iteration)

    @property
    def image_shape(self) -> ImageShape:
        """The shape of the prior's images, which observed ones must have."""
        shape: ImageShape = self.prior.shape
        return shape

    def strengths(self) -> dict[str, Strength]:
        """Returns the mean learned strengths since the last call, with their sane ranges.

        The slope of the discriminator is among them, the norm of its gradient at observed images:
        where its activations have died, it is 0, and nothing is learned any more.

        A range holds at least the strength that the fresh weights had, give or take a quarter: only
        what runs away from there is a reason to warn. As fresh weights are a function of the seed,
        a resumed run has the ranges of an unbroken one.
        """
        sane = {**_SANE, "radius": (0.0, self.config.sane_radius)}
        means = {name: torch.stack(v).mean().item() for name, v in self._strengths.items()}
        self._strengths.clear()
        return {
            name: Strength(
                v,
                _widened(sane.get(name, (0.0, 1.0)), self._fresh.get(name)),
                _BEYOND.get(name, RUNNING_AWAY),
            )
            for name, v in means.items()
        }

    def generate(self, n: int, generator: Randomness) -> tuple[Tensor, Params, Tensor]:
        """Draws clean images, parameters and their degraded images.

        Arguments:
            n: The number of images.
            generator: The source of randomness.

        Returns:
            Clean images in [0, 1], with shape (n, C, H, W); the parameters; the degraded images.
        """
        with self.autocast():
            x = self.prior.sample(n, generator=generator)
            params = self.degradation.sample((n, *self.prior.shape), generator=generator)
        # Eq. 1: y = psi(x * k + n, q)
        return x, params, self.degradation(x, params)

    def _degradation_groups(self) -> tuple[Group, ...]:
        c = self.config
        if c.quality_rate == 1:
            return (Group("degradation", c.degradation_rate),)
        return tuple(
            Group(
                f"degradation.stages.{i}",
                c.degradation_rate * (c.quality_rate if isinstance(stage, LearnedJPEG) else 1.0),
            )
            for i, stage in enumerate(self.degradation)
            if any(True for _ in stage.parameters())
        )

    @torch.no_grad()
    def _measure_fresh(self) -> dict[str, float]:
        """Returns the mean strengths that the learned stages have now."""
        fresh: dict[str, float] = {}
        for stage in self.degradation:
            weights = next(stage.parameters(), None)
            # On the meta device, where only shapes are known, there is nothing to measure.
            if weights is not None and not weights.is_meta:
                g = generator_for("fresh strengths", device=weights.device)
                drawn = stage.sample((8, *self.prior.shape), generator=g)
                fresh |= {name: v.mean().item() for name, v in drawn.summary().items()}
        return fresh

    def _generator_losses(self, batch: int, generator: Randomness) -> dict[str, Tensor]:
        x, params, y = self.generate(self.config.batch_multiple * batch, generator)
        with self.autocast():
            logits = self.discriminator(2 * y - 1)
        terms = {"adversarial": generator_loss(logits.float())}
        for stage, drawn in zip(self.degradation, params.stages, strict=True):  # type: ignore[attr-defined]
            terms |= self._stage_losses(stage, drawn, x)
            if any(True for _ in stage.parameters()):
                for name, value in drawn.summary().items():
                    self._watch(name, value)
        return terms

    def _watch(self, name: str, value: Tensor) -> None:
        self._strengths.setdefault(name, []).append(value.detach().mean())

    def _stage_losses(self, stage: nn.Module, params: Params, x: Tensor) -> dict[str, Tensor]:
        if isinstance(stage, LearnedBlur) and isinstance(params, LearnedBlurParams):
            return dict(self._blur_losses(stage, params, x))
        if isinstance(stage, LearnedNoise) and isinstance(params, LearnedNoiseParams):
            return dict(self._noise_losses(params, x))
        if isinstance(stage, LearnedJPEG) and isinstance(params, LearnedJPEGParams):
            return dict(self._quality_losses(stage, params, x))
        return {}

    def _blur_losses(
        self, stage: LearnedBlur, params: LearnedBlurParams, x: Tensor
    ) -> Iterator[tuple[str, Tensor]]:
        c = self.config
        reduction = c.diversity_kernel_reduction
        diversity = diversity_loss(params.kernel, params.z, reduction=reduction)
        yield "diversity_blur", c.diversity_blur * diversity
        if c.consistency_blur:
            # Eq. 7
            weight = blur_weight(entropy(params.kernel), c.mu_blur)
            with torch.no_grad():
                blurred = stage(x, params)
            yield "consistency_blur", c.consistency_blur * consistency_loss(x, blurred, weight)

    def _noise_losses(self, params: LearnedNoiseParams, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        # The noise on the scale [-1, 1], as NR-GAN compares it. Its shot part is taken at the clean
        # image; the blurred one, where it is added, differs little.
        signal = x.detach()
        noise = 2 * (
            read_shot(
                signal, params.sigma_read, params.sigma_shot, params.eps_read, params.eps_shot
            )
            - signal
        )
        yield "diversity_noise", self.config.diversity_noise * diversity_loss(noise, params.z)

    def _quality_losses(
        self, stage: LearnedJPEG, params: LearnedJPEGParams, x: Tensor
    ) -> Iterator[tuple[str, Tensor]]:
        c = self.config
        diversity = diversity_loss(params.quality[:, None], params.z)
        yield "diversity_quality", c.diversity_quality * diversity
        if c.consistency_compression:
            # Eq. 8
            weight = compression_weight(params.quality, c.mu_compression)
            with torch.no_grad():
                compressed = stage(x, params)
            loss = consistency_loss(x, compressed, weight)
            yield "consistency_compression", c.consistency_compression * loss

    def _discriminator_losses(
        self, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        c = self.config
        with torch.no_grad():
            _, _, fake = self.generate(len(batch), generator)
        real = spread(batch, generator)
        penalise = iteration % c.r1_every == 0
        adversarial, penalty = discriminate(
            self.discriminator, real, fake, penalise=penalise, autocast=self.autocast
        )
        if penalty is None:
            return {"adversarial": adversarial}
        self._watch("discriminator_slope", penalty.sqrt())
        return {"adversarial": adversarial, "r1": c.r1 * c.r1_every * penalty}


def _check_players(config: RobustGAN.Config) -> None:
    """Refuses a discriminator that cannot take the generator's images."""
    made, judged = config.prior.network, config.discriminator
    if made.image_channels != judged.image_channels:
        raise ValueError(
            f"the generator makes images of {made.image_channels} channels and the discriminator takes "
            f"{judged.image_channels}; set system.prior.network.image_channels and "
            "system.discriminator.image_channels alike"
        )
    if made.size < 2 ** len(judged.down):
        raise ValueError(
            f"discriminator.down={judged.down} halves images of side {made.size} more often than they "
            "can be; give fewer blocks"
        )


def _widened(sane: tuple[float, float], fresh: float | None) -> tuple[float, float]:
    """Returns a range that holds a fresh strength, give or take a quarter."""
    if fresh is None:
        return sane
    return min(sane[0], fresh / 1.25), max(sane[1], 1.25 * fresh)
