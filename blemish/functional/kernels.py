r"""Blur kernels and what can be measured on them.

A kernel :math:`h` has shape (B, 1, k, k) with odd k; its centre is the middle pixel and it sums
to 1.

* **Disk** (defocus of radius r): the mass of a pixel is the area it shares with the disk. With
  :math:`G(x, y)`, the signed area of the disk inside the rectangle between its centre and a corner
  (x, y), the area over the pixel :math:`[x_0, x_1] \times [y_0, y_1]` is
  :math:`G(x_1, y_1) - G(x_0, y_1) - G(x_1, y_0) + G(x_0, y_0)`. For corners inside the disk
  :math:`G = x y`; otherwise, with :math:`S(u) = \int_0^u \sqrt{r^2 - t^2} \, dt` and
  :math:`u = \sqrt{r^2 - y^2}`, :math:`G = u y + S(x) - S(u)`.
* **Gaussian**: :math:`\exp(-\tfrac12 p^\top \Sigma^{-1} p)` at the pixel centres p.

Statistics treat a normalised kernel as a distribution over pixels: its centroid, its root mean
square radius :math:`\rho` about the centroid, and its entropy :math:`H = -\sum h \log h`. A
continuous disk of radius r has :math:`\rho = r / \sqrt 2`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "anisotropic_gaussian",
    "centroid",
    "delta",
    "disk",
    "disk_radius",
    "entropy",
    "gaussian",
    "normalised",
    "positions",
    "quadratic_form",
    "rms_radius",
]

TINY = 1e-12


def delta(size: int, *, device: torch.device | str | None = None) -> Tensor:
    """Returns the kernel that changes nothing, with shape (1, 1, size, size)."""
    kernel = torch.zeros(1, 1, _odd(size), size, device=device)
    kernel[..., size // 2, size // 2] = 1
    return kernel


def disk(radius: Tensor, size: int) -> Tensor:
    """Rasterises disks by exact area coverage.

    Arguments:
        radius: The radii in pixels, positive, with shape (B,). Gradients flow to them.
        size: The odd kernel size k. What of a disk leaves the support is cut, and the rest is
            normalised.

    Returns:
        Kernels that sum to 1, with shape (B, 1, k, k) and the dtype of radius.
    """
    # Differences of areas cancel; float64 keeps them exact to 1e-15. Apple's GPUs have none.
    wide = (radius.cpu() if radius.device.type == "mps" else radius).double()
    r = wide.clamp_min(1e-3).reshape(-1, 1, 1)
    edges = torch.arange(_odd(size) + 1, device=r.device, dtype=r.dtype) - size / 2
    area = _corner_area(edges.reshape(1, 1, -1), edges.reshape(1, -1, 1), r)
    covered = area.diff(dim=-1).diff(dim=-2).clamp_min(0)
    return normalised(covered)[:, None].to(radius)


def gaussian(sigma: Tensor, size: int) -> Tensor:
    """Samples isotropic Gaussians.

    Arguments:
        sigma: The standard deviations in pixels, positive, with shape (B,).
        size: The odd kernel size k.

    Returns:
        Kernels that sum to 1, with shape (B, 1, k, k).
    """
    return anisotropic_gaussian(sigma, sigma, torch.zeros_like(sigma), size)


def anisotropic_gaussian(sigma_x: Tensor, sigma_y: Tensor, angle: Tensor, size: int) -> Tensor:
    """Samples rotated Gaussians.

    Arguments:
        sigma_x: The standard deviations along the first axis in pixels, positive, with shape (B,).
        sigma_y: The standard deviations along the second axis in pixels, positive, with shape (B,).
        angle: The direction of the first axis in radians, 0 along a row and pi / 2 down a column,
            with shape (B,).
        size: The odd kernel size k.

    Returns:
        Kernels that sum to 1, with shape (B, 1, k, k).
    """
    return normalised(torch.exp(-quadratic_form(sigma_x, sigma_y, angle, size) / 2))


def quadratic_form(sigma_x: Tensor, sigma_y: Tensor, angle: Tensor, size: int) -> Tensor:
    r"""Computes :math:`p^\top \Sigma^{-1} p` at the pixel centres p, of which kernels are made.

    Arguments:
        sigma_x: The standard deviations along the first axis in pixels, positive, with shape (B,).
        sigma_y: The standard deviations along the second axis in pixels, positive, with shape (B,).
        angle: The direction of the first axis in radians, 0 along a row and pi / 2 down a column,
            with shape (B,).
        size: The odd kernel size k.

    Returns:
        The squared distances from the middle pixel, in standard deviations, with shape (B, 1, k, k).
    """
    p = positions(size, sigma_x)
    cos, sin = angle.cos().reshape(-1, 1, 1), angle.sin().reshape(-1, 1, 1)
    along, across = cos * p + sin * p[:, None], cos * p[:, None] - sin * p
    # A width below a thousandth of a pixel is the identity already; the bound avoids 0 / 0.
    u = along / sigma_x.clamp_min(1e-3).reshape(-1, 1, 1)
    v = across / sigma_y.clamp_min(1e-3).reshape(-1, 1, 1)
    return (u.square() + v.square())[:, None]


def centroid(kernel: Tensor) -> Tensor:
    """Returns the centroid of each kernel as seen from the middle pixel.

    Arguments:
        kernel: Kernels, with shape (B, 1, k, k); they need not sum to 1.

    Returns:
        The (column, row) in pixels, with shape (B, 2).
    """
    h = normalised(kernel[:, 0])
    p = positions(kernel.shape[-1], h)
    return torch.stack([(h.sum(-2) * p).sum(-1), (h.sum(-1) * p).sum(-1)], dim=-1)


def rms_radius(kernel: Tensor) -> Tensor:
    """Returns the root mean square radius of each kernel about its centroid.

    Arguments:
        kernel: Kernels, with shape (B, 1, k, k); they need not sum to 1.

    Returns:
        The radii in pixels, with shape (B,).
    """
    h = normalised(kernel[:, 0])
    p = positions(kernel.shape[-1], h)
    # About the centroid, and not as a difference of two moments, which would cancel.
    column, row = (p - centroid(kernel)[..., None]).square().unbind(1)
    return ((h.sum(-2) * column).sum(-1) + (h.sum(-1) * row).sum(-1)).sqrt()


def disk_radius(kernel: Tensor) -> Tensor:
    r"""Returns the radius of the continuous disk with each kernel's second moment.

    Rasterisation widens: for :func:`disk` of radius r the result is close to
    :math:`\sqrt{r^2 + 1/3}`, since a pixel has a moment of its own.

    Arguments:
        kernel: Kernels, with shape (B, 1, k, k); they need not sum to 1.

    Returns:
        The radii :math:`\sqrt 2 \rho` in pixels, with shape (B,).
    """
    return math.sqrt(2) * rms_radius(kernel)


def entropy(kernel: Tensor) -> Tensor:
    """Returns the entropy of each kernel, 0 for the delta kernel.

    Arguments:
        kernel: Kernels, with shape (B, 1, k, k); they are normalised to sum 1 here.

    Returns:
        The entropies in nats, with shape (B,).
    """
    h = normalised(kernel[:, 0])
    # The bound inside the logarithm keeps the gradient at empty pixels finite.
    return (h * -h.clamp_min(TINY).log()).sum((-2, -1))


def _corner_area(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Computes the signed area of the disk between its centre and the corners (x, y)."""
    sign = x.sign() * y.sign()
    x, y = torch.minimum(x.abs(), r), torch.minimum(y.abs(), r)
    inside = x.square() + y.square() <= r.square()
    # A corner beyond the circle: the rectangle up to u, and what lies under the arc from u to x.
    u = (r.square() - y.square()).clamp_min(TINY).sqrt()
    outside = u * y + _arc_area(x, r) - _arc_area(u, r)
    return sign * torch.where(inside, x * y, outside)


def _arc_area(u: Tensor, r: Tensor) -> Tensor:
    """Computes the integral of sqrt(r^2 - t^2) from 0 to u in [0, r]."""
    # Short of 1 by 1e-12, where the slope of asin is finite; the area changes by less than 1e-17.
    angle = torch.asin((u / r).clamp_max(1 - TINY))
    return r.square() / 2 * (angle + angle.sin() * angle.cos())


def normalised(h: Tensor) -> Tensor:
    """Divides each kernel by its sum, over the last two dimensions."""
    return h / h.sum((-2, -1), keepdim=True).clamp_min(TINY)


def positions(size: int, like: Tensor) -> Tensor:
    """Returns the places of a row of pixels as seen from the middle one, with shape (size,)."""
    return torch.arange(_odd(size), device=like.device, dtype=like.dtype) - size // 2


def _odd(size: int) -> int:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"kernel size {size} has no middle pixel; use an odd size, as {size + 1}")
    return size
