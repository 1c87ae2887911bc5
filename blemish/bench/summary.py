r"""Tables of finished cells: ours beside the paper's, and which of the paper's orderings hold.

Ours is the median over seeds, with the least and the greatest in brackets; a cell that has not been run
is ``-``, a figure of the paper that is not known to us ``?``. Distances are on the features that the
protocol names: unless those are Inception's, they have another scale than the paper's FID, and only
orderings can be compared.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..metrics import frechet_title
from .cells import Protocol
from .tables import Ordering, Row, Table, model_key

__all__ = ["Summary", "check_protocol", "summarise", "to_csv", "to_markdown"]


@dataclass(frozen=True)
class Summary:
    """The finished cells of a table and one data set.

    Attributes:
        name: The name of the table.
        table: The table.
        data: The label of the data.
        protocol: What its cells have in common; None where there are none.
        values: The values of each score by model, setting and seed.
    """

    name: str
    table: Table
    data: str
    protocol: Mapping[str, Any] | None
    values: Mapping[tuple[str, str, int], Mapping[str, float]]

    @property
    def seeds(self) -> list[int]:
        """The seeds that occur."""
        return sorted({seed for _, _, seed in self.values})

    def of(self, model: str, setting: str, score: str) -> dict[int, float]:
        """Returns the values of a model in a setting by seed."""
        return {
            seed: found[score]
            for (m, s, seed), found in self.values.items()
            if (m, s) == (model, setting) and score in found
        }

    def holds(self, ordering: Ordering, setting: str) -> tuple[int, int]:
        """Returns in how many seeds an ordering holds, and of how many."""
        score = self.table.scores[0]
        better, worse = (
            self.of(_row(self.table, label).key, setting, score)
            for label in (ordering.better, ordering.worse)
        )
        both = better.keys() & worse.keys()
        return sum(better[seed] < worse[seed] for seed in both), len(both)

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as JSON values."""
        return {
            "table": self.name,
            "title": self.table.title,
            "data": self.data,
            "protocol": dict(self.protocol) if self.protocol else None,
            "cells": [
                {
                    "model": row.label,
                    "setting": setting,
                    "score": score,
                    "paper": paper[i] if (paper := self.table.paper(row, setting)) else None,
                    **_statistics(self.of(row.key, setting, score)),
                }
                for row, setting in _places(self.table)
                for i, score in enumerate(self.table.scores)
            ],
            "orderings": [
                {
                    "claim": ordering.claim,
                    "better": ordering.better,
                    "worse": ordering.worse,
                    "setting": setting,
                    "holds": self.holds(ordering, setting)[0],
                    "seeds": self.holds(ordering, setting)[1],
                }
                for ordering in self.table.orderings
                for setting in ordering.settings
            ],
        }


def check_protocol(documents: Sequence[Mapping[str, Any]], protocol: Protocol) -> None:
    """Refuses cells that were trained or measured otherwise.

    Arguments:
        documents: Finished cells of one data set.
        protocol: What they shall have in common.

    Raises:
        ValueError: If one differs; the message names the first difference.
    """
    for document in documents:
        for f in fields(Protocol):
            wanted = getattr(protocol, f.name)
            if document.get(f.name) != wanted:
                name = f"{document['data']}-{document['setting']}-{document['recipe']}"
                raise ValueError(
                    f"the folder holds cells of another protocol: {name} has {f.name}="
                    f"{document.get(f.name)!r}, not {wanted!r}; choose another --out"
                )


def summarise(name: str, table: Table, documents: Sequence[Mapping[str, Any]]) -> list[Summary]:
    """Returns a summary for each data set that occurs.

    Arguments:
        name: The name of the table.
        table: The table.
        documents: Finished cells, of this table or of others.

    Raises:
        ValueError: If those of a data set differ in their protocol: processes began with different ones.
    """
    found = []
    for data in sorted({document["data"] for document in documents}):
        mine = [document for document in documents if document["data"] == data]
        values = {
            (
                model_key(document["recipe"], document["preparation"]),
                document["setting"],
                document["seed"],
            ): {score: document[score] for score in table.scores if score in document}
            for document in mine
        }
        protocol: dict[str, Any] = {f.name: mine[0].get(f.name) for f in fields(Protocol)}
        check_protocol(mine, Protocol(**protocol))
        found.append(Summary(name, table, data, protocol, values))
    return found or [Summary(name, table, "", None, {})]


def to_markdown(summary: Summary) -> str:
    """Returns the table, its protocol and its orderings as Markdown."""
    table = summary.table
    lines = [f"**{table.title}**{f': {summary.data}' if summary.data else ''}", ""]
    if summary.protocol:
        lines += [_sentence(summary), ""]
    lines.append("| model | " + " | ".join(f"{s} | paper" for s in table.settings) + " |")
    lines.append("|---" * (1 + 2 * len(table.settings)) + "|")
    for row in table.rows:
        cells = [row.label]
        for setting in table.settings:
            word = table.word(row, setting)
            ours = [_ours(summary.of(row.key, setting, score)) for score in table.scores]
            cells += ["", ""] if word == "-" else [" / ".join(ours), word]
        lines.append("| " + " | ".join(cells) + " |")
    if table.orderings:
        lines += ["", *_orderings(summary)]
    return "\n".join(lines) + "\n"


def to_csv(summaries: Sequence[Summary]) -> str:
    """Returns one line for each data set, model, setting, score and seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("data", "model", "setting", "score", "seed", "value", "paper"))
    for summary in summaries:
        for row, setting in _places(summary.table):
            paper = summary.table.paper(row, setting)
            for i, score in enumerate(summary.table.scores):
                for seed, value in sorted(summary.of(row.key, setting, score).items()):
                    known = paper[i] if paper else ""
                    writer.writerow((summary.data, row.label, setting, score, seed, value, known))
    return text.getvalue()


def _sentence(summary: Summary) -> str:
    p = summary.protocol or {}
    seeds = ", ".join(map(str, summary.seeds)) or "none"
    changes = "".join(f", {k}={v}" for k, v in p.get("changes", {}).items())
    what = f"{frechet_title(p['features'])} of {p['count']:,} samples to as many clean test images"
    if len(summary.table.scores) > 1:
        what = (
            f"{frechet_title(p['features'])}, perceptual distance (effnet-lite0; in the paper LPIPS), PSNR and SSIM "
            f"of {p['count']:,} test images, damaged by N and restored, to the clean ones"
        )
    return (
        f"{what}; preset {p['preset']}"
        f"{changes}, {p['images']:,} images seen; seeds {seeds}: median [least, greatest]."
        + (f" The paper's figures are FIDs on {summary.table.of}." if summary.table.of else "")
    )


def _orderings(summary: Summary) -> Iterator[str]:
    table = summary.table
    yield "| the paper's claim | better | worse | " + " | ".join(table.settings) + " |"
    yield "|---" * (3 + len(table.settings)) + "|"
    for ordering in table.orderings:
        words = []
        for setting in table.settings:
            held, seeds = summary.holds(ordering, setting)
            claimed = setting in ordering.settings
            words.append((f"{held} of {seeds}" if seeds else "-") if claimed else "")
        yield f"| {ordering.claim} | {ordering.better} | {ordering.worse} | {' | '.join(words)} |"


def _ours(values: Mapping[int, float]) -> str:
    if not values:
        return "-"
    found = sorted(values.values())
    median = _short(statistics.median(found))
    if len(found) == 1:
        return median
    return f"{median} [{_short(found[0])}, {_short(found[-1])}]"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _statistics(values: Mapping[int, float]) -> dict[str, Any]:
    found = list(values.values())
    return {
        "seeds": {str(seed): value for seed, value in sorted(values.items())},
        "median": statistics.median(found) if found else None,
        "least": min(found, default=None),
        "greatest": max(found, default=None),
    }


def _places(table: Table) -> Iterator[tuple[Row, str]]:
    for row in table.rows:
        for setting in table.settings:
            if table.word(row, setting) != "-":
                yield row, setting


def _row(table: Table, label: str) -> Row:
    return next(row for row in table.rows if row.label == label)
