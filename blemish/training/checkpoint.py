"""Checkpoints: everything that a run needs to go on, to the same bits.

A checkpoint is a folder ``checkpoints/<images>`` of a run:

* ``parameters.safetensors``: the system's parameters and buffers;
* ``averages.safetensors``: the moving averages of its parts, named ``part.name``;
* ``first_moments.safetensors``, ``second_moments.safetensors``: Adam's moments, named ``phase/parameter``;
* ``state.json``: progress, Adam's step counts, what the configuration was, and the hash of each other file.

It is written beside its place and then renamed, so that a folder of that name is complete; a folder whose files do not have
the noted hashes is never chosen. Nothing here is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

__all__ = [
    "Checkpoint",
    "find_checkpoint",
    "latest_checkpoint",
    "list_checkpoints",
    "load_checkpoint",
    "save_checkpoint",
    "write_atomically",
]

FORMAT = 1
_LEFTOVER = re.compile(r"\.[0-9]+\.(writing|removing)")
FILES = ("parameters", "averages", "first_moments", "second_moments")


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint, on the CPU.

    Attributes:
        parameters: The system's parameters and buffers.
        averages: The moving averages.
        first_moments: Adam's first moments.
        second_moments: Adam's second moments.
        state: JSON values: ``images``, ``iteration`` and what the training loop adds.
    """

    parameters: Mapping[str, Tensor]
    averages: Mapping[str, Tensor]
    first_moments: Mapping[str, Tensor]
    second_moments: Mapping[str, Tensor]
    state: Mapping[str, Any]


def save_checkpoint(run: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes a checkpoint into a run's folder and removes all but the newest.

    Arguments:
        run: The run's folder.
        checkpoint: What to write.
        keep: The number of newest checkpoints that stay.

    Returns:
        The checkpoint's folder.
    """
    root = run / "checkpoints"
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(".[0-9]*"):  # of a process that was killed while it wrote or removed
        if _LEFTOVER.fullmatch(leftover.name) and leftover.is_dir():
            shutil.rmtree(leftover)
    target = root / f"{checkpoint.state['images']:012d}"
    temporary = root / f".{target.name}.writing"
    temporary.mkdir()
    hashes = {}
    for name in FILES:
        content = safetensors.torch.save(_plain(getattr(checkpoint, name)))
        hashes[f"{name}.safetensors"] = hashlib.sha256(content).hexdigest()
        _write(temporary / f"{name}.safetensors", content)
    state = {"format": FORMAT, **checkpoint.state, "files": hashes}
    _write(temporary / "state.json", json.dumps(state, indent=1).encode())
    _sync_folder(temporary)
    _remove(target)
    temporary.rename(target)
    _sync_folder(root)
    for old in list_checkpoints(run)[:-keep]:
        _remove(old)
    return target


def list_checkpoints(run: Path) -> list[Path]:
    """Returns the folders of a run's checkpoints, oldest first, whole or not."""
    found = (run / "checkpoints").glob("[0-9]*")
    return sorted(p for p in found if p.name.isdigit() and p.is_dir())


def latest_checkpoint(run: Path) -> Path | None:
    """Returns the newest whole checkpoint of a run, or None."""
    return next((p for p in reversed(list_checkpoints(run)) if _whole(p)), None)


def find_checkpoint(path: Path) -> Path:
    """Returns the checkpoint that a path means: itself, or the newest of a run.

    Arguments:
        path: A checkpoint's folder or a run's folder.

    Raises:
        FileNotFoundError: If there is no whole checkpoint.
    """
    if (path / "state.json").is_file():
        if not _whole(path):
            raise FileNotFoundError(
                f"the checkpoint {path} is damaged: its files do not have the noted hashes; resume from another one"
            )
        return path
    found = latest_checkpoint(path)
    if found is None:
        raise FileNotFoundError(
            f"there is no whole checkpoint in {path / 'checkpoints'}; give the folder of a run, or start another one"
        )
    return found


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        ValueError: If a newer version of the package wrote it.
    """
    state = json.loads((folder / "state.json").read_text())
    if state["format"] != FORMAT:
        raise ValueError(
            f"the checkpoint {folder} has format {state['format']}; this version reads format {FORMAT}"
        )
    tensors = {n: safetensors.torch.load_file(folder / f"{n}.safetensors") for n in FILES}
    return Checkpoint(**tensors, state=state)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file such that a reader, or a run after a crash, sees the old or the new content and nothing between."""
    temporary = path.with_name(f".{path.name}.writing")
    _write(temporary, content)
    temporary.replace(path)
    _sync_folder(path.parent)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{name!r} of the state is a {type(tensor).__name__}; a system may only remember tensors (use buffers)"
            )
    # Copies, because the format refuses tensors that share memory.
    return {
        name: t.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, t in tensors.items()
    }


def _whole(folder: Path) -> bool:
    try:
        state = json.loads((folder / "state.json").read_text())
        return all(
            hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
            for name, expected in state["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """Removes a checkpoint such that a crash leaves no half of it under its name."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name}.removing")
        folder.rename(doomed)
        shutil.rmtree(doomed)
