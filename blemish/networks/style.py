r"""A small style network in the manner of StyleGAN2.

Every convolution of it is steered by a style vector w, through the scales of its input channels c,

.. math:: s_c = A_c w + b_c, \qquad y_o = d_o \sum_c W_{oc} * (s_c x_c), \qquad
    d_o = \Big( \sum_{c, u, v} (W_{ocuv} s_c)^2 \Big)^{-1/2}.

Scaling the activations instead of the weights is the same by linearity, keeps one convolution for the whole batch, and
lets each input channel have a style vector :math:`w_c` of its own, :math:`s_c = A_c w_c + b_c`.

*Layers.* Sides double from 4 on. There is one convolution at the side 4, and two at every other, the first of which
up-samples; at each side the features are also turned into colours, which are up-sampled and added up. The colours of
one side and the first convolution of the next read the same features, and share a style. So n up-samplings make
:math:`L = 2n + 2` styled layers. Up-sampling is bilinear, which away from the border is the original's filter
[1, 3, 3, 1]; the original itself is :class:`~blemish.networks.StyleGAN2`, of the same layers.

*Range.* A hyperbolic tangent bends the sum of the colours into (-1, 1), where the original lets it overshoot.

*Noise* is a map for each convolution, times a learned strength. It is a part of the network (fixed maps) or an argument;
nothing is drawn in passing.

References:
    | Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020)
    | https://arxiv.org/abs/1912.04958
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.fir import convolved_up
from .style_network import SLOPE, EqualisedLinear, Mapping, StyleNetwork

__all__ = ["ModulatedConv", "StyleGenerator", "StyledConv", "add_up", "styled_convs"]


class ModulatedConv(nn.Module):
    """A convolution without bias, the scales of whose input channels follow from style vectors.

    Arguments:
        latent: The length D of a style vector.
        channels_in: The channels C of the input.
        channels_out: The channels O of the output.
        size: The odd side of the filters.
        demodulate: Whether each output channel is scaled so that the deviation of white input is kept.
        filtered: Whether doubling is the original's: the filter [1, 3, 3, 1] follows the convolution, with zeros beyond
            the border. Otherwise, bilinear interpolation goes before it, with its border repeated.
    """

    def __init__(
        self,
        latent: int,
        channels_in: int,
        channels_out: int,
        *,
        size: int = 3,
        demodulate: bool = True,
        filtered: bool = False,
    ) -> None:
        super().__init__()
        self.style = EqualisedLinear(latent, channels_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, size, size))
        self.demodulate, self.filtered = demodulate, filtered

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
        y = self._convolve(x, weight, up=up)
        if not self.demodulate:
            return y
        d = (F.linear(s.square(), weight.square().sum(dim=(2, 3))) + 1e-8).rsqrt()
        return y * d[:, :, None, None]

    def _convolve(self, x: Tensor, weight: Tensor, *, up: bool) -> Tensor:
        if up and self.filtered:
            return convolved_up(x, weight)
        return F.conv2d(_double(x) if up else x, weight, padding=weight.shape[-1] // 2)


class StyledConv(nn.Module):
    """A modulated convolution with noise and a rectifier.

    Arguments:
        latent: The length D of a style vector.
        channels_in: The channels C of the input.
        channels_out: The channels O of the output.
        side: The side of the output.
        up: Whether the sides are doubled.
        noise: Whether it has a map of noise.
        filtered: How they are doubled; see :class:`ModulatedConv`.
        clamp: The largest magnitude of an output, or None for no limit.
    """

    noise: Tensor | None

    def __init__(
        self,
        latent: int,
        channels_in: int,
        channels_out: int,
        *,
        side: int,
        up: bool,
        noise: bool,
        filtered: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv(latent, channels_in, channels_out, filtered=filtered)
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.up, self.clamp = up, clamp
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
        y = math.sqrt(2) * F.leaky_relu(y + self.bias[:, None, None], SLOPE)
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


class StyleGenerator(StyleNetwork):
    """Maps latents to images in (-1, 1), by styles.

    Arguments:
        config: The shape of the network.
    """

    config: Config

    @dataclass(frozen=True, kw_only=True)
    class Config(StyleNetwork.Config):
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
        mapping: int = 2
        noise: bool = False
        output_gain: float = 0.5

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            super().__post_init__()
            if not self.output_gain > 0:
                raise ValueError(f"output_gain={self.output_gain}; give a factor above 0")

        def build(self) -> StyleGenerator:
            """Makes the network."""
            return StyleGenerator(self)

    def __init__(self, config: Config) -> None:
        D, widths = config.latent, config.channels
        super().__init__(config, Mapping(D, config.mapping, rate=config.mapping_rate))
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.convs = nn.ModuleList(styled_convs(config))
        self.colours = nn.ModuleList(
            ModulatedConv(D, c, config.image_channels, size=1, demodulate=False) for c in widths
        )
        self.bias = nn.Parameter(torch.zeros(config.image_channels))

    def synthesize(self, styles: Sequence[Tensor], noise: Sequence[Tensor] | None = None) -> Tensor:
        """Makes images in (-1, 1); see :meth:`StyleNetwork.synthesize`."""
        maps = self.maps(styles, noise)
        image = add_up(self.constant, self.convs, self.colours, styles, maps, _double)
        gain = self.config.output_gain / math.sqrt(len(self.colours))
        images: Tensor = (gain * image + self.bias[:, None, None]).tanh()
        return images


def styled_convs(
    config: StyleNetwork.Config, *, filtered: bool = False, clamp: float | None = None
) -> Iterator[StyledConv]:
    """Makes the convolutions of a style network: one at the side 4, and two at every other.

    Arguments:
        config: The shape of the network.
        filtered: How the first of two doubles the sides; see :class:`ModulatedConv`.
        clamp: The largest magnitude of an output, or None for no limit.
    """
    widths = config.channels
    shapes = [(widths[0], widths[0], False)]
    for a, b in pairwise(widths):
        shapes += [(a, b, True), (b, b, False)]
    for (a, b, up), side in zip(shapes, config.noise_sides, strict=True):
        yield StyledConv(
            config.latent,
            a,
            b,
            side=side,
            up=up,
            noise=config.noise,
            filtered=filtered,
            clamp=clamp,
        )


def add_up(
    constant: Tensor,
    convs: Iterable[nn.Module],
    colours: Iterable[nn.Module],
    styles: Sequence[Tensor],
    maps: Sequence[Tensor | None],
    double: Callable[[Tensor], Tensor],
) -> Tensor:
    """Adds up the colours of all sides.

    Arguments:
        constant: The features that synthesis starts from, with shape (1, C, 4, 4).
        convs: One convolution at the side 4, and two at every other, of features, styles and noise.
        colours: The layer that turns the features of each side into colours, of features and styles.
        styles: One style for each of the L styled layers.
        maps: One map of noise for each convolution, or None for its own.
        double: What doubles the sides of the colours.

    Returns:
        The sum, with shape (B, image_channels, size, size).
    """
    convs, (first, *others) = list(convs), colours
    x = convs[0](constant.expand(len(styles[0]), -1, -1, -1), styles[0], maps[0])
    image: Tensor = first(x, styles[1])
    for k, colour in enumerate(others, start=1):
        # The colours of the side before read the same features as this convolution, and share its style.
        x = convs[2 * k - 1](x, styles[2 * k - 1], maps[2 * k - 1])
        x = convs[2 * k](x, styles[2 * k], maps[2 * k])
        image = double(image) + colour(x, styles[2 * k + 1])
    return image


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
