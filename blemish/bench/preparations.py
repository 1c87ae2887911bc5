"""What is done to damaged images before a plain GAN is trained on them: the paper's classical rivals.

Each of them is told the true damage of each image, as the paper's daggers say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..degradations import Degradation, batch_for, degrade_batch, to_uint8
from ..types import Params

__all__ = ["PREPARATIONS", "prepare"]

PREPARATIONS: dict[str, Callable[[Tensor, Params], Tensor]] = {}
"""The preparations by name: from damaged images in [0, 1] and what was drawn for them to better ones."""


def prepare(name: str, damage: Degradation[Any], clean: Tensor, *, seed: int) -> Tensor:
    """Damages images and prepares them.

    Arguments:
        name: The name of the preparation.
        damage: The damage.
        clean: Clean images, uint8, with shape (N, C, H, W).
        seed: The seed of the damage, as of a frozen copy.

    Returns:
        The prepared images, uint8, with shape (N, C, H, W).
    """
    batch = batch_for((clean.shape[2], clean.shape[3]))
    parts = []
    for start in range(0, len(clean), batch):
        rows = clean[start : start + batch]
        damaged, params = degrade_batch(damage, rows, range(start, start + len(rows)), seed=seed)
        with torch.no_grad():
            parts.append(to_uint8(PREPARATIONS[name](damaged.float() / 255, params)))
    return torch.cat(parts)
