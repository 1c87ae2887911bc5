r"""What a style network is: latents to style vectors, style vectors to images.

.. math:: z \sim N(0, I), \qquad w = f(z), \qquad x = g(w_1, \ldots, w_L, n_1, \ldots, n_M).

The *mapping network* f normalises z to a mean square of 1 and sends it through fully connected layers with rectifiers of slope
0.2. The *synthesis network* g starts from a learned constant of 4x4 pixels and doubles its sides; each of its L styled layers is
steered by a style vector, and each of M convolutions has a map of noise. With N sides 4, 8, 16, ... there are L = 2N styled
layers, two at each side, whose features have the channels of that side.

A style may be one vector for each image, of shape (B, D), or one for each channel that the layer steers, of shape (B, C, D).

*Equalised learning rate.* Weights are stored with deviation 1 and scaled where they are used, so that Adam's steps are of one
relative size everywhere; the mapping network's are smaller by a factor.

*The mean style* is where a search starts and what a style can be drawn towards. A network that was trained with a running mean
carries it (``w_avg``); elsewhere the mean of many styles takes its place.

References:
    | A Style-Based Generator Architecture for Generative Adversarial Networks (Karras et al., 2019)
    | https://arxiv.org/abs/1812.04948
    | Progressive Growing of GANs (Karras et al., 2018), section 4.1, equalised learning rate
    | https://arxiv.org/abs/1710.10196
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.random import Randomness, randn
from .resnet import check_widths

__all__ = ["SLOPE", "EqualisedLinear", "Mapping", "StyleNetwork"]

SLOPE = 0.2
"""The slope of the rectifiers below zero."""


class EqualisedLinear(nn.Module):
    r"""A linear layer, :math:`y = A x + b`, whose weights are scaled where they are used.

    Its weights W of deviation 1 / rate stand for :math:`A = W \, \text{gain} \, \text{rate} / \sqrt{\text{inputs}}`, and its
    biases for :math:`b \, \text{rate}`.

    Arguments:
        inputs: The length of x.
        outputs: The length of y.
        rate: The factor on the learning rate.
        gain: The factor on A.
        bias: What b starts from.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        rate: float = 1.0,
        gain: float = 1.0,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.rate, self.gain = rate, gain

    def forward(self, x: Tensor) -> Tensor:
        """Returns y, with shape (B, outputs).

        Arguments:
            x: One vector for all outputs, with shape (B, inputs), or one for each: (B, outputs, inputs), or
                (B, 1, inputs) if they are equal.
        """
        weight = self.weight * (self.rate * self.gain / math.sqrt(self.weight.shape[1]))
        bias = self.bias * self.rate
        if x.ndim == 2:
            return F.linear(x, weight, bias)
        return (x * weight).sum(dim=2) + bias


class Mapping(nn.ModuleList):
    r"""The mapping network, :math:`w = f(z)`.

    The rectifiers take a part of the variance, which a gain of :math:`\sqrt{2}` makes up for: on the rectifier's output, biases
    included, or on the weights alone.

    Arguments:
        latent: The length D of z and w.
        layers: The number of layers.
        rate: The factor on their learning rate.
        gain_on_weights: Whether the gain is on the weights alone.
    """

    def __init__(
        self, latent: int, layers: int, *, rate: float, gain_on_weights: bool = False
    ) -> None:
        inner = math.sqrt(2) if gain_on_weights else 1.0
        super().__init__(
            EqualisedLinear(latent, latent, rate=rate, gain=inner) for _ in range(layers)
        )
        self.gain = 1.0 if gain_on_weights else math.sqrt(2)

    def forward(self, z: Tensor) -> Tensor:
        """Returns style vectors w of latents z, both with shape (B, D)."""
        w = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for layer in self:
            w = self.gain * F.leaky_relu(layer(w), SLOPE)
        return w


class StyleNetwork(nn.Module, abc.ABC):
    """Maps latents to images by styles.

    Arguments:
        config: The shape of the network.
        mapping: The mapping network.
        mean_style: Whether it carries a mean style.

    Attributes:
        w_avg: The mean style vector of training, with shape (D,), or None.
    """

    w_avg: Tensor | None

    @dataclass(frozen=True, kw_only=True)
    class Config(abc.ABC):
        """The shape of a style network.

        Attributes:
            latent: The length D of the latents z and of the style vectors w.
            channels: The channels of the features at the sides 4, 8, 16, ...
            image_channels: The channels of the output.
            mapping: The number of layers from z to w.
            mapping_rate: The factor on the learning rate of these layers.
            noise: Whether convolutions have maps of noise.
        """

        latent: int = 512
        channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64, 32)
        image_channels: int = 3
        mapping: int = 8
        mapping_rate: float = 0.01
        noise: bool = True

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            check_widths("channels", self.channels, least=1)
            widths = (self.latent, self.image_channels, self.mapping)
            check_widths("latent, image_channels, mapping", widths)
            if not self.mapping_rate > 0:
                raise ValueError(f"mapping_rate={self.mapping_rate}; give a factor above 0")

        @abc.abstractmethod
        def build(self) -> StyleNetwork:
            """Makes the network."""

        @property
        def size(self) -> int:
            """The side of the images in pixels."""
            return self.sides[-1]

        @property
        def sides(self) -> tuple[int, ...]:
            """The sides of the features: 4, 8, 16, ..."""
            return tuple(4 * 2**k for k in range(len(self.channels)))

        @property
        def features(self) -> tuple[int, ...]:
            """The channels that each of the L styled layers steers."""
            return tuple(channels for channels in self.channels for _ in range(2))

        @property
        def noise_sides(self) -> tuple[int, ...]:
            """The side of each map of noise: one for each convolution, which are one at the side 4 and two at others."""
            return (4, *(side for side in self.sides[1:] for _ in range(2)))

    def __init__(self, config: Config, mapping: Mapping, *, mean_style: bool = False) -> None:
        super().__init__()
        self.config = config
        self.mapping = mapping
        self.register_buffer("w_avg", torch.zeros(config.latent) if mean_style else None)

    def map(self, z: Tensor) -> Tensor:
        """Returns style vectors w, with shape (B, D), of latents z, with shape (B, D)."""
        w: Tensor = self.mapping(z)
        return w

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        r"""Draws style vectors towards the mean style, :math:`\bar w + \psi (w - \bar w)`: less variety, fewer faults.

        Arguments:
            w: Style vectors, with shape (..., D).
            psi: The part of the distance that is kept.

        Raises:
            ValueError: If the network carries no mean style.
        """
        if self.w_avg is None:
            raise ValueError(
                f"this {type(self).__name__} carries no mean style; draw many styles and take their mean"
            )
        return torch.lerp(self.w_avg.to(w), w, psi)

    def noise(self, n: int, *, generator: Randomness) -> list[Tensor]:
        """Draws maps of noise for n samples, one for each convolution that has one, each with shape (n, 1, side, side)."""
        return [randn((n, 1, side, side), generator) for side in self.config.noise_sides]

    @abc.abstractmethod
    def synthesize(self, styles: Sequence[Tensor], noise: Sequence[Tensor] | None = None) -> Tensor:
        """Makes images of style vectors.

        Arguments:
            styles: One for each of the L layers: (B, D), or (B, C, D) with one vector for each of the C channels
                that the layer steers.
            noise: One map for each convolution, as :meth:`noise` draws them, or of one sample for all; None takes the
                network's own.

        Returns:
            Images about [-1, 1], with shape (B, image_channels, size, size).

        Raises:
            ValueError: If the numbers of styles or maps do not fit.
        """

    def forward(self, z: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Generates images.

        Arguments:
            z: Latents, with shape (B, D).
            noise: One map for each convolution, as :meth:`noise` draws them; None takes the network's own.

        Returns:
            Images about [-1, 1], with shape (B, image_channels, size, size).
        """
        return self.synthesize([self.map(z)] * len(self.config.features), noise)

    def maps(
        self, styles: Sequence[Tensor], noise: Sequence[Tensor] | None
    ) -> Sequence[Tensor | None]:
        """Returns a map of noise for each convolution, None for its own, of styles and maps that fit.

        Raises:
            ValueError: If the numbers of styles or maps do not fit.
        """
        if len(styles) != len(self.config.features):
            raise ValueError(
                f"got {len(styles)} styles; this network has {len(self.config.features)} styled layers"
            )
        convolutions = len(self.config.noise_sides)
        if noise is None:
            return [None] * convolutions
        if not self.config.noise:
            raise ValueError("this network has no noise; build it with noise=True, or give none")
        if len(noise) != convolutions:
            raise ValueError(f"got {len(noise)} maps of noise; give {convolutions}")
        return noise
