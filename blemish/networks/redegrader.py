r"""The redegrader: a U-Net that puts onto an image the degradation that a code describes.

.. math:: \hat y = \hat f(x, e_g, e_l, n) = x + U(x \mid c, n), \qquad c = C(e_g, e_l)

The embedding :math:`e_g` of the whole image and the map :math:`e_l`, of 1/r of the image's resolution, become one
narrow condition map c, which every layer is told; the noise n, one map for each layer that takes it, is an input like
the others. The U-Net has no normalisation and no biases but those of the layers for the condition, and halves the
resolution by 4x4 convolutions.

What differs from the authors' code: the residual is added to the image, and the last layer starts near 0, so that the
identity is about where training starts (not exactly: of no noise at all, a little more changes no energy at first order,
so that noise would never be learned); the layers that double the resolution start without the lattices of random ones, which
would be learned in the place of noise; images are seen in [-1, 1] once, not rescaled twice; the embedding enters the
condition map by a linear layer, which is what its copies at every cell and a convolution with replicated borders
would be; maps are resampled with pixels as areas, so that a crop of a picture sees the crop of its map.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025), and its
    | technical report, Sections 2 and 6.1, https://arxiv.org/abs/2505.12860
    | U-Net: Convolutional Networks for Biomedical Image Segmentation (Ronneberger et al., 2015)
    | https://arxiv.org/abs/1505.04597
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ida import IDASFT
from .resnet import check_widths

__all__ = ["Redegrader"]

SLOPE = 0.01


class Redegrader(nn.Module):
    """Puts a degradation onto images.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the network; the default one is the authors', with 11.7 million parameters.

        Attributes:
            widths: The channels at full resolution, at half of it, and so on.
            blocks: The residual blocks at each, on the way down; on the way up as many.
            condition: The channels of the condition map.
            embedding: The length of the embedding e_g.
            local: The channels of the map e_l; 0: the network has none.
            ratio: The ratio r of the image's resolution to that of e_l.
            ida: Whether its layers filter as the condition says (IDA); without, they scale and shift alone.
            image_channels: The channels of the images.
        """

        widths: tuple[int, ...] = (64, 128, 256)
        blocks: tuple[int, ...] = (4, 3, 2)
        condition: int = 8
        embedding: int = 256
        local: int = 4
        ratio: int = 2
        ida: bool = True
        image_channels: int = 3

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            check_widths("widths, blocks", (*self.widths, *self.blocks))
            check_widths(
                "condition, embedding, ratio", (self.condition, self.embedding, self.ratio)
            )
            if len(self.widths) != len(self.blocks) or self.local < 0:
                raise ValueError(
                    f"widths={self.widths}, blocks={self.blocks}, local={self.local}; give as many blocks as widths, "
                    "and at least 0 channels"
                )

        @property
        def multiple(self) -> int:
            """What both sides are padded to a multiple of: every level halves them, and its filters once more."""
            return math.lcm(2 ** len(self.widths), self.ratio)

        def padded(self, height: int, width: int) -> tuple[int, int]:
            """Returns the sides of padded images."""
            m = self.multiple
            return -(-height // m) * m, -(-width // m) * m

        def noise_shapes(self, height: int, width: int) -> list[tuple[int, int]]:
            """Returns the sides of the noise maps of images, in the order in which layers take them."""
            H, W = self.padded(height, width)
            down = [level for level, count in enumerate(self.blocks) for _ in range(2 * count)]
            up = [
                level
                for level in range(len(self.blocks) - 2, -1, -1)
                for _ in range(2 * self.blocks[level])
            ]
            return [(H >> level, W >> level) for level in down + up]

        def build(self) -> Redegrader:
            """Makes the network."""
            return Redegrader(self)

        @property
        def receptive_field(self) -> int:
            """The side of the square of pixels that a pixel depends on, at most."""
            # Of a block: two convolutions, and two layers that halve and restore.
            per_block = 2 * (1 + (2 if self.ida else 0))
            reach = 1 + 4 * self.ratio
            for level, count in enumerate(self.blocks):
                last = level == len(self.blocks) - 1
                passes = count if last else 2 * count
                reach += (passes * per_block + (0 if last else 5)) << level
            return 1 + 2 * reach

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        w, n = config.widths, config.blocks
        self.embedding = nn.Linear(config.embedding, config.condition)
        self.local = _map(config.local, config.condition) if config.local else None
        self.condition = _map(config.condition, config.condition)
        self.first = _conv(config.image_channels, w[0])
        self.encoder = nn.ModuleList(
            _Stage(count, c, config) for count, c in zip(n, w, strict=True)
        )
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in pairwise(w))
        self.up = nn.ModuleList(_doubling(b, a) for a, b in pairwise(w))
        self.join = nn.ModuleList(_conv(2 * c, c) for c in w[:-1])
        self.decoder = nn.ModuleList(
            _Stage(count, c, config) for count, c in zip(n[:-1], w[:-1], strict=True)
        )
        self.last = nn.Conv2d(w[0], config.image_channels, 1, bias=False)
        nn.init.normal_(self.last.weight, std=0.02)

    def forward(self, x: Tensor, e_g: Tensor, e_l: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Puts degradations onto images.

        Arguments:
            x: Images in [-1, 1], with shape (B, C, H, W), of any size.
            e_g: Embeddings, with shape (B, embedding).
            e_l: Maps, with shape (B, local, h / r, w / r) of the padded sides h and w.
            noise: White noise, of which each has shape (B, 1, ., .), see :meth:`Config.noise_shapes`.

        Returns:
            Images, with shape (B, C, H, W), a little beyond [-1, 1] where noise is.
        """
        H, W = x.shape[-2:]
        h, w = self.config.padded(H, W)
        padded = F.pad(x, (0, w - W, 0, h - H), mode="replicate") if (h, w) != (H, W) else x
        conditions = self._conditions(e_g, e_l, h, w)
        maps = iter(noise)
        f, skips = self.first(padded), []
        for level, stage in enumerate(self.encoder):
            f = stage(f, conditions[level], conditions[level + 1], maps)
            if level < len(self.down):
                skips.append(f)
                f = self.down[level](f)
        for level in reversed(range(len(self.up))):
            f = torch.cat([self.up[level](f), skips[level]], dim=1)
            f = self.join[level](_rectified(f))
            f = self.decoder[level](f, conditions[level], conditions[level + 1], maps)
        change: Tensor = self.last(_rectified(f))
        return x + change[..., :H, :W]

    def _conditions(self, e_g: Tensor, e_l: Tensor, h: int, w: int) -> list[Tensor]:
        """Returns the condition map at full resolution, half of it and so on."""
        r = self.config.ratio
        c = self.embedding(e_g)[:, :, None, None]
        c = c.expand(-1, -1, h // r, w // r) if self.local is None else c + self.local(e_l)
        c = self.condition(F.relu(c))
        return [_fitted(c, (h >> i, w >> i)) for i in range(len(self.encoder) + 1)]


class _Stage(nn.ModuleList):
    """The residual blocks at one resolution."""

    def __init__(self, count: int, channels: int, config: Redegrader.Config) -> None:
        super().__init__(_Block(channels, config.condition, ida=config.ida) for _ in range(count))

    def forward(self, f: Tensor, c: Tensor, half: Tensor, maps: Iterator[Tensor]) -> Tensor:
        for block in self:
            f = block(f, c, half, maps)
        return f


class _Block(nn.Module):
    """Twice what the condition asks for and a convolution, added to the features."""

    def __init__(self, channels: int, condition: int, *, ida: bool) -> None:
        super().__init__()
        self.told = nn.ModuleList(IDASFT(channels, condition, ida=ida) for _ in range(2))
        self.convolutions = nn.ModuleList(_conv(channels, channels) for _ in range(2))

    def forward(self, f: Tensor, c: Tensor, half: Tensor, maps: Iterator[Tensor]) -> Tensor:
        g = f
        for told, convolution in zip(self.told, self.convolutions, strict=True):
            g = convolution(_rectified(told(g, c, half, next(maps))))
        return f + g


def _conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)


def _doubling(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    """Returns a transposed convolution that is a bilinear interpolation at first, which makes no lattice of its own."""
    layer = nn.ConvTranspose2d(channels_in, channels_out, 4, 2, 1, bias=False)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    mixing = torch.randn(channels_in, channels_out, 1, 1) / math.sqrt(3 * channels_in)
    with torch.no_grad():
        layer.weight.copy_(mixing * taps[:, None] * taps)
    return layer


def _map(channels_in: int, channels_out: int) -> nn.Conv2d:
    # Of a constant map it makes a constant one, up to its borders.
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="replicate")


def _rectified(f: Tensor) -> Tensor:
    return F.leaky_relu(f, SLOPE)


def _fitted(c: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns a map at another resolution, which is a power of two times its own."""
    if c.shape[-2] < size[0]:
        return F.interpolate(c, size, mode="bilinear", align_corners=False)
    return c if c.shape[-2] == size[0] else F.avg_pool2d(c, c.shape[-2] // size[0])
