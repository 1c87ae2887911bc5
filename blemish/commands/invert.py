"""``blemish invert``: clean pictures from damaged ones, by a search among those that a prior makes.

Which picture of the prior, damaged as the observed one was, looks like it? The methods, and what they know of the damage,
are listed in :mod:`blemish.restorers.methods`; ``pulse`` and ``mmd`` minimise what :mod:`blemish.restorers.terms` lists,
and are set up one by one with ``--set``, by the names of :class:`~blemish.restorers.LatentSearch.Config`.

A prior makes pictures of one size, so that only pictures of that size, divided by the scale of the damage, can be
restored. A folder is searched in batches; a picture is restored as it would be alone. Written is PNG. What is there
already is stepped over; what cannot be read, or has another size, is reported and stepped over.

Of a damage that is no encoder nobody tells what was drawn for a picture: its parameters are drawn with the seed and kept.
Where they are fixed (a JPEG quality, a factor) they are true.

The report is one JSON object: how was searched, and for each picture the losses of all restarts and their paths: a list
for each phase of the losses before each step and after the last; of ``pulse`` and ``mmd`` such a list for each term,
without its weight, and for their weighted sum, ``total``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..configuration import encode as encoded
from ..configuration import override, read_json
from ..degradations import (
    Degradation,
    LearnedLikelihood,
    UniversalDegradation,
    approximation,
    is_differentiable,
    is_likelihood,
    to_uint8,
)
from ..photos import Picture, read_picture, tensor_of, write_picture, write_whole
from ..priors import Prior
from ..restorers import SEARCHES, Found, Inverted, Inverter, LatentSearch, inverter_for
from ..restorers.methods import Method
from ..runs import Run, load
from ..training.processes import find_device
from ..training.progress import Tell
from .degrade import find_degradation
from .encode import SMALLEST
from .pictures import Job, Tally, conclude, find_jobs, is_video, work

__all__ = ["Way", "find_damage", "find_prior", "run", "search_for"]

Way = Method | Literal["pulse", "mmd"]
"""The name of a search."""


def run(
    source: Path,
    output: Path,
    *,
    prior: str,
    degradation: str | None = None,
    method: Way | None = None,
    settings: Sequence[str] = (),
    restarts: int = 1,
    steps: int | None = None,
    batch: int = 8,
    seed: int = 0,
    report: Path | None = None,
    keep_all: bool = False,
    overwrite: bool = False,
    device: str = "auto",
) -> int:
    """Restores a picture, or all pictures in a folder, by inversion of a prior.

    Arguments:
        source: A damaged picture or a folder.
        output: The picture or the folder written; of one picture, a folder keeps its name. PNG.
        prior: The folder of a run that has a prior, or of a prior.
        degradation: The damage: a universal model, a task, a setting or any other that is differentiable; None of
            methods that need none.
        method: How is searched; None means ``universal`` where the damage is a universal model, ``mmd`` where it is a
            learned likelihood, else ``non-blind``.
        settings: What of ``pulse`` or ``mmd`` is set, as ``KEY=VALUE``.
        restarts: The number of searches; the picture with the lowest loss is kept.
        steps: The steps of each phase; None leaves them at those of the method.
        batch: The pictures searched at a time.
        seed: The seed of all random numbers.
        report: Where the losses are written as JSON, or None.
        keep_all: Whether what each restart found is written, too, as ``NAME.restart-0.png``.
        overwrite: Whether pictures that are there are made again; else they are stepped over.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Returns:
        0, or 1 where pictures of a folder failed, or 130 where Ctrl-C stopped it.

    Raises:
        ValueError: If an argument does not fit, or the one picture cannot be restored; in one line.
        OSError: If a file cannot be read or there is no space left.
    """
    place = find_device(device)
    jobs = _as_png(find_jobs(source, output, in_place=False), output)
    kept = restarts if keep_all else 0
    _check_alike(jobs, kept)
    found = find_prior(prior)
    damage = None if degradation is None else find_damage(degradation)
    way = method or _method(damage)
    search = search_for(
        way, found, damage, settings=settings, steps=steps, restarts=restarts, seed=seed
    )
    shape = _observed_shape(search)
    facts = {"method": way, "prior": prior, "degradation": degradation, **_facts(search)}
    losses = None if report is None else _Report.at(report, facts, anew=overwrite)
    wanted = [job for job in jobs if overwrite or not os.path.lexists(job.target)]
    search.to(place).eval().requires_grad_(False)
    worker = _Worker(search, shape, place, wanted, batch, kept, losses)
    tally = Tally(len(jobs), output, in_place=False)
    return conclude(source, tally, work(jobs, worker, tally, "searching", again=overwrite))


def search_for(
    method: Way,
    prior: Prior,
    damage: Degradation[Any] | None,
    *,
    settings: Sequence[str] = (),
    steps: int | None = None,
    restarts: int = 1,
    seed: int = 0,
) -> Inverter | LatentSearch:
    """Returns a search by name.

    Arguments:
        method: The name.
        prior: The prior.
        damage: The damage, or None.
        settings: What of ``pulse`` or ``mmd`` is set, as ``KEY=VALUE``.
        steps: The steps, of each phase where there are several; None leaves them.
        restarts: The number of searches.
        seed: The seed.

    Raises:
        ValueError: If something does not fit; the message says what.
    """
    if method != "pulse" and method != "mmd":
        if settings:
            raise ValueError(f"--set {settings[0]}: only pulse and mmd have settings, not {method}")
        return inverter_for(method, prior, damage, steps=steps, restarts=restarts, seed=seed)
    config = replace(SEARCHES[method], restarts=restarts, seed=seed)
    if steps is not None:
        config = replace(config, steps=steps)
    for text in settings:
        key, _, new = text.partition("=")
        if key in _FLAGS:
            raise ValueError(f"--set {text}: give --{key} {new}")
        config = override(config, key, new)
    return LatentSearch(prior, damage, config)


def find_prior(what: str, *, tell: Callable[[str], object] = print) -> Prior:
    """Returns the prior of a run, or a prior.

    Arguments:
        what: The folder.
        tell: Is told which checkpoint of a run it is.

    Raises:
        ValueError: If there is no prior in it.
        FileNotFoundError: If it is neither.
    """
    found = load(what)
    if isinstance(found, Run):
        if not (found.parts / "prior").is_dir():
            raise ValueError(
                f"{what} has no prior: its recipe {found.config.recipe!r} trains none; give the folder of a prior, or "
                "of a run that has one"
            )
        tell(f"using {found.describe()}")
        found = found.prior
    if not isinstance(found, Prior):
        raise ValueError(
            f"{what} holds a {type(found).__name__}, which makes no pictures; give a prior"
        )
    return found


def find_damage(what: str, *, tell: Callable[[str], object] = print) -> Degradation[Any]:
    """Returns a likelihood or a differentiable degradation by name, or what stands for it.

    Arguments:
        what: What :func:`~.degrade.find_degradation` knows.
        tell: Is told which checkpoint of a run it is.

    Raises:
        ValueError: If there is none, or it has no gradients and nothing stands for it.
    """
    found = find_degradation(what, tell=tell)
    if is_differentiable(found) or is_likelihood(found):
        return found
    try:
        stand_in: Degradation[Any] = approximation(found.config).build()
    except ValueError as error:
        raise ValueError(f"{what} cannot be inverted: {error}") from None
    return stand_in


@dataclass
class _Report:
    """The losses of pictures, as a file that is whole after each batch."""

    path: Path
    document: dict[str, Any]

    @classmethod
    def at(cls, path: Path, facts: dict[str, Any], *, anew: bool) -> _Report:
        """Begins a report, or goes on with the one of the same search.

        Raises:
            FileExistsError: If the file is another one.
        """
        document = {**facts, "pictures": {}}
        if path.exists() and not anew:
            before = read_json(path) if path.is_file() else {}
            if {**before, "pictures": {}} != document:
                raise FileExistsError(
                    f"{path} exists and is no report of this search; give --overwrite to replace it, or another name"
                )
            document = before
        return cls(path, document)

    def add(self, names: Iterable[str], searches: Sequence[Inverted | Found]) -> None:
        """Writes down the searches of a batch."""
        losses = _losses(searches)
        winner = losses.argmin(dim=0).tolist()
        for i, name in enumerate(names):
            self.document["pictures"][name] = {
                "loss": losses[winner[i], i].item(),
                "restart": winner[i],
                "losses": losses[:, i].tolist(),
                "paths": [found.path_of(i) for found in searches],
            }
        write_whole(self.path, (json.dumps(self.document, indent=1) + "\n").encode())


@dataclass
class _Worker:
    """A search on its device, and what it has found for pictures whose turn is yet to come.

    Attributes:
        search: The search.
        shape: The shape (C, H, W) of the pictures that it takes.
        device: Where it is computed.
        wanted: All pictures, in the order of their turns, but those that are stepped over.
        batch: How many are searched at a time.
        kept: How many restarts are written beside the best.
        report: Where losses are written down, or None.
        notes: Nothing.
        found: The pictures to write, by names: the best, and restarts.
    """

    search: Inverter | LatentSearch
    shape: tuple[int, int, int]
    device: torch.device
    wanted: list[Job]
    batch: int
    kept: int
    report: _Report | None
    notes: list[str] = field(default_factory=list)
    found: dict[str, list[Tensor]] = field(default_factory=dict)

    def carry_out(self, job: Job, progress: Tell) -> tuple[str, ...]:
        """Writes a picture; the first one of a batch waits for the search of all."""
        if job.name not in self.found:
            self._search(job, progress)
        best, *restarts = self.found.pop(job.name)
        for image, path in zip(restarts, _restart_files(job, self.kept), strict=True):
            _write(image, path)
        # Last, as it says that the picture is done.
        _write(best, job.target)
        return ()

    def _search(self, first: Job, progress: Tell) -> None:
        """Searches a picture together with those that come next."""
        later = self.wanted[self.wanted.index(first) + 1 :]
        read = [(first, self._read(first)), *islice(self._readable(later), self.batch - 1)]
        y = torch.stack([image for _, image in read]).to(self.device)
        total = self.search.asked
        # The first of a batch waits for all of them: what is done is told as so many pictures.
        self.search.tell = lambda n: progress(n * len(read), total)
        searches: Sequence[Inverted | Found] = self.search.searches(y)
        winner = _losses(searches).argmin(dim=0).tolist()
        for i, (job, _) in enumerate(read):
            images = [found.images[i].cpu() for found in searches]
            self.found[job.name] = [images[winner[i]], *images[: self.kept]]
        if self.report is not None:
            self.report.add([job.name for job, _ in read], searches)

    def _readable(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Tensor]]:
        for job in jobs:
            try:
                yield job, self._read(job)
            except (ValueError, OSError, MemoryError):
                continue  # Its own turn will say why.

    def _read(self, job: Job) -> Tensor:
        """Reads a picture in [0, 1], with the shape (C, H, W) that the damage leaves of the prior's."""
        if is_video(job.source):
            raise ValueError("videos are not searched; give pictures")
        pixels = read_picture(job.source).colours
        height, width = pixels.shape[:2]
        C, H, W = self.shape
        if (height, width) != (H, W):
            raise ValueError(
                f"it has {width}x{height} pixels; this prior and this damage take {W}x{H} alone, bring it there first"
            )
        if isinstance(self.search, LatentSearch) and self.search.config.bits:
            if pixels.dtype != np.uint8:
                raise ValueError("it has 16 bits, and likelihoods are of pictures of 8; save it so")
            # Whole numbers to the end: their luma is one, too.
            return tensor_of(pixels, C)[0].float() / 255
        peak = 65535 if pixels.dtype == np.uint16 else 255
        return tensor_of(pixels.astype(np.float32) / peak, C)[0]


_FLAGS = ("restarts", "seed", "steps")
"""What of a search has an option of its own."""


def _losses(searches: Sequence[Inverted | Found]) -> Tensor:
    """Returns the losses of all restarts, with shape (restarts, B); one that is no number is the worst."""
    return torch.stack([found.losses for found in searches]).nan_to_num(nan=math.inf)


def _write(image: Tensor, path: Path) -> None:
    pixels = to_uint8(image[None])[0].permute(1, 2, 0)
    write_picture(Picture(np.ascontiguousarray(pixels.numpy())), path)


def _as_png(jobs: Sequence[Job], output: Path) -> list[Job]:
    """Returns the jobs with outputs that are PNG files."""
    if jobs[0].target == output and output.suffix.lower() != ".png":
        raise ValueError(f"{output}: restored pictures are written as PNG; end the name in .png")
    return [
        job if job.target == output else replace(job, target=job.target.with_suffix(".png"))
        for job in jobs
    ]


def _restart_files(job: Job, count: int) -> list[Path]:
    return [job.target.with_name(f"{job.target.stem}.restart-{i}.png") for i in range(count)]


def _check_alike(jobs: Sequence[Job], kept: int) -> None:
    """Refuses pictures that would be written to the same file."""
    taken: dict[Path, str] = {}
    for job in jobs:
        for path in chain([job.target], _restart_files(job, kept)):
            if path in taken:
                raise ValueError(
                    f"{taken[path]} and {job.name} would both be written to {path}; rename one of them"
                )
            taken[path] = job.name


def _method(damage: Degradation[Any] | None) -> Way:
    if damage is None:
        raise ValueError(
            "nothing says how the pictures were damaged; give --degradation D, or --method blind, pulse or mmd, which "
            "need none"
        )
    if not is_differentiable(damage):
        return "mmd"
    return "universal" if isinstance(damage, UniversalDegradation) else "non-blind"


def _observed_shape(search: Inverter | LatentSearch) -> tuple[int, int, int]:
    """Returns the shape (C, H, W) of the pictures that are searched.

    Raises:
        ValueError: If prior and damage do not go together.
    """
    channels, height, width = search.prior.shape
    damage, scale = search.degradation, search.scale
    size = f"the prior makes {width}x{height} pixels"
    if height % scale or width % scale:
        raise ValueError(f"{size}, which a reduction by {scale} does not divide; choose another")
    if isinstance(damage, UniversalDegradation | LearnedLikelihood) and damage.channels != channels:
        what = "universal model" if isinstance(damage, UniversalDegradation) else "likelihood"
        raise ValueError(
            f"the prior makes pictures of {channels} channels, the {what} takes {damage.channels}; both must have been "
            "trained on the same"
        )
    if isinstance(damage, UniversalDegradation) and min(height, width) < SMALLEST:
        raise ValueError(
            f"{size}, too few to read a damage off; {SMALLEST}x{SMALLEST} is the least"
        )
    if isinstance(search, LatentSearch):
        return search.observed
    return channels, height // scale, width // scale


def _facts(search: Inverter | LatentSearch) -> dict[str, Any]:
    """Returns how is searched, as JSON has it."""
    config = search.config
    if isinstance(config, LatentSearch.Config):
        return {"search": encoded(config)}
    return {
        "seed": config.seed,
        "restarts": config.restarts,
        "distance": "textures on all scales, and pixels",
        "phases": [asdict(phase) for phase in config.phases or ()],
    }
