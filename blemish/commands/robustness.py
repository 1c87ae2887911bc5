"""``blemish evaluate RESTORER --robustness``: how a restorer stands up to damage that it was not told of."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data import Source
from ..evaluation import CLEAN, Profile, robustness
from ..functional.resample import bicubic
from ..photos import restore_tiled, with_channels
from ..restorers import Restorer
from ..runs import Which
from ..training.checkpoint import write_atomically
from ..training.processes import find_device
from ..training.progress import waiting
from .restore import find_restorer

__all__ = ["run"]

_PLAIN = "bicubic enlargement"


def run(
    what: str,
    source: Source,
    *,
    device: str = "auto",
    checkpoint: Which | None = None,
    out: Path | None = None,
) -> int:
    """Prints the profile of a restorer, beside that of plain enlargement.

    Arguments:
        what: A run's folder or a restorer's.
        source: Clean pictures in colour.
        device: Where pictures are restored.
        checkpoint: Of a run, ``best`` or ``last``; None means the best where one was chosen.
        out: The JSON file written, or None.

    Returns:
        0.
    """
    place = find_device(device)
    restorer = with_channels(find_restorer(what, checkpoint, tell=print), source.channels)
    if isinstance(restorer, nn.Module):
        restorer.to(place)
    profiles = {}
    plain = "as it is" if restorer.scale == 1 else _PLAIN
    ways = {what: partial(_restored, restorer, place), plain: partial(_enlarged, restorer.scale)}
    for name, way in ways.items():
        with waiting(f"profile of {name}") as tell:
            profiles[name] = robustness(way, source, restorer.scale, progress=tell)
    print("\n".join(_lines(profiles)))
    print(
        f"PSNR on Y in dB, crop {restorer.scale}, {len(source)} pictures of {source.title}, scale {restorer.scale}; "
        "the mean and the worst are of the unseen"
    )
    if out is not None:
        document = {name: _document(profile) for name, profile in profiles.items()}
        write_atomically(out, (json.dumps(document, indent=1) + "\n").encode())
    return 0


def _restored(restorer: Restorer, device: torch.device, y: Tensor) -> Tensor:
    return restore_tiled(restorer, y, device=device)


def _enlarged(scale: int, y: Tensor) -> Tensor:
    return y if scale == 1 else bicubic(y, (scale * y.shape[-2], scale * y.shape[-1]))


def _lines(profiles: dict[str, Profile]) -> list[str]:
    """Returns a table: a line for each damage, weak to strong, and a column for each way."""
    names = list(next(iter(profiles.values())).scores)
    width = max(map(len, [*names, "mean of unseen"])) + 2
    columns = [max(len(name), 20) + 2 for name in profiles]

    def row(head: str, cells: list[str]) -> str:
        padded = (f"{cell:>{size}}" for cell, size in zip(cells, columns, strict=True))
        return f"{head:<{width}}{''.join(padded)}".rstrip()

    lines = [row("", list(profiles))]
    for name in names:
        cells = [" ".join(f"{v:.2f}" for v in p.column(name)) for p in profiles.values()]
        lines.append(row(name, cells))
    lines.append(row("mean of unseen", [f"{p.mean:.3f}" for p in profiles.values()]))
    lines.append(row("worst", [f"{p.worst[0]:.2f} ({p.worst[1]})" for p in profiles.values()]))
    return lines


def _document(profile: Profile) -> dict[str, object]:
    return {
        "mean": profile.mean,
        "worst": profile.worst,
        CLEAN: profile.clean,
        "scores": profile.scores,
    }
