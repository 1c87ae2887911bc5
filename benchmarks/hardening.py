"""Restorers hardened by the worst small damage beside their rivals, over damage that none of them was told of.

    python benchmarks/hardening.py TRAIN TEST --out docs/results/hardening [--arms and,bicubic] [--seeds 0,1,2]
    python benchmarks/hardening.py --out docs/results/hardening                # the table of the cells that are there

TRAIN and TEST are folders of clean photographs. All arms have the same network, crops, batches, rate and number of
images (preset `tiny`, --scale 2), and their radii and reach are those of the presets, which
`benchmarks/neural.py radii` matches on training photographs; two have other lengths:

upsampling    bicubic enlargement, nothing trained
bicubic       the reduction alone: classical super-resolution
bicubic-time  the same for as much CPU time as `and` took (its cell must be there)
noise         the worst noise, as strong as `and`
random        random perturbations, as strong as `and`
no-identity   perturbed networks that are no identity
bsrgan        the damage of BSRGAN
and           the worst perturbations

A cell is one arm and seed: OUT/cells/ARM-SEED.json with the PSNR on Y of every picture under every damage of the grid
(`blemish.evaluation.robustness`). A stopped training goes on with the same command, from OUT/runs.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import arms
import torch
from torch import Tensor

from blemish.data import open_source
from blemish.degradations import BSRGAN
from blemish.evaluation.robustness import CLEAN, Profile, robustness
from blemish.functional.resample import bicubic
from blemish.recipes import configure, with_scale
from blemish.restorers import FeedForward
from blemish.runs import change
from blemish.systems import Synthetic
from blemish.training.config import RunConfig
from blemish.training.metrics import read_metrics

RECIPES = {
    "bicubic": "andnet-bicubic",
    "bicubic-time": "andnet-bicubic",
    "noise": "andnet-noise",
    "random": "andnet-random",
    "no-identity": "andnet-no-identity",
    "bsrgan": "andnet",
    "and": "andnet",
}
ARMS = ("upsampling", "bicubic", "bicubic-time", "noise", "random", "no-identity", "bsrgan", "and")
FOREVER = 1000
"""How many times as many images `bicubic-time` may see before its time is over."""


def config(arm: str, args: argparse.Namespace, seed: int) -> RunConfig:
    """Returns the run of an arm."""
    run = with_scale(configure(RECIPES[arm], args.preset), args.scale)
    images = args.images or run.training.images
    changes = {"data.source": args.train, "seed": str(seed)}
    if args.images or arm == "bicubic-time":
        changes["training.images"] = str(images * (FOREVER if arm == "bicubic-time" else 1))
    if arm == "bicubic-time":
        every = str(run.training.batch * 1000)
        changes |= {f"training.{name}_every": every for name in ("log", "sample", "checkpoint")}
    if arm == "bsrgan":
        s = run.system
        given = Synthetic.Config(
            restorer=s.restorer,
            degradation=BSRGAN.Config(args.scale),
            simulator=f"bsrgan:{args.scale}",
            lr=s.lr,
            betas=s.betas,
            ema=s.ema,
        )
        run = replace(run, recipe="synthetic", system=given)
    return change(run, changes)


def trained(arm: str, args: argparse.Namespace, seed: int) -> tuple[FeedForward, dict[str, Any]]:
    """Trains an arm, or goes on, and returns its restorer and what it took."""
    folder = args.out / "runs" / f"{arm}-{seed}"
    limit = math.inf
    if arm == "bicubic-time":
        path = arms.cell_path(args.out, "and", seed)
        if not path.exists():
            raise SystemExit(f"{path} is missing: run the arm `and` of seed {seed} first")
        limit = json.loads(path.read_text())["cpu_seconds"]
    run, seconds = arms.trained(config(arm, args, seed), folder, limit=limit)
    lines = read_metrics(folder / "metrics.jsonl")
    deviations = [
        line["strength/deviation_db"] for line in lines if "strength/deviation_db" in line
    ]
    took = {"images": run.images, "cpu_seconds": round(seconds, 1)}
    if deviations:
        took["deviation_db"] = round(sum(deviations) / len(deviations), 2)
    restorer = run.restorer
    assert isinstance(restorer, FeedForward)
    return restorer, took


def cell(arm: str, seed: int, args: argparse.Namespace) -> None:
    """Computes a cell, if it is not there."""
    path = arms.cell_path(args.out, arm, seed)
    if path.exists():
        return
    print(f"{arm}-{seed}: begins", flush=True)
    scale, took = args.scale, {}
    if arm == "upsampling":

        def restore(y: Tensor) -> Tensor:
            return bicubic(y, (scale * y.shape[-2], scale * y.shape[-1]))
    else:
        restore, took = trained(arm, args, seed)  # type: ignore[assignment]
    source = open_source(args.test, mixed=True, channels=3)
    profile = robustness(restore, source, scale)
    document = {
        "arm": arm,
        "seed": seed,
        "preset": args.preset,
        "scale": scale,
        **took,
        "pictures": [source.name(i) for i in range(len(source))],
        "clean": round(profile.clean, 4),
        "mean": round(profile.mean, 4),
        "worst": [round(profile.worst[0], 4), profile.worst[1]],
        "scores": {
            n: [[round(v, 4) for v in row] for row in rows] for n, rows in profile.scores.items()
        },
    }
    arms.write_cell(path, document)
    print(f"{arm}-{seed}: mean {profile.mean:.3f}, clean {profile.clean:.3f}, {took}", flush=True)


def table(out: Path) -> str:
    """Returns the table of all cells as Markdown, with paired differences to `bicubic`."""
    cells: dict[str, dict[int, dict[str, Any]]] = {}
    for document in arms.read_cells(out):
        cells.setdefault(document["arm"], {})[document["seed"]] = document
    names = [n for n in next(iter(next(iter(cells.values())).values()))["scores"] if n != CLEAN]
    head = ["arm", "seeds", "mean of unseen", "minus bicubic [95 %]", "worst", "clean", *names]
    head += ["CPU min", "deviation, dB"]
    base = cells.get("bicubic", {})
    found = [_row(arm, cells[arm], base, names) for arm in ARMS if arm in cells]
    return arms.markdown([head, *found])


def _row(arm: str, mine: dict[int, Any], base: dict[int, Any], names: list[str]) -> list[str]:
    profiles = {seed: Profile(document["scores"]) for seed, document in mine.items()}
    difference = "-"
    if arm != "bicubic" and base:
        gains = torch.tensor(
            [
                [a - b for a, b in zip(p.pictures, _profile(base, seed).pictures, strict=True)]
                for seed, p in profiles.items()
            ],
            dtype=torch.float64,
        )
        difference = _interval(gains)
    worst = min((p.worst for p in profiles.values()), key=lambda pair: pair[0])
    columns = [_mean([_mean(p.column(n)) for p in profiles.values()]) for n in names]
    minutes = [d["cpu_seconds"] / 60 for d in mine.values() if "cpu_seconds" in d]
    deviations = [d["deviation_db"] for d in mine.values() if "deviation_db" in d]
    return [
        arm,
        ", ".join(map(str, sorted(profiles))) if arm != "upsampling" else "-",
        f"{_mean([p.mean for p in profiles.values()]):.3f}",
        difference,
        f"{_mean([p.worst[0] for p in profiles.values()]):.2f} ({worst[1]})",
        f"{_mean([p.clean for p in profiles.values()]):.2f}",
        *(f"{value:.2f}" for value in columns),
        f"{_mean(minutes):.1f}" if minutes else "-",
        f"{_mean(deviations):.1f}" if deviations else "-",
    ]


def _profile(base: dict[int, Any], seed: int) -> Profile:
    """Returns the classical run of the same seed, or of the first where nothing was trained."""
    return Profile(base.get(seed, base[min(base)])["scores"])


def _interval(gains: Tensor) -> str:
    """Returns the mean gain and its interval over pictures, whose gains are means over seeds.

    Two-sided, by Student's t: the pictures are the sample, and the seeds are averaged first.
    """
    pictures = gains.mean(dim=0)
    n = len(pictures)
    half = float(_student(n - 1) * pictures.std() / math.sqrt(n))
    mean = float(pictures.mean())
    seeds = ", ".join(f"{float(row.mean()):+.3f}" for row in gains)
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}] (seeds {seeds})"


def _student(freedom: int) -> float:
    """Returns the 97.5th percentile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    """Parses and runs."""
    parser = arms.parser(__doc__ or "", ARMS, "tiny")
    parser.add_argument("--scale", type=int, default=2)
    args = parser.parse_args()
    # What `bicubic-time` is measured by comes first.
    every = sorted(arms.wanted(args, ARMS), key=lambda pair: (pair[1], pair[0] == "bicubic-time"))
    first = min((seed for _, seed in every), default=0)
    for arm, seed in every:
        # Where nothing is trained, all seeds are one.
        if arm != "upsampling" or seed == first:
            cell(arm, seed, args)
    arms.show(args.out, table(args.out))


if __name__ == "__main__":
    main()
