"""What a restorer makes of damaged test images, in figures."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..degradations import to_uint8
from ..metrics import (
    Extractor,
    PerceptualNetwork,
    extract,
    frechet,
    perceptual,
    perceptual_network,
    psnr,
    ssim,
)
from ..restorers import Restorer

__all__ = ["restored", "scores"]

_BATCH = 50


@torch.no_grad()
def restored(restorer: Restorer, images: Tensor) -> Tensor:
    """Returns what a restorer makes of images, as files would hold it.

    Arguments:
        restorer: A restorer on the CPU.
        images: Observed images, uint8, with shape (N, C, H, W).

    Returns:
        uint8, of the same shape.
    """
    return torch.cat(
        [to_uint8(restorer(part.float() / 255)) for part in torch.split(images, _BATCH)]
    )


def scores(
    clean: Tensor, images: Tensor, features: Extractor, reference: Tensor
) -> dict[str, float]:
    """Returns the distance of images to clean ones, as a set and one by one, as means.

    Images of fewer than 32 pixels a side have no perceptual distance.

    Arguments:
        clean: Clean images, uint8, with shape (N, C, H, W).
        images: Damaged or restored ones, their partners, of the same shape.
        features: The features of the Fréchet distance.
        reference: The features of clean images, with shape (M, D).
    """
    found = {
        "frechet": frechet(extract(features, images), reference),
        "psnr": float(psnr(clean, images).mean()),
        "ssim": float(ssim(clean, images).mean()),
    }
    if min(clean.shape[-2:]) >= PerceptualNetwork.SMALLEST:
        pairs = zip(torch.split(clean, _BATCH), torch.split(images, _BATCH), strict=True)
        with torch.no_grad():
            distances = torch.cat([perceptual(x, y, _network()) for x, y in pairs])
        found["perceptual"] = float(distances.mean())
    return found


@lru_cache(maxsize=1)
def _network() -> PerceptualNetwork:
    return perceptual_network()
