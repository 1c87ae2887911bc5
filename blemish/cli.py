"""The command line: parses, calls one function of :mod:`blemish.commands`, prints errors.

Exit codes: 0 done, 1 failed, 2 wrong usage; 130 stopped by Ctrl-C (or SIGTERM). An error is one line on stderr that names
the value at fault and says what to do; ``BLEMISH_DEBUG=1`` shows the traceback instead.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from . import __version__
from .options import (
    Against,
    Budget,
    Cache,
    Checkpoints,
    Clean,
    CleanTest,
    CleanTraining,
    Continued,
    Crop,
    Device,
    DryRun,
    Enlarger,
    Factor,
    Features,
    Fit,
    Fitting,
    ImagesSeen,
    InPlace,
    Jobs,
    JsonFile,
    Label,
    Metrics,
    OnlyModels,
    OnlySeeds,
    OnlySettings,
    Overrides,
    Overwrite,
    PageFile,
    Precision,
    PresetName,
    Reference,
    Replay,
    ResumeFrom,
    Robustness,
    RunFolder,
    Scale,
    Seed,
    Setting,
    Shard,
    Simulator,
    Size,
    SkipBad,
    Tile,
    Weights,
    Workers,
    value,
)

__all__ = ["COMMANDS", "app", "run"]

COMMANDS = {
    "demo": "demo",
    "train": "train",
    "sample": "sample",
    "degrade": "degrade",
    "restore": "restore",
    "inspect": "inspect",
    "report": "report",
    "evaluate": "evaluate",
    "bench": "bench",
    "doctor": "doctor",
}
"""The verbs, each with its module in :mod:`blemish.commands`."""

EPILOG = """\
On Linux, verbs that compute much set three variables of the C library's allocator and start themselves again, which makes training
on a CPU 1.1 to 1.7 times as fast; BLEMISH_ALLOCATOR=off switches this off. BLEMISH_DEBUG=1 shows tracebacks."""

# What typer raises for wrong usage, whichever command-line library the installed typer stands on.
WrongUsage: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="blemish",
    help="Learn how images were damaged: clean generators and reusable damage from degraded images alone.",
    epilog=EPILOG,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Arguments:
        arguments: The command line after the program's name.

    Returns:
        The exit code.
    """
    # A name of a file that is no UTF-8 must not stop the message that tells it.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        result = app(list(arguments) or ["--help"], prog_name="blemish", standalone_mode=False)
    except WrongUsage as error:
        return _fail(f"{_sentence(error)}; see '{_help_of(error)}'", code=2)
    except typer.Abort:
        return _fail("stopped", code=130)
    except Exception as error:
        if os.environ.get("BLEMISH_DEBUG", "0") not in ("", "0") or not _is_message(error):
            raise
        return _fail(_one_line(error), code=1)
    return result if isinstance(result, int) else 0


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"blemish {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options before the verb."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder written.", metavar="DIR")] = Path(
        "runs/demo"
    ),
    seed: Seed = 0,
) -> Any:
    """Train a plain GAN, a BR-GAN and a GAN that is told the damage on blurred glyphs, and report what they learned.

    Example: blemish demo --out runs/demo
    """
    return _run("demo", out, seed=seed)


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="What to train: gan, br-gan, unir, ...")
    ],
    data: Annotated[
        str,
        typer.Option(
            help="A folder or ZIP of images, CIFAR-10 or IDX files, a Hub id, or 'glyphs'.",
            metavar="SOURCE",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The run's folder.", metavar="RUN")],
    preset: PresetName = None,
    setting: Setting = None,
    degradation: Simulator = None,
    restorer: Continued = None,
    scale: Scale = None,
    clean: Clean = None,
    images: ImagesSeen = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Annotated[Precision, typer.Option(help="Number format.")] = Precision.single,
    size: Size = None,
    fit: Fitting = None,
    workers: Workers = 4,
    skip_bad: SkipBad = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in RUN.")
    ] = False,
    resume_from: ResumeFrom = None,
    dry_run: DryRun = False,
    overrides: Overrides = None,
) -> Any:
    """Learn clean images and the damage, or a restorer, from degraded images.

    Example: blemish train br-gan --data photos.zip --out runs/br --size 32
    """
    return _run(
        "train",
        recipe,
        data=data,
        out=out,
        preset=preset,
        setting=setting,
        degradation=degradation,
        restorer=restorer,
        scale=scale,
        clean=clean,
        images=images,
        seed=seed,
        device=device,
        precision=precision.value,
        size=size,
        # Without --size nothing is cut unasked: an image of another size is then an error that names the two ways.
        fit=fit.value if fit else "crop" if size else "none",
        workers=workers,
        skip_bad=skip_bad,
        resume=resume_from or resume,
        dry_run=dry_run,
        overrides=_pairs(overrides or []),
    )


@app.command()
def sample(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option(help="The folder for single pictures.", metavar="DIR")
    ] = None,
    count: Annotated[
        int, typer.Option("-n", "--count", help="The number of images.", metavar="N", min=1)
    ] = 64,
    seed: Seed = 0,
    grid: Annotated[
        Path | None, typer.Option(help="One picture with all of them.", metavar="FILE.png")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the pictures of the same numbers in DIR, and the grid."
        ),
    ] = False,
    checkpoint: Checkpoints = None,
) -> Any:
    """Draw clean images from a trained run.

    Example: blemish sample runs/br --out samples -n 64 --grid samples.png
    """
    if out is None and grid is None:
        raise typer.BadParameter("nothing would be written: give --out DIR, --grid FILE or both")
    return _run(
        "sample",
        run,
        out=out,
        count=count,
        seed=seed,
        grid=grid,
        overwrite=overwrite,
        checkpoint=value(checkpoint),
    )


@app.command()
def degrade(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="setting:N, setting:ffhq/N, bsrgan:2, real-esrgan:2, a run or an artefact.",
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
) -> Any:
    """Damage clean images, and write down how.

    Example: blemish degrade setting:N clean/ damaged/ --seed 1
    """
    return _run(
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
    )


@app.command()
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
    return _run(
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


@app.command()
def inspect(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="The folder of a run or of a degradation; or images: a folder, ZIP, picture or other source.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder written.", metavar="DIR")],
    seed: Seed = 0,
    checkpoint: Checkpoints = None,
    count: Annotated[
        int | None,
        typer.Option(
            help="Draws of a degradation (default 1000), or images measured at most (default 500).",
            metavar="N",
            min=1,
        ),
    ] = None,
    skip_bad: SkipBad = False,
    against: Against = None,
) -> Any:
    """Show what damage was learned, or what damage images seem to have, as a page and as JSON.

    Example: blemish inspect runs/br --out runs/br/inspect
    """
    return _run(
        "inspect",
        what,
        out=out,
        seed=seed,
        checkpoint=value(checkpoint),
        count=count,
        skip_bad=skip_bad,
        against=against,
    )


@app.command()
def report(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(help="The page written; default: report.html in RUN.", metavar="FILE.html"),
    ] = None,
    checkpoint: Checkpoints = None,
) -> Any:
    """Write one self-contained page about a run.

    Example: blemish report runs/br --out br.html
    """
    return _run("report", run, out=out, checkpoint=value(checkpoint))


@app.command()
def evaluate(
    what: Annotated[
        str,
        typer.Argument(metavar="WHAT", help="A run, a prior, or images: a folder, a ZIP, ..."),
    ],
    partner: Annotated[
        str | None,
        typer.Argument(
            metavar="REFERENCE", help="Clean images, as --reference.", show_default=False
        ),
    ] = None,
    reference: Reference = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Compare images with those of the same names.")
    ] = False,
    metrics: Metrics = None,
    features: Features = "effnet-lite0",
    count: Annotated[
        int,
        typer.Option(
            "-n", "--count", help="Images of each set, or pairs, at most.", metavar="N", min=2
        ),
    ] = 10_000,
    size: Annotated[
        int | None, typer.Option(help="Bring all images to this side.", metavar="N", min=1)
    ] = None,
    fit: Annotated[Fit | None, typer.Option(help="How; default: crop with --size.")] = None,
    crop: Crop = None,
    seed: Seed = 0,
    checkpoint: Checkpoints = None,
    weights: Weights = None,
    device: Device = "auto",
    json: JsonFile = None,
    cache: Cache = True,
    skip_bad: SkipBad = False,
    robustness: Robustness = False,
    restorer: Enlarger = None,
    scale: Factor = None,
) -> Any:
    """Measure how near a run's samples, or images, are to clean ones, and say how it was measured.

    Example: blemish evaluate runs/br --reference cifar-10:test --json scores.json
    """
    for text in weights or []:
        if "=" not in text.strip("="):
            raise typer.BadParameter(f"--weights {text}: write --weights NAME=FILE")
    if partner is not None and reference is not None:
        raise typer.BadParameter(f"--reference {reference}: {partner} is the reference already")
    return _run(
        "evaluate",
        what,
        reference=reference or partner,
        pairs=pairs,
        metrics=metrics,
        features=features,
        count=count,
        size=size,
        fit=fit.value if fit else "crop" if size else "none",
        crop=crop,
        seed=seed,
        checkpoint=value(checkpoint),
        weights=weights or [],
        device=device,
        json=json,
        cache=cache,
        skip_bad=skip_bad,
        robustness=robustness,
        restorer=restorer,
        scale=scale,
    )


@app.command()
def bench(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="smoke, family, or table1 to table10.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of cells and tables.", metavar="DIR")],
    data: CleanTraining = None,
    test: CleanTest = None,
    label: Label = None,
    preset: Annotated[
        str | None, typer.Option(help="The size of everything; default: the table's.", metavar="P")
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Images that each run sees.", metavar="N", min=1)
    ] = None,
    seeds: OnlySeeds = None,
    settings: OnlySettings = None,
    models: OnlyModels = None,
    features: Annotated[
        str | None, typer.Option(help="The features of distances.", metavar="NAME")
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Images on each side of a distance.", metavar="N", min=2)
    ] = None,
    overrides: Overrides = None,
    jobs: Jobs = 1,
    budget: Budget = None,
    shard: Shard = None,
    device: Device = "auto",
) -> Any:
    """Compute tables of the paper, cell by cell, beside the paper's figures.

    Example: blemish bench table2 --data cifar-10:train --out bench/ --preset cifar10-small --budget 120
    """
    return _run(
        "bench",
        name,
        out=out,
        data=data,
        test=test,
        label=label,
        preset=preset,
        images=images,
        seeds=seeds,
        settings=settings,
        models=models,
        features=features,
        count=count,
        overrides=_pairs(overrides or []),
        jobs=jobs,
        budget=budget,
        shard=shard,
        device=device,
    )


@app.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> Any:
    """Look at this machine: versions, devices, threads, and what to mend.

    Example: blemish doctor --json
    """
    return _run("doctor", json=json)


def _run(verb: str, *arguments: Any, **options: Any) -> Any:
    """Runs a verb; where Ctrl-C or SIGTERM stop it, it can clean up first."""
    module = _command(verb)
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if is_main else None
    try:
        return module.run(*arguments, **options)
    except KeyboardInterrupt:
        return _fail("stopped", code=130)
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _command(verb: str) -> ModuleType:
    # By name and at call time, so that `blemish --help` does not wait for torch, without imports hidden in functions.
    return importlib.import_module(f".commands.{COMMANDS[verb]}", __package__)


def _pairs(overrides: Sequence[str]) -> list[str]:
    for text in overrides:
        if "=" not in text.strip("="):
            raise typer.BadParameter(f"--set {text}: write --set KEY=VALUE, e.g. training.batch=32")
    return list(overrides)


def _sentence(error: Any) -> str:
    return " ".join(error.format_message().split()).rstrip(".")


def _help_of(error: Any) -> str:
    return f"{error.ctx.command_path if error.ctx else 'blemish'} --help"


def _is_message(error: Exception) -> bool:
    # Wrong values and files, and the package's own exceptions, speak to the user; anything else is a mistake in the program.
    own = type(error).__module__.partition(".")[0] == __package__
    return own or isinstance(error, (ValueError, OSError))


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
