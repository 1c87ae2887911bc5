"""How a restorer stands up to damage that it was not told of: a fixed grid, one kind of damage at a time.

Each kind has three strengths. Blur befalls the clean image, which is then reduced bicubically by the restorer's scale;
noise, JPEG and posterisation befall the reduced one. Lengths are in pixels of the reduced image. ``clean`` is the
reduction alone, what classical restorers are trained on, and not among the unseen.

==============  ===================================================================================
disk            out of focus, radius 0.5, 1, 1.5 (at scale 1 half a pixel more, here and below)
motion          camera shake, trajectories of length 2, 4, 6, seen whole
noise           Gaussian, standard deviation 5, 10, 20 of 255
jpeg            quality 80, 50, 25
disk+noise      radius 0.5, 0.75, 1; 4, 8, 12 of 255
noise+jpeg      4, 8, 12 of 255; quality 80, 65, 50
disk+noise+jpeg both
ringing         an ideal low-pass filter at 1, 0.75, 0.5 of the highest frequency
posterise       64, 32, 16 levels
==============  ===================================================================================

Scores are PSNR on Y without a border of as many pixels as the scale, of restored images rounded to 8 bits, at most 100. The
randomness of a picture's damage depends on its name alone, so that all restorers see the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import Source
from ..degradations import (
    JPEG,
    Blur,
    Chain,
    Degradation,
    DiskLaw,
    Downsample,
    GaussianNoise,
    KernelLaw,
    MotionLaw,
    Posterise,
    QualityLaw,
    SincLaw,
)
from ..functional.blur import MAX_SIZE
from ..functional.random import generators_for, stable_hash
from ..functional.resample import modcrop
from ..functional.stages import to_8_bits
from ..metrics import psnr

__all__ = ["CLEAN", "STRENGTHS", "Profile", "robustness", "robustness_grid"]

CLEAN = "clean"
"""The column of images that are reduced and nothing else."""

STRENGTHS = 3
"""The number of strengths of each kind of damage."""

EQUAL = 100.0
"""What is written for the PSNR of equal pictures, which is infinite."""

Grid = dict[str, tuple[Degradation[Any], ...]]


@dataclass(frozen=True)
class Profile:
    """The scores of a restorer over the grid.

    Attributes:
        scores: The PSNR on Y in dB by column, each with one list for each strength of one number for each picture.
    """

    scores: dict[str, list[list[float]]]

    def column(self, name: str) -> list[float]:
        """Returns a column's means over pictures, for each strength."""
        return [_mean(pictures) for pictures in self.scores[name]]

    @property
    def clean(self) -> float:
        """The mean over pictures that are reduced and nothing else."""
        return self.column(CLEAN)[0]

    @property
    def pictures(self) -> list[float]:
        """Each picture's mean over all unseen damage."""
        cells = [cell for name, column in self.scores.items() if name != CLEAN for cell in column]
        return [_mean(list(picture)) for picture in zip(*cells, strict=True)]

    @property
    def mean(self) -> float:
        """The mean over all unseen damage and all pictures."""
        return _mean(self.pictures)

    @property
    def worst(self) -> tuple[float, str]:
        """The lowest mean over pictures of a single damage, and which."""
        cells = (
            (value, f"{name} {i + 1}")
            for name in self.scores
            if name != CLEAN
            for i, value in enumerate(self.column(name))
        )
        return min(cells)


def robustness_grid(scale: int) -> Grid:
    """Returns the degradations of the grid by column, for a restorer of this scale.

    Arguments:
        scale: How many times smaller the images are made.
    """
    reduce = Downsample(scale)

    def grid(*rows: tuple[Degradation[Any] | None, ...]) -> tuple[Degradation[Any], ...]:
        """Returns the columns' degradations, whose stages before and after the reduction these are."""
        return tuple(Chain([stage for stage in row if stage is not None]) for row in rows)

    def blurred(law: Callable[[float], KernelLaw], lengths: tuple[float, ...]) -> Iterator[Blur]:
        return (Blur(law(scale * length)) for length in lengths)

    def noise(*levels: float) -> Iterator[GaussianNoise]:
        return (GaussianNoise((s / 255, s / 255)) for s in levels)

    def files(*qualities: int) -> Iterator[JPEG]:
        return (JPEG(QualityLaw(q, q)) for q in qualities)

    # At scale 1 a disk of half a pixel would be none.
    least = 0.5 if scale == 1 else 0.0
    wide = tuple(least + r for r in (0.5, 1.0, 1.5))
    soft = tuple(least + r for r in (0.5, 0.75, 1.0))
    rings = (Blur(SincLaw((f * math.pi / scale,) * 2, size=21)) for f in (1.0, 0.75, 0.5))
    reductions = [reduce] * STRENGTHS
    return {
        CLEAN: (Chain([reduce]),),
        "disk": grid(*zip(blurred(_disk, wide), reductions, strict=True)),
        "motion": grid(*zip(blurred(_motion, (2.0, 4.0, 6.0)), reductions, strict=True)),
        "noise": grid(*zip(reductions, noise(5, 10, 20), strict=True)),
        "jpeg": grid(*zip(reductions, files(80, 50, 25), strict=True)),
        "disk+noise": grid(*zip(blurred(_disk, soft), reductions, noise(4, 8, 12), strict=True)),
        "noise+jpeg": grid(*zip(reductions, noise(4, 8, 12), files(80, 65, 50), strict=True)),
        "disk+noise+jpeg": grid(
            *zip(blurred(_disk, soft), reductions, noise(4, 8, 12), files(80, 65, 50), strict=True)
        ),
        "ringing": grid(*zip(rings, reductions, strict=True)),
        "posterise": grid(*zip(reductions, map(Posterise, (64, 32, 16)), strict=True)),
    }


@torch.no_grad()
def robustness(
    restore: Callable[[Tensor], Tensor],
    source: Source,
    scale: int,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> Profile:
    """Damages clean pictures in every way of the grid, restores them and compares.

    Arguments:
        restore: Maps pictures (1, 3, h, w) in [0, 1] to (1, 3, scale h, scale w): a restorer, or an enlargement.
        source: Clean pictures in colour, of any size.
        scale: How many times smaller they are made.
        progress: Is told how many pictures are done, and of how many.

    Returns:
        The scores.
    """
    grid = robustness_grid(scale)
    scores: dict[str, list[list[float]]] = {name: [[] for _ in row] for name, row in grid.items()}
    for i in range(len(source)):
        x = modcrop(source.read(i)[None].float() / 255, scale)
        for name, row in grid.items():
            for strength, degradation in enumerate(row):
                seed = stable_hash(source.name(i), name, strength)
                x_hat = restore(_damaged(degradation, x, seed))
                found = float(psnr(to_8_bits(x_hat), x, space="y", crop=scale))
                scores[name][strength].append(min(found, EQUAL))
        if progress is not None:
            progress(i + 1, len(source))
    return Profile(scores)


def _damaged(degradation: Degradation[Any], x: Tensor, seed: int) -> Tensor:
    B, C, H, W = x.shape
    y = degradation(x, degradation.sample((B, C, H, W), generator=generators_for(seed, [0])))
    return to_8_bits(y)


def _disk(radius: float) -> KernelLaw:
    return DiskLaw((radius, radius), size=2 * math.ceil(radius + 0.5) + 1)


def _motion(length: float) -> KernelLaw:
    # A path seldom leaves a square of its own length.
    return MotionLaw(length, exposures=(1.0,), size=min(2 * math.ceil(length) + 1, MAX_SIZE))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
