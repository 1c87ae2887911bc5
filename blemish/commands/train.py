"""``blemish train``: learn clean images, the damage, or a restorer from degraded images."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import artefacts
from ..configuration import encode
from ..degradations import Chain, Degradation, Identity, simulator
from ..functional.jpeg import Rounding
from ..recipes import (
    ANY_SIZE,
    DAMAGING,
    HARDENING,
    LIKELIHOOD,
    RECIPES,
    configure,
    with_damage,
    with_restorer,
    with_scale,
    with_simulator,
)
from ..restoration import train_restorer
from ..restorers import FeedForward
from ..runs import Run, change, check_side, load, start
from ..systems import ANDNet
from ..training.config import RunConfig
from ..training.cost import estimate
from ..training.loop import TrainingDiverged, build
from ..training.processes import processes
from .degrade import find_degradation
from .report import run as write_report
from .restore import find_restorer

__all__ = ["describe", "resume_command", "run"]


def run(
    recipe: str,
    *,
    data: str,
    out: Path,
    preset: str | None,
    setting: str | None,
    degradation: str | None = None,
    restorer: str | None = None,
    scale: int | None = None,
    clean: str | None = None,
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
        preset: The name of the preset; None means ``cifar10-small``, of recipes for photographs ``photos``, of
            likelihoods ``small``.
        setting: The setting that damages a clean source first, or None.
        degradation: What a restorer is trained against: a run, an artefact or ``setting:NAME``; None
            means the setting's own damage, and where a restorer is hardened what it was trained against.
        restorer: What to go on training from: a run's folder or a restorer's; None starts afresh.
        scale: How many times larger the restorer makes images; None means 4 of andnet and its relatives, else 1.
        clean: A source of clean images, for what is taught with some; None takes them from the data.
        images: The number of observed images to see; None means the preset's.
        seed: The seed of the run.
        device: Where to compute.
        precision: ``32`` or ``bf16``.
        size: The side of the images; None means the preset's. Only restorers take another one.
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
    of_photographs = recipe == "restorer" or recipe in (*HARDENING, *DAMAGING)
    usual = "small" if recipe in LIKELIHOOD else "photos" if of_photographs else "cifar10-small"
    preset = preset or usual
    config = configure(recipe, preset, setting)
    config, parts = _composed(
        config, degradation=degradation, restorer=restorer, scale=scale, told=setting is not None
    )
    config = _sized(config, size)
    changes = {
        "seed": str(seed),
        "data.source": data,
        "data.fit": fit,
        "data.skip_bad": str(skip_bad),
        "training.precision": precision,
    }
    if clean is not None:
        changes["data.clean"] = clean
    if images is not None:
        changes["training.images"] = str(images)
    changes |= dict(text.split("=", 1) for text in overrides)
    config = change(config, changes)
    if dry_run:
        print(describe(config))
        return 0
    command = resume_command(
        config,
        out,
        device,
        overrides,
        images=images,
        workers=workers,
        setting=setting,
        degradation=degradation,
        restorer=restorer,
        scale=scale,
    )
    # The damage that is not given is estimated.
    begin = train_restorer if _estimates(config) else partial(start, parts=parts)
    try:
        _, result = begin(
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
    channels = config.data.channels * (1 if system.clean is None else 2)
    shape = (channels, config.data.size or 32, config.data.size or 32)
    cost = estimate(system, config, shape)
    document = json.dumps(encode(config), indent=2)
    doc = (RECIPES[config.recipe].__doc__ or "").strip().splitlines()[0]
    first = "the damage is estimated first, in some minutes\n" if _estimates(config) else ""
    return f"{config.recipe}: {doc}\n{document}\n{first}{cost}"


def _estimates(config: RunConfig) -> bool:
    return config.recipe == "restorer" and not config.system.simulator


def _simulator(what: str, recipe: str) -> tuple[Degradation[Any], str]:
    """Returns what a restorer is trained against, and what it is, for the record."""
    if what.startswith("setting:"):
        # UNIR learns through it; pairs are better rounded as files are.
        rounding: Rounding = "cubic" if recipe == "unir" else "straight-through"
        return simulator(what.removeprefix("setting:"), rounding=rounding), what
    found = find_degradation(what, tell=print)
    return found, f"sha256:{artefacts.digest(found)}"


def _composed(
    config: RunConfig,
    *,
    degradation: str | None,
    restorer: str | None,
    scale: int | None,
    told: bool,
) -> tuple[RunConfig, dict[str, Any]]:
    """Puts parts that were trained before into a configuration, and returns them, too.

    Arguments:
        config: What the recipe returned.
        degradation: What a restorer is trained against.
        restorer: What to go on training from.
        scale: How many times larger the restorer makes images.
        told: Whether a setting says what a restorer is trained against.
    """
    parts: dict[str, Any] = {}
    if restorer is not None:
        parts["restorer"] = _continued(restorer, scale)
        config = with_restorer(config, parts["restorer"].config)
    elif config.recipe in ("andgan", "harden"):
        raise ValueError(
            f"{config.recipe} goes on training a restorer: give the folder of one, or of a run, as --restorer"
        )
    elif scale is not None:
        config = with_scale(config, scale)
    name = f"of {restorer}"
    if degradation is not None and config.recipe in DAMAGING:
        # A likelihood learns from what files are; nothing has a gradient through it.
        real = config.recipe in LIKELIHOOD
        parts["damage"] = (
            find_degradation(degradation, tell=print)
            if real
            else _simulator(degradation, config.recipe)[0]
        )
        return with_damage(config, parts["damage"].config), parts
    if degradation is not None:
        parts["degradation"], name = _simulator(degradation, config.recipe)
    elif restorer is not None and not told:
        parts |= _own_damage(restorer, parts["restorer"].scale)
    if "degradation" in parts:
        config = with_simulator(config, parts["degradation"].config, name)
    return config, parts


def _continued(what: str, scale: int | None) -> FeedForward:
    """Returns a restorer to go on training from.

    Raises:
        ValueError: If there is none that can be trained, or its scale is another.
    """
    found = find_restorer(what, tell=print)
    if not isinstance(found, FeedForward):
        raise ValueError(f"{what} holds a {type(found).__name__}, which is not trained")
    if scale not in (None, found.scale):
        raise ValueError(
            f"{what} makes images {found.scale} times larger; leave --scale {scale} out"
        )
    return found


def _own_damage(what: str, scale: int) -> dict[str, Degradation[Any]]:
    """Returns the damage that a run's restorer was trained against, as the part ``degradation``, if there is some.

    Raises:
        ValueError: If a restorer that keeps the size does not say what it undoes.
    """
    run = load(what)
    own: Degradation[Any] | None = None
    if isinstance(run, Run):
        if isinstance(run.config.system, ANDNet.Config):
            # Not what it was hardened against, which is searched anew.
            seen = run.degradation
            own = next(iter(seen)) if isinstance(seen, Chain) else Identity()
        elif (run.parts / "degradation").is_dir():
            own = run.degradation
        elif run.config.data.setting is not None:
            own, _ = _simulator(f"setting:{run.config.data.setting}", "harden")
    if own is None and scale == 1:
        raise ValueError(
            f"{what} keeps the size of images and does not say what damage it undoes: give it as --degradation"
        )
    return {} if own is None or isinstance(own, Identity) else {"degradation": own}


def _sized(config: RunConfig, size: int | None) -> RunConfig:
    """Returns the configuration with images of another side, where the networks take any."""
    if size is None or size == config.data.size:
        return config
    if config.recipe not in ANY_SIZE:
        raise ValueError(
            f"--size {size} does not fit preset {config.preset!r}, whose networks make "
            f"{config.data.size}x{config.data.size} images; leave --size out or choose another preset"
        )
    return replace(config, data=replace(config.data, size=size))


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
    setting: str | None = None,
    degradation: str | None = None,
    restorer: str | None = None,
    scale: int | None = None,
) -> str:
    """Returns the command line that goes on with a run in its folder.

    Arguments:
        config: The run's configuration.
        out: The run's folder.
        device: Where to compute.
        overrides: Changes of the configuration, each ``key=value``.
        images: The number of observed images to see; None means the preset's.
        workers: The number of reading threads.
        setting: The setting as it was given; None means that of the data.
        degradation: What a restorer is trained against.
        restorer: What it went on training from.
        scale: How many times larger the restorer makes images.
    """
    words = ["blemish"]
    world, local = processes()
    if world > 1:
        place = ["--standalone"] if world == local else ["--nnodes", str(world // local)]
        words = ["torchrun", *place, "--nproc-per-node", str(local), "-m", "blemish"]
    words += ["train", config.recipe, "--data", config.data.source, "--out", str(out)]
    size = config.data.size if config.recipe in ANY_SIZE else None
    fit = config.data.fit if config.data.fit != "none" else None
    options = {
        "--preset": config.preset,
        "--setting": setting or config.data.setting,
        "--degradation": degradation,
        "--restorer": restorer,
        "--scale": scale,
        "--clean": config.data.clean,
        "--size": size,
        "--images": images,
        "--seed": config.seed,
        "--device": device,
        "--workers": workers,
        "--precision": config.training.precision,
        "--fit": fit,
    }
    for name, given in options.items():
        words += [] if given is None else [name, str(given)]
    if config.data.skip_bad:
        words += ["--skip-bad"]
    for text in overrides:
        words += ["--set", text]
    return shlex.join([*words, "--resume"])
