r"""Reduction by a whole factor: what the field calls bicubic degradation, and its relatives.

Sides that the factor does not divide are cropped at their end first, as super-resolution benchmarks do. All ways are
linear in the image; none of them clamps, and the bicubic one overshoots.

==========  ========================================================================
bicubic     the cubic with a = -0.5, widened by the factor, as MATLAB, Pillow and torch's antialiasing have it
bilinear    the triangle, widened by the factor
area        the mean of each block
nearest     one pixel of each block: its middle, right and below of it where there is none
==========  ========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..functional.random import Randomness, device_of
from ..functional.resample import bicubic, modcrop
from ..types import Params, Shape
from .base import Linear

__all__ = ["Downsample", "DownsampleParams", "Reduction"]

Reduction = Literal["bicubic", "bilinear", "area", "nearest"]
"""How images are reduced."""


@dataclass(frozen=True)
class DownsampleParams(Params):
    """Nothing drawn, but what the adjoint must know.

    Attributes:
        rest: How many rows and columns the factor leaves over, the same for all samples, with shape (B, 2).
    """

    rest: Tensor

    def summary(self) -> dict[str, Tensor]:
        """Returns nothing."""
        return {}


class Downsample(Linear[DownsampleParams]):
    """Reduces images by a whole factor.

    Arguments:
        scale: The factor, at least 1; with 1 images are left as they are.
        mode: How images are reduced.
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        scale: int = 2
        mode: Reduction = "bicubic"

        def build(self) -> Downsample:
            """Makes the degradation."""
            return Downsample(self.scale, self.mode)

    def __init__(self, scale: int, mode: Reduction = "bicubic") -> None:
        super().__init__()
        if scale < 1 or scale != int(scale):
            raise ValueError(f"scale={scale} is no factor to shrink by; give 1, 2, 3, ...")
        if mode not in get_args(Reduction):
            raise ValueError(f"mode={mode!r} is not known; choose {', '.join(get_args(Reduction))}")
        self.scale = int(scale)
        self.config = Downsample.Config(self.scale, mode)

    @property
    def known(self) -> bool:
        """It does the same to every image."""
        return True

    def sample(self, shape: Shape, *, generator: Randomness) -> DownsampleParams:
        """Draws nothing; the rest has the shape (B, 2)."""
        rest = torch.tensor([[side % self.scale for side in shape[2:]]], dtype=torch.float32)
        return DownsampleParams(rest.repeat(shape[0], 1).to(device_of(generator)))

    def forward(self, x: Tensor, params: DownsampleParams) -> Tensor:
        """Reduces images of shape (B, C, H, W).

        Raises:
            ValueError: If a side is shorter than the factor.
        """
        x = modcrop(x, self.scale)
        if self.scale == 1:
            return x
        size = (x.shape[-2] // self.scale, x.shape[-1] // self.scale)
        match self.config.mode:
            case "bicubic":
                return bicubic(x, size)
            case "bilinear":
                return F.interpolate(x, size, mode="bilinear", antialias=True)
            case "area":
                return F.avg_pool2d(x, self.scale)
            case _:
                return x[..., self.scale // 2 :: self.scale, self.scale // 2 :: self.scale]

    def adjoint(self, y: Tensor, params: DownsampleParams) -> Tensor:
        """Spreads images of shape (B, C, H / scale, W / scale) back to (B, C, H, W), with zeros in what was cropped."""
        rows, columns = (int(n) for n in params.rest[0].tolist())
        h, w = y.shape[-2] * self.scale, y.shape[-1] * self.scale
        origin = y.new_zeros(*y.shape[:2], h, w)
        # Of a linear map the product with its transposed Jacobian is the adjoint itself, exactly.
        transposed = torch.func.vjp(lambda x: self.forward(x, params), origin)[1]
        x: Tensor = transposed(y)[0]
        return F.pad(x, (0, columns, 0, rows))
