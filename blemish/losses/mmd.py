r"""The maximum mean discrepancy (MMD) of an image's styles from a prior: do they look like draws of it?

A generator with k layers takes k styles, and a search may move each of them. They stay likely under the prior if they
could have been drawn from it. With the kernel

.. math:: K(a, b) = e^{-\|a - b\|^p / \gamma}, \qquad p = 1, 2,

styles :math:`w_1, \dots, w_k` and n draws :math:`s_j` of the prior, which stay the same for the whole search,

.. math::
    \mathrm{MMD}^2 = \frac{1}{k^2} \sum_{i, j} K(w_i, w_j) + \frac{1}{n^2} \sum_{i, j} K(s_i, s_j)
    - \frac{2}{k n} \sum_{i, j} K(w_i, s_j)

It is 0 where both sets are equal, and needs no density: a mapping network's output has none that is known. A style that
were only made likely would go to the mode; the first sum, which falls as the styles part, keeps them as wide as
the prior. With k = 1 nothing does, and the loss seeks the mode.

*Two estimates.* The sums above have their diagonals, where K = 1 (the V-statistic): never negative, and 0 for equal
sets, but :math:`(1 - E K) / k + (1 - E K) / n` on average for k draws of the prior itself. Without them, and divided by
:math:`k (k - 1)` and :math:`n (n - 1)` (the U-statistic), it is 0 on average there, and negative about half of the time.
The styles' diagonal is a constant either way: what differs for a search is how strongly they part.

*Two powers.* The paper says Gaussian, which is p = 2, and prints p = 1. Where distances are far below :math:`\gamma`,
:math:`K \approx 1 - r / \gamma`, so that p = 1 is the energy distance divided by :math:`\gamma`: its value is small, and
so must its weight be large. Its :math:`\gamma = 512` belongs to one generator's 512 dimensions. The median of the distances,
to the same power, is of the right size everywhere; several multiples of it, whose kernels are averaged, see
differences of several sizes.

*Precision.* All distances are differences first. Since the three sums' constants cancel, :math:`K - 1` is added up in
place of K, which keeps digits where K is nearly 1. Where two styles are equal their distance has the gradient 0, a
subgradient for p = 1, so that a search may start with k times the mean.

*Memory.* Draws are taken chunk by chunk, forwards and backwards: linear in the number of styles, whatever n is.

References:
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning (Han et al., 2021), Eq. 7
    | https://arxiv.org/abs/2103.03010
    | A Kernel Two-Sample Test (Gretton et al., 2012), Eqs. 3 and 5
    | https://jmlr.org/papers/v13/gretton12a.html
    | Equivalence of distance-based and RKHS-based statistics in hypothesis testing
    | (Sejdinovic et al., 2013), https://arxiv.org/abs/1207.6076, the energy distance
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["MMD"]

_ENOUGH = 2048
"""The draws among which the median of distances is found: two million pairs."""


@final
class MMD(nn.Module):
    r"""The squared maximum mean discrepancy of the styles of each image from draws of a prior.

    Most callers want :meth:`of`, which finds :math:`\gamma`. The draws follow the module to a device, and are not in its
    state dictionary. Gradients reach the styles alone.

    Arguments:
        samples: Draws of the prior, with shape (n, d).
        gammas: The bandwidths :math:`\gamma` of the kernels that are averaged, in units of distances to the power p.
        power: The power p of the distance, 1 as in Eq. 7 of the paper, or 2 for the Gaussian.
        unbiased: Whether to leave the diagonals out.
        chunk: The number of draws in memory at once.

    Raises:
        ValueError: If the draws are no finite numbers with shape (n, d), are too few, or an option has no such value.
    """

    samples: Tensor

    def __init__(
        self,
        samples: Tensor,
        gammas: Sequence[float],
        *,
        power: Literal[1, 2] = 1,
        unbiased: bool = False,
        chunk: int = 4096,
    ) -> None:
        super().__init__()
        _check(samples, least=2 if unbiased else 1)
        if power not in (1, 2):
            raise ValueError(
                f"power={power!r} is not known; choose 1, as printed, or 2, the Gaussian"
            )
        if not gammas or not all(0 < gamma < math.inf for gamma in gammas):
            raise ValueError(f"gamma={tuple(gammas)}; give numbers above 0, at least one")
        if chunk < 1:
            raise ValueError(f"chunk={chunk}; take at least 1 draw at a time")
        self.register_buffer("samples", samples.detach().clone(), persistent=False)
        self.gammas = tuple(map(float, gammas))
        self.power = power
        self.unbiased = unbiased
        self.chunk = chunk
        self.within = self._within_samples()

    @classmethod
    def of(
        cls,
        samples: Tensor,
        *,
        power: Literal[1, 2] = 1,
        gamma: float | Literal["median"] | Sequence[float] = "median",
        unbiased: bool = False,
        chunk: int = 4096,
    ) -> MMD:
        r"""Returns the discrepancy from draws of a prior, with a bandwidth that may follow from them.

        Arguments:
            samples: Draws of the prior, with shape (n, d).
            power: The power p of the distance, 1 as in Eq. 7 of the paper, or 2 for the Gaussian.
            gamma: The bandwidth :math:`\gamma`; "median", for the median of :math:`\|s_i - s_j\|^p` over all pairs, of the
                first 2048 draws if there are more; or factors on this median, whose kernels are averaged.
            unbiased: Whether to leave the diagonals out (the U-statistic), which needs two styles for an image.
            chunk: The number of draws in memory at once.

        Raises:
            ValueError: If the draws are no finite numbers with shape (n, d), are too few or all equal where they shall
                tell a bandwidth, or an option has no such value.
        """
        if isinstance(gamma, str) and gamma != "median":
            raise ValueError(f"gamma={gamma!r} is not known; give 'median', a number, or factors")
        if isinstance(gamma, (int, float)):
            gammas: Sequence[float] = [gamma]
        else:
            factors = [1.0] if isinstance(gamma, str) else gamma
            gammas = [factor * _median(samples, power) for factor in factors]
        return cls(samples, gammas, power=power, unbiased=unbiased, chunk=chunk)

    def forward(self, w: Tensor) -> Tensor:
        """Returns the squared discrepancy of each image's styles, with shape (B,).

        Arguments:
            w: The styles of each image, with shape (B, k, d). Halves are compared in single precision.

        Raises:
            ValueError: If the shape does not fit the draws, or k = 1 without diagonals.
        """
        if w.ndim != 3 or w.shape[2] != self.samples.shape[1] or not w.shape[1]:
            raise ValueError(
                f"got styles of shape {tuple(w.shape)} and draws of {self.samples.shape[1]} numbers; "
                "give styles of shape (B, k, d), with the draws' d"
            )
        k = w.shape[1]
        if self.unbiased and k < 2:
            raise ValueError(
                "got one style for each image; without the diagonals (unbiased=True) two are needed"
            )
        w = w.to(torch.promote_types(w.dtype, torch.float32))
        # The diagonal adds nothing, since K - 1 = 0 there.
        pairs = k * (k - 1) if self.unbiased else k * k
        styles = self._excess(w, w) / pairs
        return styles + self.within - 2 * self._between(w) / (k * len(self.samples))

    def extra_repr(self) -> str:
        """Returns the options for the module's text."""
        n, d = self.samples.shape
        return f"{n} draws of {d} numbers, power={self.power}, gammas={self.gammas}, unbiased={self.unbiased}"

    def _between(self, w: Tensor) -> Tensor:
        """Returns the sum of K - 1 over all pairs of styles and draws, (B, k, d) to (B,)."""
        chunks = torch.split(self.samples.to(w), self.chunk)
        if len(chunks) == 1:
            return self._excess(w, chunks[0])
        # The kernels of a chunk are computed once more for the gradient, rather than kept beside all others.
        again = functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        sums = [again(self._excess, w, chunk) for chunk in chunks]
        return torch.stack(sums).sum(dim=0)

    def _excess(self, a: Tensor, b: Tensor) -> Tensor:
        """Returns the sum of K - 1, averaged over bandwidths, over all pairs of (..., k, d) and (..., n, d)."""
        r = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        r = r if self.power == 1 else r.square()
        kernels = [torch.expm1(-r / gamma).sum(dim=(-2, -1)) for gamma in self.gammas]
        return torch.stack(kernels).mean(dim=0)

    def _within_samples(self) -> float:
        """Returns the mean of K - 1 over pairs of draws, in float64."""
        n = len(self.samples)
        # Where nothing need be differentiated and float64 has the digits, the fast way to distances is as good; what
        # it leaves of a draw's distance from itself is known to be nothing. Centred, it subtracts smaller numbers.
        s = _wide(self.samples)
        s = s - s.mean(dim=0)
        total = torch.zeros((), dtype=torch.float64, device=s.device)
        for start in range(0, n, _ENOUGH):
            rows = s[start : start + _ENOUGH]
            r = torch.cdist(rows, s[start:])
            r[:, : len(rows)].fill_diagonal_(0)
            r = r if self.power == 1 else r.square_()
            for gamma in self.gammas:
                excess = torch.expm1(-r / gamma)
                # Pairs of different blocks stand for both of their orders.
                total += (excess.sum() + excess[:, len(rows) :].sum()) / len(self.gammas)
        return float(total) / (n * (n - 1) if self.unbiased else n * n)


def _check(samples: Tensor, least: int) -> None:
    if samples.ndim != 2 or len(samples) < least or not samples.shape[1]:
        raise ValueError(
            f"got draws of shape {tuple(samples.shape)}; give at least {least}, with shape (n, d)"
        )
    if not samples.isfinite().all():
        raise ValueError("the draws hold values that are no finite numbers")


def _median(samples: Tensor, power: int) -> float:
    """Returns the median of the distances to a power between different draws."""
    _check(samples, least=2)
    median = float(torch.pdist(_wide(samples[:_ENOUGH].detach())).median()) ** power
    if not median > 0:
        raise ValueError(
            "the median of the draws' distances is 0, so that they tell no bandwidth: most are equal; "
            "give gamma as a number, or draws that differ"
        )
    return median


def _wide(samples: Tensor) -> Tensor:
    """Returns draws in float64, on the CPU where their device has none."""
    return (samples.cpu() if samples.device.type == "mps" else samples).double()
