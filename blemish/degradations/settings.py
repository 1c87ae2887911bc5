r"""The named settings A to T of BNCR-GAN, for CIFAR-10 and for FFHQ.

A setting says how a clean data set is damaged. :func:`setting` builds it with real JPEG, as data
are made; :func:`simulator` builds the same distribution with differentiable JPEG, as AmbientGAN
needs it.

==========  =====================================================================================
A           clean
B, C, D     blur of every image: disk, motion, or either with probability 1/2
E, F, G     D on 1/4, 1/2, 3/4 of the images
H, I, J     JPEG of every image, quality in [60, 80], [80, 100], [60, 100]
K, L, M     J on 1/4, 1/2, 3/4 of the images
N           blur D, then noise R, then JPEG J, on every image
O, P, Q     as N, each on 1/4, 1/2, 3/4 of the images, independently
R           read and shot noise of every image
S, T        JPEG of every image, quality in [20, 40], [40, 60]
==========  =====================================================================================

Where the paper is silent, this is chosen: each image is damaged once, and the copies are 8-bit
files' (rounded, clipped); "a quarter of the images" lets each image be hit with probability 1/4,
independently of the others and for each damage anew, instead of drawing a subset of exactly that
size, so that :func:`simulator` has the same distribution; qualities are whole numbers, JPEG is
Pillow's with 4:2:0; disks are rasterised by area; borders are reflected.

References:
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), Section 7 and A.1
    | https://arxiv.org/abs/2003.07849
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..functional.jpeg import Chroma, Rounding, Table
from .base import Degradation
from .blur import Blur
from .compose import Chain, Identity, Partial
from .jpeg import JPEG, DifferentiableJPEG
from .laws import BankLaw, DiskLaw, KernelLaw, MixtureLaw, MotionLaw, QualityLaw
from .noise import ReadShotNoise

__all__ = ["SETTINGS", "setting", "simulator"]


@dataclass(frozen=True)
class _Family:
    """What differs between the data sets: the extent of the blur, in pixels."""

    radius: tuple[float, float]
    length: float
    size: int


_FAMILIES = {
    "cifar10": _Family(radius=(0.5, 2.0), length=5.0, size=9),
    "ffhq": _Family(radius=(0.5, 4.0), length=10.0, size=15),
}


@dataclass(frozen=True)
class _Setting:
    """Which damage befalls which fraction of the images."""

    blur: str = ""
    noise: bool = False
    quality: tuple[float, float] | None = None
    fraction: float = 1.0


_J = (60.0, 100.0)
_TABLE = {
    "A": _Setting(),
    "B": _Setting(blur="disk"),
    "C": _Setting(blur="motion"),
    "D": _Setting(blur="either"),
    "E": _Setting(blur="either", fraction=0.25),
    "F": _Setting(blur="either", fraction=0.5),
    "G": _Setting(blur="either", fraction=0.75),
    "H": _Setting(quality=(60.0, 80.0)),
    "I": _Setting(quality=(80.0, 100.0)),
    "J": _Setting(quality=_J),
    "K": _Setting(quality=_J, fraction=0.25),
    "L": _Setting(quality=_J, fraction=0.5),
    "M": _Setting(quality=_J, fraction=0.75),
    "N": _Setting(blur="either", noise=True, quality=_J),
    "O": _Setting(blur="either", noise=True, quality=_J, fraction=0.25),
    "P": _Setting(blur="either", noise=True, quality=_J, fraction=0.5),
    "Q": _Setting(blur="either", noise=True, quality=_J, fraction=0.75),
    "R": _Setting(noise=True),
    "S": _Setting(quality=(20.0, 40.0)),
    "T": _Setting(quality=(40.0, 60.0)),
}

SETTINGS: tuple[str, ...] = (*_TABLE, *(f"ffhq/{letter}" for letter in _TABLE))
"""The names that :func:`setting` knows; ``cifar10/N`` may be written for ``N``."""


def setting(name: str) -> Degradation[Any]:
    """Builds a named setting with real JPEG.

    Arguments:
        name: A letter from A to T for CIFAR-10's kernels (9x9), or ``ffhq/`` and a letter (15x15).

    Raises:
        ValueError: If there is no such setting.
    """
    return _build(name, JPEG, simulated=False)


def simulator(
    name: str,
    *,
    rounding: Rounding = "cubic",
    table: Table = "integer",
    chroma: Chroma = "bilinear",
) -> Degradation[Any]:
    """Builds the same distribution with differentiable JPEG and a bank of motion kernels.

    Arguments:
        name: The name of a setting.
        rounding: How the differentiable JPEG rounds; ``straight-through`` is what files look like, ``cubic`` has better
            gradients.
        table: The tables of the differentiable JPEG; see :func:`~blemish.functional.jpeg.jpeg`.
        chroma: How it enlarges subsampled colour.

    Raises:
        ValueError: If there is no such setting.
    """

    def codec(law: QualityLaw) -> DifferentiableJPEG:
        return DifferentiableJPEG(law, rounding=rounding, table=table, chroma=chroma)

    return _build(name, codec, simulated=True)


def _build(
    name: str, codec: Callable[[QualityLaw], Degradation[Any]], *, simulated: bool
) -> Degradation[Any]:
    prefix, _, letter = name.rpartition("/")
    family = _FAMILIES.get(prefix or "cifar10")
    row = _TABLE.get(letter)
    if family is None or row is None:
        raise ValueError(f"unknown setting {name!r}; choose A to T, or ffhq/A to ffhq/T")
    stages: list[Degradation[Any]] = []
    if row.blur:
        stages.append(Blur(_law(row.blur, family, simulated=simulated)))
    if row.noise:
        stages.append(ReadShotNoise())
    if row.quality:
        stages.append(codec(QualityLaw(*row.quality)))
    if row.fraction < 1:
        stages = [Partial(stage, row.fraction) for stage in stages]
    return Chain(stages or [Identity()])


def _law(blur: str, family: _Family, *, simulated: bool) -> KernelLaw:
    disk = DiskLaw(family.radius, family.size)
    motion: KernelLaw = MotionLaw(length=family.length, size=family.size)
    if simulated:
        motion = BankLaw(motion)
    return {"disk": disk, "motion": motion, "either": MixtureLaw((disk, motion))}[blur]
