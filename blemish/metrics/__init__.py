"""Metrics: distances between sets of images, fidelity to a reference, descriptions of one image."""

from __future__ import annotations

from .blur_extent import BlurExtent, blur_extent
from .dino import dinov2
from .dists import DISTSNetwork, dists, dists_network
from .features import Extractor, Features, effnet_lite0, extract, pixels, train_classifier
from .fidelity import ms_ssim, psnr, ssim
from .frechet import Moments, frechet, frechet_distance
from .inception import inception
from .jpeg_trace import Grid, JPEGTrace, jpeg_grid, jpeg_trace
from .kernel import SubsetScore, kernel_sum, kid, kid_subsets
from .lpips import LPIPSNetwork, lpips, lpips_network
from .manifold import ManifoldScores, manifold, squared_radii
from .named import FEATURES, named_features
from .nearest import nearest_l1
from .niqe import NIQEModel, niqe
from .noise_level import NoiseLaw, noise_law, noise_level
from .noise_spectrum import FREQUENCIES, noise_spectrum
from .perceptual import PerceptualNetwork, perceptual, perceptual_network
from .rankiqa import RankIQANetwork, RankIQAScores, rankiqa, rankiqa_network
from .sharpness import sharpness
from .titles import fidelity_title, frechet_title, kernel_title, manifold_title, rank_title
from .wasserstein import wasserstein1

__all__ = [
    "FEATURES",
    "FREQUENCIES",
    "BlurExtent",
    "DISTSNetwork",
    "Extractor",
    "Features",
    "Grid",
    "JPEGTrace",
    "LPIPSNetwork",
    "ManifoldScores",
    "Moments",
    "NIQEModel",
    "NoiseLaw",
    "PerceptualNetwork",
    "RankIQANetwork",
    "RankIQAScores",
    "SubsetScore",
    "blur_extent",
    "dinov2",
    "dists",
    "dists_network",
    "effnet_lite0",
    "extract",
    "fidelity_title",
    "frechet",
    "frechet_distance",
    "frechet_title",
    "inception",
    "jpeg_grid",
    "jpeg_trace",
    "kernel_sum",
    "kernel_title",
    "kid",
    "kid_subsets",
    "lpips",
    "lpips_network",
    "manifold",
    "manifold_title",
    "ms_ssim",
    "named_features",
    "nearest_l1",
    "niqe",
    "noise_law",
    "noise_level",
    "noise_spectrum",
    "perceptual",
    "perceptual_network",
    "pixels",
    "psnr",
    "rank_title",
    "rankiqa",
    "rankiqa_network",
    "sharpness",
    "squared_radii",
    "ssim",
    "train_classifier",
    "wasserstein1",
]
