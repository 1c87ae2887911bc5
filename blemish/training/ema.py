r"""Moving averages of the parts that training produces.

.. math:: \bar w \leftarrow \beta \bar w + (1 - \beta) w, \qquad \bar w_0 = w_0.

The average starts at the initial weights, without a correction of its bias. Buffers are copied.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["Averages"]


class Averages:
    """Averaged copies of modules.

    Arguments:
        parts: The modules that are trained, by name.
        decay: :math:`\beta`, in [0, 1].

    Raises:
        ValueError: If the decay is outside [0, 1].
    """

    def __init__(self, parts: Mapping[str, nn.Module], decay: float) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"the average's decay is {decay}; it must be in [0, 1]")
        self.decay = decay
        source = nn.ModuleDict(dict(parts))
        # One deep copy of all parts, so that a module that two parts share is shared by the copies too.
        self._copies = copy.deepcopy(source).requires_grad_(False).eval()
        self._weights: list[Tensor] = [*source.parameters()]
        self._averages: list[Tensor] = [*self._copies.parameters()]
        self._buffers = list(zip(self._copies.buffers(), source.buffers(), strict=True))

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The averaged parts, by name."""
        return dict(self._copies.items())

    @torch.no_grad()
    def update(self) -> None:
        """Moves the averages towards the present weights."""
        if self._averages:
            torch._foreach_lerp_(self._averages, self._weights, 1 - self.decay)
        for average, buffer in self._buffers:
            average.copy_(buffer)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the averaged tensors by ``part.name``."""
        return dict(self._copies.state_dict())

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over averaged tensors written by :meth:`state_dict`."""
        self._copies.load_state_dict(tensors)
