r"""Blur kernels of a shaking camera.

The camera moves along a random path :math:`x_0, \dots, x_{N-1}` in the plane (complex numbers) at
constant speed :math:`s = L / (N - 1)`, so that the whole path has length L. With unit velocities
:math:`u_t` (DeblurGAN, Kupyn et al., 2018, after Boracchi & Foi, 2012),

.. math::
    w_t = f_t u_{t-1} + e \, (g \, n_t - c \, x_{t-1}), \qquad u_t = w_t / |w_t|, \qquad
    x_t = x_{t-1} + s u_t,

where :math:`n_t` is a complex normal number (unit variance in each part), :math:`g \sim U(0, 10)` the
tremor, :math:`c \sim U(0, 0.7)` the pull back to the start and :math:`e` the *expl*, the overall
anxiety of the hand. With probability :math:`e \, b`, :math:`b \sim U(0, 0.2)`, a step is a big shake
that nearly turns the velocity round, :math:`f_t = 1 - 2 \exp(i \varphi)`,
:math:`\varphi \sim U(-\tfrac12, \tfrac12)`; otherwise :math:`f_t = 1`.

The kernel is the time spent at each pixel during the exposure, the first share T of the path: every
position is spread bilinearly over its four pixels,
:math:`h_{ij} = \sum_{t < T N} \Lambda(i - \operatorname{Im} x_t) \, \Lambda(j - \operatorname{Re} x_t)`
with :math:`\Lambda(d) = \max(0, 1 - |d|)`, and normalised to sum 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..types import Params
from .random import Randomness, rand, randn

__all__ = [
    "CENTRING",
    "EXPL",
    "Centring",
    "MotionDraws",
    "motion_draws",
    "motion_kernel",
    "motion_psf",
    "motion_trajectory",
]

Centring = Literal["full", "centroid", "box"]
"""What is put on the middle pixel.

``full``: the mean of the whole path, so that kernels of a short exposure lie off the centre;
``centroid``: the centroid of the exposed part;
``box``: the bounding box of the whole path, shifted in whole pixels and rounded up. This is what public
code for these kernels does, less the pixel in both axes by which it is off.
"""

CENTRING: Centring = "centroid"
"""The default centring, chosen with :data:`EXPL` by a calibration (docs/calibration.md)."""

EXPL: float | None = 0.005
"""The default anxiety; None draws 0.1 * U(0, 1) for each path."""

CHUNK = 1024
"""Paths drawn into kernels at a time, to bound the memory."""


@dataclass(frozen=True)
class MotionDraws(Params):
    """The random numbers of B paths with N positions.

    Attributes:
        scalars: Uniform numbers in [0, 1), with shape (B, 5): anxiety, pull, big shakes, tremor,
            first direction.
        normal: Standard normal numbers, with shape (B, N - 1, 2).
        uniform: Uniform numbers in [0, 1), with shape (B, N - 1); they decide on big shakes and,
            below the threshold, on their angles.
    """

    scalars: Tensor
    normal: Tensor
    uniform: Tensor


def motion_draws(n: int, generator: Randomness, steps: int = 2000) -> MotionDraws:
    """Draws the random numbers of n paths with the given number of positions."""
    return MotionDraws(
        scalars=rand((n, 5), generator),
        normal=randn((n, steps - 1, 2), generator),
        uniform=rand((n, steps - 1), generator),
    )


def motion_kernel(
    draws: MotionDraws,
    length: float,
    exposure: Tensor,
    size: int,
    *,
    expl: float | None = EXPL,
    centring: Centring = CENTRING,
) -> Tensor:
    """Turns random numbers into motion blur kernels.

    Arguments:
        draws: The random numbers of B paths.
        length: The length of the whole path in pixels.
        exposure: The share of the path that is exposed, in (0, 1], with shape (B,).
        size: The odd kernel size k.
        expl: The anxiety of the hand; None draws 0.1 * U(0, 1) for each path.
        centring: What is put on the middle pixel.

    Returns:
        Kernels that sum to 1, with shape (B, 1, k, k) and the dtype of the draws.
    """
    # torch rounds a batch's elements in different ways, by their place in it; over thousands of
    # steps that would be seen. In float64 a path is the same in any batch. Apple's GPUs have none.
    device = draws.scalars.device
    wide = torch.device("cpu") if device.type == "mps" else device
    kernels = [
        motion_psf(
            motion_trajectory(draws[i : i + CHUNK].to(wide, torch.float64), length, expl=expl),
            exposure[i : i + CHUNK].to(wide, torch.float64),
            size,
            centring=centring,
        )
        for i in range(0, len(draws), CHUNK)
    ]
    return torch.cat(kernels).to(draws.scalars)


@torch.no_grad()
def motion_trajectory(draws: MotionDraws, length: float, *, expl: float | None = EXPL) -> Tensor:
    """Walks the paths.

    Arguments:
        draws: The random numbers of B paths with N positions.
        length: The length of the whole path in pixels.
        expl: The anxiety of the hand; None draws 0.1 * U(0, 1) for each path.

    Returns:
        The positions in pixels (column + i row), starting at 0, complex with shape (B, N).
    """
    anxious, pull, big, tremor, direction = draws.scalars.unbind(-1)
    e = 0.1 * anxious if expl is None else torch.full_like(anxious, expl)
    step = length / draws.uniform.shape[1]
    # Time first, so that a step reads contiguous memory. Positions are counted in steps.
    uniform = draws.uniform.T.contiguous()
    normal = torch.view_as_complex(draws.normal.transpose(0, 1).contiguous())
    noise = normal * (e * 10 * tremor)
    back = (-step * e * 0.7 * pull).to(normal.dtype)
    turn = _turns(uniform, e * 0.2 * big)
    u = torch.polar(torch.ones_like(direction), 2 * math.pi * direction)
    x = torch.zeros_like(u)
    path = [x]
    for n, f in zip(noise.unbind(), turn.unbind(), strict=True):
        u = torch.addcmul(torch.addcmul(n, u, f), x, back).sgn()
        x = x + u
        path.append(x)
    return step * torch.stack(path, dim=-1)


def motion_psf(
    trajectory: Tensor, exposure: Tensor, size: int, *, centring: Centring = CENTRING
) -> Tensor:
    """Exposes paths.

    Arguments:
        trajectory: Positions in pixels, complex with shape (B, N).
        exposure: The share of the path that is exposed, in (0, 1], with shape (B,).
        size: The odd kernel size k. What of a path leaves the support is cut, and the rest is
            normalised.
        centring: What is put on the middle pixel.

    Returns:
        Kernels that sum to 1, with shape (B, 1, k, k).

    Raises:
        ValueError: If the size is even or the centring unknown.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"kernel size {size} has no middle pixel; use an odd size, as {size + 1}")
    if centring not in get_args(Centring):
        raise ValueError(
            f"centring={centring!r} is not known; choose {', '.join(get_args(Centring))}"
        )
    count = trajectory.shape[1]
    time = torch.arange(count, device=trajectory.device)
    weight = (exposure[:, None] * count - time).clamp(0, 1).to(trajectory.real.dtype)
    x = trajectory - _middle(trajectory, weight, size, centring)[:, None]
    pixel = torch.arange(size, device=trajectory.device) - size // 2
    # A bilinear splat of all positions as one product of (k, N) and (N, k) matrices: unlike a
    # scatter, it adds in a fixed order on a GPU too.
    rows = _hat(x.imag, pixel) * weight[:, None]
    kernel = rows @ _hat(x.real, pixel).mT
    total = kernel.sum((-2, -1), keepdim=True)
    # A path that lies wholly outside leaves no mass; it must not become NaN.
    identity = torch.outer(pixel == 0, pixel == 0).to(kernel.dtype)
    return torch.where(total > 0, kernel / total.clamp_min(1e-12), identity)[:, None]


def _turns(uniform: Tensor, probability: Tensor) -> Tensor:
    """Computes the factor of the velocity, with the shape (N - 1, B) of the uniform numbers."""
    shake = uniform < probability
    # Below its threshold the number is uniform again, so it also gives the angle.
    phi = torch.where(shake, uniform / probability.clamp_min(1e-12), 0.5) - 0.5
    turn = 1 - 2 * torch.polar(torch.ones_like(phi), phi)
    return torch.where(shake, turn, torch.ones_like(turn))


def _middle(x: Tensor, weight: Tensor, size: int, centring: Centring) -> Tensor:
    """Returns the position of each path that belongs on the middle pixel, complex, with shape (B,)."""
    if centring == "full":
        return x.mean(1)
    if centring == "centroid":
        return (x * weight).sum(1) / weight.sum(1)
    return torch.complex(_box(x.real, size), _box(x.imag, size))


def _box(x: Tensor, size: int) -> Tensor:
    """Returns the middle of the bounding interval, at a whole number of pixels from the start."""
    low, high = x.amin(1), x.amax(1)
    first = x[:, 0]
    origin = low + (first - low).frac()
    shift = ((size - 1 - (high - origin)) / 2).ceil()
    return origin - shift + size // 2


def _hat(x: Tensor, pixel: Tensor) -> Tensor:
    return (1 - (x[:, None] - pixel[:, None]).abs()).clamp_min(0)
