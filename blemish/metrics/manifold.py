r"""Precision, recall, density and coverage: the quality and the variety of generated images apart.

Every feature stands in the middle of a ball that reaches to its k-th nearest neighbour in its own
set (itself not counted). With the balls :math:`B(x_i)` of N real features :math:`x_i` and
:math:`B(y_j)` of M generated features :math:`y_j`,

.. math::
    \mathrm{precision} &= \frac{1}{M} \sum_j 1[y_j \in \cup_i B(x_i)], &
    \mathrm{recall} &= \frac{1}{N} \sum_i 1[x_i \in \cup_j B(y_j)], \\
    \mathrm{density} &= \frac{1}{k M} \sum_{i, j} 1[y_j \in B(x_i)], &
    \mathrm{coverage} &= \frac{1}{N} \sum_i 1[\exists j: y_j \in B(x_i)].

Precision and density ask whether generated images look real, recall and coverage whether all that is
real is generated. One real outlier has a large ball and spoils precision, one generated outlier
spoils recall; density and coverage use real balls alone, and count. For two samples of one
distribution the expected density is 1 and the expected coverage
:math:`1 - \prod_{t=1}^{k} (N - t) / (N + M - t)`, near :math:`1 - 2^{-k}` for equal sizes. All four
depend on N, M and k: compare only numbers with the same ones.

Balls are closed, as in Kynkäänniemi et al.; a generated copy of a neighbour counts, so that a set
has density (k + 1) / k with itself. Distances are computed from float64 matrix products of centred
features; radii are rounded up and distances down by what those products may be wrong, so that a
point on the surface of a ball is inside. In float32 that would be as much as the balls of a mode into
which a generator has collapsed.

References:
    | Improved Precision and Recall Metric for Assessing Generative Models
      (Kynkäänniemi et al., 2019), Eq. 1 and 2
    | https://arxiv.org/abs/1904.06991
    | Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020),
      Sec. 3
    | https://arxiv.org/abs/2002.09797
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .sets import one_set, two_sets

__all__ = ["ManifoldScores", "check_k", "manifold", "squared_radii"]

_BLOCK = 2048
"""Rows and columns of a block of distances: 32 MiB in float64."""


@dataclass(frozen=True)
class ManifoldScores:
    """What balls around k nearest neighbours say of generated images.

    Attributes:
        precision: The share of generated images within the real manifold, in [0, 1].
        recall: The share of real images within the generated manifold, in [0, 1].
        density: The real balls that hold a generated image, on average, over k; 1 is expected of
            real images, and it can be larger.
        coverage: The share of real balls that hold a generated image, in [0, 1].
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(
    features_real: Tensor,
    features_fake: Tensor,
    k: int = 5,
    *,
    radii: tuple[Tensor, Tensor] | None = None,
) -> ManifoldScores:
    """Returns precision, recall, density and coverage of generated features.

    Arguments:
        features_real: Features of real images, with shape (N, D), N > k.
        features_fake: Features of generated images, with shape (M, D), M > k.
        k: The neighbour that a ball reaches to; 5 as Naeem et al. (Kynkäänniemi et al. used 3).
        radii: The :func:`squared_radii` of either set for this k, where they are known; half of the
            work.

    Raises:
        ValueError: If k is not positive, or the sets do not fit together or have fewer features.
    """
    check_k(k)
    x, y = two_sets(features_real, features_fake, least=k + 1)
    r_real, r_fake = radii or (squared_radii(x, k), squared_radii(y, k))
    # Distances do not change; a common offset would only cost digits.
    centre = x.double().mean(dim=0)
    real, fake = _Points(x, centre), _Points(y, centre)
    holding = torch.zeros(len(y), dtype=torch.long, device=x.device)
    covered, recalled = torch.zeros(2, len(x), dtype=torch.bool, device=x.device)
    for i, j in itertools.product(real.blocks, fake.blocks):
        nearest = _squared_distances(real, fake, i, j, slack=-_slack(x.shape[1]))
        # Kynkäänniemi et al. (2019), Eq. 1, for either set; Naeem et al. (2020) count the balls as well.
        in_real = nearest <= r_real[i, None]
        holding[j] += in_real.sum(dim=0)
        covered[i] |= in_real.any(dim=1)
        recalled[i] |= (nearest <= r_fake[j]).any(dim=1)
    return ManifoldScores(
        precision=float((holding > 0).double().mean()),
        recall=float(recalled.double().mean()),
        density=float(holding.double().mean() / k),
        coverage=float(covered.double().mean()),
    )


def squared_radii(features: Tensor, k: int = 5) -> Tensor:
    """Returns the squared distance of each feature to its k-th nearest neighbour, rounded up.

    Arguments:
        features: Features of one set, with shape (N, D), N > k.
        k: The neighbour.

    Returns:
        Squared distances, float64, with shape (N,).

    Raises:
        ValueError: If k is not positive, or there are not more than k finite features.
    """
    check_k(k)
    x = one_set(features)
    if len(x) <= k:
        raise ValueError(f"got {len(x)} features; at least {k + 1} have {k} neighbours each")
    points = _Points(x, x.double().mean(dim=0))
    slack = _slack(x.shape[1])
    nearest = torch.full((len(x), k), torch.inf, dtype=torch.float64, device=x.device)
    for i, j in itertools.combinations_with_replacement(points.blocks, 2):
        distances = _squared_distances(points, points, i, j, slack=slack)
        if i == j:
            # Itself is no neighbour; its copies are.
            distances.fill_diagonal_(torch.inf)
        else:
            nearest[j] = _smallest(nearest[j], distances.T)
        nearest[i] = _smallest(nearest[i], distances)
    return nearest[:, -1].contiguous()


def check_k(k: int) -> None:
    """Raises a ValueError unless the number of neighbours is positive."""
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")


class _Points:
    # A set of features, from which blocks are cut and centred in float64.
    def __init__(self, features: Tensor, centre: Tensor) -> None:
        self.features = features
        self.centre = centre
        N = len(features)
        self.blocks = [slice(start, min(start + _BLOCK, N)) for start in range(0, N, _BLOCK)]

    def __getitem__(self, rows: slice) -> Tensor:
        return self.features[rows].double() - self.centre


def _smallest(known: Tensor, distances: Tensor) -> Tensor:
    # The k smallest of each row, in order, of known (B, k) and new distances.
    k = known.shape[1]
    new = distances.topk(min(k, distances.shape[1]), dim=1, largest=False).values
    return torch.cat([known, new], dim=1).topk(k, dim=1, largest=False).values


def _squared_distances(a: _Points, b: _Points, i: slice, j: slice, slack: float) -> Tensor:
    # |x|^2 + |y|^2 - 2 x . y; with the norms grown by the slack it is an upper bound, shrunk a lower one.
    x, y = a[i], b[j]
    norms = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    return torch.addmm(norms, x, y.T, beta=1 + slack, alpha=-2)


def _slack(dimension: int) -> float:
    # Above the rounding of a sum of D products, which grows with the root of D, in units of the
    # squared norms. More would count what lies outside of the small balls of a collapsed mode.
    return (math.sqrt(dimension) + 4) * torch.finfo(torch.float64).eps
