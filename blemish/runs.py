r"""Runs: start one, go on with one, load one.

A run is a folder: ``config.json``, ``metrics.jsonl``, ``observed.png``, ``samples/``, ``checkpoints/``,
and the moving averages of its parts as the artefacts ``prior/``, ``degradation/``, ``restorer/``. Where images were
kept for it, the best checkpoint's parts stand in ``best/``, and how it was chosen in ``selection.json``. Where damage was
estimated first, it is the artefact ``damage/``, and ``damage.json`` says of what; see :mod:`blemish.restoration`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from . import artefacts
from .configuration import override, read_json
from .data import (
    ImageBatches,
    ImageReader,
    Images,
    JoinedBatches,
    Shrunk,
    StreamedImages,
    Subset,
    hold_out,
    read_images,
)
from .degradations import Degradation, setting
from .functional.random import generator_for, stable_hash
from .metrics import named_features
from .priors import Prior
from .recipes import decode_run, reports_of
from .restorers import Restorer
from .systems.base import System
from .training.checkpoint import latest_checkpoint
from .training.config import RunConfig
from .training.grids import save_grid
from .training.images import observed_images, taught_images
from .training.loop import State, TrainResult, build, check, train
from .training.metrics import read_metrics
from .training.processes import is_main
from .training.run import Hook
from .training.selection import FEWEST, Measured, Selected, Selection, read_selection
from .training.stopping import FEWEST_WATCHED, Watch

__all__ = [
    "Run",
    "Which",
    "change",
    "check_side",
    "check_start",
    "load",
    "observed_images",
    "start",
]

Which = Literal["best", "last"]
"""Which checkpoint of a run."""

# What a recipe has used when --set is applied: a change would only be a wrong label.
_USED = {"recipe": "RECIPE", "preset": "--preset", "data.setting": "--setting"}

GRID = 64
"""The number of images in a sample grid."""

WATCHED_AT_ONCE = 32
"""The number of images that a run is judged by at once."""


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
            f"({selection.said(best)})"
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
        counts = reports_of(config.recipe, config.preset)
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


def start(
    config: RunConfig,
    out: str | os.PathLike[str],
    *,
    resume: Path | bool = False,
    device: str = "auto",
    images: Images | StreamedImages | None = None,
    parts: Mapping[str, nn.Module] | None = None,
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
        parts: What was trained before and is handed to the system, by name, such as the ``degradation``
            that a restorer is trained against.
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
    system = check_start(config, out, resume=resume, device=device)
    _hand_over(system, parts or {}, config, resumed=bool(resume) and _has_checkpoint(out, resume))
    clean: ImageReader | None = None
    if system.clean is not None:
        if images is not None:
            raise ValueError(f"{config.recipe} is taught with clean images; leave images out")
        observed, clean = taught_images(
            config.data, system.clean, seed=config.seed, workers=workers, silent=silent
        )
    else:
        observed = images or observed_images(
            config.data, seed=config.seed, workers=workers, silent=silent
        )
    _check_shape(config, system, tuple(_first(observed, 1).shape[1:]))
    tell = functools.partial(_say, silent=silent)
    fewest = FEWEST_WATCHED if system.watched else FEWEST
    training, kept = _split(observed, config, fewest, tell)
    if clean is not None:
        # Partners stay partners: of both the same images are taken.
        clean, partners = _split(clean, config, fewest, lambda text: None)
    else:
        partners = None
    watch = _watch(kept, partners, config) if system.watched else None
    selection = () if system.watched else _selection(kept, config, tell)
    batches = _batches(training, clean, config, system)
    shown = _photographs(observed, config) or training

    # Written once, and anew where a stopped run starts again: its images may be others.
    unseen = [out / "observed.png"]

    def report(state: State) -> None:
        while unseen:
            save_grid(_first(shown), unseen.pop(), columns=8)
        _sample(state, shown, damaged=shown is not training)

    result = train(
        system,
        batches,
        config,
        out,
        resume=resume or None,
        device=device,
        hooks=(report, *selection, *([] if watch is None else [watch])),
        count=len(training),
        command=command,
        silent=silent,
        stop=stop,
        enough=None if watch is None else watch.enough,
    )
    return Run(out, config), result


def check_start(
    config: RunConfig, out: Path, *, resume: Path | bool = False, device: str = "auto"
) -> System:
    """Finds out what is wrong without the images of a run being opened.

    Arguments:
        config: The configuration.
        out: The run's folder.
        resume: See :func:`start`.
        device: See :func:`start`.

    Returns:
        The freshly built system.

    Raises:
        ValueError: In one line; and what :func:`blemish.training.loop.check` raises.
    """
    check(config, out, resume=resume, device=device)
    _check_apart(config.data.source, out)
    system = build(config)
    check_side(config, system)
    if config.data.held_out and "prior" not in system.parts and not system.watched:
        raise ValueError(
            f"data.held_out={config.data.held_out}: checkpoints of {config.recipe} are not chosen, so that nothing "
            "is kept for it; leave it at 0"
        )
    return system


def _split(
    images: ImageReader, config: RunConfig, fewest: int, tell: Callable[[str], None]
) -> tuple[ImageReader, ImageReader | None]:
    """Returns the images to train on, and those kept for the choice of the best checkpoint."""
    images = _half(images, config.data.half)
    wanted = config.data.held_out
    if not wanted:
        return images, None
    count = min(wanted, len(images) // 10)
    if count < fewest:
        tell(
            f"No best checkpoint is chosen: of {len(images)} images none are kept for it; "
            f"{10 * fewest} or more are needed."
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


def _watch(
    kept: ImageReader | None, partners: ImageReader | None, config: RunConfig
) -> Watch | None:
    """Returns what judges a run by kept images, or by several crops of each, always the same."""
    if kept is None:
        return None
    sets = [kept] if partners is None else [kept, partners]
    walks = [
        ImageBatches(
            one, stable_hash(config.seed, "kept"), random_crop=config.data.random_crop, ahead=0
        )
        for one in sets
    ]
    count = len(kept) * (config.data.held_out_crops if config.data.random_crop else 1)
    batches = [
        torch.cat([walk(start, min(WATCHED_AT_ONCE, count - start)) for walk in walks], dim=1)
        for start in range(0, count, WATCHED_AT_ONCE)
    ]
    return Watch(batches, patience=config.selection.patience)


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
    _, height, width = system.image_shape
    side = config.data.size
    shape = (config.data.channels, side or height or 1, side or width or 1)
    _check_shape(config, system, shape)


def _check_shape(config: RunConfig, system: System, shape: tuple[int, ...]) -> None:
    """Compares observed images with what the networks take or make, both (C, H, W).

    Broadcasting would hide a difference, and the discriminator takes some of them.
    """
    wanted = system.image_shape
    if all(w in (None, given) for w, given in zip(wanted, shape, strict=True)):
        return
    c, side = wanted[:2]
    size = "" if side is None else f"data.size={side} and "
    raise ValueError(
        f"the observed images are {_by(shape)} (channels x height x width), but the networks of "
        f"preset {config.preset!r} make {_by(wanted)}; set {size}"
        f"data.channels={c} (with --fit crop or --fit resize), or choose another preset"
    )


def _by(shape: tuple[int | None, ...]) -> str:
    return "x".join("any" if side is None else str(side) for side in shape)


def _hand_over(
    system: System, parts: Mapping[str, nn.Module], config: RunConfig, *, resumed: bool
) -> None:
    """Gives a system the weights of parts that were trained before; a checkpoint has them."""
    for name in parts.keys() - {*system.given, *system.continued}:
        raise ValueError(f"{config.recipe} learns its {name} itself; leave --{_option(name)} out")
    for name in (*system.given, *system.continued):
        if name in parts:
            system.get_submodule(name).load_state_dict(parts[name].state_dict())
        elif name in system.given and system.lacks(name) and not resumed:
            raise ValueError(
                f"{config.recipe} is trained against a {name} that it is given: add --{_option(name)} RUN, or "
                "setting:NAME "
                "(in Python parts)"
            )


def _option(part: str) -> str:
    """Returns the option that gives a part; what damages images has one name on the command line."""
    return "degradation" if part == "damage" else part


def _has_checkpoint(out: Path, resume: Path | bool) -> bool:
    return isinstance(resume, Path) or latest_checkpoint(out) is not None


def _batches(
    observed: ImageReader, clean: ImageReader | None, config: RunConfig, system: System
) -> ImageBatches | JoinedBatches:
    """Returns the batches of a run; with clean images, those follow the observed ones' channels."""

    def walk(images: ImageReader, seed: int) -> ImageBatches:
        data, stride = config.data, config.training.batch
        return ImageBatches(
            images, seed, flip=data.flip, random_crop=data.random_crop, stride=stride
        )

    first = walk(observed, config.seed)
    if clean is None:
        return first
    # Partners take the same walk; the images of two sets meet at random.
    seed = config.seed if system.clean == "partners" else stable_hash(config.seed, "clean set")
    return JoinedBatches(first, walk(clean, seed))


def _photographs(observed: ImageReader, config: RunConfig) -> ImageReader | None:
    """Returns crops of the photographs themselves where small copies are trained on; None elsewhere."""
    if not (isinstance(observed, StreamedImages) and isinstance(observed.source, Shrunk)):
        return None
    whole = StreamedImages(observed.source.source, crop=config.data.size, workers=1)
    return _half(whole, config.data.half)


def _sample(state: State, images: ImageReader, *, damaged: bool) -> None:
    """Draws the same latents, or restores the same images, as ever, and saves the averaged parts."""
    path = state.out / "samples" / f"{state.images:010d}.png"
    prior = state.averages.get("prior")
    if isinstance(prior, Prior):
        g = generator_for(state.config.seed, "samples", device=state.device)
        save_grid(prior.sample(GRID, generator=g), path, columns=8)
    else:
        save_grid(_before_and_after(state, images, damaged=damaged), path, columns=8)
    text = (
        f"Recipe {state.config.recipe}, preset {state.config.preset}, seed {state.config.seed}, "
        f"after {state.images:,} observed images."
    )
    for name, part in state.averages.items():
        artefacts.save(part, state.out / name, card=text)


@torch.no_grad()
def _before_and_after(state: State, images: ImageReader, *, damaged: bool) -> Tensor:
    """Returns rows of eight images, each above the row of what is made of them."""
    observed = _first(images, GRID // 2).to(state.device)
    # Of few photographs the first stand there again, so that all rows are full.
    again = torch.arange(-(-len(observed) // 8) * 8, device=state.device) % len(observed)
    observed = observed[again]
    g = generator_for(state.config.seed, "samples", device=state.device)
    if not damaged:
        observed = state.system.shown(observed, g)
    parts = state.averages
    pairs = (state.system.compared(y, parts, g) for y in torch.split(observed, 8))
    return torch.cat([row for pair in pairs for row in pair])


def _number(changes: dict[str, str], path: str, default: int) -> int:
    text = changes.get(path)
    if text is None:
        return default
    if not text.replace("_", "").isdigit() or int(text) < 1:
        raise ValueError(f"{path}={text!r}; give a whole number of at least 1")
    return int(text)
