r"""What the damage of photographs is, estimated from them alone.

Photographs that are made smaller are nearly clean: their blur shrinks with them, their noise is averaged, the blocks of
JPEG dissolve. And scenes look alike at every scale (Zontak & Irani, 2011), so that small copies stand for clean
photographs. They are damaged in very many ways, and each photograph is explained by those of the damaged copies that
look most like it to the instruments of :func:`~blemish.evaluation.folder.measure`:

1. the readings :math:`s(y_i)` of each photograph are taken: noise, JPEG, width and direction of edges;
2. damages :math:`\theta_j` are drawn from wide laws (but JPEG is that of one of the photographs), given to small
   copies :math:`\tilde x_j`, and the readings :math:`s(d(\tilde x_j, \theta_j))` are taken by the same instruments;
3. the posterior of photograph i are the :math:`\theta_j` of the nearest readings, on the scale of their spread.

This is approximate Bayesian computation with nearest neighbours (Beaumont et al., 2002). That the instruments are biased
(under JPEG they see half of the noise; shadows look like blur) does no harm: they err on copies and on photographs alike.
Only the quality of JPEG is taken as it is read, since its tables stand in the pixels.

*How well.* Of 24 photographs that were damaged by ``ffhq/N`` the mean radius of the blur is found as 1.6 pixels with 240
simulations (1.8 is true; between photographs the estimates correlate with the truth with 0.6), and every quality exactly;
`tests/test_estimate.py` holds that.

What the laws cannot make is not found: noise of coarse grain, blur that differs within a picture, several compressions;
such photographs are counted by how far their readings are from all simulations. Noise that JPEG has swallowed leaves no
trace, and is as the laws have it. Where all channels of a photograph are equal it is read as grey, but noise is still
drawn for each channel. The damage that is left in the small copies is missing from the estimate.

References:
    | Approximate Bayesian Computation in Population Genetics (Beaumont et al., 2002)
    | Internal Statistics of a Single Natural Image (Zontak & Irani, 2011)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import SHRINK, Source, shrink, to_channels
from ..degradations import DiskLaw, Estimated, MixtureLaw, MotionLaw, to_uint8
from ..functional.kernels import disk_radius
from ..functional.random import (
    Randomness,
    generator_for,
    generators_for,
    rand,
    randn,
    stable_hash,
    uniform,
)
from .folder import measure

__all__ = ["Estimate", "estimate_damage"]

# N photographs, M simulations, R readings, k neighbours

_READINGS = {
    "noise": 0.05,
    "noise_luma": 0.05,
    "sigma_read": 0.05,
    "sigma_shot": 0.05,
    "jpeg_quality": 2.0,
    "jpeg_probability": 0.1,
    "blur_sigma": 0.05,
    "blur_anisotropy": 0.05,
}
"""What is read, and the least spread that it is compared on: where all simulations agree, small differences are none."""

_LOGARITHMIC = ("noise", "noise_luma", "sigma_read", "sigma_shot")
_UNKNOWN = {"jpeg_quality": 100.0, "jpeg_probability": 0.5}
_LEAST = 1e-3  # Levels below are rounding to 8 bits.

# The laws: kernels of 15 x 15 pixels, levels on the [0, 1] scale.
_SIZE = 15
_RADII = (0.0, 4.5)
_LENGTH = 12.0
_EXPOSURES = (0.1, 0.3, 0.5, 1.0)
_READ = (2e-4, 0.1)
_SHOT = (3e-3, 0.15)
_QUALITIES = (10, 100)
_UNCOMPRESSED = 0.15

_SIMULATIONS = 2400
_NEIGHBOURS = 5
_PHOTOGRAPHS = 300
_COPY = (
    160  # The largest side of what is measured of a copy in pixels, and at once of a photograph.
)
_SMALLEST = 32
_PIXELS = 1 << 18
_SURE = 0.9
_STRANGE = 0.99
_AT_ONCE = 500


@dataclass(frozen=True)
class Estimate:
    """What was found.

    Attributes:
        degradation: The damage, with k rows for each photograph.
        names: The names of the photographs that were measured, N of them.
        simulations: The number of damaged copies that they were compared with.
        strange: The names of those whose readings are farther from all simulations than 99 % of the simulations are
            from each other.
    """

    degradation: Estimated
    names: tuple[str, ...]
    simulations: int
    strange: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Returns the estimate as plain text, line by line: middle values, and what 80 % lie between."""
        d = self.degradation
        grey = (d.sigma_read.square() + d.sigma_shot.square() / 2).sqrt()
        found = [
            f"Estimated from {len(self.names)} photographs and {self.simulations} damaged small copies of them:",
            f"blur as of a disk of radius {_spread(disk_radius(d.kernel))} pixels, noise at middle grey "
            f"{_spread(255 * grey)} of 255;",
        ]
        compressed = d.quality > 0
        share = f"{100 * compressed.float().mean():.0f} %"
        jpeg = f"JPEG in {share}, of quality {_spread(d.quality[compressed])}."
        found.append(jpeg if compressed.any() else "no JPEG.")
        if self.strange:
            found.append(
                f"{len(self.strange)} of the photographs look like none of the damaged copies; their damage may be of "
                f"another kind: {', '.join(self.strange[:3])}{', ...' if len(self.strange) > 3 else ''}"
            )
        return found


@torch.no_grad()
def estimate_damage(
    source: Source,
    *,
    among: Sequence[int] | None = None,
    seed: int = 0,
    factor: int = SHRINK,
    simulations: int = _SIMULATIONS,
    progress: Callable[[int, int], object] | None = None,
) -> Estimate:
    """Estimates the damage of photographs; see this module.

    Arguments:
        source: The photographs, of any sizes, as :func:`~blemish.data.open_source` opens them with ``mixed=True``.
        among: The numbers of the photographs that may be measured; None means all.
        seed: Determines which photographs are measured, and the simulations.
        factor: How many times smaller copies are made, at least 1; 1 takes the photographs for clean.
        simulations: The least number of damaged copies, at least 5.
        progress: Called with the numbers of photographs and copies measured, and to be measured.

    Raises:
        ValueError: If the photographs are too small, or the simulations too few.
    """
    if simulations < _NEIGHBOURS:
        raise ValueError(
            f"simulations={simulations}; a photograph is explained by {_NEIGHBOURS} of them, so give at least as many"
        )
    choice = list(range(len(source)) if among is None else among)
    order = rand((len(choice),), generator_for(seed, "photographs")).argsort()[:_PHOTOGRAPHS]
    indices = [choice[i] for i in order.sort().values.tolist()]
    rounds = -(-simulations // len(indices))
    total = len(indices) * (1 + rounds)

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, total)

    copies, readings = [], []
    for done, index in enumerate(indices):
        photograph = _channels(source.read(index))
        copy = _copy(photograph, factor, source.name(index))
        copies.append(copy)
        readings.append(_read_cuts(photograph, copy.shape[-2:]))
        tell(done + 1)
    observed = torch.stack(readings)
    read = _qualities(observed)
    laws = _draw(rounds * len(copies), generator_for(seed, "damages"), read)
    noise = stable_hash(seed, "noise of copies")
    simulated = _read_damaged(copies * rounds, laws, noise, lambda done: tell(done + len(indices)))
    rows, strange = _nearest(observed, simulated)
    quality = torch.where(read.isnan()[:, None], laws.quality[rows], read[:, None])
    found = Estimated.of(
        kernel=laws.kernel[rows].flatten(0, 1),
        sigma_read=laws.sigma_read[rows].flatten(),
        sigma_shot=laws.sigma_shot[rows].flatten(),
        quality=quality.flatten(),
    )
    names = [source.name(i) for i in indices]
    apart = tuple(name for name, far in zip(names, strange.tolist(), strict=True) if far)
    return Estimate(found, tuple(names), len(copies) * rounds, apart)


def _channels(image: Tensor) -> Tensor:
    """Returns a photograph in one channel if it has no colour."""
    return to_channels(image, 1) if (image == image[:1]).all() else image


def _copy(photograph: Tensor, factor: int, name: str) -> Tensor:
    """Returns the middle of a small copy, which holds no larger image alive."""
    small = shrink(photograph, factor)
    height, width = small.shape[-2:]
    if min(height, width) < _SMALLEST:
        raise ValueError(
            f"{name} is {height}x{width} pixels (height x width) when it is made {factor} times smaller, and damage is "
            f"estimated on at least {_SMALLEST}; give photographs of {_SMALLEST * factor} pixels or more"
        )
    h, w = min(height, _COPY), min(width, _COPY)
    top, left = (height - h) // 2, (width - w) // 2
    return small[:, top : top + h, left : left + w].clone()


def _read_cuts(photograph: Tensor, size: torch.Size) -> Tensor:
    """Returns the middle readings of cuts of a photograph, of the size of its copy, on the grid of JPEG: (R,)."""
    h, w = size
    tops, lefts = (
        sorted({(length - side) * i // 4 // 8 * 8 for i in (1, 3)})
        for length, side in zip(photograph.shape[-2:], size, strict=True)
    )
    cuts = torch.stack([photograph[:, t : t + h, le : le + w] for t in tops for le in lefts])
    # A cut without edges says nothing about blur.
    found = measure(cuts)
    return _scaled({name: found[name].float().nanmedian()[None] for name in _READINGS})[0]


def _read_damaged(
    copies: list[Tensor], laws: Estimated, seed: int, tell: Callable[[int], None]
) -> Tensor:
    """Returns the readings of copies, each damaged first by its row of the laws, with shape (M, R)."""
    found = torch.empty(len(copies), len(_READINGS))
    done = 0
    for rows in _alike(copies):
        x = torch.stack([copies[i] for i in rows]).float() / 255
        shape = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
        generators = generators_for(seed, rows)
        params = laws.rows(torch.tensor(rows), randn(shape, generators), randn(shape, generators))
        found[rows] = _scaled(measure(to_uint8(laws(x, params))))
        done += len(rows)
        tell(done)
    return found


def _alike(images: list[Tensor]) -> Iterator[list[int]]:
    """Yields the numbers of images of one shape, as many as are measured at once."""
    groups: dict[torch.Size, list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(image.shape, []).append(i)
    for shape, numbers in groups.items():
        step = max(1, _PIXELS // shape.numel())
        yield from (numbers[start : start + step] for start in range(0, len(numbers), step))


def _draw(count: int, generator: Randomness, read: Tensor) -> Estimated:
    """Draws damages from wide laws, one for each of the rows of a table.

    Arguments:
        count: The number of rows.
        generator: The source of randomness.
        read: The qualities that were read, with shape (N,): NaN where that is not sure. JPEG is that of one of these
            photographs; where it is not sure, a wide law's.
    """
    blur = MixtureLaw((DiskLaw(_RADII, _SIZE), MotionLaw(_LENGTH, _EXPOSURES, _SIZE)))
    sizes = [min(_AT_ONCE, count - start) for start in range(0, count, _AT_ONCE)]
    kernel = torch.cat([blur.kernels(size, generator) for size in sizes])
    dark, shot = (_log_uniform(count, *bounds, generator) for bounds in (_READ, _SHOT))
    low, high = _QUALITIES
    quality = uniform((count,), low, high + 1, generator).floor().clamp(max=high)
    spared = rand((count,), generator) < _UNCOMPRESSED
    quality = quality.where(~spared, torch.zeros(()))
    known = read[(rand((count,), generator) * len(read)).long()]
    return Estimated.of(kernel, dark, shot, known.where(~known.isnan(), quality))


def _log_uniform(count: int, low: float, high: float, generator: Randomness) -> Tensor:
    return low * (high / low) ** rand((count,), generator)


def _scaled(measured: dict[str, Tensor]) -> Tensor:
    """Returns readings on scales where equal steps are about equally visible, with shape (B, R)."""
    columns = []
    for name in _READINGS:
        values = measured[name].float().nan_to_num(_UNKNOWN.get(name, 0.0))
        columns.append(values.clamp(min=_LEAST).log() if name in _LOGARITHMIC else values)
    return torch.stack(columns, dim=1)


def _nearest(observed: Tensor, simulated: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the simulations that look most like each photograph.

    Returns:
        Their rows, with shape (N, k), and whether even the nearest is farther than simulations are from each other,
        with shape (N,).
    """
    spread = simulated.std(dim=0).maximum(torch.tensor([*_READINGS.values()]))
    a, b = observed / spread, simulated / spread
    distance, rows = torch.cdist(a, b).topk(_NEIGHBOURS, largest=False)
    # The nearest to a simulation is itself.
    among = torch.cdist(b, b).topk(2, largest=False).values[:, 1]
    return rows, distance[:, 0] > among.quantile(_STRANGE)


def _qualities(observed: Tensor) -> Tensor:
    """Returns the qualities as they are read, 0 without JPEG, NaN where that is not sure, with shape (N,)."""
    quality, chance = (
        observed[:, list(_READINGS).index(f"jpeg_{n}")] for n in ("quality", "probability")
    )
    read = torch.where(chance >= _SURE, quality.round(), torch.zeros(()))
    return torch.where((chance >= _SURE) | (chance <= 1 - _SURE), read, torch.nan)


def _spread(values: Tensor) -> str:
    if not len(values):
        return ""
    low, mid, high = torch.quantile(values.float(), torch.tensor([0.1, 0.5, 0.9])).tolist()
    return f"{mid:.1f} ({low:.1f} to {high:.1f})"
