r"""The typed values that travel between the parts of the package.

A degradation is split into two calls, drawing and applying:

.. math:: \theta \sim p(\theta), \qquad y = d(x, \theta).

The drawn :math:`\theta` is a :class:`Params`: a frozen dataclass of tensors whose first dimension
is the batch. It holds *every* random number that the degradation will use, so that applying it is a
function of the image and of the params alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

__all__ = ["Params", "Shape"]

Shape = tuple[int, int, int, int]
"""The shape (B, C, H, W) of a batch of images."""


@dataclass(frozen=True)
class Params:
    """The drawn parameters of a degradation, batch first.

    Fields of subclasses are tensors with shape (B, ...), other :class:`Params`, or tuples of
    :class:`Params`.
    """

    def tensors(self) -> dict[str, Tensor]:
        """Returns all tensors by dotted name, for example ``stages.0.kernel``."""
        return dict(_named(self))

    def replace_tensors(self, tensors: Mapping[str, Tensor]) -> Self:
        """Returns a copy whose tensors are those of the given names (as written by :meth:`tensors`)."""
        copy: Self = _rebuild(self, tensors, prefix="")
        return copy

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Returns a copy moved or cast as by :meth:`torch.Tensor.to`.

        A dtype is applied to floating tensors only.
        """
        return self.map(
            lambda t: (
                t.to(*args, **kwargs)
                if t.is_floating_point()
                else t.to(_device_of(args, kwargs, t))
            )
        )

    def detach(self) -> Self:
        """Returns a copy that carries no gradient."""
        return self.map(Tensor.detach)

    def map(self, function: Any) -> Self:
        """Returns a copy with a function applied to every tensor."""
        return self.replace_tensors(
            {name: function(tensor) for name, tensor in self.tensors().items()}
        )

    def summary(self) -> dict[str, Tensor]:
        """Returns what one would say of each sample: numbers by name, each with shape (B,).

        By default these are the floating fields that hold one number for each sample.
        """
        named = self.tensors().items()
        return {name: t for name, t in named if t.ndim == 1 and t.is_floating_point()}

    def __getitem__(self, index: int | slice | Tensor | Sequence[int]) -> Self:
        """Selects samples; an integer keeps the batch dimension, with length 1."""
        if not isinstance(index, int):
            return self.map(lambda t: t[index])
        if not -len(self) <= index < len(self):
            # Without this error, a loop over params would never end.
            raise IndexError(f"there is no sample {index} in a batch of {len(self)}")
        return self.map(lambda t: t[slice(index, index + 1 or None)])

    def __len__(self) -> int:
        """Returns the batch size B."""
        return next(iter(self.tensors().values())).shape[0]

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Joins params of one kind along the batch."""
        if not parts:
            raise ValueError("there is nothing to join: cat needs at least one Params")
        rows = [part.tensors() for part in parts]
        return parts[0].replace_tensors(
            {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        )


def _named(value: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _named(item, f"{prefix}.{i}")
    elif isinstance(value, Params):
        for field in dataclasses.fields(value):
            name = f"{prefix}.{field.name}" if prefix else field.name
            yield from _named(getattr(value, field.name), name)


def _rebuild(value: Any, tensors: Mapping[str, Tensor], prefix: str) -> Any:
    if isinstance(value, Tensor):
        return tensors[prefix]
    if isinstance(value, tuple):
        return tuple(_rebuild(item, tensors, f"{prefix}.{i}") for i, item in enumerate(value))
    if isinstance(value, Params):
        changes = {}
        for field in dataclasses.fields(value):
            name = f"{prefix}.{field.name}" if prefix else field.name
            changes[field.name] = _rebuild(getattr(value, field.name), tensors, name)
        return dataclasses.replace(value, **changes)
    return value


def _device_of(args: tuple[Any, ...], kwargs: dict[str, Any], tensor: Tensor) -> torch.device:
    moved = torch.empty(0, device=tensor.device).to(*args, **kwargs)
    return moved.device
