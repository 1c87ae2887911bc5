"""Charts as plain data: what a template needs to draw them in SVG.

A chart is a box with ticks, lines and areas, in the coordinates of its view box; the template
writes the markup and the script of the page shows the values under the pointer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Chart", "Line", "Tick", "band_chart", "histogram", "line_chart", "short"]

WIDTH, HEIGHT = 300, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 8, 38
_MOST_POINTS = 300


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis.

    Attributes:
        at: The place, in the coordinates of the view box.
        label: What stands beside it.
    """

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A line or an area of a chart.

    Attributes:
        name: What it shows.
        role: ``learned``, ``true`` or ``extra``: its colour.
        path: The SVG path of the line; empty where there is none.
        area: The SVG path of the filled area; empty where there is none.
    """

    name: str
    role: str
    path: str = ""
    area: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: What it shows.
        x_label: What is along the horizontal axis, with its unit.
        alt: What a reader who does not see it is told.
        lines: Lines and areas, the first drawn first.
        x_ticks: Ticks of the horizontal axis.
        y_ticks: Ticks of the vertical axis.
        rule: The height of a horizontal line at the true value, or None.
        data: What the script shows under the pointer: ``x`` (places), ``at`` (labels of x) and
            ``lines`` (name, role, y: places, label: texts).
        note: A sentence below it.
    """

    title: str
    x_label: str
    alt: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    rule: float | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def line_chart(
    title: str,
    x: Sequence[float],
    lines: Mapping[str, Sequence[float | None]],
    *,
    x_label: str,
    roles: Sequence[str] = ("learned", "true", "extra"),
    rule: tuple[str, float] | None = None,
    note: str = "",
) -> Chart:
    """Makes a chart of lines over a common axis; long ones are averaged over neighbouring points.

    Arguments:
        title: What it shows.
        x: The horizontal places, in rising order.
        lines: Values at those places by name; None or NaN interrupts a line.
        x_label: What is along the horizontal axis.
        roles: The colours of the lines, in order.
        rule: The name and height of a horizontal line.
        note: A sentence below it.
    """
    x, lines = _thinned(x, {name: _clean(values) for name, values in lines.items()})
    finite = [v for values in lines.values() for v in values if not math.isnan(v)]
    shown = [*finite, rule[1]] if rule else finite
    box = _Box.around((x[0], x[-1]) if x else (0.0, 1.0), _span(shown))
    drawn = [
        Line(name, role, path=box.path(x, values))
        for role, (name, values) in zip(roles, lines.items(), strict=False)
    ]
    texts = [
        f"{name} from {short(_first(v))} to {short(_first(v[::-1]))}" for name, v in lines.items()
    ]
    if rule:
        texts.append(f"{rule[0]} {short(rule[1])}")
    return Chart(
        title,
        x_label,
        f"{title}: {'; '.join(texts)}",
        tuple(drawn),
        *box.ticks(),
        rule=box.y(rule[1]) if rule else None,
        data=box.data(
            x, [(line, values) for line, values in zip(drawn, lines.values(), strict=False)]
        ),
        note=note,
    )


def histogram(
    title: str,
    samples: Mapping[str, Tensor],
    *,
    x_label: str,
    names: Mapping[str, str] | None = None,
    limits: tuple[float, float] | None = None,
    bins: int = 31,  # odd, so that a single value stands in the middle of a bin
    note: str = "",
) -> Chart:
    """Makes a chart of the distributions of samples: the share of the sample in each bin.

    Arguments:
        title: What it shows.
        samples: Values, each with shape (N,), N >= 1, by role: ``learned``, ``true``.
        x_label: What is along the horizontal axis.
        names: What the roles are called; by default as they are.
        limits: The range of the horizontal axis; None takes that of the values.
        bins: The number of bins.
        note: A sentence below it.
    """
    names = {role: (names or {}).get(role, role) for role in samples}
    every = torch.cat([values.double() for values in samples.values()])
    low, high = limits or _widened(float(every.min()), float(every.max()))
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    shares = {
        name: _shares(values.double(), edges) for name, values in samples.items() if len(values)
    }
    top = max(float(share.max()) for share in shares.values())
    box = _Box.around((low, high), (0.0, top * 1.08), y_percent=True)
    drawn = [
        _steps(names[role], role, edges.tolist(), share.tolist(), box)
        for role, share in shares.items()
    ]
    texts = [
        f"{names[role]}: mean {short(float(v.mean()))}, 90 % between {short(float(v.quantile(0.05)))} and "
        f"{short(float(v.quantile(0.95)))}"
        for role, v in samples.items()
    ]
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    values = [(line, shares[line.role].tolist()) for line in drawn]
    alt = f"Histogram, {title}. {'; '.join(texts)}"
    data = box.data(middles, values)
    return Chart(title, x_label, alt, tuple(drawn), *box.ticks(), data=data, note=note)


def band_chart(
    title: str,
    x: Tensor,
    bands: Mapping[str, Tensor],
    *,
    x_label: str,
    names: Mapping[str, str] | None = None,
    note: str = "",
) -> Chart:
    """Makes a chart of medians within bands.

    Arguments:
        title: What it shows.
        x: The horizontal places, with shape (M,).
        bands: Lower bounds, medians and upper bounds, each with shape (3, M), by role:
            ``learned``, ``true``.
        x_label: What is along the horizontal axis.
        names: What the roles are called; by default as they are.
        note: A sentence below it.
    """
    names = {role: (names or {}).get(role, role) for role in bands}
    top = max(float(band.max()) for band in bands.values())
    box = _Box.around((float(x[0]), float(x[-1])), (0.0, max(top * 1.05, 1e-6)))
    places = x.tolist()
    drawn = []
    for role, (low, median, high) in ((role, band.tolist()) for role, band in bands.items()):
        back = box.path(places[::-1], low[::-1]).replace("M", "L", 1)
        area = f"{box.path(places, high)} {back} Z"
        drawn.append(Line(names[role], role, path=box.path(places, median), area=area))
    texts = [
        f"{names[role]} from {short(float(b[1, 0]))} to {short(float(b[1, -1]))}"
        for role, b in bands.items()
    ]
    medians = [(line, bands[line.role][1].tolist()) for line in drawn]
    alt = f"{title}; medians: {'; '.join(texts)}"
    data = box.data(places, medians)
    return Chart(title, x_label, alt, tuple(drawn), *box.ticks(), data=data, note=note)


def short(value: float, digits: int = 3) -> str:
    """Writes a number with few digits: 1234567 as 1.23M, 0.000012 as 1.2e-05."""
    if not math.isfinite(value):
        return "none"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scale = {"G": 1e9, "M": 1e6, "k": 1e3}[unit]
            return f"{float(f'{value / scale:.{digits}g}'):g}{unit}"
    return f"{float(f'{value:.{digits}g}'):g}"


@dataclass(frozen=True)
class _Box:
    """Maps values to places in the view box."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    y_percent: bool = False

    @classmethod
    def around(
        cls, x: tuple[float, float], y: tuple[float, float], *, y_percent: bool = False
    ) -> _Box:
        return cls(_widened(*x, share=0.0), _widened(*y, share=0.0), y_percent)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(_LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    def path(self, x: Sequence[float], y: Sequence[float]) -> str:
        """Returns a path through the points, interrupted where y is NaN."""
        words, begin = [], True
        for place, value in zip(x, y, strict=True):
            if math.isnan(value):
                begin = True
                continue
            words.append(f"{'M' if begin else 'L'}{self.x(place):g} {self.y(value):g}")
            begin = False
        return " ".join(words)

    def ticks(self) -> tuple[tuple[Tick, ...], tuple[Tick, ...]]:
        """Returns the ticks of both axes."""
        percent = 100.0 if self.y_percent else 1.0
        unit = " %" if self.y_percent else ""
        return (
            tuple(Tick(self.x(v), short(v)) for v in _nice(*self.x_range, count=5)),
            tuple(
                Tick(self.y(v), f"{short(v * percent)}{unit}")
                for v in _nice(*self.y_range, count=4)
            ),
        )

    def data(self, x: Sequence[float], lines: Sequence[tuple[Line, Sequence[float]]]) -> Any:
        """Returns what the script needs."""
        percent = 100.0 if self.y_percent else 1.0
        unit = " %" if self.y_percent else ""
        return {
            "x": [self.x(v) for v in x],
            "at": [short(v, 4) for v in x],
            "lines": [
                {
                    "name": line.name,
                    "role": line.role,
                    "y": [None if math.isnan(v) else self.y(v) for v in values],
                    "label": ["" if math.isnan(v) else short(v * percent) + unit for v in values],
                }
                for line, values in lines
            ],
        }


def _steps(
    name: str, role: str, edges: Sequence[float], shares: Sequence[float], box: _Box
) -> Line:
    words = [f"M{box.x(edges[0]):g} {box.y(0):g}"]
    for left, right, share in zip(edges[:-1], edges[1:], shares, strict=True):
        y = box.y(share)
        words += [f"L{box.x(left):g} {y:g}", f"L{box.x(right):g} {y:g}"]
    words.append(f"L{box.x(edges[-1]):g} {box.y(0):g}")
    path = " ".join(words)
    # The truth is an outline over the filled learned values, so that both are seen where they meet.
    return Line(name, role, path=path, area=path + " Z" if role == "learned" else "")


def _shares(values: Tensor, edges: Tensor) -> Tensor:
    inside = values.clamp(float(edges[0]), float(edges[-1]))
    bins = (torch.searchsorted(edges, inside, right=True) - 1).clamp(0, len(edges) - 2)
    return torch.bincount(bins, minlength=len(edges) - 1).double() / len(values)


def _clean(values: Sequence[float | None]) -> list[float]:
    return [math.nan if v is None or not math.isfinite(v) else float(v) for v in values]


def _thinned(
    x: Sequence[float], lines: dict[str, list[float]]
) -> tuple[list[float], dict[str, list[float]]]:
    step = -(-len(x) // _MOST_POINTS)
    if step <= 1:
        return list(x), lines
    starts = range(0, len(x), step)
    places = [_mean(list(x[i : i + step])) for i in starts]
    return places, {
        name: [_mean(values[i : i + step]) for i in starts] for name, values in lines.items()
    }


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan


def _first(values: Sequence[float]) -> float:
    return next((v for v in values if not math.isnan(v)), math.nan)


def _span(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    return _widened(min(values), max(values), share=0.06)


def _widened(low: float, high: float, share: float = 0.02) -> tuple[float, float]:
    """Returns a range of positive length that holds a range with some margin."""
    # Differences of rounding are none.
    if high - low <= 1e-5 * max(abs(low), abs(high), 1e-9):
        margin = abs(low) * 0.1 or 0.5
        return low - margin, high + margin
    return low - share * (high - low), high + share * (high - low)


def _nice(low: float, high: float, count: int) -> list[float]:
    """Returns about so many round numbers in a range."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [0.0 if i == 0 else i * step for i in range(first, last + 1)]
