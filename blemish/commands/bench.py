"""``blemish bench``: compute tables of the papers, cell by cell.

Most are tables of trained GANs. ``udm-table1`` is one of restoration by inversion: a prior and a universal model are given,
settings are tasks, and everything is computed on the CPU, whose seconds the table shows.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bench import (
    INVERSION,
    INVERSION_METHODS,
    INVERSION_TASKS,
    TABLES,
    Cell,
    InversionBench,
    InversionCell,
    InversionTask,
    Outcome,
    Protocol,
    Sources,
    Table,
    Task,
    Work,
    check_inversion_protocol,
    check_protocol,
    fits,
    lock,
    plan,
    plan_inversion,
    read_cells,
    read_inversion_cells,
    shard_of,
    summarise,
    summarise_inversion,
    to_csv,
    to_markdown,
    work_in_parallel,
)
from ..metrics import named_features
from ..recipes import PRESETS, configure
from ..runs import change
from ..training.checkpoint import write_atomically
from .encode import find_model
from .invert import find_prior

__all__ = ["run"]

_OWN = {
    "seed": "--seeds N",
    "training.images": "--images N",
    "data.source": "--data SOURCE",
    "data.fit": "images that are of the preset's size",
}
"""What each cell sets itself, and what to use instead."""


_SEEDS, _RESTORED = 3, 8
"""Of the table of inversion: the seeds and the images restored, where nothing else is said."""


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
        models: The models that are computed, by recipe, of ``udm-table1`` by method, and joined by commas; None means all.
        features: The features that images are compared on; None means the table's.
        count: The number of images on each side of a comparison, of ``udm-table1`` of those restored; None means the
            table's.
        overrides: Changes of the configuration, each ``key=value``.
        jobs: The number of cells that are computed at a time, on one thread each.
        budget: Minutes after which what runs is saved and no other cell begins; None for no limit.
        shard: ``i/n`` computes every n-th cell, from the i-th on; None all of them.
        device: Where cells are trained.
        prior: Of ``udm-table1``, the prior: a run or an artefact.
        degradation: Of ``udm-table1``, the universal model: a run or an artefact.
        steps: Of ``udm-table1``, the steps of each phase; None means those of the methods.

    Returns:
        0; 1 if a cell failed, or a process was killed and no other did its cell; 130 if the work was
        stopped before all cells were done.

    Raises:
        ValueError: If an argument does not fit, or the folder holds cells of another protocol.
    """
    if name == INVERSION:
        elsewhere = device if device not in ("auto", "cpu") else None
        trains = {"--test": test, "--label": label, "--preset": preset, "--features": features}
        trains |= {"--set": " ".join(overrides) or None, "--shard": shard, "--device": elsewhere}
        _refuse(name, {**trains, "--images": images})
        parts = {"--data": data, "--prior": prior, "--degradation": degradation}
        wishes = _Wishes(seeds, settings, models, count, steps)
        return _run_inversion(parts, wishes, out, jobs, _deadline(budget))
    if name not in TABLES:
        raise ValueError(f"unknown table {name!r}; choose one of {', '.join((*TABLES, INVERSION))}")
    _refuse(name, {"--prior": prior, "--degradation": degradation, "--steps": steps})
    table = TABLES[name]
    outcome = Outcome()
    data = data or table.source
    if data is not None:
        protocol = _protocol(table, preset, images, features, count, overrides)
        sources = _sources(data, test, label, features or table.features)
        every = plan(table, sources.label, _seeds(seeds, table.seeds))
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
            deadline=_deadline(budget),
        )
        outcome = _worked(task, jobs)
    _write(name, table, out)
    return _tell_end(outcome, jobs, budgeted=budget is not None)


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


def _seeds(text: str | None, usual: int) -> list[int]:
    if text is None:
        return list(range(usual))
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


def _deadline(budget: float | None) -> float | None:
    return None if budget is None else time.time() + 60 * budget


def _worked(task: Work[Any], jobs: int) -> Outcome:
    todo = sum(not task.done(cell) for cell in task.cells)
    print(f"{len(task.cells)} cells, {todo} to compute, in {task.out}", flush=True)
    return work_in_parallel(task, jobs)


def _tell_end(outcome: Outcome, jobs: int, *, budgeted: bool) -> int:
    """Tells how work ended, and returns the exit code."""
    for cell, message in outcome.failed.items():
        print(f"failed: {cell}: {message}")
    if outcome.lost:
        print(f"failed: {outcome.lost} of {jobs} processes were killed, perhaps for want of memory")
    if outcome.stopped or outcome.lost:
        print("stopped before all cells were done; the same command goes on")
    if outcome.failed or outcome.lost:
        return 1
    return 130 if outcome.stopped and not budgeted else 0


def _write(name: str, table: Table, out: Path) -> None:
    """Writes the table of all finished cells."""
    # Several processes may end at the same time; the last one to write has read all cells.
    with lock(out, f"{name}.tables"):
        summaries = summarise(name, table, read_cells(out))
        _write_texts(
            out / name,
            markdown="\n".join(map(to_markdown, summaries)),
            commas=to_csv(summaries),
            document=[one.to_json() for one in summaries],
        )


def _write_texts(stem: Path, *, markdown: str, commas: str, document: Any) -> None:
    """Writes a table as Markdown, CSV and JSON, and shows it."""
    texts = {"md": markdown, "csv": commas, "json": json.dumps(document, indent=1) + "\n"}
    for suffix, text in texts.items():
        write_atomically(stem.with_name(f"{stem.name}.{suffix}"), text.encode())
    print(markdown)
    print(f"wrote {stem}.md, .csv and .json")


# Restoration by inversion.


@dataclass(frozen=True)
class _Wishes:
    """What is computed of the table of inversion, as :func:`run` has it."""

    seeds: str | None
    settings: str | None
    models: str | None
    count: int | None
    steps: int | None


def _refuse(name: str, given: dict[str, Any]) -> None:
    """Refuses options that a table has no use for."""
    for flag, value in given.items():
        if value is not None:
            of = f"; it belongs to {INVERSION}" if name != INVERSION else ""
            raise ValueError(
                f"{flag} {value}: the table {name} has no such option{of}; leave it out"
            )


def _run_inversion(
    parts: dict[str, str | None],
    wishes: _Wishes,
    out: Path,
    jobs: int,
    deadline: float | None,
) -> int:
    """Computes the cells of restoration by inversion, where parts are given, and writes the table of all that are there."""
    outcome = Outcome()
    if any(parts.values()):
        if missing := [flag for flag, value in parts.items() if not value]:
            raise ValueError(
                f"{INVERSION} needs {', '.join(parts)}, and {missing[0]} is missing; give all of them, or none for the "
                "table of finished cells"
            )
        outcome = _worked(_inversion_task(parts, wishes, out, deadline), jobs)
    with lock(out, f"{INVERSION}.tables"):
        summary = summarise_inversion(read_inversion_cells(out))
        _write_texts(
            out / INVERSION,
            markdown=summary.to_markdown(),
            commas=summary.to_csv(),
            document=[summary.to_json()],
        )
    return _tell_end(outcome, jobs, budgeted=deadline is not None)


def _inversion_task(
    parts: dict[str, str | None], wishes: _Wishes, out: Path, deadline: float | None
) -> InversionTask:
    """Returns the cells that are wanted, after everything that can be wrong with them has been tried."""
    every = plan_inversion(_seeds(wishes.seeds, _SEEDS))
    tasks = _chosen(wishes.settings, INVERSION_TASKS, "task")
    methods = _chosen(wishes.models, INVERSION_METHODS, "model")
    known = read_inversion_cells(out)
    data, prior, degradation = (str(value) for value in parts.values())
    bench = InversionBench.of(
        find_prior(prior),
        find_model(degradation, None, "cpu"),
        data,
        count=wishes.count or _RESTORED,
        steps=wishes.steps,
    )
    check_inversion_protocol(known, bench.protocol)
    wanted = [cell for cell in every if cell.task in tasks and cell.method in methods]
    return InversionTask(_fitting(wanted, bench.protocol.size), bench, out=out, deadline=deadline)


def _fitting(cells: Sequence[InversionCell], side: int) -> tuple[InversionCell, ...]:
    """Returns the cells whose images can be reduced as they want it, and tells the others."""
    tasks = dict.fromkeys(cell.task for cell in cells)
    small = [name for name in tasks if not fits(name, side)]
    if small:
        print(
            f"not computed, since {side} pixels are no multiple of its factor: {', '.join(small)}"
        )
    return tuple(cell for cell in cells if cell.task not in small)


def _chosen(text: str | None, known: Sequence[str], what: str) -> set[str]:
    """Returns the names of a list, or all where there is none."""
    names = text.split(",") if text else list(known)
    for name in names:
        if name not in known:
            raise ValueError(f"the table has no {what} {name!r}; it has {', '.join(known)}")
    return set(names)
