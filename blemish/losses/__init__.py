"""Losses: pure functions of tensors, and one in the maps of a frozen network."""

from __future__ import annotations

from .adversarial import discriminator_loss, generator_loss, r1_penalty
from .consistency import blur_weight, compression_weight, consistency_loss
from .diversity import diversity_loss
from .perceptual import PerceptualLoss, effnet_features, vgg19_features

__all__ = [
    "PerceptualLoss",
    "blur_weight",
    "compression_weight",
    "consistency_loss",
    "discriminator_loss",
    "diversity_loss",
    "effnet_features",
    "generator_loss",
    "r1_penalty",
    "vgg19_features",
]
