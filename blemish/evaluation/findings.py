r"""What damage a model has learned, measured on many draws, beside the truth where it is known.

A degradation is inspected by drawing from it: nothing is read from its weights. Draws of a learned
degradation and of the true one are reduced to the same numbers, whatever made them:

* blur: the radius of the disk with the kernel's second moment, the share of the kernel in its
  middle (a sharp kernel with a faint wide halo has the radius of a disk, but not its middle), the
  sum of the kernel, the mean of the mask :math:`m_k`; and the kernels themselves;
* noise: the levels :math:`\sigma_{read}, \sigma_{shot}`, and the standard deviation of the noise at
  intensity x,

  .. math:: \sigma(x) = \sqrt{\sigma_{read}^2 + \sigma_{shot}^2 x};

* JPEG: the quality q and the mask :math:`m_q`.

An image that the true damage spares has the identity kernel, no noise and :math:`m_q = 0`, so that
learned and true values are drawn from distributions that can be compared: by the 1-Wasserstein
distance, in the units of the values. Sets of kernels are compared by the L1 distance of each from the
nearest of the other set, which tells disks from rings where the radius does not.

A draw is called *clean* where it hardly changes the image:

* blur: :math:`\lVert k - k_I \rVert_1 < 0.2`. It bounds the change, of any pixel by 0.2 where white is 1,
  and of any frequency by 20 %, as :math:`|K(\omega) - 1| \le \lVert k - k_I \rVert_1`. For a kernel that
  sums to 1 it means a middle of more than 0.9; of disks it holds below a radius of 0.57 pixels. (The radius
  bounds neither: a flat halo of 9x9 pixels that takes 1 % of the light makes it 0.5 pixels.)
* noise: :math:`\sigma(1/2)` below half a step of an 8-bit file;
* JPEG: :math:`m_q < 0.1`, less than a tenth of the error of compression.

Where the truth is not known, two degradations that were learned apart, with other seeds or from other
halves of the images, are compared in the same way: what they do not share is chance.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ..degradations import BlurParams, Degradation, JPEGParams, ReadShotParams
from ..degradations.compose import ChainParams, PartialParams
from ..degradations.learned import LearnedBlurParams, LearnedJPEGParams
from ..functional.kernels import centroid, delta, disk_radius
from ..functional.random import generator_for
from ..metrics import nearest_l1, wasserstein1
from ..types import Params
from .numbers import finite, statistics

__all__ = ["Drawn", "Findings", "inspect_degradation", "noise_curve"]

FORMAT = 1
"""The version of the JSON document."""

EXAMPLES = 8
"""The number of samples whose maps of noise levels are kept."""

SHARP = 0.2
"""The L1 distance from the identity below which a kernel counts as clean."""

STILL = 0.5 / 255
"""The standard deviation in middle grey below which noise counts as none: half a step of 8 bits."""

UNTOUCHED = 0.1
"""The mask below which an image counts as not compressed."""

_BATCH = 50


@dataclass(frozen=True)
class Drawn:
    """Many draws from one degradation, reduced to numbers.

    Attributes:
        values: One number for each draw, with shape (N,), by quantity: ``radius``, ``kernel_centre``,
            ``kernel_sum``, ``kernel_mask``, ``sigma_read``, ``sigma_shot``, ``sigma_grey`` and
            ``sigma_white`` (the standard deviations at x = 1/2 and 1), ``quality``, ``quality_mask``, and what other degradations say of
            themselves. Qualities are only those of images that are compressed.
        kernels: The kernels, with shape (N, 1, K, K); None without blur.
        levels: The mean levels of read and shot noise at each pixel, with shape (2, C, H, W); None
            without noise.
        examples: The levels of the first draws, with shape (EXAMPLES, 2, C, H, W).
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    kernels: Tensor | None = None
    levels: Tensor | None = None
    examples: Tensor | None = None

    def summary(self) -> dict[str, dict[str, float]]:
        """Returns the mean, the standard deviation and quantiles of each quantity."""
        return {name: statistics(values) for name, values in self.values.items() if len(values)}

    def clean(self) -> dict[str, float]:
        """Returns the shares in [0, 1] of draws that are clean.

        Returns:
            ``clean_blur``, ``clean_noise`` and ``clean_jpeg``, of the kinds of damage that there are.
        """
        found = {}
        if self.kernels is not None:
            away = (self.kernels - delta(self.kernels.shape[-1])).flatten(1)
            found["clean_blur"] = away.abs().sum(dim=1) < SHARP
        if "sigma_grey" in self.values:
            found["clean_noise"] = self.values["sigma_grey"] < STILL
        if "quality_mask" in self.values:
            found["clean_jpeg"] = self.values["quality_mask"] < UNTOUCHED
        return {name: float(clean.float().mean()) for name, clean in found.items()}


@dataclass(frozen=True)
class Findings:
    """What was found out about a degradation, beside the true damage or beside another one.

    Attributes:
        count: The number of draws N.
        seed: The seed of the draws.
        shape: The shape (C, H, W) of the images it was drawn for.
        learned: What the degradation draws.
        true: What the true damage draws, or another degradation; None where there is nothing to compare with.
        reference: Whether ``true`` is the ``truth`` or an ``other`` degradation, learned as this one.
    """

    count: int
    seed: int
    shape: tuple[int, int, int]
    learned: Drawn
    true: Drawn | None = None
    reference: Literal["truth", "other"] = "truth"

    def distances(self) -> dict[str, float]:
        """Returns how far the learned damage is from the true one, or from the other.

        Returns:
            ``radius``, ``sigma_read``, ... are 1-Wasserstein distances in the quantity's unit;
            ``mean_kernel`` is the L1 distance of the mean kernels, 0 to 2 for kernels that sum
            to 1; ``nearest_kernel`` is the mean L1 distance of a learned kernel from the nearest true
            one, and ``nearest_kernel_back`` that of a true kernel from the nearest learned one;
            ``noise_curve`` is the mean over x in [0, 1] of the distance of the median standard
            deviations; ``clean_blur``, ``clean_noise`` and ``clean_jpeg`` are the differences of
            the shares of clean draws. Only what both have is compared.
        """
        return dict(self._distances)

    @cached_property
    def kernel_floor(self) -> float | None:
        """The mean L1 distance of a true kernel from the nearest *other* one; None without two.

        No sample of kernels can be expected to come nearer to the true ones than they to each other.
        """
        if self.true is None or self.true.kernels is None or len(self.true.kernels) < 2:
            return None
        return float(nearest_l1(self.true.kernels.flatten(1)).mean())

    @cached_property
    def _distances(self) -> dict[str, float]:
        if self.true is None:
            return {}
        found = {
            name: wasserstein1(values, self.true.values[name])
            for name, values in self.learned.values.items()
            if len(values) and len(self.true.values.get(name, ()))
        }
        if self.learned.kernels is not None and self.true.kernels is not None:
            found |= _kernel_distances(self.learned.kernels, self.true.kernels)
        if all("sigma_shot" in side.values for side in (self.learned, self.true)):
            found["noise_curve"] = _curve_distance(self.learned, self.true)
        clean, others = self.learned.clean(), self.true.clean()
        return found | {name: abs(clean[name] - others[name]) for name in clean if name in others}

    def lines(self) -> list[str]:
        """Returns the distances as plain text, line by line."""
        what = "from the truth" if self.reference == "truth" else "between the two"
        return [f"{name:19} {value:8.4f} {what}" for name, value in self.distances().items()]

    def to_json(self) -> str:
        """Returns a JSON document with summaries, distances, curves and all values."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "count": self.count,
            "seed": self.seed,
            "shape": list(self.shape),
            "reference": self.reference,
            "distances": self.distances(),
            "kernel_floor": self.kernel_floor,
            "learned": _document(self.learned),
            "true": None,
        }
        if self.true is not None:
            document["true" if self.reference == "truth" else "other"] = _document(self.true)
        return json.dumps(finite(document), indent=1) + "\n"


@torch.no_grad()
def inspect_degradation(
    degradation: Degradation[Any],
    shape: tuple[int, int, int],
    *,
    truth: Degradation[Any] | None = None,
    other: Degradation[Any] | None = None,
    count: int = 1000,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Findings:
    """Draws from a degradation, and from the true one where it is known, or from another one.

    Arguments:
        degradation: What was learned, or any other degradation; on the CPU.
        shape: The shape (C, H, W) of the images that it damages.
        truth: The true damage.
        other: Another degradation to compare with instead of the truth.
        count: The number of draws, at least 1.
        seed: The seed; the draws of both are independent, also where both are the same degradation.
        progress: Called with the number of finished draws after each batch.

    Raises:
        ValueError: If the count is below 1, or both truth and other are given.
    """
    if count < 1:
        raise ValueError(f"count={count}; draw at least 1 sample")
    if truth is not None and other is not None:
        raise ValueError("give the truth or another degradation to compare with, not both")
    learned = _draw(degradation, shape, count, generator_for(seed, "learned"), progress)
    second, word = (truth, "true") if other is None else (other, "other")
    if second is None:
        return Findings(count, seed, shape, learned)
    true = _draw(second, shape, count, generator_for(seed, word), None)
    return Findings(count, seed, shape, learned, true, "truth" if other is None else "other")


def noise_curve(drawn: Drawn, intensities: Tensor) -> Tensor:
    """Returns how strong the noise is at given intensities.

    Arguments:
        drawn: Draws that have noise.
        intensities: Intensities x in [0, 1], with shape (M,).

    Returns:
        The 5 %, 50 % and 95 % quantiles over the draws of the standard deviation at each
        intensity, with shape (3, M).
    """
    read, shot = drawn.values["sigma_read"], drawn.values["sigma_shot"]
    level = (read.square()[:, None] + shot.square()[:, None] * intensities).sqrt()
    return level.quantile(torch.tensor([0.05, 0.5, 0.95]), dim=0)


class _Collector:
    """Reduces batches of drawn params to numbers as they come, for many draws fill the memory."""

    def __init__(self) -> None:
        self.values: dict[str, list[Tensor]] = {}
        self.kernels: list[Tensor] = []
        self.levels: Tensor | None = None
        self.examples: Tensor | None = None
        self.count = 0

    def add(self, params: Params) -> None:
        """Takes a batch."""
        self._visit(params, torch.ones(len(params), dtype=torch.bool))
        self.count += len(params)

    def drawn(self) -> Drawn:
        """Returns what was taken so far."""
        return Drawn(
            {name: torch.cat(parts) for name, parts in self.values.items()},
            torch.cat(self.kernels) if self.kernels else None,
            None if self.levels is None else (self.levels / self.count).float(),
            self.examples,
        )

    def _visit(self, params: Params, applied: Tensor) -> None:
        if isinstance(params, ChainParams):
            for stage in params.stages:
                self._visit(stage, applied)
        elif isinstance(params, PartialParams):
            self._visit(params.inner, applied & params.applied)
        elif isinstance(params, BlurParams):
            self._blur(params, applied)
        elif isinstance(params, ReadShotParams):
            self._noise(params, applied)
        elif isinstance(params, JPEGParams):
            self._jpeg(params, applied)
        else:
            for name, values in params.summary().items():
                self._keep(name, values[applied])

    def _keep(self, name: str, values: Tensor) -> None:
        self.values.setdefault(name, []).append(values.detach().float())

    def _blur(self, params: BlurParams, applied: Tensor) -> None:
        kernel = params.kernel
        kernel = torch.where(_like(applied, kernel), kernel, delta(kernel.shape[-1]).to(kernel))
        self._keep("radius", disk_radius(kernel))
        total, middle = kernel.flatten(1).sum(dim=1), kernel.shape[-1] // 2
        self._keep("kernel_centre", kernel[:, 0, middle, middle] / total.clamp_min(1e-12))
        self._keep("kernel_sum", total)
        if isinstance(params, LearnedBlurParams):
            self._keep("kernel_mask", params.mask.flatten(1).mean(dim=1))
        self.kernels.append(kernel.clone())

    def _noise(self, params: ReadShotParams, applied: Tensor) -> None:
        # The sign of a level means nothing.
        read, shot = (
            (torch.where(_like(applied, level), level, 0.0).abs()).expand_as(params.eps_read)
            for level in (params.sigma_read, params.sigma_shot)
        )
        squares = [level.square().flatten(1).mean(dim=1) for level in (read, shot)]
        self._keep("sigma_read", squares[0].sqrt())
        self._keep("sigma_shot", squares[1].sqrt())
        self._keep("sigma_grey", (squares[0] + squares[1] / 2).sqrt())
        self._keep("sigma_white", (squares[0] + squares[1]).sqrt())
        levels = torch.stack([read, shot], dim=1)
        total = levels.double().sum(dim=0)
        self.levels = total if self.levels is None else self.levels + total
        if self.examples is None:
            self.examples = levels[:EXAMPLES].clone()

    def _jpeg(self, params: JPEGParams, applied: Tensor) -> None:
        masked = isinstance(params, LearnedJPEGParams)
        mask = params.mask if masked else torch.ones_like(params.quality)  # type: ignore[attr-defined]
        self._keep("quality", params.quality[applied].clamp(1, 100))
        self._keep("quality_mask", torch.where(applied, mask, 0.0))


def _draw(
    degradation: Degradation[Any],
    shape: tuple[int, int, int],
    count: int,
    generator: torch.Generator,
    progress: Callable[[int], object] | None,
) -> Drawn:
    collector = _Collector()
    while collector.count < count:
        batch = min(_BATCH, count - collector.count)
        collector.add(degradation.sample((batch, *shape), generator=generator))
        if progress is not None:
            progress(collector.count)
    return collector.drawn()


def _like(applied: Tensor, other: Tensor) -> Tensor:
    return applied.view(-1, *[1] * (other.ndim - 1))


def _padded(kernel: Tensor, size: int) -> Tensor:
    margin = (size - kernel.shape[-1]) // 2
    return torch.nn.functional.pad(kernel, [margin] * 4)


def _kernel_distances(learned: Tensor, true: Tensor) -> dict[str, float]:
    size = max(learned.shape[-1], true.shape[-1])
    a, b = (_padded(kernels, size).flatten(1) for kernels in (learned, true))
    return {
        "mean_kernel": float((a.mean(dim=0) - b.mean(dim=0)).abs().sum()),
        "nearest_kernel": float(nearest_l1(a, b).mean()),
        "nearest_kernel_back": float(nearest_l1(b, a).mean()),
    }


def _curve_distance(learned: Drawn, true: Drawn) -> float:
    x = torch.linspace(0, 1, 101)
    a, b = (noise_curve(drawn, x)[1] for drawn in (learned, true))
    return float(torch.trapezoid((a - b).abs(), x))


def _document(drawn: Drawn) -> dict[str, Any]:
    document: dict[str, Any] = {"summary": drawn.summary(), "clean": drawn.clean()}
    if drawn.kernels is not None:
        mean = drawn.kernels.mean(dim=0)
        document["mean_kernel"] = mean[0].tolist()
        document["mean_kernel_centroid"] = centroid(mean[None])[0].tolist()
    if drawn.levels is not None:
        x = torch.linspace(0, 1, 11)
        low, median, high = noise_curve(drawn, x).tolist()
        document["noise_curve"] = {"x": x.tolist(), "q5": low, "q50": median, "q95": high}
    document["values"] = {name: values.tolist() for name, values in drawn.values.items()}
    return document
