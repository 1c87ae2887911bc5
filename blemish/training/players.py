r"""One phase of an iteration: who is trained, on which loss, by which optimiser.

With parameters :math:`w` of the phase's modules and the phase's weighted loss terms :math:`L_i`, one step is Adam's on

.. math:: g = \frac{1}{N} \sum_{r=1}^{N} \nabla_w \sum_i L_i^{(r)},

the mean over the N processes. All other parameters are constants during the phase, which saves their part of the backward pass.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..systems.base import Phase, System
from .processes import Team

__all__ = ["Player", "Turn"]


@dataclass(frozen=True)
class Turn:
    """What one step of a phase reports.

    Attributes:
        names: The names of the loss terms.
        losses: The terms, averaged over processes, with shape (n,), on the device.
        norms: Each term's gradient norm, on request.
    """

    names: tuple[str, ...]
    losses: Tensor
    norms: dict[str, float]


class Player:
    """The parameters and the optimiser of one phase.

    Arguments:
        system: The system, on its device.
        phase: One of its phases.

    Raises:
        ValueError: If the phase trains nothing, or names a module that the system does not have.
    """

    def __init__(self, system: System, phase: Phase) -> None:
        self.phase = phase
        members = [_trainable(system, phase, group.module) for group in phase.groups]
        rates = [phase.lr * group.rate for group in phase.groups]
        trained = {parameter for group in members for parameter in group}
        if not trained:
            raise ValueError(
                f"phase {phase.name!r} trains nothing: none of its modules has trainable parameters"
            )
        self.parameters: dict[str, nn.Parameter] = {
            name: p for name, p in system.named_parameters() if p in trained
        }
        self._others = [p for p in system.parameters() if p.requires_grad and p not in trained]
        groups = [{"params": m, "lr": lr} for m, lr in zip(members, rates, strict=True)]
        self.optimizer = torch.optim.Adam(groups, lr=phase.lr, betas=phase.betas)

    def due(self, iteration: int) -> bool:
        """Whether the phase runs in this iteration."""
        since = iteration - self.phase.start
        return since >= 0 and since % self.phase.every == 0

    def step(
        self, terms: Callable[[str], dict[str, Tensor]], team: Team, *, norms: bool = False
    ) -> Turn:
        """Takes one step.

        Arguments:
            terms: Maps the phase's name to its weighted loss terms.
            team: The processes that train together.
            norms: Whether each term's gradient norm is measured, at the price of a backward pass for each.
        """
        self.optimizer.zero_grad(set_to_none=True)
        with _frozen(self._others):
            losses = terms(self.phase.name)
            measured = self._norms(losses, team) if norms else {}
            values = torch.stack([loss.detach().float() for loss in losses.values()])
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        team.average([*gradients, values])
        if self.phase.clip < math.inf:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.phase.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return Turn(tuple(losses), values, measured)

    def _norms(self, losses: dict[str, Tensor], team: Team) -> dict[str, float]:
        parameters = list(self.parameters.values())
        result = {}
        for name, loss in losses.items():
            gradients: list[Tensor] = []
            if loss.requires_grad:
                found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
                gradients = [g for g in found if g is not None]
            team.average(gradients)
            result[name] = float(sum(g.square().sum() for g in gradients)) ** 0.5
        return result

    def moments(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, int]]:
        """Returns Adam's first moments, second moments and step counts, by the parameters' names."""
        known = {n: s for n, p in self.parameters.items() if (s := self.optimizer.state.get(p))}
        return (
            {name: state["exp_avg"] for name, state in known.items()},
            {name: state["exp_avg_sq"] for name, state in known.items()},
            {name: int(state["step"]) for name, state in known.items()},
        )

    def load_moments(
        self, first: dict[str, Tensor], second: dict[str, Tensor], steps: dict[str, int]
    ) -> None:
        """Takes over what :meth:`moments` returned."""
        for name, count in steps.items():
            parameter = self.parameters[name]
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(count)),
                "exp_avg": first[name].to(parameter.device, copy=True),
                "exp_avg_sq": second[name].to(parameter.device, copy=True),
            }


def _trainable(system: System, phase: Phase, module: str) -> list[nn.Parameter]:
    try:
        found = system.get_submodule(module)
    except AttributeError:
        names = ", ".join(name for name, _ in system.named_children())
        raise ValueError(
            f"phase {phase.name!r} trains {module!r}, which the system does not have; it has {names}"
        ) from None
    return [p for p in found.parameters() if p.requires_grad]


@contextlib.contextmanager
def _frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
