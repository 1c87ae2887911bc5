"""The published degradation models by name, for trainers and the command line.

A name is followed by the scale after a colon, as ``bsrgan:2``. Without one the scale is 4, which is the published one;
whoever wants damage but the same size writes ``bsrgan:1``.
"""

from __future__ import annotations

from typing import Any

from .base import Degradation
from .bsrgan import BSRGAN
from .real_esrgan import RealESRGAN
from .resize import Downsample

__all__ = ["PIPELINES", "pipeline"]

PIPELINES: dict[str, type[Any]] = {
    "bsrgan": BSRGAN.Config,
    "real-esrgan": RealESRGAN.Config,
    "bicubic": Downsample.Config,
}
"""What :func:`pipeline` knows; each takes a ``scale``."""


def pipeline(text: str) -> Degradation[Any]:
    """Builds a published degradation model from its name and scale.

    Arguments:
        text: A name of :data:`PIPELINES`, alone for the scale 4 or with another one, as ``real-esrgan:2``.

    Raises:
        ValueError: If there is no such name, or none of that scale.
    """
    name, colon, number = text.partition(":")
    if name not in PIPELINES:
        raise ValueError(
            f"unknown pipeline {text!r}; choose {', '.join(PIPELINES)}, and a scale other than 4 as in bsrgan:1"
        )
    if colon and not (number.isascii() and number.isdigit()):
        raise ValueError(f"{text!r} has no scale after its colon; write {name} for 4, or {name}:1")
    built: Degradation[Any] = PIPELINES[name](scale=int(number) if colon else 4).build()
    return built
