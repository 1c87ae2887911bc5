r"""The neural degradation: a network of random filters that is the identity, and small perturbations of it.

.. math:: F(x; \theta) = w_{L+1} * b_L \circ \dots \circ b_1 (x), \qquad
    b_l(f) = \max(w_l * f, 0) + a_l \min(w_l * f, 0) + n_l

with 3x3 filters :math:`w_l`, slopes :math:`a_l` and noise maps :math:`n_l` of each sample's own, and one aligned,
anti-aliased reduction by ``scale`` on the way. At :math:`\theta_{id}` the slopes are 1, the noise is 0, and the filters
are random matrices :math:`A_l` in their middle tap, the last one the pseudo-inverse of the others' product:

.. math:: w_l = A_l \delta, \qquad A_{L+1} = (A_L \cdots A_1)^+, \qquad F(x; \theta_{id}) = \mathrm{pool}(x)

exactly, because the reduction is the same for all channels. Small changes of :math:`\theta` blur, sharpen, shift,
colour, bend tones and add noise, whatever the random matrices make of them. How small is said by :class:`Radii`.

Where the paper is silent: there are no biases; borders are replicated; a slope is one number of a layer; the maps have
the image's C channels and enter along the directions that carry its colours, :math:`n_l = A_l \cdots A_1 e_l`, so that
a map e of any layer adds just e to an identity's output (before the reduction: pool(e)); a draw of matrices whose
product is ill-conditioned, which would magnify perturbations, is replaced by the next one. Images whose sides ``scale``
does not divide lose their last rows and columns.

References:
    | AND: Adversarial Neural Degradation for Learning Blind Image Super-Resolution (Luo et al., NeurIPS 2023),
      Sections 3.1 and 3.2
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..functional.each import conv2d_each
from ..functional.pool import SCALES, Pool, pool
from ..functional.random import Randomness, randn
from ..functional.resample import modcrop
from ..types import Params, Shape
from .base import Differentiable

__all__ = ["Groups", "NeuralDegradation", "NeuralParams", "Radii"]

TINY = 1e-30


@dataclass(frozen=True)
class NeuralParams(Params):
    """An identity, and how far each sample's network is from it.

    Attributes:
        centres: The matrices :math:`A_1, \\dots, A_{L+1}`, one after the other, with shape (B, M); of a network that is
            no identity all nine taps, with shape (B, 9 M).
        kernels: What is added to the filters, with shape (B, 9 M).
        slopes: What is added to the slopes 1, with shape (B, L).
        noise: The noise maps e, those before the reduction first, with shape (B, N).
    """

    centres: Tensor
    kernels: Tensor
    slopes: Tensor
    noise: Tensor

    def summary(self) -> dict[str, Tensor]:
        """Returns how far each sample is from the identity: norms, and of the noise the root mean square of a value."""
        N = max(1, self.noise.shape[1])
        return {
            "kernels": self.kernels.norm(dim=1),
            "slopes": self.slopes.norm(dim=1),
            "noise": self.noise.norm(dim=1) / math.sqrt(N),
        }


class Groups(NamedTuple):
    """Deviations of the three kinds of parameters, in units of their radii, each with shape (B, n)."""

    kernels: Tensor
    slopes: Tensor
    noise: Tensor


@dataclass(frozen=True, kw_only=True)
class Radii:
    """How far from the identity a perturbation may be: balls about it, in the L2 norm, of each sample's own.

    By default each kind of parameter has a ball of its own. The paper has one ball for all, in a norm that weighs
    them: ``Radii.paper()``. In that one, noise and slopes stay where they are, and its size multiplies the signal
    by up to 1e14.

    Attributes:
        kernel: The radius of all filters together.
        slope: The radius of all slopes together.
        noise: The radius of the noise, as the root mean square that it has if all of it is in one map of the
            reduced image's size; with ``joint`` the norm itself.
        joint: Whether one ball holds all three, each in units of its radius.
    """

    kernel: float = 0.05
    slope: float = 0.03
    noise: float = 0.01
    joint: bool = False

    def __post_init__(self) -> None:
        """Checks that they are lengths."""
        values = (self.kernel, self.slope, self.noise)
        if min(values) < 0 or not all(map(math.isfinite, values)):
            raise ValueError(f"radii={values} (kernel, slope, noise); give numbers of at least 0")

    @classmethod
    def paper(cls) -> Radii:
        """Returns the printed ball: radius 20, weights 1, 50 and 10 of filters, slopes and noise (Section 4.3)."""
        return cls(kernel=20.0, slope=20.0 / 50, noise=20.0 / 10, joint=True)

    def lengths(self, shape: Shape, scale: int) -> tuple[float, float, float]:
        """Returns the radii of the deviations of kernels, slopes and noise, as norms.

        Arguments:
            shape: The shape (B, C, H, W) of the images.
            scale: The factor by which they are reduced.
        """
        _, C, H, W = shape
        root = 1.0 if self.joint else math.sqrt(C * (H // scale) * (W // scale))
        return self.kernel, self.slope, self.noise * root

    def scaled(self, groups: Groups, length: float | Tensor) -> Groups:
        """Returns deviations of the same directions and of this length, in units of the radii."""
        norms = self._norms(groups)
        return Groups(
            *(g * (length / n.clamp_min(TINY)) for g, n in zip(groups, norms, strict=True))
        )

    def project(self, groups: Groups) -> Groups:
        """Returns the nearest deviations inside the ball or balls, in units of the radii."""
        norms = self._norms(groups)
        return Groups(*(g / n.clamp_min(1) for g, n in zip(groups, norms, strict=True)))

    def _norms(self, groups: Groups) -> Sequence[Tensor]:
        norms = [g.norm(dim=1, keepdim=True) for g in groups]
        if not self.joint:
            return norms
        return [torch.cat(norms, dim=1).norm(dim=1, keepdim=True)] * len(norms)


class NeuralDegradation(Differentiable[NeuralParams]):
    """Perturbs a random network that is the identity, or that makes images smaller and nothing else.

    :meth:`sample` draws a perturbation at random; :func:`~blemish.degradations.attack` searches the worst.

    Arguments:
        config: The network, and how far it is perturbed.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The network, and how far it is perturbed.

        Attributes:
            scale: The factor by which images shrink: 1, 2, 3 or 4.
            channels: The channels c between the first and the last filter.
            blocks: The numbers of blocks before and after the reduction.
            pool: The filter of the reduction.
            radii: How far perturbations may be from the identity.
            flat: Whether flat images stay as they are, but for slopes and noise: what is added to a filter sums to 0.
                Otherwise most of the worst perturbations is a shift of brightness, which nothing can undo.
            identity: Whether the unperturbed network is the identity. If not, all its filters are drawn in full, as in
                the paper's ablation, and images are beyond recognition.
            reach: How many times as far those of :meth:`sample` are: a random direction of so many dimensions changes
                an image much less than the worst one of the same length.
            condition: A draw whose matrices' product has a larger condition number is replaced.
            draws: The number of draws to choose from; where all are worse, the best of them is taken.
        """

        scale: int = 1
        channels: int = 64
        blocks: tuple[int, int] = (5, 5)
        pool: Pool = "binomial"
        radii: Radii = Radii()
        flat: bool = True
        identity: bool = True
        reach: float = 1.0
        condition: float = 10.0
        draws: int = 4

        def __post_init__(self) -> None:
            """Checks that there is a network to build."""
            if self.scale not in SCALES:
                raise ValueError(f"scale={self.scale}; give 1, 2, 3 or 4")
            if min(self.blocks) < 0 or self.channels < 3 or self.draws < 1:
                raise ValueError(
                    f"blocks={self.blocks}, channels={self.channels}, draws={self.draws}; give at least 0, 3 and 1"
                )

        def build(self) -> NeuralDegradation:
            """Makes the degradation; it has no weights."""
            return NeuralDegradation(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale

    @property
    def layers(self) -> int:
        """The number L of blocks."""
        return sum(self.config.blocks)

    def sample(self, shape: Shape, *, generator: Randomness) -> NeuralParams:
        """Draws identities, and perturbations of a fixed length in directions drawn uniformly."""
        identity = self.identity(shape, generator=generator)
        radii, sizes = self.config.radii, self.sizes(shape)
        kernels, slopes, noise = (randn((shape[0], n), generator) for n in sizes)
        direction = Groups(self._allowed(kernels), slopes, noise)
        return self.perturbed(identity, radii.scaled(direction, self.config.reach), shape)

    @torch.no_grad()
    def identity(self, shape: Shape, *, generator: Randomness) -> NeuralParams:
        """Draws networks that are the identity, without perturbation.

        Arguments:
            shape: The shape (B, C, H, W) of the images.
            generator: The source of randomness.
        """
        if not self.config.identity:
            return self._anything(shape, generator)
        B, C = shape[:2]
        draws, *inner = self.config.draws, *self._shapes(C)[:-1]
        drawn = randn((B, draws, sum(map(math.prod, inner))), generator)
        # In float64, which no autocast rounds; Apple's GPUs have none.
        wide = (drawn.cpu() if drawn.device.type == "mps" else drawn).double()
        # Xavier, with the fans of a single tap
        matrices = [A * math.sqrt(2 / sum(A.shape[-2:])) for A in _cut(wide, inner)]
        product = torch.eye(C, dtype=wide.dtype, device=wide.device).expand(B, draws, C, C)
        for A in matrices:
            product = A @ product
        gram = product.mT @ product
        chosen = _best(gram, self.config.condition)
        # M^+ = (M^T M)^-1 M^T
        last = torch.linalg.solve(_take(gram, chosen), _take(product, chosen).mT)
        flat = [_take(A, chosen).flatten(1) for A in matrices] + [last.flatten(1)]
        nothing = [drawn.new_zeros(B, n) for n in self.sizes(shape)]
        return NeuralParams(torch.cat(flat, dim=1).to(drawn), *nothing)

    def perturbed(self, identity: NeuralParams, groups: Groups, shape: Shape) -> NeuralParams:
        """Returns an identity with a perturbation.

        Arguments:
            identity: What :meth:`identity` drew.
            groups: The deviations of kernels, slopes and noise, in units of their radii, see :meth:`sizes`.
            shape: The shape (B, C, H, W) of the images.
        """
        kernels, slopes, noise = groups
        r_kernel, r_slope, r_noise = self.config.radii.lengths(shape, self.scale)
        return NeuralParams(
            identity.centres,
            r_kernel * self._allowed(kernels),
            r_slope * slopes,
            r_noise * noise,
        )

    def sizes(self, shape: Shape) -> tuple[int, int, int]:
        """Returns how many numbers each sample's deviations of kernels, slopes and noise have."""
        centres = sum(math.prod(pair) for pair in self._shapes(shape[1]))
        return 9 * centres, self.layers, sum(map(math.prod, self._maps(shape)))

    def forward(self, x: Tensor, params: NeuralParams) -> Tensor:
        """Applies each sample's network to images of shape (B, C, H, W)."""
        dtype = x.dtype
        x = modcrop(x, self.scale)
        B, C, H, W = x.shape
        shapes, maps = self._shapes(C), self._maps((B, C, H, W))
        taps = [(*pair, 3, 3) for pair in shapes]
        drawn = _cut(params.centres, shapes if self.config.identity else taps)
        if self.config.identity:
            drawn = [_in_the_middle(A) for A in drawn]
        filters = [a + b for a, b in zip(drawn, _cut(params.kernels, taps), strict=True)]
        noise = _cut(params.noise, maps)
        ways = accumulate((w[..., 1, 1] for w in drawn), lambda product, A: A @ product)
        for i, (way, e) in enumerate(zip(ways, noise, strict=False)):
            if i == self.config.blocks[0]:
                x = pool(x, self.scale, self.config.pool)
            x = conv2d_each(x, filters[i])
            # Not torch's leaky_relu, nor max(x, a x): slopes may exceed 1.
            x = torch.addcmul(x, params.slopes[:, i, None, None, None], x.clamp_max(0))
            x = x + (way @ e.flatten(2)).unflatten(2, e.shape[2:])
        if self.layers == self.config.blocks[0]:
            x = pool(x, self.scale, self.config.pool)
        # Images keep their precision where an autocast lowers that of networks.
        return conv2d_each(x, filters[-1]).to(dtype)

    def _anything(self, shape: Shape, generator: Randomness) -> NeuralParams:
        """Draws networks whose filters are Xavier's in all nine taps."""
        shapes = [(*pair, 3, 3) for pair in self._shapes(shape[1])]
        drawn = randn((shape[0], sum(map(math.prod, shapes))), generator)
        filters = (w * math.sqrt(2 / (9 * sum(w.shape[1:3]))) for w in _cut(drawn, shapes))
        taps = torch.cat([w.flatten(1) for w in filters], dim=1)
        return NeuralParams(taps, *(drawn.new_zeros(shape[0], n) for n in self.sizes(shape)))

    def _allowed(self, kernels: Tensor) -> Tensor:
        """Returns the part of the filters' deviations, with shape (B, 9 M), that may be."""
        if not self.config.flat:
            return kernels
        taps = kernels.reshape(len(kernels), -1, 9)
        return (taps - taps.mean(dim=2, keepdim=True)).flatten(1)

    def _shapes(self, image_channels: int) -> list[tuple[int, int]]:
        """Returns the output and input channels of each filter."""
        width = self.config.channels
        widths = [image_channels, *[width] * self.layers, image_channels]
        return [(o, i) for i, o in pairwise(widths)]

    def _maps(self, shape: Shape) -> list[tuple[int, int, int]]:
        """Returns the shape (C, h, w) of each block's noise map."""
        C, h, w = shape[1], shape[2] // self.scale, shape[3] // self.scale
        before, after = self.config.blocks
        return [(C, h * self.scale, w * self.scale)] * before + [(C, h, w)] * after


def _in_the_middle(matrix: Tensor) -> Tensor:
    """Returns filters (B, O, C, 3, 3) whose middle taps are the matrices (B, O, C), and whose others are 0."""
    return F.pad(matrix[..., None, None], (1, 1, 1, 1))


def _cut(flat: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Cuts flat vectors (..., n) into tensors of these shapes."""
    parts = torch.split(flat, [math.prod(shape) for shape in shapes], dim=-1)
    return [
        part.reshape(*flat.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)
    ]


def _best(gram: Tensor, condition: float) -> Tensor:
    """Returns the number of the first draw that is well-conditioned, else of the best one, with shape (B,)."""
    values = torch.linalg.eigvalsh(gram)
    ratio = values[..., -1] / values[..., 0].clamp_min(1e-300)
    # Eigenvalues of M^T M are squares.
    good = ratio <= condition**2
    return torch.where(good.any(dim=1), good.double().argmax(dim=1), ratio.argmin(dim=1))


def _take(draws: Tensor, chosen: Tensor) -> Tensor:
    """Returns each sample's chosen draw of (B, draws, ...)."""
    return draws[torch.arange(len(chosen), device=chosen.device), chosen]
