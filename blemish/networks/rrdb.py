r"""RRDBNet, the generator of ESRGAN and Real-ESRGAN, under the names of its published weights.

A dense block has five convolutions, each of which sees the block's input and what all before it made; a residual
block holds three of them (residual in residual dense block):

.. math:: d(x) = x + 0.2 \, c_5([x, h_1, \ldots, h_4]), \qquad h_k = \phi(c_k([x, h_1, \ldots, h_{k-1}])), \qquad
    r(x) = x + 0.2 \, d_3(d_2(d_1(x)))

with :math:`\phi` a rectifier that leaks 0.2. After n such blocks, features are enlarged twice by 2, each time by
repeating pixels and a convolution. That is scale 4; for scales 2 and 1, blocks of f x f pixels of the image, f = 2
and f = 4, are packed into channels first, as Real-ESRGAN does. No layout of scale 3 has been published.

The published weights work on images in [0, 1], and so does this network inside; outside it takes and returns
[-1, 1], as all here do.

References:
    | ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks (Wang et al., 2018)
    | https://arxiv.org/abs/1809.00219
    | Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data
    | (Wang et al., 2021), https://arxiv.org/abs/2107.10833
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .resnet import channels_last, check_widths, pack

__all__ = ["RRDB", "DenseBlock", "RRDBNet"]

FACTORS = {1: 4, 2: 2, 4: 1}
"""The side f of the blocks of pixels that are packed into channels, by scale."""

_RESIDUAL = 0.2
_LEAK = 0.2


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it made.

    Arguments:
        features: The channels C of input and output.
        growth: The channels that each of the first four convolutions adds.
    """

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = (
            nn.Conv2d(features + k * growth, growth if k < 4 else features, 3, padding=1)
            for k in range(5)
        )
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            # A tenth of Kaiming's deviation, as published: residuals start small.
            nn.init.kaiming_normal_(conv.weight)
            with torch.no_grad():
                conv.weight *= 0.1
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Applies the block.

        Arguments:
            x: Features, with shape (B, C, H, W).

        Returns:
            Features of the same shape.
        """
        seen = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, _leaky(conv(seen))], dim=1)
        residual: Tensor = self.conv5(seen)
        return x + _RESIDUAL * residual


class RRDB(nn.Module):
    """A residual block of three dense blocks.

    Arguments:
        features: The channels C of input and output.
        growth: The channels that each convolution within adds.
    """

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(features, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Applies the block to features, with shape (B, C, H, W), and keeps their shape."""
        residual: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return x + _RESIDUAL * residual


class RRDBNet(nn.Module):
    """Enlarges images by 4 or 2, or restores them at their size.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the network; the defaults are those of ESRGAN, with 16.7 million parameters.

        Attributes:
            scale: The factor by which images grow: 1, 2 or 4.
            features: The channels of the blocks.
            blocks: The number of residual blocks, 23 or 6 in published networks.
            growth: The channels that each convolution of a dense block adds.
            image_channels: The channels of the images.
        """

        scale: int = 4
        features: int = 64
        blocks: int = 23
        growth: int = 32
        image_channels: int = 3

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            if self.scale not in FACTORS:
                raise ValueError(
                    f"scale={self.scale} has no published layout of RRDBNet; choose 1, 2 or 4, "
                    "or an Upscaler, which has scale 3, too"
                )
            check_widths("features, blocks", (self.features, self.blocks))
            check_widths("growth, image_channels", (self.growth, self.image_channels))

        def build(self) -> RRDBNet:
            """Makes the network."""
            return RRDBNet(self)

        @property
        def factor(self) -> int:
            """The side f of the blocks of pixels that are packed into channels."""
            return FACTORS[self.scale]

        @property
        def receptive_field(self) -> int:
            """The side of the square of input pixels that an output pixel depends on.

            The convolutions before the enlargement see 15 n + 2 places far, for n blocks, and those after it 2
            places more. Of the pixels in a packed block, the first one sees as many blocks to one side as the
            last one to the other.
            """
            return 1 + 2 * self.factor * (15 * self.blocks + 4)

        @property
        def multiple(self) -> int:
            """What the corner of a part must be a multiple of to be computed as in the whole."""
            return self.factor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, channels = config.features, config.image_channels
        self.conv_first = nn.Conv2d(channels * config.factor**2, width, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(width, config.growth) for _ in range(config.blocks)))
        self.conv_body, self.conv_up1, self.conv_up2, self.conv_hr = (
            nn.Conv2d(width, width, 3, padding=1) for _ in range(4)
        )
        self.conv_last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, y: Tensor) -> Tensor:
        """Enlarges images.

        Arguments:
            y: Images in [-1, 1], with shape (B, image_channels, H, W), of any size. Sides that f does not
                divide go on as they end.

        Returns:
            Images, with shape (B, image_channels, scale H, scale W), about in [-1, 1].
        """
        height, width = (self.config.scale * side for side in y.shape[-2:])
        h = self.conv_first(channels_last(pack((y + 1) / 2, self.config.factor)))
        h = h + self.conv_body(self.body(h))
        for conv in (self.conv_up1, self.conv_up2):
            h = _leaky(conv(F.interpolate(h, scale_factor=2, mode="nearest")))
        x: Tensor = self.conv_last(_leaky(self.conv_hr(h)))
        return 2 * x[..., :height, :width].to(y.dtype) - 1


def _leaky(x: Tensor) -> Tensor:
    # In place: a convolution needs its input and not its output for the gradient.
    return F.leaky_relu(x, _LEAK, inplace=True)
