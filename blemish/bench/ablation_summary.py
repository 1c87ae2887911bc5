r"""The table of the ablation of perceptual restoration: finished cells beside the figures of the paper.

Ours is the mean over seeds, with the lowest and the highest in brackets; a cell that has not been computed is ``-``. Four
tables: RankIQA as the paper has it, looks and fidelity, the terms of the objective, and what single causes do: the difference
between two rows that differ in nothing else, over the seeds that both have. The paper has faces of 1024x1024 pixels and
its own prior, so that its numbers are on another scale than ours: what can be compared is the sign of a difference.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..metrics import frechet_title
from .ablation import ABLATION, ABLATION_OPTIONAL, AblationCell, AblationProtocol
from .ablation_figures import RANKIQA_SCORES
from .ablation_rows import ABLATION_ROWS, CAUSES, AblationRow
from .documents import agreed
from .spreads import spread, statistics

__all__ = ["AblationSummary", "check_ablation_protocol", "summarise_ablation"]

_TITLE = "Table 2 of perceptual restoration: what each part of the search is worth"

_RANKIQA = dict(
    zip(RANKIQA_SCORES, ("mean", "median", "resized mean", "resized median"), strict=True)
)

_MEASURES = {
    "accuracy": "accuracy ↓",
    "fidelity": "fidelity ↓",
    "realism": "realism ↓",
    "psnr": "PSNR (dB) ↑",
    "ssim": "SSIM ↑",
    "niqe": "NIQE ↓",
    "cpu_seconds": "CPU seconds",
}
_TERMS = {
    "pixels": "pixels, squared",
    "cross": "cross loss",
    "mmd": "MMD²",
    "bits": "bits",
}
_DIGITS = {
    **dict.fromkeys(RANKIQA_SCORES, 2),
    **{"accuracy": 4, "fidelity": 4, "realism": 2, "psnr": 2, "ssim": 4, "niqe": 2},
    **{"cpu_seconds": 1, "pixels": 5, "cross": 3, "mmd": 5, "bits": 3},
}
"""The scores, with the digits after the point that are shown."""

_CHANGED = ("realism", "accuracy", "fidelity", "pixels", "mmd", "resized_mean")
"""The scores whose differences are shown."""

Key = tuple[str, int]


@dataclass(frozen=True)
class AblationSummary:
    """The finished cells of a folder.

    Attributes:
        protocol: What they have in common; None where there are none.
        values: The values of each score by row and seed.
    """

    protocol: AblationProtocol | None
    values: Mapping[Key, Mapping[str, float]]

    @property
    def seeds(self) -> list[int]:
        """The seeds that occur."""
        return sorted({seed for _, seed in self.values})

    def of(self, row: str, score: str) -> dict[int, float]:
        """Returns the values of a row by seed."""
        return {
            seed: found[score]
            for (name, seed), found in self.values.items()
            if name == row and score in found
        }

    def change(self, before: str, after: str, score: str) -> dict[int, float]:
        """Returns what is added to a score from a row to another, by the seeds that both have."""
        one, two = self.of(before, score), self.of(after, score)
        return {seed: two[seed] - one[seed] for seed in sorted(one.keys() & two.keys())}

    def absent(self) -> dict[str, str]:
        """Returns the rows without a cell, each with what it needs that no cell had, in words."""
        there = {row for row, _ in self.values}
        return {
            name: ", ".join(row.lacks(self.protocol))
            for name, row in ABLATION_ROWS.items()
            if name not in there
        }

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as JSON values."""
        return {
            "table": ABLATION,
            "title": _TITLE,
            "protocol": asdict(self.protocol) if self.protocol else None,
            "not_computed": self.absent(),
            "cells": [
                {
                    "row": name,
                    "score": score,
                    "report": _published(name, score),
                    **statistics(self.of(name, score)),
                }
                for name, score in _places()
            ],
            "causes": [
                {
                    "cause": cause,
                    "before": before,
                    "after": after,
                    "score": score,
                    "report": _published_change(before, after, score),
                    **statistics(self.change(before, after, score)),
                }
                for cause, before, after in CAUSES
                for score in _CHANGED
            ],
        }

    def to_csv(self) -> str:
        """Returns one line for each row, score and seed."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("row", "score", "seed", "value", "report"))
        for name, score in _places():
            known = _published(name, score)
            for seed, value in sorted(self.of(name, score).items()):
                writer.writerow((name, score, seed, value, "" if known is None else known))
        return text.getvalue()

    def to_markdown(self) -> str:
        """Returns the tables, and what they are."""
        lines = [f"**{_TITLE}**", "", *_note(self), "", *_rankiqa_table(self), ""]
        if self.values:
            lines += [*_table(self, _MEASURES), "", *_table(self, _TERMS), ""]
        lines += _causes(self)
        if absent := self.absent():
            words = [f"{name} (needs {need})" if need else name for name, need in absent.items()]
            lines += ["", f"Not computed: {', '.join(words)}."]
        return "\n".join(lines) + "\n"


def check_ablation_protocol(
    documents: Sequence[Mapping[str, Any]], protocol: AblationProtocol
) -> AblationProtocol:
    """Returns the protocol with what finished cells know more of it, or refuses cells that were computed otherwise.

    Arguments:
        documents: Finished cells.
        protocol: What they shall have in common.

    Raises:
        ValueError: If one differs; the message names the first difference.
    """
    named = [(AblationCell(one["row"], one["seed"]).name, one) for one in documents]
    return agreed(named, protocol, ABLATION_OPTIONAL)


def summarise_ablation(documents: Sequence[Mapping[str, Any]]) -> AblationSummary:
    """Returns the summary of finished cells.

    Arguments:
        documents: Finished cells.

    Raises:
        ValueError: If they differ in their protocol: processes began with different ones.
    """
    if not documents:
        return AblationSummary(None, {})
    shared: dict[str, Any] = {f.name: documents[0].get(f.name) for f in fields(AblationProtocol)}
    protocol = check_ablation_protocol(documents, AblationProtocol(**shared))
    values = {
        (one["row"], one["seed"]): {s: one[s] for s in _DIGITS if one[s] is not None}
        for one in documents
    }
    return AblationSummary(protocol, values)


def _published(row: str, score: str) -> float | None:
    return (ABLATION_ROWS[row].published or {}).get(score)


def _published_change(before: str, after: str, score: str) -> float | None:
    one, two = _published(before, score), _published(after, score)
    return None if one is None or two is None else round(two - one, 2)


def _places() -> Iterator[tuple[str, str]]:
    """Yields what a table has room for."""
    for name in ABLATION_ROWS:
        for score in _DIGITS:
            yield name, score


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(words) + " |"


def _rankiqa_table(summary: AblationSummary) -> Iterator[str]:
    """Yields the lines of the paper's table: its settings, and its scores beside ours."""
    heads = ["row", "StyleGAN", "mean start", "MMD", "sphere", "bits", "law", "steps"]
    for title in _RANKIQA.values():
        heads += [f"{title} ↓", "paper"]
    yield _line(heads)
    yield "|---" * len(heads) + "|"
    for name, row in ABLATION_ROWS.items():
        words = [_named(row), *_settings(row)]
        for score in _RANKIQA:
            known = _published(name, score)
            words += [spread(summary.of(name, score), 2), "" if known is None else f"{known:.2f}"]
        yield _line(words)


def _settings(row: AblationRow) -> list[str]:
    s = row.search
    if s is None:
        return [""] * 7
    return [
        s.generator,
        *("yes" if one else "no" for one in (s.mean, s.mmd, s.sphere)),
        "-" if s.coefficient is None else str(s.coefficient),
        "-" if s.coefficient is None else "late" if row.late else "early",
        str(s.steps),
    ]


def _table(summary: AblationSummary, scores: Mapping[str, str]) -> Iterator[str]:
    """Yields the lines of a table of ours, of the rows that are computed."""
    wanted = {
        s: title for s, title in scores.items() if any(s in v for v in summary.values.values())
    }
    yield _line(["row", *wanted.values()])
    yield "|---" * (1 + len(wanted)) + "|"
    for name, row in ABLATION_ROWS.items():
        if name not in summary.absent():
            words = [spread(summary.of(name, score), _DIGITS[score]) for score in wanted]
            yield _line([_named(row), *words])


def _causes(summary: AblationSummary) -> Iterator[str]:
    """Yields the lines of the table of single causes."""
    titles = [{**_RANKIQA, **_MEASURES, **_TERMS}[score].rstrip(" ↓") for score in _CHANGED]
    yield _line(["cause", "from", "to", *titles, "paper"])
    yield "|---" * (4 + len(titles)) + "|"
    for cause, before, after in CAUSES:
        words = [
            spread(summary.change(before, after, score), _DIGITS[score], sign="+")
            for score in _CHANGED
        ]
        known = _published_change(before, after, _CHANGED[-1])
        rows = (_named(ABLATION_ROWS[name]) for name in (before, after))
        yield _line([cause, *rows, *words, "" if known is None else f"{known:+.2f}"])


def _named(row: AblationRow) -> str:
    return row.name if row.published else f"{row.name}\\*"


def _note(summary: AblationSummary) -> Iterator[str]:
    """Yields how the numbers came about, and what they are not."""
    p = summary.protocol
    if p is not None:
        steps = "" if p.steps is None else f" {p.steps} steps stand for 100."
        seeds = ", ".join(map(str, summary.seeds))
        yield (
            f"Accuracy (restored to true images) and fidelity (restored and damaged again, to damaged images): {p.distance}. "
            f"Realism: {frechet_title(p.features)} of patches, to those of {p.others} other clean images. Means over "
            f"{p.images} images of {p.size}x{p.size} pixels and the seeds {seeds} [lowest, highest seed]; seconds for all "
            f"images together.{steps} Terms are those of the result, without weights, MMD with the printed kernel and the "
            "median as bandwidth, bits under the early law."
        )
        yield ""
        looks = [
            f"{p.rankiqa_weights or 'RankIQA: no weights were given'}",
            *([p.niqe_weights] if p.niqe_weights else []),
        ]
        yield f"Scores of looks alone, of random crops, as they are and resized to 256x256: {', '.join(looks)}."
        yield ""
    yield (
        "The paper has StyleGAN's faces of 1024x1024 pixels and RankIQA fitted to LIVE: rows can be compared within a "
        "column, numbers with the paper's cannot. Rows with an asterisk are blemish's own. The last table has what a row "
        "adds to a score where it differs from another in one cause; the paper's is of RankIQA's resized mean."
    )
