r"""What happens to a photograph on its way from the scene to the file, in this order.

=============  ===========  ========================================================================================
step           befalls      how
=============  ===========  ========================================================================================
local damage   ``local``    a blurred area, a growing blur or drops: :mod:`~blemish.degradations.regions`
contrast       1/2          :math:`y = \tfrac12 + a (x - \tfrac12)`, a log-uniform in [0.5, 1.6]
defocus        1/2          a Gaussian blur, :math:`\sigma \sim U(0.5, 3)` pixels
motion         1/2          a straight or curved shake, its length from :math:`U(5, 25)` pixels, any direction
sensor noise   1/2          Gaussian, independent in all channels, :math:`\sigma \sim U(2, 30) / 255`
file           always       clipped, rounded to 8 bits, JPEG of the quality 30, 31, ..., 95 with 4:2:0
=============  ===========  ========================================================================================

The steps befall an image independently of each other, so that each of the 16 combinations has the probability 1/16. The
kinds of damage of the whole image and their 16 combinations are the paper's. It publishes no probabilities and no
ranges, and its local damage is that of real pairs; these are chosen here, for photographs of about 768 pixels.

The local damage comes first. So an image with the local damage of one drawing and the global damage of another is well
defined, as is that with the global damage alone:

.. code-block:: python

    mixed = replace(first, overall=second.overall)
    overall = second.without_local()

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025)
    | https://arxiv.org/abs/2505.12860
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from ..functional.random import Randomness
from ..functional.shake import shake_size
from ..types import Params, Shape
from .base import Degradation
from .blur import GaussianBlur, Shake, gaussian_size
from .compose import Chain, ChainParams, Identity, Partial, PartialParams
from .contrast import Contrast
from .jpeg import JPEG, DifferentiableJPEG
from .laws import QualityLaw, ShakeLaw
from .noise import GaussianNoise
from .regions import Local, LocalParams

__all__ = ["STEPS", "Codec", "Imaging", "ImagingParams"]

Codec = Literal["tensor", "file"]
"""``tensor``: this package's JPEG, on any device and with gradients; ``file``: real JPEG, one image after the other."""

STEPS = ("contrast", "blur", "motion", "noise")
"""The steps that befall an image or not, in their order."""


@dataclass(frozen=True)
class ImagingParams(Params):
    """Everything that befalls a batch of images, its local part and the rest apart.

    Attributes:
        local: The damage that differs from place to place.
        overall: The damage of the whole image: the :data:`STEPS` of each round, and the file.
    """

    local: Params
    overall: ChainParams

    @property
    def mask(self) -> Tensor | None:
        """How strong the local damage is at each pixel, in [0, 1], with shape (B, 1, H, W); None if none is drawn.

        It is 0 in samples that local damage does not befall.
        """
        if not isinstance(self.local, PartialParams) or not isinstance(
            self.local.inner, LocalParams
        ):
            return None
        return self.local.inner.mask * self.local.applied.view(-1, 1, 1, 1)

    def without_local(self) -> Self:
        """Returns the same damage of the whole image, without any local damage."""
        if not isinstance(self.local, PartialParams):
            return self
        none = torch.zeros_like(self.local.applied)
        return replace(self, local=replace(self.local, applied=none))

    def summary(self) -> dict[str, Tensor]:
        """Returns what was drawn, each with shape (B,) and NaN where a step does not befall a sample.

        Names begin with that of the step, those of a second round with ``contrast2``, and so on.
        """
        told = {f"local_{name}": value for name, value in self.local.summary().items()}
        for i, stage in enumerate(self.overall.stages):
            number, place = divmod(i, len(STEPS))
            last = i == len(self.overall.stages) - 1
            step = "jpeg" if last else f"{STEPS[place]}{number + 1 if number else ''}"
            told |= {f"{step}_{name}": value for name, value in stage.summary().items()}
        return told


class Imaging(Degradation[ImagingParams]):
    """Damages images on their way from the scene to the file; the module's docstring says how.

    The result has 8 bits, as a file has. With the codec ``tensor`` gradients reach the image, straight through all
    rounding.

    Arguments:
        config: What is drawn from which ranges.
    """

    needs_range = True

    @dataclass(frozen=True)
    class Config:
        """What is drawn from which ranges.

        Attributes:
            contrast: The factor of the contrast.
            offset: The largest shift of the brightness either way, on the [0, 1] scale.
            sigma: The standard deviation of the defocus in pixels, at most 5.
            length: The length of the shake in pixels, at most 29.
            bend: By how much the shake's direction turns at most, in radians; 0 leaves straight lines.
            noise: The standard deviation of the noise on the [0, 1] scale.
            quality: The lowest and the highest quality of the file, whole numbers.
            probability: How likely each of the :data:`STEPS` befalls an image.
            rounds: How often the steps come one after the other, before the one file.
            strength: The factor of all lengths in pixels, ``sigma`` and ``length`` and those of the local damage. Small
                pictures need a small one: 0.5 for those of 64 pixels, 0.25 for 32.
            codec: Which JPEG.
            local: How likely local damage befalls an image; 0 draws none.
            regions: The local damage.
        """

        contrast: tuple[float, float] = (0.5, 1.6)
        offset: float = 0.0
        sigma: tuple[float, float] = (0.5, 3.0)
        length: tuple[float, float] = (5.0, 25.0)
        bend: float = 1.0
        noise: tuple[float, float] = (2 / 255, 30 / 255)
        quality: tuple[int, int] = (30, 95)
        probability: float = 0.5
        rounds: int = 1
        strength: float = 1.0
        codec: Codec = "tensor"
        local: float = 0.0
        regions: Local.Config = Local.Config()

        def __post_init__(self) -> None:
            """Checks what its parts do not."""
            if self.codec not in get_args(Codec):
                raise ValueError(
                    f"codec={self.codec!r} is not known; choose {', '.join(get_args(Codec))}"
                )
            if self.rounds < 1:
                raise ValueError(f"rounds={self.rounds}; give at least 1, or probability=0")
            if not 0 < self.strength <= 1:
                raise ValueError(f"strength={self.strength} is not in (0, 1]")
            if not 0 <= self.local <= 1:
                raise ValueError(f"local={self.local} is no probability; give one in [0, 1]")

        def build(self) -> Imaging:
            """Makes the degradation."""
            return Imaging(self)

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = c = config or Imaging.Config()
        steps = [step for _ in range(c.rounds) for step in _steps(c)]
        self.local: Degradation[Any] = _local(c) if c.local else Identity()
        self.overall = Chain([*(Partial(step, c.probability) for step in steps), _file(c)])

    def sample(self, shape: Shape, *, generator: Randomness) -> ImagingParams:
        """Draws what befalls images of shape (B, C, H, W).

        Raises:
            ValueError: If the images are too small for the blur.
        """
        _check_side(self.config, shape)
        # In this order the whole image's damage is the same with and without local damage.
        overall = self.overall.sample(shape, generator=generator)
        return ImagingParams(self.local.sample(shape, generator=generator), overall)

    def forward(self, x: Tensor, params: ImagingParams) -> Tensor:
        """Damages images of shape (B, C, H, W); C is 1 or 3."""
        # JPEG would make a pixel's difference out of the last bit's, by which a batch differs from a single image. In
        # float64 there are more bits than matter; Apple's GPUs have none.
        wide = x if x.device.type == "mps" else x.double()
        return self.overall(self.local(wide, params.local), params.overall).to(x.dtype)


def _steps(c: Imaging.Config) -> list[Degradation[Any]]:
    """Returns the :data:`STEPS` of one round."""
    return [
        Contrast(c.contrast, c.offset),
        GaussianBlur(_scaled(c.sigma, c)),
        Shake(ShakeLaw(_scaled(c.length, c), c.bend)),
        GaussianNoise(c.noise),
    ]


def _local(c: Imaging.Config) -> Partial:
    return Partial(Local(replace(c.regions, sigma=_scaled(c.regions.sigma, c))), c.local)


def _file(c: Imaging.Config) -> Degradation[Any]:
    law = QualityLaw(*c.quality)
    if c.codec == "file":
        return JPEG(law)
    return DifferentiableJPEG(law, rounding="straight-through", eight_bits=True)


def _scaled(bounds: tuple[float, float], c: Imaging.Config) -> tuple[float, float]:
    return bounds[0] * c.strength, bounds[1] * c.strength


def _check_side(c: Imaging.Config, shape: Shape) -> None:
    """Refuses images whose reflection is narrower than half a kernel."""
    sizes = [gaussian_size(_scaled(c.sigma, c)[1]), shake_size(_scaled(c.length, c)[1])]
    if c.local:
        sizes.append(gaussian_size(_scaled(c.regions.sigma, c)[1]))
    needed = max(sizes) // 2 + 1
    if min(shape[2:]) < needed:
        raise ValueError(
            f"{shape[2]}x{shape[3]} pixels are too few for blurs that need {needed}; give larger images, or lower "
            f"strength={c.strength}"
        )
