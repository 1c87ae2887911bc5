r"""The guard against learning by heart: images that are kept back, on which a run is judged, and ended in time.

The loss of the training falls for as long as there is something left to learn by heart. At every ``sample_every`` the
averaged parts are judged (:meth:`~blemish.systems.System.judged`) on the same images, damaged alike, that they are not
trained on. Those of the best judgement so far stand in ``best/``, as in :mod:`blemish.training.selection`, whose file
``selection.json`` holds all judgements. The run ends where the best one is ``selection.patience`` judgements ago.

What a run does next is a function of its checkpoint and of that file, in which a judgement that was passed after the
checkpoint does not count: a resumed run keeps and stops as an unbroken one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..functional.random import generator_for
from .run import State
from .selection import Measured, Selected, begin_anew, due, keep, measured_before, read_selection

__all__ = ["FEWEST_WATCHED", "Watch"]

FEWEST_WATCHED = 8
"""The smallest number of kept images by which a run is judged."""


class Watch:
    """A hook of the training loop that keeps the best weights and says when to stop; see this module.

    Arguments:
        kept: Batches of images that are not trained on, as the system's losses get them, each with shape (B, C, H, W).
        patience: The number of judgements without a better one after which a run ends; 0 lets it go on.
        unit: What judgements are counted in.

    Raises:
        ValueError: If the patience is negative.
    """

    def __init__(self, kept: Sequence[Tensor], *, patience: int, unit: str = "bits/dim") -> None:
        if patience < 0:
            raise ValueError(f"patience={patience}; give at least 1, or 0 to train to the end")
        self.kept, self.patience, self.unit = kept, patience, unit

    def __call__(self, state: State) -> None:
        """Judges the averaged parts, and keeps them if they are the best so far."""
        if not state.images:
            begin_anew(state)
        elif due(state):
            now = Measured(state.images, self._judged(state))
            count = sum(len(batch) for batch in self.kept)
            keep(state, Selected(self.unit, 0, count, (*measured_before(state), now)))

    def enough(self, state: State) -> bool:
        """Whether the run has gone on for too long without a better judgement."""
        found = read_selection(state.out)
        if not self.patience or found is None or not state.images:
            return False
        history = [one for one in found.history if one.images <= state.images]
        best = Selected(self.unit, 0, 0, tuple(history)).best
        since = len(history) if best is None else len(history) - 1 - history.index(best)
        return since >= self.patience

    def _judged(self, state: State) -> float | None:
        generator = generator_for(state.config.seed, "watch", device=state.device)
        batches = (batch.to(state.device) for batch in self.kept)
        found = [state.system.judged(b, state.averages, generator) for b in batches]
        mean = float(torch.cat(found).double().mean())
        return mean if math.isfinite(mean) else None
