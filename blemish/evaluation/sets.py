"""Sets of images that are compared: samples of a prior, or a sample of a source, as batches of bytes.

A set is read as often as it is needed, always in the same order and with the same images. What was
done to make its images equal in size and channels is part of its description.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import MemorySource, Source
from ..degradations import to_uint8
from ..functional.random import generator_for, generators_for
from ..priors import Prior

__all__ = ["ImageSet", "prior_set", "source_set"]

_BATCH = 64


@dataclass(frozen=True)
class ImageSet:
    """Images of one shape.

    Attributes:
        title: What they are, in words.
        count: How many they are.
        shape: The shape (C, H, W) of each.
        batches: Reads them: yields uint8 batches, each with shape (B, C, H, W).
    """

    title: str
    count: int
    shape: tuple[int, int, int]
    batches: Callable[[], Iterator[Tensor]]


def source_set(source: Source, count: int | None, *, seed: int) -> ImageSet:
    """Returns a set of a source's images.

    Arguments:
        source: The source; all of its images have one size.
        count: How many are taken at random, for sources are often sorted; None or more than there are
            takes all.
        seed: Determines which.

    Raises:
        ValueError: If sizes differ.
    """
    if source.size is None:
        raise ValueError(
            f"{source.title}: images of different sizes cannot be compared as sets; "
            "choose a size with --size N and --fit crop or --fit resize"
        )
    indices = torch.arange(len(source))
    if count is not None and count < len(source):
        order = torch.randperm(len(source), generator=generator_for(seed, "evaluate"))
        indices = order[:count].sort().values
    chosen = indices.tolist()
    title = f"{len(chosen):,} of {len(source):,} images of {source.title}"
    shape = (source.channels, *source.size)
    return ImageSet(title, len(chosen), shape, functools.partial(_read, source, chosen))


def prior_set(prior: Prior, count: int, *, seed: int, title: str) -> ImageSet:
    """Returns a set of samples; sample i depends on the seed and on i alone.

    Arguments:
        prior: The prior.
        count: The number of samples.
        seed: The seed.
        title: What the prior is.
    """
    name = f"{count:,} samples (seed {seed}) of {title}"
    return ImageSet(name, count, prior.shape, functools.partial(_sample, prior, count, seed))


def _read(source: Source, indices: Sequence[int]) -> Iterator[Tensor]:
    if isinstance(source, MemorySource):
        images = source.tensor()
        for start in range(0, len(indices), _BATCH):
            yield images[torch.tensor(indices[start : start + _BATCH])]
        return
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(indices), _BATCH):
            yield torch.stack(list(pool.map(source.read, indices[start : start + _BATCH])))


def _sample(prior: Prior, count: int, seed: int) -> Iterator[Tensor]:
    for start in range(0, count, _BATCH):
        generators = generators_for(seed, range(start, min(start + _BATCH, count)))
        with torch.no_grad():
            images = prior.sample(len(generators), generator=generators)
        if not images.isfinite().all():
            raise ValueError(
                f"sample {start} or one of the {len(generators)} from it on is not finite: the prior "
                "is broken; use an earlier checkpoint"
            )
        yield to_uint8(images)
