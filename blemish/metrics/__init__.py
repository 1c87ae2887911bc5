"""Metrics: distances between sets of images, fidelity to a reference, descriptions of one image."""

from __future__ import annotations

from .blur_extent import BlurExtent, blur_extent
from .features import Extractor, Features, effnet_lite0, extract, pixels, train_classifier
from .fidelity import psnr, ssim
from .frechet import Moments, frechet, frechet_distance
from .jpeg_trace import Grid, JPEGTrace, jpeg_grid, jpeg_trace
from .noise_level import NoiseLaw, noise_law, noise_level
from .sharpness import sharpness
from .wasserstein import wasserstein1

__all__ = [
    "BlurExtent",
    "Extractor",
    "Features",
    "Grid",
    "JPEGTrace",
    "Moments",
    "NoiseLaw",
    "blur_extent",
    "effnet_lite0",
    "extract",
    "frechet",
    "frechet_distance",
    "jpeg_grid",
    "jpeg_trace",
    "noise_law",
    "noise_level",
    "pixels",
    "psnr",
    "sharpness",
    "ssim",
    "train_classifier",
    "wasserstein1",
]
