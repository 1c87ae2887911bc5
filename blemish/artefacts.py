"""Trained parts as folders: ``config.json``, ``model.safetensors``, ``README.md``.

A part is a degradation, a prior or a restorer. Its folder can be loaded, inspected, applied, moved to another
machine. Nothing in it is ever unpickled; the configuration may name only known classes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from safetensors.torch import save as save_bytes
from torch import nn

from .configuration import decode, encode, read_json
from .degradations import DEGRADATIONS, Coded, Fixed
from .degradations import KINDS as DEGRADATION_KINDS
from .priors import KINDS as PRIOR_KINDS
from .restorers import KINDS as RESTORER_KINDS
from .restorers import RESTORERS

__all__ = ["FORMAT", "check_replaceable", "digest", "is_artefact", "load", "save"]

FORMAT = 1
"""The version of the folder's layout."""

_KINDS = {**DEGRADATION_KINDS, **PRIOR_KINDS, **RESTORER_KINDS}

_FILES = {"config.json", "model.safetensors", "README.md"}
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what file managers leave behind, unasked

_VERBS = {
    "degradation": "degrade THIS_FOLDER IN OUT",
    "prior": "sample RUN --out DIR",
    "restorer": "restore THIS_FOLDER IN OUT",
}


def save(
    part: nn.Module,
    folder: str | os.PathLike[str],
    *,
    card: str = "",
    origin: Mapping[str, str] | None = None,
) -> Path:
    """Writes a part to a folder; the folder is whole or is not there.

    An artefact that is replaced is renamed first and removed last: after a crash in between, the old one or the new one is
    still there, in the worst case beside its place under a name that starts with a dot.

    Arguments:
        part: A degradation, a prior or a restorer.
        folder: Where to; an artefact that is there already is replaced. A link is followed.
        card: Prose for ``README.md``: where the part comes from.
        origin: The same for programs, noted in ``config.json`` as it is; loading does not look at it.

    Raises:
        FileExistsError: If the folder exists and is no artefact, or holds what is no part of one.
        TypeError: If a degradation is fixed: its configuration does not hold its parameters.
    """
    given = Path(folder)
    folder = given.resolve()  # a renamed link would leave the folder behind
    if any(isinstance(module, Coded | Fixed) for module in part.modules()):
        raise TypeError(
            "what has fixed parameters cannot be saved; save the degradation in it, and its parameters"
        )
    check_replaceable(given)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(part, temporary, card, origin)
        temporary.chmod(0o755)
        _replace(folder, temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)  # it may be in its place already
        raise
    return given


def load(folder: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> Any:
    """Loads a part from a folder that :func:`save` wrote.

    Arguments:
        folder: The folder.
        device: Where the part shall lie.

    Returns:
        The degradation, prior or restorer, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no artefact in the folder.
        ValueError: If the artefact is of another format, or its weights are damaged or do not fit.
    """
    folder = Path(folder)
    if not is_artefact(folder):
        raise FileNotFoundError(
            f"{folder} is no artefact: it has no config.json and model.safetensors"
        )
    document = read_json(folder / "config.json")
    if document.get("format") != FORMAT:
        raise ValueError(
            f"{folder} has format {document.get('format')}; this version reads format {FORMAT}"
        )
    weights = folder / "model.safetensors"
    if hashlib.sha256(weights.read_bytes()).hexdigest() != document.get("sha256"):
        raise ValueError(f"{weights} is damaged: its checksum is not the one in config.json")
    config = decode(document.get("config"), _KINDS)
    if not hasattr(config, "build"):
        raise ValueError(f"{folder / 'config.json'} describes no degradation, prior or restorer")
    part = config.build()
    try:
        part.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise ValueError(f"{weights} does not fit its config.json: {error}") from None
    return part.to(device).eval()


def digest(part: nn.Module) -> str:
    """Returns 16 hexadecimal digits that tell a part from others: of its configuration and its weights."""
    text = json.dumps(encode(part.config), sort_keys=True).encode()
    weights = save_bytes(
        {name: t.detach().cpu().contiguous() for name, t in part.state_dict().items()}
    )
    return hashlib.sha256(text + weights).hexdigest()[:16]


def is_artefact(folder: str | os.PathLike[str]) -> bool:
    """Returns whether a folder holds an artefact."""
    folder = Path(folder)
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


def check_replaceable(folder: str | os.PathLike[str], *, part: str | None = None) -> None:
    """Refuses a folder that an artefact may not replace, as something else would be lost with it.

    A folder may be absent, empty, or an artefact and nothing more.

    Arguments:
        folder: The folder.
        part: What the artefact in it must be: ``degradation``, ``prior`` or ``restorer``; None means any.

    Raises:
        FileExistsError: If it is anything else; the message names the first file that does not belong there.
    """
    folder = Path(folder)
    if not folder.exists() or _is_empty(folder):
        return
    if not is_artefact(folder):
        raise FileExistsError(f"{folder} exists and is no artefact; choose another folder")
    found = _part_of(folder)
    if found is None:
        raise FileExistsError(
            f"{folder / 'config.json'} describes no artefact of blemish; choose another folder"
        )
    if part is not None and found != part:
        raise FileExistsError(f"{folder} holds a {found} and no {part}; choose another folder")
    others = sorted(path.name for path in folder.iterdir() if not _belongs(path))
    if others:
        raise FileExistsError(
            f"{folder} holds {others[0]!r} beside its artefact; move it away, or choose another folder"
        )


def _belongs(path: Path) -> bool:
    return path.name in _FILES | _LITTER and not path.is_dir()


def _part_of(folder: Path) -> str | None:
    """Returns what an artefact's description says it is, or None if it is no such description."""
    try:
        document = read_json(folder / "config.json")
    except ValueError:
        return None
    part = document.get("part")
    described = isinstance(document.get("format"), int) and isinstance(document.get("config"), dict)
    return part if described and isinstance(part, str) and part in _VERBS else None


def _replace(folder: Path, new: Path) -> None:
    """Puts a new folder in an old one's place, which is lost at no moment."""
    if not folder.exists():
        new.rename(folder)
        return
    old = new.with_name(f"{new.name}.old")
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def _write(part: nn.Module, folder: Path, card: str, origin: Mapping[str, str] | None) -> None:
    weights = folder / "model.safetensors"
    save_file(
        {name: t.detach().cpu().contiguous() for name, t in part.state_dict().items()}, weights
    )
    config = encode(part.config)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    role = _role(config["type"])
    document = {"format": FORMAT, "part": role, "sha256": digest, "config": config}
    if origin is not None:
        document["origin"] = dict(origin)
    (folder / "config.json").write_text(json.dumps(document, indent=2) + "\n")
    (folder / "README.md").write_text(_card(role, config["type"], digest, card))


def _role(kind: str) -> str:
    if kind in RESTORERS:
        return "restorer"
    return "degradation" if kind in DEGRADATIONS else "prior"


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _card(role: str, kind: str, digest: str, text: str) -> str:
    return (
        f"---\nlibrary_name: blemish\ntags:\n- {role}\n---\n\n# {kind}\n\n"
        f"A {role} made with blemish. {text}\n\n"
        f"```python\nimport blemish\n\n{role} = blemish.load(THIS_FOLDER)\n```\n\n"
        f"On the command line: `blemish {_VERBS[role]}`. SHA-256 of the weights: `{digest}`.\n"
    )
