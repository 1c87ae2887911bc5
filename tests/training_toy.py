"""A tiny adversarial system for the tests of the training loop; as a script, it runs one training.

usage: python training_toy.py OUT IMAGES RESUME [--set field=value ...]    with RESUME one of: no, yes, a folder
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from blemish.configuration import override
from blemish.functional.random import Randomness, rand, randn
from blemish.systems.base import Group, Phase, Strength, System
from blemish.training.config import DataConfig, RunConfig, TrainingConfig
from blemish.training.loop import TrainResult, build, train

SIZE = 6


class Toy(System):
    """A generator of 1x6x6 images, a shift as its degradation, a discriminator with R1 (double backward)."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        lr: float = 2e-3
        r1: float = 1.0
        bomb: int = -1
        """The iteration in which a loss becomes NaN."""

        def build(self) -> Toy:
            return Toy(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.generator = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, SIZE * SIZE))
        self.shift = nn.Linear(2, 1)
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(64, 1)
        )
        self.fixed = nn.Linear(2, 2).requires_grad_(False)
        self.register_buffer("prepared", torch.zeros(()))

    @property
    def phases(self) -> tuple[Phase, ...]:
        lr, betas = self.config.lr, (0.0, 0.99)
        made = (Group("generator"), Group("shift", 0.1))
        return (
            Phase("D", (Group("discriminator"),), lr, betas),
            Phase("G", made, lr, betas, average=True),
            Phase("late", (Group("shift"),), lr, betas, every=3, start=4),
        )

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        return {"prior": self.generator, "degradation": self.shift}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 1, SIZE, SIZE

    @property
    def ema_decay(self) -> float:
        return 0.9

    def prepare(self, batch: Tensor, generator: Randomness, iteration: int) -> None:
        self.prepared += 1

    def fake(self, n: int, generator: Randomness) -> Tensor:
        with self.autocast():
            images = self.generator(randn((n, 3), generator)).view(n, 1, SIZE, SIZE).sigmoid()
            shift = self.shift(randn((n, 2), generator)).view(n, 1, 1, 1)
        return images.float() + shift.float()

    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        fake = self.fake(batch.shape[0], generator)
        if phase == "late":
            return {"mean": (fake.mean(dim=(1, 2, 3)) - 0.4).square().mean()}
        scores = self.discriminator(fake if phase == "G" else fake.detach())
        if phase == "G":
            bomb = torch.nan if iteration == self.config.bomb else 1.0
            return {"adversarial": bomb * nn.functional.softplus(-scores).mean()}
        real = batch.requires_grad_().view_as(batch)
        judged = self.discriminator(real)
        (slope,) = torch.autograd.grad(judged.sum(), real, create_graph=True)
        adversarial = nn.functional.softplus(-judged) + nn.functional.softplus(scores)
        penalty = self.config.r1 * slope.square().sum(dim=(1, 2, 3)).mean()
        return {"adversarial": adversarial.mean(), "r1": penalty}

    def strengths(self) -> dict[str, Strength]:
        return {"shift": Strength(float(self.shift.bias.detach()), (10.0, 20.0))}


def toy_batches(images_seen: int, batch: int) -> Tensor:
    rows = torch.arange(images_seen, images_seen + batch) % 40
    generator = torch.Generator().manual_seed(5)
    return rand((40, 1, SIZE, SIZE), generator)[rows]


def toy_config(images: int = 160, **training: object) -> RunConfig:
    settings: dict[str, object] = {
        "batch": 8,
        "log_every": 16,
        "sample_every": 80,
        "checkpoint_every": 40,
    }
    return RunConfig(
        recipe="toy",
        preset="tiny",
        seed=3,
        data=DataConfig(),
        system=Toy.Config(),
        training=TrainingConfig(images=images, **{**settings, **training}),  # type: ignore[arg-type]
    )


def run_toy(
    out: Path, config: RunConfig | None = None, resume: Path | bool | None = None, **options: object
) -> TrainResult:
    config = config or toy_config()
    options = {"device": "cpu", "silent": True, **options}
    return train(build(config), toy_batches, config, out, resume=resume, **options)  # type: ignore[arg-type]


def slow_batches(images_seen: int, batch: int) -> Tensor:
    time.sleep(0.02)
    return toy_batches(images_seen, batch)


def main() -> None:
    out, images, resume, *changes = sys.argv[1:]
    torch.set_num_threads(1)
    config = toy_config(int(images))
    slow = "--slow" in changes
    for change in changes:
        if change != "--slow":
            config = override(config, *change.split("=", 1))
    source = {"no": None, "yes": True}.get(resume, Path(resume))
    batches = slow_batches if slow else toy_batches
    result = train(build(config), batches, config, Path(out), resume=source, device="cpu")
    print("finished" if result.finished else "stopped")


if __name__ == "__main__":
    main()
