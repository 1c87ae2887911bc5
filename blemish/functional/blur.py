r"""Blur of each image of a batch by a kernel of its own.

An image :math:`x` with border :math:`P x` (padding by half the kernel's size :math:`k`) is
convolved with its kernel :math:`h`,

.. math:: y_{i} = \sum_{j} h_{j} \, (P x)_{i - j}, \qquad A = C_h P, \qquad A^* = P^* C_h^*,

where :math:`C_h` keeps the positions that the kernel covers fully, so that y has the size of x.
The kernel is the same for all channels. This is a convolution, not the cross-correlation that
``conv2d`` computes: an impulse is turned into the kernel, not its mirror image. The adjoint
:math:`A^*` correlates with the kernel and then folds the border back.

Both are computed directly (grouped ``conv2d``) or in the Fourier domain; the results agree to
rounding.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["MAX_SIZE", "Method", "Padding", "blur", "blur_adjoint"]

Padding = Literal["reflect", "replicate", "circular", "zeros"]
"""How an image goes on beyond its border."""

Method = Literal["auto", "fft", "direct"]
"""How a convolution is computed."""

MAX_SIZE = 31
"""The largest supported kernel size."""


def blur(
    x: Tensor, kernel: Tensor, *, padding: Padding = "reflect", method: Method = "auto"
) -> Tensor:
    """Convolves each image with its own kernel.

    Arguments:
        x: Images, with shape (B, C, H, W).
        kernel: One kernel for each image, with shape (B, 1, k, k); k is odd and at most 31. Nothing
            normalises it.
        padding: What lies beyond the border.
        method: ``fft``, ``direct``, or ``auto``: the faster one as measured by benchmarks/blur.py.

    Returns:
        The blurred images, with the shape and dtype of x.

    Raises:
        ValueError: If shapes do not fit each other, or the border does not fit the image.
    """
    _check(x, kernel, padding, method)
    margin = kernel.shape[-1] // 2
    wide, narrow = _widen(x), _widen(kernel, like=x)
    bordered = _pad(wide, margin, padding)
    if _choose(method, narrow) == "fft":
        return _convolve_fft(bordered, narrow).to(x.dtype)
    return _correlate(bordered, narrow.flip(-2, -1)).to(x.dtype)


def blur_adjoint(
    y: Tensor, kernel: Tensor, *, padding: Padding = "reflect", method: Method = "auto"
) -> Tensor:
    r"""Applies the adjoint of blur, :math:`\langle A x, y \rangle = \langle x, A^* y \rangle`.

    Arguments:
        y: Images, with shape (B, C, H, W).
        kernel: The kernels given to :func:`blur`, with shape (B, 1, k, k).
        padding: The padding given to :func:`blur`.
        method: As in :func:`blur`.

    Returns:
        Images with the shape and dtype of y.

    Raises:
        ValueError: As :func:`blur`.
    """
    _check(y, kernel, padding, method)
    size = kernel.shape[-1]
    wide, narrow = _widen(y), _widen(kernel, like=y)
    spread = F.pad(wide, [size - 1] * 4)
    fft = _choose(method, narrow) == "fft"
    bordered = _convolve_fft(spread, narrow.flip(-2, -1)) if fft else _correlate(spread, narrow)
    return _fold(bordered, size // 2, padding).to(y.dtype)


def _check(x: Tensor, kernel: Tensor, padding: str, method: str) -> None:
    if x.ndim != 4:
        raise ValueError(f"got images with shape {tuple(x.shape)}; expected (B, C, H, W)")
    if padding not in get_args(Padding):
        raise ValueError(f"padding={padding!r} is not known; choose {', '.join(get_args(Padding))}")
    if method not in get_args(Method):
        raise ValueError(f"method={method!r} is not known; choose {', '.join(get_args(Method))}")
    size = kernel.shape[-1]
    if kernel.ndim != 4 or kernel.shape[1:] != (1, size, size) or len(kernel) != len(x):
        raise ValueError(
            f"got kernels with shape {tuple(kernel.shape)} for {len(x)} images; "
            f"expected ({len(x)}, 1, k, k), one kernel for each image"
        )
    if size % 2 == 0 or size > MAX_SIZE:
        raise ValueError(f"kernel size {size} is not supported; use an odd size up to {MAX_SIZE}")
    # A reflection leaves out the border pixel itself, so it has one row less to give.
    room = {"reflect": min(x.shape[-2:]) - 1, "circular": min(x.shape[-2:])}.get(padding, size)
    if size // 2 > room:
        raise ValueError(
            f"a kernel of size {size} needs a border of {size // 2} pixels, but padding {padding!r} "
            f"of {x.shape[-2]}x{x.shape[-1]} images gives at most {room}; "
            f"use kernels up to size {2 * room + 1}, or padding='replicate'"
        )


def _choose(method: Method, kernel: Tensor) -> Method:
    if method != "auto":
        return method
    # Of a grouped convolution, only the gradient to the kernels is slow. Measured on a CPU with
    # benchmarks/blur.py: from size 7 the Fourier domain is up to 25 times faster there, without that
    # gradient from about size 15, and direct up to 6 times faster below.
    # In float64 convolutions are not optimised: at size 13 they take twenty times as long as the Fourier domain.
    slow = kernel.dtype == torch.float64 or (torch.is_grad_enabled() and kernel.requires_grad)
    limit = 5 if slow else 13
    return "fft" if kernel.shape[-1] > limit else "direct"


def _widen(x: Tensor, like: Tensor | None = None) -> Tensor:
    """Returns a float32 copy of a half-precision tensor, which Fourier transforms need."""
    dtype = (x if like is None else like).dtype
    return x.to(torch.float64 if dtype == torch.float64 else torch.float32)


def _correlate(x: Tensor, kernel: Tensor) -> Tensor:
    """Correlates ``(B, C, H, W)`` with ``(B, 1, k, k)`` to ``(B, C, H-k+1, W-k+1)``: no border."""
    b, c, h, w = x.shape
    groups = kernel.expand(-1, c, -1, -1).reshape(b * c, 1, *kernel.shape[-2:])
    y = F.conv2d(x.reshape(1, b * c, h, w), groups, groups=b * c)
    return y.reshape(b, c, *y.shape[-2:])


def _convolve_fft(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolves ``(B, C, H, W)`` with ``(B, 1, k, k)`` to ``(B, C, H-k+1, W-k+1)``: no border."""
    h, w = x.shape[-2:]
    # The circular convolution wraps around in the first k - 1 rows and columns only: cut away.
    size = (_smooth(h), _smooth(w))
    spectrum = torch.fft.rfft2(x, s=size) * torch.fft.rfft2(kernel, s=size)
    margin = kernel.shape[-1] - 1
    y: Tensor = torch.fft.irfft2(spectrum, s=size)
    return y[..., margin:h, margin:w]


def _smooth(n: int) -> int:
    """Returns the smallest even number >= n without prime factors above 5: fast to transform."""
    n += n % 2
    while True:
        rest = n
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return n
        n += 2


def _pad(x: Tensor, margin: int, padding: Padding) -> Tensor:
    if margin == 0:
        return x
    return F.pad(x, [margin] * 4, mode="constant" if padding == "zeros" else padding)


def _fold(x: Tensor, margin: int, padding: Padding) -> Tensor:
    """Applies the adjoint of _pad: adds the border to the pixels that it was copied from."""
    if margin == 0:
        return x
    for dim in (-2, -1):
        n = x.shape[dim] - 2 * margin
        before, inner = x.narrow(dim, 0, margin), x.narrow(dim, margin, n)
        after = x.narrow(dim, margin + n, margin)
        if padding == "reflect":
            inner = inner + _place(before.flip(dim), dim, 1, n)
            inner = inner + _place(after.flip(dim), dim, n - 1 - margin, n)
        elif padding == "replicate":
            inner = inner + _place(before.sum(dim, keepdim=True), dim, 0, n)
            inner = inner + _place(after.sum(dim, keepdim=True), dim, n - 1, n)
        elif padding == "circular":
            inner = inner + _place(before, dim, n - margin, n) + _place(after, dim, 0, n)
        x = inner
    return x


def _place(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    """Puts x at an offset into zeros of a given length along one of the last two dimensions."""
    gap = [start, length - start - x.shape[dim]]
    return F.pad(x, gap if dim == -1 else [0, 0, *gap])
