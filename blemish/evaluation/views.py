"""What was found out about a degradation, arranged for a page.

Every page that speaks of learned damage shows the same things in the same way: a table of numbers,
walls of kernels, histograms, the noise. This module turns :class:`Findings` into pictures and
charts; the template ``findings.html.j2`` places them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional.kernels import centroid
from .charts import Chart, band_chart, histogram, short
from .findings import Drawn, Findings, noise_curve
from .pictures import Picture, heat
from .walks import kernel_picture

__all__ = ["QUANTITIES", "FindingsView", "Quantity", "Row", "Wall", "view"]


@dataclass(frozen=True)
class Quantity:
    """How a number is spoken of.

    Attributes:
        name: Its name in plain words.
        unit: Its unit, perhaps empty.
        note: What it means.
        limits: The range of its axis; None takes that of the values.
    """

    name: str
    unit: str
    note: str
    limits: tuple[float, float] | None = None


QUANTITIES: dict[str, Quantity] = {
    "radius": Quantity(
        "Blur radius",
        "px",
        "The radius of the disk that spreads light as far as the kernel does; 0 is sharp.",
    ),
    "kernel_centre": Quantity(
        "Light that stays",
        "",
        "The share of a kernel in its middle pixel: 1 is sharp. A sharp kernel with a faint wide "
        "halo may have the radius of a disk; here the two differ.",
        (0.0, 1.0),
    ),
    "kernel_sum": Quantity(
        "Sum of the kernel", "", "1 keeps the brightness; below, the image gets darker."
    ),
    "kernel_mask": Quantity(
        "Blur mask",
        "",
        "The mean of m_k: 0 leaves the image sharp, 1 uses the learned kernel alone.",
        (0.0, 1.0),
    ),
    "sigma_read": Quantity(
        "Read noise", "", "The standard deviation of noise in black, where white is 1."
    ),
    "sigma_shot": Quantity(
        "Shot noise", "", "The standard deviation of what light adds to the noise in white."
    ),
    "sigma_grey": Quantity(
        "Noise in middle grey", "", "The standard deviation of all noise at half intensity."
    ),
    "sigma_white": Quantity(
        "Noise in white", "", "The standard deviation of all noise at full intensity."
    ),
    "quality": Quantity("JPEG quality", "", "100 is best. Images that are spared do not count."),
    "quality_mask": Quantity(
        "JPEG mask",
        "",
        "m_q: 0 leaves the image uncompressed, 1 takes the compressed one.",
        (0.0, 1.0),
    ),
    "kernels": Quantity(
        "Change of the filters",
        "",
        "The norm of what a neural degradation adds to all its filters.",
    ),
    "slopes": Quantity(
        "Change of the slopes",
        "",
        "The norm of what it adds to the slopes, which are 1 unperturbed.",
    ),
    "noise": Quantity(
        "Noise maps", "", "The root mean square of its noise maps, where white is 1."
    ),
}
"""The quantities in the order in which they are shown."""

CLEAN: dict[str, tuple[str, str]] = {
    "clean_blur": (
        "blur",
        "Draws whose kernel is within 0.2 (L1) of the one that changes nothing.",
    ),
    "clean_noise": ("noise", "Draws whose noise in middle grey is below half a step of 8 bits."),
    "clean_jpeg": ("JPEG", "Draws whose mask is below 0.1."),
}
"""The kinds of damage that may be absent: their names, and what counts as absent."""

_SOME = 0.05  # The share from which absent damage is worth a word.

WALL = 40
"""The number of kernels on a wall."""


@dataclass(frozen=True)
class Row:
    """A line of the table: one quantity on both sides.

    Attributes:
        name: The quantity, with its unit.
        note: What it means.
        learned: Median and 90 % range, or a dash.
        true: The same of the truth, or of the other degradation.
        distance: The Wasserstein distance, or a dash.
    """

    name: str
    note: str
    learned: str
    true: str
    distance: str


@dataclass(frozen=True)
class Wall:
    """Kernels from the smallest to the largest.

    Attributes:
        title: Whose kernels they are.
        role: ``learned`` or ``true``.
        mean: The mean kernel.
        kernels: Kernels at equally spaced quantiles of the radius.
    """

    title: str
    role: str
    mean: Picture
    kernels: tuple[Picture, ...]


@dataclass(frozen=True)
class FindingsView:
    """Findings, arranged for a page.

    Attributes:
        name: How the inspected degradation is called: learned, given.
        count: The number of draws.
        other: How what it is compared with is called: true, second; empty where there is nothing.
        rows: The table.
        sentences: The comparison in words.
        walls: Walls of kernels, one for each side.
        histograms: The distributions of the quantities.
        levels: Maps of mean noise levels.
        examples: Maps of the noise level in single draws.
        curve: Noise against intensity.
    """

    name: str
    count: int
    other: str
    rows: tuple[Row, ...]
    sentences: tuple[str, ...]
    walls: tuple[Wall, ...]
    histograms: Mapping[str, Chart]
    levels: tuple[Picture, ...]
    examples: tuple[Picture, ...]
    curve: Chart | None

    @property
    def empty(self) -> bool:
        """Whether there is no damage to show."""
        return not self.rows


def view(findings: Findings, *, name: str = "learned") -> FindingsView:
    """Arranges findings for a page.

    Arguments:
        findings: The findings.
        name: How the inspected degradation is called: learned, given, first.
    """
    sides = {"learned": findings.learned} | ({"true": findings.true} if findings.true else {})
    names = {"learned": name, "true": "true" if findings.reference == "truth" else "second"}
    return FindingsView(
        name,
        findings.count,
        names["true"] if findings.true else "",
        _rows(findings, names),
        _sentences(findings, names),
        _walls(sides, names),
        _histograms(sides, names),
        *_noise_maps(findings.learned),
        _curve(sides, names),
    )


def _known(name: str) -> Quantity:
    return QUANTITIES.get(name, Quantity(name.replace("_", " "), "", ""))


def _names(*sides: Drawn) -> list[str]:
    found = {name for side in sides for name, values in side.values.items() if len(values)}
    return [n for n in QUANTITIES if n in found] + sorted(found - QUANTITIES.keys())


def _rows(findings: Findings, names: Mapping[str, str]) -> tuple[Row, ...]:
    true = findings.true or Drawn()
    distances = findings.distances()
    rows = []
    for name in _names(findings.learned, true):
        known = _known(name)
        distance = short(distances[name]) if name in distances else "–"
        title = f"{known.name}, {known.unit}" if known.unit else known.name
        learned, truth = (_range(side.values.get(name)) for side in (findings.learned, true))
        rows.append(Row(title, known.note, learned, truth, distance))
    return (*rows, *_clean_rows(findings), *_set_rows(findings, names))


def _clean_rows(findings: Findings) -> list[Row]:
    rows = []
    for name, shares in _clean(findings).items():
        damage, note = CLEAN[name]
        learned, true = (_percent(share) for share in shares)
        distance = findings.distances().get(name)
        rows.append(Row(f"Without {damage}", note, learned, true, _percent(distance)))
    return rows


def _set_rows(findings: Findings, names: Mapping[str, str]) -> list[Row]:
    """Returns what is said of all draws of a side together."""
    distances, rows = findings.distances(), []
    if "noise_curve" in distances:
        note = "How far the medians of the noise are apart, in the mean over all intensities."
        rows.append(Row("Noise curve", note, "–", "–", short(distances["noise_curve"])))
    if "mean_kernel" in distances:
        note = "The L1 distance of the mean kernels: 0 is equal, 2 is as far as can be."
        rows.append(Row("Mean kernel", note, "–", "–", short(distances["mean_kernel"])))
    if "nearest_kernel" in distances:
        there, back = (short(distances[n]) for n in ("nearest_kernel", "nearest_kernel_back"))
        note = "The mean L1 distance of a kernel from the nearest of the other side."
        if findings.kernel_floor is not None:
            note += f" Among {names['true']} kernels alone it is {short(findings.kernel_floor)}."
        rows.append(Row("To the nearest kernel", note, there, back, "–"))
    return rows


def _clean(findings: Findings) -> dict[str, tuple[float, float | None]]:
    """Returns the shares of clean draws, on both sides, of the damage that is absent now and then."""
    true = findings.true.clean() if findings.true else {}
    shares = {name: (share, true.get(name)) for name, share in findings.learned.clean().items()}
    return {name: pair for name, pair in shares.items() if max(v or 0 for v in pair) >= _SOME}


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _range(values: Tensor | None) -> str:
    if values is None or not len(values):
        return "–"
    low, median, high = values.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    return f"{short(median)} ({short(low)} to {short(high)})"


def _sentences(findings: Findings, names: Mapping[str, str]) -> tuple[str, ...]:
    found = [*_blur_sentences(findings, names)]
    distances, name, other = findings.distances(), names["learned"], names["true"]
    if {"sigma_grey", "noise_curve"} <= distances.keys():
        text = f"{name.capitalize()} noise in middle grey is {short(distances['sigma_grey'], 2)} from the {other} one"
        curve = short(distances["noise_curve"], 2)
        found.append(
            f"{text}, where white is 1; over all intensities the medians are {curve} apart."
        )
    if "quality" in distances:
        text = f"{name.capitalize()} JPEG qualities are {distances['quality']:.1f} from the {other} ones."
        found.append(text)
    clean = [
        f"without {CLEAN[kind][0]} {_percent(share)} of the {name} draws and {_percent(true)} of the {other} ones"
        for kind, (share, true) in _clean(findings).items()
        if true is not None
    ]
    if clean:
        found.append(f"Nearly undamaged: {'; '.join(clean)}.")
    return tuple(found)


def _blur_sentences(findings: Findings, names: Mapping[str, str]) -> Iterator[str]:
    distances, name, other = findings.distances(), names["learned"], names["true"]
    if "radius" in distances:
        text = (
            f"{name.capitalize()} blur radii are {distances['radius']:.2f} px from the {other} ones"
        )
        if "kernel_centre" in distances and findings.true:
            sides = (findings.learned, findings.true)
            stays = [100 * float(side.values["kernel_centre"].median()) for side in sides]
            text += (
                f"; the median {name} kernel leaves {stays[0]:.0f} % of the light where it was, the "
                f"median {other} one {stays[1]:.0f} %"
            )
        yield f"{text}."
    if "nearest_kernel" in distances:
        there, back = (short(distances[n], 2) for n in ("nearest_kernel", "nearest_kernel_back"))
        text = (
            f"In the mean a {name} kernel is {there} from the nearest {other} one, and a {other} kernel {back} "
            f"from the nearest {name} one (L1, at most 2)"
        )
        if findings.kernel_floor is not None:
            floor = short(findings.kernel_floor, 2)
            text += f"; among {other} kernels alone the nearest is {floor} away, and less is not to be expected"
        yield f"{text}."
    if findings.learned.kernels is not None:
        dx, dy = centroid(findings.learned.kernels.mean(dim=0)[None])[0].tolist()
        yield (
            f"The mean {name} kernel lies {(dx**2 + dy**2) ** 0.5:.2f} px beside its middle; "
            "clean images make up for that by a shift the other way."
        )


def _walls(sides: Mapping[str, Drawn], names: Mapping[str, str]) -> tuple[Wall, ...]:
    walls = []
    for role, drawn in sides.items():
        if drawn.kernels is None:
            continue
        kernels, radii = drawn.kernels[:, 0], drawn.values["radius"]
        order = radii[: len(kernels)].argsort()
        n = min(WALL, len(order))
        # At equal quantiles, so that the same place on two walls can be compared.
        chosen = order[((torch.arange(n) + 0.5) / n * len(order)).long()]
        pictures = tuple(
            kernel_picture(kernels[i], f"{names[role]} kernel of radius {r:.2f} pixels", f"{r:.2f}")
            for i, r in zip(chosen.tolist(), radii[chosen].tolist(), strict=True)
        )
        mean = kernel_picture(kernels.mean(dim=0), f"mean {names[role]} kernel", "mean")
        title = f"{names[role]} kernels"
        walls.append(Wall(title[0].upper() + title[1:], role, mean, pictures))
    return tuple(walls)


def _histograms(sides: Mapping[str, Drawn], names: Mapping[str, str]) -> dict[str, Chart]:
    charts = {}
    for name in _names(*sides.values()):
        known = _known(name)
        samples = {
            role: drawn.values[name]
            for role, drawn in sides.items()
            if len(drawn.values.get(name, ()))
        }
        label = known.name if known.name.startswith("JPEG") else known.name.lower()
        charts[name] = histogram(
            known.name,
            samples,
            x_label=f"{label} ({known.unit})" if known.unit else label,
            names=names,
            limits=known.limits,
            note=known.note,
        )
    return charts


def _noise_maps(drawn: Drawn) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    if drawn.levels is None or drawn.examples is None:
        return (), ()
    names = ("read noise", "shot noise")
    levels = drawn.levels.mean(dim=1)
    mean = tuple(
        heat(
            level,
            float(level.max()),
            f"map of the mean level of {name}",
            f"{name}: {short(float(level.min()), 2)} to {short(float(level.max()), 2)}",
        )
        for name, level in zip(names, levels, strict=True)
    )
    # The level at half intensity says in one map what the two levels do together.
    squares = drawn.examples.square()
    grey = (squares[:, 0] + squares[:, 1] / 2).sqrt().mean(dim=1)
    single = tuple(
        heat(level, float(grey.max()), "map of the noise level of one draw", _level(level))
        for level in grey
    )
    return mean, single


def _level(level: Tensor) -> str:
    return f"σ {short(float(level.square().mean().sqrt()), 2)}"


def _curve(sides: Mapping[str, Drawn], names: Mapping[str, str]) -> Chart | None:
    x = torch.linspace(0, 1, 33)
    curves: dict[str, Tensor] = {
        role: noise_curve(drawn, x) for role, drawn in sides.items() if drawn.levels is not None
    }
    if not curves:
        return None
    return band_chart(
        "Noise against intensity",
        x,
        curves,
        x_label="intensity (0 black, 1 white)",
        names=names,
        note="Standard deviation of the noise: the median of all draws, and 90 % of them in the band.",
    )
