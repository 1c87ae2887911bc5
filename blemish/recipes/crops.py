"""What recipes have in common whose networks take images of any size: crops of photographs, and their damage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from ..degradations import simulator
from ..systems import LikelihoodPairs, UniversalPairs
from ..training.config import DataConfig, RunConfig
from .robust_gans import Sized, schedule

__all__ = ["CropsSize", "crops_run", "damage_of", "one_of", "with_damage"]

S = TypeVar("S")


class CropsSize(Sized, Protocol):
    """The size of a run on crops."""

    @property
    def crop(self) -> int:
        """The side of the images in pixels."""
        ...

    @property
    def iterations(self) -> int:
        """The number of iterations."""
        ...


def crops_run(recipe: str, preset: str, size: CropsSize, system: Any) -> RunConfig:
    """Returns a run on crops from anywhere in photographs of any size.

    Arguments:
        recipe: The name of the recipe.
        preset: The name of the size.
        size: The size.
        system: The configuration of what is trained.
    """
    return RunConfig(
        recipe=recipe,
        preset=preset,
        seed=0,
        data=DataConfig(size=size.crop, random_crop=True, keep_jpeg_grid=False),
        system=system,
        training=schedule(size, size.iterations),
    )


def damage_of(setting: str) -> Any:
    """Returns the configuration of a setting that befalls images: it rounds as files are, for nothing is learned through it."""
    told = simulator(setting, rounding="straight-through", table="integer", chroma="bilinear")
    return told.config


def with_damage(run: RunConfig, damage: Any) -> RunConfig:
    """Returns the run with other damage of its images.

    Arguments:
        run: A run of a recipe that damages clean images itself.
        damage: The configuration of a degradation.

    Raises:
        ValueError: If its pairs are real.
    """
    if isinstance(run.system, (UniversalPairs.Config, LikelihoodPairs.Config)):
        raise ValueError(
            f"{run.recipe} learns from pairs that were damaged; leave --degradation out"
        )
    return replace(run, system=replace(run.system, damage=damage))


def one_of(presets: Mapping[str, S], name: str) -> S:
    """Returns a preset by name.

    Raises:
        ValueError: If there is none of this name.
    """
    if name not in presets:
        raise ValueError(
            f"preset {name!r} is for other recipes; choose one of {', '.join(presets)}"
        )
    return presets[name]
