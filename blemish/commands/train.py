"""``blemish train``: learn clean images and the damage from degraded images."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from ..configuration import encode
from ..recipes import RECIPES, configure
from ..runs import change, check_side, start
from ..training.config import RunConfig
from ..training.cost import estimate
from ..training.loop import TrainingDiverged, build
from ..training.processes import processes
from .report import run as write_report

__all__ = ["describe", "resume_command", "run"]


def run(
    recipe: str,
    *,
    data: str,
    out: Path,
    preset: str,
    setting: str | None,
    images: int | None,
    seed: int,
    device: str,
    precision: str,
    size: int | None,
    fit: str,
    workers: int,
    skip_bad: bool,
    resume: bool | Path,
    dry_run: bool,
    overrides: list[str],
) -> int:
    """Trains a recipe.

    Arguments:
        recipe: The name of the recipe.
        data: Where images come from.
        out: The run's folder.
        preset: The name of the preset.
        setting: The setting that damages a clean source first, or None.
        images: The number of observed images to see; None means the preset's.
        seed: The seed of the run.
        device: Where to compute.
        precision: ``32`` or ``bf16``.
        size: The side of the images; None requires the preset's.
        fit: How images of another size are made to fit: ``none``, ``crop`` or ``resize``.
        workers: The number of reading threads for large sets.
        skip_bad: Whether broken files are stepped over.
        resume: Whether to go on with the run in ``out``, or the path of another run or checkpoint
            to go on from.
        dry_run: Whether only the configuration and the costs are printed.
        overrides: Changes, each ``key=value``.

    Returns:
        0; 130 when the run was stopped by Ctrl-C or SIGTERM, and has been saved.

    Raises:
        ValueError: If an argument does not fit, or the run diverged; in one line.
    """
    config = configure(recipe, preset, setting)
    _check_size(config, size)
    changes = {
        "seed": str(seed),
        "data.source": data,
        "data.fit": fit,
        "data.skip_bad": str(skip_bad),
        "training.precision": precision,
    }
    if images is not None:
        changes["training.images"] = str(images)
    changes |= dict(text.split("=", 1) for text in overrides)
    config = change(config, changes)
    if dry_run:
        print(describe(config))
        return 0
    command = resume_command(config, out, device, overrides, images=images, workers=workers)
    try:
        _, result = start(
            config, out, resume=resume, device=device, workers=workers, command=command
        )
    except TrainingDiverged as error:
        raise ValueError(str(error)) from error
    if result.main and result.finished:
        _report(out)
    return 0 if result.finished else 130


def describe(config: RunConfig) -> str:
    """Returns the resolved configuration, the parameter counts and the costs of an iteration."""
    system = build(config)
    check_side(config, system)
    shape = (config.data.channels, config.data.size or 32, config.data.size or 32)
    cost = estimate(system, config, shape)
    document = json.dumps(encode(config), indent=2)
    doc = (RECIPES[config.recipe].__doc__ or "").strip().splitlines()[0]
    return f"{config.recipe}: {doc}\n{document}\n{cost}"


def _check_size(config: RunConfig, size: int | None) -> None:
    if size is not None and size != config.data.size:
        raise ValueError(
            f"--size {size} does not fit preset {config.preset!r}, whose networks make "
            f"{config.data.size}x{config.data.size} images; leave --size out or choose another preset"
        )


def _report(out: Path) -> None:
    """Writes the report; a failure does not undo a finished training."""
    try:
        write_report(out, out=None)
    except (ValueError, OSError) as error:
        again = shlex.join(["blemish", "report", str(out)])
        print(
            f"the run is finished and saved in {out}, but its report failed: {error}; try again: {again}",
            file=sys.stderr,
        )


def resume_command(
    config: RunConfig,
    out: Path,
    device: str,
    overrides: list[str],
    *,
    images: int | None,
    workers: int,
) -> str:
    """Returns the command line that goes on with a run in its folder.

    Arguments:
        config: The run's configuration.
        out: The run's folder.
        device: Where to compute.
        overrides: Changes of the configuration, each ``key=value``.
        images: The number of observed images to see; None means the preset's.
        workers: The number of reading threads.
    """
    words = ["blemish"]
    world, local = processes()
    if world > 1:
        place = ["--standalone"] if world == local else ["--nnodes", str(world // local)]
        words = ["torchrun", *place, "--nproc-per-node", str(local), "-m", "blemish"]
    words += ["train", config.recipe, "--data", config.data.source, "--out", str(out)]
    words += ["--preset", config.preset]
    if config.data.setting is not None:
        words += ["--setting", config.data.setting]
    if images is not None:
        words += ["--images", str(images)]
    words += ["--seed", str(config.seed), "--device", device, "--workers", str(workers)]
    words += ["--precision", config.training.precision]
    if config.data.fit != "none":
        words += ["--fit", config.data.fit]
    if config.data.skip_bad:
        words += ["--skip-bad"]
    for text in overrides:
        words += ["--set", text]
    return shlex.join([*words, "--resume"])
