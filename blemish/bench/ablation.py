r"""Cells of the ablation of perceptual restoration: what each part of its search is worth, on any prior.

A cell is one row of :mod:`.ablation_rows` and one seed, which draws the damage and what a search draws. The paper's damage is
JPEG. It has no gradients: where pixels are compared, the image is compared with the damaged one as it is, whatever the
damage.

Beside what :mod:`.judging` lists, a cell has

* the four forms of RankIQA, and NIQE, where their weights are given and images are large enough;
* what the result weighs in the paper's objective, whatever the row minimised: the mean square of pixels, the cross
  loss, the discrepancy with the printed kernel and the median of distances as bandwidth, and bits under the early law.

A score that does not exist, as PSNR of the truth to itself, is None.

References:
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning
    | (Han, Duan, Tao & Lu, 2021), Section 4.4 and Table 2, https://arxiv.org/abs/2103.03010
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from ..artefacts import digest
from ..degradations import (
    Degradation,
    Identity,
    LearnedLikelihood,
    Likelihood,
    is_likelihood,
    to_uint8,
)
from ..functional.random import generator_for
from ..losses import MMD
from ..metrics import (
    NIQEModel,
    RankIQANetwork,
    extract,
    frechet,
    niqe,
    psnr,
    rankiqa,
    rankiqa_network,
    ssim,
)
from ..priors import Prior
from ..restorers import Found, LatentSearch, best_found
from ..restorers.latent_search import chunked, draws_of
from ..restorers.terms import Bits, Candidate, Discrepancy, Geocross, PixelDistance
from ..types import Params, Shape
from .ablation_rows import ABLATION_ROWS
from .judging import digest_of, distance_for, features_for, patches, picked

__all__ = [
    "ABLATION",
    "ABLATION_OPTIONAL",
    "AblationBench",
    "AblationCell",
    "AblationProtocol",
    "plan_ablation",
]

ABLATION = "pir-table2"
"""The name of the table."""

_SMALLEST = 16
"""The least side of an image that patches are cut out of."""

_CROP, _RESIZED = 224, 256
"""RankIQA's crop, and the side to which images are brought in its second form."""


@dataclass(frozen=True)
class AblationCell:
    """One row and seed.

    Attributes:
        row: The name of the row.
        seed: The seed of the damage and of the search.
    """

    row: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.row}-{self.seed}"


ABLATION_OPTIONAL = ("prior_v1", "likelihood", "likelihood_late", "rankiqa_weights", "niqe_weights")
"""Fields of the protocol that are None where a part was not given."""


@dataclass(frozen=True)
class AblationProtocol:
    """What all cells of a folder have in common, so that they can be compared.

    Attributes:
        size: The side of the images.
        images: The number of restored images.
        others: The number of other clean images, which realism is measured against.
        steps: The steps of rows that have 100 in the paper; None means 100.
        prior: What tells the prior from others.
        styles: Whether it has styles.
        degradation: What tells the damage from others.
        data: What tells the images from others.
        distance: The name of the distance of accuracy and fidelity.
        features: The name of the features of realism.
        prior_v1: What tells the prior of the row v1 from others.
        likelihood: What tells the law of damage from others.
        likelihood_late: What tells the late law from others.
        rankiqa_weights: The name of RankIQA with its weights.
        niqe_weights: The name of NIQE with its weights.
    """

    size: int
    images: int
    others: int
    steps: int | None
    prior: str
    styles: bool
    degradation: str
    data: str
    distance: str
    features: str
    prior_v1: str | None = None
    likelihood: str | None = None
    likelihood_late: str | None = None
    rankiqa_weights: str | None = None
    niqe_weights: str | None = None


def plan_ablation(seeds: Sequence[int]) -> list[AblationCell]:
    """Returns all cells: seed by seed, and in each row by row.

    Arguments:
        seeds: The seeds.
    """
    return [AblationCell(name, seed) for seed in seeds for name in ABLATION_ROWS]


@final
@dataclass(frozen=True)
class AblationBench:
    """What all cells share. It can be sent to other processes.

    Attributes:
        prior: The prior.
        damage: The damage.
        clean: The images that are damaged and restored, in [0, 1], with shape (N, C, S, S).
        others: Other clean images, which realism is measured against.
        steps: The steps of rows that have 100 in the paper; None means 100.
        prior_v1: The prior of the row v1, or None.
        law: A likelihood, or None.
        late: One that was trained too long, or None.
        rankiqa: The file of RankIQA's weights, or None.
        niqe: The file of NIQE's, or None.
    """

    table: ClassVar[str] = ABLATION
    shown: ClassVar[tuple[str, ...]] = ("accuracy", "fidelity", "realism", "psnr", "cpu_seconds")

    prior: Prior
    damage: Degradation[Any]
    clean: Tensor
    others: Tensor
    steps: int | None = None
    prior_v1: Prior | None = None
    law: Likelihood[Any] | None = None
    late: Likelihood[Any] | None = None
    rankiqa: str | None = None
    niqe: str | None = None

    @classmethod
    def of(
        cls,
        prior: Prior,
        damage: Degradation[Any],
        source: str,
        *,
        count: int = 8,
        steps: int | None = None,
        prior_v1: Prior | None = None,
        law: Degradation[Any] | None = None,
        late: Degradation[Any] | None = None,
        rankiqa: str | None = None,
        niqe: str | None = None,
    ) -> AblationBench:
        """Picks images of a source at random.

        Arguments:
            prior: The prior, on the CPU.
            damage: The damage, which keeps the size of images.
            source: Clean images that no part was trained on; they are brought to the prior's size.
            count: How many are restored.
            steps: The steps of rows that have 100 in the paper; None means 100.
            prior_v1: The prior of the row v1; None leaves the row out.
            law: A likelihood; None leaves the rows with bits out.
            late: One that was trained too long; None leaves its rows out.
            rankiqa: The file of RankIQA's weights; None leaves its scores out.
            niqe: The file of NIQE's; None leaves it out.

        Raises:
            ValueError: If parts do not go together, or there are too few images.
        """
        side = _side(prior, prior_v1)
        if damage.scale != 1:
            raise ValueError(
                f"the damage reduces images by {damage.scale}, and without gradients a search compares images of one "
                "size; give one that keeps the size"
            )
        known, trained_long = (_likelihood(one, prior.shape[0]) for one in (law, late))
        for part in (prior, damage, prior_v1, known, trained_long):
            if part is not None:
                part.eval().requires_grad_(False)
        return cls(
            prior,
            damage,
            *picked(source, side, prior.shape[0], count),
            steps=steps,
            prior_v1=prior_v1,
            law=known,
            late=trained_long,
            rankiqa=rankiqa,
            niqe=niqe,
        )

    @cached_property
    def protocol(self) -> AblationProtocol:
        """What its cells have in common."""
        return AblationProtocol(
            size=self.clean.shape[-1],
            images=len(self.clean),
            others=len(self.others),
            steps=self.steps,
            prior=digest(self.prior),
            styles="W+" in self.prior.spaces,
            degradation=digest(self.damage),
            data=digest_of(self.clean, self.others),
            distance=distance_for(self.clean.shape[-1])[0],
            features=features_for(self.prior.shape[0]).name,
            prior_v1=_told(self.prior_v1),
            likelihood=_told(self.law),
            likelihood_late=_told(self.late),
            rankiqa_weights=self.rankiqa and _rankiqa(self.rankiqa).name,
            niqe_weights=self.niqe and _niqe(self.niqe).name,
        )

    @cached_property
    def real(self) -> Tensor:
        """Features of patches of other clean images."""
        return extract(features_for(self.prior.shape[0]), patches(self.others))

    def lacks(self, name: str) -> str | None:
        """Returns what a row needs and this bench has not, in words; None if it has all of it."""
        return ", ".join(ABLATION_ROWS[name].lacks(self.protocol)) or None

    def measured(self, cell: AblationCell) -> dict[str, Any]:
        """Returns the scores of a cell."""
        y, params = self.damaged(cell.seed)
        began = time.process_time()
        found = self.found(cell, y)
        seconds = round(time.process_time() - began, 2) if found else None
        x = {"original": self.clean, "compressed": y}.get(cell.row)
        if found is not None:
            x = found.images.clamp(0, 1)
        assert x is not None
        return {
            **self.judged(cell.row, x, y, params),
            **self.looks(x),
            **self.weighed(cell.row, x, y, found),
            "cpu_seconds": seconds,
        }

    def damaged(self, seed: int) -> tuple[Tensor, Params]:
        """Returns damaged images as files hold them, and what was drawn; of an image, by the seed and its number."""
        B, C, H, W = self.clean.shape
        shape: Shape = (B, C, H, W)
        streams = [generator_for("damage", seed, i) for i in range(B)]
        params = self.damage.sample(shape, generator=streams)
        return self._again(self.clean, params), params

    def searcher(self, cell: AblationCell) -> LatentSearch:
        """Returns the search of a cell."""
        row = ABLATION_ROWS[cell.row]
        assert row.search is not None
        prior = self.prior_v1 if row.search.generator == "v1" else self.prior
        law = self.late if row.late else self.law
        damage = Identity() if row.search.coefficient is None else law
        assert prior is not None, self.lacks(cell.row)
        assert damage is not None, self.lacks(cell.row)
        return LatentSearch(prior, damage, row.config(steps=self.steps, seed=cell.seed))

    def found(self, cell: AblationCell, y: Tensor) -> Found | None:
        """Returns what a row's search finds for damaged images; None where nothing is searched."""
        if ABLATION_ROWS[cell.row].search is None:
            return None
        return best_found(self.searcher(cell).searches(y))

    @torch.no_grad()
    def judged(self, row: str, x: Tensor, y: Tensor, params: Params) -> dict[str, Any]:
        """Returns what images are worth beside the true ones; only restored ones are damaged again."""
        _, distance = distance_for(self.clean.shape[-1])
        found = {
            "accuracy": distance(x, self.clean),
            "fidelity": distance(self._again(x, params), y),
            "psnr": psnr(x, self.clean),
            "ssim": ssim(x, self.clean),
        }
        absent = {"original": tuple(found), "compressed": ("fidelity",)}.get(row, ())
        features = extract(features_for(self.prior.shape[0]), patches(x))
        digits = {"accuracy": 5, "fidelity": 5, "psnr": 3, "ssim": 4}
        return {
            **{
                name: None if name in absent else _mean(values, digits[name])
                for name, values in found.items()
            },
            "realism": round(frechet(features, self.real), 4),
        }

    def looks(self, x: Tensor) -> dict[str, Any]:
        """Returns scores that need no truth, where there are weights and images are large enough for them."""
        scores = dict.fromkeys(("mean", "median", "resized_mean", "resized_median", "niqe"))
        side = x.shape[-1]
        if self.rankiqa is not None:
            network = _rankiqa(self.rankiqa)
            ways = {"": None, "resized_": _RESIZED} if side >= _CROP else {"resized_": _RESIZED}
            for prefix, resize in ways.items():
                found = rankiqa(x, network, resize=resize)
                scores[f"{prefix}mean"] = _mean(found.mean, 3)
                scores[f"{prefix}median"] = _mean(found.median, 3)
        if self.niqe is not None and side >= 2 * _niqe(self.niqe).block:
            scores["niqe"] = _mean(niqe(x, _niqe(self.niqe)), 4)
        return scores

    @torch.no_grad()
    def weighed(self, row: str, x: Tensor, y: Tensor, found: Found | None) -> dict[str, Any]:
        """Returns the terms of the paper's objective, without their weights."""
        B, C, H, W = y.shape
        none = Identity().sample((B, C, H, W), generator=generator_for("nothing"))
        latents = torch.zeros(len(x), 1, 1) if found is None else found.latents
        styles = latents[:, None] if latents.ndim == 2 else latents
        candidate = Candidate(x, styles, chunked(latents))
        terms: dict[str, Any] = {"pixels": PixelDistance(y, Identity(), none)}
        if found is not None:
            search = self.searcher(AblationCell(row, 0))
            draws = draws_of(search.prior, found.space, search.config.draws, like=y)
            terms |= {"cross": Geocross(), "mmd": Discrepancy(MMD.of(draws))}
        if self.law is not None:
            terms["bits"] = Bits(self.law.prepared(y), self.law)
        return {
            name: _mean(terms[name](candidate), 6) if name in terms else None
            for name in ("pixels", "cross", "mmd", "bits")
        }

    def _again(self, x: Tensor, params: Params) -> Tensor:
        """Returns images as files hold them once they were damaged."""
        with torch.no_grad():
            return to_uint8(self.damage(x, params)).float() / 255


def _told(part: nn.Module | None) -> str | None:
    return None if part is None else digest(part)


def _mean(values: Tensor, digits: int) -> float | None:
    """Returns the mean; None where it is no finite number."""
    mean = float(values.double().mean())
    return round(mean, digits) if math.isfinite(mean) else None


def _side(prior: Prior, prior_v1: Prior | None) -> int:
    """Returns the side of the images of priors that can be compared."""
    _, height, width = prior.shape
    if height != width or height < _SMALLEST:
        raise ValueError(
            f"the prior makes {width}x{height} pixels; this table takes squares of {_SMALLEST}x{_SMALLEST} or more"
        )
    if prior_v1 is not None and prior_v1.shape != prior.shape:
        raise ValueError(
            f"the prior makes images of shape {prior.shape}, that of the row v1 {prior_v1.shape}; give priors of the "
            "same shape"
        )
    return height


def _likelihood(law: Degradation[Any] | None, channels: int) -> Likelihood[Any] | None:
    if law is None:
        return None
    if not isinstance(law, Likelihood) or not is_likelihood(law):
        raise ValueError(
            f"a {type(law).__name__} does not tell how likely a damaged image is; give a run of the recipe likelihood, "
            "or known noise"
        )
    if law.scale != 1:
        raise ValueError(
            f"the likelihood is of images reduced by {law.scale}, and the damage keeps the size; give one that does"
        )
    if isinstance(law, LearnedLikelihood) and law.channels != channels:
        raise ValueError(
            f"the prior makes images of {channels} channels, the likelihood takes {law.channels}; both must have been "
            "trained on the same"
        )
    return law


# Weights are read once in each process.
@lru_cache(maxsize=1)
def _rankiqa(path: str) -> RankIQANetwork:
    return rankiqa_network(path)


@lru_cache(maxsize=1)
def _niqe(path: str) -> NIQEModel:
    return NIQEModel.load(path)
