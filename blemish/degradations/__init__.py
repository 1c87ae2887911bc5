"""Degradations: known, composed, named and learned."""

from __future__ import annotations

from ..networks import KINDS as NETWORKS
from .attack import STEP, STEPS, attack, deviation
from .base import Degradation, Differentiable, Linear
from .blur import Blur, BlurParams
from .bsrgan import BSRGAN, BSRGANParams
from .compose import Chain, ChainParams, Fixed, Identity, Partial, PartialParams, is_differentiable
from .estimated import Estimated
from .frozen import FrozenSource, batch_for, degrade_batch, freeze, to_uint8, untouched
from .jpeg import JPEG, DifferentiableJPEG, JPEGParams
from .laws import KINDS as LAWS
from .laws import (
    AnisotropicGaussianLaw,
    BankLaw,
    DiskLaw,
    GaussianLaw,
    KernelLaw,
    MixtureLaw,
    MotionLaw,
    QualityLaw,
    ReadShotLaw,
    SincLaw,
)
from .learned import ConstantBlur, ConstantJPEG, LearnedBlur, LearnedJPEG, LearnedNoise
from .neural import NeuralDegradation, NeuralParams, Radii
from .noise import GaussianNoise, PoissonNoise, ReadShotNoise, ReadShotParams
from .pipelines import PIPELINES, pipeline
from .posterise import Posterise
from .real_esrgan import RealESRGAN, RealESRGANParams
from .resize import Downsample, DownsampleParams
from .settings import SETTINGS, setting, simulator
from .transform import Transform, as_transform

__all__ = [
    "BSRGAN",
    "DEGRADATIONS",
    "JPEG",
    "KINDS",
    "PIPELINES",
    "SETTINGS",
    "STEP",
    "STEPS",
    "AnisotropicGaussianLaw",
    "BSRGANParams",
    "BankLaw",
    "Blur",
    "BlurParams",
    "Chain",
    "ChainParams",
    "ConstantBlur",
    "ConstantJPEG",
    "Degradation",
    "Differentiable",
    "DifferentiableJPEG",
    "DiskLaw",
    "Downsample",
    "DownsampleParams",
    "Estimated",
    "Fixed",
    "FrozenSource",
    "GaussianLaw",
    "GaussianNoise",
    "Identity",
    "JPEGParams",
    "KernelLaw",
    "LearnedBlur",
    "LearnedJPEG",
    "LearnedNoise",
    "Linear",
    "MixtureLaw",
    "MotionLaw",
    "NeuralDegradation",
    "NeuralParams",
    "Partial",
    "PartialParams",
    "PoissonNoise",
    "Posterise",
    "QualityLaw",
    "Radii",
    "ReadShotLaw",
    "ReadShotNoise",
    "ReadShotParams",
    "RealESRGAN",
    "RealESRGANParams",
    "SincLaw",
    "Transform",
    "as_transform",
    "attack",
    "batch_for",
    "degrade_batch",
    "deviation",
    "freeze",
    "is_differentiable",
    "pipeline",
    "setting",
    "simulator",
    "to_uint8",
    "untouched",
]

DEGRADATIONS: dict[str, type] = {
    "BSRGAN": BSRGAN.Config,
    "Blur": Blur.Config,
    "Chain": Chain.Config,
    "ConstantBlur": ConstantBlur.Config,
    "ConstantJPEG": ConstantJPEG.Config,
    "DifferentiableJPEG": DifferentiableJPEG.Config,
    "Downsample": Downsample.Config,
    "Estimated": Estimated.Config,
    "GaussianNoise": GaussianNoise.Config,
    "Identity": Identity.Config,
    "JPEG": JPEG.Config,
    "LearnedBlur": LearnedBlur.Config,
    "LearnedJPEG": LearnedJPEG.Config,
    "LearnedNoise": LearnedNoise.Config,
    "NeuralDegradation": NeuralDegradation.Config,
    "Partial": Partial.Config,
    "PoissonNoise": PoissonNoise.Config,
    "Posterise": Posterise.Config,
    "ReadShotNoise": ReadShotNoise.Config,
    "RealESRGAN": RealESRGAN.Config,
}
"""The degradations that a configuration may name."""

KINDS: dict[str, type] = {**NETWORKS, **LAWS, **DEGRADATIONS, "Radii": Radii}
"""All classes that the configuration of a degradation may contain."""
