"""The honest names of scores, as they are written beside a number.

"FID" and "KID" are numbers on the features of one network, Inception-v3 at 299 pixels. The same
formula on other features is another number, on another scale: it is called by its formula, with its
features beside it. Fidelity is named with its protocol: PSNR on Y is above PSNR on RGB, by 1.3 dB
where the error is alike in all channels.
"""

from __future__ import annotations

__all__ = [
    "INCEPTION",
    "fidelity_title",
    "frechet_title",
    "kernel_title",
    "manifold_title",
    "rank_title",
]

INCEPTION = "inception@299"
"""The name of the features on which the published scores are defined."""


def frechet_title(features: str) -> str:
    """Returns the title of a Fréchet distance on the features of this name."""
    return "FID" if features == INCEPTION else f"Fréchet distance ({features})"


def kernel_title(features: str) -> str:
    """Returns the title of a kernel distance (MMD²) on the features of this name."""
    return "KID" if features == INCEPTION else f"kernel distance ({features})"


def manifold_title(features: str, k: int) -> str:
    """Returns the title of precision, recall, density and coverage; they have no fixed features."""
    return f"precision, recall, density, coverage ({features}, k = {k})"


def fidelity_title(score: str, space: str = "rgb", crop: int = 0) -> str:
    """Returns the title of PSNR, SSIM or MS-SSIM with what differs from all pixels of all channels."""
    details = [*(["Y"] if space == "y" else []), *([f"crop {crop}"] if crop else [])]
    return f"{score} ({', '.join(details)})" if details else score


def rank_title(network: str, resize: int | None, statistic: str) -> str:
    """Returns the title of a score of random crops, of a network with this name, in one of its forms."""
    size = "" if resize is None else f", resized to {resize}"
    return f"{network}, {statistic} of crops{size}"
