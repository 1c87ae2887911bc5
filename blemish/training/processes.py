"""One process or several: devices, precision and the exchange of gradients.

Every process holds all parameters and sees its contiguous rows of the global batch. Losses are means over rows, so the mean over
processes of the gradients is the gradient of the global batch. Gradients are exchanged by hand, after each phase's backward pass:
wrappers that do it during the backward pass do not support the double backward pass of a gradient penalty.

Processes are started by ``torchrun``, whose environment variables are read here; nothing is started by this package itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..functional.random import Randomness, Shard

__all__ = [
    "Team",
    "assemble",
    "check_device",
    "check_split",
    "find_device",
    "is_main",
    "processes",
]


@dataclass(frozen=True)
class Team:
    """The processes that train together, as one of them sees them.

    Attributes:
        device: This process's device.
        rank: This process, in [0, world).
        world: The number of processes.
        autocast: A context in which networks run in the training precision.
        all_reduce: Replaces a tensor in every process by the mean over processes.
    """

    device: torch.device
    rank: int
    world: int
    autocast: Callable[[], AbstractContextManager[Any]]
    all_reduce: Callable[[Tensor], Tensor]

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def rows(self, batch: int) -> range:
        """Returns the numbers of this process's rows of a global batch."""
        share = batch // self.world
        return range(self.rank * share, (self.rank + 1) * share)

    def share(self, generator: torch.Generator) -> Randomness:
        """Returns this process's share of a generator that all processes hold in the same state."""
        return Shard(generator, self.rank, self.world) if self.world > 1 else generator

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors, in place, by their means over the processes; one message for all of them."""
        if self.world == 1 or not tensors:
            return
        flat = self.all_reduce(torch.cat([t.detach().flatten() for t in tensors]))
        means = torch.split_with_sizes(flat, [t.numel() for t in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.detach().copy_(mean.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all processes must ask."""
        if self.world == 1:
            return flag
        return bool(self.all_reduce(torch.tensor([float(flag)], device=self.device)).item() > 0)

    def copy_from_main(self, module: nn.Module) -> None:
        """Gives every process the main process's parameters and buffers."""
        if self.world > 1:
            for tensor in module.state_dict().values():
                torch.distributed.broadcast(tensor, src=0)

    def close(self) -> None:
        """Ends the communication between the processes."""
        if self.world > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def assemble(device: str, precision: Literal["32", "bf16"]) -> Team:
    """Joins the processes that ``torchrun`` started, or makes a team of one.

    Arguments:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: The number format of the networks' forward passes.

    Raises:
        ValueError: If the device is not known, not present, or one number is asked of several processes.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    world, local = processes()
    kind, index = check_device(device)
    fabric = Fabric(
        accelerator=kind,
        devices=local if index is None else [index],
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        precision="32-true" if precision == "32" else "bf16-mixed",
        # Without torchrun a cluster's environment variables do not mean that this run has several processes.
        plugins=None if world > 1 else [LightningEnvironment()],
    )
    fabric.launch()

    def all_reduce(tensor: Tensor) -> Tensor:
        result = fabric.all_reduce(tensor, reduce_op="mean")
        assert isinstance(result, Tensor)
        return result

    return Team(
        device=fabric.device,
        rank=fabric.global_rank,
        world=fabric.world_size,
        autocast=fabric.autocast,
        all_reduce=all_reduce,
    )


def find_device(device: str, *, mps: bool = True) -> torch.device:
    """Returns where one process computes that trains nothing.

    Arguments:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        mps: Whether ``auto`` may be one of Apple's GPUs, which have no float64.

    Raises:
        ValueError: If the device is not known or not present.
    """
    kind, index = check_device(device)
    if kind == "auto":
        found = {
            "cuda": torch.cuda.is_available(),
            "mps": mps and torch.backends.mps.is_available(),
        }
        kind = next((name for name, there in found.items() if there), "cpu")
    return torch.device(kind) if index is None else torch.device(kind, index)


def _by_torchrun() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


def processes() -> tuple[int, int]:
    """Returns the numbers of processes that ``torchrun`` started, in all and on this machine."""
    world = int(os.environ.get("WORLD_SIZE", "1")) if _by_torchrun() else 1
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world))) if world > 1 else 1
    return world, local


def is_main() -> bool:
    """Whether this is the process that writes files and speaks; known before :func:`assemble`."""
    return not _by_torchrun() or os.environ.get("RANK", "0") == "0"


def check_split(batch: int) -> None:
    """Checks that the processes can share a batch evenly.

    Raises:
        ValueError: If they cannot.
    """
    world, _ = processes()
    if batch % world:
        raise ValueError(f"training.batch={batch} cannot be split evenly over {world} processes")


def check_device(device: str) -> tuple[str, int | None]:
    """Returns a device's kind and number.

    Raises:
        ValueError: If the device is not known, not present, or one number is asked of several processes.
    """
    kind, index = _parse_device(device)
    world, _ = processes()
    if index is not None and world > 1:
        raise ValueError(
            f"device {device!r} names one device but {world} processes were started; write {kind!r}"
        )
    return kind, index


def _parse_device(device: str) -> tuple[str, int | None]:
    kind, _, number = device.partition(":")
    present = {
        "auto": True,
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if kind not in present or (number and not number.isdecimal()):
        raise ValueError(f"unknown device {device!r}; choose auto, cpu, cuda, cuda:1 or mps")
    if not present[kind]:
        raise ValueError(
            f"device {device!r} is not present here; choose {', '.join(k for k, v in present.items() if v)}"
        )
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r} is not present here; there are {torch.cuda.device_count()} CUDA devices, from cuda:0"
        )
    return kind, int(number) if number and kind != "cpu" else None
