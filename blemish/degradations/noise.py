r"""Noise: read and shot, Gaussian, Poisson and what stands for it where gradients are needed.

Read and shot noise has the variance :math:`\lambda_{read} + \lambda_{shot} x`; as in BNCR-GAN it is
drawn as two independent normal fields, :math:`y = x + \sigma_{read} \epsilon_{read} + \sigma_{shot}
\epsilon_{shot} \sqrt{x}`.

:class:`PoissonNoise` counts photons exactly; :class:`DifferentiablePoissonNoise` takes its params and makes normal
numbers of them, with the same mean and variance, so that a damage that was drawn for the one can be told by the other.

References:
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), C.1
    | https://arxiv.org/abs/2003.07849
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional.noise import (
    gaussian_noise,
    normal_counts,
    normal_log_prob,
    poisson_quantile,
    read_shot,
)
from ..functional.random import Randomness, rand, randn, uniform
from ..types import Params, Shape
from .base import Degradation, Differentiable, Likelihood
from .laws import ReadShotLaw

__all__ = [
    "DifferentiablePoissonNoise",
    "GaussianNoise",
    "GaussianNoiseParams",
    "PoissonNoise",
    "PoissonNoiseParams",
    "ReadShotNoise",
    "ReadShotParams",
]


@dataclass(frozen=True)
class ReadShotParams(Params):
    """Noise levels on the [0, 1] scale and the noise itself.

    Attributes:
        sigma_read: Standard deviations, with shape (B, 1, 1, 1) or (B, C, H, W).
        sigma_shot: Standard deviations at x = 1, with the same shape.
        eps_read: Standard normal numbers, with shape (B, C, H, W).
        eps_shot: Standard normal numbers, with shape (B, C, H, W).
    """

    sigma_read: Tensor
    sigma_shot: Tensor
    eps_read: Tensor
    eps_shot: Tensor

    def summary(self) -> dict[str, Tensor]:
        """Returns the root mean square of both levels, each with shape (B,)."""
        return {
            "sigma_read": self.sigma_read.square().flatten(1).mean(dim=1).sqrt(),
            "sigma_shot": self.sigma_shot.square().flatten(1).mean(dim=1).sqrt(),
        }


class ReadShotNoise(Differentiable[ReadShotParams]):
    """Adds read and shot noise, one pair of levels for each image.

    The square root is not differentiated by default: its gradient is infinite at black.

    Arguments:
        law: The distribution of the levels.
        signal_gradient: Whether the gradient also flows through the square root.
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        law: ReadShotLaw = ReadShotLaw()
        signal_gradient: bool = False

        def build(self) -> ReadShotNoise:
            """Makes the degradation."""
            return ReadShotNoise(self.law, signal_gradient=self.signal_gradient)

    def __init__(self, law: ReadShotLaw | None = None, *, signal_gradient: bool = False) -> None:
        super().__init__()
        self.config = ReadShotNoise.Config(law or ReadShotLaw(), signal_gradient)

    def sample(self, shape: Shape, *, generator: Randomness) -> ReadShotParams:
        """Draws levels, with shape (B, 1, 1, 1), and noise, with the given shape."""
        read, shot = self.config.law.levels(shape[0], generator)
        eps_read, eps_shot = randn(shape, generator), randn(shape, generator)
        return ReadShotParams(read.view(-1, 1, 1, 1), shot.view(-1, 1, 1, 1), eps_read, eps_shot)

    def forward(self, x: Tensor, params: ReadShotParams) -> Tensor:
        """Adds the noise to images of shape (B, C, H, W)."""
        return read_shot(
            x,
            params.sigma_read,
            params.sigma_shot,
            params.eps_read,
            params.eps_shot,
            signal_gradient=self.config.signal_gradient,
        )


@dataclass(frozen=True)
class GaussianNoiseParams(Params):
    """A noise level for each sample and the noise itself.

    Attributes:
        sigma: Standard deviations on the [0, 1] scale, with shape (B,).
        eps: Standard normal numbers, with shape (B, C, H, W).
    """

    sigma: Tensor
    eps: Tensor


class GaussianNoise(Differentiable[GaussianNoiseParams], Likelihood[GaussianNoiseParams]):
    """Adds white Gaussian noise with standard deviations from U[low, high].

    If these are one, it tells how likely an observed image is.

    Arguments:
        sigma: The range of the standard deviation on the [0, 1] scale.
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        sigma: tuple[float, float] = (0.0, 0.1)

        def build(self) -> GaussianNoise:
            """Makes the degradation."""
            return GaussianNoise(self.sigma)

    def __init__(self, sigma: tuple[float, float]) -> None:
        super().__init__()
        if not 0 <= sigma[0] <= sigma[1]:
            raise ValueError(f"sigma={sigma} is no range; give (lowest, highest), both at least 0")
        self.config = GaussianNoise.Config(sigma)

    def sample(self, shape: Shape, *, generator: Randomness) -> GaussianNoiseParams:
        """Draws levels, with shape (B,), and noise, with the given shape."""
        low, high = self.config.sigma
        sigma = uniform(shape[:1], low, high, generator)
        return GaussianNoiseParams(sigma, randn(shape, generator))

    def forward(self, x: Tensor, params: GaussianNoiseParams) -> Tensor:
        """Adds the noise to images of shape (B, C, H, W)."""
        return gaussian_noise(x, params.sigma, params.eps)

    @property
    def tells(self) -> bool:
        """Whether all standard deviations are one, above 0."""
        low, high = self.config.sigma
        return bool(0 < low == high)

    def log_prob(self, y: Tensor, x: Tensor, params: GaussianNoiseParams | None = None) -> Tensor:
        """Returns log-probabilities of noisy images that were clipped and rounded to 8 bits, with shape (B,).

        Arguments:
            y: Observed images, with shape (B, C, H, W).
            x: Clean images, with shape (B, C, H, W).
            params: The noise levels, where they differ; the noise itself is not used.
        """
        return normal_log_prob(y, x, self._levels(x, params)).flatten(1).sum(dim=1)

    def log_density(
        self, y: Tensor, x: Tensor, params: GaussianNoiseParams | None = None
    ) -> Tensor:
        """Returns log-densities of noisy images that are neither clipped nor rounded, otherwise as :meth:`log_prob`."""
        sigma = self._levels(x, params)
        z = (y - x) / sigma
        terms = -z.square() / 2 - (sigma * math.sqrt(2 * math.pi)).log()
        return terms.flatten(1).sum(dim=1)

    def _levels(self, x: Tensor, params: GaussianNoiseParams | None) -> Tensor:
        """Returns standard deviations with shape (B, 1, 1, 1)."""
        if params is not None:
            return params.sigma.to(x).view(-1, 1, 1, 1)
        if not self.tells:
            raise ValueError(
                f"sigma={self.config.sigma} is not one level above 0: give the params, or a known level (sigma, sigma)"
            )
        return torch.full((1, 1, 1, 1), self.config.sigma[0], dtype=x.dtype, device=x.device)


@dataclass(frozen=True)
class PoissonNoiseParams(Params):
    """A gain for each sample and the uniform numbers from which photons are counted.

    Attributes:
        gain: The expected photon count of white, with shape (B,).
        u: Uniform numbers, with shape (B, C, H, W).
    """

    gain: Tensor
    u: Tensor


class PoissonNoise(Degradation[PoissonNoiseParams]):
    r"""Counts photons: :math:`y = \mathrm{Poisson}(g x) / g`, by inverting the distribution
    function.

    Inversion makes the result a function of the image and of the drawn uniform numbers alone.

    Arguments:
        gain: The range of the expected photon count g of white.
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        gain: tuple[float, float] = (30.0, 300.0)

        def build(self) -> PoissonNoise:
            """Makes the degradation."""
            return PoissonNoise(self.gain)

    def __init__(self, gain: tuple[float, float]) -> None:
        super().__init__()
        self.config = PoissonNoise.Config(_checked(gain))

    def sample(self, shape: Shape, *, generator: Randomness) -> PoissonNoiseParams:
        """Draws gains, with shape (B,), and uniform numbers, with the given shape."""
        return _photons(self.config.gain, shape, generator)

    def forward(self, x: Tensor, params: PoissonNoiseParams) -> Tensor:
        """Counts photons of images of shape (B, C, H, W)."""
        gain = params.gain.view(-1, 1, 1, 1)
        return poisson_quantile(params.u, gain * x.clamp(min=0)).to(x.dtype) / gain


class DifferentiablePoissonNoise(Differentiable[PoissonNoiseParams]):
    r"""Counts photons approximately: :math:`y = x + \sqrt{x / g} \, \epsilon`, clipped to [0, 1].

    The normal number :math:`\epsilon` is the quantile of the uniform one from which :class:`PoissonNoise` counts; both
    take the same params. Gradients pass the clipping as if there were none.

    Arguments:
        gain: The range of the expected photon count g of white.
        signal_gradient: Whether the gradient also flows through the square root.
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        gain: tuple[float, float] = (30.0, 300.0)
        signal_gradient: bool = False

        def build(self) -> DifferentiablePoissonNoise:
            """Makes the degradation."""
            return DifferentiablePoissonNoise(self.gain, signal_gradient=self.signal_gradient)

    def __init__(self, gain: tuple[float, float], *, signal_gradient: bool = False) -> None:
        super().__init__()
        self.config = DifferentiablePoissonNoise.Config(_checked(gain), signal_gradient)

    def sample(self, shape: Shape, *, generator: Randomness) -> PoissonNoiseParams:
        """Draws gains, with shape (B,), and uniform numbers, with the given shape."""
        return _photons(self.config.gain, shape, generator)

    def forward(self, x: Tensor, params: PoissonNoiseParams) -> Tensor:
        """Adds the noise to images of shape (B, C, H, W)."""
        return normal_counts(x, params.gain, params.u, signal_gradient=self.config.signal_gradient)


def _checked(gain: tuple[float, float]) -> tuple[float, float]:
    if not 0 < gain[0] <= gain[1]:
        raise ValueError(f"gain={gain} is no range; give (lowest, highest), both above 0")
    return gain


def _photons(gain: tuple[float, float], shape: Shape, generator: Randomness) -> PoissonNoiseParams:
    drawn = uniform(shape[:1], *gain, generator)
    return PoissonNoiseParams(drawn, rand(shape, generator))
