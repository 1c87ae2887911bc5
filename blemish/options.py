"""Options that several verbs share, and the words that some of them allow."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Device",
    "Fit",
    "Precision",
    "RunFolder",
    "Seed",
    "SkipBad",
    "value",
]


class Precision(StrEnum):
    """The number format of the networks' forward passes."""

    single = "32"
    bf16 = "bf16"


class Fit(StrEnum):
    """How an image of another size is made to fit."""

    crop = "crop"
    resize = "resize"


class Checkpoint(StrEnum):
    """Which checkpoint of a run."""

    best = "best"
    last = "last"


Seed = Annotated[int, typer.Option(help="Seed of every random number.", metavar="S", min=0)]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Step over broken files and list them.")]
Checkpoints = Annotated[
    Checkpoint | None,
    typer.Option(
        "--checkpoint", help="Of a run: best or last; default: the best where one was chosen."
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", metavar="DEVICE")]


def value(choice: StrEnum | None) -> str | None:
    """Returns the word that was chosen."""
    return None if choice is None else choice.value
