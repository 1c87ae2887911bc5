"""Priors: latents to clean images."""

from __future__ import annotations

from ..networks import KINDS as NETWORKS
from .base import Prior, sample_batches
from .gan import GANPrior

__all__ = ["KINDS", "PRIORS", "GANPrior", "Prior", "sample_batches"]

PRIORS: dict[str, type] = {"GANPrior": GANPrior.Config}
"""The priors that a configuration may name."""

KINDS: dict[str, type] = {**NETWORKS, **PRIORS}
"""All classes that the configuration of a prior may contain."""
