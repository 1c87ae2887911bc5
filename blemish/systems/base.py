r"""What a system is: how parts are trained together.

A system holds networks and says, as data, in which phases they are trained. The training loop knows nothing else about it:

.. code-block:: python

    for phase in system.phases:
        losses = system.losses(phase.name, batch, generator)   # named, weighted terms; their sum is minimised
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..functional.random import Randomness

__all__ = ["Group", "Phase", "System"]


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate.

    Attributes:
        module: The name of a submodule of the system.
        rate: The learning rate relative to the phase's.
    """

    module: str
    rate: float = 1.0


@dataclass(frozen=True)
class Phase:
    """One player's turn in an iteration.

    Attributes:
        name: The name passed to :meth:`System.losses`.
        groups: What is trained in this phase.
        lr: Adam's learning rate.
        betas: Adam's decay rates.
        every: The phase runs once in this many iterations.
        start: The first iteration in which the phase runs.
        average: Whether the moving averages of the parts are updated after it.
    """

    name: str
    groups: tuple[Group, ...]
    lr: float
    betas: tuple[float, float]
    every: int = 1
    start: int = 0
    average: bool = False


class System(nn.Module, abc.ABC):
    """Networks and the losses by which they are trained together.

    Attributes:
        autocast: A context in which networks run in the training precision; set by the training loop.
    """

    autocast: Callable[[], AbstractContextManager[Any]] = staticmethod(contextlib.nullcontext)

    @property
    @abc.abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The players' turns, in order."""

    @property
    @abc.abstractmethod
    def parts(self) -> Mapping[str, nn.Module]:
        """The artefacts that training produces, by name: ``prior``, ``degradation``, ``restorer``. They are what is averaged (EMA)."""

    @property
    @abc.abstractmethod
    def ema_decay(self) -> float:
        """The decay of the moving average of the parts, per iteration."""

    def prepare(self, batch: Tensor, generator: Randomness, iteration: int) -> None:
        """Runs once an iteration, before the phases."""

    @abc.abstractmethod
    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        """Returns the weighted loss terms of a phase; their sum is minimised.

        Arguments:
            phase: The name of one of :attr:`phases`.
            batch: Observed images in [0, 1] of this process, with shape (B, C, H, W).
            generator: The source of randomness.
            iteration: The number of finished iterations.
        """

    @abc.abstractmethod
    def strengths(self) -> dict[str, tuple[float, tuple[float, float]]]:
        """Returns learned strengths since the last call, each with its sane range (low, high); the loop logs them and warns outside it."""
