"""Working through cells: one process after another takes one that nobody has, until none is left.

The first pass takes what is free; the second waits for what others hold, in case they are killed. With
several jobs each is a process of its own that does the same. A cell that fails is reported, and the
others go on; the cell of a process that is killed is taken by another.
"""

from __future__ import annotations

import abc
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Generic, TypeVar, final
from typing import Protocol as Structure

import torch
from filelock import FileLock, Timeout

from ..configuration import read_json
from ..training.loop import TrainingDiverged
from .cells import Cell, Protocol, Sources, lock, measure

__all__ = ["Outcome", "Task", "Work", "shard_of", "work", "work_in_parallel"]

_POLL = 0.5

AnyCell = TypeVar("AnyCell", bound="Named")


class Named(Structure):
    """A cell of any table: it has a name, and depends on nothing but itself."""

    @property
    def name(self) -> str:
        """The name of its files."""


@dataclass(frozen=True)
class Work(abc.ABC, Generic[AnyCell]):
    """What is to be done, as every process is told.

    Attributes:
        cells: The cells, most wanted first.
        out: The folder of all cells.
        deadline: The time (as ``time.time``) after which what runs is left and nothing begins; None for no limit.
    """

    cells: tuple[AnyCell, ...]
    out: Path = field(kw_only=True)
    deadline: float | None = field(default=None, kw_only=True)

    @abc.abstractmethod
    def compute(self, cell: AnyCell) -> str | None:
        """Computes a cell and writes its file; returns what to tell of it, or None if it was stopped before its end."""

    def done(self, cell: AnyCell) -> bool:
        """Whether a cell is finished."""
        return (self.out / "cells" / f"{cell.name}.json").is_file()

    def over(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.time() >= self.deadline

    def lock(self, cell: AnyCell) -> FileLock:
        """Returns the lock of a cell."""
        return lock(self.out, cell.name)


@final
@dataclass(frozen=True)
class Task(Work[Cell]):
    """Cells that are trained: what runs when the time is up is saved, and goes on the next time.

    Attributes:
        sources: The images.
        protocol: How cells are trained and measured.
        device: Where they are trained.
    """

    sources: Sources
    protocol: Protocol
    device: str = "auto"

    def compute(self, cell: Cell) -> str | None:
        """Trains and measures a cell."""
        finished = measure(
            cell, self.sources, self.protocol, self.out, device=self.device, stop=self.over
        )
        if not finished:
            return None
        found = read_json(self.out / "cells" / f"{cell.name}.json")
        return f"{found['frechet']:.4g} after {found['seconds']:.0f} s"


@dataclass
class Outcome:
    """How work ended.

    Attributes:
        failed: Messages by the names of cells that failed.
        stopped: Whether it was stopped before all cells were tried.
        lost: The number of processes that ended without a word, as killed ones do, unless others did
            all of their cells.
    """

    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    lost: int = 0


def shard_of(cells: Sequence[AnyCell], shard: str | None) -> tuple[AnyCell, ...]:
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


def work(task: Work[Any], say: Callable[[str], object] = print) -> Outcome:
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
    task: Work[AnyCell],
    cell: AnyCell,
    outcome: Outcome,
    say: Callable[[str], object],
    *,
    patient: bool,
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


def _compute(
    task: Work[AnyCell], cell: AnyCell, outcome: Outcome, say: Callable[[str], object]
) -> bool:
    say(f"{cell.name}: begins")
    try:
        told = task.compute(cell)
    except Exception as error:
        # Whatever it is (a GPU out of memory, a mistake of ours), the other cells can go on.
        expected = isinstance(error, (TrainingDiverged, ValueError, OSError))
        if not expected:
            traceback.print_exc()
        message = str(error) if expected else f"{type(error).__name__}: {error}"
        outcome.failed[cell.name] = message
        say(f"{cell.name}: failed: {message}")
        return True
    if told is not None:
        say(f"{cell.name}: {told}")
    return told is not None


def work_in_parallel(task: Work[Any], jobs: int) -> Outcome:
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
    crew = [_begin(task) for _ in range(jobs)]
    try:
        return _gathered(crew, task)
    except BaseException:
        # A signal may have reached this process alone; the others would go on without it. They save
        # what they train before they end.
        for worker, _ in crew:
            worker.terminate()
        raise
    finally:
        for worker, _ in crew:
            worker.join()


def _begin(task: Work[Any]) -> tuple[SpawnProcess, Connection]:
    """Starts a process, and returns it with the end of a pipe to which it tells its outcome."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    worker = context.Process(target=_worker, args=(task, there))
    worker.start()
    # With this end closed, the pipe ends with the process.
    there.close()
    return worker, here


def _gathered(crew: Sequence[tuple[SpawnProcess, Connection]], task: Work[Any]) -> Outcome:
    """Waits for what all processes tell."""
    outcome = Outcome()
    for _, told in crew:
        try:
            one: Outcome = told.recv()
        except EOFError:
            outcome.lost += 1
        else:
            outcome.failed |= one.failed
            outcome.stopped |= one.stopped
    if all(map(task.done, task.cells)):
        outcome.lost = 0
    return outcome


def _worker(task: Work[Any], told: Connection) -> None:
    torch.set_num_threads(1)
    try:
        outcome = work(task, say=_say)
    except KeyboardInterrupt:
        outcome = Outcome(stopped=True)
    told.send(outcome)


def _say(text: str) -> None:
    print(text, flush=True)
    sys.stdout.flush()
