"""Numbers in documents: short statistics of values, and JSON without what JSON does not have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["finite", "statistics"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def statistics(values: Tensor) -> dict[str, float]:
    """Returns the mean, the standard deviation and quantiles of values, with shape (N,), N >= 1."""
    quantiles = values.quantile(torch.tensor(_QUANTILES))
    return {
        "mean": float(values.mean()),
        "std": float(values.std(correction=0)),
        **{f"q{100 * p:.0f}": float(q) for p, q in zip(_QUANTILES, quantiles, strict=True)},
    }


def finite(value: Any) -> Any:
    """Returns JSON values with numbers of six digits, and null for NaN and infinity."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
