"""Metrics: distances between sets of images, fidelity to a reference, descriptions of one image."""

from __future__ import annotations

from .features import Extractor, Features, effnet_lite0, extract, pixels, train_classifier
from .fidelity import ms_ssim, psnr, ssim
from .frechet import Moments, frechet, frechet_distance
from .kernel import SubsetScore, kid, kid_subsets
from .manifold import ManifoldScores, manifold
from .named import FEATURES, named_features
from .sharpness import sharpness
from .titles import fidelity_title, frechet_title, kernel_title, manifold_title
from .wasserstein import wasserstein1

__all__ = [
    "FEATURES",
    "Extractor",
    "Features",
    "ManifoldScores",
    "Moments",
    "SubsetScore",
    "effnet_lite0",
    "extract",
    "fidelity_title",
    "frechet",
    "frechet_distance",
    "frechet_title",
    "kernel_title",
    "kid",
    "kid_subsets",
    "manifold",
    "manifold_title",
    "ms_ssim",
    "named_features",
    "pixels",
    "psnr",
    "sharpness",
    "ssim",
    "train_classifier",
    "wasserstein1",
]
