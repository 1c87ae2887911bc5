r"""What damage a folder of images seems to have, before anything is trained.

A sample of the images is measured one by one, by the estimators of noise (:mod:`blemish.metrics.noise_level`), JPEG
(:mod:`blemish.metrics.jpeg_trace`) and blur (:mod:`blemish.metrics.blur_extent`); files that are JPEG also say
themselves how they were compressed. Small images say little each: where the commonest size is small, its images are also
measured as parts of one large image, under the assumption that their damage is alike.

Of large images the middle is measured, cut at multiples of 8 pixels so that blocks stay where they are. Images below
16x16 pixels are counted but not measured, and of grey images below 32x32 the noise is not.

The estimates are judged by :mod:`blemish.evaluation.verdicts`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import JPEGFile, Source, jpeg_file, to_channels
from ..functional.random import generator_for, rand
from ..metrics import blur_extent, jpeg_trace, noise_law, noise_level
from .numbers import finite, statistics
from .verdicts import Share, Suggestion, Verdict, judge, suggest

__all__ = ["QUANTITIES", "FolderFindings", "inspect_folder", "measure"]

FORMAT = 1
"""The version of the JSON document."""

QUANTITIES: dict[str, str] = {
    "noise": "standard deviation of white noise in all channels, [0, 1] scale",
    "noise_luma": "standard deviation of the noise of the luma, [0, 1] scale",
    "sigma_read": "standard deviation of noise at black, [0, 1] scale",
    "sigma_shot": "square root of the growth of its variance from black to white",
    "jpeg_probability": "chance that the pixels went through JPEG",
    "jpeg_quality": "quality of libjpeg by the pixels, if they did",
    "jpeg_low": "lower end of the quality's 90 % range",
    "jpeg_high": "upper end of the quality's 90 % range",
    "jpeg_row": "row where blocks begin, modulo 8",
    "jpeg_column": "column where blocks begin, modulo 8",
    "grid_strength": "how far borders of blocks stand out, in standard deviations",
    "blur_sigma": "width of the sharpest edges as of a Gaussian, pixels",
    "blur_radius": "radius of a disk that would make sharp edges that wide, pixels",
    "blur_anisotropy": "how much the width depends on the direction, 0 to 1",
    "blur_angle": "direction of the largest blur, radians, 0 along a row",
    "file_quality": "quality by the tables in the JPEG file's header",
}
"""What is measured in each image, and its unit."""

_LARGEST = 512  # The side of what is looked at, in pixels.
_SMALLEST = 16
_SMALLEST_GREY = 32  # For noise.
_POOL = 96  # The side up to which images are also measured together.
_PIXELS = 1 << 18  # Pixels that are measured at once.
_BARS = 20


@dataclass(frozen=True)
class FolderFindings:
    """What was found out about a source of images.

    Attributes:
        title: What the source is.
        total: The number of its images.
        seed: The seed of the sample.
        names: The names of the images that were measured, in the source's order, N of them.
        values: One value for each of them by the names of :data:`QUANTITIES`, float32, NaN where it is unknown, with
            shape (N,).
        sizes: How many of them have each (height, width).
        pooled: ``noise``, ``noise_luma``, ``sigma_read``, ``sigma_shot``, ``blur_sigma`` and ``blur_radius`` of the
            small images of the commonest size together; empty for large images.
        files: The JPEG files' compression, by the images' names.
        shares: How ``noise``, ``jpeg`` and ``blur`` are spread over the images.
        verdicts: What it adds up to.
        suggestion: The recipe that fits.
    """

    title: str
    total: int
    seed: int
    names: tuple[str, ...]
    values: dict[str, Tensor]
    sizes: dict[tuple[int, int], int]
    pooled: dict[str, float]
    files: dict[str, JPEGFile]
    shares: dict[str, Share]
    verdicts: tuple[Verdict, ...]
    suggestion: Suggestion

    @property
    def warnings(self) -> tuple[Verdict, ...]:
        """What to look after before training."""
        return tuple(verdict for verdict in self.verdicts if verdict.warning)

    def summary(self) -> dict[str, dict[str, float]]:
        """Returns the number of known values of each quantity, their mean, deviation and quantiles."""
        known = {name: values[~values.isnan()] for name, values in self.values.items()}
        return {
            name: {"count": len(values), **statistics(values)}
            for name, values in known.items()
            if len(values)
        }

    def histogram(self, quantity: str) -> tuple[list[float], list[int]]:
        """Returns the edges of bars over the range of a quantity, and how many images lie in each.

        Arguments:
            quantity: A name in :data:`QUANTITIES`.

        Raises:
            ValueError: If there is no such quantity.
        """
        if quantity not in self.values:
            raise ValueError(
                f"unknown quantity {quantity!r}; choose one of {', '.join(self.values)}"
            )
        values = self.values[quantity]
        if quantity == "jpeg_quality":
            values = values[self.values["jpeg_probability"] >= 0.5]
        known = values[~values.isnan()]
        if not len(known):
            return [], []
        low, high = known.aminmax()
        counts, edges = torch.histogram(known, _BARS, range=(float(low), float(high)))
        return edges.tolist(), counts.int().tolist()

    def lines(self) -> list[str]:
        """Returns the findings as plain text, line by line."""
        seen = f"{len(self.names)} of {self.total} images measured: {self.title}"
        found = [("Warning: " if v.warning else "") + v.text for v in self.verdicts]
        if self.pooled:
            found.append(
                "All together: noise {noise:.4f} (read {sigma_read:.4f}, shot {sigma_shot:.4f}), edges "
                "{blur_sigma:.2f} pixels wide.".format(**self.pooled)
            )
        name = self.suggestion.recipe or "none"
        return [seen, *found, f"Recipe that fits: {name} ({self.suggestion.reason})."]

    def to_json(self) -> str:
        """Returns a JSON document with all values, summaries, histograms and conclusions."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "title": self.title,
            "total": self.total,
            "seed": self.seed,
            "sizes": [{"height": h, "width": w, "count": n} for (h, w), n in self.sizes.items()],
            "quantities": QUANTITIES,
            "summary": self.summary(),
            "histograms": {
                name: dict(zip(("edges", "counts"), self.histogram(name), strict=True))
                for name in self.values
            },
            "pooled": self.pooled,
            "files": {
                name: {**asdict(file), "luma": file.luma.int().tolist()}
                for name, file in self.files.items()
            },
            "shares": {damage: asdict(share) for damage, share in self.shares.items()},
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "suggestion": asdict(self.suggestion),
            "names": list(self.names),
            "values": {name: values.tolist() for name, values in self.values.items()},
        }
        return json.dumps(finite(document), indent=1) + "\n"


@torch.no_grad()
def inspect_folder(
    source: Source,
    *,
    count: int = 500,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> FolderFindings:
    """Measures a sample of images.

    Arguments:
        source: The images, of any sizes, as :func:`~blemish.data.open_source` opens them with ``mixed=True``. They must
            be as they are: resizing and padding hide what JPEG left.
        count: The largest number of images that are measured, at least 1; they are drawn without repetition.
        seed: The seed of the sample.
        progress: Called with the numbers of images measured and to be measured.

    Raises:
        ValueError: If the count is below 1, or an image is broken.
    """
    if count < 1:
        raise ValueError(f"count={count}; measure at least 1 image")
    chosen = rand((len(source),), generator_for(seed, "folder")).argsort()[:count].sort().values
    indices = chosen.tolist()
    collector = _Collector(len(indices))
    for position, index in enumerate(indices):
        collector.add(position, source.read(index), source.raw(index))
        if progress is not None:
            progress(position + 1, len(indices))
    collector.flush()
    names = tuple(source.name(i) for i in indices)
    values, sizes = collector.values, dict(collector.sizes.most_common())
    files = {names[i]: file for i, file in collector.files.items()}
    qualities = Counter(file.quality for file in files.values())
    verdicts, shares = judge(values, names, sizes, len(source), qualities)
    return FolderFindings(
        title=source.title,
        total=len(source),
        seed=seed,
        names=names,
        values=values,
        sizes=sizes,
        pooled=collector.pooled(),
        files=files,
        shares=shares,
        verdicts=tuple(verdicts),
        suggestion=suggest(shares),
    )


class _Collector:
    """Measures images as they come, those of one shape together."""

    def __init__(self, count: int) -> None:
        self.values = {name: torch.full((count,), math.nan) for name in QUANTITIES}
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.files: dict[int, JPEGFile] = {}
        self.waiting: dict[torch.Size, list[tuple[int, Tensor]]] = {}
        self.small: dict[torch.Size, list[Tensor]] = {}

    def add(self, position: int, image: Tensor, content: bytes | None) -> None:
        """Takes an image (C, H, W), and its file if there is one."""
        file = None if content is None else jpeg_file(content)
        if file is not None:
            self.files[position] = file
            self.values["file_quality"][position] = file.quality
        height, width = image.shape[-2:]
        self.sizes[height, width] += 1
        if min(height, width) < _SMALLEST:
            return
        image = _middle(image)
        if max(height, width) <= _POOL:
            self.small.setdefault(image.shape, []).append(image)
        group = self.waiting.setdefault(image.shape, [])
        group.append((position, image))
        if len(group) * image[0].numel() >= _PIXELS:
            self._measure(self.waiting.pop(image.shape))

    def flush(self) -> None:
        """Measures what waits."""
        for group in self.waiting.values():
            self._measure(group)
        self.waiting.clear()

    def pooled(self) -> dict[str, float]:
        """Measures the small images of the commonest shape as one."""
        if not self.small:
            return {}
        images = torch.stack(max(self.small.values(), key=len))
        luma = to_channels(images, 1)
        law = noise_law(images, pooled=True)
        blur = blur_extent(images, noise=noise_level(luma), pooled=True)
        return {
            "noise": float(law.level),
            "noise_luma": float(noise_level(luma, pooled=True)),
            "sigma_read": float(law.read),
            "sigma_shot": float(law.shot),
            "blur_sigma": float(blur.sigma),
            "blur_radius": float(blur.radius),
        }

    def _measure(self, group: list[tuple[int, Tensor]]) -> None:
        where = torch.tensor([position for position, _ in group])
        for name, values in measure(torch.stack([image for _, image in group])).items():
            self.values[name][where] = values.float()


def measure(images: Tensor) -> dict[str, Tensor]:
    """Measures images of one size.

    Arguments:
        images: uint8, of at least 16x16 pixels, with shape (B, C, H, W).

    Returns:
        What is measured in each of them by the names of :data:`QUANTITIES`, NaN where it is unknown, with shape (B,);
        not what only a file can tell.
    """
    luma = to_channels(images, 1)
    noise = noise_level(luma)
    law, trace, blur = noise_law(images), jpeg_trace(images), blur_extent(images, noise=noise)
    # An image without any block that is not clipped says nothing.
    unknown = trace.evidence == 0
    # In a small grey image there is hardly a patch without texture.
    trusted = images.shape[1] > 1 or min(images.shape[-2:]) >= _SMALLEST_GREY
    return {
        "noise": torch.where(torch.tensor(trusted), law.level, math.nan),
        "noise_luma": noise,
        "sigma_read": law.read,
        "sigma_shot": law.shot,
        "jpeg_probability": torch.where(unknown, math.nan, trace.probability),
        "jpeg_quality": torch.where(unknown, math.nan, trace.quality),
        "jpeg_low": torch.where(unknown, math.nan, trace.low),
        "jpeg_high": torch.where(unknown, math.nan, trace.high),
        "jpeg_row": trace.phase[:, 0],
        "jpeg_column": trace.phase[:, 1],
        "grid_strength": trace.grid.strength,
        "blur_sigma": blur.sigma,
        "blur_radius": blur.radius,
        "blur_anisotropy": blur.anisotropy,
        "blur_angle": blur.angle,
    }


def _middle(image: Tensor) -> Tensor:
    """Cuts the middle of a large image, from multiples of 8 pixels on."""
    height, width = image.shape[-2:]
    top, left = (max(0, (side - _LARGEST) // 2) // 8 * 8 for side in (height, width))
    return image[:, top : top + _LARGEST, left : left + _LARGEST]
