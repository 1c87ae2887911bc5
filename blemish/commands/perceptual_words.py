"""What ``blemish demo perceptual`` found, in words and as a table.

Sentences follow from the numbers, whichever way they fall. Two ways of restoration are compared glyph by glyph: a
difference of mean distances counts as one only above twice its standard error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["lessons", "paired_gap", "table"]

CLEAR = 2.0
"""The number of standard errors from which on a difference counts."""

_NAMES = {
    "clean": "clean",
    "damaged": "damaged",
    "pulse": "pulse",
    "mmd": "mmd, pixels",
    "likelihood": "mmd, likelihood",
}


def table(summary: Mapping[str, Any]) -> str:
    """Returns the numbers as text, and what they teach.

    Arguments:
        summary: What the demo measured.
    """
    bits = summary["likelihood"]
    rows = [
        f"Bits for each value of damaged glyphs: given their clean ones {bits['paired']:.2f}, given "
        f"another's {bits['unpaired']:.2f},",
        f"given nothing {bits['zero']:.2f}; a logistic law of the residual takes {bits['logistic']:.2f}.",
        "",
        f"{'':16}{'distance':>10}{'realism':>9}{'to damaged':>12}{'PSNR':>7}{'read right':>12}",
    ]
    for name, row in summary["restored"].items():
        psnr = "-" if row["psnr"] is None else f"{row['psnr']:.1f}"
        rows.append(
            f"{_NAMES[name]:16}{row['distance']:10.3f}{row['realism']:9.2f}{row['to damaged']:12.3f}"
            f"{psnr:>7}{row['read']:12.0%}"
        )
    seeds = len(summary["seeds of searches"])
    rows += [
        f"(distance to the truth and realism on {summary['features']}: lower is better; {summary['count']} glyphs, "
        f"means of {seeds} seeds)",
        "",
        *lessons(summary),
    ]
    return "\n".join(rows)


def lessons(summary: Mapping[str, Any]) -> list[str]:
    """Returns what was learned, a sentence each.

    Arguments:
        summary: What the demo measured.
    """
    rows = summary["restored"]
    return [
        *_of_the_law(summary["likelihood"]),
        _compared(rows, "mmd", "pulse", "The search mmd, against pulse,"),
        _compared(rows, "likelihood", "mmd", "The likelihood in place of pixels"),
        _of_pixels(rows),
        _of_reading(rows),
    ]


def _of_the_law(bits: Mapping[str, float]) -> list[str]:
    told = (
        f"The likelihood prefers the clean partner to another glyph in {bits['told']:.0%} of the pairs: damaged "
        f"glyphs cost {bits['paired']:.2f} bits a value given their own clean one, {bits['unpaired']:.2f} given another's."
    )
    less = bits["observed"] < bits["paired"]
    itself = (
        "A damaged glyph is likelier still given itself: without a prior the likelihood would restore nothing."
        if less
        else "A damaged glyph is less likely given itself than given the clean one."
    )
    return [told, itself]


def _compared(rows: Mapping[str, Any], a: str, b: str, what: str) -> str:
    """Says whether one way comes nearer to the truth than another, and which looks more like glyphs."""
    gap, error = paired_gap(rows[a]["distances"], rows[b]["distances"])
    numbers = f"{rows[a]['distance']:.3f} against {rows[b]['distance']:.3f}"
    if abs(gap) <= CLEAR * error:
        nearer = f"made no clear difference to the distance to the truth ({numbers})"
    else:
        nearer = f"came {'nearer to' if gap < 0 else 'less near to'} the truth ({numbers})"
    real = rows[a]["realism"] - rows[b]["realism"]
    looks = "more like clean glyphs" if real < 0 else "less like clean glyphs"
    pair = f"{rows[a]['realism']:.2f} against {rows[b]['realism']:.2f}"
    return f"{what} {nearer}, and looks {looks} (realism {pair})."


def _of_pixels(rows: Mapping[str, Any]) -> str:
    law, pixels = rows["likelihood"]["to damaged"], rows["mmd"]["to damaged"]
    where = "farther from" if law > pixels else "nearer to"
    return (
        f"With the likelihood the result is {where} the damaged pixels ({law:.3f} against {pixels:.3f})"
        + (", which it is free to leave." if law > pixels else ", though nothing asks for them.")
    )


def _of_reading(rows: Mapping[str, Any]) -> str:
    """Says how many are read as what they are, and whether what looks best is also read best."""
    ways = ("pulse", "mmd", "likelihood")
    shares = ", ".join(f"{rows[name]['read']:.0%} ({_NAMES[name]})" for name in ways)
    said = f"Of the damaged glyphs {rows['damaged']['read']:.0%} are read right, of the restored ones {shares}"
    sharpest = min(ways, key=lambda name: rows[name]["realism"])
    if rows[sharpest]["read"] < rows["damaged"]["read"]:
        return f"{said}: what looks most like a glyph ({_NAMES[sharpest]}) is now and then another one."
    return f"{said}."


def paired_gap(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Returns the mean difference of two scores of the same images, and its standard error.

    Arguments:
        a: Scores of at least two images.
        b: Scores of the same images.
    """
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1)
    return mean, math.sqrt(variance / len(gaps))
