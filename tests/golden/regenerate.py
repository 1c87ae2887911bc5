"""The first losses of every recipe, tiny, on one thread; as a script, it writes them down anew.

    python tests/golden/regenerate.py

Write them anew only after a change that is meant to change them, and say so in the changelog.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from blemish.configuration import encode
from blemish.functional.random import generator_for, rand
from blemish.recipes import RECIPES, configure, decode_run
from blemish.systems import System
from blemish.training.config import RunConfig

FILE = Path(__file__).with_name("losses.json")
ITERATIONS = 4

Losses = list[dict[str, float]]


def config(recipe: str) -> RunConfig:
    """Returns the recipe, tiny, in setting N, with a small bank of motion kernels."""
    text = json.dumps(encode(configure(recipe, "tiny", "N")))
    return decode_run(json.loads(text.replace('"count": 16384', '"count": 32')))


def observed(batch: int, iteration: int, name: str = "golden", times: int = 4) -> Tensor:
    """Returns the images of an iteration: noise, enlarged to have some shape."""
    small = rand((batch, 3, 4, 4), generator_for(name, iteration))
    x = torch.nn.functional.interpolate(small, scale_factor=times, mode="bilinear")
    return (x * 255).round() / 255


def run(recipe: str) -> Losses:
    """Trains a recipe for a few iterations and returns the loss terms of each."""
    torch.set_num_threads(1)
    c = config(recipe)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system: System = c.system.build()
    optimizers = {}
    for phase in system.phases:
        groups = [
            {"params": list(system.get_submodule(g.module).parameters()), "lr": phase.lr * g.rate}
            for g in phase.groups
        ]
        optimizers[phase.name] = torch.optim.Adam(groups, betas=phase.betas)
    generator = generator_for("golden", recipe)
    # The features of a perceptual loss need 32 pixels.
    times = 8 if recipe == "andgan" else 4
    rows: Losses = []
    for iteration in range(ITERATIONS):
        batch, row = observed(c.training.batch, iteration, times=times), {}
        if system.clean is not None:
            clean = observed(c.training.batch, iteration, "golden clean")
            batch = torch.cat([batch, clean], dim=1)
        system.prepare(batch, generator, iteration)
        for phase in system.phases:
            if iteration < phase.start or (iteration - phase.start) % phase.every:
                continue
            losses = system.losses(phase.name, batch, generator, iteration)
            system.zero_grad()
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            optimizers[phase.name].step()
            row |= {f"{phase.name}/{name}": loss.item() for name, loss in losses.items()}
        rows.append(row)
    return rows


def main() -> None:
    """Writes the losses of every recipe."""
    golden = {recipe: run(recipe) for recipe in RECIPES}
    FILE.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
