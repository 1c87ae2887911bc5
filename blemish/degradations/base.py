r"""What a degradation is.

A degradation maps a clean image :math:`x` to an observed image :math:`y`. Drawing its parameters
and applying them are two calls:

.. code-block:: python

    params = d.sample((B, C, H, W), generator=g)   # every random number it will use, noise included
    y = d(x, params)                               # a function of x and params alone

What else it can do is said by its type, and the property tests key on these types:
:class:`Differentiable`, :class:`Linear`, :class:`Encoder`, :class:`Likelihood`.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from ..functional.random import Randomness
from ..functional.stages import to_8_bits
from ..types import Params, Shape

__all__ = [
    "Degradation",
    "Differentiable",
    "Encoder",
    "Likelihood",
    "Linear",
    "bits_per_dim",
    "is_likelihood",
]

NEAR = 1e-3
"""How far from a whole number of 8-bit steps an observed value may be, in steps: what float32 loses is less."""

P = TypeVar("P", bound=Params)


class Degradation(nn.Module, abc.ABC, Generic[P]):
    """Maps clean images to observed ones.

    Attributes:
        scale: The factor by which images shrink; y has shape (B, C, H / scale, W / scale).
        needs_range: Whether the images it is applied to must lie in [0, 1]; a chain clamps them.
    """

    scale: int = 1
    needs_range: bool = False
    config: Any
    """A frozen dataclass whose ``build()`` makes this degradation again, without its weights."""

    @property
    def known(self) -> bool:
        """Whether it does the same to every image, as nothing that it does is drawn."""
        return False

    @abc.abstractmethod
    def sample(self, shape: Shape, *, generator: Randomness) -> P:
        """Draws parameters for a batch.

        Arguments:
            shape: The shape (B, C, H, W) of the images that will be degraded.
            generator: The source of randomness; the parameters lie on its device.
        """

    @abc.abstractmethod
    def forward(self, x: Tensor, params: P) -> Tensor:
        """Applies drawn parameters.

        Components do not clamp, except where clipping is part of the operator itself, as in a JPEG
        decoder.

        Arguments:
            x: Images in [0, 1], with shape (B, C, H, W).
            params: What :meth:`sample` drew for this shape.

        Returns:
            The observed images, with shape (B, C, H / scale, W / scale).
        """

    def __call__(self, x: Tensor, params: P) -> Tensor:
        """Applies drawn parameters; see :meth:`forward`."""
        y: Tensor = super().__call__(x, params)
        return y


class Differentiable(Degradation[P]):
    """A degradation with finite gradients to the image and to its continuous parameters."""


class Linear(Differentiable[P]):
    """A degradation that is linear in the image for given parameters."""

    @abc.abstractmethod
    def adjoint(self, y: Tensor, params: P) -> Tensor:
        r"""Applies the adjoint operator, :math:`\langle A x, y \rangle = \langle x, A^* y \rangle`.

        Arguments:
            y: Observed images, with shape (B, C, H / scale, W / scale).
            params: What :meth:`sample` drew.
        """


class Encoder(Degradation[P]):
    """A degradation whose parameters can be read off an image that it befell."""

    @abc.abstractmethod
    def encode(self, y: Tensor, *, generator: Randomness) -> P:
        """Reads parameters off images; what no image tells, such as its noise, is drawn.

        Arguments:
            y: Observed images in [0, 1], with shape (B, C, H, W).
            generator: The source of randomness.

        Returns:
            Parameters for images of this shape.
        """


class Likelihood(Degradation[P]):
    r"""A degradation that tells how likely an observed image is, :math:`\log p(y \mid x)`.

    Observed images are files' pixels, multiples of 1/255. All probabilities are those of such pixels, so that
    :func:`bits_per_dim` compares any two.
    """

    @property
    def tells(self) -> bool:
        """Whether :meth:`log_prob` needs no parameters."""
        return True

    @abc.abstractmethod
    def log_prob(self, y: Tensor, x: Tensor, params: P | None = None) -> Tensor:
        """Returns the logarithms of the probabilities of observed images in nats, with shape (B,).

        Gradients flow to x.

        Arguments:
            y: Observed images in [0, 1], as :meth:`prepared` returns them, with shape (B, C, H / scale, W / scale).
            x: Clean images in [0, 1], with shape (B, C, H, W).
            params: What else is known: drawn parameters, of which the noise itself is left out. None means that they
                are the same for all images, or that it averages over them.

        Raises:
            ValueError: If parameters are needed and not given; see :attr:`tells`.
        """

    def prepared(self, y: Tensor) -> Tensor:
        """Returns observed images as :meth:`log_prob` takes them: exactly on the grid of 256 values.

        Arguments:
            y: Images in [0, 1], with shape (B, C, H, W).

        Raises:
            ValueError: If a value is no multiple of 1/255.
        """
        rounded = to_8_bits(y)
        off = 255 * float((y - rounded).abs().max()) if y.numel() else 0.0
        if not off <= NEAR:
            raise ValueError(
                f"an observed value is {off:.3g} steps of 1/255 away from 8 bits, or outside [0, 1]; a likelihood of "
                "pixels needs images as files hold them: round them with to_8_bits"
            )
        return rounded


def bits_per_dim(log_prob: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns negative log-likelihoods in bits for each value of an image.

    Arguments:
        log_prob: Logarithms of probabilities in nats, with any shape.
        shape: The shape (..., C, H, W) of the observed images.
    """
    return -log_prob / (math.log(2) * math.prod(shape[-3:]))


def is_likelihood(degradation: nn.Module) -> bool:
    """Returns whether a degradation tells how likely an observed image is, without being given parameters."""
    return isinstance(degradation, Likelihood) and degradation.tells
