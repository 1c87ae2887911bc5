r"""What a degradation is.

A degradation maps a clean image :math:`x` to an observed image :math:`y`. Drawing its parameters
and applying them are two calls:

.. code-block:: python

    params = d.sample((B, C, H, W), generator=g)   # every random number it will use, noise included
    y = d(x, params)                               # a function of x and params alone

What else it can do is said by its type, and the property tests key on these types:
:class:`Differentiable`, :class:`Linear`, :class:`Encoder`.
"""

from __future__ import annotations

import abc
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from ..functional.random import Randomness
from ..types import Params, Shape

__all__ = ["Degradation", "Differentiable", "Encoder", "Linear"]

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
