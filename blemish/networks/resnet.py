r"""Residual generators and discriminators of the BNCR-GAN family.

A block adds a scaled residual to its shortcut, :math:`s(x) + \lambda \, r(x)` with
:math:`\lambda = 0.1`, and uses no normalisation. Up-sampling is nearest-neighbour before the first
convolution, down-sampling is 2x2 averaging after the second.

References:
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), Tables 11 and 12
    | https://arxiv.org/abs/2003.07849
    | Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018)
    | https://arxiv.org/abs/1801.04406
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "ResBlock",
    "ResNetDiscriminator",
    "ResNetGenerator",
    "channels_last",
    "check_widths",
    "pack",
    "zero_biases",
]

Resample = Literal["none", "up", "down"]


class ResBlock(nn.Module):
    r"""A residual block, :math:`s(x) + \lambda \, r(x)`.

    Arguments:
        channels_in: The channels of the input.
        channels_out: The channels of the output.
        resample: Whether the sides are doubled, halved or kept.
        scale: The factor :math:`\lambda` of the residual.
        first: Whether this is a discriminator's first block, which does not rectify the image and
            averages before its shortcut's convolution.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        resample: Resample = "none",
        scale: float = 0.1,
        first: bool = False,
    ) -> None:
        super().__init__()
        middle = channels_in if resample == "down" and not first else channels_out
        self.conv1 = nn.Conv2d(channels_in, middle, 3, padding=1)
        self.conv2 = nn.Conv2d(middle, channels_out, 3, padding=1)
        keeps = channels_in == channels_out and resample == "none"
        self.shortcut = nn.Identity() if keeps else nn.Conv2d(channels_in, channels_out, 1)
        self.resample, self.scale, self.first = resample, scale, first
        for conv in (self.conv1, self.conv2):
            nn.init.xavier_uniform_(conv.weight, gain=math.sqrt(2))
        if isinstance(self.shortcut, nn.Conv2d):
            nn.init.xavier_uniform_(self.shortcut.weight)
        zero_biases(self)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the block.

        Arguments:
            x: Features, with shape (B, C_in, H, W).

        Returns:
            Features, with shape (B, C_out, H', W'), where H' is 2H, H or H // 2.
        """
        if self.resample == "up":
            # A 1x1 convolution and nearest-neighbour up-sampling commute; the cheap order first.
            shortcut = _double(self.shortcut(x))
        elif self.resample == "down":
            shortcut = self.shortcut(F.avg_pool2d(x, 2))
        else:
            shortcut = self.shortcut(x)
        r = x if self.first else F.relu(x)
        if self.resample == "up":
            r = _double(r)
        r = self.conv2(F.relu(self.conv1(r)))
        if self.resample == "down":
            r = F.avg_pool2d(r, 2)
        return shortcut + self.scale * r


class ResNetGenerator(nn.Module):
    """Maps latents to images in (-1, 1).

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a generator.

        Attributes:
            latent: The dimension of the latent z.
            channels: The output channels of each up-sampling block; images have side 4 * 2^len.
            image_channels: The channels of the output.
            residual_scale: The factor of the residuals.
            output_gain: A factor on the last convolution's initial weights.
        """

        latent: int = 128
        channels: tuple[int, ...] = (128, 128, 128)
        image_channels: int = 3
        residual_scale: float = 0.1
        output_gain: float = 1.0

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            check_widths("channels", self.channels, least=1)
            check_widths("latent and image_channels", (self.latent, self.image_channels))

        def build(self) -> ResNetGenerator:
            """Makes the network."""
            return ResNetGenerator(self)

        @property
        def size(self) -> int:
            """The side of the images in pixels."""
            return int(4 * 2 ** len(self.channels))

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        widths = (config.channels[0], *config.channels)
        self.linear = nn.Linear(config.latent, 16 * widths[0])
        self.blocks = nn.Sequential(
            *(
                ResBlock(a, b, resample="up", scale=config.residual_scale)
                for a, b in pairwise(widths)
            )
        )
        self.conv = nn.Conv2d(widths[-1], config.image_channels, 3, padding=1)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.xavier_uniform_(self.conv.weight, gain=config.output_gain)
        zero_biases(self)

    def forward(self, z: Tensor) -> Tensor:
        """Generates images.

        Arguments:
            z: Latents, with shape (B, latent).

        Returns:
            Images in (-1, 1), with shape (B, image_channels, size, size).
        """
        x = channels_last(self.linear(z).unflatten(1, (-1, 4, 4)))
        images: Tensor = self.conv(F.relu(self.blocks(x))).tanh()
        return images


class ResNetDiscriminator(nn.Module):
    """Maps images to one logit each.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a discriminator.

        Attributes:
            down: The output channels of each down-sampling block.
            flat: The output channels of each block that keeps the size.
            image_channels: The channels of the images.
            residual_scale: The factor of the residuals.
            detail: If positive, the image's detail, which is its difference to the means of 3x3 pixels,
                is shown beside the image, amplified by this factor.
            factor: The side f of the blocks of pixels that are packed into channels.
        """

        down: tuple[int, ...] = (128, 128)
        flat: tuple[int, ...] = (128, 128)
        image_channels: int = 3
        residual_scale: float = 0.1
        detail: float = 0.0
        factor: int = 1

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            check_widths("down", self.down, least=1)
            check_widths("flat", self.flat)
            check_widths("image_channels, factor", (self.image_channels, self.factor))
            if self.detail < 0:
                raise ValueError(f"detail={self.detail}; give 0 for none, or a positive factor")

        def build(self) -> ResNetDiscriminator:
            """Makes the network."""
            return ResNetDiscriminator(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        blocks: list[ResBlock] = []
        channels = config.image_channels * (2 if config.detail else 1) * config.factor**2
        for kind, widths in (("down", config.down), ("none", config.flat)):
            for width in widths:
                resample: Resample = "down" if kind == "down" else "none"
                block = ResBlock(
                    channels,
                    width,
                    resample=resample,
                    scale=config.residual_scale,
                    first=not blocks,
                )
                blocks.append(block)
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels, 1)
        nn.init.xavier_uniform_(self.linear.weight)
        zero_biases(self)

    def forward(self, y: Tensor) -> Tensor:
        """Judges images.

        Arguments:
            y: Images in [-1, 1], with shape (B, image_channels, H, W), of any size.

        Returns:
            Logits, with shape (B,); large means real.
        """
        c = self.config
        if c.detail:
            means = F.avg_pool2d(F.pad(y, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            y = torch.cat([y, c.detail * (y - means)], dim=1)
        features = F.relu(self.blocks(channels_last(pack(y, c.factor)))).mean(dim=(2, 3))
        logits: Tensor = self.linear(features).squeeze(1)
        return logits


def channels_last(x: Tensor) -> Tensor:
    """Returns the same values, with shape (B, C, H, W), laid out channels last."""
    # Convolutions keep the layout of their input. On CPUs this one saves a reordering before and
    # after each of them (a quarter of an iteration at 24 channels); on GPUs tensor cores want it.
    # Flattened in between, as ``contiguous`` leaves the strides of one channel as they are.
    last = x.movedim(1, 3)
    return last.flatten().view(last.shape).movedim(3, 1)


def pack(x: Tensor, factor: int) -> Tensor:
    """Packs blocks of pixels into channels; sides that the factor does not divide go on as they end.

    Arguments:
        x: Images, with shape (B, C, H, W).
        factor: The side f of the blocks.

    Returns:
        Packed images, with shape (B, C f^2, ceil(H / f), ceil(W / f)).
    """
    height, width = x.shape[-2:]
    padding = (0, -width % factor, 0, -height % factor)
    return F.pixel_unshuffle(F.pad(x, padding, mode="replicate"), factor)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def zero_biases(module: nn.Module) -> None:
    """Sets all biases of a module to zero."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)


def check_widths(name: str, widths: tuple[int, ...], *, least: int = 0) -> None:
    """Raises a ValueError unless all widths are positive, and at least so many."""
    if len(widths) < least or min(widths, default=1) < 1:
        how_many = f", at least {least}" if least else ""
        raise ValueError(f"{name}={widths}; give positive whole numbers{how_many}")
