"""What was found out about a folder of images, arranged for a page.

Each kind of damage gets a card: what was concluded, how its strength is spread over the images, and the images
with the least and the most of it. Of an image the middle is shown, pixel by pixel, for made smaller it would
lose the damage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data import Source
from .charts import Chart, histogram, short
from .folder import QUANTITIES, FolderFindings
from .pictures import Picture, picture
from .verdicts import BOUNDS, visible_noise

__all__ = ["DamageCard", "FolderView", "Measure", "strengths", "view_folder"]

EXAMPLES = 4
"""The number of images with the least, and with the most, of a damage."""

SIDE = 96
"""The side in pixels of what is shown of an image."""

_LONGEST = 12  # Rows of a list.
_TITLES = {"noise": "Noise", "jpeg": "JPEG", "blur": "Blur"}


@dataclass(frozen=True)
class DamageCard:
    """One kind of damage.

    Attributes:
        title: Its name.
        texts: What was concluded, in sentences.
        chart: How its strength is spread; None where it was not measured.
        least: Images with the least of it, the very least first.
        most: Images with the most of it, the very most first.
    """

    title: str
    texts: tuple[str, ...]
    chart: Chart | None
    least: tuple[Picture, ...]
    most: tuple[Picture, ...]


@dataclass(frozen=True)
class Measure:
    """A line of the table of quantities.

    Attributes:
        name: The quantity.
        note: What it is, with its unit.
        count: In how many images it is known.
        value: Median and 90 % range.
        together: Its value in small images taken together, or a dash.
    """

    name: str
    note: str
    count: int
    value: str
    together: str


@dataclass(frozen=True)
class FolderView:
    """Findings about a folder, arranged for a page.

    Attributes:
        conclusions: What it adds up to, in sentences.
        warnings: What to look after before training, in sentences.
        cards: The kinds of damage.
        measures: The table of quantities.
        pooled: Whether small images were measured together.
        sizes: Sizes (height x width) with the number of images and their share.
        files: Qualities and colour resolutions in JPEG headers, with the number of files.
    """

    conclusions: tuple[str, ...]
    warnings: tuple[str, ...]
    cards: tuple[DamageCard, ...]
    measures: tuple[Measure, ...]
    pooled: bool
    sizes: tuple[tuple[str, str, str], ...]
    files: tuple[tuple[str, str, str], ...]


def view_folder(findings: FolderFindings, source: Source) -> FolderView:
    """Arranges findings about a folder for a page.

    Arguments:
        findings: The findings.
        source: The images that they are about, from which examples are read.
    """
    return FolderView(
        conclusions=tuple(v.text for v in findings.verdicts if not v.warning),
        warnings=tuple(v.text for v in findings.warnings),
        cards=_cards(findings, source),
        measures=_measures(findings),
        pooled=bool(findings.pooled),
        sizes=_sizes(findings),
        files=_files(findings),
    )


def strengths(findings: FolderFindings) -> dict[str, Tensor]:
    """Returns how much of each damage an image has, by which examples are chosen.

    Returns:
        For ``noise`` the standard deviation and for ``blur`` the width of edges; for ``jpeg`` the chance of
        traces, and 101 less the quality where there are traces. NaN where it is unknown, with shape (N,).
    """
    values = findings.values
    chance = values["jpeg_probability"]
    compressed = chance >= BOUNDS["jpeg"].present
    return {
        "noise": visible_noise(values),
        "jpeg": torch.where(compressed, 101 - values["jpeg_quality"], chance),
        "blur": values["blur_sigma"],
    }


def _cards(findings: FolderFindings, source: Source) -> tuple[DamageCard, ...]:
    numbers = _numbers(findings, source)
    captions: dict[str, Callable[[float], str]] = {
        "noise": lambda value: f"σ {short(value, 2)}",
        "jpeg": lambda value: f"q {101 - value:.0f}" if value >= 1 else f"chance {value:.0%}",
        "blur": lambda value: f"{value:.2f} px",
    }
    cards = []
    for damage, strength in strengths(findings).items():
        known = (~strength.isnan()).nonzero().flatten()
        order = known[strength[known].argsort(stable=True)].tolist()
        count = min(EXAMPLES, len(order) // 2)
        # A single image has no less and no more.
        chosen = order[:count], order[::-1][: count or 1]
        least, most = (
            tuple(
                _example(source, numbers[i], captions[damage](float(strength[i]))) for i in images
            )
            for images in chosen
        )
        texts, chart = _texts(findings, damage), _chart(findings, damage)
        cards.append(DamageCard(_TITLES[damage], texts, chart, least, most))
    return tuple(cards)


def _texts(findings: FolderFindings, damage: str) -> tuple[str, ...]:
    """Returns what was concluded about a damage, without its name, which is the card's title."""
    texts = (verdict.text for verdict in findings.verdicts if verdict.topic == damage)
    bare = (text.removeprefix(f"{_TITLES[damage]}: ") for text in texts)
    return tuple(text[:1].upper() + text[1:] for text in bare)


def _numbers(findings: FolderFindings, source: Source) -> list[int]:
    """Returns the numbers in the source of the images that were measured."""
    wanted = set(findings.names)
    found = {name: i for i in range(len(source)) if (name := source.name(i)) in wanted}
    return [found[name] for name in findings.names]


def _example(source: Source, number: int, caption: str) -> Picture:
    image = source.read(number)
    # From multiples of 8 pixels on, so that blocks of JPEG are whole.
    top, left = (max(0, (side - SIDE) // 2) // 8 * 8 for side in image.shape[-2:])
    middle = image[:, top : top + SIDE, left : left + SIDE].float() / 255
    name = source.name(number)
    shown = picture(middle, f"middle of {name}, {caption}", f"{caption} · {name}")
    return replace(shown, crisp=True)


def _chart(findings: FolderFindings, damage: str) -> Chart | None:
    values = strengths(findings)[damage]
    title, label, limits = {
        "noise": ("Strength of the noise", "standard deviation, white is 1", None),
        "blur": ("Width of the sharpest edges", "as of a Gaussian (px)", None),
        "jpeg": ("Chance of JPEG", "chance by the traces in the pixels", (0.0, 1.0)),
    }[damage]
    note = ""
    if damage == "jpeg" and bool((values >= 1).any()):
        compressed = values >= 1
        note = f"Of the {int(compressed.sum())} images with clear traces."
        values, limits = 101 - values[compressed], None
        title, label = "JPEG quality", "quality of libjpeg, by the pixels"
    known = values[~values.isnan()]
    if not len(known):
        return None
    names = {"learned": "images"}
    return histogram(
        title, {"learned": known}, x_label=label, names=names, limits=limits, note=note
    )


def _measures(findings: FolderFindings) -> tuple[Measure, ...]:
    rows = []
    for name, summary in findings.summary().items():
        low, median, high = (short(summary[q]) for q in ("q5", "q50", "q95"))
        together = short(findings.pooled[name]) if name in findings.pooled else "–"
        title = name.replace("_", " ").replace("jpeg", "JPEG")
        value = f"{median} ({low} to {high})"
        rows.append(Measure(title, QUANTITIES[name], int(summary["count"]), value, together))
    return tuple(rows)


def _sizes(findings: FolderFindings) -> tuple[tuple[str, str, str], ...]:
    total = len(findings.names)
    rows = [(f"{h}x{w}", n) for (h, w), n in findings.sizes.items()]
    return tuple((size, f"{n:,}", f"{n / total:.0%}") for size, n in _shortened(rows, "sizes"))


def _files(findings: FolderFindings) -> tuple[tuple[str, str, str], ...]:
    kinds = Counter(
        (file.quality, file.exact, file.subsampling) for file in findings.files.values()
    )
    rows = [
        (f"{quality}{'' if exact else ' (nearest)'}/{sampling}", n)
        for (quality, exact, sampling), n in sorted(kinds.items(), reverse=True)
    ]
    split = ((name.partition("/"), n) for name, n in _shortened(rows, "kinds"))
    return tuple((quality, sampling, f"{n:,}") for (quality, _, sampling), n in split)


def _shortened(rows: Sequence[tuple[str, int]], what: str) -> list[tuple[str, int]]:
    """Returns the first rows, and one for the others."""
    if len(rows) <= _LONGEST:
        return list(rows)
    rest = rows[_LONGEST - 1 :]
    return [*rows[: _LONGEST - 1], (f"{len(rest)} other {what}", sum(n for _, n in rest))]
