"""Metrics: distances between sets of images, fidelity to a reference, descriptions of one image."""

from __future__ import annotations

from .dino import dinov2
from .dists import DISTSNetwork, dists, dists_network
from .features import Extractor, Features, effnet_lite0, extract, pixels, train_classifier
from .fidelity import psnr, ssim
from .frechet import Moments, frechet, frechet_distance
from .inception import inception
from .lpips import LPIPSNetwork, lpips, lpips_network
from .niqe import NIQEModel, niqe
from .sharpness import sharpness
from .wasserstein import wasserstein1

__all__ = [
    "DISTSNetwork",
    "Extractor",
    "Features",
    "LPIPSNetwork",
    "Moments",
    "NIQEModel",
    "dinov2",
    "dists",
    "dists_network",
    "effnet_lite0",
    "extract",
    "frechet",
    "frechet_distance",
    "inception",
    "lpips",
    "lpips_network",
    "niqe",
    "pixels",
    "psnr",
    "sharpness",
    "ssim",
    "train_classifier",
    "wasserstein1",
]
