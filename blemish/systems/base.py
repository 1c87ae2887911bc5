r"""What a system is: how parts are trained together.

A system holds networks and says, as data, in which phases they are trained. The training loop knows
nothing else about it:

.. code-block:: python

    for phase in system.phases:
        losses = system.losses(phase.name, batch, generator, iteration)   # their sum is minimised
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..functional.random import Randomness

__all__ = ["RUNNING_AWAY", "Group", "Phase", "Strength", "System"]


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
        period: After how many iterations the losses have the same terms again (lazy regularisation).
    """

    name: str
    groups: tuple[Group, ...]
    lr: float
    betas: tuple[float, float]
    every: int = 1
    start: int = 0
    average: bool = False
    period: int = 1


RUNNING_AWAY = "the learned degradation may be running away"


class Strength(NamedTuple):
    """A quantity to watch, such as a learned strength, and the range in which it is plausible.

    Attributes:
        value: The mean since the last report.
        sane: The lowest and the highest plausible value.
        beyond: What it may mean that the value is beyond them.
    """

    value: float
    sane: tuple[float, float]
    beyond: str = RUNNING_AWAY


class System(nn.Module, abc.ABC):
    """Networks and the losses by which they are trained together.

    Attributes:
        autocast: A context in which networks run in the training precision; set by the loop.
    """

    autocast: Callable[[], AbstractContextManager[Any]] = staticmethod(contextlib.nullcontext)

    @property
    @abc.abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The players' turns, in order."""

    @property
    @abc.abstractmethod
    def parts(self) -> Mapping[str, nn.Module]:
        """What training is for, by name: ``prior``, ``degradation``, ``restorer``.

        Their moving averages are kept, and saved as artefacts.
        """

    @property
    @abc.abstractmethod
    def ema_decay(self) -> float:
        """The decay of the moving averages, per iteration."""

    def prepare(self, batch: Tensor, generator: Randomness, iteration: int) -> None:
        """Runs once an iteration, before the phases; by default it does nothing.

        Arguments:
            batch: Observed images in [0, 1] of this process, with shape (B, C, H, W).
            generator: The source of randomness.
            iteration: The number of finished iterations.
        """

    @abc.abstractmethod
    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        """Returns the weighted loss terms of a phase, scalars; their sum is minimised.

        Arguments:
            phase: The name of one of :attr:`phases`.
            batch: Observed images in [0, 1] of this process, with shape (B, C, H, W).
            generator: The source of randomness.
            iteration: The number of finished iterations.
        """

    def strengths(self) -> dict[str, Strength]:
        """Returns learned strengths, and what else is to be watched, since the last call.

        They are for the log and its warnings.
        """
        return {}
