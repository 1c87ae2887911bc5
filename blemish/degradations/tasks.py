r"""The 31 named tasks of restoration by inversion: up-sampling, denoising, deartifacting, inpainting, and their mixtures.

A task is named for what a restorer has to do; here stands the damage. Of each kind there are five levels:

====  ==================================================  ========  =========  =========  =========  ========
kind  damage                                              XS        S          M          L          XL
====  ==================================================  ========  =========  =========  =========  ========
U     smaller by a factor                                 2         4          8          16         32
N     photons of white, and the share of dropped pixels   96, 0.04  48, 0.08   24, 0.16   12, 0.32   6, 0.64
A     JPEG of a quality                                   18        15         12         9          6
P     strokes of a brush, 8 % of the width wide           1         5          9          13         17
====  ==================================================  ========  =========  =========  =========  ========

``U-XS`` is the first of them. ``UN``, ``NAP`` or ``UNAP`` are several kinds, each of level M, always in this order; what
follows a reduction befalls the small picture. Each kind ends with a picture in [0, 1].

A restorer that knows the damage needs its gradient, which counts and files have not. :func:`approximation` says what
stands for it: the mean of each block for a reduction of any kind, normal numbers for counts, a smooth codec of the true
quality for JPEG, and masks as they are. It takes the params that were drawn for the task itself: its noise is then that
of the task's, pixel by pixel, its masks are the same. A restorer knows the mask of the strokes (:func:`known_mask`), but
neither noise nor dropped pixels: :func:`redrawn` draws these anew.

Dropped pixels are lost in all channels together; strokes are straight, from and to the outer thirds of a picture; JPEG
is Pillow's with 4:2:0. Here pictures are always reduced bicubically, with antialiasing, where the benchmark takes one of
three filters; masks have no half-covered pixels; and what stands for counts has their mean, without an offset.

References:
    | Robust Unsupervised StyleGAN Image Restoration (Poirier-Ginter & Lalonde, 2023)
    | https://arxiv.org/abs/2302.06733
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025), Table 1
    | https://arxiv.org/abs/2505.12860
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from torch import Tensor

from ..configuration import kind
from ..functional.random import Randomness
from ..types import Params, Shape
from .base import Degradation
from .compose import Chain, ChainParams, Partial, is_differentiable
from .jpeg import JPEG, DifferentiableJPEG
from .laws import QualityLaw
from .masks import DroppedPixels, StrokeMask, StrokeParams
from .noise import DifferentiablePoissonNoise, PoissonNoise
from .resize import Downsample

__all__ = ["TASKS", "approximation", "known_mask", "redrawn", "task"]

_LEVELS = ("XS", "S", "M", "L", "XL")
_MIXTURES = ("UN", "UA", "UP", "NA", "NP", "AP", "UNA", "UNP", "UAP", "NAP", "UNAP")


def _upsampling(factor: int) -> Chain.Config:
    return Chain.Config((Downsample.Config(factor, "bicubic"),))


def _denoising(photons: float, dropped: float) -> Chain.Config:
    return Chain.Config((PoissonNoise.Config((photons, photons)), DroppedPixels.Config(dropped)))


def _deartifacting(quality: float) -> Chain.Config:
    return Chain.Config((JPEG.Config(QualityLaw(quality, quality)),))


def _inpainting(strokes: int) -> Chain.Config:
    return Chain.Config((StrokeMask.Config(strokes, width=0.08),))


_NOISE = ((96.0, 0.04), (48.0, 0.08), (24.0, 0.16), (12.0, 0.32), (6.0, 0.64))
_KINDS = {
    "U": [_upsampling(factor) for factor in (2, 4, 8, 16, 32)],
    "N": [_denoising(photons, dropped) for photons, dropped in _NOISE],
    "A": [_deartifacting(quality) for quality in (18.0, 15.0, 12.0, 9.0, 6.0)],
    "P": [_inpainting(strokes) for strokes in (1, 5, 9, 13, 17)],
}
_SINGLE = {
    f"{letter}-{level}": config
    for letter, configs in _KINDS.items()
    for level, config in zip(_LEVELS, configs, strict=True)
}
_MIXED = {
    name: Chain.Config(tuple(_SINGLE[f"{letter}-M"] for letter in name)) for name in _MIXTURES
}

TASKS: dict[str, Chain.Config] = {**_SINGLE, **_MIXED}
"""The damage of each task, the 20 of one kind before the 11 of several."""


def task(name: str) -> Degradation[Any]:
    """Builds the damage of a named task.

    Arguments:
        name: A name of :data:`TASKS`, as ``U-XS`` or ``UNAP``.

    Raises:
        ValueError: If there is no such task.
    """
    if name not in TASKS:
        close = difflib.get_close_matches(name.upper(), TASKS, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(
            f"unknown task {name!r}{meant}; choose U, N, A or P with a level from XS to XL, as U-XS, or one of "
            f"{', '.join(_MIXTURES)}"
        )
    return TASKS[name].build()


def approximation(config: Any) -> Any:
    """Returns the configuration of the differentiable stand-in of a damage, which takes the same params.

    Arguments:
        config: The configuration of a damage: one of :data:`TASKS`, or another one of the same operators and of others
            that are differentiable themselves, which are left as they are.

    Raises:
        ValueError: If it contains something that is not differentiable and has no stand-in.
    """
    match config:
        case Chain.Config():
            return Chain.Config(tuple(approximation(stage) for stage in config.stages))
        case Partial.Config():
            return Partial.Config(approximation(config.inner), config.probability)
        case Downsample.Config():
            return dataclasses.replace(config, mode="area")
        case PoissonNoise.Config():
            return DifferentiablePoissonNoise.Config(config.gain)
        case JPEG.Config():
            return DifferentiableJPEG.Config(config.law, config.subsampling)
    if not is_differentiable(config.build()):
        raise ValueError(
            f"{kind(type(config))} is not differentiable and nothing stands for it; known are Chain, Partial, Downsample, "
            "JPEG, PoissonNoise and what is differentiable itself"
        )
    return config


def known_mask(params: Params) -> Tensor | None:
    """Returns the mask of the strokes in drawn params, with shape (B, 1, H / scale, W / scale); None where there is none.

    Arguments:
        params: What was drawn for a task that has at most one set of strokes, after any reduction.
    """
    if isinstance(params, StrokeParams):
        return params.mask
    stages = params.stages if isinstance(params, ChainParams) else ()
    return next((mask for stage in stages if (mask := known_mask(stage)) is not None), None)


def redrawn(
    degradation: Degradation[Any], params: Params, shape: Shape, *, generator: Randomness
) -> Params:
    """Draws all that a restorer cannot know of a picture's damage anew, and keeps the masks of strokes.

    Arguments:
        degradation: A task, or its approximation.
        params: What was drawn for it.
        shape: The shape (B, C, H, W) of the clean pictures.
        generator: The source of randomness.
    """
    return _kept(params, degradation.sample(shape, generator=generator))


def _kept(old: Params, new: Params) -> Params:
    if isinstance(old, ChainParams) and isinstance(new, ChainParams):
        return ChainParams(tuple(map(_kept, old.stages, new.stages)))
    return old if isinstance(old, StrokeParams) else new
