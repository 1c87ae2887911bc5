r"""Degradations that are learned from degraded images alone.

Each is a small generator that maps a latent :math:`z \sim N(0, I)` to parameters, and has the same
type as the known degradation that it imitates. Masks let it leave an image as it is:

.. math::
    k = m_k \cdot \hat k + (1 - m_k) \cdot k_I, \qquad
    y = m_q \psi(x, q) + (1 - m_q) x

where :math:`k_I` is the identity kernel. The mask :math:`m_k` acts on each tap, so that a kernel
need not sum to 1; nothing renormalises it unless it is asked to.

References:
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), Eq. 3 and 5, Table 11
    | https://arxiv.org/abs/2003.07849
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.blur import MAX_SIZE, Padding
from ..functional.jpeg import Chroma, Rounding, Subsampling, Table
from ..functional.kernels import delta, disk_radius, gaussian
from ..functional.noise import read_shot
from ..functional.random import Randomness, randn
from ..networks import ResNetGenerator, TwoHeads
from ..types import Shape
from .base import Differentiable
from .blur import BlurParams, KernelBlur
from .jpeg import JPEGParams, compress
from .noise import ReadShotParams

__all__ = [
    "ConstantBlur",
    "ConstantJPEG",
    "LearnedBlur",
    "LearnedBlurParams",
    "LearnedJPEG",
    "LearnedJPEGParams",
    "LearnedNoise",
    "LearnedNoiseParams",
]


@dataclass(frozen=True)
class LearnedBlurParams(BlurParams):
    """Kernels and how they came about.

    Attributes:
        z: The latents, with shape (B, D).
        raw: The kernels before masking, with shape (B, 1, K, K); they sum to 1.
        mask: The masks m_k in [0, 1], with shape (B, 1, K, K).
    """

    z: Tensor
    raw: Tensor
    mask: Tensor

    def summary(self) -> dict[str, Tensor]:
        """Returns the radii in pixels, the masks' means and the kernels' sums, each with shape (B,)."""
        return {
            "radius": disk_radius(self.kernel),
            "kernel_mask": self.mask.flatten(1).mean(dim=1),
            "kernel_sum": self.kernel.flatten(1).sum(dim=1),
        }


class LearnedBlur(KernelBlur):
    """Blurs with kernels from a generator G_k.

    Arguments:
        config: The shape of the generator and what it starts from.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of G_k.

        Attributes:
            size: The odd side of the kernels.
            latent: The dimension of the latent.
            hidden: The width of the hidden layers.
            masked: Whether the mask m_k is used (Eq. 3); without it, k is the raw kernel.
            mask_bias: The initial bias of the mask's logits; below zero starts near the identity.
            compact: Whether raw kernels start near a Gaussian of standard deviation size / 6, so
                that a mask that opens blurs. The paper's start flat: a mask that opens adds a haze
                as wide as the kernel, which short runs have no time to gather.
            normalise: Whether masked kernels are scaled to sum 1. The paper's are not, which lets a
                kernel darken; short runs use that freedom.
            symmetric: Whether raw kernels and masks are averaged with themselves turned by half a
                turn. Images that are moved one way and kernels that move them back make the same
                observed images, and short runs end up there: half a pixel aside. Symmetric kernels
                move nothing. The paper's are free.
            padding: How the image goes on beyond its border.
        """

        size: int = 9
        latent: int = 128
        hidden: int = 128
        masked: bool = True
        mask_bias: float = 0.0
        compact: bool = False
        normalise: bool = False
        symmetric: bool = False
        padding: Padding = "reflect"

        def __post_init__(self) -> None:
            """Checks the side."""
            _check_size(self.size)

        def build(self) -> LearnedBlur:
            """Makes the degradation."""
            return LearnedBlur(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        shape = TwoHeads.Config(
            latent=config.latent,
            hidden=config.hidden,
            outputs=config.size**2,
            mask_bias=config.mask_bias,
        )
        self.network = shape.build()
        if config.compact:
            profile = gaussian(torch.tensor([config.size / 6]), config.size).flatten()
            with torch.no_grad():
                # Far from its peak, a sigmoid is the exponential function.
                self.network.value.bias.add_((profile / profile.max()).log())

    def sample(self, shape: Shape, *, generator: Randomness) -> LearnedBlurParams:
        """Draws latents ``(B, latent)`` and generates kernels; differentiable in the weights."""
        return self.generate(randn((shape[0], self.config.latent), generator))

    def generate(self, z: Tensor) -> LearnedBlurParams:
        """Generates kernels from latents of shape (B, latent)."""
        size = self.config.size
        value, mask_logits = (t.float() for t in self.network(z))
        raw = _scaled(value.sigmoid().view(-1, 1, size, size))
        if self.config.symmetric:
            raw = _symmetric(raw)
        if not self.config.masked:
            return LearnedBlurParams(raw, z, raw, torch.ones_like(raw))
        mask = mask_logits.sigmoid().view_as(raw)
        if self.config.symmetric:
            mask = _symmetric(mask)
        # Eq. 3
        kernel = mask * raw + (1 - mask) * delta(size, device=raw.device)
        if self.config.normalise:
            kernel = _scaled(kernel)
        return LearnedBlurParams(kernel, z, raw, mask)


@dataclass(frozen=True)
class LearnedNoiseParams(ReadShotParams):
    """Noise levels for each pixel, the noise itself, and the latents with shape (B, D)."""

    z: Tensor


class LearnedNoise(Differentiable[ReadShotParams]):
    """Adds read and shot noise whose levels come from a generator G_n.

    G_n makes maps of both levels at the size that it was trained at; images of another size get the
    maps resized bilinearly.

    Arguments:
        config: The shape of the generator.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of G_n.

        Attributes:
            network: A generator whose ``image_channels`` is twice that of the images: read, shot.
        """

        network: ResNetGenerator.Config = ResNetGenerator.Config(image_channels=6)

        def build(self) -> LearnedNoise:
            """Makes the degradation."""
            return LearnedNoise(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.network.image_channels % 2:
            raise ValueError(
                f"image_channels={config.network.image_channels} is odd; the noise generator makes "
                "two levels for each channel of the images"
            )
        self.config = config
        self.network = config.network.build()

    def sample(self, shape: Shape, *, generator: Randomness) -> LearnedNoiseParams:
        """Draws latents ``(B, latent)`` and noise, generates levels; differentiable in the weights."""
        z = randn((shape[0], self.config.network.latent), generator)
        return self.generate(z, randn(shape, generator), randn(shape, generator))

    def generate(self, z: Tensor, eps_read: Tensor, eps_shot: Tensor) -> LearnedNoiseParams:
        """Generates levels from latents of shape (B, latent), for given normal numbers."""
        levels = self.network(z).float()
        if levels.shape[-2:] != eps_read.shape[-2:]:
            levels = F.interpolate(levels, size=eps_read.shape[-2:], mode="bilinear")
        read, shot = levels.chunk(2, dim=1)
        if read.shape[1] != eps_read.shape[1]:
            raise ValueError(
                f"this noise was learned on images of {read.shape[1]} channels; "
                f"it cannot be drawn for {eps_read.shape[1]}"
            )
        # Read noise is made on the scale [-1, 1]; half of it is its level on [0, 1]. Shot noise is
        # relative to the square root of the signal on [0, 1], doubled on [-1, 1].
        return LearnedNoiseParams(read / 2, shot, eps_read, eps_shot, z)

    def forward(self, x: Tensor, params: ReadShotParams) -> Tensor:
        """Adds the noise to images of shape (B, C, H, W)."""
        return read_shot(x, params.sigma_read, params.sigma_shot, params.eps_read, params.eps_shot)


@dataclass(frozen=True)
class LearnedJPEGParams(JPEGParams):
    """Qualities and how they came about.

    Attributes:
        z: The latents, with shape (B, D).
        mask: The masks m_q in [0, 1], with shape (B,).
    """

    z: Tensor
    mask: Tensor

    def summary(self) -> dict[str, Tensor]:
        """Returns the qualities and the masks, each with shape (B,)."""
        return {"quality": self.quality, "quality_mask": self.mask}


class LearnedJPEG(Differentiable[JPEGParams]):
    """Compresses with qualities from a generator G_q.

    Arguments:
        config: The shape of the generator and what it starts from.
    """

    needs_range = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of G_q.

        Attributes:
            latent: The dimension of the latent.
            hidden: The width of the hidden layers.
            masked: Whether the mask m_q is used (Eq. 5); without it, every image is compressed.
            quality_bias: The initial bias of the quality's logit; q = 100 sigmoid(logit).
            mask_bias: The initial bias of the mask's logit; below zero starts near the identity.
            subsampling: How the colour is subsampled.
            rounding: How coefficients are rounded; see :func:`~blemish.functional.jpeg.jpeg`.
            table: The tables, libjpeg's ``integer`` ones or ``continuous`` ones (the paper's).
            chroma: How subsampled colour is enlarged; the paper's way is ``nearest``.
        """

        latent: int = 128
        hidden: int = 128
        masked: bool = True
        quality_bias: float = 0.0
        mask_bias: float = 0.0
        subsampling: Subsampling = "4:2:0"
        rounding: Rounding = "cubic"
        table: Table = "integer"
        chroma: Chroma = "bilinear"

        def build(self) -> LearnedJPEG:
            """Makes the degradation."""
            return LearnedJPEG(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        shape = TwoHeads.Config(
            latent=config.latent,
            hidden=config.hidden,
            outputs=1,
            value_bias=config.quality_bias,
            mask_bias=config.mask_bias,
        )
        self.network = shape.build()

    def sample(self, shape: Shape, *, generator: Randomness) -> LearnedJPEGParams:
        """Draws latents ``(B, latent)`` and generates qualities; differentiable in the weights."""
        return self.generate(randn((shape[0], self.config.latent), generator))

    def generate(self, z: Tensor) -> LearnedJPEGParams:
        """Generates qualities and masks from latents of shape (B, latent)."""
        value, mask_logits = (t.float().squeeze(1) for t in self.network(z))
        mask = mask_logits.sigmoid() if self.config.masked else torch.ones_like(mask_logits)
        return LearnedJPEGParams(100 * value.sigmoid(), z, mask)

    def forward(self, x: Tensor, params: JPEGParams) -> Tensor:
        """Compresses images of shape (B, C, H, W); where there is a mask, mixes (Eq. 5)."""
        y = compress(x, params.quality, self.config)
        if not isinstance(params, LearnedJPEGParams) or not self.config.masked:
            return y
        mask = params.mask.view(-1, 1, 1, 1)
        return mask * y + (1 - mask) * x


class ConstantBlur(KernelBlur):
    """Blurs every image with one kernel that is learned directly (P-AmbientGAN).

    Arguments:
        config: The size of the kernel.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the kernel.

        Attributes:
            size: The odd side of the kernel.
            padding: How the image goes on beyond its border.
        """

        size: int = 9
        padding: Padding = "reflect"

        def __post_init__(self) -> None:
            """Checks the side."""
            _check_size(self.size)

        def build(self) -> ConstantBlur:
            """Makes the degradation."""
            return ConstantBlur(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.logits = nn.Parameter(torch.zeros(config.size**2))

    def sample(self, shape: Shape, *, generator: Randomness) -> BlurParams:
        """Repeats the kernel to ``(B, 1, K, K)``; differentiable in it."""
        size = self.config.size
        kernel = _scaled(self.logits.sigmoid().view(1, 1, size, size))
        return BlurParams(kernel.expand(shape[0], -1, -1, -1))


class ConstantJPEG(Differentiable[JPEGParams]):
    """Compresses every image with one quality that is learned directly (P-AmbientGAN).

    Arguments:
        config: The codec.
    """

    needs_range = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The codec.

        Attributes:
            subsampling: How the colour is subsampled.
            rounding: How coefficients are rounded; see :func:`~blemish.functional.jpeg.jpeg`.
            table: The tables, libjpeg's ``integer`` ones or ``continuous`` ones (the paper's).
            chroma: How subsampled colour is enlarged; the paper's way is ``nearest``.
        """

        subsampling: Subsampling = "4:2:0"
        rounding: Rounding = "cubic"
        table: Table = "integer"
        chroma: Chroma = "bilinear"

        def build(self) -> ConstantJPEG:
            """Makes the degradation."""
            return ConstantJPEG(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.logit = nn.Parameter(torch.zeros(()))

    def sample(self, shape: Shape, *, generator: Randomness) -> JPEGParams:
        """Repeats the quality to ``(B,)``; differentiable in it."""
        return JPEGParams((100 * self.logit.sigmoid()).expand(shape[0]))

    def forward(self, x: Tensor, params: JPEGParams) -> Tensor:
        """Compresses images of shape (B, C, H, W)."""
        return compress(x, params.quality, self.config)


def _symmetric(kernel: Tensor) -> Tensor:
    return (kernel + kernel.flip(-2, -1)) / 2


def _scaled(kernel: Tensor) -> Tensor:
    """Scales positive kernels of shape (B, 1, K, K) to sum 1; a sum that vanishes stays finite."""
    return kernel / kernel.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)


def _check_size(size: int) -> None:
    if size % 2 == 0 or not 3 <= size <= MAX_SIZE:
        raise ValueError(f"size={size} is no side of a learned kernel; give odd 3 to {MAX_SIZE}")
