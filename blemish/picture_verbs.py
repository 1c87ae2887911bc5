"""The verbs over pictures, as the command line sees them; each calls one function of :mod:`blemish.commands`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .dispatch import run_verb
from .options import (
    Checkpoints,
    Device,
    InPlace,
    InversionMethod,
    JsonFile,
    Overwrite,
    PageFile,
    Replay,
    Seed,
    SkipBad,
    Tile,
    pairs,
    value,
)

__all__ = ["compare", "degrade", "encode", "invert", "restore", "transfer"]


def degrade(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="setting:N, imaging, bsrgan:2, task:N-M, ..., a run or an artefact.",
        ),
    ],
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="A clean picture, folder or other source.")
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The picture or folder written.")
    ],
    seed: Seed = 0,
    params: Annotated[
        Path | None,
        typer.Option(help="Where the drawn parameters are written.", metavar="FILE.jsonl"),
    ] = None,
    replay: Replay = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace OUTPUT; of a folder, the pictures that its params.jsonl (or --params) lists.",
        ),
    ] = False,
    skip_bad: SkipBad = False,
    checkpoint: Checkpoints = None,
    code: Annotated[
        Path | None,
        typer.Option(
            help="Of a run of the recipe universal: the damage that encode wrote.", metavar="CODE"
        ),
    ] = None,
) -> Any:
    """Damage clean images, and write down how.

    Example: blemish degrade setting:N clean/ damaged/ --seed 1
    """
    return run_verb(
        "degrade",
        what,
        source,
        output,
        seed=seed,
        params=params,
        replay=replay,
        overwrite=overwrite,
        skip_bad=skip_bad,
        checkpoint=value(checkpoint),
        code=code,
    )


def restore(
    what: Annotated[
        str, typer.Argument(metavar="RESTORER", help="A run that has a restorer, or a restorer.")
    ],
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A picture, a folder of pictures, or a video.")
    ],
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUTPUT",
            help="The picture, folder or video written; left out with --in-place.",
            show_default=False,
        ),
    ] = None,
    tile: Tile = 512,
    overwrite: Overwrite = False,
    in_place: InPlace = False,
    page: PageFile = None,
    device: Device = "auto",
    checkpoint: Checkpoints = None,
) -> Any:
    """Restore photographs, with their depth, alpha and metadata.

    Example: blemish restore runs/unir photos/ restored/
    """
    return run_verb(
        "restore",
        what,
        source,
        output,
        tile=tile,
        overwrite=overwrite,
        in_place=in_place,
        page=page,
        device=device,
        checkpoint=value(checkpoint),
    )


def invert(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A damaged picture, or a folder of pictures.")
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The picture or folder written, as PNG.")
    ],
    prior: Annotated[str, typer.Option(help="A run that has a prior, or a prior.", metavar="P")],
    degradation: Annotated[
        str | None,
        typer.Option(
            help="The damage: a run of the recipe universal or likelihood, task:N-M, setting:N, noise:0.1, ...",
            metavar="D",
        ),
    ] = None,
    method: Annotated[
        InversionMethod | None,
        typer.Option(
            help="How is searched; default: universal where D reads codes, mmd where D has a learned likelihood, "
            "else non-blind."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Of pulse and mmd: KEY=VALUE, e.g. mmd=30.", metavar="KEY=VALUE"
        ),
    ] = None,
    restarts: Annotated[
        int, typer.Option(help="Searches, of which the best is kept.", metavar="N", min=1)
    ] = 1,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps of each phase; default: the method's.", metavar="N", min=1),
    ] = None,
    batch: Annotated[
        int, typer.Option(help="Pictures searched at a time.", metavar="N", min=1)
    ] = 8,
    seed: Seed = 0,
    report: Annotated[
        Path | None,
        typer.Option(help="Write the losses of all steps there.", metavar="FILE.json"),
    ] = None,
    keep_all: Annotated[
        bool,
        typer.Option(
            "--keep-all", help="Write what each restart found, too, as NAME.restart-0.png."
        ),
    ] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> Any:
    """Restore pictures by a search among those that a prior makes.

    Example: blemish invert --prior runs/style --degradation runs/universal damaged/ restored/
    """
    return run_verb(
        "invert",
        source,
        output,
        prior=prior,
        degradation=degradation,
        method=value(method),
        settings=pairs(settings or ()),
        restarts=restarts,
        steps=steps,
        batch=batch,
        seed=seed,
        report=report,
        keep_all=keep_all,
        overwrite=overwrite,
        device=device,
    )


def encode(
    what: Annotated[str, typer.Argument(metavar="RUN", help="A run of the recipe universal.")],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A damaged picture.")],
    code: Annotated[Path, typer.Argument(metavar="CODE", help="The file written.")],
    overwrite: Overwrite = False,
    device: Device = "auto",
    checkpoint: Checkpoints = None,
    json: JsonFile = None,
) -> Any:
    """Read the damage off a picture, as a file of some hundred bytes.

    Example: blemish encode runs/universal damaged.png grain.code
    """
    return run_verb(
        "encode",
        what,
        source,
        code,
        overwrite=overwrite,
        device=device,
        checkpoint=value(checkpoint),
        as_json=json,
    )


def transfer(
    what: Annotated[str, typer.Argument(metavar="RUN", help="A run of the recipe universal.")],
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A picture, or a folder of pictures.")
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The picture or folder written.")
    ],
    reference: Annotated[
        Path,
        typer.Option(
            metavar="PICTURE|CODE", help="A damaged picture, or what encode wrote of one."
        ),
    ],
    local: Annotated[
        bool,
        typer.Option(
            "--local/--global-only",
            help="Stretch what varies over the reference over each picture, or leave it out.",
        ),
    ] = True,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
    checkpoint: Checkpoints = None,
) -> Any:
    """Put the damage of one picture onto others.

    Example: blemish transfer runs/universal --reference damaged.png photos/ out/
    """
    return run_verb(
        "transfer",
        what,
        source,
        output,
        reference=reference,
        local=local,
        seed=seed,
        overwrite=overwrite,
        device=device,
        checkpoint=value(checkpoint),
    )


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A folder of restored pictures.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another, with the same names and sizes.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "--out", help="The page written.", metavar="FILE.html"),
    ] = None,
    choices: Annotated[
        list[Path] | None,
        typer.Option(
            help="What somebody chose on the page; give it once for each person.",
            metavar="FILE.json",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="What both were made from; shown above them.", metavar="SOURCE"),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", help="The most pairs shown; default: 100.", min=1),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the order and the sides; default: drawn.", metavar="S", min=0),
    ] = None,
    json: JsonFile = None,
) -> Any:
    """Ask people which of two restorations they prefer, without their knowing which is which.

    Example: blemish compare ours/ theirs/ --output page.html
    """
    return run_verb(
        "compare",
        a,
        b,
        output=output,
        choices=choices or [],
        reference=reference,
        count=count,
        seed=seed,
        json=json,
    )
