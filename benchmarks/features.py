r"""How small may images be for EfficientNet-Lite0 to rank damages as it does at 224 pixels? And is it monotone?

    python benchmarks/features.py --train CIFAR/train.zip --test CIFAR/test.zip --out docs/results/features

The test images of CIFAR-10 are damaged by each setting A to T; the Fréchet distance of each version to
training images is measured on features of images resized to each of --sizes. For each size it prints
Spearman's correlation with the largest of them. A size whose file is in --out is not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from selection import spearman
from torch import Tensor

from blemish.data import load_images, open_source
from blemish.degradations import freeze, setting
from blemish.functional.random import generator_for
from blemish.metrics import Moments, effnet_lite0, extract, frechet_distance

SETTINGS = "ABCDEFGHIJKLMNOPQRST"
RANKED = "ABCDEFGHIJKLMNOPQR"
CHAINS = ("AEFGD", "AKLMJ", "AIHTS", "AOPQN")
"""Settings of growing damage."""


def pick(images: Tensor, count: int, name: str) -> Tensor:
    """Returns images at random: the sources are sorted by class."""
    return images[torch.randperm(len(images), generator=generator_for(name))[:count]]


def measure(size: int, train: Tensor, versions: dict[str, Tensor]) -> dict[str, object]:
    began = time.monotonic()
    features = effnet_lite0(size)
    reference = Moments.of(extract(features, train))
    distances = {}
    for letter, images in versions.items():
        found = Moments.of(extract(features, images))
        distances[letter] = frechet_distance(found.mean, found.cov, reference.mean, reference.cov)
        print(f"{features.name} {letter}: {distances[letter]:.2f}", flush=True)
    return {
        "features": features.name,
        "count": len(train),
        "distances": distances,
        "milliseconds_per_image": 1000
        * (time.monotonic() - began)
        / (len(train) * (len(versions) + 1)),
    }


def agreement(a: dict[str, float], b: dict[str, float]) -> float:
    return spearman([a[letter] for letter in RANKED], [b[letter] for letter in RANKED])


def table(folder: Path) -> str:
    found = sorted(
        (json.loads(file.read_text()) for file in folder.glob("*.json")),
        key=lambda one: int(one["features"].partition("@")[2]),
    )
    largest = found[-1]["distances"]
    lines = [f"| size | {' | '.join(SETTINGS)} | rank correlation A to R | growing | ms/image |"]
    lines.append("|---" * (len(SETTINGS) + 4) + "|")
    for one in found:
        d = one["distances"]
        growing = [chain for chain in CHAINS if sorted(chain, key=d.get) == list(chain)]
        lines.append(
            f"| {one['features'].partition('@')[2]} | "
            + " | ".join(f"{d[letter]:.1f}" for letter in SETTINGS)
            + f" | {agreement(d, largest):.3f} | {', '.join(growing) or '-'} "
            + f"| {one['milliseconds_per_image']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="CIFAR-10's training images")
    parser.add_argument("--test", help="its test images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files")
    parser.add_argument("--count", type=int, default=3000, help="images of each set")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 48, 64, 80, 96, 128, 160, 224])
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    waiting = [size for size in a.sizes if not (a.out / f"{size}.json").exists()]
    if waiting and a.train:
        train = pick(load_images(open_source(a.train)), a.count, "train")
        clean = pick(load_images(open_source(a.test)), a.count, "test")
        versions = {s: freeze(setting(s), clean, seed=a.seed) for s in SETTINGS}
        for size in waiting:
            result = measure(size, train, versions)
            (a.out / f"{size}.json").write_text(json.dumps(result, indent=2) + "\n")
    text = table(a.out)
    (a.out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
