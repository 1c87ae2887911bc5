"""The command line: parses, calls one function of :mod:`blemish.commands`, prints errors.

Exit codes: 0 done, 1 failed, 2 wrong usage; 130 stopped by Ctrl-C (or SIGTERM). An error is one line on stderr that names
the value at fault and says what to do; ``BLEMISH_DEBUG=1`` shows the traceback instead.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__, picture_verbs
from .dispatch import fail, run_verb
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
    Demo,
    Device,
    DryRun,
    Enlarger,
    Factor,
    Features,
    Fit,
    Fitting,
    GivenLaw,
    GivenModel,
    GivenPrior,
    GivenSteps,
    ImagesSeen,
    Jobs,
    JsonFile,
    Label,
    LateLaw,
    Metrics,
    Observed,
    OnlyModels,
    OnlySeeds,
    OnlySettings,
    OtherPrior,
    Overrides,
    Precision,
    PresetName,
    Reference,
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
    Weights,
    Workers,
    files,
    pairs,
    value,
)

__all__ = ["app", "run"]

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
        return fail(f"{_sentence(error)}; see '{_help_of(error)}'", code=2)
    except typer.Abort:
        return fail("stopped", code=130)
    except Exception as error:
        if os.environ.get("BLEMISH_DEBUG", "0") not in ("", "0") or not _is_message(error):
            raise
        return fail(_one_line(error), code=1)
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
    what: Annotated[
        Demo,
        typer.Argument(metavar="WHAT", help="damage (learning it) or perceptual (restoration)."),
    ] = Demo.damage,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder written; default: runs/demo[-perceptual].", metavar="DIR"),
    ] = None,
    seed: Seed = 0,
) -> Any:
    """Train on embedded glyphs, and report: GANs that learn blur, or restoration by searching a prior.

    damage: a plain GAN, a BR-GAN and a GAN that is told the damage, on blurred glyphs.
    perceptual: a style prior and a likelihood of JPEG; pulse and mmd restore other glyphs.

    Example: blemish demo --out runs/demo
    """
    return run_verb("demo", out, what=what.value, seed=seed)


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
    return run_verb(
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
        overrides=pairs(overrides or []),
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
    return run_verb(
        "sample",
        run,
        out=out,
        count=count,
        seed=seed,
        grid=grid,
        overwrite=overwrite,
        checkpoint=value(checkpoint),
    )


for verb in (
    picture_verbs.degrade,
    picture_verbs.restore,
    picture_verbs.invert,
    picture_verbs.encode,
    picture_verbs.transfer,
):
    app.command()(verb)


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A published checkpoint: a .pkl or .pt file.")
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The folder written.")],
    mapping: Annotated[
        Path | None,
        typer.Option(
            help="The file of the mapping network, where it was published apart.", metavar="FILE"
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="The licence of the weights, to be noted.", metavar="TEXT")
    ] = "unknown",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the prior that is in TARGET.")
    ] = False,
) -> Any:
    """Make a prior of a published StyleGAN or StyleGAN2; nothing that stands in its file is run.

    Example: blemish convert ffhq.pkl priors/ffhq --licence CC-BY-NC-SA-4.0
    """
    return run_verb(
        "convert", source, target, mapping=mapping, licence=licence, overwrite=overwrite
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
    return run_verb(
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
    return run_verb("report", run, out=out, checkpoint=value(checkpoint))


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
        int | None,
        typer.Option(
            "-n",
            "--count",
            help="Images of each set, or pairs, at most; default: 10000, of a likelihood 1000 crops.",
            metavar="N",
            min=2,
        ),
    ] = None,
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
    observed: Observed = None,
) -> Any:
    """Measure how near a run's samples, or images, are to clean ones, and say how it was measured.

    Example: blemish evaluate runs/br --reference cifar-10:test --json scores.json
    """
    if partner is not None and reference is not None:
        raise typer.BadParameter(f"--reference {reference}: {partner} is the reference already")
    return run_verb(
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
        weights=files(weights or []),
        device=device,
        json=json,
        cache=cache,
        skip_bad=skip_bad,
        robustness=robustness,
        restorer=restorer,
        scale=scale,
        observed=observed,
    )


app.command()(picture_verbs.compare)


@app.command()
def bench(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="smoke, family, table1 to table10, udm-table1 or pir-table2."
        ),
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
        int | None,
        typer.Option(
            help="Images on each side of a distance, of searches those restored; default: the table's.",
            metavar="N",
            min=2,
        ),
    ] = None,
    overrides: Overrides = None,
    jobs: Jobs = 1,
    budget: Budget = None,
    shard: Shard = None,
    device: Device = "auto",
    prior: GivenPrior = None,
    degradation: GivenModel = None,
    steps: GivenSteps = None,
    prior_v1: OtherPrior = None,
    likelihood: GivenLaw = None,
    likelihood_late: LateLaw = None,
    weights: Weights = None,
) -> Any:
    """Compute tables of the papers, cell by cell, beside the papers' figures.

    Example: blemish bench table2 --data cifar-10:train --out bench/ --preset cifar10-small --budget 120
    """
    return run_verb(
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
        overrides=pairs(overrides or []),
        jobs=jobs,
        budget=budget,
        shard=shard,
        device=device,
        prior=prior,
        degradation=degradation,
        steps=steps,
        prior_v1=prior_v1,
        likelihood=likelihood,
        likelihood_late=likelihood_late,
        weights=files(weights or []),
    )


@app.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> Any:
    """Look at this machine: versions, devices, threads, and what to mend.

    Example: blemish doctor --json
    """
    return run_verb("doctor", json=json)


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
