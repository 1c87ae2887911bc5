r"""Cells of the table of restoration by inversion: who comes near the truth with and without knowing the damage?

A cell is one task, method and seed of the damage. Tasks are those of :data:`blemish.degradations.TASKS`, which are the
report's, and two of blemish's own:

clean   no damage: what the prior can make of an image at all
toy     a disk blur and Gaussian noise, with gradients of its own

Methods, beside the damaged images themselves (enlarged, where they were reduced):

pulse           the sphere of Z, with the known damage
non-blind       W, W+, W++, with the known damage; of the toy, its noise is known as well: the oracle
blind           the same without any damage
universal       V, W, W+, W++ with the universal model, whose codes are read off the damaged image
universal-no-v  the same without the phase V

Known are kind, level and strokes of a damage, neither noise nor dropped pixels, and what is inverted is its
differentiable stand-in. Who knows nothing gets reduced images enlarged bicubically to the prior's size.

With the true image x, the restored one x', the true damage f and all that was drawn of it, ε, a cell has

.. math:: \text{accuracy} = d(x', x), \quad \text{fidelity} = d(f(x', \varepsilon), f(x, \varepsilon)),

as files hold damaged images; *realism*, a Fréchet distance of patches of x' to those of other clean images; PSNR; and
seconds of CPU time. Distance and features are those of EfficientNet-Lite0 where it is installed and images are large
enough; a cell names what was measured.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025),
    | technical report, Section 5.3 and Table 1, https://arxiv.org/abs/2505.12860
    | Robust Unsupervised StyleGAN Image Restoration (Poirier-Ginter & Lalonde, 2023)
    | https://arxiv.org/abs/2302.06733
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ..artefacts import digest
from ..degradations import (
    TASKS,
    Blur,
    Chain,
    Degradation,
    DiskLaw,
    GaussianNoise,
    Identity,
    UniversalDegradation,
    approximation,
    known_mask,
    redrawn,
    task,
    to_uint8,
)
from ..functional.random import generator_for, randn
from ..functional.resample import bicubic, repeated
from ..losses import Distance
from ..metrics import (
    extract,
    frechet,
    psnr,
)
from ..priors import Prior
from ..restorers import Inverter, inverter_for, search_distance
from ..restorers.methods import Method
from ..types import Params, Shape
from .documents import agreed, read_documents
from .judging import digest_of, distance_for, features_for, patches, picked

__all__ = [
    "DAMAGED",
    "INVERSION",
    "INVERSION_METHODS",
    "INVERSION_TASKS",
    "OWN_TASKS",
    "InversionBench",
    "InversionCell",
    "InversionProtocol",
    "check_inversion_protocol",
    "fits",
    "plan_inversion",
    "read_inversion_cells",
]

INVERSION = "udm-table1"
"""The name of the table."""

DAMAGED = "damaged"
"""Stands for a method: the damaged images as they are."""

INVERSION_METHODS = (DAMAGED, "pulse", "non-blind", "blind", "universal", "universal-no-v")
"""The methods."""

_TOY = Chain.Config(
    (Blur.Config(DiskLaw(radius=(1.5, 1.5), size=5)), GaussianNoise.Config((0.1, 0.1)))
)
OWN_TASKS: dict[str, Any] = {"clean": Identity.Config(), "toy": _TOY}
"""Tasks of blemish's own, which are their own stand-ins and of which everything is known."""

INVERSION_TASKS = (*OWN_TASKS, *TASKS)
"""All tasks."""

_SMALLEST = 16
"""The least side of an image that a damage can be read off."""


@dataclass(frozen=True)
class InversionCell:
    """One task, method and seed.

    Attributes:
        task: The task.
        method: The method.
        seed: The seed of the damage and of the search.
    """

    task: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.task}-{self.method}-{self.seed}"


@dataclass(frozen=True)
class InversionProtocol:
    """What all cells of a folder have in common, so that they can be compared.

    Attributes:
        size: The side of the images.
        images: The number of restored images.
        others: The number of other clean images, which realism is measured against.
        steps: The steps of each phase; None means those of the methods.
        prior: What tells the prior from others.
        model: What tells the universal model from others.
        data: What tells the images from others.
        distance: The name of the distance of accuracy and fidelity.
        features: The name of the features of realism.
    """

    size: int
    images: int
    others: int
    steps: int | None
    prior: str
    model: str
    data: str
    distance: str
    features: str


def plan_inversion(seeds: Sequence[int]) -> list[InversionCell]:
    """Returns all cells: seed by seed, and in each task by task; clean images have no damaged ones.

    Arguments:
        seeds: The seeds.
    """
    return [
        InversionCell(name, method, seed)
        for seed in seeds
        for name in INVERSION_TASKS
        for method in INVERSION_METHODS
        if (name, method) != ("clean", DAMAGED)
    ]


def fits(name: str, side: int) -> bool:
    """Returns whether images of a side can be reduced as a task wants it."""
    return side % _damage(name).scale == 0


def read_inversion_cells(out: Path) -> list[dict[str, Any]]:
    """Returns the documents of all finished cells of a folder, by name.

    Raises:
        ValueError: If one is damaged, of another version or of another table; the message names it.
    """
    return read_documents(out, INVERSION)


def check_inversion_protocol(
    documents: Sequence[Mapping[str, Any]], protocol: InversionProtocol
) -> None:
    """Refuses cells that were computed otherwise.

    Arguments:
        documents: Finished cells.
        protocol: What they shall have in common.

    Raises:
        ValueError: If one differs; the message names the first difference.
    """
    named = [
        (InversionCell(one["task"], one["method"], one["seed"]).name, one) for one in documents
    ]
    agreed(named, protocol)


@final
@dataclass(frozen=True)
class InversionBench:
    """What all cells share. It can be sent to other processes.

    Attributes:
        prior: The prior.
        model: The universal model.
        clean: The images that are damaged and restored, in [0, 1], with shape (N, C, S, S).
        others: Other clean images, which realism is measured against.
        steps: The steps of each phase; None leaves them at those of the methods.
    """

    table: ClassVar[str] = INVERSION
    shown: ClassVar[tuple[str, ...]] = ("accuracy", "fidelity", "realism", "psnr", "cpu_seconds")

    prior: Prior
    model: UniversalDegradation
    clean: Tensor
    others: Tensor
    steps: int | None = None

    @classmethod
    def of(
        cls,
        prior: Prior,
        model: UniversalDegradation,
        source: str,
        *,
        count: int = 8,
        steps: int | None = None,
    ) -> InversionBench:
        """Picks images of a source at random.

        Arguments:
            prior: The prior, on the CPU.
            model: The universal model, on the CPU.
            source: Clean images that neither was trained on; they are brought to the prior's size.
            count: How many are restored.
            steps: The steps of each phase; None leaves them at those of the methods.

        Raises:
            ValueError: If prior and model do not go together, or there are too few images.
        """
        side = _side(prior, model)
        clean, others = picked(source, side, model.channels, count)
        frozen = prior.eval().requires_grad_(False), model.eval().requires_grad_(False)
        return cls(*frozen, clean, others, steps)

    @cached_property
    def protocol(self) -> InversionProtocol:
        """What its cells have in common."""
        return InversionProtocol(
            size=self.clean.shape[-1],
            images=len(self.clean),
            others=len(self.others),
            steps=self.steps,
            prior=digest(self.prior),
            model=digest(self.model),
            data=digest_of(self.clean, self.others),
            distance=distance_for(self.clean.shape[-1])[0],
            features=features_for(self.model.channels).name,
        )

    @cached_property
    def real(self) -> Tensor:
        """Features of patches of other clean images."""
        return extract(features_for(self.model.channels), patches(self.others))

    def measured(self, cell: InversionCell) -> dict[str, Any]:
        """Returns the scores of a cell."""
        case = _Case.of(cell.task, self.clean, cell.seed)
        began = time.process_time()
        x = self.restored(case, cell.method, cell.seed)
        seconds = time.process_time() - began
        return {**self.judged(case, x, cell.method), "cpu_seconds": round(seconds, 2)}

    def restored(self, case: _Case, method: str, seed: int) -> Tensor:
        """Returns what a method makes of damaged images."""
        if method == DAMAGED:
            return case.enlarged
        knows = method in ("pulse", "non-blind")
        inverter = self.informed(case, method, seed) if knows else self.ignorant(method, seed)
        x: Tensor = inverter(case.y if knows else case.enlarged)
        return x

    def informed(self, case: _Case, method: str, seed: int) -> Inverter:
        """Returns the search of a method that knows the damage; what strokes hide is not compared."""
        way: Method = "sphere" if method == "pulse" else "non-blind"
        inverter = inverter_for(way, self.prior, case.told, steps=self.steps, seed=seed)
        inverter.estimate = lambda y, generator: case.known
        mask = known_mask(case.params)
        if mask is not None:
            inverter.distance = _masked(mask, generator_for("fill", seed))
        return inverter

    def ignorant(self, method: str, seed: int) -> Inverter:
        """Returns the search of a method that sees the damaged images alone."""
        if method == "blind":
            return inverter_for("blind", self.prior, steps=self.steps, seed=seed)
        inverter = inverter_for("universal", self.prior, self.model, steps=self.steps, seed=seed)
        if method == "universal-no-v":
            assert inverter.config.phases is not None
            inverter.config = replace(inverter.config, phases=inverter.config.phases[1:])
        return inverter

    @torch.no_grad()
    def judged(self, case: _Case, x: Tensor, method: str) -> dict[str, Any]:
        """Returns what restored images are worth; damaged ones are not damaged again."""
        again = to_uint8(case.damage(x, case.params)).float() / 255
        scale = case.damage.scale
        # Features need large images: pixels of reduced ones are shown as the blocks that they stand for.
        shown, observed = repeated(again, scale), repeated(case.y, scale)
        _, distance = distance_for(self.clean.shape[-1])
        accuracy, fidelity = distance(x, self.clean), distance(shown, observed)
        features = extract(features_for(self.model.channels), patches(x))
        return {
            "accuracy": round(float(accuracy.mean()), 5),
            "fidelity": None if method == DAMAGED else round(float(fidelity.mean()), 5),
            "realism": round(frechet(features, self.real), 4),
            "psnr": round(float(psnr(x, self.clean).mean()), 3),
            "accuracies": [round(v, 5) for v in accuracy.tolist()],
        }


@dataclass(frozen=True)
class _Case:
    """Images as a task damages them.

    Attributes:
        damage: The true damage.
        params: What was drawn of it.
        y: The damaged images, as files hold them, with shape (N, C, S / scale, S / scale).
        told: What stands for the damage where it is inverted.
        known: What is known of the params; all else is drawn anew.
    """

    damage: Degradation[Any]
    params: Params
    y: Tensor
    told: Degradation[Any]
    known: Params

    @classmethod
    def of(cls, name: str, x: Tensor, seed: int) -> _Case:
        """Damages images; what befalls one depends on the seed and on its number alone."""

        def streams(use: str) -> list[torch.Generator]:
            return [generator_for(use, name, seed, i) for i in range(len(x))]

        B, C, H, W = x.shape
        shape: Shape = (B, C, H, W)
        damage = _damage(name)
        params = damage.sample(shape, generator=streams("damage"))
        y = to_uint8(damage(x, params)).float() / 255
        if name in OWN_TASKS:
            return cls(damage, params, y, damage, params)
        told = approximation(TASKS[name]).build()
        known = redrawn(told, params, shape, generator=streams("restorer"))
        return cls(damage, params, y, told, known)

    @property
    def enlarged(self) -> Tensor:
        """The damaged images at the size of the true ones."""
        H, W = (self.damage.scale * side for side in self.y.shape[-2:])
        return bicubic(self.y, (H, W)).clamp(0, 1) if self.damage.scale > 1 else self.y


def _damage(name: str) -> Degradation[Any]:
    built: Degradation[Any] = OWN_TASKS[name].build() if name in OWN_TASKS else task(name)
    return built


def _masked(mask: Tensor, stream: torch.Generator) -> Distance:
    """Returns the distance of a search where a mask is 1."""

    def distance(damaged: Tensor, observed: Tensor) -> Tensor:
        # The same numbers for all images, so that none depends on how many there are.
        fill = randn((1, *damaged.shape[1:]), stream).expand_as(damaged)
        return search_distance(damaged, observed, mask, fill)

    return distance


def _side(prior: Prior, model: UniversalDegradation) -> int:
    """Returns the side of the images of a prior that goes together with a universal model."""
    channels, height, width = prior.shape
    if height != width or height < _SMALLEST:
        raise ValueError(
            f"the prior makes {width}x{height} pixels; this table takes squares of {_SMALLEST}x{_SMALLEST} or more"
        )
    if model.channels != channels:
        raise ValueError(
            f"the prior makes pictures of {channels} channels, the universal model takes {model.channels}; both must "
            "have been trained on the same"
        )
    return height
