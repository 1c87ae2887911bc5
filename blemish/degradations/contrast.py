r"""Contrast and exposure: :math:`y = \tfrac12 + a \, (x - \tfrac12) + b`.

The gain a is drawn log-uniformly, so that halving the contrast is as likely as doubling it; the offset b is uniform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..functional.random import Randomness, uniform
from ..types import Params, Shape
from .base import Differentiable

__all__ = ["Contrast", "ContrastParams"]


@dataclass(frozen=True)
class ContrastParams(Params):
    """How images are stretched about middle grey.

    Attributes:
        gain: The factors a, with shape (B,).
        offset: What is added, b on the [0, 1] scale, with shape (B,).
    """

    gain: Tensor
    offset: Tensor


class Contrast(Differentiable[ContrastParams]):
    """Stretches images about middle grey and shifts them; they may leave [0, 1].

    Arguments:
        gain: The range of the factor a, above 0.
        offset: The largest shift either way, on the [0, 1] scale.
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        gain: tuple[float, float] = (0.5, 1.6)
        offset: float = 0.0

        def build(self) -> Contrast:
            """Makes the degradation."""
            return Contrast(self.gain, self.offset)

    def __init__(self, gain: tuple[float, float] = (0.5, 1.6), offset: float = 0.0) -> None:
        super().__init__()
        if not 0 < gain[0] <= gain[1] < math.inf:
            raise ValueError(f"gain={gain} is no range; give (lowest, highest), both above 0")
        if not 0 <= offset < math.inf:
            raise ValueError(f"offset={offset}; give the largest shift either way, at least 0")
        self.config = Contrast.Config(gain, offset)

    def sample(self, shape: Shape, *, generator: Randomness) -> ContrastParams:
        """Draws a gain and an offset for each sample, each with shape (B,)."""
        low, high = self.config.gain
        exponent = uniform(shape[:1], math.log(low), math.log(high), generator)
        # In float64 on the CPU, where an exponential does not depend on the batch up to the bits that are kept.
        gain = exponent.cpu().double().exp().clamp(low, high).to(exponent)
        offset = uniform(shape[:1], -self.config.offset, self.config.offset, generator)
        return ContrastParams(gain, offset)

    def forward(self, x: Tensor, params: ContrastParams) -> Tensor:
        """Changes the contrast of images of shape (B, C, H, W)."""
        gain, offset = params.gain.view(-1, 1, 1, 1), params.offset.view(-1, 1, 1, 1)
        # Written so that the gain 1 changes nothing, not even the last bit.
        return x + (gain - 1) * (x - 0.5) + offset
