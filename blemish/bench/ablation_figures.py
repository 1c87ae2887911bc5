r"""Table 2 of perceptual restoration as data: what each cause does to a score of looks, figure by figure.

Thirteen searches of JPEG's victims on faces of CelebA-HQ, and the images themselves before and after JPEG. Columns say how
was searched:

===========  ==========================================================================================
generator    the version of StyleGAN, v1 or v2
mean         whether styles start at the mean style, else at draws
mmd          whether the discrepancy to the prior's styles is minimised
sphere       whether styles return to their sphere
coefficient  the weight of the bits under PixelCNN; without it pixels are compared
epoch        the epoch after which that PixelCNN was taken: 29, or 379, where it has learned its images by heart
steps        the steps
===========  ==========================================================================================

Scores are RankIQA's, less is better: mean and median of 100 random crops of 224x224, as they are and after the image was
brought to 256x256. They judge looks alone. Restored images are better than the originals by them, which are their truth.

References:
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning
    | (Han, Duan, Tao & Lu, 2021), Table 2, https://arxiv.org/abs/2103.03010
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["PUBLISHED_ROWS", "RANKIQA_SCORES", "UNSEARCHED_ROWS", "Scores", "Search"]

RANKIQA_SCORES = ("mean", "median", "resized_mean", "resized_median")
"""The scores of a row, in the paper's order."""

Scores = dict[str, float]
"""The scores of a row by name."""


@dataclass(frozen=True)
class Search:
    """How is searched, as the paper's columns say it.

    Attributes:
        generator: The version of StyleGAN.
        mean: Whether styles start at the mean style.
        mmd: Whether the discrepancy is minimised.
        sphere: Whether styles return to their sphere.
        coefficient: The weight of the bits; None where pixels are compared.
        epoch: The epoch of PixelCNN's training.
        steps: The steps.
    """

    generator: Literal["v1", "v2"]
    mean: bool
    mmd: bool
    sphere: bool
    coefficient: int | None
    epoch: int | None
    steps: int


# Generator, mean, MMD, sphere, coefficient, epoch, steps / mean and median, as they are and resized.
_ROWS = {
    "v1": "v1 N N Y - - 100 / 33.21 33.12 17.17 17.25",
    "v2": "v2 N N Y - - 100 / 31.82 32.15 17.87 17.93",
    "mean": "v2 Y N Y - - 100 / 35.11 34.94 21.33 21.32",
    "mmd": "v2 N Y Y - - 100 / 35.66 35.20 20.23 20.22",
    "mean-mmd": "v2 Y Y Y - - 100 / 30.17 30.34 9.78 9.74",
    "mean-mmd-long": "v2 Y Y Y - - 1000 / 31.55 31.54 11.94 11.91",
    "mean-mmd-free": "v2 Y Y N - - 100 / 32.85 32.67 15.05 15.10",
    "bits1-early": "v2 Y Y Y 1 29 100 / 31.40 31.37 10.28 10.14",
    "bits1-late": "v2 Y Y Y 1 379 100 / 30.41 30.64 11.15 11.11",
    "bits1-late-long": "v2 Y Y Y 1 379 1000 / 31.79 31.65 11.69 11.60",
    "bits10-early": "v2 Y Y Y 10 29 100 / 30.57 30.69 9.37 9.23",
    "bits10-late": "v2 Y Y Y 10 379 100 / 29.41 29.97 10.04 10.05",
    "bits50-late": "v2 Y Y Y 50 379 100 / 29.84 30.69 10.56 10.53",
}
_UNSEARCHED = {
    "original": "45.61 45.75 13.67 13.65",
    "compressed": "59.47 59.81 54.57 54.62",
}


def _parsed(row: str) -> tuple[Search, Scores]:
    settings, _, scores = row.partition("/")
    generator, mean, mmd, sphere, coefficient, epoch, steps = settings.split()
    search = Search(
        "v1" if generator == "v1" else "v2",
        mean == "Y",
        mmd == "Y",
        sphere == "Y",
        None if coefficient == "-" else int(coefficient),
        None if epoch == "-" else int(epoch),
        int(steps),
    )
    return search, _scores(scores)


def _scores(row: str) -> Scores:
    return dict(zip(RANKIQA_SCORES, map(float, row.split()), strict=True))


PUBLISHED_ROWS: dict[str, tuple[Search, Scores]] = {
    name: _parsed(row) for name, row in _ROWS.items()
}
"""The rows of the paper in its order, by blemish's names for them."""

UNSEARCHED_ROWS: dict[str, Scores] = {name: _scores(row) for name, row in _UNSEARCHED.items()}
"""The scores of the images before and after JPEG."""
