"""The damage that ``blemish train restorer`` estimates before it trains."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .. import artefacts
from ..configuration import read_json
from ..degradations import Degradation
from ..evaluation.estimate import estimate_damage
from ..training.checkpoint import write_atomically
from ..training.config import RunConfig
from ..training.images import photographs
from ..training.processes import is_main
from ..training.progress import waiting

__all__ = ["estimated_damage"]

PLACE = "damage"
"""Where the damage stands in the run's folder, for every verb that takes one."""


def estimated_damage(config: RunConfig, out: Path) -> Degradation[Any]:
    """Estimates the damage of a run's photographs, or takes what was estimated before.

    Arguments:
        config: The configuration of the run, without a simulator.
        out: The run's folder; the estimate stands in ``damage/`` in it, and what it was made of in ``damage.json``.

    Raises:
        ValueError: If the photographs do not fit, or another estimate is there; in one line.
    """
    place, record = out / PLACE, out / f"{PLACE}.json"
    made_of = _made_of(config)
    if artefacts.is_artefact(place) and record.is_file():
        if read_json(record) != made_of:
            raise ValueError(
                f"{place} was estimated from other photographs, or with another seed; choose another folder for the "
                "run, or remove it"
            )
        _say(f"The damage was estimated before: {place}.")
        found: Degradation[Any] = artefacts.load(place)
        return found
    source = photographs(config.data, seed=config.seed, silent=not is_main())
    with waiting("estimating the damage", silent=not is_main()) as tell:
        estimate = estimate_damage(
            source, seed=config.seed, shrink=config.data.shrink, progress=tell
        )
    text = " ".join(estimate.lines())
    _say("\n".join(estimate.lines()))
    if is_main():
        # The record comes last: without it, an estimate counts for nothing.
        artefacts.save(estimate.degradation, place, card=text)
        write_atomically(record, (json.dumps(made_of, indent=1) + "\n").encode())
    return estimate.degradation.eval()


def _made_of(config: RunConfig) -> dict[str, Any]:
    data = config.data
    where = data.source if data.source.startswith("glyphs") else Path(data.source).name
    return {
        "source": where,
        "setting": data.setting,
        "limit": data.limit,
        "shrink": data.shrink,
        "seed": config.seed,
    }


def _say(text: str) -> None:
    if is_main():
        print(text, file=sys.stderr)
