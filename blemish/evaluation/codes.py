r"""What the code of a universal degradation model consists of, and what its entries do.

*Active entries.* An entry i of the embedding :math:`e_g` says something as far as it varies from picture to picture once
it is rounded. With its standard deviation :math:`s_i` over damaged pictures it is called active where
:math:`s_i > 1/4`, a quarter of a step; its price is the mean of :math:`-\log_2 p_i`.

*Traversals.* From the code of an undamaged picture x an active entry is moved by
:math:`k s_i, \; k = -3, \dots, 3`, before the tail and without rounding, and decoded with one draw of noise,

.. math:: y_k = \hat f(x, e_g + k s_i \mathbf 1_i, e_l, n) .

Four facts are measured of each :math:`y_k`: the level of its noise, the width of its edges, its contrast, and how much the
grid of JPEG stands out. What a fact does along the way is compared with what damage does to it: its range is given in
standard deviations of this fact over the same picture with damage of the law. Whether it rises or falls is the balance
of rising and falling pairs (Kendall's tau, which counts ties as neither),

.. math:: \tau = \binom{m}{2}^{-1} \sum_{i < j} \mathrm{sign}(f_j - f_i) .

The paper finds that entries move several facts at once, because damages hide one another; nothing else is to be expected.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025), technical
    | report, Section 3.3 and Figure 6, https://arxiv.org/abs/2505.12860
    | A New Measure of Rank Correlation (Kendall, 1938)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..degradations import (
    Degradation,
    UniversalDegradation,
    UniversalParams,
    pack_code,
    unpack_code,
)
from ..functional.random import generator_for, generators_for, stable_hash
from ..functional.stages import grey_of, to_8_bits
from ..metrics import blur_extent, jpeg_grid, noise_level
from ..types import Shape

__all__ = [
    "ACTIVE",
    "FACTS",
    "STEPS",
    "Entries",
    "Traversal",
    "change",
    "fact_spread",
    "measure_facts",
    "moved",
    "read_entries",
    "spans",
    "tau",
    "traverse",
]

ACTIVE = 0.25
"""The standard deviation above which an entry says something, in steps of the rounding."""

STEPS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
"""The places of a traversal, in standard deviations."""

FACTS = ("noise", "blur", "contrast", "grid")
"""What is measured of pictures, see :func:`measure_facts`."""

PACKED = 8
"""The number of pictures whose codes are written as bytes."""

_BLOCK = (
    8  # The side of the areas whose means tell the contrast, in pixels; blur hardly changes them.
)


@dataclass(frozen=True)
class Entries:
    """The codes of damaged pictures, and what they cost.

    Attributes:
        codes: The embeddings, rounded, with shape (n, n_g).
        bits: What each of their entries costs, in bits, with shape (n, n_g).
        bits_l: What the maps cost, with shape (n,).
        bytes_g: What the embeddings of the first pictures take in a file, with shape (m,), m <= 8.
        bytes_l: What their maps take.
        bytes_all: What the files take, their heads included.
    """

    codes: Tensor
    bits: Tensor
    bits_l: Tensor
    bytes_g: Tensor
    bytes_l: Tensor
    bytes_all: Tensor

    @property
    def std(self) -> Tensor:
        """The standard deviation of each entry, in steps of the rounding, with shape (n_g,)."""
        return self.codes.std(dim=0, correction=0)

    @property
    def order(self) -> list[int]:
        """The entries, the most varying first."""
        return self.std.argsort(descending=True, stable=True).tolist()

    @property
    def active(self) -> list[int]:
        """The entries that say something, the most varying first."""
        std = self.std.tolist()
        return [i for i in self.order if std[i] > ACTIVE]

    @property
    def idle(self) -> list[int]:
        """The other entries, the most varying first."""
        return [i for i in self.order if i not in set(self.active)]


@torch.no_grad()
def read_entries(
    model: UniversalDegradation,
    damage: Degradation[Any],
    contents: Tensor,
    *,
    seed: int,
    batch: int = 16,
    progress: Callable[[int], object] | None = None,
) -> Entries:
    """Damages pictures and reads their codes.

    Arguments:
        model: The model, in evaluation mode.
        damage: The law by which they are damaged.
        contents: Undamaged pictures in [0, 1], with shape (n, C, H, W), n >= 1.
        seed: The seed of the damage.
        batch: Pictures at a time.
        progress: Called with the number of pictures that were read, after each batch.
    """
    found: list[UniversalParams] = []
    for start in range(0, len(contents), batch):
        x = contents[start : start + batch]
        rows = generators_for(stable_hash(seed, "damage"), range(start, start + len(x)))
        y = to_8_bits(damage(x, damage.sample(_shape(x), generator=rows)))
        found.append(model.rounded(*model.latents(y)))
        if progress is not None:
            progress(start + len(x))
    e_g, e_l = torch.cat([p.e_g for p in found]), torch.cat([p.e_l for p in found])
    codes = UniversalParams(e_g, e_l, e_g.new_zeros(len(e_g), 0))
    sizes = _packed(model, codes, (contents.shape[-2], contents.shape[-1]))
    return Entries(e_g, model.global_density.bits(e_g), model.bits(codes)[1], *sizes.T)


def measure_facts(images: Tensor, content: Tensor) -> dict[str, Tensor]:
    """Measures pictures of one content.

    Arguments:
        images: Pictures in [0, 1], with shape (B, C, H, W) of at least 16x16 pixels; they are rounded to 8 bits first.
        content: The same without damage, with shape (1, C, H, W).

    Returns:
        By the names of :data:`FACTS`, each with shape (B,):

        * ``noise``: the standard deviation of the luma's noise on the [0, 1] scale, as JPEG leaves none in the chroma;
          white noise in all three channels has 0.67 times that in the luma;
        * ``blur``: the width of the strongest edges in pixels, NaN where there are none;
        * ``contrast``: the slope of the least squares line from the content's light to the picture's, in means over
          8x8 pixels; 1 keeps it;
        * ``grid``: by which share differences are larger across the borders of JPEG's blocks than elsewhere, 0 where
          they are largest in another place.
    """
    y = to_8_bits(images)
    noise, grid = noise_level(grey_of(y)), jpeg_grid(y)
    return {
        "noise": noise,
        "blur": blur_extent(y, noise=noise).sigma,
        "contrast": _slope(content, y),
        "grid": torch.where((grid.phase == 0).all(dim=1), grid.excess, 0.0),
    }


@dataclass(frozen=True)
class Traversal:
    """What happens along the way of one entry.

    Attributes:
        entry: Which entry.
        std: Its standard deviation over damaged pictures.
        images: The picture at each of the :data:`STEPS`, with shape (7, C, H, W).
        facts: What was measured there, by the names of :data:`FACTS`, each with shape (7,).
        change: By how much pixels differ from those of the middle, in the mean, with shape (7,).
    """

    entry: int
    std: float
    images: Tensor
    facts: dict[str, Tensor]
    change: Tensor


@torch.no_grad()
def traverse(
    model: UniversalDegradation, x: Tensor, code: UniversalParams, entry: int, std: float
) -> Traversal:
    """Moves one entry of a code, and decodes with the same noise.

    Arguments:
        model: The model, in evaluation mode.
        x: The content, with shape (1, C, H, W).
        code: The code that is started from, with its noise, of one picture.
        entry: The number of the entry.
        std: Its standard deviation, by which the steps are measured.
    """
    images = moved(model, x, code, entry, std * torch.tensor(STEPS))
    middle = images[STEPS.index(0.0)]
    difference = (images - middle).abs().mean(dim=(1, 2, 3))
    return Traversal(entry, std, images, measure_facts(images, x), difference)


@torch.no_grad()
def moved(
    model: UniversalDegradation, x: Tensor, code: UniversalParams, entry: int, by: Tensor
) -> Tensor:
    """Returns pictures with an entry of the code moved, in [0, 1], with shape (m, C, H, W).

    Arguments:
        model: The model, in evaluation mode.
        x: The content, with shape (1, C, H, W).
        code: The code of one picture, with its noise.
        entry: The number of the entry.
        by: By how much, with shape (m,).
    """
    params = code.map(lambda t: t.expand(len(by), *t.shape[1:]).clone())
    params.e_g[:, entry] += by.to(params.e_g)
    return to_8_bits(model(x.expand(len(by), -1, -1, -1), params))


def change(
    model: UniversalDegradation, x: Tensor, code: UniversalParams, entry: int, std: float
) -> float:
    """Returns how much an entry that says little changes a picture: the mean absolute difference, the larger of two ways.

    It is moved either way by three standard deviations, and by half a step at least, as far as training moved it.

    Arguments:
        model: The model, in evaluation mode.
        x: The content, with shape (1, C, H, W).
        code: The code of one picture, with its noise.
        entry: The number of the entry.
        std: Its standard deviation.
    """
    far = max(3 * std, 0.5)
    low, middle, high = moved(model, x, code, entry, torch.tensor([-far, 0.0, far]))
    return max(float((side - middle).abs().mean()) for side in (low, high))


def spans(facts: dict[str, Tensor], spread: dict[str, float]) -> dict[str, float]:
    """Returns how far facts range, in units of what damage does; NaN where nothing is known.

    Arguments:
        facts: What was measured along a way, each with shape (m,).
        spread: The standard deviation of each fact over damaged pictures.
    """
    found = {}
    for name, values in facts.items():
        known = values[~values.isnan()]
        far = float(known.max() - known.min()) if len(known) else float("nan")
        found[name] = far / spread[name] if spread[name] > 0 else float("nan")
    return found


def tau(values: Tensor) -> float:
    """Returns Kendall's tau of values in their order: 1 where they rise, -1 where they fall.

    Arguments:
        values: Numbers, with shape (m,); NaN are left out, and of fewer than two the result is 0.
    """
    f = values[~values.isnan()]
    if len(f) < 2:
        return 0.0
    i, j = torch.triu_indices(len(f), len(f), 1)
    return float((f[j] - f[i]).sign().mean())


def fact_spread(
    damage: Degradation[Any], content: Tensor, *, seed: int, count: int = 24
) -> dict[str, float]:
    """Returns the standard deviation of each fact over one picture with different damage.

    Arguments:
        damage: The law of the damage.
        content: The picture, with shape (1, C, H, W).
        seed: The seed of the damage.
        count: How often it is damaged.
    """
    x = content.expand(count, -1, -1, -1)
    params = damage.sample(
        _shape(x), generator=generators_for(stable_hash(seed, "facts"), range(count))
    )
    found = measure_facts(damage(x, params), content)
    return {name: _deviation(values) for name, values in found.items()}


def _deviation(values: Tensor) -> float:
    known = values[~values.isnan()]
    return float(known.std(correction=0)) if len(known) else float("nan")


def _slope(content: Tensor, y: Tensor) -> Tensor:
    """Returns the slopes of y against the content, with shape (B,)."""
    a, b = (F.avg_pool2d(images, _BLOCK).flatten(1) for images in (content, y))
    a = a - a.mean(dim=1, keepdim=True)
    return (a * b).sum(dim=1) / a.square().sum(dim=1).clamp_min(1e-12)


def _packed(model: UniversalDegradation, codes: UniversalParams, size: tuple[int, int]) -> Tensor:
    """Returns the bytes of the embedding, of the map, and of the whole file, with shape (m, 3)."""
    rows = []
    for i in range(min(PACKED, len(codes))):
        data = pack_code(model, codes[i], size)
        code = unpack_code(model, data, generator=generator_for("unused"))
        rows.append((code.bytes_g, code.bytes_l, len(data)))
    return torch.tensor(rows, dtype=torch.float32)


def _shape(x: Tensor) -> Shape:
    B, C, H, W = x.shape
    return B, C, H, W
