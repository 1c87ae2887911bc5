"""Metrics: distances between sets of images, fidelity to a reference, descriptions of one image."""

from __future__ import annotations

from .features import Extractor, Features, effnet_lite0, extract, pixels, train_classifier
from .fidelity import psnr, ssim
from .frechet import Moments, frechet, frechet_distance
from .named import FEATURES, named_features
from .sharpness import sharpness
from .wasserstein import wasserstein1

__all__ = [
    "FEATURES",
    "Extractor",
    "Features",
    "Moments",
    "effnet_lite0",
    "extract",
    "frechet",
    "frechet_distance",
    "named_features",
    "pixels",
    "psnr",
    "sharpness",
    "ssim",
    "train_classifier",
    "wasserstein1",
]
