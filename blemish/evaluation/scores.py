r"""Scores with their protocol: what was compared, how many images, on which features, how made equal.

A number without its protocol is no result. Scores of sets are the Fréchet distance, the kernel distance
and precision, recall, density, coverage; scores of pairs are PSNR, SSIM, MS-SSIM, LPIPS, DISTS, averaged
over images; NIQE and RankIQA need no reference. Every score is titled honestly (:mod:`blemish.metrics.titles`).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..data import Source, to_channels
from ..metrics import (
    DISTSNetwork,
    LPIPSNetwork,
    NIQEModel,
    PerceptualNetwork,
    RankIQANetwork,
    RankIQAScores,
    dists,
    fidelity_title,
    frechet,
    frechet_title,
    kernel_sum,
    kernel_title,
    kid,
    lpips,
    manifold,
    manifold_title,
    ms_ssim,
    niqe,
    perceptual,
    psnr,
    rank_title,
    rankiqa,
    squared_radii,
    ssim,
)

__all__ = [
    "IMAGE_METRICS",
    "PAIR_METRICS",
    "SET_METRICS",
    "Evaluation",
    "Judges",
    "Score",
    "check_counts",
    "pair_scores",
    "set_scores",
]

SET_METRICS = ("fd", "kid", "prdc")
"""The metrics of two sets."""

PAIR_METRICS = (
    *("psnr", "ssim", "ms-ssim", "psnr-y", "ssim-y", "ms-ssim-y"),
    *("lpips", "dists", "perceptual"),
)
"""The metrics of aligned pairs."""

IMAGE_METRICS = ("niqe", "rankiqa", "rankiqa-median", "rankiqa-256", "rankiqa-256-median")
"""The metrics that judge images without their partners."""

_K = 5
_FEWEST = {"fd": 2, "kid": 2, "prdc": _K + 1}
Remember = Callable[[str, Tensor, Callable[[Tensor], Tensor]], Tensor]
"""What returns a named statistic of features, computed or known: (name, features, function)."""

_VALUES = 2**20
"""Values of images that are compared at a time."""


@dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        title: Its honest name.
        value: The number.
        higher: Whether more is better.
        std: Its standard deviation over images, of scores of pairs; None where it has none.
    """

    title: str
    value: float
    higher: bool
    std: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Scores and how they came about.

    Attributes:
        scores: The scores.
        protocol: What was compared, and how, by name.
        notes: What a reader must know to read them.
    """

    scores: tuple[Score, ...]
    protocol: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())

    def lines(self) -> list[str]:
        """Returns all of it as text."""
        width = max((len(score.title) for score in self.scores), default=0)
        lines = []
        for score in self.scores:
            spread = "" if score.std is None else f" (std over images {score.std:.3g})"
            arrow = "higher" if score.higher else "lower"
            lines.append(f"{score.title:{width}}  {score.value:10.6g}{spread}  {arrow} is better")
        lines += [f"{name}: {value}" for name, value in self.protocol.items()]
        return [*lines, *(f"note: {note}" for note in self.notes)]

    def to_json(self) -> str:
        """Returns a JSON document; an infinite score (PSNR of equal images) is null."""
        scores = [
            {**asdict(s), "value": s.value if math.isfinite(s.value) else None} for s in self.scores
        ]
        document = {
            "format": 1,
            "scores": scores,
            "protocol": dict(self.protocol),
            "notes": list(self.notes),
        }
        return json.dumps(document, indent=1, allow_nan=False) + "\n"


@dataclass(frozen=True)
class Judges:
    """Networks and models that some metrics need.

    Attributes:
        lpips: The network of LPIPS.
        dists: The network of DISTS.
        niqe: NIQE's Gaussian.
        perceptual: The network of the perceptual distance.
        rankiqa: The network of RankIQA.
    """

    lpips: LPIPSNetwork | None = None
    dists: DISTSNetwork | None = None
    niqe: NIQEModel | None = None
    perceptual: PerceptualNetwork | None = None
    rankiqa: RankIQANetwork | None = None

    def need(self, metric: str) -> Any:
        """Returns the one that a metric needs.

        Raises:
            ValueError: If it was not given.
        """
        found = getattr(self, metric)
        if found is None:
            wanted = {
                "lpips": "lpips-backbone=FILE --weights lpips-heads=FILE",
                "dists": "dists-backbone=FILE --weights dists-weights=FILE",
                "niqe": "niqe=FILE, or niqe=FOLDER with clean images to fit it on",
                "perceptual": "its network, as perceptual_network() returns it",
                "rankiqa": "rankiqa=FILE",
            }[metric]
            raise ValueError(f"{metric} needs --weights {wanted}")
        return found


def check_counts(counts: Mapping[str, int], metrics: Sequence[str]) -> None:
    """Checks that there are enough images for scores of sets, before features take their time.

    Arguments:
        counts: The number of images of each set, by its title.
        metrics: Some of :data:`SET_METRICS`.

    Raises:
        ValueError: If a metric needs more.
    """
    for title, count in counts.items():
        for metric in metrics:
            if count < _FEWEST[metric]:
                raise ValueError(
                    f"{title}: {metric} needs at least {_FEWEST[metric]} images of each set; give more, "
                    "or choose other --metrics"
                )


def _compute(name: str, features: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    return function(features)


def set_scores(
    found: Tensor,
    reference: Tensor,
    features: str,
    metrics: Sequence[str],
    remember: Remember = _compute,
) -> tuple[list[Score], list[str]]:
    """Returns scores of two sets, and notes.

    Arguments:
        found: The features of the images that are judged, with shape (N, D).
        reference: The features of clean images, with shape (M, D).
        features: The name of the features.
        metrics: Some of :data:`SET_METRICS`.
        remember: Returns what depends on one set alone, such as
            :meth:`~blemish.evaluation.FeatureCache.statistic`.

    Raises:
        ValueError: If there are too few images, or features are not finite.
    """
    scores: list[Score] = []
    notes = []
    if "fd" in metrics:
        scores.append(Score(frechet_title(features), frechet(found, reference), higher=False))
        fewest, D = min(len(found), len(reference)), found.shape[1]
        if fewest <= D:
            notes.append(
                f"{fewest:,} images for {D:,} features: the Fréchet distance is far above that of many "
                "images; compare it with numbers of the same counts alone"
            )
    if "kid" in metrics:
        sums = (remember("sum", found, kernel_sum), remember("sum", reference, kernel_sum))
        value = kid(found, reference, sums=sums)
        scores.append(Score(kernel_title(features), value, higher=False))
    if "prdc" in metrics:
        reach = functools.partial(squared_radii, k=_K)
        radii = (remember("radii", reference, reach), remember("radii", found, reach))
        four = asdict(manifold(reference, found, _K, radii=radii))
        where = manifold_title(features, _K).partition("coverage ")[2]
        scores += [Score(f"{name} {where}", value, higher=True) for name, value in four.items()]
    return scores, notes


def pair_scores(
    images: Source,
    reference: Source | None,
    pairs: Sequence[tuple[int, int]],
    metrics: Sequence[str],
    judges: Judges,
    *,
    crop: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> list[Score]:
    """Returns scores of aligned pairs, as means over images.

    Arguments:
        images: The images that are judged.
        reference: What they should be; None where all metrics judge images alone.
        pairs: The numbers of partners in both.
        metrics: Some of :data:`PAIR_METRICS` and :data:`IMAGE_METRICS`.
        judges: What LPIPS, DISTS, NIQE and RankIQA need.
        crop: Pixels at each border that PSNR and SSIM leave out.
        progress: Called with the numbers of images done and to be done.

    Raises:
        ValueError: If partners differ in size, or images are too small for a metric.
    """
    table = _pair_metrics(judges, crop)
    values: dict[str, list[Tensor]] = {metric: [] for metric in metrics}
    done = 0
    for name, x, y in _aligned(images, reference, pairs):
        for metric in metrics:
            try:
                values[metric].append(table[metric].compute(x, y).double())
            except ValueError as error:
                raise ValueError(f"{metric} of {name}: {error}") from error
        done += len(x)
        if progress is not None:
            progress(done, len(pairs))
    return [_average(table[metric], torch.cat(parts)) for metric, parts in values.items()]


@dataclass(frozen=True)
class _PairMetric:
    compute: Callable[[Tensor, Tensor], Tensor]
    title: Callable[[], str]
    higher: bool


def _average(metric: _PairMetric, values: Tensor) -> Score:
    # PSNR of equal images is infinite; then so is the mean, and there is no deviation.
    std = float(values.std(correction=0)) if values.isfinite().all() else None
    return Score(metric.title(), float(values.mean()), metric.higher, std)


def _pair_metrics(judges: Judges, crop: int) -> dict[str, _PairMetric]:
    def fidelity(name: str, function: Any, space: str) -> _PairMetric:
        return _PairMetric(
            lambda x, y: function(x, y, space=space, crop=crop),
            lambda: fidelity_title(name, space, crop),
            higher=True,
        )

    table = {}
    for key, name, function in (
        ("psnr", "PSNR", psnr),
        ("ssim", "SSIM", ssim),
        ("ms-ssim", "MS-SSIM", ms_ssim),
    ):
        table[key] = fidelity(name, function, "rgb")
        table[f"{key}-y"] = fidelity(name, function, "y")
    table["lpips"] = _PairMetric(
        torch.no_grad()(lambda x, y: lpips(x, y, judges.need("lpips"))),
        lambda: str(judges.need("lpips").name),
        higher=False,
    )
    table["dists"] = _PairMetric(
        torch.no_grad()(lambda x, y: dists(x, y, judges.need("dists"))),
        lambda: str(judges.need("dists").name),
        higher=False,
    )
    table["perceptual"] = _PairMetric(
        torch.no_grad()(lambda x, y: perceptual(x, y, judges.need("perceptual"))),
        lambda: str(judges.need("perceptual").name),
        higher=False,
    )
    table["niqe"] = _PairMetric(
        lambda x, y: niqe(x, judges.need("niqe")),
        lambda: str(judges.need("niqe").name),
        higher=False,
    )
    return table | _rank_metrics(judges)


def _rank_metrics(judges: Judges) -> dict[str, _PairMetric]:
    """Returns both statistics of both forms of RankIQA, which share the scores of the crops."""

    @functools.lru_cache(maxsize=2)
    def scores(x: Tensor, resize: int | None) -> RankIQAScores:
        return rankiqa(x, judges.need("rankiqa"), resize=resize)

    def metric(resize: int | None, statistic: str) -> _PairMetric:
        return _PairMetric(
            lambda x, y: getattr(scores(x, resize), statistic),
            lambda: rank_title(judges.need("rankiqa").name, resize, statistic),
            higher=False,
        )

    return {
        "rankiqa": metric(None, "mean"),
        "rankiqa-median": metric(None, "median"),
        "rankiqa-256": metric(256, "mean"),
        "rankiqa-256-median": metric(256, "median"),
    }


def _aligned(
    images: Source, reference: Source | None, pairs: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yields batches of partners of one shape, uint8, (B, C, H, W), with the name of the first."""
    waiting: list[tuple[Tensor, Tensor]] = []
    first = ""
    for i, j in pairs:
        x, y = _partners(images, reference, i, j)
        if waiting and (waiting[0][0].shape != x.shape or len(waiting) * x.numel() >= _VALUES):
            yield first, *_stacked(waiting)
            waiting = []
        first = first if waiting else images.name(i)
        waiting.append((x, y))
    if waiting:
        yield first, *_stacked(waiting)


def _partners(images: Source, reference: Source | None, i: int, j: int) -> tuple[Tensor, Tensor]:
    """Reads two partners, and makes grey ones RGB if the other is."""
    x = images.read(i)
    if reference is None:
        return x, x
    y = reference.read(j)
    channels = max(x.shape[0], y.shape[0])
    x, y = to_channels(x, channels), to_channels(y, channels)
    if x.shape != y.shape:
        raise ValueError(
            f"{images.name(i)} is {_by(x)} and its partner {reference.name(j)} is {_by(y)} "
            "(height x width); partners must have one size"
        )
    return x, y


def _stacked(waiting: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([x for x, _ in waiting]), torch.stack([y for _, y in waiting])


def _by(image: Tensor) -> str:
    return f"{image.shape[-2]}x{image.shape[-1]}"
