"""Sets of images that are compared: samples of a prior, or a sample of a source, as batches of bytes.

A set is read as often as it is needed, always in the same order and with the same images.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data import MemorySource, Source, to_channels
from ..degradations import to_uint8
from ..functional.random import generator_for
from ..priors import Prior, sample_batches

__all__ = ["ImageSet", "chosen", "in_channels", "prior_set", "source_set"]

_READ = 64


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
    indices = chosen(len(source), count, seed=seed)
    title = f"{len(indices):,} of {len(source):,} images of {source.title}"
    if source.skipped:
        title += f", {len(source.skipped):,} broken ones skipped"
    shape = (source.channels, *source.size)
    return ImageSet(title, len(indices), shape, functools.partial(_read, source, indices))


def chosen(total: int, count: int | None, *, seed: int) -> list[int]:
    """Returns which of a source's images are taken: some at random, without repetition, in their order.

    Arguments:
        total: The number of images there are.
        count: How many are taken; None or more than there are takes all.
        seed: Determines which.
    """
    if count is None or count >= total:
        return list(range(total))
    order = torch.randperm(total, generator=generator_for(seed, "evaluate"))
    return [int(i) for i in order[:count].sort().values]


def prior_set(prior: Prior, count: int, *, seed: int, title: str) -> ImageSet:
    """Returns a set of samples; sample i depends on the seed and on i alone.

    Arguments:
        prior: The prior.
        count: The number of samples.
        seed: The seed.
        title: What the prior is.
    """
    draw = functools.partial(_sample, prior, count, seed)
    return ImageSet(f"{count:,} samples of {title}", count, prior.shape, draw)


def in_channels(images: ImageSet, channels: int) -> ImageSet:
    """Returns the set in grey (1 channel) or RGB (3 channels)."""
    if images.shape[0] == channels:
        return images

    def batches() -> Iterator[Tensor]:
        return (to_channels(batch, channels) for batch in images.batches())

    return replace(images, shape=(channels, *images.shape[1:]), batches=batches)


def _read(source: Source, indices: Sequence[int]) -> Iterator[Tensor]:
    if isinstance(source, MemorySource):
        held = source.tensor()
        for start in range(0, len(indices), _READ):
            yield held[torch.tensor(indices[start : start + _READ])]
        return
    images = source.read_each(indices)
    while batch := list(itertools.islice(images, _READ)):
        yield torch.stack(batch)


def _sample(prior: Prior, count: int, seed: int) -> Iterator[Tensor]:
    start = 0
    for images in sample_batches(prior, count, seed=seed):
        if not images.isfinite().all():
            raise ValueError(
                f"sample {start} or one of the {len(images)} from it on is not finite: the prior "
                "is broken; use an earlier checkpoint"
            )
        start += len(images)
        yield to_uint8(images)
