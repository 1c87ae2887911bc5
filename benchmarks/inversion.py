r"""Restoration by inversion with and without knowledge of the damage: who comes near the truth, task by task?

    python benchmarks/inversion.py PRIOR UNIVERSAL IMAGES --out docs/results/inversion [--tasks U-M,N-M] [--seeds 0,1,2]
    python benchmarks/inversion.py --out docs/results/inversion                # the table of the cells that are there

PRIOR and UNIVERSAL are runs or artefacts; IMAGES are clean images that neither was trained on, brought to the prior's
size. Tasks are those of `blemish.degradations.TASKS`, and two more:

clean   no damage: what the prior can make of an image at all
toy     a disk blur and Gaussian noise, with gradients of its own

Methods, beside the damaged images themselves (enlarged, where they were reduced):

pulse           the sphere of Z, with the known damage
non-blind       W, W+, W++, with the known damage; of the toy, its noise is known as well: the oracle
blind           the same without any damage
universal       V, W, W+, W++ with the universal model, whose codes are read off the damaged image
universal-no-v  the same without the phase V

Known are kind, level and strokes of a damage, neither noise nor dropped pixels, and what is inverted is its
differentiable stand-in. Who knows nothing gets reduced images enlarged bicubically to the prior's size.

A cell is one task, method and seed of the damage: OUT/cells/TASK-METHOD-SEED.json with *accuracy*, the distance of the
restored images to the true ones; *fidelity*, that of the restored images, damaged again by the true damage with all that
was drawn, to the damaged ones; *realism*, a Fréchet distance of patches to those of other clean images; PSNR; and
seconds of CPU time. Features are those of EfficientNet-Lite0 where it is installed; names say what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemish.artefacts import digest
from blemish.bench.cells import clean_images
from blemish.commands.encode import find_model
from blemish.commands.invert import find_prior
from blemish.degradations import (
    TASKS,
    Blur,
    Chain,
    Degradation,
    DiskLaw,
    GaussianNoise,
    Identity,
    UniversalDegradation,
    approximation,
    known_mask,
    redrawn,
    task,
    to_uint8,
)
from blemish.functional.random import generator_for, rand, randn
from blemish.functional.resample import bicubic, repeated
from blemish.losses import Distance, texture_distance
from blemish.metrics import (
    Features,
    effnet_lite0,
    extract,
    frechet,
    frechet_title,
    perceptual,
    perceptual_network,
    pixels,
    psnr,
)
from blemish.priors import Prior
from blemish.restorers import Inverter, inverter_for, search_distance
from blemish.types import Params, Shape

METHODS = ("pulse", "non-blind", "blind", "universal", "universal-no-v")
DAMAGED = "damaged"
"""Stands for a method: the damaged images as they are."""

TOY = Chain.Config(
    (Blur.Config(DiskLaw(radius=(1.5, 1.5), size=5)), GaussianNoise.Config((0.1, 0.1)))
)
OWN = {"clean": Identity.Config(), "toy": TOY}
"""Tasks of this script, which are their own stand-ins and of which everything is known."""

DEFAULT = "clean,toy,U-M,N-M,A-M,P-M,UNAP"
PATCHES = 16
"""Patches of each image, of half its side, on which realism is measured."""

KINDS = {"A": "accuracy", "F": "fidelity", "R": "realism"}


@dataclass(frozen=True)
class Bench:
    """What all cells share.

    Attributes:
        prior: The prior.
        model: The universal model.
        clean: The images that are damaged and restored, in [0, 1], with shape (N, C, S, S).
        distance: The distance of accuracy and fidelity, and its name.
        features: The features of realism.
        real: Those of patches of other clean images.
        args: The command line.
        facts: What a cell says about all this.
    """

    prior: Prior
    model: UniversalDegradation
    clean: Tensor
    distance: tuple[str, Distance]
    features: Features
    real: Tensor
    args: argparse.Namespace
    facts: dict[str, Any]

    @classmethod
    def of(cls, args: argparse.Namespace) -> Bench:
        """Loads everything."""
        prior = find_prior(args.prior).eval().requires_grad_(False)
        model = find_model(args.universal, None, "cpu").requires_grad_(False)
        channels, side, _ = prior.shape
        images = clean_images(args.source, side, channels).float() / 255
        order = torch.randperm(len(images), generator=generator_for("images"))
        if len(images) <= args.images:
            raise SystemExit(
                f"{args.source} has {len(images)} images; realism needs others than the {args.images} restored"
            )
        name, distance = distance_for(side)
        features = features_for(channels)
        others = images[order[args.images : 9 * args.images]]
        facts = {
            "size": side,
            "images": args.images,
            "steps": args.steps,
            "prior": digest(prior),
            "model": digest(model),
            "distance": name,
            "realism of": f"patch {frechet_title(features.name)}, {len(others)} clean images",
        }
        real = extract(features, patches(others))
        clean = images[order[: args.images]]
        return cls(prior, model, clean, (name, distance), features, real, args, facts)


def distance_for(side: int) -> tuple[str, Distance]:
    """Returns a distance for images of a side, and its name."""
    try:
        network = perceptual_network()
    except ModuleNotFoundError:
        return "distance of textures", texture_distance
    if side < network.SMALLEST:
        return "distance of textures", texture_distance
    return network.name, lambda x, y: perceptual(x, y, network)


def features_for(channels: int) -> Features:
    """Returns what patches are compared on."""
    try:
        return effnet_lite0(64)
    except ModuleNotFoundError:
        return pixels(8, channels)


def patches(images: Tensor) -> Tensor:
    """Cuts squares of half the side out of images, at places that depend on the image's number alone."""
    side = images.shape[-1] // 2
    found = []
    for i, image in enumerate(images):
        places = (rand((PATCHES, 2), generator_for("patch", i)) * (side + 1)).long()
        found += [image[:, a : a + side, b : b + side] for a, b in places.tolist()]
    return torch.stack(found)


@dataclass(frozen=True)
class Case:
    """Images as a task damages them.

    Attributes:
        damage: The true damage.
        params: What was drawn of it.
        y: The damaged images, as files hold them, with shape (N, C, S / scale, S / scale).
        told: What stands for the damage where it is inverted.
        known: What is known of the params; all else is drawn anew.
    """

    damage: Degradation[Any]
    params: Params
    y: Tensor
    told: Degradation[Any]
    known: Params

    @classmethod
    def of(cls, name: str, x: Tensor, seed: int) -> Case:
        """Damages images; what befalls one depends on the seed and on its number alone."""

        def streams(use: str) -> list[torch.Generator]:
            return [generator_for(use, name, seed, i) for i in range(len(x))]

        B, C, H, W = x.shape
        shape: Shape = (B, C, H, W)
        damage = OWN[name].build() if name in OWN else task(name)
        params = damage.sample(shape, generator=streams("damage"))
        y = to_uint8(damage(x, params)).float() / 255
        if name in OWN:
            return cls(damage, params, y, damage, params)
        told = approximation(TASKS[name]).build()
        known = redrawn(told, params, shape, generator=streams("restorer"))
        return cls(damage, params, y, told, known)

    @property
    def enlarged(self) -> Tensor:
        """The damaged images at the size of the true ones."""
        H, W = (self.damage.scale * side for side in self.y.shape[-2:])
        return bicubic(self.y, (H, W)).clamp(0, 1) if self.damage.scale > 1 else self.y


def restored(bench: Bench, case: Case, method: str, seed: int) -> Tensor:
    """Returns what a method makes of damaged images."""
    if method == DAMAGED:
        return case.enlarged
    args = bench.args
    if method in ("pulse", "non-blind"):
        inverter = inverter_for(method, bench.prior, case.told, steps=args.steps, seed=seed)
        return informed(inverter, case, seed)
    if method == "blind":
        return inverter_for("blind", bench.prior, steps=args.steps, seed=seed)(case.enlarged)
    inverter = inverter_for("universal", bench.prior, bench.model, steps=args.steps, seed=seed)
    if method == "universal-no-v":
        assert inverter.config.phases is not None
        inverter.config = replace(inverter.config, phases=inverter.config.phases[1:])
    return inverter(case.enlarged)


def informed(inverter: Inverter, case: Case, seed: int) -> Tensor:
    """Restores by what is known of the damage; what strokes hide is not compared."""
    inverter.estimate = lambda y, generator: case.known
    mask = known_mask(case.params)
    if mask is not None:
        stream = generator_for("fill", seed)

        def distance(damaged: Tensor, observed: Tensor) -> Tensor:
            # The same numbers for all images, so that none depends on how many there are.
            fill = randn((1, *damaged.shape[1:]), stream).expand_as(damaged)
            return search_distance(damaged, observed, mask, fill)

        inverter.distance = distance
    return inverter(case.y)


@torch.no_grad()
def judged(bench: Bench, case: Case, x: Tensor, method: str) -> dict[str, Any]:
    """Returns what restored images are worth; damaged ones are not damaged again."""
    again = to_uint8(case.damage(x, case.params)).float() / 255
    scale = case.damage.scale
    # Features need large images: pixels of reduced ones are shown as the blocks that they stand for.
    shown, observed = repeated(again, scale), repeated(case.y, scale)
    distance = bench.distance[1]
    accuracy, fidelity = distance(x, bench.clean), distance(shown, observed)
    return {
        "accuracy": round(float(accuracy.mean()), 5),
        "fidelity": None if method == DAMAGED else round(float(fidelity.mean()), 5),
        "realism": round(frechet(extract(bench.features, patches(x)), bench.real), 4),
        "psnr": round(float(psnr(x, bench.clean).mean()), 3),
        "accuracies": [round(v, 5) for v in accuracy.tolist()],
    }


def cell(name: str, method: str, seed: int, bench: Bench) -> None:
    """Computes a cell, if it is not there."""
    path = cell_path(bench.args, name, method, seed)
    if path.exists():
        return
    case = Case.of(name, bench.clean, seed)
    begin = time.process_time()
    x = restored(bench, case, method, seed)
    seconds = time.process_time() - begin
    document = {
        "task": name,
        "method": method,
        "seed": seed,
        **judged(bench, case, x, method),
        "cpu_seconds": round(seconds, 2),
        **bench.facts,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document) + "\n")
    scores = ", ".join(f"{n} {document[n]}" for n in (*KINDS.values(), "psnr", "cpu_seconds"))
    print(f"{path.stem}: {scores}", flush=True)


def cell_path(args: argparse.Namespace, name: str, method: str, seed: int) -> Path:
    """Returns where a cell is written."""
    path: Path = args.out / "cells" / f"{name}-{method}-{seed}.json"
    return path


def table(out: Path) -> str:
    """Returns the tables of all cells as Markdown, and what they are not."""
    cells = [json.loads(path.read_text()) for path in sorted((out / "cells").glob("*.json"))]
    if not cells:
        raise SystemExit(f"{out} has no cells")
    facts = ("size", "images", "steps", "prior", "model", "distance", "realism of")
    if len({tuple(c[n] for n in facts) for c in cells}) > 1:
        raise SystemExit(f"{out} mixes cells of several models or protocols; use a folder for each")
    methods = [m for m in (DAMAGED, *METHODS) if any(c["method"] == m for c in cells)]
    names = [n for n in (*OWN, *TASKS) if any(c["task"] == n for c in cells)]

    def rows(columns: Sequence[tuple[str, str, int]]) -> str:
        heads = [f"{title}: {m}" for title, _, _ in columns for m in methods]
        lines = [["task", *heads], ["---"] * (1 + len(heads))]
        for n in names:
            found = [
                spread([c[key] for c in cells if (c["task"], c["method"]) == (n, m)], digits)
                for _, key, digits in columns
                for m in methods
            ]
            lines.append([n, *found])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

    scores = rows([("A", "accuracy", 3), ("F", "fidelity", 3), ("R", "realism", 1)])
    others = rows([("PSNR", "psnr", 1), ("CPU s", "cpu_seconds", 1)])
    return f"{scores}\n{others}\n{note(cells)}\n"


def note(cells: list[dict[str, Any]]) -> str:
    """Returns how the numbers came about."""
    one = cells[0]
    seeds = sorted({c["seed"] for c in cells})
    steps = "150 steps a phase (100 of pulse)" if one["steps"] is None else f"{one['steps']} steps"
    return (
        f"A (accuracy) and F (fidelity): {one['distance']}, lower is better. R (realism): {one['realism of']}, lower is "
        f"better. Means over {one['images']} images of {one['size']}x{one['size']} pixels and the seeds "
        f"{', '.join(map(str, seeds))} [lowest, highest seed]; {steps}; seconds for all images together. The report's "
        "table has another prior (StyleGAN of faces), other sizes, and LPIPS and FID of patches on other networks: rows "
        "can be compared within this table, numbers with that table cannot. Its column L-BRGM is not here."
    )


def spread(values: Sequence[float | None], digits: int) -> str:
    """Returns a mean, and the lowest and highest of several values; nothing of none."""
    numbers = [v for v in values if v is not None]
    if not numbers:
        return ""
    mean = sum(numbers) / len(numbers)
    if len(numbers) == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} [{min(numbers):.{digits}f}, {max(numbers):.{digits}f}]"


def known(text: str, allowed: Sequence[str], fail: Callable[[str], Any]) -> list[str]:
    """Returns the names of a list, all of which must be known."""
    names = text.split(",")
    for name in names:
        if name not in allowed:
            fail(f"{name}: choose {', '.join(allowed)}")
    return names


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("prior", nargs="?")
    parser.add_argument("universal", nargs="?")
    parser.add_argument("source", nargs="?", metavar="images")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", default=DEFAULT)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--images", type=int, default=8, help="images restored; default: 8")
    parser.add_argument("--steps", type=int, help="steps of each phase; default: the methods'")
    args = parser.parse_args()
    tasks = known(args.tasks, (*OWN, *TASKS), parser.error)
    methods = (DAMAGED, *known(args.methods, METHODS, parser.error))
    if args.prior is not None:
        if args.source is None:
            parser.error("give PRIOR, UNIVERSAL and IMAGES, or none of them")
        bench = Bench.of(args)
        for seed in map(int, args.seeds.split(",")):
            for name in tasks:
                for method in methods:
                    if (name, method) != ("clean", DAMAGED):
                        cell(name, method, seed, bench)
    text = table(args.out)
    (args.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
