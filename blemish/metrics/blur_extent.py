r"""How blurred photographs are, without sharp ones beside them.

A step edge that was blurred by a Gaussian of width :math:`\sigma` has, seen through a derivative of a Gaussian of
width s, the slope :math:`g_s \propto (\sigma^2 + s^2)^{-1/2}` at its middle, whatever its contrast. Blurring once
more and comparing the slopes (Hu & de Haan, 2006; Zhuo & Sim, 2011) gives the width from the ratio of two scales
:math:`s_1 < s_2`,

.. math:: R = \frac{\sum g_{s_1}^2 - 2 \nu^2 \|h_{s_1}\|^2}{\sum g_{s_2}^2 - 2 \nu^2 \|h_{s_2}\|^2}, \qquad
    \sigma^2 = \frac{s_2^2 - R s_1^2}{R - 1},

with sums over the strongest edges of the picture: where the slope is large and has a maximum across the edge. Noise
of level :math:`\nu` adds the energies of the filters h, which are taken off. The widest pair of scales at which edges
stand out from the noise would be blind to small widths, so the pair (1/2, 1) is used wherever the slopes at 1/2 allow it,
and (1, 2) elsewhere.

*The width of what?* Pictures are no isolated steps: fine lines make widths smaller, and the filters, sampled, are
wider than their scale (0.59 for 1/2), which makes them larger. On photographs both about cancel; an isolated step shows
the latter, :math:`\sigma^2 + 0.5`. The sharpest edges have a width of their own, which on sharp photographs is
:math:`\sigma_0 \approx 0.5` pixels (0.6 on CIFAR-10). A disk of radius r has the variance :math:`r^2 / 4` along each
axis, so that :math:`r = 2 \sqrt{\sigma^2 - \sigma_0^2}` is about the radius of a defocus that would have made it; of 24
photographs the middle is 0.0, 1.1, 2.1, 3.3 and 4.1 for r = 0, 1, 2, 3 and 4. (Isolated steps that a disk has blurred look
wider, up to twice, since the profile of a disk is flat in the middle.)

*Directions.* Motion widens edges across its path and leaves others sharp. With the widths
:math:`\sigma^2(\theta)` of edges whose normals point to four directions, their harmonic of order two

.. math:: \sigma^2(\theta) \approx a + b \cos 2 \theta + c \sin 2 \theta

gives the direction of the largest blur and the anisotropy :math:`\sqrt{b^2 + c^2} / a`, from 0 to 1. Scenes are
anisotropic, too: it is a hint.

*Limits.* Thin lines look sharper than steps, shadows and gradients blurrier: a single small picture may be off by a
third; ringing and sharpening give widths near 0; a scene without edges, nothing (NaN).

References:
    | Low Cost Robust Blur Estimator (Hu & de Haan, 2006)
    | Defocus Map Estimation from a Single Image (Zhuo & Sim, 2011)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..functional.jpeg import BLUE, GREEN, RED
from .images import unit

__all__ = ["SHARP", "BlurExtent", "blur_extent"]

# B images, D = 4 directions

SHARP = 0.5
"""The width of the edges of sharp photographs, in pixels."""

WIDEST = 6.0
"""The largest width that is told from larger ones, in pixels."""

_SCALES = ((0.5, 1.0), (1.0, 2.0))
_SHARE = 0.03  # The share of the pixels that counts as the strongest edges.
_CLEAR = (
    20.0  # How far edges stand out from the noise, as a ratio of energies, at a scale that is used.
)
_FAINT = 1e-4  # The mean squared slope below which there is no edge: a step of 1 % over a pixel.


@dataclass(frozen=True)
class BlurExtent:
    """The width of edges.

    Attributes:
        sigma: The width of the strongest edges, as that of a Gaussian, in pixels from 0 to WIDEST, with
            shape (B,); NaN without edges.
        anisotropy: How much it depends on the direction, 0 to 1, with shape (B,); NaN where edges
            of some direction are missing.
        angle: The direction of the largest blur in radians, 0 along a row and pi / 2 down a column, in
            [0, pi), with shape (B,).
    """

    sigma: Tensor
    anisotropy: Tensor
    angle: Tensor

    @property
    def radius(self) -> Tensor:
        """The radius of the disk that would make edges of sharp photographs that wide, in pixels."""
        return 2 * (self.sigma.square() - SHARP**2).clamp_min(0).sqrt()


def blur_extent(images: Tensor, *, noise: Tensor | None = None, pooled: bool = False) -> BlurExtent:
    """Estimates the width of edges.

    Arguments:
        images: uint8 or in [0, 1], of at least 16x16 pixels, with shape (B, C, H, W); the luma is looked at.
        noise: The standard deviation of the luma's noise, with shape (B,); see
            :func:`~blemish.metrics.noise_level`. None means none.
        pooled: Whether the edges of all images are taken together; B is then 1.

    Raises:
        ValueError: If the images are too small.
    """
    x = _luma(images)
    nu = torch.zeros(len(x)) if noise is None else noise.to(x)
    found = [_energies(x, nu, *scales) for scales in _SCALES]
    if pooled:
        found = [
            (fine.sum(0, True), coarse.sum(0, True), raw.sum(0, True))
            for fine, coarse, raw in found
        ]
    widths = [
        _width(fine, coarse, s1, s2)
        for (fine, coarse, _), (s1, s2) in zip(found, _SCALES, strict=True)
    ]
    whole = [_width(f.sum(1), c.sum(1), *s) for (f, c, _), s in zip(found, _SCALES, strict=True)]
    fine, _, raw = found[0]
    # What is left of the energy after the noise is taken off, against what was taken off.
    total, taken = fine.sum(dim=1), (raw - fine).sum(dim=1)
    clear = total > _CLEAR * taken
    square = torch.where(clear, whole[0], whole[1])
    directed = torch.where(clear[:, None], widths[0], widths[1])
    faint = found[0][1].sum(dim=1) < _FAINT * _count(x) * (len(x) if pooled else 1)
    sigma = torch.where(faint, math.nan, square.sqrt())
    b, c = (directed[:, 0] - directed[:, 2]) / 2, (directed[:, 1] - directed[:, 3]) / 2
    length = (b.square() + c.square()).sqrt()
    anisotropy = (length / directed.mean(dim=1).clamp_min(SHARP**2)).clamp_max(1)
    present = (raw > 0.05 * raw.sum(dim=1, keepdim=True)).all(dim=1) & ~faint
    anisotropy = torch.where(present, anisotropy, math.nan)
    return BlurExtent(sigma, anisotropy, (torch.atan2(c, b) / 2) % math.pi)


def _count(x: Tensor) -> int:
    return max(8, round(_SHARE * x.shape[-2] * x.shape[-1]))


def _energies(x: Tensor, nu: Tensor, s1: float, s2: float) -> tuple[Tensor, Tensor, Tensor]:
    """Sums the squared slopes at the strongest edges by their direction.

    Returns:
        The energies at the scales s1 and s2 without that of the noise, and at s1 with it, each with
        shape (B, D).
    """
    (gx, gy), (hx, hy) = _slopes(x, s1), _slopes(x, s2)
    fine, coarse = gx.square() + gy.square(), hx.square() + hy.square()
    # The place of edges is chosen at the coarse scale, where the noise decides least.
    strength = coarse * _ridge(coarse, hx, hy)
    strongest = strength.flatten(1).topk(_count(x), dim=1)
    place, edge = strongest.indices, strongest.values > 0
    angle = torch.atan2(hy, hx).flatten(1).gather(1, place)
    direction = (angle / (math.pi / 4)).round().long() % 4
    a, b = (energy.flatten(1).gather(1, place) * edge for energy in (fine, coarse))
    noise_a, noise_b = (2 * nu.square()[:, None] * _filter_energy(s) * edge for s in (s1, s2))
    sums = (_by_direction(values, direction) for values in (a - noise_a, b - noise_b, a))
    clean, wide, raw = sums
    return clean, wide, raw


def _by_direction(values: Tensor, direction: Tensor) -> Tensor:
    return torch.zeros(len(values), 4).scatter_add(1, direction, values)


def _width(fine: Tensor, coarse: Tensor, s1: float, s2: float) -> Tensor:
    """Returns the squared width from the energies at two scales."""
    ratio = fine / coarse.clamp_min(1e-12)
    # As the width grows the ratio falls to 1, and is noise there.
    least = (s2**2 + WIDEST**2) / (s1**2 + WIDEST**2)
    ratio = ratio.clamp_min(least)
    return ((s2**2 - ratio * s1**2) / (ratio - 1)).clamp_min(0)


def _ridge(energy: Tensor, hx: Tensor, hy: Tensor) -> Tensor:
    """Returns where the slope has a maximum across the edge, (B, H, W)."""
    padded = F.pad(energy, (1, 1, 1, 1))
    beside = torch.maximum(padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
    above = torch.maximum(padded[:, :-2, 1:-1], padded[:, 2:, 1:-1])
    return energy >= torch.where(hx.abs() >= hy.abs(), beside, above)


def _slopes(x: Tensor, s: float) -> tuple[Tensor, Tensor]:
    """Returns the derivatives along rows and down columns at scale s, both with shape (B, H, W)."""
    smooth, slope = _kernels(s)
    margin = len(smooth) // 2
    padded = F.pad(x[:, None], [margin] * 4, mode="reflect")
    # conv2d correlates: the slope's kernel is odd and enters mirrored.
    along = F.conv2d(padded, slope.view(1, 1, 1, -1))
    down = F.conv2d(padded, smooth.view(1, 1, 1, -1))
    gx = F.conv2d(along, smooth.view(1, 1, -1, 1))
    gy = F.conv2d(down, slope.view(1, 1, -1, 1))
    return gx[:, 0], gy[:, 0]


def _kernels(s: float) -> tuple[Tensor, Tensor]:
    """Returns a sampled Gaussian of width s and the filter of its derivative, which gives 1 for x = t."""
    t = torch.arange(-math.ceil(3.5 * s), math.ceil(3.5 * s) + 1).float()
    smooth = torch.exp(-t.square() / (2 * s * s))
    smooth = smooth / smooth.sum()
    slope = t * smooth
    return smooth, slope / (slope * t).sum()


def _filter_energy(s: float) -> float:
    """Returns the sum of squares of the two-dimensional derivative filter."""
    smooth, slope = _kernels(s)
    return float(smooth.square().sum() * slope.square().sum())


def _luma(images: Tensor) -> Tensor:
    x = unit(images)
    if min(x.shape[-2:]) < 16:
        raise ValueError(
            f"got images of {x.shape[-2]}x{x.shape[-1]} pixels; edges are measured on at least 16x16"
        )
    if x.shape[1] == 1:
        return x[:, 0]
    return RED * x[:, 0] + GREEN * x[:, 1] + BLUE * x[:, 2]
