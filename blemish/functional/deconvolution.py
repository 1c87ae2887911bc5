r"""Deconvolution with a known kernel and a hyper-Laplacian prior.

Gradients of photographs have heavy tails, :math:`p(\nabla x) \propto e^{-|\nabla x|^\alpha}` with
:math:`\alpha` near 2/3. The most probable image behind :math:`y = k * x` and noise minimises

.. math:: \frac \lambda 2 \| k * x - y \|^2 + \sum_i |\nabla x|_i^\alpha, \tag{1}

the sum running over horizontal and vertical differences. With :math:`w` in the place of
:math:`\nabla x`, and half-quadratic coupling,

.. math:: \frac \lambda 2 \| k * x - y \|^2 + \frac \beta 2 \| \nabla x - w \|^2 + \sum_i |w|_i^\alpha, \tag{2}

is minimised in turns as :math:`\beta` grows from 1 to 256 by factors of :math:`2 \sqrt 2`:

* *w* for each pixel alone: with :math:`s = \beta^{-1 / (2 - \alpha)}`, the minimiser is :math:`s P(v / s)`, where
  :math:`P(t) = \arg\min_u |u|^\alpha + \frac 1 2 (u - t)^2` is 0 up to the threshold
  :math:`t_0 = u_0 + \alpha u_0^{\alpha - 1}`, :math:`u_0 = (2 - 2 \alpha)^{1 / (2 - \alpha)}`, and beyond it the larger root of
  :math:`u + \alpha u^{\alpha - 1} = t`, which Newton's method reaches from above;
* *x* by a division in the Fourier domain (3), where the image is periodic.

*Borders.* An image that goes on by reflection is one quadrant of an image of the period
:math:`2 (H - 1) \times 2 (W - 1)`, and its blur is that of the periodic image. Of this blur only the quadrant y
is known (all of it, if the kernel is symmetric). The rest starts as the reflection of y, and after each
turn becomes the blur of the reflected estimate. Padding by a few pixels instead costs up to 10 dB
(CIFAR-10, 9x9 kernels).

References:
    | Fast Image Deconvolution Using Hyper-Laplacian Priors (Krishnan & Fergus, 2009)
    | https://papers.nips.cc/paper/2009/hash/3dd48ab31d016ffcbf3314df2b3cb9ce-Abstract.html
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["hyper_laplacian", "shrink_hyper_laplacian", "solve_quadratic"]

Border = Literal["reflect", "circular"]

_BETAS = tuple(2.0 ** (1.5 * i) for i in range(6))
# The weights of the coupling, from 1 to 181: the paper stops at 256.

_NEWTON = 6


def hyper_laplacian(
    y: Tensor,
    kernel: Tensor,
    *,
    fidelity: float = 1e4,
    alpha: float = 2 / 3,
    padding: Border = "reflect",
) -> Tensor:
    r"""Restores images that were blurred by known kernels.

    All images are held at once, in about 150 times their size: cut large sets into batches.

    Arguments:
        y: Blurred images in [0, 1], with shape (B, C, H, W).
        kernel: One kernel for each image, or one for all, with shape (B, 1, k, k) or (1, 1, k, k); k is
            odd.
        fidelity: The weight :math:`\lambda` of the observation. The default is for images of 8 bits
            without other noise; noise of the level :math:`\sigma` asks for a smaller one.
        alpha: The power of the prior, in (0, 1).
        padding: What lay beyond the border when the image was blurred.

    Returns:
        The estimates, with the shape and dtype of y, not clamped.

    Raises:
        ValueError: If shapes do not fit each other, or an option is out of its range.
    """
    _check(y, kernel, fidelity, alpha, padding)
    wide = y if y.dtype == torch.float64 else y.float()
    narrow = kernel.to(wide.dtype)
    observed = _extend(wide, padding)
    x, height, width = observed, *y.shape[-2:]
    for beta in _BETAS:
        w = shrink_hyper_laplacian(_gradient(x), beta, alpha)
        x = solve_quadratic(observed, narrow, w, fidelity / beta)
        if padding == "reflect":
            x = _extend(x[..., :height, :width], padding)
            observed = _convolve(x, narrow)
            observed[..., :height, :width] = wide
    return x[..., :height, :width].to(y.dtype)


def shrink_hyper_laplacian(v: Tensor, beta: float, alpha: float = 2 / 3) -> Tensor:
    r"""Returns the minimisers of :math:`|w|^\alpha + \frac \beta 2 (w - v)^2`.

    Arguments:
        v: Any real numbers.
        beta: The weight of the distance, positive.
        alpha: The power, in (0, 1).

    Returns:
        The minimisers, with the shape of v: 0 for small numbers, and slightly less than v for large
        ones.
    """
    scale = beta ** (-1 / (2 - alpha))
    knee = (2 - 2 * alpha) ** (1 / (2 - alpha))
    threshold = knee + alpha * knee ** (alpha - 1)
    # Few gradients lie beyond the threshold: only these are solved for.
    large = v.abs() > threshold * scale
    t = v[large].abs() / scale
    u = t
    for _ in range(_NEWTON):
        force = alpha * u ** (alpha - 1)
        u = u - (u + force - t) / (1 + (alpha - 1) * force / u)
    return torch.zeros_like(v).masked_scatter(large, u * scale * v[large].sign())


def solve_quadratic(y: Tensor, kernel: Tensor, w: Tensor, ratio: float) -> Tensor:
    r"""Returns the minimisers of :math:`\frac r 2 \| k * x - y \|^2 + \frac 1 2 \| \nabla x - w \|^2` for periodic images.

    Arguments:
        y: Blurred images, with shape (B, C, H, W).
        kernel: Kernels, with shape (B, 1, k, k) or (1, 1, k, k).
        w: Targets of the horizontal and the vertical differences to the next pixel, with shape
            (2, B, C, H, W).
        ratio: The weight r, positive.

    Returns:
        The minimisers x, with shape (B, C, H, W).
    """
    h, wd = y.shape[-2:]
    across, down = _turns(wd // 2 + 1, wd, y) - 1, _turns(h, h, y)[:, None] - 1
    k = _spectrum(kernel, y)
    # Krishnan & Fergus (2009), Eq. 4: the normal equations, diagonal in the Fourier basis.
    numerator = ratio * k.conj() * torch.fft.rfft2(y)
    numerator = (
        numerator + across.conj() * torch.fft.rfft2(w[0]) + down.conj() * torch.fft.rfft2(w[1])
    )
    denominator = ratio * _power(k) + _power(across) + _power(down)
    tiny = torch.finfo(denominator.dtype).tiny
    x: Tensor = torch.fft.irfft2(numerator / denominator.clamp(min=tiny), s=(h, wd))
    return x


def _gradient(x: Tensor) -> Tensor:
    """Returns the differences to the next pixel to the right and below, with shape (2, ...)."""
    return torch.stack([x.roll(-1, -1) - x, x.roll(-1, -2) - x])


def _extend(x: Tensor, padding: Border) -> Tensor:
    """Returns one period of the image that goes on beyond its border."""
    if padding == "circular":
        return x
    x = torch.cat([x, x[..., 1:-1, :].flip(-2)], dim=-2)
    return torch.cat([x, x[..., 1:-1].flip(-1)], dim=-1)


def _convolve(x: Tensor, kernel: Tensor) -> Tensor:
    y: Tensor = torch.fft.irfft2(_spectrum(kernel, x) * torch.fft.rfft2(x), s=x.shape[-2:])
    return y


def _spectrum(kernel: Tensor, like: Tensor) -> Tensor:
    """Returns the spectrum of kernels around pixel 0 for periodic images, wrapped if they are larger."""
    h, w = like.shape[-2:]
    taps = torch.arange(kernel.shape[-1]) - kernel.shape[-1] // 2
    rows = torch.stack([_turns(h, h, like, int(-i)) for i in taps], dim=-1)
    columns = torch.stack([_turns(w // 2 + 1, w, like, int(-i)) for i in taps])
    return rows @ kernel.to(rows.dtype) @ columns


def _turns(count: int, period: int, like: Tensor, shift: int = 1) -> Tensor:
    r"""Returns the spectrum :math:`e^{2 \pi i f s / n}` of a shift, for the first frequencies f."""
    # Whole turns are taken out before the angle is rounded.
    turns = torch.arange(count, device=like.device) * shift % period
    angle = turns.double() * (2 * math.pi / period)
    spectrum = torch.polar(torch.ones_like(angle), angle)
    return spectrum.to(torch.complex128 if like.dtype == torch.float64 else torch.complex64)


def _power(z: Tensor) -> Tensor:
    return z.real.square() + z.imag.square()


def _check(y: Tensor, kernel: Tensor, fidelity: float, alpha: float, padding: str) -> None:
    if y.ndim != 4 or 0 in y.shape[1:] or not y.is_floating_point():
        raise ValueError(
            f"got {y.dtype} images with shape {tuple(y.shape)}; "
            "expected floats in [0, 1] with shape (B, C, H, W)"
        )
    size = kernel.shape[-1]
    if kernel.ndim != 4 or kernel.shape[1:] != (1, size, size) or len(kernel) not in (1, len(y)):
        raise ValueError(
            f"got kernels with shape {tuple(kernel.shape)} for {len(y)} images; "
            f"expected ({len(y)}, 1, k, k), one kernel for each image, or (1, 1, k, k)"
        )
    if size % 2 == 0:
        raise ValueError(f"a kernel of size {size} has no middle; use an odd size")
    if not fidelity > 0:
        raise ValueError(f"fidelity={fidelity} is not possible; give a positive weight")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha} is not possible; give a power between 0 and 1")
    if padding not in get_args(Border):
        raise ValueError(f"padding={padding!r} is not known; choose {', '.join(get_args(Border))}")
