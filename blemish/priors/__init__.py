"""Priors: latents to clean images."""

from __future__ import annotations

from ..networks import KINDS as NETWORKS
from .base import Prior, Space, sample_batches
from .gan import GANPrior
from .network import NetworkPrior
from .style import StylePrior

__all__ = [
    "KINDS",
    "PRIORS",
    "GANPrior",
    "NetworkPrior",
    "Prior",
    "Space",
    "StylePrior",
    "sample_batches",
]

PRIORS: dict[str, type] = {"GANPrior": GANPrior.Config, "StylePrior": StylePrior.Config}
"""The priors that a configuration may name."""

KINDS: dict[str, type] = {**NETWORKS, **PRIORS}
"""All classes that the configuration of a prior may contain."""
