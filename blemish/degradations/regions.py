r"""Damage that differs from place to place: a blurred area, a blur that grows across the image, drops on the lens.

========  ==========================================================================================================
kind      what it is
========  ==========================================================================================================
area      a blur inside a soft box or ellipse
ramp      a blur whose standard deviation grows linearly across the image, in a random direction
drop      one to three drops: each blurs, shows what lies nearer to its middle, as a lens does, and is lighter or darker
========  ==========================================================================================================

With the mask m of :mod:`~blemish.functional.masks`, each pixel p is blurred by :math:`m \sigma`; a drop with the middle
c shows it from :math:`p + m \lambda (c - p)` and multiplies it by :math:`1 + m (a - 1)`. So m tells how strong the damage
is at each pixel, and where it is 0 the image is untouched.

This is a damage of the scene or the lens: it comes before the damage of the whole image, by noise or by JPEG.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional.masks import box, drops, ellipse, graded_blur, pull, ramp, refract
from ..functional.random import Randomness, rand, uniform, whole
from ..types import Params, Shape
from .base import Degradation
from .blur import gaussian_size

__all__ = ["REGIONS", "Local", "LocalParams"]

REGIONS = ("area", "ramp", "drop")
"""The kinds of local damage, in the order of their numbers in drawn parameters."""

DROPS = 3
"""The most drops."""


@dataclass(frozen=True)
class LocalParams(Params):
    """What befalls which part of each image.

    Attributes:
        kind: Which of ``REGIONS``, with shape (B,).
        mask: How strong the damage is at each pixel, in [0, 1], with shape (B, 1, H, W).
        sigma: The standard deviation of the blur where the mask is 1, in pixels, with shape (B,).
        middle: The middles of the drops as fractions of the sides, with shape (B, 3, 2).
        half: Half the heights and widths of the drops as fractions of the sides, 0 for none, with shape (B, 3, 2).
        softness: The widths of soft edges in half sides, with shape (B,).
        shift: Which share of the way to its middle a drop looks, with shape (B,); 0 without drops.
        gain: By what a drop multiplies the light, with shape (B,); 1 without drops.
    """

    kind: Tensor
    mask: Tensor
    sigma: Tensor
    middle: Tensor
    half: Tensor
    softness: Tensor
    shift: Tensor
    gain: Tensor

    def summary(self) -> dict[str, Tensor]:
        """Returns, each with shape (B,): the kind's number in ``REGIONS``, the strengths, and the mask's mean."""
        told = {name: getattr(self, name) for name in ("kind", "sigma", "shift", "gain")}
        return {**told, "cover": self.mask.mean((1, 2, 3))}


class Local(Degradation[LocalParams]):
    """Damages a part of each image; the module's docstring says how.

    Arguments:
        config: What is drawn from which ranges.
    """

    @dataclass(frozen=True)
    class Config:
        """What is drawn from which ranges.

        Attributes:
            kinds: Which of ``REGIONS`` may befall an image, each equally likely.
            sigma: The standard deviation of the blur in pixels.
            half: Half the sides of boxes and ellipses as fractions of the image's.
            softness: The widths of soft edges in half sides.
            drop: Half the height of a drop as a fraction of the image's; it is half to fully as wide.
            shift: Which share of the way to its middle a drop looks, below 1.
            gain: By what a drop multiplies the light.
        """

        kinds: tuple[str, ...] = REGIONS
        sigma: tuple[float, float] = (1.0, 4.0)
        half: tuple[float, float] = (0.12, 0.35)
        softness: tuple[float, float] = (0.1, 0.5)
        drop: tuple[float, float] = (0.06, 0.2)
        shift: tuple[float, float] = (0.2, 0.6)
        gain: tuple[float, float] = (0.8, 1.25)

        def __post_init__(self) -> None:
            """Checks kinds and ranges."""
            if not self.kinds or not set(self.kinds) <= set(REGIONS):
                raise ValueError(f"kinds={self.kinds}; give one or more of {', '.join(REGIONS)}")
            highest = {"sigma": 5.0, "shift": 1.0, "half": 1.0, "drop": 1.0}
            for name in ("sigma", "half", "softness", "drop", "shift", "gain"):
                low, high = getattr(self, name)
                top = highest.get(name, math.inf)
                if not 0 <= low <= high <= top:
                    raise ValueError(
                        f"{name}={low, high} is no range; give (lowest, highest) within [0, {top:g}]"
                    )

        def build(self) -> Local:
            """Makes the degradation."""
            return Local(self)

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config or Local.Config()

    def sample(self, shape: Shape, *, generator: Randomness) -> LocalParams:
        """Draws a kind, its mask and its strengths for each sample: masks have the shape (B, 1, H, W)."""
        c: Local.Config = self.config
        n, g = shape[:1], generator
        kind = _numbers(c.kinds, whole(n, 0, len(c.kinds) - 1, g))
        softness = uniform(n, *c.softness, g)
        middle = uniform((*n, DROPS, 2), 0.1, 0.9, g)
        half = _drop_sizes(shape[0], c.drop, g)
        size = (shape[2], shape[3])
        masks = [
            _area(softness, c.half, size, g),
            ramp(2 * math.pi * rand(n, g), size),
            drops(middle, half, softness, size),
        ]
        dropped = kind == REGIONS.index("drop")
        chosen = torch.stack(masks)[kind.long(), torch.arange(*n, device=kind.device)]
        return LocalParams(
            kind=kind,
            mask=chosen,
            sigma=uniform(n, *c.sigma, g),
            middle=middle,
            half=half,
            softness=softness,
            shift=torch.where(dropped, uniform(n, *c.shift, g), 0),
            gain=torch.where(dropped, uniform(n, *c.gain, g), 1),
        )

    def forward(self, x: Tensor, params: LocalParams) -> Tensor:
        """Damages parts of images of shape (B, C, H, W)."""
        m, size = params.mask, gaussian_size(self.config.sigma[1])
        y = graded_blur(x, m, params.sigma, size)
        # p + m lambda (c - p), then times 1 + m (a - 1).
        middles = pull(params.middle, params.half, params.softness, (x.shape[2], x.shape[3]))
        seen = refract(y, m * _column(params.shift) * middles)
        seen = seen * (1 + m * (_column(params.gain) - 1))
        y = torch.where(_column(params.kind) == REGIONS.index("drop"), seen, y)
        return torch.where(m > 0, y, x)


def _area(
    softness: Tensor, half: tuple[float, float], size: tuple[int, int], generator: Randomness
) -> Tensor:
    """Draws soft boxes and ellipses, each equally likely, with shape (B, 1, H, W)."""
    n = softness.shape
    middle, extent = (uniform((*n, 2), low, high, generator) for low, high in ((0.2, 0.8), half))
    boxes, ellipses = (f(middle, extent, softness, size) for f in (box, ellipse))
    return torch.where(_column(rand(n, generator)) < 0.5, boxes, ellipses)


def _drop_sizes(n: int, height: tuple[float, float], generator: Randomness) -> Tensor:
    """Draws half the heights and widths of one to three drops, 0 for the others, with shape (B, 3, 2)."""
    half = uniform((n, DROPS, 1), *height, generator)
    width = uniform((n, DROPS, 1), 0.5, 1.0, generator)
    there = torch.arange(DROPS, device=half.device) < whole((n,), 1, DROPS, generator)[:, None]
    return torch.cat([half, half * width], dim=-1) * there[..., None]


def _numbers(kinds: tuple[str, ...], places: Tensor) -> Tensor:
    """Turns places in a list of kinds into their numbers in ``REGIONS``, with shape (B,)."""
    numbers = [float(REGIONS.index(name)) for name in kinds]
    return torch.tensor(numbers, device=places.device)[places.long()]


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
