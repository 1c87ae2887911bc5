"""Frozen degraded copies: each image is damaged once, by randomness that depends on (seed, index).

A frozen copy is the same in any batch, in any order and on any machine: it draws on the CPU from
one generator for each image. Images are 8-bit before and after, as files are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..data import Source
from ..functional.random import generators_for
from ..types import Params
from .base import Degradation
from .compose import ChainParams, NoParams, PartialParams

__all__ = ["FrozenSource", "batch_for", "degrade_batch", "freeze", "to_uint8", "untouched"]

# Blur, noise and JPEG together hold about 100 bytes for each pixel, noise and spectra included.
_PIXELS = 2**20
_LARGEST_BATCH = 500


def batch_for(size: tuple[int, int]) -> int:
    """Returns how many images of a height and width are damaged at once, in about 100 MB."""
    return max(1, min(_LARGEST_BATCH, _PIXELS // (size[0] * size[1])))


def to_uint8(x: Tensor) -> Tensor:
    """Rounds images in [0, 1], of any shape, to 8 bits; values outside are clipped."""
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


@torch.no_grad()
def degrade_batch(
    degradation: Degradation[Any], images: Tensor, indices: Sequence[int], *, seed: int
) -> tuple[Tensor, Params]:
    """Damages images by the randomness of their indices.

    Arguments:
        degradation: A degradation on the CPU.
        images: 8-bit images, with shape (B, C, H, W).
        indices: The index of each image in its data set, B of them.
        seed: The seed of the copy.

    Returns:
        The damaged 8-bit images, and the parameters that were drawn.
    """
    x = images.float() / 255
    shape = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
    params = degradation.sample(shape, generator=generators_for(seed, indices))
    return to_uint8(degradation(x, params)), params


def freeze(
    degradation: Degradation[Any],
    images: Tensor,
    *,
    seed: int,
    batch: int | None = None,
    progress: Callable[[Iterator[int]], Iterator[int]] = iter,
) -> Tensor:
    """Damages a whole data set in memory.

    Arguments:
        degradation: A degradation on the CPU.
        images: 8-bit images, with shape (N, C, H, W).
        seed: The seed of the copy.
        batch: How many images are damaged at once; the result does not depend on it. None chooses
            by their size, see :func:`batch_for`.
        progress: Wraps the iteration over batches, for a progress bar.

    Returns:
        The damaged 8-bit images, with shape (N, C, H / scale, W / scale).
    """
    batch = batch or batch_for((images.shape[2], images.shape[3]))
    parts = []
    for start in progress(iter(range(0, len(images), batch))):
        rows = images[start : start + batch]
        indices = range(start, start + len(rows))
        parts.append(degrade_batch(degradation, rows, indices, seed=seed)[0])
    return torch.cat(parts)


@torch.no_grad()
def untouched(
    degradation: Degradation[Any], count: int, shape: tuple[int, int, int], *, seed: int
) -> Tensor:
    """Returns which images of a frozen copy no damage befalls.

    Arguments:
        degradation: A degradation on the CPU.
        count: The number N of images.
        shape: The shape (C, H, W) of each.
        seed: The seed of the copy.

    Returns:
        Truth values, with shape (N,).
    """
    parts = []
    step = batch_for(shape[1:])
    for start in range(0, count, step):
        indices = range(start, min(start + step, count))
        drawn = degradation.sample((len(indices), *shape), generator=generators_for(seed, indices))
        parts.append(_spared(drawn))
    return torch.cat(parts)


def _spared(params: Params) -> Tensor:
    if isinstance(params, ChainParams):
        return torch.stack([_spared(stage) for stage in params.stages]).all(dim=0)
    if isinstance(params, PartialParams):
        return ~params.applied | _spared(params.inner)
    harmless = isinstance(params, NoParams)
    return torch.full((len(params),), harmless, dtype=torch.bool)


class FrozenSource(Source):
    """A source whose images are damaged when they are read; for sets too large for memory.

    Arguments:
        source: Clean images.
        degradation: A degradation on the CPU that keeps the size.
        seed: The seed of the copy.
    """

    def __init__(self, source: Source, degradation: Degradation[Any], *, seed: int) -> None:
        if degradation.scale != 1:
            raise ValueError(
                f"scale {degradation.scale} changes the size; degrade to files instead"
            )
        self.source, self.degradation, self.seed = source, degradation, seed
        self.title = f"{source.title}, degraded with seed {seed}"
        self.channels, self.size, self.skipped = source.channels, source.size, source.skipped

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """Returns the name of the clean image."""
        return self.source.name(index)

    def read(self, index: int) -> Tensor:
        """Reads and damages one image, uint8, with shape (C, H, W)."""
        image = self.source.read(index)[None]
        return degrade_batch(self.degradation, image, [index], seed=self.seed)[0][0]

    def label(self, index: int) -> int | None:
        """Returns the number of the clean image's class, or None where it is unknown."""
        return self.source.label(index)
