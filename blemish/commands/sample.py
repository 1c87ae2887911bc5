"""``blemish sample``: draw clean images from a trained run."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..degradations import to_uint8
from ..functional.random import generators_for
from ..priors import Prior
from ..runs import Run, load
from ..training.grids import save_grid

__all__ = ["run", "sample_images"]

_BATCH = 256


def run(run: Path, *, out: Path | None, count: int, seed: int, grid: Path | None) -> int:
    """Draws images and writes them.

    Image i depends on the seed and on i alone.

    Arguments:
        run: The folder of a run, or of a prior.
        out: The folder for single pictures, or None.
        count: The number of images.
        seed: The seed.
        grid: The file for one picture with all of them, or None.

    Returns:
        0.
    """
    loaded = load(run)
    prior = loaded.prior if isinstance(loaded, Run) else loaded
    if not isinstance(prior, Prior):
        raise ValueError(f"{run} holds a {type(prior).__name__}; give a run or a prior")
    images = sample_images(prior, count, seed=seed)
    if grid is not None:
        save_grid(images, grid, columns=max(1, round(count**0.5)))
        print(f"wrote {grid}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(to_uint8(images)):
            pixels = image.permute(1, 2, 0).numpy()
            name = out / f"{i:06d}.png"
            Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(name)
        print(f"wrote {count} images to {out}")
    return 0


@torch.no_grad()
def sample_images(prior: Prior, count: int, *, seed: int) -> Tensor:
    """Draws images in [0, 1], with shape (count, C, H, W); image i depends on (seed, i) alone.

    Arguments:
        prior: The prior, on the CPU.
        count: The number of images.
        seed: The seed.
    """
    parts = [
        prior.sample(len(rows), generator=generators_for(seed, rows))
        for start in range(0, count, _BATCH)
        for rows in [range(start, min(start + _BATCH, count))]
    ]
    return torch.cat(parts)
