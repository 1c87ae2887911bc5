r"""How noisy photographs are, without clean ones beside them.

Noise fills every direction of the space of patches alike, and photographs do not. Let the patches of
d x d pixels (in colour d x d x 3, all channels together) have the covariance eigenvalues
:math:`\lambda_1 \le \dots \le \lambda_n`. Those of directions without any signal scatter about
:math:`\sigma^2`, so that their mean is their median, while signal is an outlier above them. The
estimate of Chen et al. (2015) is the mean over the largest k that passes,

.. math:: \sigma^2 = \frac1k \sum_{i \le k} \lambda_i, \qquad
    k = \max \{ k : \mathrm{mean}(\lambda_1 .. \lambda_k) \le \mathrm{median}(\lambda_1 .. \lambda_k) \}.

A single channel has too few such directions: the highest frequencies of sharp textures would pass for
noise. There the weakest patches decide (after Liu et al., 2013): the energy
:math:`e = \frac1k \sum_{i \le k} \langle v_i, p \rangle^2` of a patch in its lowest k directions is
:math:`\sigma^2 \chi^2_k / k` where it has no texture, and a low quantile of e is compared with the same
quantile of that law.

Noise that depends on the light (Foi et al., 2008) has :math:`\sigma^2(x) = \sigma_{read}^2 + \sigma_{shot}^2 x`.
The energies are sorted by the patches' intensity and cut into bins; a quantile of each bin gives
:math:`\sigma^2` at its intensity, and the line is fitted with weights :math:`\sigma^{-4}` and no
negative part.

*What it measures.* White noise, independent in each pixel and channel; rounding to 8 bits is noise of 0.0011. On 24 undamaged
photographs the middle is 0.003 in colour and 0.006 in grey, on CIFAR-10 0.003 and 0.004 (a tenth of the grey ones: above
0.013); noise of 0.01, 0.02, 0.05 and 0.1 is found to 5 % in colour, and in grey 0.003 to 0.004 too high at the lower end.
Coloured pictures without any correlation of their channels are measured like grey ones at best.

Noise that blur or JPEG has passed over is no longer white. Of noise of 0.05 a Gaussian blur of half a pixel leaves half to
be found, and one of a pixel nothing. Under JPEG the quietest direction in colour is the chroma, which has none left at
any quality (the chroma of many cameras is smooth, too); the luma, measured as a picture of one channel, still shows all of it
at quality 95, half at 75. White noise of one level in all three channels has 0.67 times that level in the luma.

References:
    | An Efficient Statistical Method for Image Noise Level Estimation (Chen et al., 2015)
    | Single-Image Noise Level Estimation for Blind Denoising (Liu et al., 2013)
    | Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-Image Raw-Data (Foi et al., 2008)
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .images import unit

__all__ = ["NoiseLaw", "noise_law", "noise_level"]

# B images, n numbers in a patch, P patches, k directions, M bins

BINS = 12
"""The number of bins of intensity."""

_SMALLEST = 16
_LARGE = 96 * 96  # Pixels above which patches are wider, as there are enough of them.
_PATCHES = 60_000  # More of an image, or of a pool, add nothing but time.
_CLIPPED = 0.25  # The share of clipped numbers above which a patch says nothing about noise.


@dataclass(frozen=True)
class NoiseLaw:
    """The noise as a function of the intensity.

    Attributes:
        level: The standard deviation over all patches, as :func:`noise_level` gives it, with shape (B,).
        read: The standard deviation at x = 0, in [0, 1], with shape (B,).
        shot: The square root of the slope of the variance, with shape (B,).
        intensity: The mean intensity of each bin, in [0, 1], with shape (B, M).
        variance: The variance of the noise in each bin, with shape (B, M).
        trusted: Which bins are free of clipping, so that the fit used them, bool, with shape (B, M).
    """

    level: Tensor
    read: Tensor
    shot: Tensor
    intensity: Tensor
    variance: Tensor
    trusted: Tensor


def noise_level(images: Tensor, *, pooled: bool = False) -> Tensor:
    """Estimates the standard deviation of white noise.

    Arguments:
        images: uint8 or in [0, 1], of at least 16x16 pixels, with shape (B, C, H, W); channels are
            estimated together.
        pooled: Whether all images are taken for parts of one that has one level. Small images are
            estimated better together.

    Returns:
        The levels on the [0, 1] scale, float32, with shape (B,), or (1,) if pooled.

    Raises:
        ValueError: If the images are too small.
    """
    return _levels(_Spectrum.of(_patches(images, pooled=pooled), images.shape[1]))


def noise_law(images: Tensor, *, pooled: bool = False) -> NoiseLaw:
    """Estimates how the noise grows with the light.

    Arguments:
        images: uint8 or in [0, 1], of at least 16x16 pixels, with shape (B, C, H, W).
        pooled: Whether all images are taken for parts of one; B is then 1. If their levels differ,
            the law is that of a typical image (a median over patches).

    Raises:
        ValueError: If the images are too small.
    """
    spectrum = _Spectrum.of(_patches(images, pooled=pooled), images.shape[1])
    energy, light = spectrum.energies()
    order = light.argsort(dim=1)
    size = light.shape[1] // BINS
    binned = (
        values.gather(1, order)[:, : BINS * size].reshape(-1, BINS, size)
        for values in (light, energy, spectrum.clipped)
    )
    x, e, clipped = binned
    intensity, variance = x.mean(dim=2), spectrum.variance(e)
    trusted = clipped.mean(dim=2) < 0.005
    # Of an image that is clipped nearly everywhere, everything is used.
    trusted = trusted | (trusted.sum(dim=1, keepdim=True) < 3)
    a, b = _line(intensity, variance, trusted)
    return NoiseLaw(_levels(spectrum), a.sqrt(), b.sqrt(), intensity, variance, trusted)


@dataclass(frozen=True)
class _Spectrum:
    """The patches of each image and the principal directions that hold the noise alone.

    Attributes:
        patches: Centred patches, with shape (B, n, P).
        mean: The mean patch, with shape (B, n, 1).
        clipped: The share of each patch that is 0 or 1, with shape (B, P).
        values: The eigenvalues, ascending, float64, with shape (B, n).
        vectors: The eigenvectors in columns, with shape (B, n, n).
        quiet: Which directions are taken for noise, with shape (B, n).
        quantile: Which quantile of the patches' energies is compared with that of pure noise.
    """

    patches: Tensor
    mean: Tensor
    clipped: Tensor
    values: Tensor
    vectors: Tensor
    quiet: Tensor
    quantile: float

    @staticmethod
    def of(patches: Tensor, channels: int) -> _Spectrum:
        """Finds the directions from patches (B, n, P)."""
        clipped = ((patches <= 0) | (patches >= 1)).float().mean(dim=1)
        weight = (clipped <= _CLIPPED).float()
        few = weight.mean(dim=1, keepdim=True) < 0.05
        weight = torch.where(few, 1.0, weight)[:, None]
        total = weight.sum(dim=2, keepdim=True)
        mean = (patches * weight).sum(dim=2, keepdim=True) / total
        patches = patches - mean
        weighted = patches * weight
        covariance = (weighted @ weighted.mT).double() / total
        values, vectors = torch.linalg.eigh(covariance)
        values = values.clamp_min(0)
        number = torch.arange(values.shape[1])
        count = _count_quiet(values)[:, None] if channels > 1 else round(0.4 * len(number))
        quiet = (number < count).expand(values.shape)
        quantile = 0.5 if channels > 1 else 0.1
        return _Spectrum(patches, mean, clipped, values, vectors.float(), quiet, quantile)

    def energies(self) -> tuple[Tensor, Tensor]:
        """Returns the noise energy of each patch and its intensity, both with shape (B, P).

        Under the law a + b x the energy of a direction v is a + b times the mean of the patch with
        the weights v^2.
        """
        mask = self.quiet.float()[:, None] / self.quiet.sum(dim=1)[:, None, None]
        energy = mask @ (self.vectors.mT @ self.patches).square()
        light = mask @ (self.vectors.mT.square() @ (self.patches + self.mean))
        return energy[:, 0], light[:, 0]

    def variance(self, energy: Tensor) -> Tensor:
        """Turns energies of patches with shape (B, ..., P) into the variance of the noise, (B, ...)."""
        rank = max(1, round(self.quantile * energy.shape[-1]))
        low = energy.kthvalue(rank, dim=-1).values
        counts = self.quiet.sum(dim=1).tolist()
        pure = torch.tensor([_chi_square_quantile(k, self.quantile) / k for k in counts])
        return low / pure.reshape(-1, *[1] * (low.ndim - 1))


def _levels(spectrum: _Spectrum) -> Tensor:
    if spectrum.quantile == 0.5:
        total = (spectrum.values * spectrum.quiet).sum(dim=1)
        return (total / spectrum.quiet.sum(dim=1)).sqrt().float()
    energy, _ = spectrum.energies()
    # The quantile would fall on clipped patches, which have no noise, if they stayed.
    usable = spectrum.clipped <= _CLIPPED
    kept = [e[u] if u.float().mean() >= 0.05 else e for e, u in zip(energy, usable, strict=True)]
    return torch.cat([spectrum.variance(e[None])[:1] for e in kept]).sqrt()


def _patches(images: Tensor, *, pooled: bool) -> Tensor:
    """Returns the patches of images, with shape (B, n, P); with B = 1 if they are pooled."""
    x = unit(images)
    height, width = x.shape[-2:]
    if min(height, width) < _SMALLEST:
        raise ValueError(
            f"got images of {height}x{width} pixels; noise is estimated on at least "
            f"{_SMALLEST}x{_SMALLEST}"
        )
    count = len(x) * height * width if pooled else height * width
    narrow, wide = (3, 5) if x.shape[1] > 1 else (5, 7)
    side = wide if count > _LARGE else narrow
    # An odd stride, as an even one would see one phase alone of mosaics and of 2x2 chroma.
    stride = 1
    while count / stride**2 > _PATCHES:
        stride += 2
    stride = min(stride, min(height, width) // 4)
    patches = F.unfold(x, side, stride=stride)
    return patches.transpose(0, 1).flatten(1)[None] if pooled else patches


def _count_quiet(values: Tensor) -> Tensor:
    """Returns the largest k whose k lowest values have a mean of at most their median, with shape (B,)."""
    n = values.shape[1]
    k = torch.arange(1, n + 1)
    mean = values.cumsum(dim=1) / k
    median = (values[:, (k - 1) // 2] + values[:, k // 2]) / 2
    # A single value passes always.
    return torch.where(mean <= median * (1 + 1e-9), k, 1).amax(dim=1)


def _line(x: Tensor, y: Tensor, use: Tensor) -> tuple[Tensor, Tensor]:
    """Fits y = a + b x with a, b >= 0, by least squares of relative deviations; (B, M) to (B,)."""
    x, y = x.double(), y.double()
    floor = 1e-8 + 0.05 * y.mean(dim=1, keepdim=True)
    w = use / (y + floor).square()
    w = w / w.sum(dim=1, keepdim=True)
    mean_x, mean_y = (w * x).sum(dim=1), (w * y).sum(dim=1)
    dx = x - mean_x[:, None]
    b = (w * dx * y).sum(dim=1) / (w * dx.square()).sum(dim=1).clamp_min(1e-12)
    a = mean_y - b * mean_x
    # On the edge of what is allowed, the best line is flat, or goes through the origin.
    through = (w * x * y).sum(dim=1) / (w * x.square()).sum(dim=1).clamp_min(1e-12)
    a, b = torch.where(b < 0, mean_y, a), b.clamp_min(0)
    b = torch.where(a < 0, through, b)
    return a.clamp_min(0).float(), b.float()


@functools.lru_cache(maxsize=512)
def _chi_square_quantile(k: int, p: float) -> float:
    """Returns the p-quantile of the chi-square law with k degrees of freedom, by bisection."""
    low, high = 0.0, 10.0 * k + 50.0
    half = torch.tensor(k / 2, dtype=torch.float64)
    for _ in range(60):
        middle = (low + high) / 2
        below = float(torch.special.gammainc(half, torch.tensor(middle / 2, dtype=torch.float64)))
        low, high = (middle, high) if below < p else (low, middle)
    return (low + high) / 2
