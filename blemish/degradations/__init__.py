"""Degradations: known, composed, named and learned."""

from __future__ import annotations

from ..networks import KINDS as NETWORKS
from .attack import STEP, STEPS, attack, deviation
from .base import (
    Degradation,
    Differentiable,
    Encoder,
    Likelihood,
    Linear,
    bits_per_dim,
    is_likelihood,
)
from .blur import Blur, BlurParams, GaussianBlur, GaussianBlurParams, Shake, ShakeParams
from .bsrgan import BSRGAN, BSRGANParams
from .codes import Code, pack_code, unpack_code
from .compose import Chain, ChainParams, Fixed, Identity, Partial, PartialParams, is_differentiable
from .contrast import Contrast, ContrastParams
from .estimated import Estimated
from .frozen import FrozenSource, batch_for, degrade_batch, freeze, to_uint8, untouched
from .imaging import Imaging, ImagingParams
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
    ShakeLaw,
    SincLaw,
)
from .learned import ConstantBlur, ConstantJPEG, LearnedBlur, LearnedJPEG, LearnedNoise
from .likelihood import LearnedLikelihood, LikelihoodParams
from .masks import DropParams, DroppedPixels, StrokeMask, StrokeParams
from .neural import NeuralDegradation, NeuralParams, Radii
from .noise import (
    DifferentiablePoissonNoise,
    GaussianNoise,
    PoissonNoise,
    PoissonNoiseParams,
    ReadShotNoise,
    ReadShotParams,
)
from .pipelines import PIPELINES, pipeline
from .plain import PLAIN, plain
from .posterise import Posterise
from .real_esrgan import RealESRGAN, RealESRGANParams
from .regions import REGIONS, Local, LocalParams
from .renewal import renewed
from .resize import Downsample, DownsampleParams
from .settings import SETTINGS, setting, simulator
from .tasks import TASKS, approximation, known_mask, redrawn, task
from .transform import Transform, as_transform
from .universal import Coded, UniversalDegradation, UniversalParams, mix

__all__ = [
    "BSRGAN",
    "DEGRADATIONS",
    "JPEG",
    "KINDS",
    "PIPELINES",
    "PLAIN",
    "REGIONS",
    "SETTINGS",
    "STEP",
    "STEPS",
    "TASKS",
    "AnisotropicGaussianLaw",
    "BSRGANParams",
    "BankLaw",
    "Blur",
    "BlurParams",
    "Chain",
    "ChainParams",
    "Code",
    "Coded",
    "ConstantBlur",
    "ConstantJPEG",
    "Contrast",
    "ContrastParams",
    "Degradation",
    "Differentiable",
    "DifferentiableJPEG",
    "DifferentiablePoissonNoise",
    "DiskLaw",
    "Downsample",
    "DownsampleParams",
    "DropParams",
    "DroppedPixels",
    "Encoder",
    "Estimated",
    "Fixed",
    "FrozenSource",
    "GaussianBlur",
    "GaussianBlurParams",
    "GaussianLaw",
    "GaussianNoise",
    "Identity",
    "Imaging",
    "ImagingParams",
    "JPEGParams",
    "KernelLaw",
    "LearnedBlur",
    "LearnedJPEG",
    "LearnedLikelihood",
    "LearnedNoise",
    "Likelihood",
    "LikelihoodParams",
    "Linear",
    "Local",
    "LocalParams",
    "MixtureLaw",
    "MotionLaw",
    "NeuralDegradation",
    "NeuralParams",
    "Partial",
    "PartialParams",
    "PoissonNoise",
    "PoissonNoiseParams",
    "Posterise",
    "QualityLaw",
    "Radii",
    "ReadShotLaw",
    "ReadShotNoise",
    "ReadShotParams",
    "RealESRGAN",
    "RealESRGANParams",
    "Shake",
    "ShakeLaw",
    "ShakeParams",
    "SincLaw",
    "StrokeMask",
    "StrokeParams",
    "Transform",
    "UniversalDegradation",
    "UniversalParams",
    "approximation",
    "as_transform",
    "attack",
    "batch_for",
    "bits_per_dim",
    "degrade_batch",
    "deviation",
    "freeze",
    "is_differentiable",
    "is_likelihood",
    "known_mask",
    "mix",
    "pack_code",
    "pipeline",
    "plain",
    "redrawn",
    "renewed",
    "setting",
    "simulator",
    "task",
    "to_uint8",
    "unpack_code",
    "untouched",
]

DEGRADATIONS: dict[str, type] = {
    "BSRGAN": BSRGAN.Config,
    "Blur": Blur.Config,
    "Chain": Chain.Config,
    "ConstantBlur": ConstantBlur.Config,
    "ConstantJPEG": ConstantJPEG.Config,
    "DifferentiableJPEG": DifferentiableJPEG.Config,
    "DifferentiablePoissonNoise": DifferentiablePoissonNoise.Config,
    "Contrast": Contrast.Config,
    "Downsample": Downsample.Config,
    "DroppedPixels": DroppedPixels.Config,
    "Estimated": Estimated.Config,
    "GaussianBlur": GaussianBlur.Config,
    "GaussianNoise": GaussianNoise.Config,
    "Identity": Identity.Config,
    "Imaging": Imaging.Config,
    "JPEG": JPEG.Config,
    "LearnedBlur": LearnedBlur.Config,
    "LearnedJPEG": LearnedJPEG.Config,
    "LearnedLikelihood": LearnedLikelihood.Config,
    "LearnedNoise": LearnedNoise.Config,
    "Local": Local.Config,
    "NeuralDegradation": NeuralDegradation.Config,
    "Partial": Partial.Config,
    "PoissonNoise": PoissonNoise.Config,
    "Posterise": Posterise.Config,
    "ReadShotNoise": ReadShotNoise.Config,
    "RealESRGAN": RealESRGAN.Config,
    "UniversalDegradation": UniversalDegradation.Config,
    "StrokeMask": StrokeMask.Config,
    "Shake": Shake.Config,
}
"""The degradations that a configuration may name."""

KINDS: dict[str, type] = {**NETWORKS, **LAWS, **DEGRADATIONS, "Radii": Radii}
"""All classes that the configuration of a degradation may contain."""
