r"""Lost pixels: scattered ones, and those under strokes of a brush.

Both multiply the picture with a mask, the same for all channels, that is 1 where a pixel is kept and 0 where it is lost,

.. math:: y = m \odot x,

which is linear in x and its own adjoint. The mask stands in the params, from where a
restorer takes it that is told where the holes are.

==============  ======================================================================================
DroppedPixels   each pixel is lost with the same probability, independently of the others
StrokeMask      the pixels under straight strokes, from one place of the picture to another
==============  ======================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..functional.random import Randomness, rand
from ..functional.strokes import strokes
from ..types import Params, Shape
from .base import Linear

__all__ = ["DropParams", "DroppedPixels", "StrokeMask", "StrokeParams"]


@dataclass(frozen=True)
class DropParams(Params):
    """Which pixels are kept.

    Attributes:
        mask: 1 where a pixel is kept, 0 where it is lost, with shape (B, 1, H, W).
    """

    mask: Tensor

    def summary(self) -> dict[str, Tensor]:
        """Returns the share of lost pixels, with shape (B,)."""
        return {"dropped": 1 - self.mask.flatten(1).mean(dim=1)}


class DroppedPixels(Linear[DropParams]):
    """Sets each pixel to 0 in all channels, with a probability, independently of the others.

    Arguments:
        probability: The probability in [0, 1].
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        probability: float = 0.1

        def build(self) -> DroppedPixels:
            """Makes the degradation."""
            return DroppedPixels(self.probability)

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"probability={probability} is not in [0, 1]")
        self.config = DroppedPixels.Config(probability)

    def sample(self, shape: Shape, *, generator: Randomness) -> DropParams:
        """Draws a mask with shape (B, 1, H, W)."""
        u = rand((shape[0], 1, *shape[2:]), generator)
        return DropParams((u >= self.config.probability).to(u))

    def forward(self, x: Tensor, params: DropParams) -> Tensor:
        """Takes pixels out of images of shape (B, C, H, W)."""
        return x * params.mask

    def adjoint(self, y: Tensor, params: DropParams) -> Tensor:
        """Does the same to images of shape (B, C, H, W)."""
        return y * params.mask


@dataclass(frozen=True)
class StrokeParams(Params):
    """Which pixels are kept.

    Attributes:
        mask: 1 where a pixel is kept, 0 where a stroke covers it, with shape (B, 1, H, W).
    """

    mask: Tensor

    def summary(self) -> dict[str, Tensor]:
        """Returns the share of covered pixels, with shape (B,)."""
        return {"covered": 1 - self.mask.flatten(1).mean(dim=1)}


class StrokeMask(Linear[StrokeParams]):
    """Paints random straight strokes of a round brush over pictures, in black.

    Both coordinates of both ends of a stroke are spread evenly over the first and the last third of the picture's sides,
    independently of each other, so that many strokes are long.

    Arguments:
        count: The number of strokes, the same for all pictures; with 0 they are left as they are.
        width: The width of the brush as a share of the picture's width, in (0, 1]; it has at least one pixel.
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        count: int = 9
        width: float = 0.08

        def build(self) -> StrokeMask:
            """Makes the degradation."""
            return StrokeMask(self.count, self.width)

    def __init__(self, count: int, width: float = 0.08) -> None:
        super().__init__()
        if count < 0 or count != int(count):
            raise ValueError(f"count={count} is no number of strokes; give 0, 1, 2, ...")
        if not 0 < width <= 1:
            raise ValueError(
                f"width={width}; give the brush's share of the picture's width, in (0, 1]"
            )
        self.config = StrokeMask.Config(int(count), width)

    def sample(self, shape: Shape, *, generator: Randomness) -> StrokeParams:
        """Draws a mask with shape (B, 1, H, W)."""
        batch, _, height, width = shape
        u = rand((batch, self.config.count, 2, 2), generator)
        # From [0, 1/2) to the first third, from [1/2, 1) to the last.
        places = (2 * u + (u >= 0.5)) / 3
        # Under a finer brush a small picture might show no stroke at all.
        brush = max(self.config.width * width, 1.0)
        covered = strokes(places * places.new_tensor([height, width]), brush, (height, width))
        return StrokeParams((~covered).to(u))

    def forward(self, x: Tensor, params: StrokeParams) -> Tensor:
        """Covers images of shape (B, C, H, W)."""
        return x * params.mask

    def adjoint(self, y: Tensor, params: StrokeParams) -> Tensor:
        """Does the same to images of shape (B, C, H, W)."""
        return y * params.mask
