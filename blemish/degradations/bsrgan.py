r"""The practical degradation model of BSRGAN: blur, resizing, noise and JPEG in a random order.

With the scale s, every image goes through these stages; the second resize comes after the first, and otherwise each
order is equally likely:

===============  ====================================================================================================
blur, twice      a Gaussian with a support of 7, 9, ..., 25 pixels: isotropic with :math:`\sigma \sim U(0, 2 + 0.2 s)`,
                 or (1/2) with two variances from :math:`U(0, 4 + s)` and an angle from :math:`U(0, \pi)`
first resize     to :math:`1 / U(1, 2 s)` of its size (3/4), or a Gaussian of 25 pixels,
                 :math:`\sigma \sim U(0.1, 0.6 s)`, shifted by :math:`(s - 1) / 2`, and every s-th pixel
second resize    to the final size
Gaussian noise   of the level 2, 3, ..., 25 in 255ths, in each channel for itself (0.4) or the same in all (0.4); or
                 (0.2) with the covariance :math:`|U^\top D U|` times the square of 25/255, where D is diagonal from
                 :math:`U(0, 1)` and the columns of U are an orthonormal basis
JPEG             (0.9) of the quality 30, 31, ..., 95
===============  ====================================================================================================

Each resize, unless said otherwise, is bilinear, bicubic or by area, with equal probabilities. At scale 4, a quarter of
the images is first halved, by one of these ways (1/2) or by antialiased bicubic reduction (1/2), and goes on with
s = 2. A last JPEG of the quality 30, 31, ..., 95 ends it. The numbers are those of the authors' code
(``degradation_bsrgan`` in github.com/cszn/BSRGAN, utils/utils_blindsr.py), which agree with Section 3 of the paper.

The models were trained for the scales 2 and 4. The formulas hold for any s, and scales 1 and 3 are these formulas:
with s = 1 an image shrinks by up to two and grows back to its size.

What departs from that code:

* the camera's pipeline (0.25) is left out: it needs a model of a camera that is no part of the numbers;
* JPEG is this package's codec, which runs on any device, about 46 dB from libjpeg's; of grey images it has no chroma;
* the shifted Gaussian is computed at its shifted pixels, where the code interpolates it bilinearly;
* resizing is torch's and not OpenCV's; they agree up to rounding. MATLAB's bicubic halving mirrors the border, ours
  leaves out what lies beyond it;
* no resized image is smaller than one pixel; grey images have grey noise, with the variance of one channel.

References:
    | Designing a Practical Degradation Model for Deep Blind Image Super-Resolution (Zhang et al., 2021)
    | https://arxiv.org/abs/2103.14006
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..functional.kernels import anisotropic_gaussian
from ..functional.random import Randomness, rand, randn, weighted, whole
from ..functional.resample import bicubic
from ..functional.stages import RESIZES, file_jpeg, mirrored_blur, mixed_noise, resize, to_8_bits
from ..functional.wide_kernels import cut, shifted_gaussian
from ..types import Params, Shape
from .one_by_one import OneByOne

__all__ = ["BSRGAN", "BSRGANParams", "GaussianBlurParams", "ShrinkParams"]

STAGES = ("blur", "blur again", "first resize", "second resize", "noise", "jpeg")
"""The stages, in the order in which their turns are stored."""

SUPPORT = 25
HIGHEST_NOISE = 25 / 255


@dataclass(frozen=True)
class GaussianBlurParams(Params):
    """Gaussian kernels and their width.

    Attributes:
        kernel: The kernels, with shape (B, 1, K, K).
        sigma: The geometric mean of both standard deviations in pixels, with shape (B,).
    """

    kernel: Tensor
    sigma: Tensor


@dataclass(frozen=True)
class ShrinkParams(Params):
    """The first resize.

    Attributes:
        picked: Whether every s-th pixel of a blurred image is taken, truth values with shape (B,).
        ratio: By how much the image shrinks otherwise, in [1, 2 s], with shape (B,).
        mode: By which of ``RESIZES``, with shape (B,).
        kernel: The shifted kernels of the blur, with shape (B, 1, K, K).
    """

    picked: Tensor
    ratio: Tensor
    mode: Tensor
    kernel: Tensor


@dataclass(frozen=True)
class BSRGANParams(Params):
    """Everything that befalls a batch of images.

    Attributes:
        halved: Whether the image is halved first, truth values with shape (B,).
        halving: By which of ``RESIZES``, or 3 for antialiased bicubic, with shape (B,).
        turn: The turn of each of ``STAGES``, the whole numbers from 0 to 5, with shape (B, 6).
        blurs: Both blurs.
        shrink: The first resize.
        mode: By which of ``RESIZES`` the second resize is done, with shape (B,).
        mixing: The matrices that turn white noise into the noise, on the [0, 1] scale, with shape (B, C, C).
        eps: Standard normal numbers, with shape (B, C, H, W); a smaller image takes their first rows and columns.
        compressed: Whether there is a JPEG before the last one, truth values with shape (B,).
        first_quality: The quality of that JPEG in [30, 95], with shape (B,).
        quality: The quality of the last JPEG in [30, 95], with shape (B,).
    """

    halved: Tensor
    halving: Tensor
    turn: Tensor
    blurs: tuple[GaussianBlurParams, GaussianBlurParams]
    shrink: ShrinkParams
    mode: Tensor
    mixing: Tensor
    eps: Tensor
    compressed: Tensor
    first_quality: Tensor
    quality: Tensor

    def summary(self) -> dict[str, Tensor]:
        """Returns, each with shape (B,): the width of the first blur in pixels of the image that it meets, the root
        mean square of the noise in 255ths, the quality of the JPEG before the last (NaN where there is none) and of
        the last one.
        """
        first, second = self.blurs
        earlier = self.turn[:, 0] < self.turn[:, 1]
        variance = self.mixing.square().sum(2).mean(1)
        return {
            "blur_sigma": torch.where(earlier, first.sigma, second.sigma),
            "noise_level": 255 * variance.sqrt(),
            "first_quality": torch.where(self.compressed, self.first_quality, torch.nan),
            "quality": self.quality,
        }


class BSRGAN(OneByOne[BSRGANParams]):
    """Damages images as BSRGAN's training data are damaged; the module's docstring says how.

    The result has 8 bits, as the last JPEG is a file.

    Arguments:
        scale: By how much the images shrink: 1, 2, 3 or 4. The published models have 4 and 2.
    """

    title = "BSRGAN"

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        scale: int = 4

        def build(self) -> BSRGAN:
            """Makes the degradation."""
            return BSRGAN(self.scale)

    def sample(self, shape: Shape, *, generator: Randomness) -> BSRGANParams:
        """Draws what befalls images of shape (B, C, H, W)."""
        n, g = shape[:1], generator
        halved = rand(n, g) < (0.25 if self.scale == 4 else 0)
        # s in the module's docstring.
        s = torch.where(halved, 2.0, float(self.scale)).float()
        return BSRGANParams(
            halved=halved,
            halving=_halving(n, g),
            turn=_turns(n, g),
            blurs=(_blur(s, g), _blur(s, g)),
            shrink=_shrink(s, g),
            mode=whole(n, 0, len(RESIZES) - 1, g),
            mixing=_mixing(n, shape[1], g),
            eps=randn(shape, g),
            compressed=rand(n, g) < 0.9,
            first_quality=whole(n, 30, 95, g),
            quality=whole(n, 30, 95, g),
        )

    def _one(self, x: Tensor, params: BSRGANParams) -> Tensor:
        size = (x.shape[-2] // self.scale, x.shape[-1] // self.scale)
        s = self.scale
        if params.halved:
            x, s = _halve(x, int(params.halving)), 2
        stages: tuple[Callable[[Tensor], Tensor], ...] = (
            partial(mirrored_blur, kernel=params.blurs[0].kernel),
            partial(mirrored_blur, kernel=params.blurs[1].kernel),
            partial(_shrunk, params=params.shrink, s=s),
            lambda image: resize(image, size, int(params.mode)).clamp(0, 1),
            partial(mixed_noise, mixing=params.mixing, eps=params.eps),
            partial(_compressed, params=params),
        )
        for place in params.turn[0].argsort().tolist():
            x = stages[place](x)
        return to_8_bits(file_jpeg(to_8_bits(x), params.quality))


def _halve(x: Tensor, mode: int) -> Tensor:
    size = (x.shape[-2] // 2, x.shape[-1] // 2)
    return (bicubic(x, size) if mode == len(RESIZES) else resize(x, size, mode)).clamp(0, 1)


def _shrunk(x: Tensor, params: ShrinkParams, s: int) -> Tensor:
    if params.picked:
        return mirrored_blur(x, params.kernel)[..., ::s, ::s].clamp(0, 1)
    h, w = (max(int(side / float(params.ratio)), 1) for side in x.shape[-2:])
    return resize(x, (h, w), int(params.mode)).clamp(0, 1)


def _compressed(x: Tensor, params: BSRGANParams) -> Tensor:
    if not params.compressed:
        return x
    return to_8_bits(file_jpeg(to_8_bits(x), params.first_quality))


def _halving(n: tuple[int], generator: Randomness) -> Tensor:
    mode = whole(n, 0, len(RESIZES) - 1, generator)
    return torch.where(rand(n, generator) < 0.5, mode, float(len(RESIZES)))


def _turns(n: tuple[int], generator: Randomness) -> Tensor:
    """Draws an order of the stages, as turns with shape (B, 6)."""
    turn = rand((*n, len(STAGES)), generator).argsort(dim=1).float()
    # Whoever comes first of both resizes is the first one.
    resizes = turn[:, 2:4].sort(dim=1).values
    return torch.cat([turn[:, :2], resizes, turn[:, 4:]], dim=1)


def _blur(s: Tensor, generator: Randomness) -> GaussianBlurParams:
    """Draws Gaussian blurs for images with the scales s of shape (B,)."""
    u = rand((*s.shape, 5), generator)
    side = whole(s.shape, 3, 12, generator) * 2 + 1
    # In float64 on the CPU, where sums do not depend on the batch up to the bits that are kept.
    wide, scale = u.cpu().double(), s.cpu().double()
    isotropic = wide[:, 0] < 0.5
    axes = ((4 + scale)[:, None] * wide[:, 1:3]).sqrt()
    sigma = torch.where(isotropic[:, None], ((2 + 0.2 * scale) * wide[:, 3])[:, None], axes)
    kernel = anisotropic_gaussian(sigma[:, 0], sigma[:, 1], math.pi * wide[:, 4], SUPPORT)
    kernel = cut(kernel, side.cpu().double())
    return GaussianBlurParams(kernel.to(s), sigma.prod(1).sqrt().to(s))


def _shrink(s: Tensor, generator: Randomness) -> ShrinkParams:
    """Draws the first resize of images with the scales s of shape (B,)."""
    u = rand((*s.shape, 3), generator)
    wide, scale = u.cpu().double(), s.cpu().double()
    sigma = 0.1 + (0.6 * scale - 0.1) * wide[:, 2]
    # To the left and up, so that pixel j of what is picked shows the middle of the pixels from s j to s (j + 1) - 1.
    kernel = shifted_gaussian(sigma, -(scale - 1) / 2, SUPPORT)
    return ShrinkParams(
        picked=u[:, 0] >= 0.75,
        ratio=(1 + (2 * s - 1) * u[:, 1]).clamp(max=2 * s),
        mode=whole(s.shape, 0, len(RESIZES) - 1, generator),
        kernel=kernel.to(s),
    )


def _mixing(n: tuple[int], channels: int, generator: Randomness) -> Tensor:
    """Draws the matrices that turn white noise into one of three kinds, with shape (B, C, C)."""
    kind = weighted(n, (0.4, 0.4, 0.2), generator)[:, None, None].cpu()
    level = whole(n, 2, 25, generator)[:, None, None].cpu() / 255
    diagonal, basis = rand((*n, 3), generator), rand((*n, 3, 3), generator)
    own, same = torch.eye(channels), torch.zeros(channels, channels)
    same[:, 0] = 1
    related = _related(diagonal.cpu().double(), basis.cpu().double(), channels)
    # The published code takes the highest level here, and not the drawn one.
    mixing = torch.where(
        kind < 2, level * torch.where(kind < 1, own, same), HIGHEST_NOISE * related
    )
    return mixing.float().to(diagonal.device)


def _related(diagonal: Tensor, basis: Tensor, channels: int) -> Tensor:
    """Returns the symmetric roots of |U^T D U|, or of its first channel's part, with shape (B, C, C)."""
    u = torch.linalg.svd(basis).U
    covariance = (u.mT @ (diagonal[:, :, None] * u)).abs()[:, :channels, :channels]
    # With absolute values it need not be positive; numpy, from which the code draws, then takes those of the eigenvalues.
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.abs().sqrt()[:, None, :]) @ vectors.mT
    return root
