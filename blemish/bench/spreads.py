"""How tables show one score of several seeds: its mean, and how far seeds differ."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

__all__ = ["spread", "statistics"]


def spread(values: Mapping[int, float], digits: int, *, sign: str = "") -> str:
    """Returns the mean with the lowest and the highest in brackets, or ``-`` where there is none.

    Arguments:
        values: The values by seed.
        digits: The digits after the point.
        sign: ``+`` for differences, which have a sign.
    """
    if not values:
        return "-"
    found = list(values.values())
    mean, low, high = (
        f"{value:{sign}.{digits}f}" for value in (fmean(found), min(found), max(found))
    )
    return mean if len(found) == 1 else f"{mean} [{low}, {high}]"


def statistics(values: Mapping[int, float]) -> dict[str, Any]:
    """Returns the same as JSON values.

    Arguments:
        values: The values by seed.
    """
    found = list(values.values())
    return {
        "seeds": {str(seed): value for seed, value in sorted(values.items())},
        "mean": fmean(found) if found else None,
        "lowest": min(found, default=None),
        "highest": max(found, default=None),
    }
