"""From a run to a checkpoint and back, and whether the two belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..configuration import encode
from .checkpoint import (
    Checkpoint,
    find_checkpoint,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from .config import RunConfig
from .run import Run, check_weights

__all__ = ["begin", "save"]


def _identity(config: RunConfig) -> dict[str, Any]:
    """Returns what determines a run's numbers: all but its length, its cadences and where the data lie."""
    data = encode(replace(config.data, source=""))
    training = {name: getattr(config.training, name) for name in ("batch", "precision")}
    system = encode(config.system)
    return {"seed": config.seed, "data": data, "system": system, "training": training}


def _digest(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def save(run: Run, seconds: float) -> None:
    """Writes a checkpoint in the main process; all processes call it.

    Raises:
        TrainingDiverged: If a weight is not finite.
    """
    check_weights(run)
    if not run.team.main:
        return
    state, identity = run.state, _identity(run.state.config)
    first: dict[str, Tensor] = {}
    second: dict[str, Tensor] = {}
    steps: dict[str, dict[str, int]] = {}
    for player in run.players:
        name = player.phase.name
        one, two, steps[name] = player.moments()
        first |= {f"{name}/{key}": value for key, value in one.items()}
        second |= {f"{name}/{key}": value for key, value in two.items()}
    values = {
        "images": state.images,
        "iteration": state.iteration,
        "seconds": seconds,
        "steps": steps,
        "meter": run.meter.state_dict(),
        "warned": run.warned,
        "config": identity,
        "config_digest": _digest(identity),
        "torch": torch.__version__,
    }
    parameters, averages = state.system.state_dict(), run.averages.state_dict()
    checkpoint = Checkpoint(parameters, averages, first, second, values)
    save_checkpoint(state.out, checkpoint, keep=state.config.training.keep)


def begin(run: Run, resume: Path | bool | None) -> Path | None:
    """Starts a run or loads the checkpoint that it goes on from.

    Arguments:
        run: A fresh run; its weights, moments and progress become the checkpoint's.
        resume: See :func:`blemish.training.loop.train`.

    Returns:
        The folder of the run that goes on, or None where a run starts.
    """
    out = run.state.out
    folder = _checkpoint_to_resume(out, resume)
    run.team.any(False)  # no process writes into the folder before all have looked at it
    if folder is None:
        return None
    source = folder.resolve().parent.parent
    checkpoint = load_checkpoint(folder)
    _compare(run, folder, checkpoint, same=source == out.resolve())
    _restore(run, checkpoint)
    return out if source == out.resolve() else source


def _checkpoint_to_resume(out: Path, resume: Path | bool | None) -> Path | None:
    present = list_checkpoints(out)
    if resume is True and not present:
        return None  # it was stopped before its first checkpoint: start again
    wanted = out if resume is True else resume
    if isinstance(wanted, Path):
        folder = find_checkpoint(wanted)
        if folder.resolve().parent.parent != out.resolve():
            _check_empty(out)
        elif (latest := latest_checkpoint(out)) and latest.name != folder.name:
            raise ValueError(
                f"{folder} is not the newest checkpoint of {out}; resume it into another folder"
            )
        return folder
    _check_empty(out)
    return None


def _check_empty(out: Path) -> None:
    if list_checkpoints(out) or (out / "metrics.jsonl").exists():
        raise FileExistsError(f"{out} holds a run; go on with --resume or choose another folder")


def _compare(run: Run, folder: Path, checkpoint: Checkpoint, *, same: bool) -> None:
    """Refuses a changed configuration in the same folder, tells of it in another."""
    before = _flatten(checkpoint.state["config"])
    after = _flatten(_identity(run.state.config))
    changes = [
        f"{name} was {before.get(name)!r} and is {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    if changes and same:
        raise ValueError(
            f"{folder} is of another configuration: {'; '.join(changes[:5])}; "
            "to go on with these changes, resume it into another folder"
        )
    run.notes += changes
    images, batch = checkpoint.state["images"], run.state.config.training.batch
    if images % batch:
        raise ValueError(
            f"{folder} has seen {images} images, no multiple of training.batch={batch}"
        )


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Turns nested JSON values into one dictionary by dotted names."""
    if not isinstance(value, (dict, list)):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {
        name: leaf
        for key, item in items
        for name, leaf in _flatten(item, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _restore(run: Run, checkpoint: Checkpoint) -> None:
    values, state = checkpoint.state, run.state
    state.system.load_state_dict(checkpoint.parameters)
    run.averages.load_state_dict(checkpoint.averages)
    for player in run.players:
        prefix = f"{player.phase.name}/"
        first, second = (
            {k.removeprefix(prefix): v for k, v in moments.items() if k.startswith(prefix)}
            for moments in (checkpoint.first_moments, checkpoint.second_moments)
        )
        player.load_moments(first, second, values["steps"].get(player.phase.name, {}))
    run.meter.load_state_dict(values["meter"], run.team.device)
    run.warned = list(values["warned"])
    state.images, state.iteration = values["images"], values["iteration"]
    state.seconds = values["seconds"]
