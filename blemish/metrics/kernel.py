r"""The kernel distance of two sets of features: the squared maximum mean discrepancy (MMD).

With the polynomial kernel :math:`k(x, y) = (x \cdot y / D + 1)^3` of features in D dimensions,

.. math:: \mathrm{MMD}^2 = \frac{1}{N (N - 1)} \sum_{i \ne j} k(x_i, x_j)
    + \frac{1}{M (M - 1)} \sum_{i \ne j} k(y_i, y_j) - \frac{2}{N M} \sum_{i, j} k(x_i, y_j)

is unbiased at every N and M, where the Fréchet distance is too large for small ones: the numbers of
sets of different sizes can be compared. Being unbiased it is negative about as often as positive
where both sets have one distribution; it is not clipped.

On the features of Inception this is the Kernel Inception Distance (KID); on others it is named by
:func:`~blemish.metrics.titles.kernel_title`. Published numbers are mostly means over random subsets
of 1000, which estimate the same quantity with more variance (:func:`kid_subsets`); their standard
deviation is that of one subset, not of the mean. Everything is computed in float64, in blocks, so
that the N x M kernels are never in memory.

References:
    | Demystifying MMD GANs (Bińkowski et al., 2018), Sec. 4
    | https://arxiv.org/abs/1801.01401
    | A Kernel Two-Sample Test (Gretton et al., 2012), Lemma 6
    | https://jmlr.org/papers/v13/gretton12a.html
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional.random import generator_for, rand
from .sets import one_set, two_sets

__all__ = ["SubsetScore", "check_subsets", "kernel_sum", "kid", "kid_subsets"]

_BLOCK = 2048
"""Rows and columns of a block of the kernel: 32 MiB in float64."""


@dataclass(frozen=True)
class SubsetScore:
    """The kernel distance over random subsets.

    Attributes:
        mean: The mean over the subsets.
        std: Their standard deviation (divided by the number of subsets, not by one less).
    """

    mean: float
    std: float


def kid(
    features_a: Tensor, features_b: Tensor, *, sums: tuple[Tensor, Tensor] | None = None
) -> float:
    """Returns the unbiased MMD² of all samples, which can be slightly negative.

    Arguments:
        features_a: Features of the first set, with shape (N, D), N >= 2.
        features_b: Features of the second, with shape (M, D), M >= 2.
        sums: The :func:`kernel_sum` of either set, where it is known; half of the work.

    Raises:
        ValueError: If the sets do not fit together, are too small or not finite.
    """
    x, y = two_sets(features_a, features_b, least=2)
    N, M = len(x), len(y)
    within_x, within_y = sums or (kernel_sum(x), kernel_sum(y))
    # Gretton et al. (2012), Lemma 6.
    within = within_x / (N * (N - 1)) + within_y / (M * (M - 1))
    return float(within - 2 * _sum_between(x, y) / (N * M))


def kernel_sum(features: Tensor) -> Tensor:
    """Returns the sum of the kernel over all pairs of two different features of one set.

    Arguments:
        features: Features, with shape (N, D).

    Returns:
        The sum, float64, a scalar.

    Raises:
        ValueError: If the shape is another, or a value is not finite.
    """
    x = one_set(features)
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    blocks = torch.split(x, _BLOCK)
    # The kernel is symmetric, so that blocks off the diagonal count twice.
    for i, rows in enumerate(blocks):
        total += _sum_cubes(_root(rows, rows).fill_diagonal_(0))
        for columns in blocks[i + 1 :]:
            total += 2 * _sum_cubes(_root(rows, columns))
    return total


def kid_subsets(
    features_a: Tensor,
    features_b: Tensor,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> SubsetScore:
    """Returns the mean and standard deviation of the unbiased MMD² over random subsets.

    Arguments:
        features_a: Features of the first set, with shape (N, D), N >= subset_size.
        features_b: Features of the second, with shape (M, D), M >= subset_size.
        subsets: The number of pairs of subsets, at least 1.
        subset_size: The features in a subset, drawn without replacement, at least 2.
        seed: Determines the subsets, on every device alike.

    Raises:
        ValueError: If a number is too small, or a set is smaller than a subset.
    """
    check_subsets(subsets, subset_size)
    x, y = two_sets(features_a, features_b, least=subset_size)
    generator = generator_for("kid", seed)
    values = torch.tensor(
        [
            kid(_subset(x, subset_size, generator), _subset(y, subset_size, generator))
            for _ in range(subsets)
        ],
        dtype=torch.float64,
    )
    return SubsetScore(float(values.mean()), float(values.std(correction=0)))


def check_subsets(subsets: int, subset_size: int) -> None:
    """Raises a ValueError unless there is a subset, of at least two features."""
    if subsets < 1:
        raise ValueError(f"subsets is {subsets}; it must be at least 1")
    if subset_size < 2:
        raise ValueError(f"subset_size is {subset_size}; it must be at least 2")


def _subset(features: Tensor, size: int, generator: torch.Generator) -> Tensor:
    rows = rand((len(features),), generator).argsort(stable=True)[:size]
    return features[rows.to(features.device)]


def _sum_between(x: Tensor, y: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for rows in torch.split(x, _BLOCK):
        for columns in torch.split(y, _BLOCK):
            total += _sum_cubes(_root(rows, columns))
    return total


def _root(x: Tensor, y: Tensor) -> Tensor:
    # x . y / D + 1, the kernel's cubic root.
    one = torch.ones((), dtype=torch.float64, device=x.device)
    return torch.addmm(one, x.double(), y.double().T, alpha=1 / x.shape[1])


def _sum_cubes(root: Tensor) -> Tensor:
    return torch.dot(root.square().flatten(), root.flatten())
