r"""The 1-Wasserstein distance between samples of two real random variables.

.. math:: W_1 = \int |F_a(t) - F_b(t)| \, dt

with the empirical distribution functions :math:`F_a` and :math:`F_b`. It is in the units of the
values: pixels for the radii of learned and true kernels. The sizes of the samples may differ.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["wasserstein1"]


def wasserstein1(a: Tensor, b: Tensor) -> float:
    """Returns the distance of two samples, in the units of their values.

    Arguments:
        a: Finite values, with shape (N,), N >= 1.
        b: Finite values, with shape (M,), M >= 1.

    Raises:
        ValueError: If a sample is empty, has another rank or holds a value that is not finite.
    """
    a, b = _sorted("a", a), _sorted("b", b)
    t = torch.cat([a, b]).sort().values
    # Both distribution functions are constant between neighbouring values.
    F_a, F_b = (
        torch.searchsorted(values, t[:-1], right=True).double() / len(values) for values in (a, b)
    )
    return float(((F_a - F_b).abs() * t.diff()).sum())


def _sorted(name: str, values: Tensor) -> Tensor:
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}; give at least one value, with shape (N,)"
        )
    if not values.isfinite().all():
        raise ValueError(f"{name} holds values that are not finite; remove them first")
    return values.detach().to("cpu", torch.float64).sort().values
