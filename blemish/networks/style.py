r"""A small style generator in the manner of StyleGAN2.

A mapping network turns a latent :math:`z \sim N(0, I)` into a style vector w. Synthesis starts from a learned constant of
4x4 pixels; every convolution of it is steered by w, through the scales of its input channels c,

.. math:: s_c = A_c w + b_c, \qquad y_o = d_o \sum_c W_{oc} * (s_c x_c), \qquad
    d_o = \Big( \sum_{c, u, v} (W_{ocuv} s_c)^2 \Big)^{-1/2}.

Scaling the activations instead of the weights is the same by linearity, keeps one convolution for the whole batch, and
lets each input channel have a style vector :math:`w_c` of its own, :math:`s_c = A_c w_c + b_c`.

*Layers.* Sides double from 4 on. There is one convolution at the side 4, and two at every other, the first of which
up-samples; at each side the features are also turned into colours, which are up-sampled and added up. The colours of
one side and the first convolution of the next read the same features, and share a style. So n up-samplings make
:math:`L = 2n + 2` styled layers. Up-sampling is bilinear, which away from the border is the original's filter
[1, 3, 3, 1].

*Range.* A hyperbolic tangent bends the sum of the colours into (-1, 1), where the original lets it overshoot.

*Noise* is a map for each convolution, times a learned strength. It is a part of the network (fixed maps) or an argument;
nothing is drawn in passing.

*Equalised learning rate.* Weights are stored with deviation 1 and scaled where they are used, so that Adam's steps are
of one relative size everywhere; the mapping network's are smaller by a factor.

References:
    | Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020)
    | https://arxiv.org/abs/1912.04958
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.random import Randomness, randn
from .resnet import check_widths

__all__ = ["EqualisedLinear", "ModulatedConv", "StyleGenerator", "StyledConv"]

SLOPE = 0.2
"""The slope of the rectifiers below zero."""


class EqualisedLinear(nn.Module):
    r"""A linear layer, :math:`y = A x + b`, whose weights are scaled where they are used.

    Arguments:
        inputs: The length of x.
        outputs: The length of y.
        rate: The factor on the learning rate.
        bias: What b starts from.
    """

    def __init__(self, inputs: int, outputs: int, *, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Returns y, with shape (B, outputs).

        Arguments:
            x: One vector for all outputs, with shape (B, inputs), or one for each: (B, outputs, inputs), or
                (B, 1, inputs) if they are equal.
        """
        weight = self.weight * (self.rate / math.sqrt(self.weight.shape[1]))
        bias = self.bias * self.rate
        if x.ndim == 2:
            return F.linear(x, weight, bias)
        return (x * weight).sum(dim=2) + bias


class ModulatedConv(nn.Module):
    """A convolution without bias, the scales of whose input channels follow from style vectors.

    Arguments:
        latent: The length D of a style vector.
        channels_in: The channels C of the input.
        channels_out: The channels O of the output.
        size: The odd side of the filters.
        demodulate: Whether each output channel is scaled so that the deviation of white input is kept.
    """

    def __init__(
        self,
        latent: int,
        channels_in: int,
        channels_out: int,
        *,
        size: int = 3,
        demodulate: bool = True,
    ) -> None:
        super().__init__()
        self.style = EqualisedLinear(latent, channels_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, size, size))
        self.demodulate = demodulate

    def forward(self, x: Tensor, w: Tensor, *, up: bool = False) -> Tensor:
        """Convolves features.

        Arguments:
            x: Features, with shape (B, C, H, W).
            w: Style vectors, one for each sample, with shape (B, D), or one for each input channel, (B, C, D).
            up: Whether the sides are doubled before.

        Returns:
            Features, with shape (B, O, H', W'), where H' is 2H or H.
        """
        weight = self.weight / math.sqrt(self.weight[0].numel())
        # One vector goes the way of many, so that both give the same numbers.
        s = self.style(w[:, None] if w.ndim == 2 else w)
        x = x * s[:, :, None, None]
        y = F.conv2d(_double(x) if up else x, weight, padding=weight.shape[-1] // 2)
        if not self.demodulate:
            return y
        d = (F.linear(s.square(), weight.square().sum(dim=(2, 3))) + 1e-8).rsqrt()
        return y * d[:, :, None, None]


class StyledConv(nn.Module):
    """A modulated convolution with noise and a rectifier.

    Arguments:
        latent: The length D of a style vector.
        channels_in: The channels C of the input.
        channels_out: The channels O of the output.
        side: The side of the output.
        up: Whether the sides are doubled.
        noise: Whether it has a map of noise.
    """

    noise: Tensor | None

    def __init__(
        self, latent: int, channels_in: int, channels_out: int, *, side: int, up: bool, noise: bool
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv(latent, channels_in, channels_out)
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.up = up
        if noise:
            self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(1, 1, side, side) if noise else None)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """Returns features, with shape (B, O, side, side).

        Arguments:
            x: Features, with shape (B, C, H, W).
            w: Style vectors, with shape (B, D) or (B, C, D).
            noise: A map, with shape (B, 1, side, side); None takes the network's own.
        """
        y = self.conv(x, w, up=self.up)
        noise = self.noise if noise is None else noise
        if noise is not None:
            y = y + self.strength * noise
        # The square root of 2 makes up for what the rectifier takes of the variance.
        return math.sqrt(2) * F.leaky_relu(y + self.bias[:, None, None], SLOPE)


class StyleGenerator(nn.Module):
    """Maps latents to images in (-1, 1), by styles.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a style generator.

        Attributes:
            latent: The length D of the latents z and of the style vectors w.
            channels: The channels of the features at the sides 4, 8, 16, ...
            image_channels: The channels of the output.
            mapping: The number of layers from z to w.
            mapping_rate: The factor on the learning rate of these layers.
            noise: Whether convolutions have maps of noise.
            output_gain: A factor on the colours, whose deviation is about 1 at first: the output bends at 1.
        """

        latent: int = 64
        channels: tuple[int, ...] = (32, 32, 32, 32)
        image_channels: int = 3
        mapping: int = 2
        mapping_rate: float = 0.01
        noise: bool = False
        output_gain: float = 0.5

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            check_widths("channels", self.channels, least=1)
            widths = (self.latent, self.image_channels, self.mapping)
            check_widths("latent, image_channels, mapping", widths)
            if not min(self.mapping_rate, self.output_gain) > 0:
                raise ValueError(
                    f"mapping_rate, output_gain={self.mapping_rate, self.output_gain}; give factors above 0"
                )

        def build(self) -> StyleGenerator:
            """Makes the network."""
            return StyleGenerator(self)

        @property
        def size(self) -> int:
            """The side of the images in pixels."""
            return int(4 * 2 ** (len(self.channels) - 1))

        @property
        def features(self) -> tuple[int, ...]:
            """The input channels of each of the L styled layers."""
            return tuple(channels for channels in self.channels for _ in range(2))

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        D, widths = config.latent, config.channels
        self.mapping = nn.ModuleList(
            EqualisedLinear(D, D, rate=config.mapping_rate) for _ in range(config.mapping)
        )
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        convs = [(widths[0], widths[0], 4, False)]
        for n, (a, b) in enumerate(pairwise(widths)):
            convs += [(a, b, 8 * 2**n, True), (b, b, 8 * 2**n, False)]
        self.convs = nn.ModuleList(
            StyledConv(D, a, b, side=side, up=up, noise=config.noise) for a, b, side, up in convs
        )
        self.colours = nn.ModuleList(
            ModulatedConv(D, c, config.image_channels, size=1, demodulate=False) for c in widths
        )
        self.bias = nn.Parameter(torch.zeros(config.image_channels))

    def map(self, z: Tensor) -> Tensor:
        """Returns style vectors w, with shape (B, D), of latents z, with shape (B, D)."""
        w = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            w = math.sqrt(2) * F.leaky_relu(layer(w), SLOPE)
        return w

    def noise(self, n: int, *, generator: Randomness) -> list[Tensor]:
        """Draws maps of noise for n samples, one for each convolution, each with shape (n, 1, side, side)."""
        sides = [4, *(side for k in range(1, len(self.colours)) for side in (4 * 2**k,) * 2)]
        return [randn((n, 1, side, side), generator) for side in sides]

    def synthesize(self, styles: Sequence[Tensor], noise: Sequence[Tensor] | None = None) -> Tensor:
        """Makes images of style vectors.

        Arguments:
            styles: One for each of the L layers: (B, D), or (B, C, D) with one vector for each of the C input
                channels.
            noise: One map for each convolution, as :meth:`noise` draws them; None takes the network's own.

        Returns:
            Images in (-1, 1), with shape (B, image_channels, size, size).

        Raises:
            ValueError: If the numbers of styles or maps do not fit.
        """
        self._check(styles, noise)
        maps: Sequence[Tensor | None] = noise or [None] * len(self.convs)
        x = self.constant.expand(len(styles[0]), -1, -1, -1)
        x = self.convs[0](x, styles[0], maps[0])
        image = self.colours[0](x, styles[1])
        for k, colour in enumerate(self.colours[1:], start=1):
            # The colours of the side before read the same features as this convolution, and share its style.
            x = self.convs[2 * k - 1](x, styles[2 * k - 1], maps[2 * k - 1])
            x = self.convs[2 * k](x, styles[2 * k], maps[2 * k])
            image = _double(image) + colour(x, styles[2 * k + 1])
        gain = self.config.output_gain / math.sqrt(len(self.colours))
        images: Tensor = (gain * image + self.bias[:, None, None]).tanh()
        return images

    def forward(self, z: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Generates images.

        Arguments:
            z: Latents, with shape (B, D).
            noise: One map for each convolution, as :meth:`noise` draws them; None takes the network's own.

        Returns:
            Images in (-1, 1), with shape (B, image_channels, size, size).
        """
        return self.synthesize([self.map(z)] * len(self.config.features), noise)

    def _check(self, styles: Sequence[Tensor], noise: Sequence[Tensor] | None) -> None:
        if len(styles) != len(self.config.features):
            raise ValueError(
                f"got {len(styles)} styles; this network has {len(self.config.features)} styled layers"
            )
        if noise is not None and not self.config.noise:
            raise ValueError("this network has no noise; build it with noise=True, or give none")
        if noise is not None and len(noise) != len(self.convs):
            raise ValueError(f"got {len(noise)} maps of noise; give {len(self.convs)}")


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
