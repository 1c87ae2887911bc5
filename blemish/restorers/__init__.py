"""Restorers: observed images to estimates of clean ones."""

from __future__ import annotations

from ..networks import KINDS as NETWORKS
from .base import Restorer
from .classical import Deblock, Deblur, Denoise, Keep, Sequence, Where, restorer_for
from .feed_forward import FeedForward

__all__ = [
    "KINDS",
    "RESTORERS",
    "Deblock",
    "Deblur",
    "Denoise",
    "FeedForward",
    "Keep",
    "Restorer",
    "Sequence",
    "Where",
    "restorer_for",
]

RESTORERS: dict[str, type] = {"FeedForward": FeedForward.Config}
"""The restorers that a configuration may name."""

KINDS: dict[str, type] = {**NETWORKS, **RESTORERS}
"""All configurations that may stand in one of a restorer."""
