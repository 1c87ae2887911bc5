"""Restorers: observed images to estimates of clean ones."""

from __future__ import annotations

from ..networks import KINDS as NETWORKS
from .base import Restorer
from .classical import Deblock, Deblur, Denoise, Keep, Sequence, Where, restorer_for
from .denoiser import Denoiser, Guide, Variance, from_diffusers, sample_chain
from .feed_forward import FeedForward
from .inversion import Inverted, Inverter, best_of, invert
from .latent_search import (
    MMD_SEARCH,
    PULSE_SEARCH,
    SEARCHES,
    Found,
    LatentSearch,
    best_found,
)
from .methods import METHODS, inverter_for, search_distance
from .phases import PULSE, RSG, UNIVERSAL, Free, Phase, phases_for, universal_phases
from .posterior import PosteriorSampler, Renew, drawn_anew, sample_posterior

__all__ = [
    "KINDS",
    "METHODS",
    "MMD_SEARCH",
    "PULSE",
    "PULSE_SEARCH",
    "RESTORERS",
    "RSG",
    "SEARCHES",
    "UNIVERSAL",
    "Deblock",
    "Deblur",
    "Denoise",
    "Denoiser",
    "FeedForward",
    "Found",
    "Free",
    "Guide",
    "Inverted",
    "Inverter",
    "Keep",
    "LatentSearch",
    "Phase",
    "PosteriorSampler",
    "Renew",
    "Restorer",
    "Sequence",
    "Variance",
    "Where",
    "best_found",
    "best_of",
    "drawn_anew",
    "from_diffusers",
    "invert",
    "inverter_for",
    "phases_for",
    "restorer_for",
    "sample_chain",
    "sample_posterior",
    "search_distance",
    "universal_phases",
]

RESTORERS: dict[str, type] = {"FeedForward": FeedForward.Config}
"""The restorers that a configuration may name."""

KINDS: dict[str, type] = {**NETWORKS, **RESTORERS}
"""All configurations that may stand in one of a restorer."""
