"""What is done to damaged images before a plain GAN is trained on them: the paper's classical rivals.

Each of them is told the true damage of each image: the kernel, the levels of the noise, the quality. (The
paper's daggers say so of deblurring and denoising; for deblocking it names no quality, which any JPEG
file tells.) They are those of :mod:`blemish.restorers`: deconvolution under a hyper-Laplacian prior,
BM3D after a variance-stabilising transform, and an equivalent of SA-DCT for deblocking.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..degradations import Degradation, batch_for, degrade_batch, to_uint8
from ..restorers import restorer_for

__all__ = ["PREPARATIONS", "prepare"]

PREPARATIONS = {"deblur": "BCDEFG", "denoise": "R", "deblock": "HIJKLMST"}
"""The settings that each preparation is for, by letter."""

_SHARE = 4
"""Deconvolution holds about 150 times its images, damage 40 times: batches are smaller by this."""


def prepare(damage: Degradation[Any], clean: Tensor, *, seed: int) -> Tensor:
    """Damages images and restores them by what is known of each one's damage.

    Arguments:
        damage: The damage: blur, noise or JPEG, on all images or on some.
        clean: Clean images, uint8, with shape (N, C, H, W).
        seed: The seed of the damage, as of a frozen copy.

    Returns:
        The prepared images, uint8, with shape (N, C, H, W).
    """
    batch = max(1, batch_for((clean.shape[2], clean.shape[3])) // _SHARE)
    parts = []
    for start in range(0, len(clean), batch):
        rows = clean[start : start + batch]
        damaged, params = degrade_batch(damage, rows, range(start, start + len(rows)), seed=seed)
        with torch.no_grad():
            parts.append(to_uint8(restorer_for(params)(damaged.float() / 255)))
    return torch.cat(parts)
