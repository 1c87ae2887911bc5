r"""Runs: start one, go on with one, load one.

A run is a folder: ``config.json``, ``metrics.jsonl``, ``observed.png``, ``samples/``, ``checkpoints/``,
and the moving averages of its parts as the artefacts ``prior/`` and ``degradation/``. Where images were
kept for it, the best checkpoint's parts stand in ``best/``, and how it was chosen in ``selection.json``.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from . import artefacts
from .configuration import override, read_json
from .data import (
    ImageBatches,
    ImageReader,
    Images,
    StreamedImages,
    Subset,
    hold_out,
    open_images,
    open_source,
    read_images,
)
from .degradations import Degradation, FrozenSource, freeze, setting
from .functional.random import generator_for
from .metrics import named_features
from .priors import Prior
from .recipes import PRESETS, decode_run
from .restorers import Restorer
from .systems.base import System
from .training.checkpoint import latest_checkpoint
from .training.config import DataConfig, RunConfig
from .training.grids import save_grid
from .training.loop import State, TrainResult, build, check, train
from .training.metrics import read_metrics
from .training.processes import is_main
from .training.progress import Tell, waiting
from .training.run import Hook
from .training.selection import FEWEST, Measured, Selected, Selection, read_selection

__all__ = ["Run", "Which", "change", "check_side", "load", "observed_images", "start"]

Which = Literal["best", "last"]
"""Which checkpoint of a run."""

# What a recipe has used when --set is applied: a change would only be a wrong label.
_USED = {"recipe": "RECIPE", "preset": "--preset", "data.setting": "--setting"}

GRID = 64
"""The number of images in a sample grid."""


@dataclass(frozen=True)
class Run:
    """What training left behind in a folder.

    Attributes:
        folder: The folder.
        config: The configuration.
        which: Whether its parts are those of the best checkpoint or the last; None means the best
            where one was chosen, else the last.
    """

    folder: Path
    config: RunConfig
    which: Which | None = None

    @functools.cached_property
    def prior(self) -> Prior:
        """The generator of clean images, with averaged weights."""
        prior: Prior = artefacts.load(self.parts / "prior")
        return prior

    @functools.cached_property
    def degradation(self) -> Degradation[Any]:
        """The model of the damage, with averaged weights; known ones have none."""
        degradation: Degradation[Any] = artefacts.load(self.parts / "degradation")
        return degradation

    @functools.cached_property
    def restorer(self) -> Restorer:
        """The restorer, with averaged weights.

        Raises:
            FileNotFoundError: If the run has none.
        """
        restorer: Restorer = artefacts.load(self.parts / "restorer")
        return restorer

    @property
    def parts(self) -> Path:
        """The folder of the parts ``prior/``, ``degradation/`` and ``restorer/``, those which the run has.

        Raises:
            ValueError: If the best checkpoint is wanted and none was chosen.
        """
        return self.folder if self.chosen() is None else self.folder / "best"

    @property
    def selection(self) -> Selected | None:
        """How the best checkpoint was chosen; None where no images were kept for it."""
        return read_selection(self.folder)

    def chosen(self) -> Measured | None:
        """Returns the checkpoint whose parts these are; None means the last.

        Raises:
            ValueError: If the best checkpoint is wanted and none was chosen.
        """
        selection = None if self.which == "last" else self.selection
        best = selection.best if selection else None
        if best is None and self.which == "best":
            raise ValueError(
                f"{self.folder} has no best checkpoint: none was chosen; use --checkpoint last, or train "
                "with data.held_out above 0"
            )
        return best

    def describe(self) -> str:
        """Returns which checkpoint the parts are of, in one line."""
        best = self.chosen()
        if best is None:
            return f"the last checkpoint, after {self.images:,} images"
        selection = self.selection
        assert selection is not None
        return (
            f"the best checkpoint, after {best.images:,} of {self.images:,} images "
            f"(proximal distance {best.distance:.4g} on {selection.features})"
        )

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the lines of ``metrics.jsonl``; one that is being written is left out."""
        path = self.folder / "metrics.jsonl"
        return read_metrics(path) if path.exists() else []

    @property
    def images(self) -> int:
        """The number of observed images seen, as the newest checkpoint or line of metrics says."""
        lines, checkpoint = self.metrics(), latest_checkpoint(self.folder)
        logged = int(lines[-1]["images"]) if lines else 0
        return max(logged, int(checkpoint.name) if checkpoint else 0)

    def truth(self) -> Degradation[Any] | None:
        """Returns the true damage where the data were degraded by a setting, else None."""
        name = self.config.data.setting
        return None if name is None else setting(name)


def load(folder: str | os.PathLike[str], checkpoint: Which | None = None) -> Any:
    """Loads a run, or an artefact.

    Arguments:
        folder: A run's folder, or one that holds a degradation, a prior or a restorer.
        checkpoint: Which parts of a run: ``best`` or ``last``; None means the best where one was chosen.

    Returns:
        A :class:`Run`, a degradation, a prior or a restorer.

    Raises:
        FileNotFoundError: If the folder is neither.
    """
    folder = Path(folder)
    if artefacts.is_artefact(folder):
        return artefacts.load(folder)
    if not (folder / "config.json").is_file():
        inside = sorted(str(config.parent) for config in folder.glob("*/config.json"))
        hint = f"; there are {', '.join(inside)}" if inside else ""
        raise FileNotFoundError(f"{folder} is no run and no artefact: it has no config.json{hint}")
    return Run(folder, decode_run(read_json(folder / "config.json")), checkpoint)


def change(config: RunConfig, changes: dict[str, str]) -> RunConfig:
    """Changes fields of a configuration, as ``--set`` does.

    With the batch or the number of images, the cadences follow, unless they are set themselves.

    Arguments:
        config: A configuration.
        changes: Texts by dotted field names, for example ``{"training.batch": "32"}``.

    Raises:
        ValueError: If there is no such field, a text does not fit its type, or a recipe has used the field
            already.
    """
    for path, way in _USED.items():
        if path in changes:
            raise ValueError(f"{path} has shaped the rest already and cannot be set; use {way}")
    following = {"training.batch", "training.images"} & changes.keys()
    if following:
        t = config.training
        # Through the whole, because a batch alone may clash with the old cadences.
        batch = int(_number(changes, "training.batch", t.batch))
        images = int(_number(changes, "training.images", t.images))
        counts = PRESETS[config.preset].reports
        log, sample, checkpoint = (max(1, images // (n * batch)) * batch for n in counts)
        training = replace(
            t,
            images=images,
            batch=batch,
            log_every=log,
            sample_every=sample,
            checkpoint_every=checkpoint,
        )
        config = replace(config, training=training)
    for path, text in changes.items():
        if path not in following:
            config = override(config, path, text)
    return config


def observed_images(
    data: DataConfig, *, seed: int, workers: int = 4, silent: bool = False
) -> Images | StreamedImages:
    """Opens a run's training images, damaged first where there is a setting.

    Arguments:
        data: Where images come from.
        seed: The seed of the run, which is that of the frozen degraded copies.
        workers: The number of reading threads for sets too large for memory.
        silent: Whether nothing is printed; of several processes only the main one speaks anyway.

    Raises:
        ValueError: If the source does not exist, is broken or does not fit; in one line.
    """
    whole = data.random_crop
    if whole and (data.size is None or data.fit == "resize"):
        raise ValueError("data.random_crop=true needs data.size, and takes no --fit resize")
    silent = silent or not is_main()
    with waiting("reading images", silent=silent) as tell:
        source = open_source(
            data.source,
            size=None if whole else data.size,
            fit="none" if whole else data.fit,
            mixed=whole,
            smallest=data.size if whole else None,
            channels=data.channels,
            limit=data.limit,
            skip_bad=data.skip_bad,
            keep_jpeg_grid=data.keep_jpeg_grid,
            progress=tell,
        )
    for name, reason in () if silent else source.skipped:
        print(f"skipped {name}: {reason}")
    if whole:
        if data.setting is not None:
            source = FrozenSource(source, setting(data.setting), seed=seed)
        return open_images(
            source, random_crop=data.size, keep_jpeg_grid=data.keep_jpeg_grid, workers=workers
        )
    images = open_images(source, workers=workers)
    if data.setting is None:
        return images
    damage = setting(data.setting)
    if isinstance(images, Images):
        with waiting(f"degrading images by {data.setting}", silent=silent) as tell:
            progress = functools.partial(_followed, tell=tell, total=len(images))
            return Images(freeze(damage, images.images, seed=seed, progress=progress))
    images.close()
    return StreamedImages(FrozenSource(source, damage, seed=seed), workers=workers)


def _followed(starts: Iterator[int], tell: Tell, total: int) -> Iterator[int]:
    """Tells how many images are done while batches that start at these numbers are asked for."""
    for start_of_batch in starts:
        tell(start_of_batch, total)
        yield start_of_batch
    tell(total, total)


def start(
    config: RunConfig,
    out: str | os.PathLike[str],
    *,
    resume: Path | bool = False,
    device: str = "auto",
    images: Images | StreamedImages | None = None,
    workers: int = 4,
    silent: bool = False,
    command: str | None = None,
    stop: Callable[[], bool] | None = None,
) -> tuple[Run, TrainResult]:
    """Trains a run, or goes on with one.

    Arguments:
        config: The configuration.
        out: The run's folder.
        resume: True goes on with ``out``; the path of a run or checkpoint goes on with that in ``out``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        images: Observed images that are open already; None opens those of the configuration.
        workers: The number of reading threads for sets too large for memory.
        silent: Whether nothing is printed.
        command: The command that resumes this run, printed when it is interrupted.
        stop: Is asked between iterations whether to save the run and end, as Ctrl-C does.

    Returns:
        The run, and how it ended.

    Raises:
        ValueError: If the images are not of the shape that the networks make, or the run would lie
            among them, in one line; and what :func:`blemish.training.loop.train` raises.
    """
    out = Path(out)
    # What takes long, opening and damaging the images, comes after all that can be wrong without them.
    check(config, out, resume=resume, device=device)
    if images is None:
        _check_apart(config.data.source, out)
    system = build(config)
    check_side(config, system)
    if images is None:
        images = observed_images(config.data, seed=config.seed, workers=workers, silent=silent)
    _check_shape(config, system, tuple(_first(images, 1).shape[1:]))
    tell = functools.partial(_say, silent=silent)
    training, kept = _split(images, config, tell)
    selection = _selection(kept, config, tell)
    batches = ImageBatches(
        training,
        config.seed,
        flip=config.data.flip,
        random_crop=config.data.random_crop,
        stride=config.training.batch,
    )

    # Written once, and anew where a stopped run starts again: its images may be others.
    unseen = [out / "observed.png"]

    def report(state: State) -> None:
        while unseen:
            save_grid(_first(training), unseen.pop(), columns=8)
        _sample(state)

    result = train(
        system,
        batches,
        config,
        out,
        resume=resume or None,
        device=device,
        hooks=(report, *selection),
        count=len(training),
        command=command,
        silent=silent,
        stop=stop,
    )
    return Run(out, config), result


def _split(
    images: ImageReader, config: RunConfig, tell: Callable[[str], None]
) -> tuple[ImageReader, ImageReader | None]:
    """Returns the images to train on, and those kept for the choice of the best checkpoint."""
    images = _half(images, config.data.half)
    wanted = config.data.held_out
    if not wanted:
        return images, None
    count = min(wanted, len(images) // 10)
    if count < FEWEST:
        tell(
            f"No best checkpoint is chosen: of {len(images)} images none are kept for it; "
            f"{10 * FEWEST} or more are needed."
        )
        return images, None
    return hold_out(images, count, config.seed)


def _half(images: ImageReader, half: int | None) -> ImageReader:
    """Returns every second image, so that the halves 0 and 1 are disjoint and hold all; None takes all."""
    if half is None:
        return images
    if len(images) < 2:
        raise ValueError(f"data.half={half} needs at least 2 images, and there is {len(images)}")
    return Subset(images, torch.arange(half, len(images), 2))


def _selection(
    kept: ImageReader | None, config: RunConfig, tell: Callable[[str], None]
) -> tuple[Hook, ...]:
    if kept is None or not is_main():
        return ()
    try:
        features = named_features(config.selection.features, config.data.channels)
    except ModuleNotFoundError as error:
        tell(f"No best checkpoint is chosen: {error}.")
        return ()
    return (Selection(list(read_images(kept)), features, samples=config.selection.samples),)


def _say(text: str, *, silent: bool) -> None:
    if is_main() and not silent:
        print(text, file=sys.stderr)


def _first(images: ImageReader, count: int = GRID) -> Tensor:
    return ImageBatches(images, 0, ahead=0)(0, min(count, len(images)))


def _check_apart(source: str, out: Path) -> None:
    """Refuses a run's folder among the images: its sample grids would be taken for some of them."""
    data, folder = Path(source).expanduser().resolve(), out.expanduser().resolve()
    if data.is_dir() and folder.is_relative_to(data):
        raise ValueError(
            f"the run's folder {out} lies inside the images' folder {source}, where its sample grids "
            "would be taken for images; choose a folder outside"
        )


def check_side(config: RunConfig, system: System) -> None:
    """Refuses what the configuration alone shows not to fit, before any image is read."""
    prior = system.parts["prior"]
    assert isinstance(prior, Prior)
    _, height, width = prior.shape
    side = config.data.size
    shape = (config.data.channels, side or height, side or width)
    _check_shape(config, system, shape)


def _check_shape(config: RunConfig, system: System, shape: tuple[int, ...]) -> None:
    """Compares observed images with what the prior makes, both (C, H, W).

    Broadcasting would hide a difference, and the discriminator takes some of them.
    """
    prior = system.parts["prior"]
    assert isinstance(prior, Prior)
    if shape != prior.shape:
        c, side = prior.shape[0], prior.shape[1]
        raise ValueError(
            f"the observed images are {_by(shape)} (channels x height x width), but the networks of "
            f"preset {config.preset!r} make {_by(prior.shape)}; set data.size={side} and "
            f"data.channels={c} (with --fit crop or --fit resize), or choose another preset"
        )


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _sample(state: State) -> None:
    """Draws the same latents as ever, and saves the averaged parts."""
    prior = state.averages["prior"]
    g = generator_for(state.config.seed, "samples", device=state.device)
    assert isinstance(prior, Prior)
    path = state.out / "samples" / f"{state.images:010d}.png"
    save_grid(prior.sample(GRID, generator=g), path, columns=8)
    text = (
        f"Recipe {state.config.recipe}, preset {state.config.preset}, seed {state.config.seed}, "
        f"after {state.images:,} observed images."
    )
    for name, part in state.averages.items():
        artefacts.save(part, state.out / name, card=text)


def _number(changes: dict[str, str], path: str, default: int) -> int:
    text = changes.get(path)
    if text is None:
        return default
    if not text.replace("_", "").isdigit() or int(text) < 1:
        raise ValueError(f"{path}={text!r}; give a whole number of at least 1")
    return int(text)
