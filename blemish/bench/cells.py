r"""Cells of a table: each is one training, or one measurement, that depends on nothing but itself.

A cell is (data, setting, model, seed). Its result is a JSON file ``cells/NAME.json``, written when it is
whole; its training is a run in ``runs/NAME``, which goes on from its newest checkpoint after a crash. The
damaged images of (data, setting, seed) are made once, in ``data/``, and shared by all models.

Any number of processes, on any number of machines, may work in one folder: each takes a cell by a lock
of the operating system, which ends with its process. So no cell is lost or done twice, and none stays
locked after a crash.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..configuration import read_json
from ..data import Images, load_images, open_source
from ..degradations import freeze, setting, to_uint8
from ..evaluation.findings import inspect_degradation
from ..functional.random import generator_for
from ..metrics import Extractor, extract, frechet, named_features
from ..priors import Prior, sample_batches
from ..recipes import PRESETS, RECIPES, RESTORATION, TAUGHT, configure, with_simulator
from ..runs import Run, change, load, start
from ..training.checkpoint import write_atomically
from .preparations import PREPARATIONS, prepare
from .restored import restored, scores
from .tables import Table, model_key

__all__ = ["Cell", "Protocol", "Sources", "lock", "measure", "plan", "read_cells"]

Stop = Callable[[], bool] | None

FORMAT = 1
"""The version of a cell's document."""

_DRAWS = 1000
_COMPOSED = "bncr-unir"
"""UNIR against the damage that BNCR-GAN has learned from the same images."""

_POLL = 1.0


@dataclass(frozen=True)
class Sources:
    """The images of a data set.

    Attributes:
        label: Its name in cells and tables.
        train: Clean training images, which the settings damage.
        test: Clean test images, with which samples are compared.
        features: How the protocol's features are asked for, where their name does not say it, as in
            ``inception:FILE``; the file may lie elsewhere on each machine.
    """

    label: str
    train: str
    test: str
    features: str | None = None


@dataclass(frozen=True)
class Protocol:
    """What all cells of a data set in a folder have in common, so that they can be compared.

    Attributes:
        preset: The preset of the runs.
        images: The number of observed images that a run sees.
        features: The features that images are compared on.
        count: The number of images on each side of a comparison.
        changes: Fields of the configuration that were changed, as texts by dotted names.
    """

    preset: str
    images: int
    features: str
    count: int
    changes: dict[str, str]


@dataclass(frozen=True)
class Cell:
    """One figure of a table.

    Attributes:
        data: The label of the data.
        setting: The setting's letter.
        recipe: What is trained.
        seed: The seed.
        preparation: What is done to the damaged images first; None for nothing.
    """

    data: str
    setting: str
    recipe: str
    seed: int
    preparation: str | None = None

    @property
    def model(self) -> str:
        """The model, as the name of the cell has it."""
        return model_key(self.recipe, self.preparation)

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.data}-{self.setting}-{self.model}-{self.seed}"

    @property
    def available(self) -> bool:
        """Whether this version can compute it."""
        prepared = self.preparation is None or self.setting in PREPARATIONS[self.preparation]
        return prepared and (self.recipe in RECIPES or self.recipe in ("input", _COMPOSED))

    @property
    def restores(self) -> bool:
        """Whether a restorer is trained."""
        return self.recipe in RESTORATION or self.recipe == _COMPOSED


def plan(table: Table, label: str, seeds: Sequence[int]) -> list[Cell]:
    """Returns the cells of a table: seed by seed, and in each column by column.

    Arguments:
        table: The table.
        label: The label of the data.
        seeds: The seeds.
    """
    return [
        Cell(label, letter, row.recipe, seed, row.preparation)
        for seed in seeds
        for letter in table.settings
        for row in table.rows
        if table.word(row, letter) != "-"
    ]


def read_cells(out: Path) -> list[dict[str, Any]]:
    """Returns the documents of all finished cells of a folder, by name.

    Raises:
        ValueError: If one is damaged, or of another version; the message names it.
    """
    return [_read_cell(file) for file in sorted((out / "cells").glob("*.json"))]


def _read_cell(file: Path) -> dict[str, Any]:
    again = "remove it, and its cell is measured again from its run"
    try:
        found = read_json(file)
    except ValueError as error:
        raise ValueError(f"{error}, or {again}") from error
    if "table" in found:
        raise ValueError(f"{file} is a cell of the table {found['table']}; choose another --out")
    if found.get("format") != FORMAT:
        raise ValueError(
            f"{file} has format {found.get('format')}, this version reads {FORMAT}; {again}"
        )
    return found


def lock(out: Path, name: str) -> FileLock:
    """Returns a lock among all processes that work in a folder; it ends with its process.

    Arguments:
        out: The folder of all cells.
        name: What is locked.
    """
    folder = out / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


def measure(
    cell: Cell,
    sources: Sources,
    protocol: Protocol,
    out: Path,
    *,
    device: str = "auto",
    stop: Callable[[], bool] | None = None,
) -> bool:
    """Computes a cell and writes its file.

    Arguments:
        cell: The cell.
        sources: The images.
        protocol: How it is trained and measured.
        out: The folder of all cells.
        device: Where it is trained.
        stop: Is asked between two iterations whether to stop; then the run is saved, and goes on the
            next time.

    Returns:
        Whether the cell is finished.
    """
    began = time.monotonic()
    bench = _Bench(sources, protocol, out)
    found = bench.found(cell, device, stop)
    if found is None:
        return False
    document = {
        "format": FORMAT,
        **asdict(cell),
        "model": cell.model,
        **asdict(protocol),
        **found,
        "seconds": round(time.monotonic() - began, 3),
    }
    path = out / "cells" / f"{cell.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(document, indent=2) + "\n").encode())
    return True


@dataclass(frozen=True)
class _Bench:
    """What the cells of a folder share."""

    sources: Sources
    protocol: Protocol
    out: Path

    def found(self, cell: Cell, device: str, stop: Stop) -> dict[str, Any] | None:
        """Returns the figures of a cell; None if it was stopped."""
        if cell.recipe == "input":
            return self.inputs(cell)
        trained = self.train(cell, device, stop)
        if trained is None:
            return None
        return self.restores(cell, trained) if cell.restores else self.judge(cell, trained)

    def train(self, cell: Cell, device: str, stop: Stop) -> Run | None:
        """Trains a cell's run, or goes on with it; None if it was stopped."""
        recipe = "unir" if cell.recipe == _COMPOSED else cell.recipe
        config = configure(recipe, self.protocol.preset, cell.setting)
        parts = {}
        if cell.recipe == _COMPOSED:
            learned = self.learned(cell, device, stop)
            if learned is None:
                return None
            parts["degradation"] = learned.degradation
            name = f"bncr-gan of seed {cell.seed}"
            config = with_simulator(config, learned.degradation.config, name)
        changes = {
            "seed": str(cell.seed),
            "data.source": self.sources.train,
            "data.fit": "resize",
            "training.images": str(self.protocol.images),
            **self.protocol.changes,
        }
        config = change(config, changes)
        config = replace(config, training=replace(config.training, keep=1))
        # Systems that are taught with clean images open both themselves.
        taught = cell.recipe in TAUGHT
        observed = None if taught else Images(torch.from_numpy(np.load(self.observed(cell))))
        run, result = start(
            config,
            self.out / "runs" / cell.name,
            resume=True,
            device=device,
            images=observed,
            parts=parts,
            silent=True,
            stop=stop,
        )
        return run if result.finished else None

    def learned(self, cell: Cell, device: str, stop: Stop) -> Run | None:
        """Returns the run of BNCR-GAN on the same images, which it trains if need be; None if it was stopped."""
        simulator = replace(cell, recipe="bncr-gan")
        guard = lock(self.out, simulator.name)
        while True:
            # It may be trained elsewhere at this moment, as a cell of its own.
            try:
                with guard.acquire(timeout=_POLL):
                    trained = self.train(simulator, device, stop)
                    return trained and load(trained.folder)
            except Timeout:
                if stop is not None and stop():
                    return None

    def judge(self, cell: Cell, run: Run) -> dict[str, Any]:
        """Compares samples of the last checkpoint with clean and with damaged images."""
        last = load(run.folder, "last")
        reference, damaged = self.clean_features(), self.damaged_features(cell)
        samples = self._samples(last.prior, cell.seed)
        line = last.metrics()[-1]
        found: dict[str, Any] = {
            "frechet": frechet(samples, reference),
            "frechet_to_degraded": frechet(samples, damaged),
            "degraded_frechet": frechet(damaged, reference),
            "iterations": line["iteration"],
            "training_seconds": line["seconds"],
            "learned": _recovery(last, cell.seed),
        }
        best = run.selection.best if run.selection else None
        if best is not None:
            prior = load(run.folder, "best").prior
            samples = self._samples(prior, cell.seed)
            found["best"] = {**asdict(best), "frechet": frechet(samples, reference)}
        return found

    def inputs(self, cell: Cell) -> dict[str, Any]:
        """Compares the damaged test images themselves with the clean ones; tests are damaged by N."""
        clean, damaged = self._test_pairs(cell)
        return dict(scores(clean, damaged, self.features(), self.clean_features()))

    def restores(self, cell: Cell, run: Run) -> dict[str, Any]:
        """Compares restored test images with the clean ones; tests are damaged by N."""
        clean, damaged = self._test_pairs(cell)
        last = load(run.folder, "last")
        images = restored(last.restorer, damaged)
        line = last.metrics()[-1]
        return {
            **scores(clean, images, self.features(), self.clean_features()),
            "iterations": line["iteration"],
            "training_seconds": line["seconds"],
        }

    def _test_pairs(self, cell: Cell) -> tuple[Tensor, Tensor]:
        size, channels = self.shape()
        clean = pick(clean_images(self.sources.test, size, channels), self.protocol.count, "test")
        return clean, freeze(setting(self._setting("N")), clean, seed=cell.seed)

    def observed(self, cell: Cell) -> Path:
        """Returns the file of a cell's observed images, which it makes if it is not there."""
        stem = f"{cell.data}-{cell.setting}-{cell.seed}"
        suffix = f"-{cell.preparation}" if cell.preparation else ""
        wanted = self.out / "data" / f"{stem}{suffix}.npy"
        # The cells of a setting begin together: one of them makes the images, the others wait.
        with lock(self.out, wanted.name):
            if wanted.exists():
                return wanted
            clean = clean_images(self.sources.train, *self.shape())
            damage = setting(self._setting(cell.setting))
            make = freeze if cell.preparation is None else prepare
            return _save(wanted, make(damage, clean, seed=cell.seed))

    def shape(self) -> tuple[int, int]:
        """Returns the side and the channels of the preset's images."""
        preset = PRESETS[self.protocol.preset]
        return preset.size, preset.image_channels

    def features(self) -> Extractor:
        """Returns the features that images are compared on."""
        found = _features(self._asked(), self.shape()[1])
        if found.name != self.protocol.features:
            raise ValueError(
                f"the features {self._asked()} are {found.name}, not {self.protocol.features} of the protocol"
            )
        return found

    def clean_features(self) -> Tensor:
        """Returns the features of clean test images."""
        return _clean_features(self.sources.test, self._asked(), self.protocol.count, *self.shape())

    def damaged_features(self, cell: Cell) -> Tensor:
        """Returns the features of damaged training images."""
        file = self.observed(replace(cell, preparation=None))
        return _damaged_features(file, self._asked(), self.protocol.count, cell.seed)

    def _asked(self) -> str:
        return self.sources.features or self.protocol.features

    def _samples(self, prior: Prior, seed: int) -> Tensor:
        samples = torch.cat(list(sample_batches(prior, self.protocol.count, seed=seed)))
        return extract(self.features(), to_uint8(samples))

    def _setting(self, letter: str) -> str:
        return PRESETS[self.protocol.preset].family + letter


def pick(images: Tensor, count: int, *parts: int | str) -> Tensor:
    """Returns images at random: sources are sorted by class.

    Arguments:
        images: uint8, with shape (N, C, H, W).
        count: How many, or all where there are fewer.
        parts: What determines which.
    """
    return images[torch.randperm(len(images), generator=generator_for(*parts))[:count]]


@lru_cache(maxsize=2)
def clean_images(source: str, size: int, channels: int) -> Tensor:
    """Returns clean images, reduced by area to a side, uint8, with shape (N, C, size, size)."""
    seed = 0
    if match := re.fullmatch(r"(glyphs(?::[0-9]+)?):test", source):
        source, seed = match[1], 1
    return load_images(open_source(source, size=size, fit="resize", channels=channels, seed=seed))


@lru_cache(maxsize=1)
def _features(name: str, channels: int) -> Extractor:
    return named_features(name, channels)


# The cells of a setting share these.
@lru_cache(maxsize=2)
def _clean_features(source: str, features: str, count: int, size: int, channels: int) -> Tensor:
    images = pick(clean_images(source, size, channels), count, "test")
    return extract(_features(features, channels), images)


@lru_cache(maxsize=2)
def _damaged_features(file: Path, features: str, count: int, seed: int) -> Tensor:
    images = torch.from_numpy(np.load(file))
    return extract(_features(features, images.shape[1]), pick(images, count, "observed", seed))


def _recovery(run: Run, seed: int) -> dict[str, Any]:
    """Returns what was learned of the damage beside what is true, by quantity."""
    if not any(True for _ in run.degradation.parameters()):
        return {}
    findings = inspect_degradation(
        run.degradation, run.prior.shape, truth=run.truth(), count=_DRAWS, seed=seed
    )
    distances = findings.distances()
    true = findings.true.summary() if findings.true else {}
    rows: dict[str, Any] = {}
    for name, summary in findings.learned.summary().items():
        rows[name] = {"mean": summary["mean"], "std": summary["std"]}
        if name in true:
            rows[name] |= {"true_mean": true[name]["mean"], "true_std": true[name]["std"]}
        if name in distances:
            rows[name]["wasserstein"] = distances[name]
    if "mean_kernel" in distances:
        rows["mean_kernel"] = {"l1": distances["mean_kernel"]}
    return rows


def _save(file: Path, images: Tensor) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.writing")
    with partial.open("wb") as stream:
        np.save(stream, images.numpy())
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
    return file
