r"""Networks that map images to images of the same size: restorers are made of them.

Both keep the size and are convolutional, so that they take images of any size, and an output pixel depends
on the input within a declared square around it, the receptive field. A 3x3 convolution adds a pixel on
each side, a residual block two.

The packed network works on blocks of f x f pixels that are packed into channels (``pixel_unshuffle``). At
f times fewer positions a side, a convolution costs f^2 times less and reaches f times as far. What it adds to
its input is what is learned; it starts near the identity.

References:
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), Table 13
    | https://arxiv.org/abs/2003.07849
    | Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    | Neural Network (Shi et al., 2016), https://arxiv.org/abs/1609.05158
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .resnet import ResBlock, channels_last, check_widths, pack, zero_biases

__all__ = ["PackedTranslator", "Translator", "packed_reach", "residual_blocks"]


class Translator(nn.Module):
    """The image translator T of the paper, which makes images in (-1, 1) from nothing but its features.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the network; the defaults are those of Table 13.

        Attributes:
            channels: The channels of the blocks.
            blocks: The number of residual blocks.
            image_channels: The channels of the images.
            residual_scale: The factor of the residuals.
        """

        channels: int = 128
        blocks: int = 3
        image_channels: int = 3
        residual_scale: float = 0.1

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            check_widths("channels, blocks", (self.channels, self.blocks))
            check_widths("image_channels", (self.image_channels,))

        def build(self) -> Translator:
            """Makes the network."""
            return Translator(self)

        @property
        def scale(self) -> int:
            """The factor by which images grow: they keep their size."""
            return 1

        @property
        def receptive_field(self) -> int:
            """The side of the square of input pixels that an output pixel depends on."""
            return 1 + 2 * (2 * self.blocks + 2)

        @property
        def multiple(self) -> int:
            """What the corner of a part must be a multiple of to be computed as in the whole."""
            return 1

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, channels = config.channels, config.image_channels
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = residual_blocks(config.blocks, width, config.residual_scale)
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        for conv in (self.first, self.last):
            nn.init.xavier_uniform_(conv.weight)
        zero_biases(self)

    def forward(self, y: Tensor) -> Tensor:
        """Translates images.

        Arguments:
            y: Images in [-1, 1], with shape (B, image_channels, H, W), of any size.

        Returns:
            Images in (-1, 1), of the same shape.
        """
        features = self.blocks(self.first(channels_last(y)))
        x: Tensor = self.last(F.relu(features)).tanh()
        return x


class PackedTranslator(nn.Module):
    """Adds what it learned to its input, at a fraction of the resolution.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the network.

        Attributes:
            channels: The channels of the blocks.
            blocks: The number of residual blocks.
            factor: The side f of the blocks of pixels that are packed into channels.
            image_channels: The channels of the images.
            residual_scale: The factor of the residuals.
            output_gain: A factor on the last convolution's initial weights; small ones start near the
                identity.
        """

        channels: int = 48
        blocks: int = 8
        factor: int = 2
        image_channels: int = 3
        residual_scale: float = 0.3
        output_gain: float = 0.1

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            check_widths("channels, blocks", (self.channels, self.blocks))
            check_widths("factor, image_channels", (self.factor, self.image_channels))

        def build(self) -> PackedTranslator:
            """Makes the network."""
            return PackedTranslator(self)

        @property
        def scale(self) -> int:
            """The factor by which images grow: they keep their size."""
            return 1

        @property
        def receptive_field(self) -> int:
            """The side of the square of input pixels that an output pixel depends on."""
            return 1 + 2 * packed_reach(self.factor, self.blocks)

        @property
        def multiple(self) -> int:
            """What the corner of a part must be a multiple of to be computed as in the whole."""
            return self.factor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        packed = config.image_channels * config.factor**2
        self.first = nn.Conv2d(packed, config.channels, 3, padding=1)
        self.blocks = residual_blocks(config.blocks, config.channels, config.residual_scale)
        self.last = nn.Conv2d(config.channels, packed, 3, padding=1)
        nn.init.xavier_uniform_(self.first.weight)
        nn.init.xavier_uniform_(self.last.weight, gain=config.output_gain)
        zero_biases(self)

    def forward(self, y: Tensor) -> Tensor:
        """Translates images.

        Arguments:
            y: Images in [-1, 1], with shape (B, image_channels, H, W), of any size.

        Returns:
            Images of the same shape, a little beyond [-1, 1] here and there.
        """
        height, width = y.shape[-2:]
        f = self.config.factor
        features = self.blocks(self.first(channels_last(pack(y, f))))
        change = F.pixel_shuffle(self.last(F.relu(features)), f)
        return y + change[..., :height, :width]


def residual_blocks(count: int, channels: int, scale: float) -> nn.Sequential:
    """Returns so many residual blocks of one width."""
    return nn.Sequential(*(ResBlock(channels, channels, scale=scale) for _ in range(count)))


def packed_reach(factor: int, blocks: int) -> int:
    """Returns how many pixels away an output pixel sees, of a network on blocks of f x f packed pixels.

    From a pixel at one end of its block, the farthest one is (f - 1) + f (2n + 2) pixels away, for n residual blocks and
    two more convolutions.

    Arguments:
        factor: The side f of the blocks of pixels.
        blocks: The number n of residual blocks.
    """
    return factor * (2 * blocks + 3) - 1
