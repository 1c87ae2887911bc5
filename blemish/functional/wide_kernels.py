r"""Blur kernels of the practical degradation models: heavier and lighter tails than a Gaussian's, and rings.

Conventions are those of :mod:`~blemish.functional.kernels`: shape (B, 1, k, k) with odd k, sum 1.
With :math:`q = p^\top \Sigma^{-1} p` at the pixel centres p,

* **generalised Gaussian**: :math:`\exp(-\tfrac12 q^\beta)`. :math:`\beta = 1` is the Gaussian, smaller
  values have heavier tails, and :math:`\beta \to \infty` tends to the even mass of the ellipse q < 1;
* **plateau**: :math:`1 / (1 + q^\beta)`, flat in the middle, with tails that fall as a power;
* **sinc**: the impulse response of the ideal circular low-pass filter, whose frequency response is 1
  where :math:`|\omega| < \omega_c` and 0 beyond. Its inverse Fourier transform in the plane is

  .. math:: h(r) = \frac{\omega_c}{2 \pi r} J_1(\omega_c r), \qquad h(0) = \frac{\omega_c^2}{4 \pi}.

  It has negative values: sharpened edges ring and overshoot.

References:
    | Parameter Estimation for Multivariate Generalized Gaussian Distributions (Pascal et al., 2013)
    | https://arxiv.org/abs/1302.6498
    | Real-ESRGAN (Wang et al., 2021), Sections 3.1 and 3.3, for their use
    | https://arxiv.org/abs/2107.10833
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .kernels import normalised, positions, quadratic_form

__all__ = ["cut", "generalised_gaussian", "plateau", "shifted_gaussian", "sinc"]

# Smaller than any q beside the middle; a power below 1 would have an infinite slope at 0.
TINY = 1e-24


def generalised_gaussian(
    sigma_x: Tensor, sigma_y: Tensor, angle: Tensor, beta: Tensor, size: int
) -> Tensor:
    """Samples rotated generalised Gaussians.

    Arguments:
        sigma_x: The scales along the first axis in pixels, positive, with shape (B,).
        sigma_y: The scales along the second axis in pixels, positive, with shape (B,).
        angle: The direction of the first axis in radians, 0 along a row and pi / 2 down a column,
            with shape (B,).
        beta: The shapes, positive, with shape (B,).
        size: The odd kernel size k.

    Returns:
        Kernels that sum to 1, with shape (B, 1, k, k).
    """
    q = quadratic_form(sigma_x, sigma_y, angle, size)
    return normalised(torch.exp(-_power(q, beta) / 2))


def plateau(sigma_x: Tensor, sigma_y: Tensor, angle: Tensor, beta: Tensor, size: int) -> Tensor:
    """Samples rotated plateaus.

    Arguments:
        sigma_x: The scales along the first axis in pixels, positive, with shape (B,).
        sigma_y: The scales along the second axis in pixels, positive, with shape (B,).
        angle: The direction of the first axis in radians, with shape (B,).
        beta: The shapes, positive, with shape (B,).
        size: The odd kernel size k.

    Returns:
        Kernels that sum to 1, with shape (B, 1, k, k).
    """
    q = quadratic_form(sigma_x, sigma_y, angle, size)
    return normalised(1 / (1 + _power(q, beta)))


def sinc(cutoff: Tensor, size: int) -> Tensor:
    """Samples circular low-pass filters.

    The support cuts off the rings, which softens the edge of the frequency response.

    Arguments:
        cutoff: The cutoff frequencies in radians for each pixel, in (0, pi], with shape (B,). They
            get no gradient.
        size: The odd kernel size k.

    Returns:
        Kernels that sum to 1, some values negative, with shape (B, 1, k, k).
    """
    p = positions(size, cutoff)
    r = torch.hypot(p, p[:, None])
    omega = cutoff.detach().reshape(-1, 1, 1, 1)
    ring = omega * torch.special.bessel_j1(omega * r) / (2 * math.pi * r.clamp_min(0.5))
    return normalised(torch.where(r > 0, ring, omega.square() / (4 * math.pi)))


def shifted_gaussian(sigma: Tensor, shift: Tensor, size: int) -> Tensor:
    """Samples isotropic Gaussians whose centre lies beside the middle pixel.

    Arguments:
        sigma: The standard deviations in pixels, positive, with shape (B,).
        shift: How far right and down the centre lies, in pixels, with shape (B,).
        size: The odd kernel size k.

    Returns:
        Kernels that sum to 1, with shape (B, 1, k, k).
    """
    p = positions(size, sigma) - shift[:, None]
    # The softmax normalises also where all values are too small for their exponential.
    row = torch.softmax(-(p / sigma[:, None]).square() / 2, dim=-1)
    return (row[:, :, None] * row[:, None, :])[:, None]


def cut(kernel: Tensor, side: Tensor) -> Tensor:
    """Cuts each kernel to a support of its own and normalises what is left.

    Arguments:
        kernel: Kernels, with shape (B, 1, k, k).
        side: The odd sides of the supports, at most k, with shape (B,).

    Returns:
        Kernels that sum to 1 and are 0 outside of the supports, with shape (B, 1, k, k).
    """
    inside = positions(kernel.shape[-1], kernel).abs() <= ((side - 1) / 2)[:, None]
    support = inside[:, None, :, None] & inside[:, None, None, :]
    return normalised(torch.where(support, kernel, 0))


def _power(q: Tensor, beta: Tensor) -> Tensor:
    return q.clamp_min(TINY) ** beta.reshape(-1, 1, 1, 1)
