r"""Sensor noise: read and shot noise, Gaussian noise, Poisson counts.

The noise of a camera has a part that does not depend on the light, and one whose variance grows
with it,

.. math::
    y = x + \sigma_{read} \varepsilon_{read} + \sigma_{shot} \sqrt{x} \, \varepsilon_{shot}, \qquad
    \operatorname{Var}[y \mid x] = \lambda_{read} + \lambda_{shot} \, x, \quad \lambda = \sigma^2.

In real cameras the two levels go together (Brooks et al., *Unprocessing Images for Learned Raw
Denoising*, 2019):

.. math:: \log \lambda_{shot} \sim U(\log 10^{-4}, \log 0.012), \qquad
    \log \lambda_{read} \mid \lambda_{shot} \sim N(2.18 \log \lambda_{shot} + 1.20, \; 0.26^2).

Counting g x photons is shot noise alone, with the standard deviation :math:`g^{-1/2}` at white. What
a count has in common with a normal number is its mean and its variance; from the same uniform number u,

.. math:: \frac 1 g \operatorname{Poisson}^{-1}_{g x}(u) \approx
    x + \sqrt{x / g} \, \Phi^{-1}(u),

up to the steps of a count and its skewness, both of the order 1/g.

Images x are in [0, 1], all :math:`\sigma` are standard deviations on that scale. All functions take
the drawn numbers: they are deterministic.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = [
    "gaussian_noise",
    "normal_counts",
    "normal_log_prob",
    "poisson_of_levels",
    "poisson_quantile",
    "read_shot",
    "read_shot_levels",
]


def read_shot(
    x: Tensor,
    sigma_read: Tensor,
    sigma_shot: Tensor,
    eps_read: Tensor,
    eps_shot: Tensor,
    *,
    signal_gradient: bool = False,
) -> Tensor:
    """Adds read and shot noise; nothing is clamped but the square root's argument.

    Arguments:
        x: Images in [0, 1], with shape (B, C, H, W).
        sigma_read: The level of read noise, with shape (B,) or one that broadcasts against x.
        sigma_shot: The level of shot noise at x = 1, with shape (B,) or one that broadcasts
            against x.
        eps_read: Standard normal numbers with the shape of x.
        eps_shot: Standard normal numbers with the shape of x.
        signal_gradient: Whether gradients flow through the square root of x. It is off by default,
            as in NR-GAN, BNCR-GAN's predecessor: the slope of the root is unbounded at black.

    Returns:
        The noisy images, with shape (B, C, H, W).
    """
    signal = x if signal_gradient else x.detach()
    lit = signal > 0
    # Both branches are finite, so that black pixels get the gradient 0 and not NaN.
    root = torch.where(lit, torch.where(lit, signal, 1.0).sqrt(), 0.0)
    return x + _level(sigma_read) * eps_read + _level(sigma_shot) * eps_shot * root


def gaussian_noise(x: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    """Adds white Gaussian noise.

    Arguments:
        x: Images, with shape (B, C, H, W).
        sigma: The standard deviation, with shape (B,) or one that broadcasts against x.
        eps: Standard normal numbers with the shape of x.
    """
    return x + _level(sigma) * eps


def normal_counts(x: Tensor, gain: Tensor, u: Tensor, *, signal_gradient: bool = False) -> Tensor:
    """Counts photons as if counts were normal: differentiable, and near :func:`poisson_quantile`.

    The result is clipped to [0, 1], as a sensor saturates; its gradient passes as if it were not, or
    else every second pixel of a white image would have none.

    Arguments:
        x: Images in [0, 1], with shape (B, C, H, W).
        gain: The expected count g of white, with shape (B,) or one that broadcasts against x.
        u: Numbers from U[0, 1) with the shape of x, from which counts are made by inversion.
        signal_gradient: Whether gradients flow through the square root of x; see :func:`read_shot`.

    Returns:
        The images in [0, 1], with shape (B, C, H, W).
    """
    none = x.new_zeros(())
    # The steps of float32 are 2^-24: 0 stands for what is below, and has no finite quantile.
    eps = torch.special.ndtri(u.clamp_min(2.0**-25))
    y = read_shot(x, none, gain.rsqrt(), none, eps, signal_gradient=signal_gradient)
    # In this order the sum is exactly the clipped value.
    return y.detach().clamp(0, 1) + (y - y.detach())


def normal_log_prob(y: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    r"""Returns the log-probabilities of 8-bit pixels that are normal numbers, clipped and rounded.

    .. math:: P(y) = \Phi\Big(\frac{y + h - m}{\sigma}\Big) - \Phi\Big(\frac{y - h - m}{\sigma}\Big),
        \qquad h = \frac{1}{510},

    where what is below 0 counts as 0, and what is above 1 as 1. It is finite, and has gradients, however far off the
    mean is.

    Arguments:
        y: Multiples of 1/255 in [0, 1], with any shape.
        mean: The means m, with a shape that broadcasts against y.
        sigma: The standard deviations, above 0, with a shape that broadcasts against y.

    Returns:
        Log-probabilities in nats, with the dtype of the mean.
    """
    # Squares of far deviations cancel in the gradient; Apple's GPUs have no float64.
    wide = torch.float32 if mean.device.type == "mps" else torch.float64
    level = (255 * y).round().to(wide)
    gap, s = level / 255 - mean.to(wide), sigma.to(wide)
    lower, upper = (gap - 0.5 / 255) / s, (gap + 0.5 / 255) / s
    first, last = level == 0, level == 255
    # The probability of (a, b) is that of (-b, -a); differences are exact in the lower tail.
    mirrored = last | (~first & (gap > 0))
    a, b = torch.where(mirrored, -upper, lower), torch.where(mirrored, -lower, upper)
    above = torch.special.log_ndtr(b)
    step = (above - torch.special.log_ndtr(a)).clamp_min(torch.finfo(wide).tiny)
    inner = above + (-torch.expm1(-step)).log()
    return torch.where(first | last, above, inner).to(mean.dtype)


def read_shot_levels(u: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """Maps standard random numbers to the noise levels of a camera (Brooks et al., 2019).

    Arguments:
        u: Numbers from U[0, 1), with shape (B,).
        eps: Numbers from N(0, 1), with shape (B,).

    Returns:
        The pair (sigma_read, sigma_shot) of standard deviations on the [0, 1] scale, each with
        shape (B,).
    """
    low, high = math.log(1e-4), math.log(0.012)
    log_shot = low + (high - low) * u
    log_read = 2.18 * log_shot + 1.20 + 0.26 * eps
    # Both laws are of variances.
    return torch.exp(log_read / 2), torch.exp(log_shot / 2)


def poisson_quantile(u: Tensor, rate: Tensor) -> Tensor:
    r"""Returns the smallest count n with :math:`P(N \leq n) \geq u`, :math:`N \sim` Poisson(rate).

    With u from U[0, 1) these are Poisson counts as a deterministic function of the drawn numbers.
    Found by bisection on :math:`P(N \leq n) = Q(n + 1, \mathrm{rate})`, the regularised incomplete
    gamma function, in float64. torch computes that function to about 4e-10, so a count can only be
    off by one where u is as near as that to a step.

    Arguments:
        u: Probabilities in [0, 1).
        rate: Expected counts, non-negative, with a shape that broadcasts against u.

    Returns:
        The counts, with the dtype of u.
    """
    p = u.double() + torch.zeros_like(rate, dtype=torch.float64)
    mean = rate.double() + torch.zeros_like(p)
    # Sixteen digits of probability lie within 8.3 standard deviations, at small rates some more.
    reach = 9 * mean.sqrt() + 40
    low = torch.where(p < 1e-15, 0, (mean - reach).floor().clamp_min(0)) - 1
    high = (mean + reach).ceil()
    width = float((high - low).max()) if p.numel() else 1.0
    for _ in range(math.ceil(math.log2(width))):
        middle = ((low + high) / 2).floor()
        enough: Tensor = torch.special.gammaincc(middle.clamp_min(0) + 1, mean) >= p
        enough = enough & (middle >= 0)
        high = torch.where(enough, middle, high)
        low = torch.where(enough, low, middle)
    counts: Tensor = high
    return counts.to(u.dtype)


def poisson_of_levels(u: Tensor, level: Tensor, peak: int) -> Tensor:
    r"""Returns Poisson counts of an 8-bit image, as :func:`poisson_quantile` does, from a table.

    There are only 256 rates, so that the distribution functions are tabulated once for each peak and
    a count is found by one search: 30 times as fast on photographs.

    Arguments:
        u: Probabilities in [0, 1).
        level: The 8-bit values, whole numbers from 0 to 255, with the shape of u.
        peak: The expected count at 255; the rate is peak * level / 255.

    Returns:
        The counts, with the shape and dtype of u.
    """
    table = _poisson_table(peak, u.device)
    row = level.long()
    # Row i of the table lies in [2 i, 2 i + 1], so that all rows together are one sorted list.
    place = torch.searchsorted(table.flatten(), 2 * row + u.double())
    return (place - row * table.shape[1]).to(u.dtype)


@lru_cache(maxsize=32)
def _poisson_table(peak: int, device: torch.device) -> Tensor:
    # A column more than any count with a probability that float64 can tell from 1.
    n = torch.arange(peak + math.ceil(9 * math.sqrt(peak)) + 40, dtype=torch.float64)
    with torch.inference_mode(False):
        level = torch.arange(256, dtype=torch.float64)[:, None]
        cdf: Tensor = torch.special.gammaincc(n + 1, level * (peak / 255))
        return (2 * level + cdf.cummax(dim=1).values).to(device)


def _level(sigma: Tensor) -> Tensor:
    return sigma.reshape(-1, 1, 1, 1) if sigma.ndim == 1 else sigma
