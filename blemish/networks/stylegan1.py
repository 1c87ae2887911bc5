r"""The generator of StyleGAN, the first, as it was published, so that published weights make the published images.

Every styled layer i, of which there are two at each side, ends in the same steps. With features x of one sample and channel c,

.. math:: a = x_c + \nu_c \, n + b_c, \qquad u = \max(a, 0.2 a), \qquad
    y_c = (1 + s_c) \, \frac{u - \text{mean}(u)}{\sqrt{\text{var}(u) + 10^{-8}}} + t_c, \qquad (s, t) = A w + d:

noise n times a strength of each channel, a bias, a rectifier, a normalisation over the pixels of the channel, and the style's
scale and shift (adaptive instance normalisation). The first layer of all does so with a learned constant of 4x4 pixels, every
other with the output of a convolution.

*Up-sampling.* The convolution by which a side begins doubles it: below a side of 128 after every pixel has been repeated, and
from there on as a transposed convolution of stride 2 with a filter of 4x4 taps, the sum of the four places that the filter of 3x3
has within them. The second is the first with its filter turned by 180 degrees. Both are followed by the filter [1, 2, 1].

*Colours* are those of the last features alone; nothing bends or clamps them.

*Conventions,* for whoever reads published weights. N sides make 2N layers, two maps of noise at each side, and 2N - 1
convolutions.

===========================  ================  =============================================================================
mapping.i.weight, .bias      (D, D), (D,)      used as :math:`W \, \text{rate} \sqrt{2 / D}` and :math:`b \, \text{rate}`; no gain
                                               on the rectifier's output
w_avg                        (D,)              the running mean of w; there with ``mean_style=True`` alone
constant                     (1, C, 4, 4)      used as it is; starts at random, as a flat one has nothing to normalise
convs.j.weight               (O, C, 3, 3)      used as :math:`W \sqrt{2 / (9C)}`. j = 0 at the side 4, 2k - 1 (doubles) and 2k at
                                               the side :math:`4 \cdot 2^k`; the layer before is layers.j, the one after
                                               layers.(j + 1). All correlate, as ``conv2d``, but those that double to a side of
                                               ``transposed_from`` or more, which ``conv_transpose2d`` is given, unturned
layers.i.strength            (C,)              the factors on the noise
layers.i.noise               (1, 1, S, S)      the map of noise
layers.i.bias                (C,)              added after the noise, before the rectifier; used as it is
layers.i.style.weight        (2C, D)           used as :math:`W / \sqrt{D}`; the C scales s first, then the C shifts t
layers.i.style.bias          (2C,)             used as it is; starts at 0: the 1 of 1 + s is added by the layer
colour.weight, .bias         (I, C, 1, 1),     used as :math:`W / \sqrt{C}`, and as it is
                             (I,)
===========================  ================  =============================================================================

References:
    | A Style-Based Generator Architecture for Generative Adversarial Networks (Karras et al., 2019)
    | https://arxiv.org/abs/1812.04948
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.fir import upfirdn
from .style_network import SLOPE, EqualisedLinear, Mapping, StyleNetwork

__all__ = ["DoublingConv", "EqualisedConv", "StyleGAN1", "StyledLayer"]


class EqualisedConv(nn.Module):
    """A convolution without bias whose weights, of deviation 1, are scaled where they are used.

    Arguments:
        channels_in: The channels C of the input.
        channels_out: The channels O of the output.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Returns features, with shape (B, O, H, W), of features with shape (B, C, H, W)."""
        return F.conv2d(x, _scaled(self.weight), padding=1)


class DoublingConv(nn.Module):
    """A convolution that doubles the sides, and the filter [1, 2, 1].

    Arguments:
        channels_in: The channels C of the input.
        channels_out: The channels O of the output.
        transposed: Whether it is a transposed convolution; otherwise one of repeated pixels.
    """

    def __init__(self, channels_in: int, channels_out: int, *, transposed: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, 3, 3))
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        """Returns features, with shape (B, O, 2H, 2W), of features with shape (B, C, H, W)."""
        weight = _scaled(self.weight)
        if self.transposed:
            places = F.pad(weight, (1, 1, 1, 1))
            rows = places[..., 1:, :] + places[..., :-1, :]
            weight = rows[..., 1:] + rows[..., :-1]
            y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2, padding=1)
        else:
            y = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
        return upfirdn(y, (0.25, 0.5, 0.25), pad=(1, 1))


class StyledLayer(nn.Module):
    """Noise, bias, rectifier, and adaptive instance normalisation.

    Arguments:
        latent: The length D of a style vector.
        channels: The channels C of the features.
        side: Their side.
        noise: Whether it has a map of noise.
    """

    noise: Tensor | None

    def __init__(self, latent: int, channels: int, *, side: int, noise: bool) -> None:
        super().__init__()
        self.style = EqualisedLinear(latent, 2 * channels)
        self.bias = nn.Parameter(torch.zeros(channels))
        if noise:
            self.strength = nn.Parameter(torch.zeros(channels))
        self.register_buffer("noise", torch.randn(1, 1, side, side) if noise else None)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """Returns features, with the shape of x.

        Arguments:
            x: Features, with shape (B, C, side, side).
            w: Style vectors, with shape (B, D), or one for each channel, (B, C, D).
            noise: A map, with shape (B, 1, side, side); None takes the network's own.
        """
        noise = self.noise if noise is None else noise
        if noise is not None:
            x = x + self.strength[:, None, None] * noise
        x = F.leaky_relu(x + self.bias[:, None, None], SLOPE)
        x = x - x.mean(dim=(2, 3), keepdim=True)
        x = x * (x.square().mean(dim=(2, 3), keepdim=True) + 1e-8).rsqrt()
        # One vector goes the way of many, so that both give the same numbers.
        styles = self.style(w[:, None] if w.ndim == 2 else w.repeat(1, 2, 1))
        s, t = styles[:, :, None, None].chunk(2, dim=1)
        y: Tensor = x * (1 + s) + t
        return y


class Colour(nn.Module):
    """Turns features into colours.

    Arguments:
        channels_in: The channels C of the features.
        channels_out: The channels of the image.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        """Returns colours, with shape (B, channels_out, H, W), of features with shape (B, C, H, W)."""
        return F.conv2d(x, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


class StyleGAN1(StyleNetwork):
    """Maps latents to images about [-1, 1], as published.

    Arguments:
        config: The shape of the network.
    """

    config: Config

    @dataclass(frozen=True, kw_only=True)
    class Config(StyleNetwork.Config):
        """The shape of a StyleGAN; by default that of the published one for 1024x1024 pixels.

        Attributes:
            latent: The length D of the latents z and of the style vectors w.
            channels: The channels of the features at the sides 4, 8, 16, ...
            image_channels: The channels of the output.
            mapping: The number of layers from z to w.
            mapping_rate: The factor on the learning rate of these layers.
            noise: Whether styled layers have maps of noise.
            transposed_from: The side from which on the convolution that doubles up to it is a transposed one.
            mean_style: Whether the network carries the mean style of its training (``w_avg``).
        """

        channels: tuple[int, ...] = (512, 512, 512, 512, 256, 128, 64, 32, 16)
        transposed_from: int = 128
        mean_style: bool = False

        def build(self) -> StyleGAN1:
            """Makes the network."""
            return StyleGAN1(self)

        @property
        def noise_sides(self) -> tuple[int, ...]:
            """The side of each map of noise: one for each styled layer, of which there are two at each side."""
            return tuple(side for side in self.sides for _ in range(2))

    def __init__(self, config: Config) -> None:
        D, widths = config.latent, config.channels
        rate = config.mapping_rate
        mapping = Mapping(D, config.mapping, rate=rate, gain_on_weights=True)
        super().__init__(config, mapping, mean_style=config.mean_style)
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        convs: list[nn.Module] = [EqualisedConv(widths[0], widths[0])]
        for (a, b), side in zip(pairwise(widths), config.sides[1:], strict=True):
            transposed = side >= config.transposed_from
            convs += [DoublingConv(a, b, transposed=transposed), EqualisedConv(b, b)]
        self.convs = nn.ModuleList(convs)
        shapes = zip(config.features, config.noise_sides, strict=True)
        self.layers = nn.ModuleList(
            StyledLayer(D, c, side=side, noise=config.noise) for c, side in shapes
        )
        self.colour = Colour(widths[-1], config.image_channels)

    def synthesize(self, styles: Sequence[Tensor], noise: Sequence[Tensor] | None = None) -> Tensor:
        """Makes images about [-1, 1]; see :meth:`StyleNetwork.synthesize`."""
        maps = self.maps(styles, noise)
        x = self.constant.expand(len(styles[0]), -1, -1, -1)
        x = self.layers[0](x, styles[0], maps[0])
        for conv, layer, w, n in zip(
            self.convs, self.layers[1:], styles[1:], maps[1:], strict=True
        ):
            x = layer(conv(x), w, n)
        images: Tensor = self.colour(x)
        return images


def _scaled(weight: Tensor) -> Tensor:
    return weight * math.sqrt(2 / weight[0].numel())
