r"""PixelCNN++ with a condition: the law of a degraded image, given the clean one, pixel by pixel.

.. math:: \log p(y \mid x) = \sum_i \log p(y_i \mid y_{<i}, x)

over the pixels of the degraded image y in raster order. Two streams of features walk over y: u, whose convolutions see rows
above alone, and ul, which also sees what stands to the left and is told u. Each is a chain of gated residual blocks,

.. math:: f \leftarrow f + a \, \sigma(b), \qquad
    (a, b) = W_2 * e\big(W_1 * e(f) + N e(u)\big) + P h, \qquad e(f) = \mathrm{elu}([f, -f]),

where N stands in the stream ul alone, and the features h of the condition x enter every block by a projection P of its
own. They come from an encoder of ordinary convolutions, so that a pixel knows the condition below and to the right of it,
too, as far as the encoder sees. Out of ul a 1x1 convolution makes the mixtures of
:mod:`blemish.functional.mixtures`. Nothing is resampled between.

Weights are normalised. Instead of an initialisation by data, gains start at about what keeps the features' scale, those
before a gate at a tenth of it, and the head's biases spread the components, so that an untrained network costs about 8
bits for each value.

Absolute places matter to block codecs. With ``phases`` the encoder is also told the remainders of a pixel's row and column,
counted from the image's upper left corner: crops for training must start on multiples of it.

A step of training costs, forward and backward on one core with AVX2, 30 microseconds for each pixel with a width of 32 and 3
blocks (0.5 s for 16 crops of 32x32), two thirds of it in the convolutions' backward pass. Drawing costs 0.7 ms for
each pixel with the same network, in images of any size, and twice that for 16 images at once.

References:
    | PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications
    | (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
    | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), Section 2.3
    | https://arxiv.org/abs/1606.05328
    | Weight Normalization (Salimans and Kingma, 2016), https://arxiv.org/abs/1602.07868
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning (Han et al., 2021), Section 3.2
    | https://arxiv.org/abs/2103.03010
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import mixtures
from ..functional.random import Randomness, rand
from .gated import Dropout, GatedPair, NormedConv, PixelsBefore, RowsAbove, fixed
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
            NormedConv(read if i == 0 else w, w, (3, 3), (d, d), dilation=d)
            for i, d in enumerate(dilations)
        )
        # One channel more says where the image is, beside the zeros around it.
        self.first_u = NormedConv(c + 1, w, (2, 3), (2, 1))
        self.first_above = NormedConv(c + 1, w, (1, 3), (1, 1))
        self.first_left = NormedConv(c + 1, w, (2, 1), (1, 1))
        told = w if config.encoder else read
        self.blocks = nn.ModuleList(
            GatedPair(w, told, 1 if config.encoder else 3) for _ in range(config.blocks)
        )
        outputs = mixtures.parameters_per_pixel(config.components, c, config.coupled)
        self.head = NormedConv(w, outputs, (1, 1), (0, 0), gain=0.1)
        self.head.bias = nn.Parameter(_first_laws(config, outputs))

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
        dropout = Dropout(self.config.dropout if self.training else 0.0, generator)
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

    def sample(self, condition: Tensor, generator: Randomness) -> Tensor:
        """Draws degraded images, pixel by pixel.

        Arguments:
            condition: Clean images in [-1, 1], with shape (B, C, H, W).
            generator: The source of randomness.

        Returns:
            Images in [-1, 1] on the grid of 256 values, with shape (B, C, H, W).
        """
        B, C, H, W = condition.shape
        return self.draw(condition, rand((B, 1 + C, H, W), generator).to(condition))

    @torch.no_grad()
    def draw(self, condition: Tensor, draws: Tensor) -> Tensor:
        """Makes degraded images of uniform numbers; otherwise as :meth:`sample`.

        Every layer keeps the features of the row above and of the pixels to the left, so that a pixel costs the same
        in images of any size. Dropout takes no part.

        Arguments:
            condition: Clean images in [-1, 1], with shape (B, C, H, W).
            draws: Numbers from U[0, 1), with shape (B, 1 + C, H, W), as :func:`~blemish.functional.mixtures.sample` takes them.
        """
        c = self.config
        H, W = condition.shape[-2:]
        walk = _Walk(self, condition)
        for row in range(H):
            walk.begin(row)
            for column in range(W):
                at = (..., slice(row, row + 1), slice(column, column + 1))
                pixel = mixtures.sample(
                    walk.law(column),
                    draws[at],
                    components=c.components,
                    family=c.family,
                    coupled=c.coupled,
                    base=condition[at] if c.residual else None,
                )
                walk.put(pixel, row, column)
            walk.end()
        return walk.images.clone()

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


class _Walk:
    """Images that are drawn in raster order, with the features that the next pixel needs."""

    def __init__(self, network: ConditionalPixelCNN, condition: Tensor) -> None:
        B, C, H, W = condition.shape
        # Two rows of nothing above; one channel more says where the image is.
        self.known = condition.new_zeros(B, C + 1, H + 2, W)
        self.known[:, C, 2:] = 1
        self.images = self.known[:, :C, 2:]
        self.first_u = fixed(network.first_u)
        self.first_above = fixed(network.first_above)
        (left, self.bias_left), head = fixed(network.first_left), fixed(network.head)
        self.upper_left, self.lower_left = left[:, :, :1], left[:, :, 1, 0].T
        self.head, self.head_bias = head[0].flatten(1).T, head[1]
        pairs = cast(Iterable[GatedPair], network.blocks)
        self.blocks = [
            (RowsAbove(pair.u, condition), PixelsBefore(pair.ul, condition)) for pair in pairs
        ]
        self.project = [(fixed(pair.u.project)[0], fixed(pair.ul.project)[0]) for pair in pairs]
        self.radius = self.project[0][0].shape[2] // 2
        self.h = F.pad(network.encode(condition), (self.radius,) * 4)

    def begin(self, row: int) -> None:
        """Begins a row: computes all that does not depend on its own pixels."""
        u = F.conv2d(self.known[:, :, row : row + 2], *self.first_u, padding=(0, 1))
        above = self.known[:, :, row + 1 : row + 2]
        first = F.conv2d(above, *self.first_above, padding=(0, 1))
        first = first + F.conv2d(F.pad(above, (1, -1)), self.upper_left, self.bias_left)
        self.first = first[:, :, 0].permute(2, 0, 1).contiguous()
        self.last = torch.zeros_like(self.known[:, :, 0, 0])
        h = self.h[:, :, row : row + 1 + 2 * self.radius]
        for (rows, pixels), (project_u, project_ul) in zip(self.blocks, self.project, strict=True):
            u = rows.row(u, F.conv2d(h, project_u))
            pixels.begin(u, F.conv2d(h, project_ul))

    def law(self, column: int) -> Tensor:
        """Returns the parameters of the next pixel's mixture, with shape (B, M, 1, 1)."""
        f = torch.addmm(self.first[column], self.last, self.lower_left)
        for _, pixels in self.blocks:
            f = pixels.pixel(f, column)
        return torch.addmm(self.head_bias, F.elu(f), self.head)[:, :, None, None]

    def put(self, pixel: Tensor, row: int, column: int) -> None:
        """Takes the pixel that was drawn, with shape (B, C, 1, 1)."""
        self.images[:, :, row, column] = pixel[:, :, 0, 0]
        self.last = self.known[:, :, row + 2, column]

    def end(self) -> None:
        """Ends the row."""
        for _, pixels in self.blocks:
            pixels.end()


def _first_laws(config: ConditionalPixelCNN.Config, outputs: int) -> Tensor:
    """Returns biases of the head that cover the range of values, or the condition's surroundings, evenly."""
    c, k = config.channels, config.components
    bias = torch.zeros(outputs // k, k)
    spread = 0.2 if config.residual else 0.8
    bias[1 : 1 + c] = torch.linspace(-spread, spread, k) if k > 1 else 0.0
    bias[1 + c : 1 + 2 * c] = -1.5 if k > 1 or config.residual else math.log(0.5)
    return bias.flatten()
