r"""Damage that one can say in a word: ``disk:2+noise:0.05``.

===========  ============================================================  =====================
name         damage                                                        number
===========  ============================================================  =====================
gaussian:S   blur by a Gaussian                                            its deviation, pixels
disk:R       blur by a disk                                                its radius, pixels
noise:S      white Gaussian noise                                          its deviation, [0, 1]
jpeg:Q       JPEG, as Pillow writes it                                     its quality
reduce:N     bicubic reduction, with antialiasing                          its factor, whole
===========  ============================================================  =====================

Where a range stands for the number, as ``jpeg:10-50``, it is drawn for each image. Several are joined by ``+``, in the order
in which they befall an image. With single numbers, blur is known exactly, and with noise at the end images have a
likelihood in closed form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from .base import Degradation
from .blur import Blur, GaussianBlur
from .compose import Chain
from .jpeg import JPEG
from .laws import DiskLaw, QualityLaw
from .noise import GaussianNoise
from .resize import Downsample

__all__ = ["PLAIN", "plain"]

Range = tuple[float, float]

_NUMBER = r"(\d+\.?\d*|\.\d+)"
_STAGE = re.compile(rf"([a-z]+):{_NUMBER}(?:-{_NUMBER})?")


def _disk(radius: Range) -> Degradation[Any]:
    # The pixels that it touches: those less than half a pixel beyond its rim.
    reach = max(1, math.ceil(radius[1] - 0.5))
    return Blur(DiskLaw(radius, size=2 * reach + 1))


def _noise(sigma: Range) -> Degradation[Any]:
    return GaussianNoise(sigma)


def _jpeg(quality: Range) -> Degradation[Any]:
    return JPEG(QualityLaw(*quality))


def _reduce(factor: Range) -> Degradation[Any]:
    if factor[0] != factor[1] or factor[0] != int(factor[0]):
        raise ValueError("a reduction has one whole factor; give 2, 3, 4, ...")
    return Downsample(int(factor[0]))


PLAIN: dict[str, Callable[[Range], Degradation[Any]]] = {
    "gaussian": GaussianBlur,
    "disk": _disk,
    "noise": _noise,
    "jpeg": _jpeg,
    "reduce": _reduce,
}
"""What makes each kind of damage of a range of numbers."""


def plain(name: str) -> Chain:
    """Builds damage that is said in a word.

    Arguments:
        name: Kinds with numbers or ranges, as ``disk:2``, ``noise:0.02-0.1`` or ``gaussian:1+noise:0.05``.

    Raises:
        ValueError: If a kind is unknown, or a number does not fit.
    """
    return Chain([_stage(text) for text in name.split("+")])


def _stage(text: str) -> Degradation[Any]:
    match = _STAGE.fullmatch(text)
    if match is None or match[1] not in PLAIN:
        raise ValueError(
            f"{text!r} is no damage; give {', '.join(f'{n}:NUMBER' for n in PLAIN)}, or LOW-HIGH as the number, "
            "joined by +"
        )
    low = float(match[2])
    try:
        return PLAIN[match[1]]((low, float(match[3] or low)))
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
