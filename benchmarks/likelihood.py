"""A likelihood of damaged photographs: does it tell which clean one is behind, and what helps?

    python benchmarks/likelihood.py TRAIN TEST --out docs/results/likelihood [--preset small] [--arms logistic,shuffled] [--seeds 0]
    python benchmarks/likelihood.py --out docs/results/likelihood                # the table of the cells that are there
    python benchmarks/likelihood.py TRAIN TEST --out docs/results/likelihood --arms logistic --sheet FILE.png

TRAIN and TEST are folders of clean photographs. All arms have the same crops, JPEG, batches and rate, and at most the same
number of iterations: an arm ends early where photographs kept back from TRAIN cost more and more, so that the table says
how many images each saw. They are judged by the best weights on these photographs:

logistic      the recipe
gaussian      its mixtures are of normal laws
no-residual   means are not relative to the clean image's pixels
no-phases     the network is not told the place in JPEG's blocks
no-guesses    all conditions in training are the clean images
shuffled      the control: conditions in training are those of other images

A cell is one arm and seed: OUT/cells/ARM-SEED.json with the scores of `blemish.evaluation.likelihoods` in bits for each
value, on crops of the test photographs that are damaged as those of the training, and what a network says of guesses:
*guess* is the clean image as a search may show it on its way, with contrast, blur and noise of the recipe's
guesses. OUT/cells.json holds all cells, OUT/table.md a table. A stopped training goes on with the same command, from
OUT/runs.

The sheet shows crops of TEST, two in a row: the photograph, its JPEG, and what an arm draws for the photograph.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import arms
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.data import ImageBatches, StreamedImages, batch_indices, open_source
from blemish.degradations import Likelihood, bits_per_dim
from blemish.evaluation import CONDITIONS, judge_likelihood
from blemish.functional.random import generators_for
from blemish.functional.stages import to_8_bits
from blemish.recipes import configure
from blemish.runs import change
from blemish.systems.likelihood import GUESS
from blemish.training.config import RunConfig
from blemish.training.grids import save_grid

NETWORKS: dict[str, dict[str, Any]] = {
    "gaussian": {"family": "gaussian"},
    "no-residual": {"residual": False},
    "no-phases": {"phases": 0},
}
"""What arms change of the network."""

SYSTEMS: dict[str, dict[str, Any]] = {
    "no-guesses": {"guessed": 0.0},
    "shuffled": {"shuffled": True},
}
"""What arms change of the system."""

ARMS = ("logistic", *NETWORKS, *SYSTEMS)
CROPS, SIDE = 384, 64
"""Crops of the test photographs and of the training ones, and their side."""

SHOWN, DRAWN = 128, 8
"""The side of the sheet's crops, and how many it shows."""

MARGIN = 1.5
"""By how many bits a pair is told clearly."""


def config(arm: str, args: Any, seed: int) -> RunConfig:
    """Returns the run of an arm."""
    run = configure("likelihood", args.preset)
    system = run.system
    network = replace(system.degradation.network, **NETWORKS.get(arm, {}))
    degradation = replace(system.degradation, network=network)
    system = replace(system, degradation=degradation, **SYSTEMS.get(arm, {}))
    changes = {"data.source": args.train, "seed": str(seed)}
    if args.images:
        changes["training.images"] = str(args.images)
    return change(replace(run, system=system), changes)


def cell(arm: str, seed: int, args: Any) -> None:
    """Computes a cell, if it is not there."""
    path = arms.cell_path(args.out, arm, seed)
    if path.exists():
        return
    print(f"{arm}-{seed}: begins", flush=True)
    c = config(arm, args, seed)
    run, seconds = arms.trained(c, args.out / "runs" / f"{arm}-{seed}", device=args.device)
    likelihood: Any = run.degradation
    selection = run.selection
    document = {
        "arm": arm,
        "seed": seed,
        "preset": args.preset,
        "images": run.images,
        "parameters": sum(p.numel() for p in likelihood.parameters()),
        "kept": None if selection is None or selection.best is None else selection.best.distance,
        "cpu_seconds": round(seconds, 1),
        **judged(likelihood, c, args.test),
    }
    arms.write_cell(path, document)
    print(f"{arm}-{seed}: {document['bits']}", flush=True)


def judged(likelihood: Likelihood[Any], c: RunConfig, test: str) -> dict[str, Any]:
    """Returns what a likelihood is worth on crops of photographs that it did not see."""
    x, photographs = crops(test)
    y = damaged(c.system.damage, x, 1)
    clean, _ = crops(c.data.source)
    fitted_to = (damaged(c.system.damage, clean, 2), clean)
    found = judge_likelihood(
        likelihood, y, x, seed=0, fitted_to=fitted_to, groups=photographs.tolist()
    )
    return {
        "crops": f"{len(x)} of {SIDE}x{SIDE}",
        "bits": {name: round(found.mean(name), 4) for name in CONDITIONS},
        "guess": round(guessed(likelihood, y, x), 4),
        "margin": round(found.margin, 4),
        "told": round(found.told, 4),
        "told clearly": round(found.told_by(MARGIN), 4),
        "gain": round(found.gain, 4),
        "rival": {"locations": found.rival.locations, "scales": found.rival.scales},
    }


@torch.no_grad()
def guessed(likelihood: Likelihood[Any], y: Tensor, x: Tensor) -> float:
    """Returns the bits for each value, where all conditions are guesses."""
    guesses = damaged(GUESS, x, 3, rounded=False)
    rows = zip(torch.split(y, 16), torch.split(guesses, 16), strict=True)
    found = [bits_per_dim(likelihood.log_prob(a, b), y.shape) for a, b in rows]
    return float(torch.cat(found).mean())


def damaged(damage: Any, x: Tensor, seed: int, *, rounded: bool = True) -> Tensor:
    """Damages images, each by the randomness of its place."""
    B, C, H, W = x.shape
    d = damage.build()
    y = d(x, d.sample((B, C, H, W), generator=generators_for(seed, range(B))))
    return to_8_bits(y) if rounded else y


@torch.no_grad()
def sheet(arm: str, seed: int, args: Any) -> None:
    """Shows what an arm draws."""
    c = config(arm, args, seed)
    run, _ = arms.trained(c, args.out / "runs" / f"{arm}-{seed}", device=args.device)
    law: Any = run.degradation
    x = crops(args.test, SHOWN)[0][:DRAWN]
    drawn = law(x, law.sample(tuple(x.shape), generator=generators_for(4, range(DRAWN))))
    columns = [x, damaged(c.system.damage, x, 1), drawn]
    images = F.pad(torch.stack(columns, dim=1).flatten(0, 1), (2, 2, 2, 2), value=1.0)
    save_grid(images, args.sheet, columns=2 * len(columns))


def crops(folder: str, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Returns crops of photographs, with shape (CROPS, 3, side, side), and of which each is, with shape (CROPS,)."""
    source = open_source(folder, mixed=True, channels=3, smallest=side)
    images = StreamedImages(source, crop=side, keep_jpeg_grid=False, workers=2)
    walk = ImageBatches(images, 0, random_crop=True, ahead=0)
    return walk(0, CROPS), batch_indices(len(images), CROPS, 0, 0)


def table(out: Path) -> str:
    """Returns the table of all cells as Markdown, and writes them into one file."""
    documents = arms.read_cells(out)
    (out / "cells.json").write_text(json.dumps(documents, indent=1) + "\n")
    cells: dict[str, list[dict[str, Any]]] = {}
    for document in documents:
        cells.setdefault(document["arm"], []).append(document)
    head = ["arm", "seeds", *CONDITIONS, "guess", "margin", "told", f"by {MARGIN:g}", "gain"]
    rows = [[*head, "images", "CPU min"]]
    for arm in (arm for arm in ARMS if arm in cells):
        found = cells[arm]
        rows.append(
            [
                arm,
                ", ".join(str(d["seed"]) for d in found),
                *(arms.spread([d["bits"][name] for d in found]) for name in CONDITIONS),
                *(arms.spread([d[name] for d in found]) for name in ("guess", "margin")),
                *(arms.spread([d[name] for d in found], 3) for name in ("told", "told clearly")),
                arms.spread([d["gain"] for d in found]),
                arms.spread([d["images"] for d in found], 0),
                arms.spread([d["cpu_seconds"] / 60 for d in found], 0),
            ]
        )
    return arms.markdown(rows)


def main() -> None:
    """Parses and runs."""
    parser = arms.parser(__doc__ or "", ARMS, "small")
    parser.set_defaults(seeds="0")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png")
    args = parser.parse_args()
    for arm, seed in arms.wanted(args, ARMS):
        if args.sheet:
            sheet(arm, seed, args)
        else:
            cell(arm, seed, args)
    arms.show(args.out, table(args.out))


if __name__ == "__main__":
    main()
