r"""The choice of the best checkpoint from degraded images alone.

A generator of clean images cannot be compared with clean images where there are none. What can be
compared is what it claims: that its images, degraded as it learned, look like the observed ones. The
proximal distance of a checkpoint is

.. math:: F\big(\phi(d(G_x(z), \theta)), \; \phi(y)\big),

the Fréchet distance, on features :math:`\phi`, between re-degraded samples and observed images y that
were kept back from training. It is blind to how image and damage share the observed look: a generator
that copies the damage, beside a degradation that does nothing, has a small one too. So it ranks the
checkpoints of one run, not different recipes.

During training the distance is computed at every ``sample_every``, always from the same latents. The
run's folder gets ``selection.json`` with all distances, and the averaged parts of the best checkpoint so
far as ``best/prior`` and ``best/degradation``, beside those of the last one. Where a run goes on, what was
found after its checkpoint is dropped and found again.

References:
    | Ambient Diffusion Omni: Training Good Models with Bad Data (Daras et al., 2025)
    | https://arxiv.org/abs/2506.10038
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import artefacts
from ..configuration import read_json
from ..degradations import Degradation, to_uint8
from ..functional.random import generator_for
from ..metrics import Extractor, extract, frechet
from ..priors import Prior
from .checkpoint import write_atomically
from .run import State

__all__ = [
    "FEWEST",
    "Measured",
    "Proximal",
    "Selected",
    "Selection",
    "begin_anew",
    "due",
    "keep",
    "measured_before",
    "read_selection",
]

FEWEST = 100
"""The smallest number of kept images with which checkpoints are compared."""

_FILE = "selection.json"
_BATCH = 100


class Proximal:
    """The proximal distance to a set of observed images.

    Arguments:
        observed: Batches of observed images in [0, 1], each with shape (B, C, H, W).
        features: The features.
        samples: The number of generated images.
        seed: Determines their latents and their damage.
    """

    def __init__(
        self, observed: Iterable[Tensor], features: Extractor, *, samples: int, seed: int
    ) -> None:
        self.features, self.samples, self.seed = features, samples, seed
        self._observed = torch.cat([extract(features, batch) for batch in observed])

    @torch.no_grad()
    def __call__(self, prior: Prior, degradation: Degradation[Any]) -> float | None:
        """Returns the distance of a generator and a degradation, both on the features' device.

        It is None where they make images that are not finite.
        """
        generator = generator_for(self.seed, "selection", device=self._observed.device)
        found = []
        for start in range(0, self.samples, _BATCH):
            n = min(_BATCH, self.samples - start)
            x = prior.sample(n, generator=generator)
            params = degradation.sample((n, *prior.shape), generator=generator)
            y = degradation(x, params)
            # Observed images have 8 bits, which have no NaN.
            y = torch.where(y.isfinite().all(), to_uint8(y) / 255, torch.nan)
            found.append(extract(self.features, y))
        features = torch.cat(found)
        return frechet(features, self._observed) if features.isfinite().all() else None


@dataclass(frozen=True)
class Measured:
    """One checkpoint's measurement.

    Attributes:
        images: The number of observed images seen.
        distance: The distance, less is better; None where it is not finite.
    """

    images: int
    distance: float | None


@dataclass(frozen=True)
class Selected:
    """What ``selection.json`` says.

    Attributes:
        features: The name of the features, or of the unit of what is measured on the images themselves.
        samples: The number of generated images; 0 where none are.
        held_out: The number of observed images that were kept.
        history: All measurements, in order.
    """

    features: str
    samples: int
    held_out: int
    history: tuple[Measured, ...] = ()

    def said(self, one: Measured) -> str:
        """Returns a measurement in words."""
        if one.distance is None:
            return "no finite distance"
        if not self.samples:
            return f"{one.distance:.4g} {self.features} on held-out images"
        return f"proximal distance {one.distance:.4g} on {self.features}"

    @property
    def best(self) -> Measured | None:
        """The measurement with the least distance, the first of equals; None before the first."""
        found = [one for one in self.history if one.distance is not None]
        return min(found, key=lambda one: one.distance or 0.0, default=None)

    def distances(self) -> dict[int, float]:
        """Returns the distances that are finite by the number of images seen."""
        return {one.images: one.distance for one in self.history if one.distance is not None}


class Selection:
    """A hook of the training loop that keeps the best checkpoint; see this module.

    Arguments:
        observed: Batches of observed images that are not trained on, each with shape (B, C, H, W).
        features: The features.
        samples: The number of generated images.
    """

    def __init__(self, observed: Sequence[Tensor], features: Extractor, *, samples: int) -> None:
        self.observed, self.features, self.samples = observed, features, samples
        self._proximal: Proximal | None = None

    def __call__(self, state: State) -> None:
        """Measures the averaged parts, and keeps them if they are the best so far."""
        if not state.images:
            begin_anew(state)
        elif due(state):
            now = Measured(state.images, self._distance(state))
            count = sum(len(batch) for batch in self.observed)
            before = measured_before(state)
            keep(state, Selected(self.features.name, self.samples, count, (*before, now)))

    def _distance(self, state: State) -> float | None:
        prior, degradation = state.averages["prior"], state.averages["degradation"]
        assert isinstance(prior, Prior)
        assert isinstance(degradation, Degradation)
        if self._proximal is None:
            features = self.features.to(state.device)
            observed = (batch.to(state.device) for batch in self.observed)
            self._proximal = Proximal(
                observed, features, samples=self.samples, seed=state.config.seed
            )
        return self._proximal(prior, degradation)


def due(state: State) -> bool:
    """Whether an unbroken run is measured here; the hook is also called where a run is stopped."""
    training = state.config.training
    return state.images % training.sample_every == 0 or state.images >= training.images


def begin_anew(state: State) -> None:
    """Forgets the measurements of a run that starts again."""
    (state.out / _FILE).unlink(missing_ok=True)


def measured_before(state: State) -> tuple[Measured, ...]:
    """Returns the measurements of a run before its present state; what was found after a checkpoint is dropped."""
    before = read_selection(state.out)
    history = () if before is None else before.history
    return tuple(one for one in history if one.images < state.images)


def keep(state: State, found: Selected) -> None:
    """Writes ``selection.json``, and the averaged parts if the last measurement is the best."""
    best = found.best
    if best is not None and best == found.history[-1]:
        text = (
            f"After {state.images:,} observed images of a run of {state.config.recipe}; "
            f"{found.said(best)}."
        )
        for name, part in state.averages.items():
            artefacts.save(part, state.out / "best" / name, card=text)
    document = json.dumps(asdict(found), indent=1) + "\n"
    write_atomically(state.out / _FILE, document.encode())


def read_selection(run: Path) -> Selected | None:
    """Returns what a run's ``selection.json`` says; None where there is none.

    Raises:
        ValueError: If the file holds something else.
    """
    path = run / _FILE
    if not path.is_file():
        return None
    document = read_json(path)
    try:
        history = tuple(Measured(**one) for one in document.pop("history"))
        return Selected(**document, history=history)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} does not describe a selection ({error}); copy it again") from None
