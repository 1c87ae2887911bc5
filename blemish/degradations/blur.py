r"""Blur by one kernel for each sample: :math:`y = x * k`.

The kernel is the same for all channels. Borders are reflected by default, for observed and for
generated images alike.

:class:`Blur` takes kernels of any law. :class:`GaussianBlur` and :class:`Shake` draw the few numbers that their
kernels follow from, and keep those: they can be told, and have gradients.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..functional.blur import MAX_SIZE, Padding, blur, blur_adjoint
from ..functional.kernels import disk_radius, gaussian
from ..functional.random import Randomness, uniform
from ..functional.shake import shake_kernel
from ..types import Params, Shape
from .base import Linear
from .laws import DiskLaw, KernelLaw, ShakeLaw

__all__ = [
    "Blur",
    "BlurParams",
    "GaussianBlur",
    "GaussianBlurParams",
    "KernelBlur",
    "Shake",
    "ShakeParams",
    "gaussian_size",
]

P = TypeVar("P", bound=Params)


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

    @property
    def known(self) -> bool:
        """Whether all kernels are disks of one radius."""
        law = self.config.law
        return isinstance(law, DiskLaw) and law.radius[0] == law.radius[1]

    def sample(self, shape: Shape, *, generator: Randomness) -> BlurParams:
        """Draws a kernel for each sample: ``(B, 1, K, K)``."""
        return BlurParams(self.config.law.kernels(shape[0], generator))


class NumberedBlur(Linear[P]):
    """Applies kernels that follow from a few numbers of each sample.

    Its configuration has a ``padding``.
    """

    @abc.abstractmethod
    def kernels(self, params: P) -> Tensor:
        """Returns the kernels of drawn numbers, in float64, with shape (B, 1, K, K)."""

    def forward(self, x: Tensor, params: P) -> Tensor:
        """Blurs images of shape (B, C, H, W)."""
        return blur(x, self.kernels(params).to(x), padding=self.config.padding)

    def adjoint(self, y: Tensor, params: P) -> Tensor:
        """Applies the adjoint of the blur to images of shape (B, C, H, W)."""
        return blur_adjoint(y, self.kernels(params).to(y), padding=self.config.padding)


@dataclass(frozen=True)
class GaussianBlurParams(Params):
    """The widths of Gaussian blurs.

    Attributes:
        sigma: The standard deviations in pixels, with shape (B,).
    """

    sigma: Tensor


class GaussianBlur(NumberedBlur[GaussianBlurParams]):
    """Blurs by Gaussians with standard deviations from U[low, high].

    Arguments:
        sigma: The range of the standard deviation in pixels, at most 5.
        padding: How the image goes on beyond its border.
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        sigma: tuple[float, float] = (0.5, 3.0)
        padding: Padding = "reflect"

        def build(self) -> GaussianBlur:
            """Makes the degradation."""
            return GaussianBlur(self.sigma, padding=self.padding)

    def __init__(
        self, sigma: tuple[float, float] = (0.5, 3.0), *, padding: Padding = "reflect"
    ) -> None:
        super().__init__()
        if not 0 <= sigma[0] <= sigma[1] <= 5:
            raise ValueError(f"sigma={sigma} is no range; give (lowest, highest) within [0, 5]")
        self.config = GaussianBlur.Config(sigma, padding)

    @property
    def known(self) -> bool:
        """Whether all standard deviations are one."""
        low, high = self.config.sigma
        return bool(low == high)

    def sample(self, shape: Shape, *, generator: Randomness) -> GaussianBlurParams:
        """Draws a standard deviation for each sample: ``(B,)``."""
        low, high = self.config.sigma
        return GaussianBlurParams(uniform(shape[:1], low, high, generator))

    def kernels(self, params: GaussianBlurParams) -> Tensor:
        """Returns Gaussians in float64, with shape (B, 1, K, K)."""
        return gaussian(_wide(params.sigma), gaussian_size(self.config.sigma[1]))


@dataclass(frozen=True)
class ShakeParams(Params):
    """The arcs along which the camera ran; see :mod:`~blemish.functional.shake`.

    Attributes:
        length: Their lengths in pixels, with shape (B,).
        angle: Their directions in the middle in radians, 0 along a row and pi / 2 down a column, with shape (B,).
        bend: By how much their directions turn in radians, with shape (B,).
    """

    length: Tensor
    angle: Tensor
    bend: Tensor


class Shake(NumberedBlur[ShakeParams]):
    """Blurs along straight lines or arcs.

    Arguments:
        law: The distribution of the arcs.
        padding: How the image goes on beyond its border.
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        law: ShakeLaw = ShakeLaw()
        padding: Padding = "reflect"

        def build(self) -> Shake:
            """Makes the degradation."""
            return Shake(self.law, padding=self.padding)

    def __init__(self, law: ShakeLaw | None = None, *, padding: Padding = "reflect") -> None:
        super().__init__()
        self.config = Shake.Config(law or ShakeLaw(), padding)

    def sample(self, shape: Shape, *, generator: Randomness) -> ShakeParams:
        """Draws an arc for each sample: three numbers of shape (B,)."""
        return ShakeParams(*self.config.law.arcs(shape[0], generator))

    def kernels(self, params: ShakeParams) -> Tensor:
        """Returns arcs in float64, with shape (B, 1, K, K)."""
        length, angle, bend = (_wide(t) for t in (params.length, params.angle, params.bend))
        return shake_kernel(length, angle, bend, self.config.law.size)


def gaussian_size(sigma: float) -> int:
    """Returns the odd size of a kernel that holds three standard deviations, or the largest one."""
    return min(2 * math.ceil(3 * sigma) + 1, MAX_SIZE)


def _wide(t: Tensor) -> Tensor:
    """Returns a float64 copy, in which kernels are the same in any batch; Apple's GPUs have none."""
    return (t.cpu() if t.device.type == "mps" else t).to(torch.float64)
