r"""Pictures of what the parts of a model do, together and one by one.

Two kinds, as in the appendix of the paper:

* *in turn*: one clean image :math:`x = G_x(z_x)`, then with each part of the damage added,
  :math:`x * k`, :math:`x * k + n`, :math:`\psi(x * k + n, q)` (Fig. 17 to 21);
* *walks*: the latent of the image goes along the rows, that of one part of the damage along the
  columns, both on straight lines (Fig. 22 to 24). Where image and damage are learned apart, a row
  keeps its damage's course, and a column its damage.

References:
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), Appendix B
    | https://arxiv.org/abs/2003.07849
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..degradations import (
    BlurParams,
    Chain,
    Degradation,
    Identity,
    JPEGParams,
    LearnedBlur,
    LearnedJPEG,
    LearnedNoise,
    PartialParams,
    ReadShotParams,
)
from ..degradations.learned import LearnedJPEGParams
from ..functional.random import generator_for, randn
from ..priors import Prior
from ..types import Params
from .charts import short
from .pictures import Picture, heat, picture

__all__ = ["Step", "Walk", "kernel_picture", "steps", "walks"]

_CANDIDATES = 64


@dataclass(frozen=True)
class Step:
    """The same images after one more part of the damage.

    Attributes:
        title: What was added.
        formula: The images, as the paper writes them.
        pictures: The images.
    """

    title: str
    formula: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Walk:
    """A walk through two latent spaces.

    Attributes:
        title: The two spaces.
        note: How to read it.
        header: What the damage alone looks like in each column.
        rows: The images.
    """

    title: str
    note: str
    header: tuple[Picture, ...]
    rows: tuple[tuple[Picture, ...], ...]


@torch.no_grad()
def steps(
    prior: Prior, degradation: Degradation[Any], *, count: int = 8, seed: int = 0
) -> tuple[Step, ...]:
    """Draws clean images and adds the parts of the damage in turn.

    Arguments:
        prior: The generator of clean images.
        degradation: The damage; the stages of a chain are its parts.
        count: The number of images.
        seed: The seed.

    Returns:
        The clean images and one step for each part; nothing where there is no damage.
    """
    g = generator_for(seed, "steps")
    x = prior.sample(count, generator=g)
    formula = "x"
    found = [Step("Clean image", formula, _pictures(x, "generated clean image", [""] * count))]
    for stage in _stages(degradation):
        params = stage.sample((count, *prior.shape), generator=g)
        if isinstance(stage, Identity):
            continue
        # As a chain does: clamped before a stage that needs the range.
        x = stage(x.clamp(0, 1) if stage.needs_range else x, params)
        kind, pattern = _kind(params)
        formula = pattern.format(formula)
        pictures = _pictures(x, f"the image with {kind} added", _captions(params))
        found.append(Step(f"+ {kind}", formula, pictures))
    return tuple(found) if len(found) > 1 else ()


@torch.no_grad()
def walks(
    prior: Prior,
    degradation: Degradation[Any],
    *,
    rows: int = 4,
    columns: int = 7,
    seed: int = 0,
) -> tuple[Walk, ...]:
    """Walks through the latent spaces of the image and of each learned part of the damage.

    The walk leads from the weakest to the strongest damage among 64 draws.

    Arguments:
        prior: The generator of clean images.
        degradation: The damage; its learned stages have latents.
        rows: The number of images from one latent of the prior to another.
        columns: The number of steps from weak to strong damage.
        seed: The seed.

    Returns:
        A walk for each learned stage; nothing where there is none.
    """
    ends = prior.latents(2, generator=generator_for(seed, "walk"))
    images = prior.synthesize(_line(ends[0], ends[1], rows)).clamp(0, 1)
    makers: dict[type, Callable[[Any, Tensor, int, int], Walk]] = {
        LearnedBlur: _blur_walk,
        LearnedNoise: _noise_walk,
        LearnedJPEG: _jpeg_walk,
    }
    return tuple(
        makers[type(stage)](stage, images, columns, seed)
        for stage in _stages(degradation)
        if type(stage) in makers
    )


def kernel_picture(kernel: Tensor, alt: str, caption: str = "") -> Picture:
    """Makes a picture of a kernel, each brightest at its own peak.

    Brightness is the square root of the weight, so that faint tails beside a strong centre are seen.

    Arguments:
        kernel: A kernel, with shape (K, K).
        alt: What a reader who does not see it is told.
        caption: A few words shown below it.
    """
    return heat(kernel.clamp_min(0).sqrt(), float(kernel.max().clamp_min(0).sqrt()), alt, caption)


def _blur_walk(stage: LearnedBlur, images: Tensor, columns: int, seed: int) -> Walk:
    z = randn((_CANDIDATES, stage.config.latent), generator_for(seed, "walk", "blur"))
    strength = stage.generate(z).summary()["radius"]
    params = stage.generate(_between_extremes(z, strength, columns))
    header = tuple(
        kernel_picture(
            kernel[0], f"learned kernel of radius {radius:.2f} pixels", f"{radius:.2f} px"
        )
        for kernel, radius in zip(params.kernel, params.summary()["radius"].tolist(), strict=True)
    )
    note = (
        "Down a column the image changes and the kernel above it stays; along a row the same image "
        "is blurred by kernels from the smallest to the largest."
    )
    return Walk("Image and blur kernel", note, header, _table(stage, images, params))


def _noise_walk(stage: LearnedNoise, images: Tensor, columns: int, seed: int) -> Walk:
    shape = tuple(images.shape[1:])
    g = generator_for(seed, "walk", "noise")
    z = randn((_CANDIDATES, stage.config.network.latent), g)
    # The same normal numbers everywhere: only the levels change.
    read, shot = (randn((1, *shape), g) for _ in range(2))
    parts = [
        _grey_level(stage.generate(z[i : i + 16], read.expand(16, *shape), shot.expand(16, *shape)))
        for i in range(0, _CANDIDATES, 16)
    ]
    strength = torch.cat(parts).flatten(1)
    z = _between_extremes(z, strength.square().mean(dim=1), columns)
    params = stage.generate(z, read.expand(columns, *shape), shot.expand(columns, *shape))
    levels = _grey_level(params)
    header = tuple(
        heat(
            level.mean(dim=0),
            float(levels.mean(dim=1).max()),
            "map of the learned noise level",
            f"σ {short(float(level.square().mean().sqrt()), 2)}",
        )
        for level in levels
    )
    note = (
        "The noise is the same everywhere, only its level changes along a row. Above each column: "
        "the level at each pixel, at half intensity."
    )
    return Walk("Image and noise", note, header, _table(stage, images, params))


def _jpeg_walk(stage: LearnedJPEG, images: Tensor, columns: int, seed: int) -> Walk:
    z = randn((_CANDIDATES, stage.config.latent), generator_for(seed, "walk", "jpeg"))
    params = stage.generate(_between_extremes(z, -stage.generate(z).quality, columns))
    header = tuple(
        heat(mask.view(1, 1), 1.0, f"quality {q:.0f}, mask {float(mask):.2f}", f"q {q:.0f}")
        for mask, q in zip(params.mask, params.quality.clamp(1, 100).tolist(), strict=True)
    )
    note = (
        "Along a row the same image is compressed with lower and lower quality q. Above each "
        "column: the mask, bright where the compressed image replaces the uncompressed one."
    )
    return Walk("Image and JPEG quality", note, header, _table(stage, images, params))


def _table(
    stage: Degradation[Any], images: Tensor, params: Params
) -> tuple[tuple[Picture, ...], ...]:
    n = len(params)
    found = []
    for i, image in enumerate(images):
        damaged = stage(image.expand(n, *image.shape).contiguous(), params)
        found.append(
            tuple(picture(y, f"image {i + 1} with damage {j + 1}") for j, y in enumerate(damaged))
        )
    return tuple(found)


def _stages(degradation: Degradation[Any]) -> list[Degradation[Any]]:
    return list(degradation) if isinstance(degradation, Chain) else [degradation]


def _line(start: Tensor, end: Tensor, n: int) -> Tensor:
    """Returns n points from start to end, with shape (n, D)."""
    return torch.lerp(start, end, torch.linspace(0, 1, n).view(-1, 1))


def _between_extremes(z: Tensor, strength: Tensor, n: int) -> Tensor:
    return _line(z[strength.argmin()], z[strength.argmax()], n)


def _grey_level(params: ReadShotParams) -> Tensor:
    return (params.sigma_read.square() + params.sigma_shot.square() / 2).sqrt()


def _kind(params: Params) -> tuple[str, str]:
    if isinstance(params, PartialParams):
        return _kind(params.inner)
    if isinstance(params, BlurParams):
        return "blur", "{} ∗ k"
    if isinstance(params, ReadShotParams):
        return "noise", "{} + n"
    if isinstance(params, JPEGParams):
        return "JPEG", "ψ({}, q)"
    return "damage", "d({})"


def _captions(params: Params) -> list[str]:
    if isinstance(params, PartialParams):
        inner = _captions(params.inner)
        applied = params.applied.tolist()
        return [text if yes else "spared" for text, yes in zip(inner, applied, strict=True)]
    numbers = {name: values.tolist() for name, values in params.summary().items()}
    if isinstance(params, BlurParams):
        return [f"{r:.2f} px" for r in numbers["radius"]]
    if isinstance(params, ReadShotParams):
        level = _grey_level(params).square().flatten(1).mean(dim=1).sqrt()
        return [f"σ {short(s, 2)}" for s in level.tolist()]
    if isinstance(params, LearnedJPEGParams):
        pairs = zip(numbers["quality"], numbers["quality_mask"], strict=True)
        return [f"q {max(q, 1.0):.0f}, m {m:.2f}" for q, m in pairs]
    if isinstance(params, JPEGParams):
        return [f"q {q:.0f}" for q in numbers["quality"]]
    rows: list[Sequence[float]] = list(zip(*numbers.values(), strict=True))
    return [", ".join(short(v, 2) for v in row) for row in rows] or [""] * len(params)


def _pictures(images: Tensor, alt: str, captions: Sequence[str]) -> tuple[Picture, ...]:
    pairs = zip(images, captions, strict=True)
    return tuple(
        picture(image, f"{alt}{f' ({caption})' if caption else ''}", caption)
        for image, caption in pairs
    )
