r"""The table of restoration by inversion: finished cells beside the figures of the report.

Ours is the mean over seeds, with the lowest and the highest in brackets; a cell that has not been computed is ``-``.
The report has another prior, other sizes and other networks behind its scores, so that its numbers have other scales
than ours: what can be compared is which method beats which. How often one does, over the tasks, is counted for both.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any

from ..metrics import frechet_title
from .inversion import (
    DAMAGED,
    INVERSION,
    INVERSION_METHODS,
    INVERSION_TASKS,
    OWN_TASKS,
    InversionProtocol,
    check_inversion_protocol,
)
from .inversion_figures import FIGURES, PUBLISHED, SCORES, figure
from .spreads import spread, statistics

__all__ = ["InversionSummary", "summarise_inversion"]

_TITLE = "Table 1 of the technical report: restoration by inversion"

_COLUMNS = tuple(dict.fromkeys((DAMAGED, "pulse", "l-brgm", *INVERSION_METHODS)))
"""Our methods, and where the report has one more."""

_TITLES = {"l-brgm": "L-BRGM", "non-blind": "non-blind (RSG)"}
"""What methods are called in the table, where it is more than their name."""

_OURS = {"psnr": "PSNR (dB)", "cpu_seconds": "CPU seconds"}
"""Scores that the report has not."""

_DIGITS = {"accuracy": 3, "fidelity": 3, "realism": 1, "psnr": 1, "cpu_seconds": 1}
"""The scores, with the digits after the point that are shown."""

_RIVALS = (("universal", "blind"), ("non-blind", "universal"))
"""Methods of which the first is expected to be better."""


@dataclass(frozen=True)
class InversionSummary:
    """The finished cells of a folder.

    Attributes:
        protocol: What they have in common; None where there are none.
        values: The values of each score by task, method and seed.
    """

    protocol: InversionProtocol | None
    values: Mapping[tuple[str, str, int], Mapping[str, float]]

    @property
    def seeds(self) -> list[int]:
        """The seeds that occur."""
        return sorted({seed for _, _, seed in self.values})

    def of(self, task: str, method: str, score: str) -> dict[int, float]:
        """Returns the values of a method on a task by seed."""
        return {
            seed: found[score]
            for (t, m, seed), found in self.values.items()
            if (t, m) == (task, method) and score in found
        }

    def wins(self, better: str, worse: str, score: str) -> tuple[int, int]:
        """Returns on how many of the report's tasks a method has the lower mean, and of how many.

        Arguments:
            better: The method.
            worse: The other one.
            score: A score of which less is better.
        """
        won = []
        for task in FIGURES:
            one, two = (self.of(task, method, score) for method in (better, worse))
            # A seed that one of them lacks may be an easier or a harder one.
            if both := one.keys() & two.keys():
                won.append(fmean(one[s] for s in both) < fmean(two[s] for s in both))
        return sum(won), len(won)

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as JSON values."""
        return {
            "table": INVERSION,
            "title": _TITLE,
            "protocol": asdict(self.protocol) if self.protocol else None,
            "cells": [
                {
                    "task": task,
                    "method": method,
                    "score": score,
                    "report": figure(task, method, score),
                    **statistics(self.of(task, method, score)),
                }
                for task, method, score in _places()
            ],
            "wins": [
                {
                    "better": better,
                    "worse": worse,
                    "score": score,
                    "tasks": self.wins(better, worse, score)[0],
                    "of": self.wins(better, worse, score)[1],
                    "report": _published_wins(better, worse, score),
                }
                for better, worse in _RIVALS
                for score in SCORES
            ],
        }

    def to_csv(self) -> str:
        """Returns one line for each task, method, score and seed."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("task", "method", "score", "seed", "value", "report"))
        for task, method, score in _places():
            known = figure(task, method, score)
            for seed, value in sorted(self.of(task, method, score).items()):
                line = (task, method, score, seed, value, "" if known is None else known)
                writer.writerow(line)
        return text.getvalue()

    def to_markdown(self) -> str:
        """Returns a table of each score, what they are, and who beats whom."""
        lines = [f"**{_TITLE}**", "", *_note(self), ""]
        for score in SCORES:
            lines += [*_table(self, score), ""]
        computed = {task for task, _, _ in self.values}
        for score in _OURS if computed else ():
            lines += [*_table(self, score, computed), ""]
        return "\n".join([*lines, *_duels(self)]) + "\n"


def summarise_inversion(documents: Sequence[Mapping[str, Any]]) -> InversionSummary:
    """Returns the summary of finished cells.

    Arguments:
        documents: Finished cells.

    Raises:
        ValueError: If they differ in their protocol: processes began with different ones.
    """
    if not documents:
        return InversionSummary(None, {})
    shared: dict[str, Any] = {f.name: documents[0].get(f.name) for f in fields(InversionProtocol)}
    protocol = InversionProtocol(**shared)
    check_inversion_protocol(documents, protocol)
    values = {
        (one["task"], one["method"], one["seed"]): {
            score: one[score] for score in _DIGITS if one[score] is not None
        }
        for one in documents
    }
    return InversionSummary(protocol, values)


def _places() -> Iterator[tuple[str, str, str]]:
    """Yields what a table has room for."""
    for task in INVERSION_TASKS:
        for method in _COLUMNS:
            for score in _DIGITS:
                if method in INVERSION_METHODS or figure(task, method, score) is not None:
                    yield task, method, score


def _table(summary: InversionSummary, score: str, tasks: set[str] | None = None) -> Iterator[str]:
    """Yields the lines of one score's table, of all tasks or of some."""
    published = score in SCORES
    heads = [f"{score} ↓" if published else _OURS[score]]
    for method in _COLUMNS:
        if method in INVERSION_METHODS:
            heads.append(_TITLES.get(method, method))
        if published and method in PUBLISHED:
            heads.append("report" if method in INVERSION_METHODS else f"{_TITLES[method]}: report")
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for task in INVERSION_TASKS:
        if tasks is None or task in tasks:
            yield "| " + " | ".join([_named(task), *_words(summary, task, score)]) + " |"


def _words(summary: InversionSummary, task: str, score: str) -> Iterator[str]:
    """Yields the cells of a line: ours, and the report's where its table has one."""
    digits = _DIGITS[score]
    for method in _COLUMNS:
        if method in INVERSION_METHODS:
            absent = method == DAMAGED and (score == "fidelity" or task == "clean")
            yield "" if absent else spread(summary.of(task, method, score), digits)
        if score in SCORES and method in PUBLISHED:
            known = figure(task, method, score)
            yield "" if known is None else f"{known:.{digits}f}"


def _note(summary: InversionSummary) -> Iterator[str]:
    """Yields how the numbers came about, and what they are not."""
    p = summary.protocol
    if p is not None:
        steps = (
            "150 steps a phase (100 of pulse)" if p.steps is None else f"{p.steps} steps a phase"
        )
        seeds = ", ".join(map(str, summary.seeds))
        yield (
            f"Accuracy (restored to true images) and fidelity (restored and damaged again, to damaged images): {p.distance}. "
            f"Realism: {frechet_title(p.features)} of patches, to those of {p.others} other clean images. Of all three less "
            f"is better. Means over {p.images} images of {p.size}x{p.size} pixels and the seeds {seeds} [lowest, highest "
            f"seed]; {steps}; seconds for all images together."
        )
        yield ""
    yield (
        "The report has another prior (StyleGAN of faces), other sizes, and LPIPS and FID of patches on other networks: "
        "rows can be compared within this table, numbers with the report's cannot. L-BRGM is not computed here; its "
        "figures are shown. Tasks with an asterisk are blemish's own, not the report's."
    )


def _duels(summary: InversionSummary) -> Iterator[str]:
    """Yields how often one method beats another, here and in the report."""
    yield "| tasks on which | " + " | ".join(f"{score} | report" for score in SCORES) + " |"
    yield "|---" * (1 + 2 * len(SCORES)) + "|"
    for better, worse in _RIVALS:
        words = []
        for score in SCORES:
            won, of = summary.wins(better, worse, score)
            there = f"{_published_wins(better, worse, score)} of {len(FIGURES)}"
            words += [f"{won} of {of}" if of else "-", there]
        yield f"| {better} beats {worse} | {' | '.join(words)} |"


def _published_wins(better: str, worse: str, score: str) -> int:
    return sum(row[score, better] < row[score, worse] for row in FIGURES.values())


def _named(task: str) -> str:
    return f"{task}\\*" if task in OWN_TASKS else task
