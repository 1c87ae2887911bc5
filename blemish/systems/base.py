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
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from ..degradations import Identity
from ..functional.random import Randomness
from ..functional.resample import repeated

__all__ = ["RUNNING_AWAY", "Clean", "Group", "ImageShape", "Phase", "Strength", "System"]

Clean = Literal["partners", "set"]
"""Which clean images a system is taught with: the partner of each observed one, or any."""

ImageShape = tuple[int, int | None, int | None]
"""The shape (C, H, W) of images; None for a side that may be any."""


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
        clip: The largest norm of the gradient of all its parameters; a longer one is shortened to it.
    """

    name: str
    groups: tuple[Group, ...]
    lr: float
    betas: tuple[float, float]
    every: int = 1
    start: int = 0
    average: bool = False
    period: int = 1
    clip: float = math.inf


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
        clean: Which clean images it is taught with; None: observed images are all it sees. Of a system
            that is, the batches hold both, channel after channel: observed images first.
        given: The parts that are not learned but handed to it, trained before.
        continued: The parts that may be handed to it, to go on training from there.
        watched: Whether :meth:`judged` tells how good it is on images that it is not trained on.
        autocast: A context in which networks run in the training precision; set by the loop.
    """

    clean: ClassVar[Clean | None] = None
    given: ClassVar[tuple[str, ...]] = ()
    continued: ClassVar[tuple[str, ...]] = ()
    watched: ClassVar[bool] = False
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
    def image_shape(self) -> ImageShape:
        """The shape (C, H, W) that observed images must have; None for a side that may be any."""

    @property
    @abc.abstractmethod
    def ema_decay(self) -> float:
        """The decay of the moving averages, per iteration."""

    def lacks(self, name: str) -> bool:
        """Whether a part of :attr:`given` still has to be handed over; by default one with weights, or an identity."""
        part = self.get_submodule(name)
        return bool(part.state_dict()) or isinstance(part, Identity)

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

    def shown(self, batch: Tensor, generator: Randomness) -> Tensor:
        """Returns what is shown of a batch to a restorer, say; by default the batch.

        Arguments:
            batch: Images of the run in [0, 1], with shape (B, C, H, W).
            generator: The source of randomness.
        """
        return batch

    def compared(
        self, y: Tensor, parts: Mapping[str, nn.Module], generator: Randomness
    ) -> tuple[Tensor, Tensor]:
        """Returns images and what is made of them, of one size, to be looked at one above the other.

        By default a restorer makes its estimates; a pixel that it enlarges stands for the block that it became.

        Arguments:
            y: What :meth:`shown` returned, with shape (B, C, H, W).
            parts: The averaged :attr:`parts`.
            generator: The source of randomness.
        """
        restorer: Any = parts["restorer"]
        return repeated(y, restorer.scale), restorer(y)

    def judged(
        self, batch: Tensor, parts: Mapping[str, nn.Module], generator: Randomness
    ) -> Tensor:
        """Returns how far off averaged parts are on images that they are not trained on, with shape (B,); less is better.

        Arguments:
            batch: Images of the run in [0, 1], as :meth:`losses` gets them.
            parts: The averaged :attr:`parts`.
            generator: The source of randomness; a call with the same images and generator has the same result.
        """
        raise NotImplementedError(f"{type(self).__name__} is not judged: it is not watched")

    def strengths(self) -> dict[str, Strength]:
        """Returns learned strengths, and what else is to be watched, since the last call.

        They are for the log and its warnings.
        """
        return {}
