r"""What an iteration costs, before a run: parameters, FLOPs, memory.

Phases are run once on the CPU with a small batch of b images and scaled to the configured batch B: multiplications grow with the
batch, and so do the tensors that a backward pass keeps. A phase that runs every k iterations counts 1/k; of one whose losses have
their terms in turn, the mean over a period counts.

.. math:: \mathrm{memory} \approx 4 P + 4 P_{\mathrm{trained}} + 8 \sum_j P_j + 4 P_{\mathrm{parts}}
          + \frac{B}{b} \max_j A_j

with P parameters (4 bytes each), gradients of one phase at a time, two moments for what phase j trains, averages of the parts, and
the bytes :math:`A_j` that phase j keeps for its backward pass.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..functional.random import generator_for, rand
from ..systems.base import System
from .config import RunConfig
from .players import Player
from .processes import Team

__all__ = ["Cost", "estimate"]


@dataclass(frozen=True)
class Cost:
    """What a run's iteration costs.

    Attributes:
        parameters: The number of parameters of each of the system's modules.
        flops: Floating-point operations of an iteration, by phase (``prepare`` is what comes before them), of convolutions
            and matrix products (a multiplication and an addition count as two); Fourier transforms and elementwise
            operations are not counted.
        state_bytes: Memory for parameters, gradients, moments and averages.
        activation_bytes: Memory that the largest phase keeps for its backward pass.
        batch: The number of observed images in an iteration.
    """

    parameters: dict[str, int]
    flops: dict[str, float]
    state_bytes: int
    activation_bytes: int
    batch: int

    @property
    def flops_per_iteration(self) -> float:
        """The FLOPs of all phases, each as often as it runs."""
        return sum(self.flops.values())

    @property
    def bytes_per_iteration(self) -> int:
        """State and kept activations; an allocator and workspaces come on top."""
        return self.state_bytes + self.activation_bytes

    def __str__(self) -> str:
        """Returns a short table for people."""
        rows = [f"{name}: {count:,} parameters" for name, count in self.parameters.items()]
        rows += [f"phase {n}: {f / 1e9:.4g} GFLOP an iteration" for n, f in self.flops.items()]
        rows += [
            f"in all: {self.flops_per_iteration / 1e9:.4g} GFLOP an iteration of {self.batch} images",
            f"memory: {self.bytes_per_iteration / 2**20:,.0f} MiB an iteration "
            f"({self.state_bytes / 2**20:,.0f} state, {self.activation_bytes / 2**20:,.0f} activations)",
        ]
        return "\n".join(rows)


def estimate(system: System, config: RunConfig, image_shape: Sequence[int]) -> Cost:
    """Measures one small iteration on the CPU; the system is not changed.

    Arguments:
        system: The system, on the CPU.
        config: The run's configuration.
        image_shape: The shape (C, H, W) of observed images.
    """
    training = config.training
    system = copy.deepcopy(system)
    precision = torch.bfloat16 if training.precision == "bf16" else None
    small = min(training.batch, 2)
    team = Team(torch.device("cpu"), 0, 1, lambda: _autocast(precision), lambda tensor: tensor)
    system.autocast = team.autocast
    generator = generator_for(config.seed, "cost")
    batch = rand((small, *image_shape), generator)
    flops, kept = {}, 0
    with _Flops() as counter:
        system.prepare(batch, generator, 0)
    if counter.total:
        flops["prepare"] = counter.total * (training.batch / small)
    players = [Player(system, phase) for phase in system.phases]
    for player in players:
        phase, counted = player.phase, 0
        for iteration in range(phase.start, phase.start + phase.period):
            with _Flops() as counter, _kept_bytes(system) as saved:
                player.step(_terms(system, batch, generator, iteration), team)
            counted += counter.total
            kept = max(kept, saved())
        flops[phase.name] = counted * (training.batch / small) / (phase.period * phase.every)
    trained = [sum(_bytes(p) for p in player.parameters.values()) for player in players]
    averaged = sum(_bytes(p) for p in nn.ModuleDict(dict(system.parts)).parameters())
    return Cost(
        parameters={name: _count(module) for name, module in system.named_children()},
        flops=flops,
        state_bytes=sum(_bytes(p) for p in system.parameters())
        + max(trained)
        + 2 * sum(trained)
        + averaged,
        activation_bytes=round(kept * training.batch / small),
        batch=training.batch,
    )


class _Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the FLOPs of what is executed, backward passes of any order included.

    Below autograd there are no modules, so that gradients with respect to an input leaf are no special case.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out


@contextlib.contextmanager
def _kept_bytes(system: System) -> Iterator[Callable[[], int]]:
    """Measures the distinct memory that is saved for backward passes, parameters aside."""
    own = {t.untyped_storage().data_ptr() for t in system.state_dict().values()}
    # Keeping the tensors alive keeps their addresses distinct.
    seen: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in own:
            seen.setdefault(address, tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield lambda: sum(t.untyped_storage().nbytes() for t in seen.values())


def _terms(
    system: System, batch: Tensor, generator: torch.Generator, iteration: int
) -> Callable[[str], dict[str, Tensor]]:
    return lambda name: system.losses(name, batch, generator, iteration)


def _autocast(dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=dtype) if dtype else contextlib.nullcontext()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
