r"""Variance stabilisation of read and shot noise, and its unbiased inverse.

Observed is :math:`y = x + s(x) \varepsilon` with :math:`s^2 = a x + b`, :math:`a = \sigma_{shot}^2`,
:math:`b = \sigma_{read}^2`, and :math:`\varepsilon` standard normal. The transform

.. math:: f(y) = \frac 2 a \bigl( \sqrt{a y + v} - \sqrt v \bigr) = \frac{2 y}{\sqrt{a y + v} + \sqrt v},
    \qquad v = b + c a^2,

has noise of variance nearly 1 at any light. The second form also holds without shot noise, where it
is :math:`y / \sigma_{read}`. With :math:`u = a x + v`, a series of the square root gives the variance

.. math:: \operatorname{Var} f(y) = 1 + \bigl( \tfrac 7 8 - c \bigr) \frac{a^2}{u} + O(u^{-2}),

so :math:`c = 7/8` is best for normal noise. (Anscombe's 3/8 is for Poisson counts, whose skewness
takes 1/2 away.)

A denoiser of :math:`f(y)` estimates the mean :math:`m(x) = E f(y)`, which is less than :math:`f(x)` as f is
concave: :math:`f^{-1}` would make images too dark. The exact unbiased inverse is :math:`m^{-1}`. Here m
is integrated numerically, for each image's own noise, on a grid of x in [0, 1], and inverted by
linear interpolation. (Clipping of y is not modelled: doing so gained nothing in measurements.)

Between the two stands BM3D. It is given :math:`f(y) / f(1)`, on the scale [0, 1], whose noise has the level
:math:`1 / f(1)`.

References:
    | The Transformation of Poisson, Binomial and Negative-Binomial Data (Anscombe, 1948)
    | https://doi.org/10.1093/biomet/35.3-4.246
    | Optimal Inversion of the Generalized Anscombe Transformation for Poisson-Gaussian Noise
      (Makitalo & Foi, 2013)
    | https://doi.org/10.1109/TIP.2012.2202675
"""

from __future__ import annotations

import torch
from torch import Tensor

from .bm3d import bm3d, noise_levels

__all__ = ["anscombe", "anscombe_inverse", "anscombe_mean", "denoise"]

_OFFSET = 7 / 8  # c
_QUIET = 1e-5  # the least sqrt(v): far below a step of 8 bits, and finite to divide by
_GRID = 129
_NODES = 65
_REACH = 5.0


@torch.no_grad()
def denoise(y: Tensor, sigma_read: float | Tensor, sigma_shot: float | Tensor) -> Tensor:
    """Removes read and shot noise of known levels.

    Arguments:
        y: Noisy images, with shape (B, C, H, W), of a range near [0, 1].
        sigma_read: The standard deviation of read noise, one for all images, or one for each with
            shape (B,); 0 or more.
        sigma_shot: The standard deviation of shot noise at x = 1, likewise.

    Returns:
        The estimates in [0, 1], with the shape and dtype of y, without gradient; y itself where both
        levels are 0.

    Raises:
        ValueError: If a shape or dtype does not fit, or a level is negative.
    """
    read = noise_levels(sigma_read, y, name="sigma_read")
    shot = noise_levels(sigma_shot, y, name="sigma_shot")
    wide = y if y.dtype == torch.float64 else y.float()
    noisy = (read + shot > 0).view(-1, 1, 1, 1)
    white = anscombe(torch.ones_like(wide[:, :1, :1, :1]), read, shot)
    clean = bm3d(anscombe(wide, read, shot) / white, 1 / white.flatten()) * white
    return torch.where(noisy, anscombe_inverse(clean, read, shot), wide).to(y.dtype)


def anscombe(y: Tensor, sigma_read: Tensor, sigma_shot: Tensor) -> Tensor:
    """Transforms images so that their noise has a variance near 1.

    Arguments:
        y: Noisy images, with shape (B, C, H, W); 0 becomes 0.
        sigma_read: The level of read noise on the scale [0, 1], with shape (B,).
        sigma_shot: The level of shot noise at x = 1, with shape (B,).
    """
    a, root = _law(sigma_read, sigma_shot, y.ndim)
    return 2 * y / ((a * y + root.square()).clamp(min=0).sqrt() + root)


def anscombe_mean(x: Tensor, sigma_read: Tensor, sigma_shot: Tensor) -> Tensor:
    """Returns the mean of transformed noisy pixels, by the trapezoidal rule with 65 nodes.

    Arguments:
        x: Clean values in [0, 1], with shape (B, n).
        sigma_read: The level of read noise, with shape (B,).
        sigma_shot: The level of shot noise at x = 1, with shape (B,).
    """
    eps = torch.linspace(-_REACH, _REACH, _NODES, dtype=x.dtype, device=x.device)
    mass = torch.exp(-eps.square() / 2)
    deviation = (sigma_shot[:, None].square() * x + sigma_read[:, None].square()).sqrt()
    y = x[..., None] + deviation[..., None] * eps
    return anscombe(y, sigma_read, sigma_shot) @ (mass / mass.sum())


def anscombe_inverse(z: Tensor, sigma_read: Tensor, sigma_shot: Tensor) -> Tensor:
    """Returns the clean images whose noisy observations have the given means when transformed.

    Arguments:
        z: Means of transformed images, with shape (B, C, H, W).
        sigma_read: The level of read noise on the scale [0, 1], with shape (B,).
        sigma_shot: The level of shot noise at x = 1, with shape (B,).

    Returns:
        Images in [0, 1] with the shape and dtype of z; means beyond those of 0 and 1 give 0 and 1.
    """
    # The transform bends most in the dark: the grid is dense there.
    x = torch.linspace(0, 1, _GRID, dtype=torch.float64, device=z.device).square()
    read, shot = sigma_read.double(), sigma_shot.double()
    means = anscombe_mean(x.expand(len(z), -1), read, shot)
    values = z.double().flatten(1).contiguous()
    right = torch.searchsorted(means.contiguous(), values).clamp(1, _GRID - 1)
    low, high = means.gather(1, right - 1), means.gather(1, right)
    share = ((values - low) / (high - low)).clamp(0, 1)
    return torch.lerp(x[right - 1], x[right], share).view(z.shape).to(z.dtype)


def _law(sigma_read: Tensor, sigma_shot: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
    """Returns a and the root of v, with shapes (B, 1, ..., 1)."""
    shape = (-1, *(1,) * (ndim - 1))
    a = sigma_shot.square().view(shape)
    root = (sigma_read.square().view(shape) + _OFFSET * a.square()).sqrt()
    return a, root.clamp(min=_QUIET)
