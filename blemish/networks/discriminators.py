r"""The discriminators of ESRGAN and Real-ESRGAN.

*U-Net.* Three strided convolutions halve the image, three bilinear enlargements bring it back, and each level is
added to what comes back from below. Every pixel gets a logit, so that the generator is told where it fails. All
convolutions but the first and the last are divided by their largest singular value :math:`\sigma`, taken as a matrix
of (outputs, inputs times kernel): each is 1-Lipschitz as such a matrix.

*VGG.* Stages of two convolutions, of which the second halves the image, end at 4x4 places and one logit.
Normalisation over the batch follows each convolution but the first, so that in training mode a logit depends on
all images of its batch: real and fake images belong in batches of their own.

*What a forward pass changes.* In training mode the U-Net advances one step of a power iteration, which estimates
:math:`\sigma`, and the VGG network moves its running means and variances. These are buffers in the state dictionary,
so that a resumed training goes on with the same bits. A pass that shall leave no trace, an attack's say, is made in
``eval()`` mode, where both networks also judge every image by itself.

References:
    | Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data
    | (Wang et al., 2021), https://arxiv.org/abs/2107.10833
    | ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks (Wang et al., 2018)
    | https://arxiv.org/abs/1809.00219
    | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018)
    | https://arxiv.org/abs/1802.05957
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .resnet import channels_last, check_widths

__all__ = ["UNetDiscriminator", "VGGDiscriminator"]

_leaky = partial(F.leaky_relu, negative_slope=0.2)
_double = partial(F.interpolate, scale_factor=2, mode="bilinear", align_corners=False)


class UNetDiscriminator(nn.Module):
    """Maps images to one logit a pixel.

    The layers are named as the published ones, ``conv0`` to ``conv9``. The normalised ones keep their weights
    as ``parametrizations.weight.original``, with the buffers ``parametrizations.weight.0._u`` and ``_v``.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a discriminator; the defaults are those of Real-ESRGAN.

        Attributes:
            features: The channels of the first and the last layers; eight times as many at the bottom.
            image_channels: The channels of the images.
        """

        features: int = 64
        image_channels: int = 3

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            check_widths("features, image_channels", (self.features, self.image_channels))

        def build(self) -> UNetDiscriminator:
            """Makes the network."""
            return UNetDiscriminator(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        c = config.features
        self.conv0 = nn.Conv2d(config.image_channels, c, 3, padding=1)
        self.conv1, self.conv2, self.conv3 = (
            spectral_norm(nn.Conv2d(a, 2 * a, 4, stride=2, padding=1, bias=False))
            for a in (c, 2 * c, 4 * c)
        )
        widths = ((8 * c, 4 * c), (4 * c, 2 * c), (2 * c, c), (c, c), (c, c))
        self.conv4, self.conv5, self.conv6, self.conv7, self.conv8 = (
            spectral_norm(nn.Conv2d(a, b, 3, padding=1, bias=False)) for a, b in widths
        )
        self.conv9 = nn.Conv2d(c, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Judges each pixel of images.

        Arguments:
            x: Images in [-1, 1], with shape (B, image_channels, H, W), of any size. Sides that 8 does not divide
                go on as they end.

        Returns:
            Logits, with shape (B, 1, H, W); large means real.
        """
        height, width = x.shape[-2:]
        padding = (0, -width % 8, 0, -height % 8)
        h0 = _leaky(self.conv0(channels_last(F.pad(x, padding, mode="replicate"))))
        h1 = _leaky(self.conv1(h0))
        h2 = _leaky(self.conv2(h1))
        h = _leaky(self.conv3(h2))
        for conv, skip in ((self.conv4, h2), (self.conv5, h1), (self.conv6, h0)):
            h = _leaky(conv(_double(h))) + skip
        logits: Tensor = self.conv9(_leaky(self.conv8(_leaky(self.conv7(h)))))
        return logits[..., :height, :width]


class VGGDiscriminator(nn.Module):
    """Maps images of one size to one logit each.

    Layers are named as the published ones: ``conv0_0``, ``bn0_1``, ``linear1`` and so on.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a discriminator; the defaults are those of ESRGAN.

        Attributes:
            side: The side of the images in pixels: 128 or 256 as published, or another 4 * 2^k.
            features: The channels of the first stage; each stage has twice as many, up to eight times.
            image_channels: The channels of the images.
            hidden: The units before the logit.
        """

        side: int = 128
        features: int = 64
        image_channels: int = 3
        hidden: int = 100

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            if self.side not in (4 * 2**k for k in range(1, 12)):
                raise ValueError(f"side={self.side}; give 4 * 2^k pixels, such as 64, 128 or 256")
            check_widths("features, hidden", (self.features, self.hidden))
            check_widths("image_channels", (self.image_channels,))

        def build(self) -> VGGDiscriminator:
            """Makes the network."""
            return VGGDiscriminator(self)

        @property
        def widths(self) -> tuple[int, ...]:
            """The channels of each stage, of which each halves the sides."""
            stages = (self.side // 4).bit_length() - 1
            return tuple(self.features * min(2**i, 8) for i in range(stages))

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        last = config.image_channels
        for i, width in enumerate(config.widths):
            # A bias before a normalisation would be taken away again.
            self.add_module(f"conv{i}_0", nn.Conv2d(last, width, 3, padding=1, bias=i == 0))
            if i > 0:
                self.add_module(f"bn{i}_0", nn.BatchNorm2d(width))
            halving = nn.Conv2d(width, width, 4, stride=2, padding=1, bias=False)
            self.add_module(f"conv{i}_1", halving)
            self.add_module(f"bn{i}_1", nn.BatchNorm2d(width))
            last = width
        self.linear1 = nn.Linear(last * 4 * 4, config.hidden)
        self.linear2 = nn.Linear(config.hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Judges images.

        Arguments:
            x: Images in [-1, 1], with shape (B, image_channels, side, side).

        Returns:
            Logits, with shape (B,); large means real.

        Raises:
            ValueError: If the images have another size.
        """
        side = self.config.side
        if x.shape[-2:] != (side, side):
            raise ValueError(
                f"got images of {x.shape[-2]}x{x.shape[-1]} pixels; this discriminator judges {side}x{side}: "
                "crop them, or set its side"
            )
        h = channels_last(x)
        for i in range(len(self.config.widths)):
            for name in (f"{i}_0", f"{i}_1"):
                h = self.get_submodule(f"conv{name}")(h)
                h = _leaky(h if name == "0_0" else self.get_submodule(f"bn{name}")(h))
        logits: Tensor = self.linear2(_leaky(self.linear1(h.flatten(1)))).squeeze(1)
        return logits
