r"""A density for what is to be rounded and coded: the price of each number in bits.

Of each channel c a distribution function is learned, a monotone network :math:`F_c : R \to (0, 1)`. A number that was
rounded, or to which noise :math:`u \sim U(-1/2, 1/2)` was added for rounding's sake, costs

.. math:: -\log_2 \big( F_c(\tilde e + \tfrac12) - F_c(\tilde e - \tfrac12) \big)

bits, and :math:`\sum_c` of these in expectation is an upper bound of the entropy of a code, by what its channels tell
about one another. Rounding is to whole numbers away from the median :math:`F_c^{-1}(1/2)`, so that what is always the
same costs nothing. The median is solved for where it is needed; no loss of its own has to find it.

F is a chain of layers :math:`x \mapsto g(H x + b)` with :math:`H = \mathrm{softplus}(\hat H) > 0` and
:math:`g(x) = x + \tanh(a) \tanh(x)`, and a sigmoid at its end.

References:
    | Variational Image Compression with a Scale Hyperprior (Ballé et al., 2018), Appendix 6.1
    | https://arxiv.org/abs/1802.01436
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .resnet import check_widths

__all__ = ["FactorisedDensity"]

LEAST = 1e-9
"""The least probability: no number costs more than 30 bits."""

BOUND = 2.0**16
"""Medians lie between minus this and this."""


class FactorisedDensity(nn.Module):
    """Learns the distribution of each channel by itself.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the network.

        Attributes:
            channels: The number of channels.
            filters: The widths of the hidden layers of F.
            scale: About the width of the distributions at the start, in units of the rounding.
        """

        channels: int = 256
        filters: tuple[int, ...] = (3, 3, 3)
        scale: float = 10.0

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            check_widths("channels, filters", (self.channels, *self.filters))
            if not self.scale > 0:
                raise ValueError(f"scale={self.scale} is no width; give a positive number")

        def build(self) -> FactorisedDensity:
            """Makes the density."""
            return FactorisedDensity(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        widths = (1, *config.filters, 1)
        slope = config.scale ** (-1 / (len(widths) - 1))
        self.matrices, self.biases = nn.ParameterList(), nn.ParameterList()
        self.gates = nn.ParameterList()
        for a, b in pairwise(widths):
            # softplus(h) = slope / b
            h = math.log(math.expm1(slope / b))
            self.matrices.append(torch.full((config.channels, b, a), h))
            self.biases.append(torch.empty(config.channels, b, 1).uniform_(-0.5, 0.5))
        self.gates.extend(torch.zeros(config.channels, b, 1) for b in config.filters)

    def logits(self, e: Tensor) -> Tensor:
        """Returns the logits of F.

        Arguments:
            e: Numbers, with shape (B, channels, ...).

        Returns:
            The logits, with the shape of e.
        """
        x = e.transpose(0, 1).flatten(1)[:, None]
        for H, b, a in zip(self.matrices, self.biases, (*self.gates, None), strict=True):
            x = F.softplus(H) @ x + b
            x = x if a is None else x + a.tanh() * x.tanh()
        x = x.reshape(e.shape[1], e.shape[0], *e.shape[2:])
        return x.transpose(0, 1)

    def probability(self, e: Tensor) -> Tensor:
        """Returns the probability of the interval of length 1 around numbers of shape (B, channels, ...)."""
        low, high = self.logits(e - 0.5), self.logits(e + 0.5)
        # On the side where both sigmoids are small, their difference does not cancel.
        side = -torch.sign(low + high).detach()
        side = torch.where(side == 0, 1, side)
        return (torch.sigmoid(side * high) - torch.sigmoid(side * low)).abs()

    def bits(self, e: Tensor) -> Tensor:
        """Returns what numbers of shape (B, channels, ...) cost, in bits, of the same shape."""
        return -_at_least(self.probability(e), LEAST).log2()

    @torch.no_grad()
    def medians(self) -> Tensor:
        """Returns the medians of the channels, with shape (channels,), to 2^-20 or to float32's precision."""
        low = self.biases[0].new_full((1, self.config.channels), -BOUND)
        high = -low
        for _ in range(37):
            middle = (low + high) / 2
            below = self.logits(middle) < 0
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        m: Tensor = (low + high) / 2
        return m[0]

    def symbols(self, e: Tensor) -> Tensor:
        """Returns how many whole steps numbers of shape (B, channels, ...) lie from the medians, rounded."""
        s: Tensor = (e - self._medians_for(e)).round().long()
        return s

    def numbers(self, symbols: Tensor) -> Tensor:
        """Returns the numbers that lie whole steps from the medians, with the shape of symbols."""
        e: Tensor = symbols + self._medians_for(symbols)
        return e

    def rounded(self, e: Tensor) -> Tensor:
        """Returns the nearest numbers that lie whole steps from the medians, with the shape of e."""
        return self.numbers(self.symbols(e))

    @torch.no_grad()
    def masses(self, reach: int) -> Tensor:
        """Returns the probabilities of the symbols from -reach to reach, with shape (channels, 2 reach + 1)."""
        steps = torch.arange(-reach, reach + 1, device=self.biases[0].device)
        symbols = steps[:, None].expand(-1, self.config.channels)
        p = self.probability(self.numbers(symbols))
        return p.transpose(0, 1)

    def _medians_for(self, e: Tensor) -> Tensor:
        return self.medians().view(1, -1, *[1] * (e.ndim - 2))


def _at_least(x: Tensor, bound: float) -> Tensor:
    """Returns the larger of numbers and a bound; the gradient goes through, or nothing would bring them above."""
    return x + (x.clamp_min(bound) - x).detach()
