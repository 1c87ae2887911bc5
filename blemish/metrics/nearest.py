r"""The distance of each point of one set from the nearest point of another.

.. math:: d(a_i, B) = \min_j \lVert a_i - b_j \rVert_1

Its mean over the first set is small where the first set lies within the second, its mean over the second where the
second is covered by the first: a set that misses a kind has a small one and a large one. Of two finite samples of one
distribution neither is zero; how far the points of one sample are from their nearest *others* tells what to expect.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .sets import two_sets

__all__ = ["nearest_l1"]

_BLOCK = 512
"""Rows of the matrix of distances that are in memory at once."""


def nearest_l1(a: Tensor, b: Tensor | None = None) -> Tensor:
    """Returns the L1 distance of each point from the nearest one of another set.

    Arguments:
        a: Finite points, with shape (N, D).
        b: The other set, with shape (M, D); None means the same set without the point itself, N >= 2.

    Returns:
        The distances, with shape (N,).

    Raises:
        ValueError: If the sets do not fit together, are empty or not finite.
    """
    x, y = two_sets(a, a if b is None else b, least=2 if b is None else 1)
    found = []
    for start in range(0, len(x), _BLOCK):
        distances = torch.cdist(x[start : start + _BLOCK], y, p=1)
        if b is None:
            distances[:, start:].fill_diagonal_(torch.inf)
        found.append(distances.amin(dim=1))
    return torch.cat(found)
