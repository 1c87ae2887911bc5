"""Losses: pure functions of tensors."""

from __future__ import annotations

from .adversarial import discriminator_loss, generator_loss, r1_penalty
from .consistency import blur_weight, compression_weight, consistency_loss
from .diversity import diversity_loss

__all__ = [
    "blur_weight",
    "compression_weight",
    "consistency_loss",
    "discriminator_loss",
    "diversity_loss",
    "generator_loss",
    "r1_penalty",
]
