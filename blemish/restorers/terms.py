r"""What a search through latents minimises: a sum of weighted terms, each a number for each image.

With the generator g, the latents w_1 ... w_k of an image, one for each styled layer, and the observed image y,

.. math::

    \lambda_2 \, \max\big( \overline{(D(g(w)) - y)^2}, \epsilon \big) + \lambda_\times \, \mathrm{cross}(w)
    + \lambda_m \, \mathrm{MMD}^2(w) + c \, \mathrm{bits}\big( y \mid g(w) \big).

=============  ============================================================================  ======================
name           what it asks                                                                  of
=============  ============================================================================  ======================
pixels         the image, damaged by a known D, has the pixels of y                          PULSE
cross          the styles of an image lie close to each other, in angles                     PULSE
mmd            the styles of an image look like as many draws of the prior                   Han et al., Eq. 7
bits           y is likely under a law of damage given the image, in bits for each number    Han et al., Eq. 3
=============  ============================================================================  ======================

The floor :math:`\epsilon` of the pixels is the distance at which PULSE calls an image a solution: below it, the other
terms alone act.

A prior without styles has one latent z of D numbers, and a discrepancy of one sample has its minimum at the prior's mode,
where no draw of it lies. But under N(0, I) any m of the numbers are a draw of N(0, I_m): z is cut into chunks, and these
are compared.

References:
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning
    | (Han, Duan, Tao & Lu, a preprint)
    | PULSE: Self-Supervised Photo Upsampling via Latent Space Exploration of Generative Models
    | (Menon et al., 2020), https://arxiv.org/abs/2003.03808
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ..degradations import Degradation, Likelihood, bits_per_dim
from ..functional.resample import area
from ..losses import MMD, geodesic_cross
from ..types import Params

__all__ = ["Bits", "Candidate", "Discrepancy", "Geocross", "Objective", "PixelDistance", "Term"]


@dataclass(frozen=True)
class Candidate:
    """What a search has come to.

    Attributes:
        images: Images as the prior makes them, with shape (B, C, H, W).
        styles: The style vectors of the layers, with shape (B, k, D); k = 1 where there is one latent.
        chunks: What looks like draws of the prior, with shape (B, n, m): the styles, or chunks of z.
    """

    images: Tensor
    styles: Tensor
    chunks: Tensor


class Term(Protocol):
    """One term of an objective."""

    @property
    def name(self) -> str:
        """The name by which a report lists it."""

    def __call__(self, candidate: Candidate) -> Tensor:
        """Returns the term without its weight, with shape (B,)."""


@dataclass(frozen=True)
class PixelDistance:
    """How far the pixels of the damaged image are from the observed ones.

    Attributes:
        observed: Observed images in [0, 1], with shape (B, C, H / scale, W / scale).
        degradation: The known damage D, differentiable.
        params: Its parameters for these images.
        norm: The mean of squares, or of amounts.
        floor: The least value.
    """

    observed: Tensor
    degradation: Degradation[Any]
    params: Params
    norm: Literal["L2", "L1"] = "L2"
    floor: float = 0.0
    name: str = field(default="pixels", init=False)

    def __call__(self, candidate: Candidate) -> Tensor:
        """Returns the distance, with shape (B,)."""
        rest = self.degradation(candidate.images, self.params) - self.observed
        amounts = rest.square() if self.norm == "L2" else rest.abs()
        return amounts.mean(dim=(1, 2, 3)).clamp(min=self.floor)


@dataclass(frozen=True)
class Geocross:
    """How far apart the styles of an image are; see :func:`~blemish.losses.geodesic_cross`."""

    name: str = field(default="cross", init=False)

    def __call__(self, candidate: Candidate) -> Tensor:
        """Returns the cross loss, with shape (B,)."""
        return geodesic_cross(candidate.styles)


@dataclass(frozen=True)
class Discrepancy:
    """How unlike draws of the prior the styles of an image are.

    Attributes:
        mmd: The squared maximum mean discrepancy to such draws.
    """

    mmd: MMD
    name: str = field(default="mmd", init=False)

    def __call__(self, candidate: Candidate) -> Tensor:
        """Returns the squared discrepancy, with shape (B,)."""
        found: Tensor = self.mmd(candidate.chunks)
        return found


@dataclass(frozen=True)
class Bits:
    """How unlikely the observed images are, in bits for each number.

    A law of damage that keeps sizes may know smaller images than the prior makes: they are brought to the size of what
    was observed by area averages, as the images that it was trained on were.

    Attributes:
        observed: Observed images as :meth:`~blemish.degradations.Likelihood.prepared` returns them.
        likelihood: The law.
    """

    observed: Tensor
    likelihood: Likelihood[Any]
    name: str = field(default="bits", init=False)

    def __call__(self, candidate: Candidate) -> Tensor:
        """Returns the bits, with shape (B,)."""
        images = candidate.images
        height, width = (side * self.likelihood.scale for side in self.observed.shape[-2:])
        if images.shape[-2:] != (height, width):
            images = area(images, (height, width))
        log_prob = self.likelihood.log_prob(self.observed, images)
        return bits_per_dim(log_prob, self.observed.shape)


@dataclass(frozen=True)
class Objective:
    """A sum of weighted terms.

    Attributes:
        terms: The terms.
        weights: Their weights.
    """

    terms: Sequence[Term]
    weights: Sequence[float]

    def __call__(self, candidate: Candidate) -> dict[str, Tensor]:
        """Returns the terms by name, without their weights, each with shape (B,); one of weight 0 has no gradient."""
        found = {}
        for term, weight in zip(self.terms, self.weights, strict=True):
            with torch.set_grad_enabled(bool(weight) and torch.is_grad_enabled()):
                found[term.name] = term(candidate)
        return found

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """Returns the sum of weighted terms, with shape (B,)."""
        weighted = [w * values[t.name] for t, w in zip(self.terms, self.weights, strict=True) if w]
        return torch.stack(weighted).sum(dim=0)
