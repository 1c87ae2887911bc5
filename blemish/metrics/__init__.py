"""Metrics: distances between sets of images, fidelity to a reference, descriptions of one image."""

from __future__ import annotations

from .dino import dinov2
from .features import Extractor, Features, effnet_lite0, extract, pixels, train_classifier
from .fidelity import psnr, ssim
from .frechet import Moments, frechet, frechet_distance
from .inception import inception
from .sharpness import sharpness
from .wasserstein import wasserstein1

__all__ = [
    "Extractor",
    "Features",
    "Moments",
    "dinov2",
    "effnet_lite0",
    "extract",
    "frechet",
    "frechet_distance",
    "inception",
    "pixels",
    "psnr",
    "sharpness",
    "ssim",
    "train_classifier",
    "wasserstein1",
]
