"""The report of a run: what went in, what came out, how it went.

The report is made of plain objects, so that it can be written for anything that was trained: a
configuration, lines of metrics, pictures, a prior and a degradation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..degradations import Degradation, Identity, LearnedLikelihood
from ..degradations.compose import Chain
from ..functional.random import generator_for
from ..priors import Prior
from ..restorers import Restorer
from .charts import Chart, line_chart, short
from .findings import Findings, inspect_degradation
from .pages import render
from .pictures import Picture, cut, sheet
from .views import view
from .walks import Step, Walk, steps, walks

__all__ = ["Record", "report_page"]

SHEET = 64
"""The number of images on a sheet."""

SNAPSHOTS = 12
"""The number of sheets shown over time."""

_PIXELS = 300_000
"""The number of pixels on one sheet of the many over time, so that a page stays below some megabytes."""

_DRAWS = 500


@dataclass(frozen=True)
class Record:
    """What is known of a run.

    Attributes:
        config: The configuration as JSON values, as ``config.json`` holds it.
        prior: The generator of clean images, on the CPU; None of a run that made none.
        degradation: The model of the damage, on the CPU.
        restorer: What restores observed images, on the CPU; without one and without a prior, the degradation is what
            was learned.
        metrics: The lines of ``metrics.jsonl``, in order.
        images: The number of observed images seen.
        observed: A PNG sheet of training images, if there is one.
        samples: PNG sheets of samples by the number of images seen; a restorer's have rows of eight
            observed images, each above the row of what is made of them.
        truth: The true damage, where it is known.
        checkpoint: Which checkpoint the parts are of, in words; empty for the last.
        proximal: Proximal distances by the number of images seen.
    """

    config: Mapping[str, Any]
    prior: Prior | None
    degradation: Degradation[Any]
    restorer: Restorer | None = None
    metrics: Sequence[Mapping[str, Any]] = ()
    images: int = 0
    observed: bytes | None = None
    samples: Mapping[int, bytes] = field(default_factory=dict)
    truth: Degradation[Any] | None = None
    checkpoint: str = ""
    proximal: Mapping[int, float] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of the images on the sheets."""
        if self.prior is not None:
            return self.prior.shape
        data = self.config["data"]
        return data["channels"], data["size"], data["size"]

    @property
    def word(self) -> str:
        """What became of the images on the sheets of samples."""
        if self.prior is not None:
            return "generated"
        if isinstance(self.degradation, LearnedLikelihood):
            return "drawn"
        return "redegraded" if self.restorer is None else "restored"


def report_page(record: Record) -> str:
    """Writes the page of ``blemish report``.

    Arguments:
        record: What is known of the run.

    Returns:
        The HTML document.
    """
    config, seed = record.config, int(record.config["seed"])
    learned = any(True for _ in record.degradation.parameters())
    findings = _findings(record, seed)
    context = {
        "title": _title(config),
        "lead": _lead(record, learned),
        "facts": _facts(record),
        "warnings": _warnings(record.metrics),
        "observed": _observed(record),
        "generated": _generated(record, seed),
        "generated_title": "Before and after" if record.prior is None else "Generated images",
        "generated_note": _note(record, learned),
        "snapshots_note": (
            "What is made of the same images" if record.prior is None else "The same latents"
        ),
        "steps": _steps(record, seed),
        "damage_word": "learned" if learned else "given",
        "snapshots": _snapshots(record),
        "film": _film(record),
        "view": findings and view(findings, name="learned" if learned else "given"),
        "learned_title": (
            "What was learned about the damage" if learned else "The damage that was given"
        ),
        "walks": _walks(record, seed),
        "charts": _charts(record.metrics, findings) + _proximal(record),
        "configuration": _configuration(config),
    }
    return render("report.html.j2", contents=_contents(context), **context)


def _contents(context: Mapping[str, Any]) -> dict[str, str]:
    has_view = context["view"] is not None and not context["view"].empty
    every = {
        "images": ("Images", True),
        "steps": ("Damage in turn", bool(context["steps"])),
        "time": ("Over time", bool(context["snapshots"])),
        "learned": ("Damage", has_view),
        "walks": ("Walks", bool(context["walks"])),
        "training": ("Training", bool(context["charts"])),
        "configuration": ("Configuration", True),
    }
    return {name: text for name, (text, shown) in every.items() if shown}


def _title(config: Mapping[str, Any]) -> str:
    setting = config["data"].get("setting")
    where = f", damage {setting}" if setting else ""
    return f"{config['recipe']} on {_last_part(config['data']['source'])}{where}"


def _lead(record: Record, learned: bool) -> str:
    seen = record.images
    planned = record.config["training"]["images"]
    text = _restores(record) if record.prior is None else _generates(record, learned)
    return text if seen >= planned else f"{text} {seen:,} of {planned:,} images seen so far."


def _restores(record: Record) -> str:
    if record.restorer is None and isinstance(record.degradation, LearnedLikelihood):
        return "It learned how likely damaged images are, given the clean ones."
    if record.restorer is None:
        return "It learned to read damage off images, and to put it onto others."
    if record.config["recipe"] in ("restorer", "synthetic"):
        return "It learned to restore from pairs that a simulator of the damage made of what it took for clean."
    if _is_damage(record.degradation):
        return "It learned to restore from damaged images alone, against a simulator of the damage."
    return "It learned to restore from damaged images and clean ones."


def _generates(record: Record, learned: bool) -> str:
    return {
        (True, True): "It learned the images and the damage together, from damaged images alone.",
        (True, False): "It learned the images and the damage together, from damaged images alone.",
        (False, True): "It learned the images behind a damage that it was told.",
        (False, False): "It learned the images as they are; it knows nothing of damage.",
    }[learned, _is_damage(record.degradation)]


def _note(record: Record, learned: bool) -> str:
    if isinstance(record.degradation, LearnedLikelihood):
        # Of pairs the sheet has no clean partners.
        pairs = record.config["recipe"] == "likelihood-pairs"
        given = "the damaged image itself, taken for a clean one," if pairs else "the clean image"
        return (
            "Rows of damaged images, each above the row of what the likelihood draws for each of their pixels, given "
            f"{given} and the pixels before."
        )
    if record.prior is None and record.restorer is None:
        return "Rows of damaged images, each above the row of clean ones with the damage that was read off them."
    if record.prior is None:
        return "Rows of damaged images, each above the row of what the restorer makes of them."
    if learned or _is_damage(record.degradation):
        return "What the model believes the images were before they were damaged."
    return "What the model makes; it takes images as they are, damage included."


def _facts(record: Record) -> dict[str, str]:
    config = record.config
    last = record.metrics[-1] if record.metrics else {}
    c, h, w = record.shape
    parts: dict[str, Any] = {
        "G_x": record.prior,
        "T": record.restorer,
        "damage": record.degradation,
    }
    sizes = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in parts.items()
        if isinstance(part, nn.Module)
    }
    facts = {
        "Preset": str(config["preset"]),
        "Seed": str(config["seed"]),
        "Image size": f"{w} × {h}, {'grey' if c == 1 else 'RGB'}",
        "Parameters": ", ".join(f"{name} {short(n)}" for name, n in sizes.items() if n),
    }
    facts["Images seen"] = f"{record.images:,}"
    if record.checkpoint:
        facts["Shown"] = record.checkpoint
    if last:
        facts["Time"] = _duration(float(last.get("seconds", 0.0)))
        if last.get("seconds"):
            facts["Speed"] = f"{short(last['images'] / last['seconds'])} images/s"
    return facts


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _warnings(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"At {line['images']:,} images: {text}"
        for line in metrics
        for text in line.get("warnings", ())
    ]


def _observed(record: Record) -> Picture | None:
    if record.observed is None:
        return None
    images = cut(record.observed, record.shape)
    return _sheet(images, "training images as the model saw them")


@torch.no_grad()
def _generated(record: Record, seed: int) -> Picture | None:
    if record.prior is not None and (record.checkpoint or not record.samples):
        images = record.prior.sample(SHEET, generator=generator_for(seed, "samples"))
    elif record.samples:
        images = cut(record.samples[max(record.samples)], record.shape)
    else:
        return None
    return _sheet(images, f"{'' if record.prior else 'damaged and '}{record.word} images")


def _made(record: Record, moment: int) -> Tensor:
    """Returns the images that were made at a moment; of a restorer's sheet, every second row."""
    images = cut(record.samples[moment], record.shape)
    if record.prior is not None:
        return images
    rows = torch.split(images, 8)
    return torch.cat(rows[1::2])


def _moments(record: Record) -> list[int]:
    """Returns numbers of images seen at about equal steps, the first and the last among them."""
    seen = sorted(record.samples)
    if len(seen) < 2:
        return []
    n = min(SNAPSHOTS, len(seen))
    return [seen[round(i * (len(seen) - 1) / (n - 1))] for i in range(n)]


def _snapshots(record: Record) -> tuple[Picture, ...]:
    return tuple(
        _sheet(
            _made(record, images),
            f"{record.word} images after {images:,} training images",
            f"after {images:,} images",
            pixels=_PIXELS,
        )
        for images in _moments(record)
    )


def _film(record: Record) -> Picture | None:
    """Returns a sheet with a row for each of some latents and a column for each moment."""
    moments = _moments(record)
    if not moments:
        return None
    frames = torch.stack([_made(record, m) for m in moments], dim=1)
    rows = max(1, min(SNAPSHOTS, 2 * _PIXELS // frames[0, :, 0].numel()))
    frames = frames[:rows]
    places = ", ".join(f"{m:,}" for m in moments)
    what = "latent" if record.prior else "image"
    caption = f"One row for each {what}. From left to right: after {places} images."
    alt = f"{len(frames)} {what}s at {len(moments)} moments of the training"
    return sheet(frames.flatten(0, 1), len(moments), alt, caption)


def _sheet(images: Tensor, alt: str, caption: str = "", pixels: int = 4 * _PIXELS) -> Picture:
    """Returns a sheet of eight columns with as many whole rows as the number of pixels allows."""
    rows = max(1, pixels // (8 * images[0, 0].numel()))
    return sheet(images[: min(SHEET, 8 * rows)], 8, alt, caption)


def _is_damage(degradation: nn.Module) -> bool:
    if isinstance(degradation, Chain):
        return any(_is_damage(stage) for stage in degradation)
    return not isinstance(degradation, Identity)


def _steps(record: Record, seed: int) -> tuple[Step, ...]:
    return () if record.prior is None else steps(record.prior, record.degradation, seed=seed)


def _walks(record: Record, seed: int) -> tuple[Walk, ...]:
    return () if record.prior is None else walks(record.prior, record.degradation, seed=seed)


def _findings(record: Record, seed: int) -> Findings | None:
    # What a likelihood does is in the rows above; it has no parameters to tell of.
    if not _is_damage(record.degradation) or isinstance(record.degradation, LearnedLikelihood):
        return None
    learned = any(True for _ in record.degradation.parameters())
    return inspect_degradation(
        record.degradation,
        record.shape,
        # What was given instead of learned is the truth already.
        truth=record.truth if learned else None,
        count=_DRAWS,
        seed=seed,
    )


def _charts(metrics: Sequence[Mapping[str, Any]], findings: Findings | None) -> list[Chart]:
    """Returns a chart for each loss term, learned strength, gradient norm, and for the speed."""
    true = findings.true.summary() if findings and findings.true else {}
    kinds = ("loss", "strength", "grad", "images_per_second")
    keys = dict.fromkeys(key for line in metrics for key in line)
    shown = [key for key in keys if key.split("/")[0] in kinds]
    charts = []
    for key in sorted(shown, key=lambda key: kinds.index(key.split("/")[0])):
        mean = true.get(key.removeprefix("strength/"), {}).get("mean")
        charts.append(_chart(key, metrics, mean))
    return charts


def _proximal(record: Record) -> list[Chart]:
    if not record.proximal:
        return []
    if isinstance(record.degradation, LearnedLikelihood):
        return [
            line_chart(
                "Held-out images",
                [float(images) for images in record.proximal],
                {"bits": list(record.proximal.values())},
                x_label="images seen",
                note="Bits for each value of pairs that were not trained on: the least is the best checkpoint.",
            )
        ]
    return [
        line_chart(
            "Proximal distance",
            [float(images) for images in record.proximal],
            {"distance": list(record.proximal.values())},
            x_label="images seen",
            note="Re-degraded samples to observed images that were not trained on: the least is the best checkpoint.",
        )
    ]


def _chart(key: str, metrics: Sequence[Mapping[str, Any]], true: float | None) -> Chart:
    kind, *rest = key.replace("_", " ").split("/")
    title = {
        "loss": "Loss of {}: {}",
        "grad": "Gradient of {}: {}",
        "strength": "Mean {}",
    }.get(kind, kind.capitalize())
    rows = [line for line in metrics if key in line]
    return line_chart(
        title.format(*rest),
        [float(line["images"]) for line in rows],
        {"mean": [line[key] for line in rows]},
        x_label="images seen",
        rule=None if true is None else ("true mean", true),
        note="" if true is None else f"Dashed: the true mean, {short(true)}.",
    )


def _configuration(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Returns the configuration as flat tables: the run, then data, training and system."""
    nested = {name: value for name, value in config.items() if isinstance(value, Mapping)}
    plain = {name: str(value) for name, value in config.items() if name not in (*nested, "type")}
    first = ("data", "training", "system")
    order = sorted(nested, key=lambda name: first.index(name) if name in first else len(first))
    return {"run": plain} | {name: dict(_flat(nested[name])) for name in order}


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        items = [(str(name), item) for name, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = [(str(i), item) for i, item in enumerate(value)]
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        return [(prefix, text)]
    return [
        pair for name, item in items for pair in _flat(item, f"{prefix}.{name}" if prefix else name)
    ]


def _last_part(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2] or source
