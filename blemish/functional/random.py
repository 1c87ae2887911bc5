r"""Explicit randomness that does not depend on how a batch is cut.

Every ``sample`` in the package draws through :func:`rand` and :func:`randn`, whose source of randomness is one of

* a :class:`torch.Generator`: one stream for the whole batch, on the generator's device (training);
* a sequence of B generators: row :math:`i` is drawn from generator :math:`i` alone, so that a sample is the same in any batch
  (frozen degraded copies and everything written to disk: one generator per (seed, index), on the CPU);
* a :class:`Shard`: the rows of one process out of a batch that all processes draw alike, so that the number of
  processes does not change the numbers.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Randomness",
    "Shard",
    "device_of",
    "generator_for",
    "generators_for",
    "rand",
    "randn",
    "stable_hash",
    "uniform",
    "weighted",
    "whole",
]


@dataclass(frozen=True)
class Shard:
    """The slice of a global draw that belongs to one process.

    Arguments:
        generator: A generator in the same state in every process.
        rank: This process, in [0, world).
        world: The number of processes.
    """

    generator: torch.Generator
    rank: int
    world: int


Randomness = torch.Generator | Sequence[torch.Generator] | Shard
"""A source of random numbers: one generator, one for each row, or one process's share of a common one."""


def stable_hash(*parts: int | str) -> int:
    """Returns a 63-bit integer that depends on the parts alone, the same on every machine and in every run."""
    text = "\x1f".join(_label(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator_for(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns a fresh generator whose stream is a function of the parts alone."""
    return torch.Generator(device=device).manual_seed(stable_hash(*parts))


def generators_for(seed: int, indices: Sequence[int]) -> list[torch.Generator]:
    """Returns one CPU generator for each (seed, index), as frozen degraded copies use them."""
    return [generator_for(seed, index) for index in indices]


def device_of(generator: Randomness) -> torch.device:
    """Returns the device on which a source of randomness draws."""
    if isinstance(generator, Shard):
        return generator.generator.device
    if isinstance(generator, torch.Generator):
        return generator.device
    return generator[0].device


def rand(shape: Sequence[int], generator: Randomness) -> Tensor:
    """Draws from U[0, 1), float32, with shape (B, ...), on the generator's device."""
    return _draw(torch.rand, shape, generator)


def randn(shape: Sequence[int], generator: Randomness) -> Tensor:
    """Draws from N(0, 1), float32, with shape (B, ...), on the generator's device."""
    return _draw(torch.randn, shape, generator)


def uniform(shape: Sequence[int], low: float, high: float, generator: Randomness) -> Tensor:
    """Draws from U[low, high), float32, with shape (B, ...), on the generator's device."""
    values = low + (high - low) * rand(shape, generator)
    if high <= low:
        return values
    # Rounding can reach the upper end, which does not belong to the range.
    ends = torch.tensor([high, low], dtype=torch.float32)
    return values.clamp(max=float(torch.nextafter(ends[0], ends[1])))


def whole(shape: Sequence[int], low: int, high: int, generator: Randomness) -> Tensor:
    """Draws whole numbers from low to high, each equally likely, as float32, with shape (B, ...)."""
    steps = (rand(shape, generator) * (high - low + 1)).floor()
    return low + steps.clamp(max=high - low)


def weighted(shape: Sequence[int], weights: Sequence[float], generator: Randomness) -> Tensor:
    """Draws places in a list with the probabilities that stand there, as float32, with shape (B, ...).

    The probabilities are taken relative to their sum.
    """
    ends = torch.tensor(weights, dtype=torch.float64).cumsum(0)
    ends = (ends / ends[-1]).float()[:-1]
    u = rand(shape, generator)
    return torch.bucketize(u, ends.to(u.device), right=True).float()


def _label(part: int | str) -> str:
    # A number from an array hashes as the plain integer that it equals.
    return f"str:{part}" if isinstance(part, str) else f"int:{operator.index(part)}"


def _draw(function: Callable[..., Tensor], shape: Sequence[int], generator: Randomness) -> Tensor:
    batch, *rest = shape
    if isinstance(generator, torch.Generator):
        return function(
            tuple(shape), generator=generator, device=generator.device, dtype=torch.float32
        )
    if isinstance(generator, Shard):
        g = generator.generator
        rows = function(
            (batch * generator.world, *rest), generator=g, device=g.device, dtype=torch.float32
        )
        return rows[generator.rank * batch : (generator.rank + 1) * batch]
    if len(generator) != batch:
        raise ValueError(
            f"got {len(generator)} generators for a batch of {batch}; give one generator for each sample"
        )
    if not batch:
        return torch.empty(tuple(shape), dtype=torch.float32)
    return torch.stack(
        [function(rest, generator=g, device=g.device, dtype=torch.float32) for g in generator]
    )
