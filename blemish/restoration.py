"""From a folder of damaged photographs to a restorer.

The damage is estimated first (:mod:`blemish.evaluation.estimate`), then a restorer is trained against it, with small
copies of the photographs for clean ones (:mod:`blemish.systems.synthetic`). The estimate stands in the run's folder as the
artefact ``damage/``, and in ``damage.json`` what it was made of; where both are there, it is not made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from . import artefacts
from .configuration import read_json
from .data import Source
from .degradations import Degradation
from .evaluation import Estimate, estimate_damage
from .recipes import with_simulator
from .runs import Run, check_start, start
from .training.checkpoint import write_atomically
from .training.config import RunConfig
from .training.images import crops, photographs
from .training.loop import TrainResult
from .training.processes import is_main, processes
from .training.progress import waiting

__all__ = ["train_restorer"]

_PLACE, _RECORD = "damage", "damage.json"
_SHOWN = 4  # Photographs whose brightness and roughness tell a folder from others,
_TOLERANCE = 5e-4  # and how far they may differ: decoders round differently.


def train_restorer(
    config: RunConfig,
    out: str | os.PathLike[str],
    *,
    resume: Path | bool = False,
    device: str = "auto",
    workers: int = 4,
    silent: bool = False,
    command: str | None = None,
    stop: Callable[[], bool] | None = None,
) -> tuple[Run, TrainResult]:
    """Estimates the damage of photographs and trains a restorer against it, or goes on.

    Arguments:
        config: The configuration, as ``configure("restorer", ...)`` makes it.
        out: The run's folder.
        resume: True goes on with ``out``; the path of a run or checkpoint goes on with that in ``out``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; the damage is estimated on the CPU.
        workers: The number of reading threads.
        silent: Whether nothing is printed.
        command: The command that resumes this run, printed when it is interrupted.
        stop: Is asked between iterations whether to save the run and end, as Ctrl-C does.

    Returns:
        The run, and how it ended.

    Raises:
        ValueError: If the photographs do not fit, or the damage in the run's folder was estimated from others; in one
            line. And what :func:`blemish.runs.start` raises.
    """
    out, silent = Path(out), silent or not is_main()
    found = _find(out, resume)
    if found is None:
        # What takes long, the estimate, comes after all that can be wrong without it.
        check_start(config, out, resume=resume, device=device)
        _check_alone()
    source = photographs(config.data, seed=config.seed, silent=silent)
    made_of = _made_of(config, source)
    if found is None:
        damage: Degradation[Any] = _estimated(config, source, out, made_of, silent).degradation
    else:
        _check_same(found, made_of)
        damage = artefacts.load(found / _PLACE)
        _say(f"The damage was estimated before: {found / _PLACE}.", silent)
        if found != out and is_main():
            _keep(damage, out, made_of, f"From {found / _PLACE}.")
    config = with_simulator(config, damage.config, f"sha256:{artefacts.digest(damage)}")
    return start(
        config,
        out,
        resume=resume,
        device=device,
        images=crops(source, config.data, workers=workers),
        parts={"degradation": damage},
        workers=workers,
        silent=silent,
        command=command,
        stop=stop,
    )


def _find(out: Path, resume: Path | bool) -> Path | None:
    """Returns the folder with an estimate: the run's own, or that which it goes on from; None if there is none."""
    for folder in (out, *_origins(resume)):
        if artefacts.is_artefact(folder / _PLACE) and (folder / _RECORD).is_file():
            return folder
    return None


def _origins(resume: Path | bool) -> Iterator[Path]:
    if isinstance(resume, Path):
        # A run, or a checkpoint in its folder of checkpoints.
        yield from (resume, resume.parent.parent)


def _estimated(
    config: RunConfig, source: Source, out: Path, made_of: dict[str, Any], silent: bool
) -> Estimate:
    half = config.data.half
    _say("Estimating the damage, which takes some minutes.", silent)
    with waiting("estimating the damage", silent=silent) as tell:
        estimate = estimate_damage(
            source,
            among=None if half is None else range(half, len(source), 2),
            seed=config.seed,
            factor=config.data.shrink,
            progress=tell,
        )
    _say("\n".join(estimate.lines()), silent)
    _keep(estimate.degradation, out, made_of, " ".join(estimate.lines()))
    return estimate


def _keep(damage: Degradation[Any], out: Path, made_of: dict[str, Any], text: str) -> None:
    # The record comes last: without it, an estimate counts for nothing.
    (out / _RECORD).unlink(missing_ok=True)
    artefacts.save(damage, out / _PLACE, card=text)
    write_atomically(out / _RECORD, (json.dumps(made_of, indent=1) + "\n").encode())


def _made_of(config: RunConfig, source: Source) -> dict[str, Any]:
    """Returns what an estimate depends on."""
    names = "\n".join(source.name(i) for i in range(len(source)))
    shown = range(min(_SHOWN, len(source)))
    return {
        "photographs": len(source),
        "names": hashlib.sha256(names.encode()).hexdigest()[:16],
        "looks": [_look(source.read(i)) for i in shown],
        "channels": source.channels,
        "setting": config.data.setting,
        "half": config.data.half,
        "shrink": config.data.shrink,
        "seed": config.seed,
    }


def _look(photograph: Tensor) -> list[float]:
    """Returns the brightness of a photograph, and its roughness, which blur and noise change."""
    x = photograph.float() / 255
    return [round(float(v), 5) for v in (x.mean(), x.diff(dim=-1).abs().mean())]


def _check_same(found: Path, made_of: dict[str, Any]) -> None:
    before = read_json(found / _RECORD)
    other = [name for name in made_of if name != "looks" and before.get(name) != made_of[name]]
    pairs = zip(before.get("looks", ()), made_of["looks"], strict=False)
    if any(abs(x - y) > _TOLERANCE for a, b in pairs for x, y in zip(a, b, strict=True)):
        other.append("looks")
    for name in other[:1]:
        raise ValueError(
            f"{found / _PLACE} was estimated from other photographs or in another way: {name} was {before.get(name)} and "
            f"is {made_of[name]}; choose another folder for the run, or give this damage with --degradation"
        )


def _check_alone() -> None:
    world, _ = processes()
    if world > 1:
        raise ValueError(
            f"the damage is estimated by one process, and there are {world}; start once without torchrun and stop it with "
            "Ctrl-C when training begins, or give a damage with --degradation"
        )


def _say(text: str, silent: bool) -> None:
    # Of several processes only the main one is not silent.
    if not silent:
        print(text, file=sys.stderr)
