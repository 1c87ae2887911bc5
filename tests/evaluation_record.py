"""A made-up run that nothing was trained for, as objects and as a folder."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

from blemish import artefacts
from blemish.configuration import encode
from blemish.evaluation import Record
from blemish.functional.random import generator_for
from blemish.recipes import configure
from blemish.training.grids import save_grid

METRICS = [
    {
        "images": 4 * i,
        "iteration": i,
        "seconds": 0.5 * i,
        "images_per_second": 8.0 + i % 3,
        "loss/G/adversarial": 1 / i,
        "loss/D/adversarial": None if i == 3 else math.log(2 * i),
        "loss/D/r1": 0.01 * i,
        "strength/radius": 1 + 0.1 * i,
    }
    for i in range(1, 9)
]


def make_record(recipe: str = "bncr-gan", setting: str | None = "N") -> Record:
    config = configure(recipe, "tiny", setting)
    torch.manual_seed(0)
    system = config.system.build()
    for layer in system.degradation.modules():  # far enough from zero that draws differ
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data.mul_(3)
    return Record(
        config=encode(config),
        prior=system.prior.eval(),
        degradation=system.degradation.eval(),
        metrics=METRICS,
    )


def write_run(folder: Path, recipe: str = "bncr-gan", setting: str | None = "N") -> Path:
    record = make_record(recipe, setting)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(record.config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in METRICS))
    g = generator_for("run")
    for path in ("observed", *(f"samples/{images:010d}" for images in (0, 16, 32))):
        x = torch.rand(16, *record.prior.shape, generator=g)
        save_grid(x, folder / f"{path}.png", columns=8)
    artefacts.save(record.prior, folder / "prior")
    artefacts.save(record.degradation, folder / "degradation")
    return folder
