"""Systems: how parts are trained together, one file an idea."""

from __future__ import annotations

from .base import Group, Phase, Strength, System
from .robust_gan import RobustGAN

__all__ = ["KINDS", "Group", "Phase", "RobustGAN", "Strength", "System"]

KINDS: dict[str, type] = {"RobustGAN": RobustGAN.Config}
"""The systems that a configuration may name."""
