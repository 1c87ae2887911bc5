r"""Laws: probability distributions over the parameters of degradations.

A law is a frozen dataclass of a few numbers; :meth:`KernelLaw.kernels` and its like draw from it.
The word prior is kept for images.

References:
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), Section 7 and C.1
    | https://arxiv.org/abs/2003.07849
    | DeblurGAN (Kupyn et al., 2018), for the motion trajectories
    | https://arxiv.org/abs/1711.07064
    | Unprocessing Images for Learned Raw Denoising (Brooks et al., 2019), for the noise levels
    | https://arxiv.org/abs/1811.11127
"""

from __future__ import annotations

import abc
import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional.kernels import anisotropic_gaussian, disk, gaussian
from ..functional.motion import motion_draws, motion_kernel
from ..functional.noise import read_shot_levels
from ..functional.random import Randomness, device_of, generator_for, rand, randn, uniform
from ..functional.shake import shake_kernel, shake_size
from ..functional.wide_kernels import sinc

__all__ = [
    "KINDS",
    "AnisotropicGaussianLaw",
    "BankLaw",
    "DiskLaw",
    "GaussianLaw",
    "KernelLaw",
    "MixtureLaw",
    "MotionLaw",
    "QualityLaw",
    "ReadShotLaw",
    "ShakeLaw",
    "SincLaw",
]


def _check_range(name: str, bounds: tuple[float, float], low: float, high: float) -> None:
    if len(bounds) != 2 or not low <= bounds[0] <= bounds[1] <= high:
        raise ValueError(
            f"{name}={bounds} is no range; give (lowest, highest) within [{low:g}, {high:g}]"
        )


def _check_size(size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size={size} has no middle pixel; give an odd side")


class KernelLaw(abc.ABC):
    """A distribution of blur kernels.

    Attributes:
        size: The odd side of the kernels.
    """

    size: int

    @abc.abstractmethod
    def kernels(self, n: int, generator: Randomness) -> Tensor:
        """Draws kernels that sum to 1, with shape (n, 1, size, size)."""


@dataclass(frozen=True)
class DiskLaw(KernelLaw):
    """Out-of-focus disks with radii from U[low, high], in pixels."""

    radius: tuple[float, float] = (0.5, 2.0)
    size: int = 9

    def __post_init__(self) -> None:
        """Checks the range of radii and the side."""
        _check_size(self.size)
        _check_range("radius", self.radius, 0.0, math.inf)

    def kernels(self, n: int, generator: Randomness) -> Tensor:
        """Draws kernels that sum to 1, with shape (n, 1, size, size)."""
        return disk(uniform((n,), *self.radius, generator), self.size)


@dataclass(frozen=True)
class MotionLaw(KernelLaw):
    """Camera shake: random trajectories of a length in pixels, cut by an exposure time.

    Attributes:
        length: The length of the whole trajectory in pixels.
        exposures: The fractions of the trajectory that are seen, each equally likely.
        size: The odd side of the kernels.
    """

    length: float = 5.0
    exposures: tuple[float, ...] = (0.1, 0.5, 1.0)
    size: int = 9

    def __post_init__(self) -> None:
        """Checks the length, the exposures and the side."""
        _check_size(self.size)
        if not 0 <= self.length < math.inf:
            raise ValueError(f"length={self.length} is no length in pixels; give 0 or more")
        if not self.exposures or not all(0 < t <= 1 for t in self.exposures):
            raise ValueError(f"exposures={self.exposures}; give one or more fractions in (0, 1]")

    def kernels(self, n: int, generator: Randomness) -> Tensor:
        """Draws kernels that sum to 1, with shape (n, 1, size, size)."""
        draws = motion_draws(n, generator)
        choice = (rand((n,), generator) * len(self.exposures)).long()
        exposure = torch.tensor(self.exposures, device=choice.device)[choice]
        return motion_kernel(draws, length=self.length, exposure=exposure, size=self.size)


@dataclass(frozen=True)
class ShakeLaw(KernelLaw):
    """A short shake: arcs with lengths from U[low, high] in pixels and directions from U[0, pi).

    An arc that runs the other way, and bends the other way, is the same: half of all directions are all of them.

    Attributes:
        length: The range of the lengths in pixels, at most 29.
        bend: The direction turns along an arc by U[-bend, bend], in radians; 0 draws straight lines.
    """

    length: tuple[float, float] = (5.0, 25.0)
    bend: float = 1.0

    def __post_init__(self) -> None:
        """Checks the range of lengths and the bend."""
        _check_range("length", self.length, 0.0, 29.0)
        if not 0 <= self.bend <= 2 * math.pi:
            raise ValueError(f"bend={self.bend} is no angle from 0 to 2 pi, in radians")

    @property
    def size(self) -> int:  # type: ignore[override]
        """The odd side of the kernels, which hold every arc."""
        return shake_size(self.length[1])

    def arcs(self, n: int, generator: Randomness) -> tuple[Tensor, Tensor, Tensor]:
        """Draws the length, the direction and the bend of arcs, each with shape (n,)."""
        length = uniform((n,), *self.length, generator)
        angle = uniform((n,), 0.0, math.pi, generator)
        return length, angle, uniform((n,), -self.bend, self.bend, generator)

    def kernels(self, n: int, generator: Randomness) -> Tensor:
        """Draws kernels that sum to 1, with shape (n, 1, size, size)."""
        return shake_kernel(*self.arcs(n, generator), self.size)


@dataclass(frozen=True)
class GaussianLaw(KernelLaw):
    """Isotropic Gaussians with standard deviations from U[low, high], in pixels."""

    sigma: tuple[float, float] = (0.5, 2.0)
    size: int = 13

    def __post_init__(self) -> None:
        """Checks the range of standard deviations and the side."""
        _check_size(self.size)
        _check_range("sigma", self.sigma, 0.0, math.inf)

    def kernels(self, n: int, generator: Randomness) -> Tensor:
        """Draws kernels that sum to 1, with shape (n, 1, size, size)."""
        return gaussian(uniform((n,), *self.sigma, generator), self.size)


@dataclass(frozen=True)
class AnisotropicGaussianLaw(KernelLaw):
    """Gaussians with two standard deviations from U[low, high] and an angle from U[0, pi)."""

    sigma: tuple[float, float] = (0.5, 3.0)
    size: int = 19

    def __post_init__(self) -> None:
        """Checks the range of standard deviations and the side."""
        _check_size(self.size)
        _check_range("sigma", self.sigma, 0.0, math.inf)

    def kernels(self, n: int, generator: Randomness) -> Tensor:
        """Draws kernels that sum to 1, with shape (n, 1, size, size)."""
        u = rand((n, 3), generator)
        low, high = self.sigma
        sigma = low + (high - low) * u[:, :2]
        return anisotropic_gaussian(sigma[:, 0], sigma[:, 1], math.pi * u[:, 2], self.size)


@dataclass(frozen=True)
class SincLaw(KernelLaw):
    """Circular low-pass filters, which ring at edges, with cutoffs from U[low, high), in radians for each pixel."""

    cutoff: tuple[float, float] = (math.pi / 3, math.pi)
    size: int = 21

    def __post_init__(self) -> None:
        """Checks the range of cutoffs and the side."""
        _check_size(self.size)
        _check_range("cutoff", self.cutoff, 0.0, math.pi)

    def kernels(self, n: int, generator: Randomness) -> Tensor:
        """Draws kernels that sum to 1, some values negative, with shape (n, 1, size, size)."""
        return sinc(uniform((n,), *self.cutoff, generator), self.size)


@dataclass(frozen=True)
class MixtureLaw(KernelLaw):
    """One of several laws for each sample, each equally likely."""

    laws: tuple[KernelLaw, ...] = (DiskLaw(), MotionLaw())

    def __post_init__(self) -> None:
        """Checks that there are laws, and that their kernels have one size."""
        if not self.laws:
            raise ValueError("laws=() leaves nothing to draw from; give at least one law")
        sizes = {law.size for law in self.laws}
        if len(sizes) != 1:
            raise ValueError(
                f"the laws of a mixture draw kernels of sizes {sorted(sizes)}; use one"
            )

    @property
    def size(self) -> int:  # type: ignore[override]
        """The odd side of the kernels."""
        return self.laws[0].size

    def kernels(self, n: int, generator: Randomness) -> Tensor:
        """Draws kernels that sum to 1, with shape (n, 1, size, size)."""
        choice = (rand((n,), generator) * len(self.laws)).long()
        # All laws are drawn for all samples, so that a sample does not depend on its batch.
        drawn = torch.stack([law.kernels(n, generator) for law in self.laws])
        return drawn[choice, torch.arange(n, device=choice.device)]


@dataclass(frozen=True)
class BankLaw(KernelLaw):
    """Draws with replacement from kernels that were drawn once, for laws that are slow.

    Attributes:
        law: The law of the bank.
        count: The number of kernels in the bank.
        seed: The seed of the bank.
    """

    law: KernelLaw = MotionLaw()
    count: int = 16384
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the number of kernels."""
        if self.count < 1:
            raise ValueError(f"count={self.count}; a bank needs at least one kernel")

    @property
    def size(self) -> int:  # type: ignore[override]
        """The odd side of the kernels."""
        return self.law.size

    def kernels(self, n: int, generator: Randomness) -> Tensor:
        """Draws kernels that sum to 1, with shape (n, 1, size, size)."""
        bank = _bank(self, device_of(generator))
        return bank[(rand((n,), generator) * self.count).long()]


@functools.lru_cache(maxsize=8)
def _bank(law: BankLaw, device: torch.device) -> Tensor:
    generator = generator_for("bank", law.seed)
    return law.law.kernels(law.count, generator).to(device)


@dataclass(frozen=True)
class ReadShotLaw:
    """Levels of read and shot noise as cameras have them, one pair for each image.

    log lambda_shot ~ U(log 1e-4, log 0.012) and log lambda_read ~ N(2.18 log lambda_shot + 1.2,
    0.26^2) are variances on [0, 1] (Brooks et al., 2019).
    """

    def levels(self, n: int, generator: Randomness) -> tuple[Tensor, Tensor]:
        """Draws the standard deviations (sigma_read, sigma_shot), each with shape (n,)."""
        return read_shot_levels(rand((n,), generator), randn((n,), generator))


@dataclass(frozen=True)
class QualityLaw:
    """JPEG qualities from a closed range.

    Attributes:
        low: The lowest quality, at least 1.
        high: The highest quality, at most 100.
        integer: Whether only integers are drawn.
    """

    low: float = 60
    high: float = 100
    integer: bool = True

    def __post_init__(self) -> None:
        """Checks the range of qualities."""
        _check_range("quality", (self.low, self.high), 1, 100)
        if self.integer and (self.low % 1 or self.high % 1):
            raise ValueError(
                f"quality={self.low, self.high} is no range of integers; give whole numbers, or "
                "integer=False"
            )

    def qualities(self, n: int, generator: Randomness) -> Tensor:
        """Draws qualities, with shape (n,)."""
        if self.integer:
            steps = rand((n,), generator) * (self.high - self.low + 1)
            return (self.low + steps.floor()).clamp(max=self.high)
        return uniform((n,), self.low, self.high, generator)


KINDS: dict[str, type] = {
    law.__name__: law
    for law in (
        AnisotropicGaussianLaw,
        BankLaw,
        DiskLaw,
        GaussianLaw,
        MixtureLaw,
        MotionLaw,
        QualityLaw,
        ReadShotLaw,
        ShakeLaw,
        SincLaw,
    )
}
