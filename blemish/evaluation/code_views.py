"""What was found out about a universal degradation model, arranged for a page.

This module turns :class:`~.code_findings.CodeFindings` into pictures, charts and words; the template ``codes.html.j2``
places them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .charts import Chart, line_chart, short
from .code_findings import CodeFindings, Matrix, References
from .codes import ACTIVE, STEPS, Entries, Traversal, spans, tau
from .pictures import Picture, picture

__all__ = ["CodesView", "FactRow", "MatrixView", "TraversalView", "view_codes"]

NAMES = {
    "noise": "Noise level",
    "blur": "Edge width, px",
    "contrast": "Contrast",
    "grid": "JPEG grid",
}
"""How facts are called."""

WORDS = {
    "local_cover": ("area", ""),
    "contrast_gain": ("contrast", ""),
    "blur_sigma": ("Gaussian blur", " px"),
    "motion_length": ("shake", " px"),
    "noise_sigma": ("noise", ""),
    "jpeg_quality": ("JPEG quality", ""),
}
"""How drawn parameters are called, with their units."""

MOVED = 0.5
"""From which range on an entry is said to move a fact, in units of what damage does to it."""

CLEAR = 0.6
"""From which Kendall's tau on a fact is said to rise or to fall."""

NEARER = 0.9
"""Below which share of the distance transferred damage is said to be nearer."""

LISTED = 12
"""The number of active entries in the table."""


@dataclass(frozen=True)
class FactRow:
    """A fact along the way of an entry.

    Attributes:
        name: The fact.
        values: Its values at the steps.
        span: Its range, in units of what damage does to it.
        way: How it moves: rises, falls, changes; a dash where it hardly does.
        marked: Whether it moves.
    """

    name: str
    values: tuple[str, ...]
    span: str
    way: str
    marked: bool


@dataclass(frozen=True)
class TraversalView:
    """The way of an entry.

    Attributes:
        title: Which entry, and what it moves.
        steps: The names of the places.
        pictures: The pictures there.
        rows: The facts.
        change: By how much pixels change at both ends.
    """

    title: str
    steps: tuple[str, ...]
    pictures: tuple[Picture, ...]
    rows: tuple[FactRow, ...]
    change: str


@dataclass(frozen=True)
class MatrixView:
    """The transfer matrix.

    Attributes:
        heads: The references, above the columns.
        rows: Of each content, itself and its cells.
        distances: The mean distance from the true damage in each column.
        left: The same for contents that are left as they are.
    """

    heads: tuple[Picture, ...]
    rows: tuple[tuple[Picture, ...], ...]
    distances: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True)
class CodesView:
    """Findings, arranged for a page.

    Attributes:
        sentences: What matters most, in words.
        costs: What codes cost: of what, bits, bytes.
        charts: The deviations and the prices of the entries.
        active: Active entries: number, deviation, bits.
        traversals: The ways of active entries.
        idle: What entries that are not active do, in a sentence; empty where all are active.
        undamaged: The facts of the undamaged picture: name, value, what damage does to it.
        matrix: The transfer matrix.
        walk: Pictures between two kinds of damage.
        ends: The names of these kinds.
    """

    sentences: tuple[str, ...]
    costs: tuple[tuple[str, str, str], ...]
    charts: tuple[Chart, ...]
    active: tuple[tuple[str, str, str], ...]
    traversals: tuple[TraversalView, ...]
    idle: str
    undamaged: tuple[tuple[str, str, str], ...]
    matrix: MatrixView
    walk: tuple[Picture, ...]
    ends: tuple[str, str]


def view_codes(findings: CodeFindings) -> CodesView:
    """Arranges findings for a page.

    Arguments:
        findings: The findings.
    """
    ends = findings.references.names[0], findings.references.names[1]
    return CodesView(
        tuple(_sentences(findings)),
        _costs(findings.entries),
        _charts(findings.entries),
        _active(findings.entries),
        tuple(_traversal(t, findings.spread) for t in findings.traversals),
        _idle(findings),
        tuple(
            (NAMES[name], _number(value), _number(findings.spread[name]))
            for name, value in findings.facts.items()
        ),
        _matrix(findings.matrix, findings.references),
        _walk(findings.walk, ends),
        ends,
    )


def _sentences(f: CodeFindings) -> Iterator[str]:
    e, m = f.entries, f.matrix
    n, bits = len(e.active), [float(values.mean()) for values in (e.bits.sum(dim=1), e.bits_l)]
    yield (
        f"{n} of {e.codes.shape[1]} entries of the embedding vary by more than a quarter of a step over {f.count} damaged "
        "pictures."
    )
    if not n:
        yield "The embedding says nothing: the model was trained too short, or its code costs too much."
    yield (
        f"A code costs {short(sum(bits))} bits per picture of {f.shape[2]}x{f.shape[1]} pixels in the mean: the embedding "
        f"{short(bits[0])}, the map {short(bits[1])}; as a file {float(e.bytes_all.mean()):.0f} bytes."
    )
    done, left = float(m.distances.mean()), float(m.left.mean())
    better = "nearer" if done < NEARER * left else "hardly nearer" if done < left else "no nearer"
    yield (
        f"Transferred damage is {better} to the true damage than the undamaged contents are: a texture distance of "
        f"{short(done)}, against {short(left)}."
    )


def _costs(e: Entries) -> tuple[tuple[str, str, str], ...]:
    def row(name: str, bits: Tensor, size: Tensor) -> tuple[str, str, str]:
        return name, _spread(bits), _spread(size)

    return (
        row("Embedding e_g, of the whole picture", e.bits.sum(dim=1), e.bytes_g),
        row("Map e_l, of its places", e.bits_l, e.bytes_l),
        row("Both, in a file with its head", e.bits.sum(dim=1) + e.bits_l, e.bytes_all),
    )


def _spread(values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{short(float(values.mean()))} ({short(low)} to {short(high)})"


def _charts(e: Entries) -> tuple[Chart, ...]:
    order, label = e.order, "entries, the most varying first"
    places = [float(i + 1) for i in range(len(order))]
    return (
        line_chart(
            "How much entries vary",
            places,
            {"standard deviation": e.std[order].tolist()},
            x_label=label,
            rule=("a quarter of a step", ACTIVE),
            note="The standard deviation of the rounded entries over damaged pictures, in steps. Those above the dashed "
            "line, a quarter of a step, are called active.",
        ),
        line_chart(
            "What entries cost",
            places,
            {"bits": e.bits.mean(dim=0)[order].tolist()},
            x_label=label,
            note="The mean price of each entry in bits, in the same order.",
        ),
    )


def _active(e: Entries) -> tuple[tuple[str, str, str], ...]:
    std, bits = e.std.tolist(), e.bits.mean(dim=0).tolist()
    return tuple((str(i), short(std[i]), short(bits[i])) for i in e.active[:LISTED])


def _traversal(t: Traversal, spread: dict[str, float]) -> TraversalView:
    ranges = spans(t.facts, spread)
    rows = tuple(_fact(name, values, ranges[name]) for name, values in t.facts.items())
    moves = [f"{_said(row.name)} {row.way}" for row in rows if row.marked]
    said = ", ".join(moves) or "none of the four facts moves much"
    steps = tuple(f"{k:+g} s" if k else "as read" for k in STEPS)
    pictures = tuple(
        picture(image, f"the drawn picture with entry {t.entry} of its code at {step}")
        for image, step in zip(t.images, steps, strict=True)
    )
    low, high = short(float(t.change[0]), 2), short(float(t.change[-1]), 2)
    change = (
        f"s = {short(t.std)} steps. At the ends pixels differ by {low} and {high} from the middle."
    )
    return TraversalView(f"Entry {t.entry}: {said}", steps, pictures, rows, change)


def _fact(name: str, values: Tensor, span: float) -> FactRow:
    moves, order = span >= MOVED, tau(values)
    way = "changes" if abs(order) < CLEAR else "rises" if order > 0 else "falls"
    told = tuple(_number(value) for value in values.tolist())
    return FactRow(NAMES[name], told, _number(span), way if moves else "–", moves)


def _said(name: str) -> str:
    """Returns the name of a fact within a sentence."""
    name = name.partition(",")[0]
    return name if name.isupper() or name.startswith("JPEG") else name.lower()


def _idle(f: CodeFindings) -> str:
    if not f.idle:
        return ""
    text = (
        f"Of the {len(f.entries.idle)} entries that are not active the {len(f.idle)} most varying ones were moved as well, "
        "by three standard deviations and half a step at least: pixels differ by "
        f"{short(max(f.idle.values()), 2)} at most, where white is 1."
    )
    ends = [max(float(t.change[0]), float(t.change[-1])) for t in f.traversals]
    if ends:
        text += f" Of the active ones above it is {short(min(ends), 2)} to {short(max(ends), 2)}."
    return text


def _matrix(m: Matrix, references: References) -> MatrixView:
    heads = tuple(
        _large(picture(image, f"reference: {name}; {_drawn(told)}", f"{name}: {_drawn(told)}"))
        for image, name, told in zip(
            references.images, references.names, references.drawn, strict=True
        )
    )
    rows = tuple(
        (
            _large(picture(content, f"content {r + 1}, undamaged")),
            *(
                _large(picture(cell, f"content {r + 1} with the damage of the {name} reference"))
                for cell, name in zip(cells, references.names, strict=True)
            ),
        )
        for r, (content, cells) in enumerate(zip(m.contents, m.cells, strict=True))
    )
    return MatrixView(heads, rows, _means(m.distances), _means(m.left))


def _walk(images: Tensor, ends: tuple[str, str]) -> tuple[Picture, ...]:
    last = len(images) - 1
    shares = [round(100 * i / last) for i in range(len(images))]
    captions = [f"{ends[0]}", *(f"{share} %" for share in shares[1:-1]), f"{ends[1]}"]
    return tuple(
        _large(picture(image, f"the drawn picture, {share} % of the way to {ends[1]}", caption))
        for image, share, caption in zip(images, shares, captions, strict=True)
    )


def _drawn(told: dict[str, float]) -> str:
    """Returns what befell a reference in words, kinds and angles left out."""
    known = [
        f"{word} {short(told[name], 2)}{unit}"
        for name, (word, unit) in WORDS.items()
        if name in told
    ]
    others = [f"{n.replace('_', ' ')} {short(v, 2)}" for n, v in told.items() if "_" not in n]
    return ", ".join(known or others)


def _means(distances: Tensor) -> tuple[str, ...]:
    values: Sequence[float] = distances.mean(dim=0).tolist()
    return tuple(_number(value) for value in values)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else short(value, 2)


def _large(shown: Picture) -> Picture:
    """Returns a picture that is enlarged without smoothing, which would hide noise and blocks."""
    return replace(shown, crisp=True)
