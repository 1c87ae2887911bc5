r"""The second-order degradation model of Real-ESRGAN: blur, resizing, noise and JPEG, twice.

=============  ========================================  =====================================================
stage          first round                               second round
=============  ========================================  =====================================================
blur           always                                    0.8
scales         :math:`\sigma \sim U(0.2, 3)`             :math:`\sigma \sim U(0.2, 1.5)`
resize         up 0.2, down 0.7, keep 0.1                up 0.3, down 0.4, keep 0.3
ratio          :math:`U(1, 1.5)`, :math:`U(0.15, 1)`     :math:`U(1, 1.2)`, :math:`U(0.3, 1)` of the final size
noise          Gaussian 0.5, level :math:`U(1, 30)/255`  Gaussian 0.5, level :math:`U(1, 25)/255`
               else Poisson, strength :math:`U(0.05, 3)` else Poisson, strength :math:`U(0.05, 2.5)`
JPEG           quality :math:`U(30, 95)`                 quality :math:`U(30, 95)`
=============  ========================================  =====================================================

Noise is the same in all channels with the probability 0.4. Each resize is by area, bilinear or bicubic, with equal
probabilities. The last JPEG comes (1/2) after, or before, the resize to the final size and a sinc filter (0.8) of the
cutoff :math:`U(\pi / 3, \pi)`.

Kernels have a support of 7, 9, ..., 21 pixels. A tenth are sinc filters with a cutoff from :math:`U(\pi / 3, \pi)`,
for 13 pixels and more from :math:`U(\pi / 5, \pi)`. Of the others 0.45 are isotropic Gaussians, 0.25 have two scales and
an angle from :math:`U(-\pi, \pi)`, and 0.12 and 0.03 are such generalised Gaussians, 0.12 and 0.03 such plateaus. Their
shape is from :math:`U(0.5, 1)` or :math:`U(1, 4)`, with equal probabilities; that of plateaus is 1 or from
:math:`U(1, 2)`, again with equal probabilities.

The numbers are those of options/train_realesrgan_x4plus.yml in github.com/xinntao/Real-ESRGAN, of its
realesrgan_dataset.py and realesrgan_model.py, and of degradations.py in BasicSR, on which it is built. The published
models have the scales 4 and 2, with the same numbers; 1 and 3 are the same formulas.

What departs from that code:

* the image is not sharpened first: that is a choice of the training target, not a damage;
* JPEG is this package's codec, with libjpeg's whole tables and bilinear chroma, about 46 dB from libjpeg; the code's has
  tables that vary continuously and repeats chroma;
* each image has its own order and sizes; the code has one for a batch and a pool of old pairs to make up for it;
* resizing to a ratio of the size maps the whole old image to the whole new one, where the code's first resize steps by
  the ratio itself, which shifts an image by a part of a pixel;
* Poisson counts follow from the normal numbers that Gaussian noise would use, through their probabilities;
* no resized image is smaller than one pixel; of grey images, noise and JPEG have no colour; an image is first cropped
  to a multiple of the scale.

References:
    | Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (Wang et al., 2021)
    | https://arxiv.org/abs/2107.10833
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional.kernels import delta
from ..functional.noise import gaussian_noise
from ..functional.random import Randomness, rand, randn, uniform, weighted, whole
from ..functional.stages import RESIZES, file_jpeg, mirrored_blur, resize, shot_noise, to_8_bits
from ..functional.wide_kernels import cut, generalised_gaussian, plateau, sinc
from ..types import Params, Shape
from .one_by_one import OneByOne

__all__ = ["RealESRGAN", "RealESRGANParams", "RoundParams", "SincParams"]

SUPPORT = 21


@dataclass(frozen=True)
class _Round:
    """What differs between both rounds."""

    blurred: float
    sigma: tuple[float, float]
    resized: tuple[float, float, float]
    ratio: tuple[float, float]
    level: tuple[float, float]
    strength: tuple[float, float]


FIRST = _Round(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.15, 1.5), (1.0, 30.0), (0.05, 3.0))
SECOND = _Round(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1.0, 25.0), (0.05, 2.5))


@dataclass(frozen=True)
class RoundParams(Params):
    """One round of blur, resizing, noise and JPEG.

    Attributes:
        kernel: The kernels, with shape (B, 1, K, K).
        sigma: The geometric mean of both scales of the kernel in pixels, 0 where it is a sinc filter or does nothing,
            with shape (B,).
        ratio: The new size by the old one, or by the final one in the second round, with shape (B,).
        mode: By which of ``RESIZES``, with shape (B,).
        gaussian: Whether the noise is Gaussian and not Poisson's, truth values with shape (B,).
        grey: Whether the noise is the same in all channels, truth values with shape (B,).
        level: The standard deviation of Gaussian noise on the [0, 1] scale, with shape (B,).
        strength: The factor of Poisson noise, with shape (B,).
        eps: Standard normal numbers for either, with shape (B, C, h, w), large enough for the largest ratio; a smaller
            image takes their first rows and columns.
        quality: The quality of the JPEG in [30, 95], with shape (B,).
    """

    kernel: Tensor
    sigma: Tensor
    ratio: Tensor
    mode: Tensor
    gaussian: Tensor
    grey: Tensor
    level: Tensor
    strength: Tensor
    eps: Tensor
    quality: Tensor


@dataclass(frozen=True)
class SincParams(Params):
    """The resize to the final size and the last filter.

    Attributes:
        kernel: The kernels, with shape (B, 1, K, K).
        mode: By which of ``RESIZES``, with shape (B,).
        early: Whether both come before the last JPEG and not after it, truth values with shape (B,).
    """

    kernel: Tensor
    mode: Tensor
    early: Tensor


@dataclass(frozen=True)
class RealESRGANParams(Params):
    """Everything that befalls a batch of images.

    Attributes:
        first: The first round.
        second: The second round.
        last: The resize to the final size and the last filter.
    """

    first: RoundParams
    second: RoundParams
    last: SincParams

    def summary(self) -> dict[str, Tensor]:
        """Returns, each with shape (B,): the scale of the first blur in pixels (NaN where it is a sinc filter), the
        level of the first noise in 255ths (NaN where it is Poisson's), the strength of the first Poisson noise (NaN
        where there is none), and the qualities of the first and of the last JPEG.
        """
        first = self.first
        return {
            "blur_sigma": torch.where(first.sigma > 0, first.sigma, torch.nan),
            "noise_level": torch.where(first.gaussian, 255 * first.level, torch.nan),
            "shot_strength": torch.where(first.gaussian, torch.nan, first.strength),
            "first_quality": first.quality,
            "quality": self.second.quality,
        }


class RealESRGAN(OneByOne[RealESRGANParams]):
    """Damages images as Real-ESRGAN's training data are damaged; the module's docstring says how.

    The result is rounded to 8 bits.

    Arguments:
        scale: By how much the images shrink: 1, 2, 3 or 4. The published models have 4 and 2.
    """

    title = "Real-ESRGAN"

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        scale: int = 4

        def build(self) -> RealESRGAN:
            """Makes the degradation."""
            return RealESRGAN(self.scale)

    def sample(self, shape: Shape, *, generator: Randomness) -> RealESRGANParams:
        """Draws what befalls images of shape (B, C, H, W); both fields of noise together are up to four times as large."""
        final = (*shape[:2], shape[2] // self.scale, shape[3] // self.scale)
        return RealESRGANParams(
            first=_round(FIRST, shape, generator),
            second=_round(SECOND, final, generator),
            last=_last(shape[0], generator),
        )

    def _one(self, x: Tensor, params: RealESRGANParams) -> Tensor:
        first, second, last = params.first, params.second, params.last
        size = (x.shape[-2] // self.scale, x.shape[-1] // self.scale)
        x = _noisy(_blurred_and_resized(x, first, (x.shape[-2], x.shape[-1])), first)
        x = file_jpeg(x, first.quality)
        x = _noisy(_blurred_and_resized(x, second, size), second)
        if last.early:
            return to_8_bits(file_jpeg(_finished(x, last, size), second.quality))
        return to_8_bits(_finished(file_jpeg(x, second.quality), last, size))


def _blurred_and_resized(x: Tensor, params: RoundParams, size: tuple[int, int]) -> Tensor:
    ratio = float(params.ratio)
    new = (max(int(size[0] * ratio), 1), max(int(size[1] * ratio), 1))
    return resize(mirrored_blur(x, params.kernel), new, int(params.mode), pooled=True)


def _noisy(x: Tensor, params: RoundParams) -> Tensor:
    if not params.gaussian:
        return shot_noise(x, params.strength, params.eps, grey=bool(params.grey))
    channels = 1 if params.grey else x.shape[1]
    eps = params.eps[:, :channels, : x.shape[-2], : x.shape[-1]]
    return gaussian_noise(x, params.level, eps).clamp(0, 1)


def _finished(x: Tensor, params: SincParams, size: tuple[int, int]) -> Tensor:
    return mirrored_blur(resize(x, size, int(params.mode), pooled=True), params.kernel)


def _round(law: _Round, shape: Shape, generator: Randomness) -> RoundParams:
    """Draws a round for images whose size at the ratio 1 is given by a shape (B, C, H, W)."""
    n, g = shape[:1], generator
    kernel, sigma = _kernels(law, n, g)
    room = (*shape[:2], int(shape[2] * law.ratio[1]) + 1, int(shape[3] * law.ratio[1]) + 1)
    return RoundParams(
        kernel=kernel,
        sigma=sigma,
        ratio=_ratios(law, n, g),
        mode=whole(n, 0, len(RESIZES) - 1, g),
        gaussian=rand(n, g) < 0.5,
        grey=rand(n, g) < 0.4,
        level=uniform(n, *law.level, g) / 255,
        strength=uniform(n, *law.strength, g),
        eps=randn(room, g),
        quality=uniform(n, 30, 95, g),
    )


def _ratios(law: _Round, n: tuple[int], generator: Randomness) -> Tensor:
    kind, u = weighted(n, law.resized, generator), rand(n, generator)
    up, down = 1 + (law.ratio[1] - 1) * u, law.ratio[0] + (1 - law.ratio[0]) * u
    return torch.where(kind == 0, up, torch.where(kind == 1, down, 1.0))


def _last(batch: int, generator: Randomness) -> SincParams:
    n, g = (batch,), generator
    side, cutoff = whole(n, 3, 10, g) * 2 + 1, uniform(n, math.pi / 3, math.pi, g)
    filtered = rand(n, g) < 0.8
    # In float64 on the CPU, where sums do not depend on the batch up to the bits that are kept.
    kernel = cut(sinc(cutoff.cpu().double(), SUPPORT), side.cpu().double()).to(cutoff)
    nothing = delta(SUPPORT).to(cutoff)
    return SincParams(
        kernel=torch.where(filtered.view(-1, 1, 1, 1), kernel, nothing),
        mode=whole(n, 0, len(RESIZES) - 1, g),
        early=rand(n, g) < 0.5,
    )


def _kernels(law: _Round, n: tuple[int], generator: Randomness) -> tuple[Tensor, Tensor]:
    """Draws kernels, with shape (B, 1, K, K), and their scales, with shape (B,)."""
    g = generator
    side, family = whole(n, 3, 10, g) * 2 + 1, weighted(n, (0.45, 0.25, 0.12, 0.03, 0.12, 0.03), g)
    ringing, blurred = rand(n, g) < 0.1, rand(n, g) < law.blurred
    u, scales = rand((*n, 4), g), uniform((*n, 2), *law.sigma, g)
    # In float64 on the CPU, where sums do not depend on the batch up to the bits that are kept.
    wide, side, family, sigma = (t.cpu().double() for t in (u, side, family, scales))
    # Every second family has two scales.
    sigma = torch.where((family % 2 == 0)[:, None], sigma[:, :1], sigma)
    smooth = _smooth(family, sigma, math.pi * (2 * wide[:, 0] - 1), wide[:, 1:3])
    lowest = torch.where(side < 13, math.pi / 3, math.pi / 5)
    ring = sinc(lowest + (math.pi - lowest) * wide[:, 3], SUPPORT)
    rings = ringing.cpu()
    kernel = cut(torch.where(rings.view(-1, 1, 1, 1), ring, smooth), side).to(u)
    kernel = torch.where(blurred.view(-1, 1, 1, 1), kernel, delta(SUPPORT).to(u))
    return kernel, torch.where(blurred & ~ringing, sigma.prod(1).sqrt().to(u), 0.0)


def _smooth(family: Tensor, sigma: Tensor, angle: Tensor, u: Tensor) -> Tensor:
    """Returns kernels of the families 0 and 1 Gaussian, 2 and 3 generalised Gaussian, 4 and 5 plateau.

    Arguments:
        family: The family, with shape (B,).
        sigma: The scales, with shape (B, 2).
        angle: The angles in radians, with shape (B,).
        u: Numbers from U[0, 1), of which the shapes are made, with shape (B, 2).
    """
    lower = u[:, 0] < 0.5
    shape = torch.where(lower, 0.5 + 0.5 * u[:, 1], 1 + 3 * u[:, 1])
    # The published code draws the lower half of the plateaus' shapes from U(1, 1).
    flat_shape = torch.where(lower, 1.0, 1 + u[:, 1])
    shape = torch.where(family < 2, 1.0, shape)
    round_top = generalised_gaussian(sigma[:, 0], sigma[:, 1], angle, shape, SUPPORT)
    flat_top = plateau(sigma[:, 0], sigma[:, 1], angle, flat_shape, SUPPORT)
    return torch.where((family < 4).view(-1, 1, 1, 1), round_top, flat_top)
