"""Systems: how parts are trained together, one file an idea."""

from __future__ import annotations

from .andgan import ANDGAN
from .andnet import ANDNet
from .base import Clean, Group, ImageShape, Phase, Strength, System
from .cyclegan import CycleGAN
from .likelihood import LikelihoodLearning, LikelihoodPairs
from .robust_gan import RobustGAN
from .supervised import Supervised
from .synthetic import Synthetic
from .unir import UNIR
from .universal import Universal, UniversalPairs

__all__ = [
    "ANDGAN",
    "KINDS",
    "UNIR",
    "ANDNet",
    "Clean",
    "CycleGAN",
    "Group",
    "ImageShape",
    "LikelihoodLearning",
    "LikelihoodPairs",
    "Phase",
    "RobustGAN",
    "Strength",
    "Supervised",
    "Synthetic",
    "System",
    "Universal",
    "UniversalPairs",
]

KINDS: dict[str, type] = {
    "ANDGAN": ANDGAN.Config,
    "ANDNet": ANDNet.Config,
    "CycleGAN": CycleGAN.Config,
    "LikelihoodLearning": LikelihoodLearning.Config,
    "LikelihoodPairs": LikelihoodPairs.Config,
    "RobustGAN": RobustGAN.Config,
    "Supervised": Supervised.Config,
    "Synthetic": Synthetic.Config,
    "UNIR": UNIR.Config,
    "Universal": Universal.Config,
    "UniversalPairs": UniversalPairs.Config,
}
"""The systems that a configuration may name."""
