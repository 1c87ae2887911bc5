"""The recipes of the universal degradation model, and their presets.

``paper`` is the authors' size, as far as their code says; their data are 40,000 Wikimedia Quality Images. The smaller
ones are for CPUs: small networks, crops and codes, maps of a fourth of the resolution, no batch normalisation, a larger
learning rate, and codes of which every other one is read off another content with the same damage.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025)
    | https://arxiv.org/abs/2505.12860
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..degradations import Imaging, UniversalDegradation
from ..networks import Redegrader
from ..systems import Universal, UniversalPairs
from ..training.config import RunConfig
from .crops import crops_run, damage_of, one_of
from .robust_gans import Recipe

__all__ = ["UNIVERSAL", "UNIVERSAL_SIZES", "UniversalSize"]


@dataclass(frozen=True, kw_only=True)
class UniversalSize:
    """The size of a run.

    Attributes:
        degradation: The networks.
        damage: What befalls clean images.
        colour: The weight of the colours' distance. In small crops it is mostly a matter of their extremes, which noise
            decides.
        rate: The price of the map's bits for each pixel.
        crossed: The share of images whose code is read off another one with the same damage.
        crop: The side of the images in pixels.
        batch: Images in an iteration.
        iterations: The number of iterations.
        lr: Adam's learning rate.
        ema: The decay of the moving average.
        reports: The number of log lines, sample grids and checkpoints of a run.
    """

    degradation: UniversalDegradation.Config
    damage: Imaging.Config
    colour: float = 10.0
    rate: float = 0.2
    crossed: float = 0.0
    crop: int
    batch: int
    iterations: int
    lr: float
    ema: float
    reports: tuple[int, int, int]


UNIVERSAL_SIZES: dict[str, UniversalSize] = {
    # Five minutes on one core of a CPU.
    "tiny": UniversalSize(
        degradation=UniversalDegradation.Config(
            redegrader=Redegrader.Config(
                widths=(16, 32), blocks=(1, 1), embedding=16, local=2, ratio=4
            ),
            width=16,
            kernel=7,
            norm=False,
        ),
        damage=Imaging.Config(strength=0.5, local=0.5),
        colour=1.0,
        rate=0.1,
        crossed=0.5,
        crop=32,
        batch=16,
        iterations=1000,
        lr=1e-3,
        ema=0.995,
        reports=(50, 5, 5),
    ),
    # An hour on one core of a CPU.
    "small": UniversalSize(
        degradation=UniversalDegradation.Config(
            redegrader=Redegrader.Config(
                widths=(24, 48), blocks=(2, 1), embedding=32, local=2, ratio=4
            ),
            width=24,
            kernel=7,
            norm=False,
        ),
        damage=Imaging.Config(strength=0.5, local=0.5),
        colour=1.0,
        rate=0.1,
        crossed=0.5,
        crop=64,
        batch=8,
        iterations=4800,
        lr=1e-3,
        ema=0.999,
        reports=(100, 10, 10),
    ),
    "paper": UniversalSize(
        degradation=UniversalDegradation.Config(),
        damage=Imaging.Config(local=0.5),
        crop=128,
        batch=24,
        iterations=500_000,
        lr=1e-4,
        ema=0.999,
        reports=(1000, 50, 50),
    ),
}
"""The presets of these recipes by name."""


def universal(preset: str, setting: str | None = None) -> RunConfig:
    """The universal degradation model: reads the damage off one photograph and puts it onto another.

    It is trained on clean images, which it damages itself, or as --setting or --degradation say.
    """
    s = find_size(preset)
    system = Universal.Config(damage=s.damage, crossed=s.crossed, **_shared(s))
    if setting is not None:
        system = replace(system, damage=damage_of(setting))
    return crops_run("universal", preset, s, system)


def universal_pairs(preset: str, setting: str | None = None) -> RunConfig:
    """The universal degradation model, from real pairs: damaged photographs and their clean partners (--clean)."""
    s = find_size(preset)
    system = UniversalPairs.Config(**_shared(s))
    run = crops_run("universal-pairs", preset, s, system)
    return replace(run, data=replace(run.data, setting=setting))


UNIVERSAL: dict[str, Recipe] = {"universal": universal, "universal-pairs": universal_pairs}
"""These recipes by name."""


def _shared(s: UniversalSize) -> dict[str, Any]:
    """Returns what both recipes take of a preset."""
    names = ("degradation", "colour", "rate", "lr", "ema")
    return {name: getattr(s, name) for name in names}


def find_size(preset: str) -> UniversalSize:
    """Returns a preset by name.

    Raises:
        ValueError: If these recipes have none of this name.
    """
    return one_of(UNIVERSAL_SIZES, preset)
