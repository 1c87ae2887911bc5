"""The universal degradation model: does it read damage off one photograph and put it onto another, and what helps?

    python benchmarks/universal.py TRAIN TEST --out docs/results/universal [--preset small] [--arms full,no-ida] [--seeds 0]
    python benchmarks/universal.py --out docs/results/universal                # the table of the cells that are there
    python benchmarks/universal.py TRAIN TEST --out docs/results/universal --arms full --seeds 0 --sheet FILE.png

TRAIN and TEST are folders of clean photographs. All arms have the same crops, damage, batches, rate and number of
iterations:

full                 the recipe
uncrossed            codes are read off the image itself, as in the paper: content is left out by its price alone
no-ida               its layers scale and shift, but do not filter
no-iden              no map e_l
neither              neither filters nor map
free                 bits cost nothing; rounding is imitated
uncrossed-free       both
uncrossed-unrounded  the same, and nothing is rounded in training
cheap, dear          bits cost a quarter, or four times, as much
k-low, k-high        a bit of the embedding costs 1.5 or n - 1 bits of the map, in place of the root of n

A cell is one arm and seed: OUT/cells/ARM-SEED.json with the scores of `blemish.evaluation.transfer` on crops of the test
photographs: with the recipe's damage; with local damage on all (*direct*), with e_l left out (*global only*), and with the
local damage of one image and the global one of another (*mixed*); how much *noise* the model draws in units of the
damage's; how far each kind of damage goes by itself; how far apart embeddings of the same damage are, in units of those of
other damage (*alike*); what probes read in the embedding; and what codes cost in bits. A stopped training goes on with the
same command, from OUT/runs.

The sheet shows an arm's first draws of damage on crops of TEST, a row for each: the photograph whose damage is read,
another one, the model's transfer onto it, and the same damage put onto it in truth.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import arms
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.data import ImageBatches, StreamedImages, open_source
from blemish.degradations import Degradation, UniversalDegradation, renewed
from blemish.evaluation.transfer import (
    SCORES,
    Transfer,
    judge_mixed,
    judge_transfer,
    probe,
    randomness,
    ratio,
)
from blemish.functional.random import generators_for
from blemish.functional.stages import to_8_bits
from blemish.recipes import configure
from blemish.runs import change
from blemish.training.config import RunConfig
from blemish.training.grids import save_grid

NETWORKS: dict[str, dict[str, Any]] = {
    "no-ida": {"ida": False},
    "no-iden": {"local": 0},
    "neither": {"ida": False, "local": 0},
}
"""What arms change of the redegrader."""

SYSTEMS: dict[str, dict[str, Any]] = {
    "uncrossed": {"crossed": 0.0},
    "free": {"compression": "noise"},
    "uncrossed-free": {"crossed": 0.0, "compression": "noise"},
    "uncrossed-unrounded": {"crossed": 0.0, "compression": "none"},
}
"""What arms change of the system."""

RATES = {"cheap": 0.25, "dear": 4.0}
"""By what arms multiply the price."""

ARMS = ("full", *SYSTEMS, *NETWORKS, *RATES, "k-low", "k-high")
CROPS = 24 * 16
"""Crops of the test photographs, for each of the two contents."""

STEPS = {
    "noise": "noise_sigma",
    "blur": "blur_sigma",
    "shake": "motion_length",
    "contrast": "contrast_gain",
}
"""The steps of the damage, each with a parameter that is NaN where it does not befall an image."""

SHOWN, ROWS = 192, 6
"""The side of the sheet's crops, and how many it shows."""


def config(arm: str, args: argparse.Namespace, seed: int) -> RunConfig:
    """Returns the run of an arm."""
    run = configure("universal", args.preset)
    system = run.system
    network = system.degradation.redegrader
    cells = (run.data.size // network.ratio) ** 2
    prices = {"k-low": {"k": 1.5}, "k-high": {"k": cells - 1.0}}
    prices |= {name: {"rate": factor * system.rate} for name, factor in RATES.items()}
    changed = replace(system.degradation, redegrader=replace(network, **NETWORKS.get(arm, {})))
    chosen = {**SYSTEMS.get(arm, {}), **prices.get(arm, {})}
    run = replace(run, system=replace(system, degradation=changed, **chosen))
    changes = {"data.source": args.train, "seed": str(seed)}
    if args.images:
        changes["training.images"] = str(args.images)
    return change(run, changes)


def cell(arm: str, seed: int, args: argparse.Namespace) -> None:
    """Computes a cell, if it is not there."""
    path = arms.cell_path(args.out, arm, seed)
    if path.exists():
        return
    print(f"{arm}-{seed}: begins", flush=True)
    c = config(arm, args, seed)
    folder = args.out / "runs" / f"{arm}-{seed}"
    run, seconds = arms.trained(c, folder, device=args.device)
    document = {
        "arm": arm,
        "seed": seed,
        "preset": args.preset,
        "images": run.images,
        "cpu_seconds": round(seconds, 1),
        **judged(run.degradation, c, args.test),
    }
    arms.write_cell(path, document)
    print(f"{arm}-{seed}: {document['direct']}", flush=True)


def judged(model: UniversalDegradation, c: RunConfig, test: str) -> dict[str, Any]:
    """Returns what a model is worth on crops of photographs that it did not see."""
    damage = c.system.damage
    x_b, x_a = contents(test, c.data.size, 0), contents(test, c.data.size, 1)
    everywhere = replace(damage, local=1.0).build()
    direct = judge_transfer(model, damage.build(), x_b, x_a, seed=1)
    alone = judge_transfer(model, replace(damage, local=0.0).build(), x_b, x_a, seed=2)
    local = judge_transfer(model, everywhere, x_b, x_a, seed=3)
    plain = judge_transfer(model, everywhere, x_b, x_a, seed=3, local=False)
    mix = judge_mixed(model, everywhere, x_b, x_a, seed=4)
    return {
        "direct": summary(direct),
        "homogeneous": summary(alone),
        "local": summary(local),
        "global only": summary(plain),
        "mixed": {n: round(v, 5) for n, v in mix.items()},
        "probes": probes(direct, x_b),
        "kinds": kinds([direct, alone]),
        "randomness": round(randomness(model, damage.build(), x_b, seed=5), 3),
        "alike": round(ratio(model, [same_damage(damage.build(), x_b, x_a, seed=6)]), 3),
    }


def same_damage(
    damage: Degradation[Any], x_b: Tensor, x_a: Tensor, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Returns two contents with the same damage, row by row, whose noise was drawn for each."""
    B, C, H, W = x_b.shape
    theta, fresh = (
        damage.sample((B, C, H, W), generator=generators_for(seed + n, range(B))) for n in (0, 100)
    )
    return to_8_bits(damage(x_b, theta)), to_8_bits(damage(x_a, renewed(theta, fresh)))


@torch.no_grad()
def sheet(arm: str, seed: int, args: argparse.Namespace) -> None:
    """Shows what an arm transfers."""
    run, _ = arms.trained(config(arm, args, seed), args.out / "runs" / f"{arm}-{seed}")
    x_b, x_a = (contents(args.test, SHOWN, half)[:ROWS] for half in (0, 1))
    y_b, y_a = same_damage(run.config.system.damage.build(), x_b, x_a, seed=0)
    code = run.degradation.encode(y_b, generator=generators_for(1, range(ROWS)))
    columns = [y_b, x_a, run.degradation(x_a, code).clamp(0, 1), y_a]
    images = F.pad(torch.stack(columns, dim=1).flatten(0, 1), (2, 2, 2, 2), value=1.0)
    save_grid(images, args.sheet, columns=len(columns))


def contents(folder: str, side: int, half: int) -> Tensor:
    """Returns crops of photographs, with shape (CROPS, 3, side, side); the halves are of other photographs."""
    source = open_source(folder, mixed=True, channels=3, smallest=side)
    images = StreamedImages(source, crop=side, keep_jpeg_grid=False, workers=2)
    count = len(images)
    epochs = -(-CROPS // count)
    crops = torch.cat(
        [
            ImageBatches(images, epoch, random_crop=True, ahead=0)(0, count)
            for epoch in range(epochs)
        ]
    )[:CROPS]
    # The same walk, half a round on: another photograph stands in each place.
    return crops.roll(count // 2, 0) if half else crops


def summary(t: Transfer) -> dict[str, float]:
    """Returns mean scores, and what follows from them."""
    means = {name: round(t.mean(name), 5) for name in SCORES}
    return {
        **means,
        "skill": round(t.skill, 4),
        "transferred": round(t.transferred, 4),
        "gap": round(t.gap, 5),
        "swap": round(t.swap, 4),
        "bits_g": round(float(t.bits_g.mean()), 2),
        "bits_l": round(float(t.bits_l.mean()), 2),
        "active": t.active,
    }


def kinds(found: list[Transfer]) -> dict[str, dict[str, float]]:
    """Returns how far transfer goes for images that one step alone befell, beside the file's JPEG that befalls all."""
    drawn = {n: torch.cat([t.drawn[n] for t in found]) for n in STEPS.values()}
    scores = {n: torch.cat([t.scores[n] for t in found]) for n in SCORES}
    there = torch.stack([~v.isnan() for v in drawn.values()])
    rows = {"JPEG": there.sum(dim=0) == 0}
    rows |= {name: there[i] & (there.sum(dim=0) == 1) for i, name in enumerate(STEPS)}
    document = {}
    for name, chosen in rows.items():
        mean = {n: float(v[chosen].mean()) for n, v in scores.items()}
        span = mean["identity"] - mean["oracle"]
        shares = {n: (mean["identity"] - mean[n]) / span for n in ("reproduction", "transfer")}
        document[name] = {"images": int(chosen.sum()), "span": round(span, 5)}
        document[name] |= {n: round(share, 3) for n, share in shares.items()}
    return document


def probes(t: Transfer, x: Tensor) -> dict[str, float]:
    """Returns how much of the damage, and of the content, is read linearly in the embedding."""
    detail = (x.diff(dim=-1).square().mean(dim=(1, 2, 3))).sqrt()
    content = {"brightness": x.mean(dim=(1, 2, 3)), "detail": detail}
    damage = {n: t.drawn[n] for n in ("noise_sigma", "blur_sigma", "jpeg_quality", "contrast_gain")}
    return {n: round(probe(t.codes, v), 3) for n, v in {**damage, **content}.items()}


def table(out: Path) -> str:
    """Returns the table of all cells as Markdown."""
    cells: dict[str, list[dict[str, Any]]] = {}
    for document in arms.read_cells(out):
        cells.setdefault(document["arm"], []).append(document)
    head = ["arm", "seeds", "skill", "transfer's", "gap", "swap", "noise"]
    head += ["direct", "global only", "mixed", "bits e_g", "bits e_l", "active"]
    head += ["alike", "noise R2", "blur R2", "brightness R2", "CPU min"]
    rows = [head]
    for arm in (arm for arm in ARMS if arm in cells):
        found = cells[arm]

        def column(*keys: str, digits: int = 3, found: list[dict[str, Any]] = found) -> str:
            return arms.spread([value_at(d, keys) for d in found], digits)

        rows.append(
            [
                arm,
                ", ".join(str(d["seed"]) for d in found),
                column("direct", "skill", digits=2),
                column("direct", "transferred", digits=2),
                column("direct", "gap", digits=4),
                column("direct", "swap", digits=2),
                column("randomness", digits=2),
                column("local", "reproduction", digits=4),
                column("global only", "reproduction", digits=4),
                column("mixed", "model", digits=4),
                column("direct", "bits_g", digits=0),
                column("direct", "bits_l", digits=0),
                column("direct", "active", digits=0),
                column("alike", digits=2),
                *(
                    column("probes", n, digits=2)
                    for n in ("noise_sigma", "blur_sigma", "brightness")
                ),
                arms.spread([d["cpu_seconds"] / 60 for d in found], 0),
            ]
        )
    return arms.markdown(rows)


def value_at(document: dict[str, Any], keys: tuple[str, ...]) -> float:
    """Returns a number of a cell."""
    value: Any = document
    for key in keys:
        value = value[key]
    return float(value)


def main() -> None:
    """Parses and runs."""
    parser = arms.parser(__doc__ or "", ARMS, "small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sheet", type=Path, help="a picture of what the arms transfer, one arm")
    args = parser.parse_args()
    for arm, seed in arms.wanted(args, ARMS):
        cell(arm, seed, args)
        if args.sheet is not None:
            sheet(arm, seed, args)
    arms.show(args.out, table(args.out))


if __name__ == "__main__":
    main()
