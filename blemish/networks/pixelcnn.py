r"""PixelCNN++ with a condition: the law of a degraded image, given the clean one, pixel by pixel.

.. math:: \log p(y \mid x) = \sum_i \log p(y_i \mid y_{<i}, x)

over the pixels of the degraded image y in raster order. Two streams of features walk over y: u, whose convolutions see rows
above alone, and ul, which also sees what stands to the left and is told u. Each is a chain of gated residual blocks,

.. math:: f \leftarrow f + a \, \sigma(b), \qquad
    (a, b) = W_2 * e\big(W_1 * e(f) + N e(u)\big) + P h, \qquad e(f) = \mathrm{elu}([f, -f]),

where N stands in the stream ul alone, and the features h of the condition x enter every block by a projection P of its
own. They come from an encoder of ordinary convolutions, so that a pixel knows the condition below and to the right of it, too. Out
of ul a 1x1 convolution makes the mixtures of :mod:`blemish.functional.mixtures`. Nothing is resampled between.

Weights are normalised: each filter is a direction times a gain. Instead of the initialisation by data, gains start at what
keeps the features' scale, those before a gate at a tenth of it, and the head's biases spread the components, so that
an untrained network costs about 8 bits for each value.

Absolute places matter to block codecs. With ``phases`` the encoder is also told the remainders of a pixel's row and column,
counted from the image's upper left corner: crops for training must start on multiples of it.

References:
    | PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications
    | (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
    | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), Section 2.3
    | https://arxiv.org/abs/1606.05328
    | Weight Normalization (Salimans and Kingma, 2016), https://arxiv.org/abs/1602.07868
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning (Han et al.), Section 3.2
    | https://arxiv.org/abs/2103.03010
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import mixtures
from ..functional.random import Randomness, rand
from .resnet import check_widths

__all__ = ["ConditionalPixelCNN", "Reach"]


class Reach(NamedTuple):
    """How far a pixel looks, in pixels."""

    up: int
    down: int
    left: int
    right: int


class ConditionalPixelCNN(nn.Module):
    """Knows how likely a degraded image is, given the clean one.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the network; the default one is the paper's, as far as it is written there.

        Attributes:
            channels: The channels C of the images, degraded and clean.
            width: The features of each stream and of the encoder.
            blocks: The pairs of gated blocks, one in each stream.
            components: The components of a pixel's mixture.
            family: The law of a component.
            coupled: Whether a channel's mean depends on the channels before it.
            residual: Whether means are relative to the condition's pixel: for degradations that change images little.
            encoder: The 3x3 convolutions of the condition's encoder; 0: every block reads the condition itself, by a 3x3 one.
            dilations: Their dilations; empty: all 1.
            phases: The period of what the encoder is told of a pixel's place, 8 for JPEG; 0: it is told nothing.
            dropout: The share of features that a block leaves out in training.
        """

        channels: int = 3
        width: int = 100
        blocks: int = 6
        components: int = 10
        family: mixtures.Family = "logistic"
        coupled: bool = True
        residual: bool = False
        encoder: int = 2
        dilations: tuple[int, ...] = ()
        phases: int = 0
        dropout: float = 0.5

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            sizes = (self.channels, self.width, self.blocks, self.components, *self.dilations)
            check_widths("channels, width, blocks, components, dilations", sizes)
            if self.family not in ("logistic", "gaussian"):
                raise ValueError(f"family={self.family!r}; choose 'logistic' or 'gaussian'")
            if min(self.encoder, self.phases) < 0 or not 0 <= self.dropout < 1:
                raise ValueError(
                    f"encoder={self.encoder}, phases={self.phases}, dropout={self.dropout}; give at least 0, "
                    "and a share below 1"
                )
            if self.dilations and len(self.dilations) != self.encoder:
                raise ValueError(
                    f"dilations={self.dilations} for encoder={self.encoder} convolutions; give one for each, or none"
                )

        @property
        def reach(self) -> Reach:
            """How far a pixel looks in the degraded image; on its own row to the left alone."""
            b = self.blocks
            return Reach(up=3 + 2 * b, down=0, left=2 + 2 * b, right=1 + 2 * b)

        @property
        def condition_reach(self) -> Reach:
            """How far a pixel looks in the condition."""
            b = self.blocks
            radius = sum(self.dilations or (1,) * max(self.encoder, 1))
            return Reach(
                up=2 * b - 1 + radius,
                down=radius,
                left=2 * b - 1 + radius,
                right=2 * b - 2 + radius,
            )

        def build(self) -> ConditionalPixelCNN:
            """Makes the network."""
            return ConditionalPixelCNN(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        c, w = config.channels, config.width
        read = c + 2 * config.phases
        dilations = config.dilations or (1,) * config.encoder
        self.encoder = nn.ModuleList(
            _Conv(read if i == 0 else w, w, (3, 3), (d, d), dilation=d)
            for i, d in enumerate(dilations)
        )
        # One channel more says where the image is, beside the zeros around it.
        self.first_u = _Conv(c + 1, w, (2, 3), (2, 1))
        self.first_above = _Conv(c + 1, w, (1, 3), (1, 1))
        self.first_left = _Conv(c + 1, w, (2, 1), (1, 1))
        told = w if config.encoder else read
        self.blocks = nn.ModuleList(
            _Pair(w, told, 1 if config.encoder else 3) for _ in range(config.blocks)
        )
        outputs = mixtures.parameters_per_pixel(config.components, c, config.coupled)
        self.head = _Conv(w, outputs, (1, 1), (0, 0), gain=0.1)
        with torch.no_grad():
            self.head.bias.copy_(_first_laws(config, outputs))

    def forward(self, x: Tensor, condition: Tensor, generator: Randomness | None = None) -> Tensor:
        """Returns the laws of all pixels, each given those before it.

        Arguments:
            x: Degraded images in [-1, 1], with shape (B, C, H, W), of any size.
            condition: Clean images in [-1, 1], of the same shape.
            generator: The source of randomness of the dropout; needed in training alone.

        Returns:
            Parameters of mixtures, with shape (B, M, H, W).

        Raises:
            ValueError: If the shapes differ, or dropout has no source of randomness.
        """
        if x.shape != condition.shape or x.shape[1] != self.config.channels:
            raise ValueError(
                f"got images with shape {tuple(x.shape)} and conditions with shape {tuple(condition.shape)}; give "
                f"both the same, with {self.config.channels} channels"
            )
        dropout = _Dropout(self.config.dropout if self.training else 0.0, generator)
        H, W = x.shape[-2:]
        h = self.encode(condition)
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        u = self.first_u(x)[..., :H, :W]
        ul = self.first_above(x)[..., :H, :W] + self.first_left(x)[..., :H, :W]
        for pair in self.blocks:
            u, ul = pair(u, ul, h, dropout)
        parameters: Tensor = self.head(F.elu(ul))
        return parameters

    def log_prob(
        self,
        x: Tensor,
        condition: Tensor,
        mask: Tensor | None = None,
        generator: Randomness | None = None,
    ) -> Tensor:
        """Returns the logarithms of the probabilities of pixels, each given those before it.

        Arguments:
            x: Degraded images in [-1, 1], on the grid of 256 values, with shape (B, C, H, W).
            condition: Clean images in [-1, 1], of the same shape.
            mask: Which pixels count, boolean, of a shape that broadcasts to (B, H, W); by default all.
            generator: The source of randomness of the dropout; needed in training alone.

        Returns:
            Values in nats, summed over channels, with shape (B, H, W); 0 where the mask leaves a pixel out.
        """
        c = self.config
        log_p = mixtures.log_prob(
            self(x, condition, generator),
            x,
            components=c.components,
            family=c.family,
            coupled=c.coupled,
            base=condition if c.residual else None,
        )
        return log_p if mask is None else log_p.masked_fill(~mask, 0.0)

    def encode(self, condition: Tensor) -> Tensor:
        """Returns what blocks are told of the condition, with shape (B, features, H, W).

        Arguments:
            condition: Clean images in [-1, 1], with shape (B, C, H, W).
        """
        h = condition
        if n := self.config.phases:
            H, W = condition.shape[-2:]
            rows = F.one_hot(torch.arange(H, device=h.device) % n, n).to(h).T[None, :, :, None]
            columns = F.one_hot(torch.arange(W, device=h.device) % n, n).to(h).T[None, :, None, :]
            B = condition.shape[0]
            h = torch.cat([h, rows.expand(B, -1, -1, W), columns.expand(B, -1, H, -1)], dim=1)
        for conv in self.encoder:
            h = F.elu(conv(h))
        return h


class _Conv(nn.Module):
    """A convolution with normalised weights, whose output goes on beyond the image: callers cut it.

    Padding all sides alike and cutting is quicker than padding one side before.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        padding: tuple[int, int],
        *,
        dilation: int = 1,
        gain: float = 1.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.padding, self.dilation = padding, dilation
        self.direction = nn.Parameter(0.05 * torch.randn(outputs, inputs, *kernel))
        self.gain = nn.Parameter(torch.full((outputs,), gain))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    @property
    def weight(self) -> Tensor:
        """The filters, with shape (outputs, inputs, kernel height, kernel width)."""
        v = self.direction
        return v * (self.gain / v.flatten(1).norm(dim=1))[:, None, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.padding, dilation=self.dilation)


class _Gated(nn.Module):
    """A gated residual block of one stream."""

    def __init__(
        self, width: int, kernel: tuple[int, int], told: int, reads: int, *, beside: bool
    ) -> None:
        super().__init__()
        self.conv1 = _Conv(2 * width, width, kernel, (1, 1))
        self.conv2 = _Conv(2 * width, 2 * width, kernel, (1, 1), gain=0.1)
        self.beside = _Conv(2 * width, width, (1, 1), (0, 0), bias=False) if beside else None
        self.project = _Conv(told, 2 * width, (reads, reads), (reads // 2,) * 2, bias=False)

    def forward(self, f: Tensor, a: Tensor | None, h: Tensor, dropout: _Dropout) -> Tensor:
        H, W = f.shape[-2:]
        inner = self.conv1(_concat_elu(f))[..., :H, :W]
        if self.beside is not None and a is not None:
            inner = inner + self.beside(_concat_elu(a))
        inner = dropout(_concat_elu(inner))
        value, gate = (self.conv2(inner)[..., :H, :W] + self.project(h)).chunk(2, dim=1)
        return f + value * torch.sigmoid(gate)


class _Pair(nn.Module):
    """A block of each stream; the second is told the first."""

    def __init__(self, width: int, told: int, reads: int) -> None:
        super().__init__()
        self.u = _Gated(width, (2, 3), told, reads, beside=False)
        self.ul = _Gated(width, (2, 2), told, reads, beside=True)

    def forward(self, u: Tensor, ul: Tensor, h: Tensor, dropout: _Dropout) -> tuple[Tensor, Tensor]:
        u = self.u(u, None, h, dropout)
        return u, self.ul(ul, u, h, dropout)


class _Dropout:
    """Leaves features out, drawn from a generator that is passed along."""

    def __init__(self, share: float, generator: Randomness | None) -> None:
        if share and generator is None:
            raise ValueError(
                f"dropout={share} needs a generator in training; give one, or call eval()"
            )
        self.share, self.generator = share, generator

    def __call__(self, f: Tensor) -> Tensor:
        if not self.share or self.generator is None:
            return f
        kept = rand(f.shape, self.generator).to(f.device) >= self.share
        return f * kept / (1 - self.share)


def _concat_elu(f: Tensor) -> Tensor:
    return F.elu(torch.cat([f, -f], dim=1))


def _first_laws(config: ConditionalPixelCNN.Config, outputs: int) -> Tensor:
    """Returns biases of the head that cover the range of values, or the condition's surroundings, evenly."""
    c, k = config.channels, config.components
    bias = torch.zeros(outputs // k, k)
    spread = 0.2 if config.residual else 0.8
    bias[1 : 1 + c] = torch.linspace(-spread, spread, k) if k > 1 else 0.0
    bias[1 + c : 1 + 2 * c] = -1.5 if k > 1 or config.residual else math.log(0.5)
    return bias.flatten()
