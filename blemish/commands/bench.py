"""``blemish bench``: compute tables of the paper, cell by cell."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

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
    work_in_parallel,
)
from ..metrics import named_features
from ..recipes import PRESETS, configure
from ..runs import change
from ..training.checkpoint import write_atomically

__all__ = ["run"]

_OWN = {
    "seed": "--seeds N",
    "training.images": "--images N",
    "data.source": "--data SOURCE",
    "data.fit": "images that are of the preset's size",
}
"""What each cell sets itself, and what to use instead."""


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
        settings: The letters of the columns that are computed; None means all.
        models: The models that are computed, by recipe and joined by commas; None means all.
        features: The features that images are compared on; None means the table's.
        count: The number of images on each side of a comparison; None means the table's.
        overrides: Changes of the configuration, each ``key=value``.
        jobs: The number of cells that are computed at a time, on one thread each.
        budget: Minutes after which what runs is saved and no other cell begins; None for no limit.
        shard: ``i/n`` computes every n-th cell, from the i-th on; None all of them.
        device: Where cells are trained.

    Returns:
        0; 1 if a cell failed, or a process was killed and no other did its cell; 130 if the work was
        stopped before all cells were done.

    Raises:
        ValueError: If an argument does not fit, or the folder holds cells of another protocol.
    """
    if name not in TABLES:
        raise ValueError(f"unknown table {name!r}; choose one of {', '.join(TABLES)}")
    table = TABLES[name]
    outcome = Outcome()
    data = data or table.source
    if data is not None:
        protocol = _protocol(table, preset, images, features, count, overrides)
        sources = _sources(data, test, label, features or table.features)
        every = plan(table, sources.label, _seeds(seeds, table))
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
            deadline=None if budget is None else time.time() + 60 * budget,
        )
        todo = sum(not task.done(cell) for cell in task.cells)
        print(f"{len(task.cells)} cells, {todo} to compute, in {out}", flush=True)
        outcome = work_in_parallel(task, jobs)
    _write(name, table, out)
    _tell_end(outcome, jobs)
    if outcome.failed or outcome.lost:
        return 1
    return 130 if outcome.stopped and budget is None else 0


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


def _seeds(text: str | None, table: Table) -> list[int]:
    if text is None:
        return list(range(table.seeds))
    words = text.split(",")
    if not all(word.isdecimal() for word in words):
        raise ValueError(f"--seeds {text}: write whole numbers joined by commas, for example 0,1,2")
    return list(dict.fromkeys(map(int, words)))


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


def _tell_end(outcome: Outcome, jobs: int) -> None:
    for cell, message in outcome.failed.items():
        print(f"failed: {cell}: {message}")
    if outcome.lost:
        print(f"failed: {outcome.lost} of {jobs} processes were killed, perhaps for want of memory")
    if outcome.stopped or outcome.lost:
        print("stopped before all cells were done; the same command goes on")


def _write(name: str, table: Table, out: Path) -> None:
    """Writes the table of all finished cells, as Markdown, CSV and JSON."""
    # Several processes may end at the same time; the last one to write has read all cells.
    with lock(out, f"{name}.tables"):
        summaries = summarise(name, table, read_cells(out))
        texts = {
            "md": "\n".join(map(to_markdown, summaries)),
            "csv": to_csv(summaries),
            "json": json.dumps([one.to_json() for one in summaries], indent=1) + "\n",
        }
        for suffix, text in texts.items():
            write_atomically(out / f"{name}.{suffix}", text.encode())
    print(texts["md"])
    print(f"wrote {out / name}.md, .csv and .json")
