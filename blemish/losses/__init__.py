"""Losses: pure functions of tensors, one in the maps of a frozen network, one from draws of a prior, a queue of codes."""

from __future__ import annotations

from .adversarial import discriminator_loss, generator_loss, r1_penalty
from .colour import colour_loss
from .consistency import blur_weight, compression_weight, consistency_loss
from .contrastive import Queue, info_nce, momentum_update
from .diversity import diversity_loss
from .geodesic import geodesic_cross
from .mmd import MMD
from .multiscale import multiscale_distance
from .perceptual import PerceptualLoss, effnet_features, vgg19_features
from .resemblance import resemblance_loss
from .residual import residual_length
from .similarity import Distance, clamped, texture_distance
from .wasserstein import gradient_penalty, wasserstein_critic_loss, wasserstein_generator_loss

__all__ = [
    "MMD",
    "Distance",
    "PerceptualLoss",
    "Queue",
    "blur_weight",
    "clamped",
    "colour_loss",
    "compression_weight",
    "consistency_loss",
    "discriminator_loss",
    "diversity_loss",
    "effnet_features",
    "generator_loss",
    "geodesic_cross",
    "gradient_penalty",
    "info_nce",
    "momentum_update",
    "multiscale_distance",
    "r1_penalty",
    "resemblance_loss",
    "residual_length",
    "texture_distance",
    "vgg19_features",
    "wasserstein_critic_loss",
    "wasserstein_generator_loss",
]
