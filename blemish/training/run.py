"""What a run is between two iterations, and what hooks see of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..systems.base import System
from .checkpoint import latest_checkpoint
from .config import RunConfig
from .ema import Averages
from .metrics import Meter
from .players import Player
from .processes import Team

__all__ = ["Hook", "Run", "State", "TrainingDiverged", "check_losses", "check_weights"]


@dataclass
class State:
    """Where a run stands; what hooks are given.

    Attributes:
        system: The system that is trained.
        averages: The moving averages of its parts, by name.
        config: The run's configuration.
        out: The run's folder.
        device: The device of this process.
        images: The number of observed images seen.
        iteration: The number of finished iterations.
        seconds: The time spent, over all parts of a resumed run.
    """

    system: System
    averages: Mapping[str, nn.Module]
    config: RunConfig
    out: Path
    device: torch.device
    images: int = 0
    iteration: int = 0
    seconds: float = 0.0


Hook = Callable[[State], None]
"""Called in the main process without gradients: at the start in a folder, once in ``sample_every`` images, at the end
(also when stopped).

It must not change the state.
"""


@dataclass
class Run:
    """A state with what only the loop needs.

    Attributes:
        state: Progress and modules.
        players: The phases' parameters and optimisers.
        averages: The moving averages.
        team: The processes that train together.
        meter: Running means of the losses since the last line of metrics.
        warned: The learned strengths that have left their sane range.
        norms: Gradient norms for the next line of metrics.
        observed: What tells the observed images from others, see ``resume.fingerprint``.
        notes: What differs from the run that goes on, for the reader.
    """

    state: State
    players: list[Player]
    averages: Averages
    team: Team
    meter: Meter = field(default_factory=Meter)
    warned: list[str] = field(default_factory=list)
    norms: dict[str, float] = field(default_factory=dict)
    observed: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class TrainingDiverged(RuntimeError):
    """A loss or a weight became NaN, infinite or absurdly large."""


def check_losses(run: Run) -> None:
    """Checks every loss since the last call.

    Raises:
        TrainingDiverged: If one is NaN or larger than ``training.explode``.
    """
    limit = run.state.config.training.explode
    for name, value in run.meter.largest().items():
        if not value <= limit:
            raise TrainingDiverged(_diverged(run, f"{name} reached {value:g} (limit {limit:g})"))


def check_weights(run: Run) -> None:
    """Checks parameters and buffers, so that no bad checkpoint is written.

    Raises:
        TrainingDiverged: If one is NaN or infinite.
    """
    for name, tensor in run.state.system.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise TrainingDiverged(_diverged(run, f"the weight {name} is not finite"))


def _diverged(run: Run, what: str) -> str:
    good = latest_checkpoint(run.state.out)
    kept = f"the last good checkpoint is {good}" if good else "there is no checkpoint yet"
    return (
        f"training diverged before {run.state.images:,} images: {what}; {kept}. "
        "lower the learning rates or that term's weight and start again, or resume it into another folder"
    )
