"""Recipes: functions that return a full run configuration, by name in one explicit dictionary."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from ..configuration import decode
from ..degradations import KINDS as DEGRADATION_KINDS
from ..degradations import simulator
from ..priors import KINDS as PRIOR_KINDS
from ..restorers import KINDS as RESTORER_KINDS
from ..systems import KINDS as SYSTEM_KINDS
from ..training.config import DataConfig, RunConfig, SelectionConfig, TrainingConfig
from .crops import with_damage
from .hardening import HARDENING, SIZES, Size, with_restorer, with_scale
from .likelihood import LIKELIHOOD, LIKELIHOOD_SIZES, LikelihoodSize
from .presets import PRESETS, Preset
from .priors import PRIORS
from .restorers import RESTORATION, TAUGHT, with_simulator
from .robust_gans import ROBUST_GANS, Recipe
from .universal import UNIVERSAL, UNIVERSAL_SIZES, UniversalSize

__all__ = [
    "ANY_SIZE",
    "DAMAGING",
    "HARDENING",
    "LIKELIHOOD",
    "LIKELIHOOD_SIZES",
    "PRESETS",
    "PRIORS",
    "RECIPES",
    "RESTORATION",
    "RESTORING",
    "SIZES",
    "TAUGHT",
    "UNIVERSAL",
    "UNIVERSAL_SIZES",
    "LikelihoodSize",
    "Preset",
    "Recipe",
    "Size",
    "UniversalSize",
    "configure",
    "decode_run",
    "presets_of",
    "reports_of",
    "with_damage",
    "with_restorer",
    "with_scale",
    "with_simulator",
]

RESTORING: dict[str, Recipe] = {**RESTORATION, **HARDENING}
"""The recipes that train a restorer, by name."""

DAMAGING: dict[str, Recipe] = {**UNIVERSAL, **LIKELIHOOD}
"""The recipes that train a degradation, on clean images that they damage or on pairs, by name."""

ANY_SIZE: dict[str, Recipe] = {**RESTORING, **DAMAGING}
"""The recipes whose networks take images of any size, by name."""

RECIPES: dict[str, Recipe] = {**ROBUST_GANS, **PRIORS, **RESTORING, **DAMAGING}
"""All recipes by name."""

_KINDS: dict[str, type] = {
    **DEGRADATION_KINDS,
    **PRIOR_KINDS,
    **RESTORER_KINDS,
    **SYSTEM_KINDS,
    "DataConfig": DataConfig,
    "RunConfig": RunConfig,
    "SelectionConfig": SelectionConfig,
    "TrainingConfig": TrainingConfig,
}


def configure(recipe: str, preset: str, setting: str | None = None) -> RunConfig:
    """Returns the configuration of a run.

    Arguments:
        recipe: A name in :data:`RECIPES`.
        preset: A name in :data:`PRESETS`.
        setting: The name of a degradation setting, or None. With ``ffhq128`` a letter alone means
            that letter for FFHQ.

    Raises:
        ValueError: If a name is unknown; the message lists the allowed ones.
    """
    if recipe not in RECIPES:
        close = difflib.get_close_matches(recipe, RECIPES, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"unknown recipe {recipe!r}{hint}; choose one of {', '.join(RECIPES)}")
    presets = presets_of(recipe)
    if preset not in presets:
        raise ValueError(f"{recipe} has no preset {preset!r}; choose one of {', '.join(presets)}")
    if setting is not None:
        family = PRESETS[preset].family if presets is PRESETS else "ffhq/"
        setting = setting if "/" in setting else family + setting
        # Data are opened much later: an unknown setting is told here.
        simulator(setting)
    return RECIPES[recipe](preset, setting)


def reports_of(recipe: str, preset: str) -> tuple[int, int, int]:
    """Returns the number of log lines, sample grids and checkpoints of a run.

    Arguments:
        recipe: A name in :data:`RECIPES`.
        preset: The name of one of its presets.
    """
    reports: tuple[int, int, int] = presets_of(recipe)[preset].reports
    return reports


def presets_of(recipe: str) -> Mapping[str, Any]:
    """Returns the presets of a recipe by name."""
    if recipe in HARDENING:
        return SIZES
    if recipe in LIKELIHOOD:
        return LIKELIHOOD_SIZES
    return UNIVERSAL_SIZES if recipe in UNIVERSAL else PRESETS


def decode_run(document: Mapping[str, Any]) -> RunConfig:
    """Rebuilds the configuration that a run's ``config.json`` holds.

    Arguments:
        document: The JSON document.

    Raises:
        ValueError: If it is no run's configuration, or names unknown kinds or fields.
    """
    run = decode(document, _KINDS)
    if not isinstance(run, RunConfig):
        raise ValueError("this is not the configuration of a run: it has no recipe")
    return run
