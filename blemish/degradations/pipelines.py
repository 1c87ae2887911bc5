"""The published degradation models by name, for trainers and the command line.

Names of what makes images smaller are followed by the scale after a colon, as ``bsrgan:2``. Without one the scale is 4,
which is the published one; whoever wants damage but the same size writes ``bsrgan:1``. The others keep the size:
``imaging`` and ``imaging-local``, which damages a part of every second image first.
"""

from __future__ import annotations

from typing import Any

from .base import Degradation
from .bsrgan import BSRGAN
from .imaging import Imaging
from .real_esrgan import RealESRGAN
from .resize import Downsample

__all__ = ["PIPELINES", "SHRINKING", "pipeline"]

SHRINKING: dict[str, type[Any]] = {
    "bsrgan": BSRGAN.Config,
    "real-esrgan": RealESRGAN.Config,
    "bicubic": Downsample.Config,
}
"""The configurations of what makes images smaller; each takes a ``scale``."""

PIPELINES: dict[str, Any] = {
    **{name: config(scale=4) for name, config in SHRINKING.items()},
    "imaging": Imaging.Config(codec="file"),
    "imaging-local": Imaging.Config(codec="file", local=0.5),
}
"""What :func:`pipeline` knows, as configurations."""


def pipeline(text: str) -> Degradation[Any]:
    """Builds a degradation model from its name and scale.

    Arguments:
        text: A name of :data:`PIPELINES`, alone, or one of :data:`SHRINKING` with a scale other than 4, as
            ``real-esrgan:2``.

    Raises:
        ValueError: If there is no such name, or none of that scale.
    """
    name, colon, number = text.partition(":")
    if name not in PIPELINES:
        raise ValueError(
            f"unknown pipeline {text!r}; choose {', '.join(PIPELINES)}, and a scale other than 4 as in bsrgan:1"
        )
    if colon and name not in SHRINKING:
        raise ValueError(f"{text!r} has a scale, but {name} keeps the size; write {name} alone")
    if colon and not (number.isascii() and number.isdigit()):
        raise ValueError(f"{text!r} has no scale after its colon; write {name} for 4, or {name}:1")
    config = SHRINKING[name](scale=int(number)) if colon else PIPELINES[name]
    built: Degradation[Any] = config.build()
    return built
