"""Options that several verbs share or that need many words, and the words that some of them allow."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Against",
    "Budget",
    "Cache",
    "Checkpoint",
    "Checkpoints",
    "Clean",
    "CleanTest",
    "CleanTraining",
    "Continued",
    "Crop",
    "Demo",
    "Device",
    "DryRun",
    "Enlarger",
    "Factor",
    "Features",
    "Fit",
    "Fitting",
    "GivenLaw",
    "GivenModel",
    "GivenPrior",
    "GivenSteps",
    "ImagesSeen",
    "InPlace",
    "InversionMethod",
    "Jobs",
    "JsonFile",
    "Label",
    "LateLaw",
    "Metrics",
    "Observed",
    "OnlyModels",
    "OnlySeeds",
    "OnlySettings",
    "OtherPrior",
    "Overrides",
    "Overwrite",
    "PageFile",
    "Precision",
    "PresetName",
    "Reference",
    "Replay",
    "ResumeFrom",
    "Robustness",
    "RunFolder",
    "Scale",
    "Seed",
    "Setting",
    "Shard",
    "Simulator",
    "Size",
    "SkipBad",
    "Tile",
    "Weights",
    "Workers",
    "files",
    "pairs",
    "value",
]


class Precision(StrEnum):
    """The number format of the networks' forward passes."""

    single = "32"
    bf16 = "bf16"


class Demo(StrEnum):
    """What is shown on embedded data."""

    damage = "damage"
    perceptual = "perceptual"


class Fit(StrEnum):
    """How an image of another size is made to fit."""

    crop = "crop"
    resize = "resize"


class Checkpoint(StrEnum):
    """Which checkpoint of a run."""

    best = "best"
    last = "last"


class InversionMethod(StrEnum):
    """What a search by inversion knows of the damage."""

    universal = "universal"
    non_blind = "non-blind"
    blind = "blind"
    sphere = "sphere"
    pulse = "pulse"
    mmd = "mmd"


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

Setting = Annotated[
    str | None,
    typer.Option(
        help="Degrade a clean source first: A to T, or ffhq/A to ffhq/T (B to D blur, H to J JPEG, R noise, N all; docs/settings.md).",
        metavar="S",
    ),
]
Simulator = Annotated[
    str | None,
    typer.Option(
        help="What a restorer is trained against: a run, an artefact, setting:S or bsrgan:K; default: --setting's damage.",
        metavar="D",
    ),
]
Continued = Annotated[
    str | None,
    typer.Option(
        "--restorer",
        help="What to go on training from: a run that has a restorer, or a restorer (harden, andnet, andgan).",
        metavar="R",
    ),
]
Scale = Annotated[
    int | None,
    typer.Option(
        help="How many times larger a restorer makes images, 1 to 4; default: 4 of andnet, else 1.",
        metavar="K",
        min=1,
        max=4,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one field, e.g. training.batch=32.", metavar="KEY=VALUE"),
]
Robustness = Annotated[
    bool,
    typer.Option(
        "--robustness",
        help="WHAT is a restorer: restore --reference after 9 kinds of damage in 3 strengths, and print PSNR on Y.",
    ),
]
Crop = Annotated[
    int | None,
    typer.Option(
        help="Border that PSNR and SSIM of pairs leave out; default: --scale, else 0.",
        metavar="PIXELS",
        min=0,
    ),
]
Reference = Annotated[
    str | None,
    typer.Option("--reference", help="Clean images; only niqe needs none.", metavar="SOURCE"),
]
Enlarger = Annotated[
    str | None,
    typer.Option(
        "--restorer",
        help="Of pairs: restore the images first by this run or restorer.",
        metavar="R",
    ),
]
Observed = Annotated[
    str | None,
    typer.Option(
        "--observed",
        help="Of a likelihood: observed partners of the reference; default: the reference is damaged.",
        metavar="SOURCE",
    ),
]
Factor = Annotated[
    int | None,
    typer.Option(
        "--scale",
        help="Of pairs: how many times larger the reference is; without --restorer enlarged bicubically, PSNR and SSIM on Y.",
        metavar="K",
        min=1,
    ),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the scores there, too.", metavar="FILE")
]
CleanTraining = Annotated[
    str | None,
    typer.Option(
        help="Clean training images; without it only the table of finished cells is written.",
        metavar="SOURCE",
    ),
]
CleanTest = Annotated[
    str | None,
    typer.Option(help="Clean test images; default: those beside --data.", metavar="SOURCE"),
]
Label = Annotated[str | None, typer.Option(help="What the data are called.", metavar="WORD")]
OnlySeeds = Annotated[
    str | None, typer.Option(help="Only these seeds, e.g. 0,1.", metavar="NUMBERS")
]
OnlySettings = Annotated[
    str | None,
    typer.Option(help="Only these columns, e.g. DN; of udm-table1, e.g. U-M,N-M.", metavar="NAMES"),
]
OnlyModels = Annotated[
    str | None,
    typer.Option(
        help="Only these models, e.g. gan,br-gan; of pir-table2 rows, e.g. mean,mean-mmd.",
        metavar="NAMES",
    ),
]
GivenPrior = Annotated[
    str | None,
    typer.Option(
        "--prior",
        help="Of udm-table1 and pir-table2: a run that has a prior, or a prior.",
        metavar="P",
    ),
]
GivenModel = Annotated[
    str | None,
    typer.Option(
        "--degradation",
        help="Of udm-table1: a universal model, or its run. Of pir-table2: the damage; default: setting:S, JPEG.",
        metavar="D",
    ),
]
GivenSteps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        help="Of udm-table1: steps of each phase. Of pir-table2: those that stand for 100. Default: the methods'.",
        metavar="N",
        min=1,
    ),
]
OtherPrior = Annotated[
    str | None,
    typer.Option("--prior-v1", help="Of pir-table2: the prior of the row v1.", metavar="P"),
]
GivenLaw = Annotated[
    str | None,
    typer.Option(
        "--likelihood",
        help="Of pir-table2: a law of damage, as a run of likelihood, in rows with bits.",
        metavar="L",
    ),
]
LateLaw = Annotated[
    str | None,
    typer.Option(
        "--likelihood-late",
        help="Of pir-table2: one that was trained too long.",
        metavar="L",
    ),
]
Cache = Annotated[bool, typer.Option("--cache/--no-cache", help="Keep features for the next time.")]
Jobs = Annotated[int, typer.Option(help="Cells at a time, one thread each.", metavar="N", min=1)]
Budget = Annotated[
    float | None,
    typer.Option(
        help="Stop after so many minutes; the same command goes on.", metavar="MINUTES", min=0
    ),
]
Shard = Annotated[
    str | None, typer.Option(help="Only every n-th cell from the i-th on.", metavar="i/n")
]
Clean = Annotated[
    str | None,
    typer.Option(
        help="Clean images for supervised (partners of the same names) and cyclegan (any).",
        metavar="SOURCE",
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        help="Bring images to this side in pixels (but for restorers, the preset's); see --fit.",
        metavar="N",
        min=1,
    ),
]
Fitting = Annotated[
    Fit | None,
    typer.Option(
        help="How other sizes are brought to --size; default: crop with --size, else none."
    ),
]
Tile = Annotated[
    int,
    typer.Option(help="The side of the tiles that are restored at a time.", metavar="N", min=1),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Make again what is there; else it is stepped over."),
]
InPlace = Annotated[
    bool, typer.Option("--in-place", help="Replace each picture by the restored one.")
]
Metrics = Annotated[
    str | None,
    typer.Option(
        help="Sets: fd,kid,prdc; pairs: psnr[-y],ssim[-y],ms-ssim[-y],lpips,dists,perceptual; images: niqe,rankiqa[-256][-median]",
        metavar="NAMES",
    ),
]
Features = Annotated[
    str,
    typer.Option(
        help="What sets are compared on: effnet-lite0[@SIZE], inception[:FILE], inception-clean[:FILE], dinov2:FILE, pixels[@SIZE].",
        metavar="NAME",
    ),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        help="What a metric needs: lpips-backbone, lpips-heads, dists-backbone, dists-weights, niqe, rankiqa.",
        metavar="NAME=FILE",
    ),
]
Workers = Annotated[int, typer.Option(help="Threads that read large images.", metavar="N", min=1)]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print configuration and costs, train nothing.")
]
ResumeFrom = Annotated[
    Path | None,
    typer.Option(help="Go on from another run or checkpoint, in RUN.", metavar="PATH"),
]
PageFile = Annotated[
    Path | None,
    typer.Option(
        "--page", help="Write a page of the first 24 before and after.", metavar="FILE.html"
    ),
]
ImagesSeen = Annotated[
    int | None, typer.Option(help="Images to see; default: the preset's.", metavar="N", min=1)
]
PresetName = Annotated[
    str | None,
    typer.Option(
        help="The size of everything: tiny, cifar10-small, ...; default: cifar10-small, of restorer photos.",
        metavar="P",
    ),
]
Replay = Annotated[
    Path | None,
    typer.Option(
        help="Use the seed and the indices of an earlier --params again; its parameters are only checked.",
        metavar="FILE.jsonl",
    ),
]
Against = Annotated[
    Path | None,
    typer.Option(
        help="Compare a run with another run or degradation, e.g. of another seed or data.half.",
        metavar="OTHER",
    ),
]


def value(choice: StrEnum | None) -> str | None:
    """Returns the word that was chosen."""
    return None if choice is None else choice.value


def pairs(overrides: Sequence[str]) -> list[str]:
    """Returns what --set was given, or says how it is written."""
    for text in overrides:
        if "=" not in text.strip("="):
            raise typer.BadParameter(f"--set {text}: write --set KEY=VALUE, e.g. training.batch=32")
    return list(overrides)


def files(weights: Sequence[str]) -> list[str]:
    """Returns what --weights was given, or says how it is written."""
    for text in weights:
        if "=" not in text.strip("="):
            raise typer.BadParameter(f"--weights {text}: write --weights NAME=FILE")
    return list(weights)
