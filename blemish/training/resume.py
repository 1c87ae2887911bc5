"""From a run to a checkpoint and back, and whether the two belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..configuration import complete, encode, read_json
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

__all__ = ["begin", "check_folder", "fingerprint", "save"]

FILES = ("config.json", "metrics.jsonl")
"""What a run's folder holds from its beginning."""

PLACES = (
    *FILES,
    *("checkpoints", "samples", "tensorboard", "observed.png", "report.html"),
    *("prior", "degradation", "restorer", "best", "selection.json"),
)
"""All that a run writes, its hooks included."""

SHOWN = 16
"""The number of images whose brightness tells a data set."""

TOLERANCE = 1e-3
"""How far an image's mean may differ: decoders and processors round differently."""


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what determines a run's numbers: all but its length, its cadences and where the data lie.

    Arguments:
        config: The run's configuration as JSON values.
    """
    data = {**config["data"], "source": ""}
    training = {name: config["training"][name] for name in ("batch", "precision")}
    return {"seed": config["seed"], "data": data, "system": config["system"], "training": training}


def _digest(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def fingerprint(batch: Tensor, count: int | None) -> dict[str, Any]:
    """Returns JSON values that tell one data set from another, on any machine.

    Arguments:
        batch: The first observed batch of the run, in [0, 1], with shape (B, C, H, W).
        count: The number of images of the data set, None where it is unknown.
    """
    means = batch[:SHOWN].flatten(1).double().mean(dim=1)
    return {"count": count, "means": [round(mean, 6) for mean in means.tolist()]}


def check_folder(config: RunConfig, out: Path, resume: Path | bool | None) -> None:
    """Looks for what forbids a run, before images are opened; see :func:`begin` for the errors."""
    folder = _checkpoint_to_resume(out, resume)
    if folder is not None:
        _differences(config, folder, out, read_json(folder / "state.json"))
    elif (out / "config.json").exists():
        # It was stopped before its first checkpoint: the same run starts again, no other in its place.
        _refuse(_changes(_identity(read_json(out / "config.json")), config), out)


def save(run: Run, seconds: float) -> None:
    """Writes a checkpoint in the main process; all processes call it.

    Raises:
        TrainingDiverged: If a weight is not finite.
    """
    check_weights(run)
    if not run.team.main:
        return
    state, identity = run.state, _identity(encode(run.state.config))
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
        "observed": run.observed,
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

    Raises:
        FileExistsError: If the folder holds another run, or something else.
        FileNotFoundError: If there is no whole checkpoint to resume from.
        ValueError: If the same folder's run has another configuration or has seen other images, or the
            checkpoint is of other networks.
    """
    out = run.state.out
    folder = _checkpoint_to_resume(out, resume)
    run.team.any(False)  # no process writes into the folder before all have looked at it
    if folder is None:
        if resume:
            run.notes.append(f"{out} holds no checkpoint yet: starting at the beginning.")
        return None
    checkpoint = load_checkpoint(folder)
    changes = _differences(run.state.config, folder, out, checkpoint.state)
    _check_networks(run, folder, checkpoint)
    changes += _other_images(run, folder, checkpoint)
    run.notes += [f"Changed: {change}." for change in changes]
    _restore(run, checkpoint)
    return out if _is_in(folder, out) else folder.resolve().parent.parent


def _checkpoint_to_resume(out: Path, resume: Path | bool | None) -> Path | None:
    _check_place(out)
    if resume is True and not list_checkpoints(out):
        return None  # it was stopped before its first checkpoint: start again
    wanted = out if resume is True else resume
    if isinstance(wanted, Path):
        folder = find_checkpoint(wanted)
        if not _is_in(folder, out):
            _check_empty(out)
        elif (latest := latest_checkpoint(out)) and latest.name != folder.name:
            raise ValueError(
                f"{folder} is not the newest checkpoint of {out}; resume it into another folder"
            )
        return folder
    _check_empty(out)
    return None


def _check_empty(out: Path) -> None:
    if list_checkpoints(out) or any((out / name).exists() for name in FILES):
        raise FileExistsError(
            f"{out} holds a run; go on with --resume (in Python resume=True), or choose another folder"
        )


def _check_place(out: Path) -> None:
    """Refuses folders that are something else than a run, whose files a run would overwrite."""
    if not out.exists():
        return
    if not out.is_dir():
        raise FileExistsError(f"{out} is a file; choose a folder for the run")
    present = [name for name in PLACES if (out / name).exists()]
    if present and not _is_run(out / "config.json"):
        raise FileExistsError(
            f"{out} holds {present[0]!r}, which is not of a run and would be replaced; choose another folder"
        )


def _is_run(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text()).get("type") == "RunConfig")
    except (OSError, ValueError, AttributeError):
        return False


def _differences(config: RunConfig, folder: Path, out: Path, state: Mapping[str, Any]) -> list[str]:
    """Refuses a changed configuration in the same folder, returns the changes for another."""
    changes = _changes(state["config"], config)
    if _is_in(folder, out):
        _refuse(changes, folder)
    images, batch = state["images"], config.training.batch
    if images % batch:
        raise ValueError(
            f"{folder} has seen {images} images, no multiple of training.batch={batch}"
        )
    return changes


def _changes(known: Mapping[str, Any], config: RunConfig) -> list[str]:
    """Returns how a configuration differs from a known identity, in words."""
    parts = {name: complete(known[name], getattr(config, name)) for name in ("data", "system")}
    before = _flatten({**known, **parts})
    after = _flatten(_identity(encode(config)))
    return [
        f"{name} was {before.get(name)!r} and is {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _refuse(changes: list[str], folder: Path) -> None:
    if changes:
        raise ValueError(
            f"{folder} is of another configuration: {'; '.join(changes[:5])}; choose another folder, "
            "into which a run can be resumed with changes of all but the networks"
        )


def _check_networks(run: Run, folder: Path, checkpoint: Checkpoint) -> None:
    """Refuses a checkpoint whose weights have other names or shapes than the run's."""
    theirs = {name: tuple(tensor.shape) for name, tensor in checkpoint.parameters.items()}
    mine = {name: tuple(t.shape) for name, t in run.state.system.state_dict().items()}
    for name in (*mine, *theirs):
        if mine.get(name) != theirs.get(name):
            there, here = (str(shapes.get(name, "absent")) for shapes in (theirs, mine))
            raise ValueError(
                f"{folder} is of other networks: {name} is {there} there and {here} here; "
                "give its recipe and preset, or start a new run"
            )


def _other_images(run: Run, folder: Path, checkpoint: Checkpoint) -> list[str]:
    """Refuses other images in the same folder, returns a note for another."""
    before, after = checkpoint.state.get("observed"), run.observed
    if before is None or checkpoint.state["config"]["seed"] != run.state.config.seed:
        return []  # of an older version; or the order is another one
    if before["count"] != after["count"]:
        what = f"there were {before['count']} and there are {after['count']}"
    elif any(abs(a - b) > TOLERANCE for a, b in zip(before["means"], after["means"], strict=False)):
        what = "the first ones differ"
    else:
        return []
    text = f"the images are not those that {folder} has seen: {what}"
    if _is_in(folder, run.state.out):
        raise ValueError(
            f"{text}; give the same --data, or resume into another folder to go on with these"
        )
    return [text]


def _is_in(folder: Path, out: Path) -> bool:
    return folder.resolve().parent.parent == out.resolve()


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
