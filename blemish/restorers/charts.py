r"""Coordinates in which style vectors are searched.

A mapping network ends in a leaky rectifier, which leaves style vectors with a bend at zero. Undone, their numbers are
nearly normal: with mean m and deviation s of the straightened vectors of many draws, PULSE searches

.. math:: w = \mathrm{lrelu}_{0.2}(s \, u + m), \qquad u \sim N(0, I),

so that u lies close to a sphere.

References:
    | PULSE: Self-Supervised Photo Upsampling via Latent Space Exploration of Generative Models
    | (Menon et al., 2020), Section 3.2, https://arxiv.org/abs/2003.03808
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

__all__ = ["Straightened"]

_SLOPE = 0.2


@dataclass(frozen=True)
class Straightened:
    """Coordinates u of style vectors w, about normal under the prior.

    Attributes:
        mean: The mean m, with shape (D,).
        deviation: The deviation s, with shape (D,).
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, w: Tensor) -> Straightened:
        """Returns the coordinates that suit draws w, with shape (n, D).

        Raises:
            ValueError: If there are fewer than two.
        """
        if len(w) < 2:
            raise ValueError(f"got {len(w)} style vectors; give at least 2, better 1000")
        straight = _straight(w)
        # A number that never changes must not be divided by zero.
        return cls(straight.mean(dim=0), straight.std(dim=0).clamp(min=1e-8))

    def styles(self, u: Tensor) -> Tensor:
        """Returns the style vectors of coordinates, both with shape (..., D)."""
        return F.leaky_relu(u * self.deviation + self.mean, _SLOPE)

    def coordinates(self, w: Tensor) -> Tensor:
        """Returns the coordinates of style vectors, both with shape (..., D)."""
        return (_straight(w) - self.mean) / self.deviation


def _straight(w: Tensor) -> Tensor:
    return F.leaky_relu(w, 1 / _SLOPE)
