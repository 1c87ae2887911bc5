"""Does the discrepancy from a prior's styles make restored images more realistic, and what does it take?

    python benchmarks/discrepancy.py TEST --out docs/results/discrepancy \
        --priors none=runs/prior,two=runs/prior-two,all=runs/prior-all [--law runs/jpeg] [--weights 0,1,3,10] [--seeds 0,1,2]
    python benchmarks/discrepancy.py --out docs/results/discrepancy        # the table of the cells that are there

Images of TEST are damaged by JPEG, and restored by the search ``mmd`` from the mean style, with several weights of the
discrepancy, on the spheres of --sphere (start, prior, none); all else is equal. Priors are runs of the recipe
``style-prior`` that differ in ``system.prior.mixing`` and ``system.prior.mixed`` alone: what a sample looks like whose
layers have styles of their own, which is what the discrepancy asks for, a generator learns only where it is trained on
such samples. With --law, the bits of a learned likelihood stand in place of the distance between pixels, for the priors
of --law-priors. For the priors of --own-priors such samples are restored, too, in place of images of TEST, and realism is
the distance to others of them: then the prior is the true one.

A cell is a prior, what is asked of the data, spheres, a weight and a seed of the damage:
OUT/cells/PRIOR-DATA-SPHERE-WEIGHT-SEED.json, with
the distance to the true image (accuracy), that of the damaged restoration to the observed image (fidelity; RMS of
pixels), and the distance of patches to those of other clean images: Fréchet, and the unbiased kernel distance.
OUT/cells.json holds all cells, OUT/table.md the table. *own* is the same distance of samples whose layers have a
draw each.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import arms
import torch
from torch import Tensor

from blemish.bench.judging import distance_for, features_for, patches, picked
from blemish.commands.invert import find_prior
from blemish.degradations import Degradation
from blemish.degradations.plain import plain
from blemish.functional.random import generators_for
from blemish.functional.stages import to_8_bits
from blemish.metrics import extract, frechet, kid, psnr
from blemish.restorers import MMD_SEARCH, LatentSearch, best_found
from blemish.runs import load


def judged(x: Tensor, clean: Tensor, again: Tensor, y: Tensor, real: Tensor) -> dict[str, float]:
    """Returns what restored images are worth."""
    _, distance = distance_for(x.shape[-1])
    features = extract(features_for(x.shape[1]), patches(x))
    found = {
        "accuracy": distance(x, clean).mean(),
        "fidelity": distance(again, y).mean(),
        "rms": (again - y).square().mean(dim=(1, 2, 3)).sqrt().mean(),
        "psnr": psnr(x, clean).mean(),
        "frechet": frechet(features, real),
        "kernel": kid(features, real),
    }
    return {name: round(float(value), 5) for name, value in found.items()}


@torch.no_grad()
def samples(prior: Any, count: int, seed: int) -> Tensor:
    """Returns samples whose layers have a draw each, in [0, 1], with shape (count, C, H, W)."""
    n, layers = generators_for(seed, range(count)), len(prior.features)
    w = torch.stack([prior.map(prior.latents(count, generator=n)) for _ in range(layers)], dim=1)
    images: Tensor = prior.synthesize(w, "W+").clamp(0, 1)
    return images


def cells(args: argparse.Namespace) -> None:
    """Computes the cells that are not there."""
    law: Degradation[Any] | None = load(args.law).degradation if args.law else None
    for pair in args.priors.split(","):
        name, _, folder = pair.partition("=")
        prior = find_prior(folder, tell=lambda text: None).eval().requires_grad_(False)
        channels, side, _ = prior.shape
        clean, others = picked(args.test, side, channels, args.count)
        asked = [("pixels", args.weights)]
        if law is not None and name in args.law_priors.split(","):
            asked.append(("bits", args.law_weights))
        restore(name, prior, law, clean, others, asked, args)
        if name in args.own_priors.split(","):
            clean, others = samples(prior, args.count, 1), samples(prior, len(others), 2)
            restore(f"{name}, own", prior, None, clean, others, asked[:1], args)


def restore(
    name: str,
    prior: Any,
    law: Degradation[Any] | None,
    clean: Tensor,
    others: Tensor,
    asked: list[tuple[str, str]],
    args: argparse.Namespace,
) -> None:
    """Computes the cells of a prior and of clean images."""
    damage = plain(args.degradation)
    extractor = features_for(clean.shape[1])
    real = extract(extractor, patches(others))
    own = kid(extract(extractor, patches(samples(prior, args.count, 0))), real)
    for seed in map(int, args.seeds.split(",")):
        shape = (args.count, *prior.shape)
        params = damage.sample(shape, generator=generators_for(seed, range(args.count)))
        y = to_8_bits(damage(clean, params))
        for what, weights in asked:
            for weight in map(float, weights.split(",")):
                file = f"{name.replace(', ', '-')}-{what}-{args.sphere}-{weight:g}-{seed}.json"
                path = args.out / "cells" / file
                if path.exists():
                    check(path, args)
                    continue
                begin = time.process_time()
                told = law if what == "bits" else None
                config = replace(MMD_SEARCH, sphere=args.sphere, mmd=weight)
                search = LatentSearch(prior, told, config)
                found = best_found(search.eval().requires_grad_(False).searches(y))
                seconds = time.process_time() - begin
                x, total = found.images.clamp(0, 1), found.path["total"]
                at = (total.argmin(dim=0), torch.arange(args.count))
                terms = {k: round(float(v[at].mean()), 6) for k, v in found.path.items()}
                scores = judged(x, clean, to_8_bits(damage(x, params)), y, real)
                document = {"prior": name, "data": what, "sphere": args.sphere, "weight": weight}
                document |= {
                    "seed": seed,
                    "count": args.count,
                    "degradation": args.degradation,
                    **scores,
                }
                document |= {"terms": terms, "own": round(own, 5)}
                arms.write_cell(path, {**document, "cpu_seconds": round(seconds, 1)})
                print(path.stem, scores, flush=True)


def check(path: Path, args: argparse.Namespace) -> None:
    """Stops where a cell is one of other images."""
    found = json.loads(path.read_text())
    for name in ("count", "degradation"):
        if found[name] != getattr(args, name):
            raise SystemExit(f"{path} has {name}={found[name]}: choose another --out")


def table(out: Path) -> str:
    """Returns the table of all cells as Markdown, and writes them into one file."""
    documents = arms.read_cells(out)
    (out / "cells.json").write_text(json.dumps(documents, indent=1) + "\n")
    grouped: dict[tuple[str, str, str, float], list[dict[str, Any]]] = {}
    order = ("start", "prior", "none")
    for d in sorted(
        documents,
        key=lambda d: (order.index(d["sphere"]), d["data"] == "bits", d["prior"], d["weight"]),
    ):
        grouped.setdefault((d["prior"], d["data"], d["sphere"], d["weight"]), []).append(d)
    scores = {"accuracy": 3, "fidelity": 3, "rms": 4, "psnr": 2, "frechet": 0, "kernel": 2}
    rows = [
        ["mixed styles", "data", "sphere", "weight", "seeds", *scores, "mmd", "own", "s for all"]
    ]
    for (prior, data, sphere, weight), found in grouped.items():
        rows.append(
            [
                prior,
                data,
                sphere,
                f"{weight:g}",
                ", ".join(str(d["seed"]) for d in found),
                *(arms.spread([d[name] for d in found], n) for name, n in scores.items()),
                arms.spread([d["terms"]["mmd"] for d in found], 3),
                arms.spread([d["own"] for d in found]),
                arms.spread([d["cpu_seconds"] for d in found], 0),
            ]
        )
    return arms.markdown(rows)


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("test", nargs="?")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--priors", default="")
    parser.add_argument("--law")
    parser.add_argument("--law-priors", default="")
    parser.add_argument("--own-priors", default="")
    parser.add_argument("--sphere", choices=("start", "prior", "none"), default="start")
    parser.add_argument("--weights", default="0,1,3,10")
    parser.add_argument("--law-weights", default="0,3")
    parser.add_argument("--degradation", default="jpeg:10-30")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--seeds", default="0,1,2")
    args = parser.parse_args()
    if args.test:
        cells(args)
    arms.show(args.out, table(args.out))


if __name__ == "__main__":
    main()
