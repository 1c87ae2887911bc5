r"""Blur by one kernel for each sample: :math:`y = x * k`.

The kernel is the same for all channels. Borders are reflected by default, for observed and for
generated images alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..functional.blur import Padding, blur, blur_adjoint
from ..functional.kernels import disk_radius
from ..functional.random import Randomness
from ..types import Params, Shape
from .base import Linear
from .laws import DiskLaw, KernelLaw

__all__ = ["Blur", "BlurParams", "KernelBlur"]


@dataclass(frozen=True)
class BlurParams(Params):
    """Blur kernels.

    Attributes:
        kernel: The kernels k, with shape (B, 1, K, K).
    """

    kernel: Tensor

    def summary(self) -> dict[str, Tensor]:
        """Returns the radii of disks with the same second moments, in pixels, with shape (B,)."""
        return {"radius": disk_radius(self.kernel)}


class KernelBlur(Linear[BlurParams]):
    """Applies one kernel to each sample; where the kernels come from is left to its subclasses.

    Their configuration has a ``padding``.
    """

    def forward(self, x: Tensor, params: BlurParams) -> Tensor:
        """Blurs images of shape (B, C, H, W)."""
        return blur(x, params.kernel, padding=self.config.padding)

    def adjoint(self, y: Tensor, params: BlurParams) -> Tensor:
        """Applies the adjoint of the blur to images of shape (B, C, H, W)."""
        return blur_adjoint(y, params.kernel, padding=self.config.padding)


class Blur(KernelBlur):
    """Blurs each sample with its own kernel, drawn from a law.

    Arguments:
        law: The distribution of the kernels.
        padding: How the image goes on beyond its border.
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        law: KernelLaw = DiskLaw()
        padding: Padding = "reflect"

        def build(self) -> Blur:
            """Makes the degradation."""
            return Blur(self.law, padding=self.padding)

    def __init__(self, law: KernelLaw, *, padding: Padding = "reflect") -> None:
        super().__init__()
        self.config = Blur.Config(law, padding)

    def sample(self, shape: Shape, *, generator: Randomness) -> BlurParams:
        """Draws a kernel for each sample: ``(B, 1, K, K)``."""
        return BlurParams(self.config.law.kernels(shape[0], generator))
