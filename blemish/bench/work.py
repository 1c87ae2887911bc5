"""Working through cells: one process after another takes one that nobody has, until none is left.

The first pass takes what is free; the second waits for what others hold, in case they are killed. With
several jobs each is a process of its own that does the same. A cell that fails is reported, and the
others go on.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from ..configuration import read_json
from ..training.loop import TrainingDiverged
from .cells import Cell, Protocol, Sources, measure

__all__ = ["Outcome", "Task", "shard_of", "work", "work_in_parallel"]

_POLL = 0.5


@dataclass(frozen=True)
class Task:
    """What is to be done, as every process is told.

    Attributes:
        cells: The cells, most wanted first.
        sources: The images.
        protocol: How cells are trained and measured.
        out: The folder of all cells.
        device: Where they are trained.
        deadline: The time (as ``time.time``) after which a run is saved and left; None for no limit.
    """

    cells: tuple[Cell, ...]
    sources: Sources
    protocol: Protocol
    out: Path
    device: str = "auto"
    deadline: float | None = None

    def done(self, cell: Cell) -> bool:
        """Whether a cell is finished."""
        return (self.out / "cells" / f"{cell.name}.json").is_file()

    def over(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.time() >= self.deadline

    def lock(self, cell: Cell) -> FileLock:
        """Returns the lock of a cell."""
        folder = self.out / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{cell.name}.lock")


@dataclass
class Outcome:
    """How work ended.

    Attributes:
        failed: Messages by the names of cells that failed.
        stopped: Whether it was stopped before all cells were tried.
    """

    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


def shard_of(cells: Sequence[Cell], shard: str | None) -> tuple[Cell, ...]:
    """Returns the cells of one of several shards.

    Arguments:
        cells: All cells.
        shard: ``i/n``, the i-th of n, counted from 1; None means all.

    Raises:
        ValueError: If the text is none of that form.
    """
    if shard is None:
        return tuple(cells)
    i, slash, n = shard.partition("/")
    if not (slash and i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise ValueError(f"shard {shard!r}; write i/n with 1 <= i <= n, for example 2/8")
    return tuple(cells[int(i) - 1 :: int(n)])


def work(task: Task, say: Callable[[str], object] = print) -> Outcome:
    """Computes cells in this process.

    Arguments:
        task: What is to be done.
        say: Is told what begins and ends.
    """
    outcome = Outcome()
    for patient in (False, True):
        for cell in task.cells:
            if task.done(cell) or cell.name in outcome.failed:
                continue
            if not _take(task, cell, outcome, say, patient=patient):
                outcome.stopped = True
                return outcome
    return outcome


def _take(
    task: Task, cell: Cell, outcome: Outcome, say: Callable[[str], object], *, patient: bool
) -> bool:
    """Computes a cell if it is free, or waits for it; returns whether to go on."""
    lock = task.lock(cell)
    while not task.over():
        try:
            with lock.acquire(timeout=_POLL if patient else 0):
                return task.done(cell) or _compute(task, cell, outcome, say)
        except Timeout:
            if not patient:
                return True
    return False


def _compute(task: Task, cell: Cell, outcome: Outcome, say: Callable[[str], object]) -> bool:
    say(f"{cell.name}: begins")
    try:
        finished = measure(
            cell, task.sources, task.protocol, task.out, device=task.device, stop=task.over
        )
    except (TrainingDiverged, ValueError, OSError) as error:
        outcome.failed[cell.name] = str(error)
        say(f"{cell.name}: failed: {error}")
        return True
    if finished:
        found = read_json(task.out / "cells" / f"{cell.name}.json")
        say(f"{cell.name}: {found['frechet']:.4g} after {found['seconds']:.0f} s")
    return finished


def work_in_parallel(task: Task, jobs: int) -> Outcome:
    """Computes cells in several processes of one thread each.

    Arguments:
        task: What is to be done.
        jobs: The number of processes; 1 works in this one.
    """
    if jobs == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return work(task)
        finally:
            torch.set_num_threads(threads)
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    workers = [context.Process(target=_worker, args=(task, queue)) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    outcome = Outcome()
    for worker in workers:
        worker.join()
    while not queue.empty():
        failed, stopped = queue.get()
        outcome.failed |= failed
        outcome.stopped |= stopped
    outcome.stopped |= any(worker.exitcode for worker in workers)
    return outcome


def _worker(task: Task, queue: multiprocessing.SimpleQueue[tuple[dict[str, str], bool]]) -> None:
    torch.set_num_threads(1)
    outcome = work(task, say=_say)
    queue.put((outcome.failed, outcome.stopped))


def _say(text: str) -> None:
    print(text, flush=True)
    sys.stdout.flush()
