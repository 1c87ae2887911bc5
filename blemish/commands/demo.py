"""``blemish demo``: the main claim of the package in a few minutes on two CPU cores.

Crisp glyphs are each blurred once by a disk of random radius. Three models see the blurred images alone:
a plain GAN, a BR-GAN that learns the blur beside the images, and, as the bound, an AmbientGAN that is
told the true blur. Two are trained at a time, on one thread each.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import load_images, open_source
from ..degradations import Chain, LearnedBlur, freeze
from ..evaluation import Column, check_replaceable, comparison_page, inspect_degradation
from ..functional.kernels import disk_radius
from ..functional.random import generator_for
from ..metrics import Extractor, extract, frechet, sharpness, train_classifier, wasserstein1
from ..runs import Run, load
from ..training.progress import waiting
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


def run(out: Path, *, seed: int = 0, images: int | None = None) -> int:
    """Trains the three models and writes ``report.html`` and ``summary.json``.

    Models that are trained already are not trained again.

    Arguments:
        out: The folder.
        seed: The seed of every random number.
        images: The number of observed images each model sees; None means the preset's.

    Returns:
        0.

    Raises:
        ValueError: If a training fails; the message names its log.
        FileExistsError: If the folder holds such files that are not of an earlier demo.
    """
    began = time.monotonic()
    page_file, summary_file = out / "report.html", out / "summary.json"
    for file in (page_file, summary_file):
        check_replaceable(file, page=page_file)
    print("Training on blurred glyphs alone: a plain GAN, a BR-GAN, and an AmbientGAN that is told")
    print(f"the true blur. A few minutes on two cores; logs are in {out}/*.log")
    _train(out, seed=seed, images=images)
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
    """Trains a small classifier of clean glyphs, the same for all models and seeds.

    Features of a network for photographs do worse here: on flat drawings they take an invisible grain
    for twice the distance of the whole blur.
    """
    size, channels = run.config.data.size, run.config.data.channels
    source = open_source("glyphs", size=size, channels=channels, seed=2)
    labels = torch.tensor([source.label(i) for i in range(len(source))])
    return train_classifier(load_images(source), labels, seed=0, name="glyphs-cnn32")


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


def _train(out: Path, *, seed: int, images: int | None) -> None:
    """Trains all recipes, two at a time, one thread each.

    Raises:
        ValueError: If one fails; the message names its log.
    """
    out.mkdir(parents=True, exist_ok=True)
    waiting = [(name, _command(name, out, seed, images)) for name in RECIPES]
    running: dict[str, subprocess.Popen[bytes]] = {}
    with contextlib.ExitStack() as stack:
        stack.callback(_stop, running)
        bars = stack.enter_context(_bars(out))
        while waiting or running:
            while waiting and len(running) < 2:
                name, command = waiting.pop(0)
                log = stack.enter_context((out / f"{name}.log").open("ab"))
                environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
                running[name] = subprocess.Popen(
                    command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
                )
            time.sleep(0.5)
            bars.update()
            for name in [name for name, process in running.items() if process.poll() is not None]:
                if running.pop(name).returncode:
                    raise ValueError(_failure(name, out))


def _failure(name: str, out: Path) -> str:
    """Returns what a training said last."""
    log = out / f"{name}.log"
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    said = lines[-1] if lines else "it said nothing"
    hint = ""
    if "another configuration" in said:
        hint = (
            f"; {out} holds a demo of another seed or version: remove it, or choose another --out"
        )
    return f"training {name} failed; its log is {log}: {said}{hint}"


def _command(name: str, out: Path, seed: int, images: int | None) -> list[str]:
    words = [sys.executable, "-m", "blemish", "train", name, "--data", "glyphs"]
    words += ["--preset", "demo", "--setting", SETTING, "--seed", str(seed)]
    words += ["--device", "cpu", "--out", str(out / name), "--resume"]
    return words if images is None else [*words, "--images", str(images)]


def _stop(running: dict[str, subprocess.Popen[bytes]]) -> None:
    for process in running.values():
        process.terminate()
    for process in running.values():
        process.wait()


class _Bars:
    """A progress bar for each run, read from its metrics."""

    def __init__(self, out: Path, bar: Any) -> None:
        self.out, self.bar = out, bar
        self.tasks = {name: bar.add_task(name, total=None) for name in RECIPES}

    def update(self) -> None:
        """Reads how far the runs are."""
        for name, task in self.tasks.items():
            seen, total = _seen(self.out / name)
            if seen:
                self.bar.update(task, completed=seen, total=total)


@contextlib.contextmanager
def _bars(out: Path) -> Iterator[_Bars]:
    """A context in which the bars are shown."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description:12}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns) as bar:
        yield _Bars(out, bar)


def _seen(folder: Path) -> tuple[int, int]:
    """Returns the numbers of images that a run has seen and will have seen."""
    if not (folder / "metrics.jsonl").exists():
        return 0, 0
    run: Run = load(folder)
    lines = run.metrics()
    return (lines[-1]["images"] if lines else 0), run.config.training.images
