r"""JPEG, real and differentiable: :math:`y = \psi(x, q)`.

:class:`JPEG` is what files go through (Pillow, libjpeg); :class:`DifferentiableJPEG` approximates
it with gradients to the image and to the quality. Its defaults are nearest to libjpeg; the codec of
Shin & Song (2017), which the robust GANs' paper cites, has ``table="continuous"`` and
``chroma="nearest"``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..functional.jpeg import Chroma, Rounding, Subsampling, Table, jpeg, pillow_jpeg
from ..functional.random import Randomness
from ..functional.stages import to_8_bits
from ..types import Params, Shape
from .base import Degradation, Differentiable
from .laws import QualityLaw

__all__ = ["JPEG", "DifferentiableJPEG", "JPEGParams", "compress"]


@dataclass(frozen=True)
class JPEGParams(Params):
    """JPEG qualities.

    Attributes:
        quality: The qualities q in [1, 100], with shape (B,).
    """

    quality: Tensor


class JPEG(Degradation[JPEGParams]):
    """Compresses with real JPEG; qualities are integers.

    Arguments:
        law: The distribution of the qualities.
        subsampling: How the colour is subsampled.
    """

    needs_range = True

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        law: QualityLaw = QualityLaw()
        subsampling: Subsampling = "4:2:0"

        def build(self) -> JPEG:
            """Makes the degradation."""
            return JPEG(self.law, subsampling=self.subsampling)

    def __init__(
        self, law: QualityLaw | None = None, *, subsampling: Subsampling = "4:2:0"
    ) -> None:
        super().__init__()
        self.config = JPEG.Config(law or QualityLaw(), subsampling)
        if not self.config.law.integer:
            raise ValueError("real JPEG takes integer qualities; use QualityLaw(..., integer=True)")

    def sample(self, shape: Shape, *, generator: Randomness) -> JPEGParams:
        """Draws a quality for each sample: ``(B,)``."""
        return JPEGParams(self.config.law.qualities(shape[0], generator))

    def forward(self, x: Tensor, params: JPEGParams) -> Tensor:
        """Compresses and decompresses images of shape (B, C, H, W); they are rounded to 8 bits."""
        y = pillow_jpeg(x, params.quality, subsampling=self.config.subsampling)
        return y.to(x.dtype)


class DifferentiableJPEG(Differentiable[JPEGParams]):
    """Compresses with a differentiable approximation of JPEG; qualities may be any real numbers.

    Arguments:
        law: The distribution of the qualities.
        subsampling: How the colour is subsampled.
        rounding: How coefficients are rounded; see :func:`~blemish.functional.jpeg.jpeg`.
        table: The tables, libjpeg's ``integer`` ones or ``continuous`` ones.
        chroma: How subsampled colour is enlarged.
        eight_bits: Whether pixels are rounded to 8 bits before and after, as a file's are; gradients pass straight
            through.
    """

    needs_range = True

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        law: QualityLaw = QualityLaw()
        subsampling: Subsampling = "4:2:0"
        rounding: Rounding = "cubic"
        table: Table = "integer"
        chroma: Chroma = "bilinear"
        eight_bits: bool = False

        def build(self) -> DifferentiableJPEG:
            """Makes the degradation."""
            return DifferentiableJPEG(
                self.law,
                subsampling=self.subsampling,
                rounding=self.rounding,
                table=self.table,
                chroma=self.chroma,
                eight_bits=self.eight_bits,
            )

    def __init__(
        self,
        law: QualityLaw | None = None,
        *,
        subsampling: Subsampling = "4:2:0",
        rounding: Rounding = "cubic",
        table: Table = "integer",
        chroma: Chroma = "bilinear",
        eight_bits: bool = False,
    ) -> None:
        super().__init__()
        self.config = DifferentiableJPEG.Config(
            law or QualityLaw(), subsampling, rounding, table, chroma, eight_bits
        )

    def sample(self, shape: Shape, *, generator: Randomness) -> JPEGParams:
        """Draws a quality for each sample: ``(B,)``."""
        return JPEGParams(self.config.law.qualities(shape[0], generator))

    def forward(self, x: Tensor, params: JPEGParams) -> Tensor:
        """Compresses and decompresses images of shape (B, C, H, W)."""
        if not self.config.eight_bits:
            return compress(x, params.quality, self.config)
        # In float32, whatever x is: coefficients of 8-bit pixels are often exact halves, which the last bit decides.
        y = compress(_rounded(x).float(), params.quality, self.config)
        return _rounded(y).to(x.dtype)


def compress(x: Tensor, quality: Tensor, codec: Any) -> Tensor:
    """Applies the differentiable codec that a configuration describes.

    Arguments:
        x: Images in [0, 1], with shape (B, C, H, W).
        quality: The qualities, with shape (B,).
        codec: A configuration with ``subsampling``, ``rounding``, ``table`` and ``chroma``.
    """
    return jpeg(
        x,
        quality,
        subsampling=codec.subsampling,
        rounding=codec.rounding,
        table=codec.table,
        chroma=codec.chroma,
    )


def _rounded(x: Tensor) -> Tensor:
    """Rounds to 8 bits, with the derivative 1."""
    return to_8_bits(x).detach() + (x - x.detach())
