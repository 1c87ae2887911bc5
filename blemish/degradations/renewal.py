"""The same damage with another draw of its noise: what two photographs by one camera have in common."""

from __future__ import annotations

from typing import TypeVar

from ..types import Params

__all__ = ["renewed"]

P = TypeVar("P", bound=Params)

NOISE = ("eps", "eps_read", "eps_shot", "u")
"""The names of parameters that are draws of noise."""


def renewed(params: P, other: P) -> P:
    """Returns parameters with the noise of others.

    Arguments:
        params: Parameters.
        other: Parameters of the same kind and shapes, of which the draws of noise are taken.
    """
    fresh = other.tensors()
    return params.replace_tensors(
        {n: fresh[n] if n.rpartition(".")[2] in NOISE else t for n, t in params.tensors().items()}
    )
