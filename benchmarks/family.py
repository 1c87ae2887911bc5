r"""The robust GAN family in small: does each robust GAN beat the plain one?

    python benchmarks/family.py --out docs/results/family --fashion-mnist FOLDER --cifar10 FOLDER
    python benchmarks/family.py --out docs/results/cifar10-small --cifar10-32 FOLDER --settings D \
        --recipes gan br-gan --seeds 0 --images 512000
    python benchmarks/family.py --out docs/results/family-slow --cifar10 FOLDER --settings N --seeds 0 \
        --runs runs/family-slow --set system.lr=2e-4 system.discriminator_rate=1 \
        system.r1=0.3 system.diversity_noise=0.002 system.prior.network.output_gain=1

The first reduces all images to 16 x 16 pixels by area, the second leaves CIFAR-10's at 32 x 32, the
third asks what some choices of a preset are worth.
Each cell (data, setting, recipe, seed) is one run on one thread; two run at a time. A cell that has its
JSON file in --out is not run again, and one that was interrupted goes on from its checkpoint in --runs.
So several calls, each with some of the settings or recipes, make one table; to measure anew what is in
the repository, give another --out.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from blemish import load
from blemish.commands.sample import sample_images
from blemish.data import Images, load_images, open_source
from blemish.degradations import freeze, setting, to_uint8
from blemish.functional.random import generator_for
from blemish.metrics import effnet_lite0, extract, frechet, wasserstein1
from blemish.priors import Prior
from blemish.recipes import configure
from blemish.runs import Run, change, start

COUNT = 3000
SHOWN = 12
SETTINGS = {
    "D": ("gan", "br-gan", "ambient-gan"),
    "R": ("gan", "nr-gan", "ambient-gan"),
    "N": ("gan", "bncr-gan", "ambient-gan"),
    "J": ("gan", "cr-gan"),
}


@dataclass(frozen=True)
class Cell:
    data: str
    setting: str
    recipe: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data}-{self.setting}-{self.recipe}-{self.seed}"


@dataclass(frozen=True)
class Sources:
    train: str
    test: str
    preset: str


def observed(file: Path, images: torch.Tensor, letter: str, seed: int) -> torch.Tensor:
    """Returns the frozen degraded images; the recipes of a setting share them through a file."""
    if not file.exists():
        partial = file.with_suffix(f".{os.getpid()}.npy")
        np.save(partial, freeze(setting(letter), images, seed=seed).numpy())
        partial.replace(file)
    return torch.from_numpy(np.load(file))


@lru_cache(maxsize=2)
def clean(source: str, size: int, channels: int) -> torch.Tensor:
    return load_images(open_source(source, size=size, fit="resize", channels=channels))


def pick(images: torch.Tensor, *parts: int | str) -> torch.Tensor:
    """Returns COUNT images at random: sources are sorted by class."""
    return (
        images[torch.randperm(len(images), generator=generator_for(*parts))[:COUNT]].float() / 255
    )


# Extracting 3,000 images takes half a minute; the recipes of a setting share these two.
@lru_cache(maxsize=2)
def clean_features(source: str, size: int, channels: int) -> torch.Tensor:
    return extract(effnet_lite0(), pick(clean(source, size, channels), "test"))


@lru_cache(maxsize=2)
def damaged_features(file: Path, seed: int) -> torch.Tensor:
    return extract(effnet_lite0(), pick(torch.from_numpy(np.load(file)), "observed", seed))


def summaries(run: Run, seed: int) -> dict[str, Any]:
    """Returns what was learned beside what is true, by quantity."""
    shape = (COUNT, *run.prior.shape)
    truth = run.truth()
    assert truth is not None
    with torch.no_grad():
        learned = run.degradation.sample(shape, generator=generator_for(seed, "l")).summary()
        true = truth.sample(shape, generator=generator_for(seed, "t")).summary()
    rows: dict[str, Any] = {}
    for name, values in learned.items():
        rows[name] = {"mean": values.mean().item(), "std": values.std().item()}
        if name in true:
            rows[name] |= {
                "true_mean": true[name].mean().item(),
                "true_std": true[name].std().item(),
            }
            rows[name]["wasserstein"] = float(wasserstein1(values, true[name]))
    return rows


def measure(
    cell: Cell, sources: Sources, folder: Path, images: int, changes: dict[str, str]
) -> dict[str, Any]:
    torch.set_num_threads(1)
    began = time.monotonic()
    config = configure(cell.recipe, sources.preset, cell.setting)
    config = change(
        config,
        {
            "seed": str(cell.seed),
            "data.source": sources.train,
            "data.fit": "resize",
            "training.images": str(images),
            **changes,
        },
    )
    config = replace(config, training=replace(config.training, keep=1))
    shape = (config.data.size, config.data.channels)
    file = folder / f"{cell.data}-{cell.setting}-{cell.seed}.npy"
    pixels = observed(file, clean(sources.train, *shape), cell.setting, cell.seed)
    run, trained = start(
        config, folder / cell.name, resume=True, device="cpu", images=Images(pixels), silent=True
    )
    if not trained.finished:
        raise SystemExit(f"{cell.name} was stopped; the same command goes on")
    features = effnet_lite0()
    reference = clean_features(sources.test, *shape)
    damaged = damaged_features(file, cell.seed)
    samples = to_uint8(sample_images(run.prior, COUNT, seed=cell.seed)).float() / 255
    found = extract(features, samples)
    lines = run.metrics()
    return {
        **asdict(cell),
        "preset": sources.preset,
        "changes": changes,
        "images": lines[-1]["images"],
        "iterations": lines[-1]["iteration"],
        "features": features.name,
        "count": COUNT,
        "frechet": frechet(found, reference),
        "frechet_to_degraded": frechet(found, damaged),
        "degraded_frechet": frechet(damaged, reference),
        "learned": summaries(run, cell.seed),
        "training_seconds": lines[-1]["seconds"],
        "seconds": time.monotonic() - began,
    }


def table(folder: Path) -> str:
    """Returns the cells as Markdown: one row for each data set and setting, seeds side by side."""
    cells = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    lines = ["| data | setting | degraded images | plain GAN | robust GAN | AmbientGAN | order |"]
    lines.append("|---|---|---|---|---|---|---|")
    for data in sorted({cell["data"] for cell in cells}):
        seeds = sorted({cell["seed"] for cell in cells if cell["data"] == data})
        for letter, (plain, robust, *told) in SETTINGS.items():
            found = {
                (cell["recipe"], cell["seed"]): cell
                for cell in cells
                if cell["data"] == data and cell["setting"] == letter
            }
            if not found:
                continue
            pairs = [(found.get((plain, s)), found.get((robust, s))) for s in seeds]
            holds = [b["frechet"] < a["frechet"] for a, b in pairs if a and b]
            row = [
                data,
                letter,
                _numbers([_first(found, s) for s in seeds], "degraded_frechet"),
                _numbers([found.get((plain, s)) for s in seeds]),
                _numbers([found.get((robust, s)) for s in seeds]),
                _numbers([found.get((told[0], s)) for s in seeds]) if told else ["-"],
                [f"{sum(holds)} of {len(holds)}" if holds else "-"],
            ]
            lines.append(
                "| " + " | ".join(x if isinstance(x, str) else " / ".join(x) for x in row) + " |"
            )
    return "\n".join(lines)


def _first(found: dict[tuple[str, int], dict[str, Any]], seed: int) -> dict[str, Any] | None:
    """Returns a cell of a seed: all of them have the same degraded images."""
    return next((cell for (_, s), cell in found.items() if s == seed), None)


def _cifar(place: Path) -> tuple[str, str]:
    """Returns the training and the test images: two ZIP files of a folder, or CIFAR-10's official form."""
    zips = place / "train.zip", place / "test.zip"
    if all(file.is_file() for file in zips):
        return str(zips[0]), str(zips[1])
    return f"{place}:train", f"{place}:test"


def picture(
    sources: dict[str, Sources], cells: list[Cell], folder: Path, *, samples_only: bool
) -> Image.Image:
    """Returns a row for each data, setting and seed of which all cells are trained.

    A row shows degraded images, samples of each recipe in the order of the cells, clean images; or the
    samples alone, where the data's own pictures may not be shown.
    """
    groups: dict[tuple[str, str, int], list[Prior]] = {}
    for row, members in groupby(cells, lambda cell: (cell.data, cell.setting, cell.seed)):
        runs = [folder / cell.name for cell in members]
        if all((run / "prior").exists() for run in runs):
            groups[row] = [load(run).prior for run in runs]
    if not groups:
        raise SystemExit(f"no setting has all of these cells trained in {folder}; train them first")
    width = max(len(priors) for priors in groups.values())
    rows = []
    for (data, letter, seed), priors in groups.items():
        channels, *shape = priors[0].shape
        panels = [
            *(sample_images(prior, SHOWN, seed=seed) for prior in priors),
            *(torch.ones(SHOWN, channels, *shape) for _ in range(width - len(priors))),
        ]
        if not samples_only:
            frozen = torch.from_numpy(np.load(folder / f"{data}-{letter}-{seed}.npy"))
            test = clean(sources[data].test, shape[0], channels)
            panels = [pick(frozen, "shown"), *panels, pick(test, "shown")]
        rows.append(torch.cat([_tile(panel[:SHOWN]) for panel in panels], dim=2))
    pixels = (torch.cat(rows, dim=1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    return Image.fromarray(pixels.numpy()).resize(
        (2 * pixels.shape[1], 2 * pixels.shape[0]), Image.Resampling.NEAREST
    )


def _tile(images: torch.Tensor) -> torch.Tensor:
    """Puts images in two rows on white paper, with shape (3, H, W)."""
    padded = F.pad(images.expand(-1, 3, -1, -1), (0, 1, 0, 1), value=1.0)
    above, below = (torch.cat(list(half), dim=2) for half in padded.chunk(2))
    return F.pad(torch.cat([above, below], dim=1), (0, 4, 0, 4), value=1.0)


def _numbers(cells: list[dict[str, Any] | None], key: str = "frechet") -> list[str]:
    return ["-" if cell is None else f"{cell[key]:.0f}" for cell in cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files")
    parser.add_argument("--runs", type=Path, default=Path("runs/family"), help="folder of the runs")
    parser.add_argument("--fashion-mnist", type=Path, help="folder of the four IDX files")
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10: its .tar.gz, or a folder")
    parser.add_argument("--cifar10-32", type=Path, help="the same, for images of 32 x 32 pixels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS))
    parser.add_argument("--recipes", nargs="+", help="of the settings' recipes, only these")
    parser.add_argument("--images", type=int, default=300_800)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change presets")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print what is there as Markdown")
    parser.add_argument("--picture", type=Path, help="draw what is there into this file")
    parser.add_argument("--samples-only", action="store_true", help="draw no picture of the data")
    a = parser.parse_args()
    if a.table:
        print(table(a.out))
        return
    changes = dict(item.split("=", 1) for item in a.set)
    sources = {}
    if a.fashion_mnist:
        stem = a.fashion_mnist
        sources["fashion-mnist"] = Sources(
            str(stem / "train-images-idx3-ubyte.gz"),
            str(stem / "t10k-images-idx3-ubyte.gz"),
            "small16-grey",
        )
    cifar = {"cifar10": (a.cifar10, "small16"), "cifar10-32": (a.cifar10_32, "cifar10-small")}
    for name, (folder, preset) in cifar.items():
        if folder:
            sources[name] = Sources(*_cifar(folder), preset)
    cells = [
        Cell(data, letter, recipe, seed)
        for seed in a.seeds
        for data in sources
        for letter in a.settings
        for recipe in SETTINGS[letter]
        if not a.recipes or recipe in a.recipes
    ]
    if a.picture:
        picture(sources, cells, a.runs, samples_only=a.samples_only).save(a.picture)
        return
    a.out.mkdir(parents=True, exist_ok=True)
    a.runs.mkdir(parents=True, exist_ok=True)
    waiting = [cell for cell in cells if not (a.out / f"{cell.name}.json").exists()]
    print(f"{len(cells)} cells, {len(waiting)} to run", flush=True)
    with ProcessPoolExecutor(a.jobs, mp_context=get_context("spawn")) as pool:
        jobs = {
            pool.submit(measure, cell, sources[cell.data], a.runs, a.images, changes): cell
            for cell in waiting
        }
        for job in as_completed(jobs):
            cell = jobs[job]
            result = job.result()
            (a.out / f"{cell.name}.json").write_text(json.dumps(result, indent=2) + "\n")
            print(f"{cell.name}: {result['frechet']:.1f} in {result['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
