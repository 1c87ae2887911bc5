"""What the tables of ``blemish bench`` have in common: wishes, work, and files."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bench import Outcome, Work, work_in_parallel
from ..training.checkpoint import write_atomically

__all__ = ["chosen", "deadline_of", "seeds_of", "tell_end", "worked", "write_texts"]


def seeds_of(text: str | None, usual: int) -> list[int]:
    """Returns the seeds of a list, or as many as are usual."""
    if text is None:
        return list(range(usual))
    words = text.split(",")
    if not all(word.isdecimal() for word in words):
        raise ValueError(f"--seeds {text}: write whole numbers joined by commas, for example 0,1,2")
    return list(dict.fromkeys(map(int, words)))


def chosen(text: str | None, known: Sequence[str], what: str) -> set[str]:
    """Returns the names of a list, or all where there is none."""
    names = text.split(",") if text else list(known)
    for name in names:
        if name not in known:
            raise ValueError(f"the table has no {what} {name!r}; it has {', '.join(known)}")
    return set(names)


def deadline_of(budget: float | None) -> float | None:
    """Returns the time after so many minutes."""
    return None if budget is None else time.time() + 60 * budget


def worked(task: Work[Any], jobs: int) -> Outcome:
    """Computes the cells that are not there yet."""
    todo = sum(not task.done(cell) for cell in task.cells)
    print(f"{len(task.cells)} cells, {todo} to compute, in {task.out}", flush=True)
    return work_in_parallel(task, jobs)


def tell_end(outcome: Outcome, jobs: int, *, budgeted: bool) -> int:
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


def write_texts(stem: Path, *, markdown: str, commas: str, document: Any) -> None:
    """Writes a table as Markdown, CSV and JSON, and shows it."""
    texts = {"md": markdown, "csv": commas, "json": json.dumps(document, indent=1) + "\n"}
    for suffix, text in texts.items():
        write_atomically(stem.with_name(f"{stem.name}.{suffix}"), text.encode())
    print(markdown)
    print(f"wrote {stem}.md, .csv and .json")
