"""``blemish demo``: the main claim of the package in a few minutes on two CPU cores.

Crisp glyphs are each blurred once by a disk of random radius. Three models see the blurred images alone:
a plain GAN, a BR-GAN that learns the blur beside the images, and, as the bound, an AmbientGAN that is
told the true blur. Two are trained at a time, on one thread each.

``blemish demo perceptual`` is another: restoration by searching a prior; see :mod:`.perceptual_demo`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..data import load_images, open_source
from ..degradations import Chain, LearnedBlur, freeze
from ..evaluation import Column, check_replaceable, comparison_page, inspect_degradation
from ..functional.kernels import disk_radius
from ..functional.random import generator_for
from ..metrics import Extractor, extract, frechet, sharpness, wasserstein1
from ..runs import Run, load
from ..training.progress import waiting
from . import perceptual_demo
from .demo_parts import classifier, labelled_glyphs, train_all
from .sample import sample_images

__all__ = ["run"]

COUNT = 2000
"""The number of images from which each distance is computed."""

RECIPES = ("br-gan", "gan", "ambient-gan")
SETTING = "B"


@dataclass(frozen=True)
class _Sets:
    """The images that the models are compared with, in [0, 1], with shape (COUNT, C, H, W)."""

    clean: Tensor
    degraded: Tensor


def run(
    out: Path | None,
    *,
    what: Literal["damage", "perceptual"] = "damage",
    seed: int = 0,
    images: int | None = None,
) -> int:
    """Trains the models of a demo and writes ``report.html`` and ``summary.json``.

    Models that are trained already are not trained again.

    Arguments:
        out: The folder; None means ``runs/demo``, of ``perceptual`` ``runs/demo-perceptual``.
        what: Whether ``damage`` is learned, or ``perceptual`` restoration shown.
        seed: The seed of every random number.
        images: The number of observed images each model sees; None means the demo's.

    Returns:
        0.

    Raises:
        ValueError: If a training fails; the message names its log.
        FileExistsError: If the folder holds such files that are not of an earlier demo.
    """
    if what == "perceptual":
        return perceptual_demo.run(out or Path("runs/demo-perceptual"), seed=seed, images=images)
    return _damage(out or Path("runs/demo"), seed=seed, images=images)


def _damage(out: Path, *, seed: int, images: int | None) -> int:
    began = time.monotonic()
    page_file, summary_file = out / "report.html", out / "summary.json"
    for file in (page_file, summary_file):
        check_replaceable(file, page=page_file)
    print("Training on blurred glyphs alone: a plain GAN, a BR-GAN, and an AmbientGAN that is told")
    print(f"the true blur. A few minutes on two cores; logs are in {out}/*.log")
    few = [] if images is None else ["--images", str(images)]
    words = ["--preset", "demo", "--setting", SETTING, *few]
    train_all(out, {name: [name, *words] for name in RECIPES}, seed=seed)
    print("Measuring and drawing")
    runs = {name: load(out / name) for name in RECIPES}
    with waiting("measuring and drawing"):
        summary, page = evaluate(runs, _features(runs["gan"]), seed=seed)
    page_file.write_text(page, encoding="utf-8")
    summary_file.write_text(json.dumps(summary, indent=2) + "\n")
    print(_table(summary))
    print(f"{time.monotonic() - began:.0f} seconds. Open {page_file}")
    return 0


def evaluate(runs: dict[str, Run], features: Extractor, *, seed: int) -> tuple[dict[str, Any], str]:
    """Measures the three models.

    Arguments:
        runs: The runs by recipe.
        features: What the Fréchet distances are computed on.
        seed: The seed.

    Returns:
        The summary, and the page.
    """
    sets = _sets(runs["gan"], seed)
    clean, degraded = (extract(features, images) for images in (sets.clean, sets.degraded))
    summary: dict[str, Any] = {
        "seed": seed,
        "features": features.name,
        "count": COUNT,
        "degraded": {
            "frechet": frechet(degraded, clean),
            "sharpness": sharpness(sets.degraded).mean().item(),
        },
        "clean": {"sharpness": sharpness(sets.clean).mean().item()},
    }
    samples = {name: sample_images(run.prior, COUNT, seed=seed) for name, run in runs.items()}
    for name in ("gan", "br-gan", "ambient-gan"):
        found = extract(features, samples[name])
        summary[name] = {
            "frechet": frechet(found, clean),
            "frechet_to_degraded": frechet(found, degraded),
            "sharpness": sharpness(samples[name]).mean().item(),
        }
    summary["br-gan"]["radius_w1"] = _radius_distance(runs["br-gan"], seed)
    return summary, _page(runs, sets, samples, summary, seed)


def _features(run: Run) -> Extractor:
    """Returns what glyphs are compared in."""
    return classifier(*labelled_glyphs(run.prior.shape[-1], run.config.data.channels))


def _sets(run: Run, seed: int) -> _Sets:
    """Returns clean images that no model has seen damaged, and degraded training images."""
    data = run.config.data
    source = open_source(data.source, size=data.size, channels=data.channels)
    unseen = open_source(data.source, size=data.size, channels=data.channels, seed=1)
    truth = run.truth()
    assert truth is not None
    observed = freeze(truth, load_images(source)[:COUNT], seed=seed)
    return _Sets(load_images(unseen)[:COUNT].float() / 255, observed.float() / 255)


@torch.no_grad()
def _radius_distance(run: Run, seed: int) -> float:
    """Returns the Wasserstein distance of learned to true disk radii, in pixels."""
    truth = run.truth()
    assert truth is not None
    shape = (COUNT, *run.prior.shape)
    learned = run.degradation.sample(shape, generator=generator_for(seed, "learned"))
    true = truth.sample(shape, generator=generator_for(seed, "true"))
    radii = [disk_radius(params.stages[0].kernel) for params in (learned, true)]
    return float(wasserstein1(radii[0], radii[1]))


def _page(
    runs: dict[str, Run],
    sets: _Sets,
    samples: dict[str, Tensor],
    summary: dict[str, Any],
    seed: int,
) -> str:
    texts = {
        "gan": ("Plain GAN", "Learns what it sees: it copies the blur."),
        "br-gan": ("BR-GAN", "Saw the same blurred images, and learned clean ones and the blur."),
        "ambient-gan": ("AmbientGAN", "The bound: it was told the true blur."),
    }
    columns = [
        Column(
            "Training images",
            "All that the models see: every glyph is blurred.",
            sets.degraded[:36],
            {"distance to clean": _short(summary["degraded"]["frechet"])},
        )
    ]
    for name, (title, caption) in texts.items():
        numbers = {
            "distance to clean": _short(summary[name]["frechet"]),
            "distance to blurred": _short(summary[name]["frechet_to_degraded"]),
        }
        column = Column(title, caption, samples[name][:36], numbers, marked=name == "br-gan")
        columns.append(column)
    columns.append(
        Column("The truth", "Clean glyphs, which no model ever saw.", sets.clean[:36], {})
    )
    degradation = runs["br-gan"].degradation
    assert isinstance(degradation, Chain)
    assert isinstance(degradation.stages[0], LearnedBlur)
    findings = inspect_degradation(
        degradation,
        runs["br-gan"].prior.shape,
        truth=runs["br-gan"].truth(),
        count=COUNT,
        seed=seed,
    )
    notes = (
        f"Distances are Fréchet distances between {COUNT:,} images and as many clean ones, on the "
        f"features {summary['features']}, a small classifier of clean glyphs: compare them with each "
        "other only."
    )
    title = "Clean images, learned from blurred ones alone"
    page: str = comparison_page(title, columns, findings, summary, notes)
    return page


def _short(distance: float) -> str:
    return f"{distance:.1f}"


def _table(summary: dict[str, Any]) -> str:
    rows = [f"{'':12}{'to clean':>10}{'to blurred':>12}   (Fréchet, {summary['features']})"]
    rows.append(f"{'degraded':12}{summary['degraded']['frechet']:10.2f}")
    for name in ("gan", "br-gan", "ambient-gan"):
        row = summary[name]
        rows.append(f"{name:12}{row['frechet']:10.2f}{row['frechet_to_degraded']:12.2f}")
    rows.append(f"learned radii are {summary['br-gan']['radius_w1']:.2f} px from the true ones")
    rows.append("(a kernel's radius is that of the disk with the same second moment)")
    return "\n".join(rows)
