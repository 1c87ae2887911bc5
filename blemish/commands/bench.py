"""``blemish bench``: compute tables of the papers, cell by cell.

Most are tables of trained GANs. ``udm-table1`` is one of restoration by inversion, whose settings are tasks, and
``pir-table2`` the ablation of perceptual restoration, whose models are rows: a prior and more parts are given, and everything
is computed on the CPU, whose seconds the tables show.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..bench import (
    TABLES,
    Cell,
    Outcome,
    Protocol,
    Sources,
    Table,
    Task,
    check_protocol,
    lock,
    plan,
    read_cells,
    shard_of,
    summarise,
    to_csv,
    to_markdown,
)
from ..metrics import named_features
from ..recipes import PRESETS, configure
from ..runs import change
from .searches import OPTIONS, SEARCHES, Wishes, run_search
from .tables import deadline_of, seeds_of, tell_end, worked, write_texts

__all__ = ["run"]

_OWN = {
    "seed": "--seeds N",
    "training.images": "--images N",
    "data.source": "--data SOURCE",
    "data.fit": "images that are of the preset's size",
}
"""What each cell sets itself, and what to use instead."""

_TRAINED = (
    *("--test", "--label", "--preset", "--images", "--settings", "--features"),
    *("--set", "--shard", "--device"),
)
"""The options of trained tables that others need not have."""


def run(
    name: str,
    *,
    out: Path,
    data: str | None,
    test: str | None,
    label: str | None,
    preset: str | None,
    images: int | None,
    seeds: str | None,
    settings: str | None,
    models: str | None,
    features: str | None,
    count: int | None,
    overrides: Sequence[str],
    jobs: int,
    budget: float | None,
    shard: str | None,
    device: str,
    prior: str | None = None,
    degradation: str | None = None,
    steps: int | None = None,
    prior_v1: str | None = None,
    likelihood: str | None = None,
    likelihood_late: str | None = None,
    weights: Sequence[str] = (),
) -> int:
    """Computes a table's cells that are not there yet, and writes the table of all that are.

    Arguments:
        name: The name of the table.
        out: The folder of cells and tables.
        data: Clean training images; None computes nothing, unless the table has data of its own.
        test: Clean test images; None means those that belong to ``data``, where this is clear.
        label: What the data are called; None takes the name of the file or folder.
        preset: The size of everything; None means the table's.
        images: The number of observed images that a run sees; None means the table's, or the preset's.
        seeds: The seeds, joined by commas; None means 0, 1, ..., as many as the table has.
        settings: The letters of the columns that are computed, of ``udm-table1`` the tasks, joined by commas; None
            means all.
        models: The models that are computed, by recipe, of ``udm-table1`` by method, of ``pir-table2`` the rows, joined by
            commas; None means all.
        features: The features that images are compared on; None means the table's.
        count: The number of images on each side of a comparison, of searches of those restored; None means the table's.
        overrides: Changes of the configuration, each ``key=value``.
        jobs: The number of cells that are computed at a time, on one thread each.
        budget: Minutes after which what runs is saved and no other cell begins; None for no limit.
        shard: ``i/n`` computes every n-th cell, from the i-th on; None all of them.
        device: Where cells are trained.
        prior: Of searches, the prior: a run or an artefact.
        degradation: Of ``udm-table1``, the universal model: a run or an artefact; of ``pir-table2`` the damage by name; None
            means JPEG.
        steps: Of ``udm-table1``, the steps of each phase; of ``pir-table2``, of rows that have 100 in the paper; None means
            those of the methods.
        prior_v1: Of ``pir-table2``, the prior of the row v1.
        likelihood: Of ``pir-table2``, the learned law of damage: a run or an artefact.
        likelihood_late: Of ``pir-table2``, one that was trained too long.
        weights: Of ``pir-table2``, files that scores of looks need, each ``name=path``.

    Returns:
        0; 1 if a cell failed, or a process was killed and no other did its cell; 130 if the work was
        stopped before all cells were done.

    Raises:
        ValueError: If an argument does not fit, or the folder holds cells of another protocol.
    """
    if name not in TABLES and name not in SEARCHES:
        raise ValueError(f"unknown table {name!r}; choose one of {', '.join((*TABLES, *SEARCHES))}")
    _refuse(
        name,
        {
            "--test": test,
            "--label": label,
            "--preset": preset,
            "--settings": settings,
            "--features": features,
            "--set": " ".join(overrides) or None,
            "--shard": shard,
            "--device": device if device not in ("auto", "cpu") else None,
            "--images": images,
            "--prior": prior,
            "--degradation": degradation,
            "--steps": steps,
            "--prior-v1": prior_v1,
            "--likelihood": likelihood,
            "--likelihood-late": likelihood_late,
            "--weights": " ".join(weights) or None,
        },
    )
    if name in SEARCHES:
        wishes = Wishes(
            out=out,
            jobs=jobs,
            budget=budget,
            data=data,
            prior=prior,
            degradation=degradation,
            seeds=seeds,
            settings=settings,
            models=models,
            count=count,
            steps=steps,
            prior_v1=prior_v1,
            likelihood=likelihood,
            likelihood_late=likelihood_late,
            weights=weights,
        )
        return run_search(name, wishes)
    table = TABLES[name]
    outcome = Outcome()
    data = data or table.source
    if data is not None:
        protocol = _protocol(table, preset, images, features, count, overrides)
        sources = _sources(data, test, label, features or table.features)
        every = plan(table, sources.label, seeds_of(seeds, table.seeds))
        wanted = _wanted(every, settings, models)
        known = [one for one in read_cells(out) if one["data"] == sources.label]
        check_protocol(known, protocol)
        _tell_unavailable(wanted)
        task = Task(
            shard_of([cell for cell in wanted if cell.available], shard),
            sources,
            protocol,
            device,
            out=out,
            deadline=deadline_of(budget),
        )
        outcome = worked(task, jobs)
    _write(name, table, out)
    return tell_end(outcome, jobs, budgeted=budget is not None)


def _refuse(name: str, given: Mapping[str, Any]) -> None:
    """Refuses options that a table has no use for."""
    for flag, value in given.items():
        if value is None or flag in OPTIONS.get(name, _TRAINED):
            continue
        owners = [other for other, flags in OPTIONS.items() if flag in flags]
        of = f"; it belongs to {' and '.join(owners)}" if owners and name in TABLES else ""
        raise ValueError(f"{flag} {value}: the table {name} has no such option{of}; leave it out")


def _protocol(
    table: Table,
    preset: str | None,
    images: int | None,
    features: str | None,
    count: int | None,
    overrides: Sequence[str],
) -> Protocol:
    """Returns the protocol, after everything that can be wrong with it has been tried."""
    preset = preset or table.preset
    changes = dict(text.split("=", 1) for text in overrides)
    if own := sorted(changes.keys() & _OWN):
        raise ValueError(f"--set {own[0]}: each cell sets it itself; give {_OWN[own[0]]} instead")
    config = change(
        configure("gan", preset), {k: v for k, v in changes.items() if "degradation." not in k}
    )
    wanted = images or table.images or config.training.images
    try:
        named = named_features(features or table.features, PRESETS[preset].image_channels)
    except ModuleNotFoundError as error:  # its message says what to install
        raise ValueError(str(error)) from error
    return Protocol(preset, wanted, named.name, count or table.count, changes)


def _sources(
    data: str, test: str | None, label: str | None, features: str | None = None
) -> Sources:
    if label is not None and not re.fullmatch(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)*", label):
        raise ValueError(f"--label {label!r}; use letters, digits, dots, hyphens and underscores")
    return Sources(label or _label(data), data, test or _test_of(data), features)


def _label(data: str) -> str:
    path = Path(re.sub(r":(train|test|[0-9]+)$", "", data))
    stem = path.name.partition(".")[0]
    name = path.parent.name if stem in ("train", "training") else stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-") or "data"


def _test_of(data: str) -> str:
    """Returns the test images that belong to training images, where the names say which."""
    if re.fullmatch(r"glyphs(:[0-9]+)?", data):
        return f"{data}:test"
    if data.endswith(":train"):
        return data.removesuffix("train") + "test"
    path = Path(data)
    sibling = path.with_name(path.name.replace("train", "test", 1))
    if sibling != path and sibling.exists():
        return str(sibling)
    raise ValueError(f"which clean images are samples of {data} compared with? Give --test SOURCE")


def _wanted(cells: Sequence[Cell], settings: str | None, models: str | None) -> list[Cell]:
    letters = {cell.setting for cell in cells}
    names = {cell.model for cell in cells}
    chosen = set(settings) if settings else letters
    wanted = set(models.split(",")) if models else names
    if unknown := sorted(chosen - letters):
        raise ValueError(
            f"the table has no setting {unknown[0]!r}; it has {''.join(sorted(letters))}"
        )
    if unknown := sorted(wanted - names):
        raise ValueError(
            f"the table has no model {unknown[0]!r}; it has {', '.join(sorted(names))}"
        )
    return [cell for cell in cells if cell.setting in chosen and cell.model in wanted]


def _tell_unavailable(cells: Sequence[Cell]) -> None:
    missing = sorted({f"{cell.model} on {cell.setting}" for cell in cells if not cell.available})
    if missing:
        print(f"not computed, since this version has no such model: {', '.join(missing)}")


def _write(name: str, table: Table, out: Path) -> None:
    """Writes the table of all finished cells."""
    # Several processes may end at the same time; the last one to write has read all cells.
    with lock(out, f"{name}.tables"):
        summaries = summarise(name, table, read_cells(out))
        write_texts(
            out / name,
            markdown="\n".join(map(to_markdown, summaries)),
            commas=to_csv(summaries),
            document=[one.to_json() for one in summaries],
        )
