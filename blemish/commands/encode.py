"""``blemish encode``: the damage of a picture as a file of some hundred bytes, for ``transfer`` and ``degrade``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from ..degradations import UniversalDegradation, UniversalParams, pack_code
from ..degradations.codes import MAGIC, unpack_code
from ..functional.random import generator_for
from ..photos import read_picture, tensor_of, write_whole
from ..photos.redegrade import encode_picture
from ..runs import Which
from ..training.processes import find_device
from ..training.progress import waiting
from .degrade import find_degradation

__all__ = ["find_model", "find_reference", "run"]

SMALLEST = 16
"""The least side of a picture that a damage can be read off."""


def run(
    what: str,
    source: Path,
    code: Path,
    *,
    overwrite: bool = False,
    device: str = "auto",
    checkpoint: Which | None = None,
    as_json: Path | None = None,
) -> int:
    """Reads the damage off a picture.

    Arguments:
        what: A run's folder or a degradation's.
        source: The picture.
        code: The file written.
        overwrite: Whether a file that is there is replaced.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        checkpoint: Of a run, ``best`` or ``last``; None means the best where one was chosen.
        as_json: Where sizes and embedding are written as JSON, or None.

    Returns:
        0.

    Raises:
        ValueError: If an argument does not fit.
        FileExistsError: If the file exists and may not be replaced.
    """
    if code.exists() and (code.is_dir() or not overwrite):
        raise FileExistsError(f"{code} exists; give --overwrite to replace it, or another name")
    if code.resolve() == source.resolve():
        raise ValueError(f"{code} is the picture itself; give another name")
    model = find_model(what, checkpoint, device)
    with waiting("reading the damage"):
        params, size = _read(model, source, find_device(device))
    data = pack_code(model, params, size)
    code.parent.mkdir(parents=True, exist_ok=True)
    write_whole(code, data)
    facts = _facts(model, params, size, data)
    if as_json is not None:
        write_whole(as_json, (json.dumps(facts, indent=1) + "\n").encode())
    print(
        f"wrote {code}: {len(data)} bytes, of which the embedding takes {facts['bytes_g']} and the map "
        f"{facts['bytes_l']}"
    )
    return 0


def find_model(what: str, checkpoint: Which | None, device: str) -> UniversalDegradation:
    """Returns a universal degradation model, on a device.

    Raises:
        ValueError: If there is none.
    """
    found = find_degradation(what, checkpoint, tell=print)
    if not isinstance(found, UniversalDegradation):
        raise ValueError(
            f"{what} holds a {type(found).__name__}, which reads no code off a picture; give a run of the recipe "
            "universal or its degradation"
        )
    return found.to(find_device(device)).eval()


def find_reference(
    model: UniversalDegradation, reference: Path, device: torch.device
) -> UniversalParams:
    """Returns the code of a damaged picture, or the one in a file.

    Arguments:
        model: The model, on the device.
        reference: A picture, or what ``encode`` wrote.
        device: Where it is computed.

    Returns:
        The code, on the CPU.

    Raises:
        ValueError: If the file is neither, or the code is another model's; the file is named.
        FileNotFoundError: If there is none.
    """
    if not reference.is_file():
        raise FileNotFoundError(f"{reference} does not exist; give a damaged picture, or its code")
    with reference.open("rb") as file:
        is_code = file.read(len(MAGIC)) == MAGIC
    if not is_code:
        return _read(model, reference, device)[0]
    try:
        code = unpack_code(model, reference.read_bytes(), generator=generator_for("unused"))
    except ValueError as error:
        raise ValueError(f"{reference}: {error}") from None
    return code.params.to("cpu")


def _read(
    model: UniversalDegradation, source: Path, device: torch.device
) -> tuple[UniversalParams, tuple[int, int]]:
    try:
        colours = read_picture(source).colours
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    y = tensor_of(colours, model.channels)
    H, W = y.shape[-2:]
    if min(H, W) < SMALLEST:
        raise ValueError(
            f"{source} has {W}x{H} pixels, too few to read a damage off; give {SMALLEST}x{SMALLEST} or more"
        )
    return encode_picture(model, y, device=device), (H, W)


def _facts(
    model: UniversalDegradation, params: UniversalParams, size: tuple[int, int], data: bytes
) -> dict[str, Any]:
    unpacked = unpack_code(model, data, generator=generator_for("unused"))
    g, local = (float(bits.item()) for bits in model.bits(params.to(_device_of(model))))
    return {
        "bytes": len(data),
        "bytes_g": unpacked.bytes_g,
        "bytes_l": unpacked.bytes_l,
        "bits_g": round(g, 2),
        "bits_l": round(local, 2),
        "height": size[0],
        "width": size[1],
        "cells": math.prod(params.e_l.shape[2:]),
        "e_g": [round(v, 4) for v in params.e_g[0].tolist()],
    }


def _device_of(model: UniversalDegradation) -> torch.device:
    return next(model.parameters()).device
