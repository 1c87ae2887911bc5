r"""Gated residual blocks with normalised weights, and the same blocks computed a row or a pixel at a time.

.. math:: f \leftarrow f + a \, \sigma(b), \qquad (a, b) = W_2 * e\big(W_1 * e(f) + N e(u)\big) + P h,
    \qquad e(f) = \mathrm{elu}([f, -f])

for features f, those of another stream u and those of a condition h. A pixel's features depend on those of its own row and
of the row above: convolutions are 2 rows high, and see no column to the right on the pixel's own row where they are 2
columns wide. So images are drawn without computing anything twice: :class:`RowsAbove` and :class:`PixelsBefore` keep what
the next row and the next pixel need.

References:
    | PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications
    | (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
    | Fast Generation for Convolutional Autoregressive Models (Ramachandran et al., 2017)
    | https://arxiv.org/abs/1704.06001
    | Weight Normalization (Salimans and Kingma, 2016), https://arxiv.org/abs/1602.07868
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.random import Randomness, rand

__all__ = [
    "Dropout",
    "GatedPair",
    "NormedConv",
    "PixelsBefore",
    "RowsAbove",
    "concat_elu",
    "fixed",
]


class NormedConv(nn.Module):
    """A convolution with normalised weights: each filter is a direction times a gain.

    Its output may go on beyond the image, below and to the right, where callers cut it: padding all sides alike is
    quicker than padding some of them before.

    Arguments:
        inputs: The channels of the input.
        outputs: The channels of the output.
        kernel: The height and width of the filters.
        padding: The rows and columns of zeros on either side.
        dilation: The distance of the filters' taps.
        gain: Where the gains start.
        bias: Whether there are biases; they start at 0.
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
        length: Tensor = torch.linalg.vector_norm(v, dim=(1, 2, 3), keepdim=True)
        return v * (self.gain.view(-1, 1, 1, 1) / length)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the filtered features, with shape (B, outputs, ., .)."""
        return F.conv2d(x, self.weight, self.bias, padding=self.padding, dilation=self.dilation)


class GatedBlock(nn.Module):
    """A gated residual block of one stream.

    Arguments:
        width: The features F of the stream.
        kernel: (2, 3) for u, (2, 2) for ul.
        told: The channels of the condition.
        reads: The side of the square of the condition that the block reads.
        beside: Whether it is told the other stream.
    """

    def __init__(
        self, width: int, kernel: tuple[int, int], told: int, reads: int, *, beside: bool
    ) -> None:
        super().__init__()
        self.conv1 = NormedConv(2 * width, width, kernel, (1, 1))
        self.conv2 = NormedConv(2 * width, 2 * width, kernel, (1, 1), gain=0.1)
        self.beside = NormedConv(2 * width, width, (1, 1), (0, 0), bias=False) if beside else None
        self.project = NormedConv(told, 2 * width, (reads, reads), (reads // 2,) * 2, bias=False)

    def forward(self, f: Tensor, a: Tensor | None, h: Tensor, dropout: Dropout) -> Tensor:
        """Returns features, with shape (B, F, H, W), as f has.

        Arguments:
            f: Features of this stream.
            a: Features of the other one, if the block is told them.
            h: The condition, with shape (B, told, H, W).
            dropout: What leaves features out.
        """
        H, W = f.shape[-2:]
        inner = self.conv1(concat_elu(f))[..., :H, :W]
        if self.beside is not None and a is not None:
            inner = inner + self.beside(concat_elu(a))
        inner = dropout(concat_elu(inner))
        both: Tensor = self.conv2(inner)[..., :H, :W] + self.project(h)
        value, gate = both.chunk(2, dim=1)
        return f + value * torch.sigmoid(gate)


class GatedPair(nn.Module):
    """A block of each stream; the second is told the first.

    Arguments:
        width: The features F of each stream.
        told: The channels of the condition.
        reads: The side of the square of the condition that the blocks read.
    """

    def __init__(self, width: int, told: int, reads: int) -> None:
        super().__init__()
        self.u = GatedBlock(width, (2, 3), told, reads, beside=False)
        self.ul = GatedBlock(width, (2, 2), told, reads, beside=True)

    def forward(self, u: Tensor, ul: Tensor, h: Tensor, dropout: Dropout) -> tuple[Tensor, Tensor]:
        """Returns the features of both streams, with shape (B, F, H, W) each.

        Arguments:
            u: Features of the stream that sees rows above alone.
            ul: Features of the stream that sees what stands to the left, too.
            h: The condition, with shape (B, told, H, W).
            dropout: What leaves features out.
        """
        u = self.u(u, None, h, dropout)
        return u, self.ul(ul, u, h, dropout)


class RowsAbove:
    """A gated block of the stream u, computed row by row.

    Arguments:
        block: The block, whose weights are taken as they are now.
        like: A tensor with the batch size, width, type and device of the images.
    """

    def __init__(self, block: GatedBlock, like: Tensor) -> None:
        self.conv1, self.conv2 = fixed(block.conv1), fixed(block.conv2)
        B, F_, W = like.shape[0], block.conv1.gain.shape[0], like.shape[-1]
        self.above1 = self.above2 = like.new_zeros(B, 2 * F_, 1, W)

    def row(self, f: Tensor, told: Tensor) -> Tensor:
        """Returns the block's features on the next row.

        Arguments:
            f: Features of that row, with shape (B, F, 1, W).
            told: The projected condition, with shape (B, 2F, 1, W).
        """
        e = concat_elu(f)
        inner = F.conv2d(torch.cat([self.above1, e], dim=2), *self.conv1, padding=(0, 1))
        self.above1, e = e, concat_elu(inner)
        both = F.conv2d(torch.cat([self.above2, e], dim=2), *self.conv2, padding=(0, 1))
        self.above2 = e
        value, gate = (both + told).chunk(2, dim=1)
        return f + value * torch.sigmoid(gate)


class PixelsBefore:
    """A gated block of the stream ul, computed pixel by pixel.

    What a row takes from the row above, from u and from the condition is computed at its beginning.

    Arguments:
        block: The block, whose weights are taken as they are now.
        like: A tensor with the batch size, width, type and device of the images.
    """

    def __init__(self, block: GatedBlock, like: Tensor) -> None:
        (w1, self.bias1), (w2, self.bias2) = fixed(block.conv1), fixed(block.conv2)
        self.upper1, self.upper2 = w1[:, :, :1], w2[:, :, :1]
        # The lower row of the filters, for the features of the pixel to the left and of this one.
        self.lower1, self.lower2 = (w[:, :, 1].permute(2, 1, 0).flatten(0, 1) for w in (w1, w2))
        self.beside = None if block.beside is None else fixed(block.beside)[0]
        B, F_, W = like.shape[0], w1.shape[0], like.shape[-1]
        self.above1 = self.above2 = like.new_zeros(B, 2 * F_, 1, W)

    def begin(self, u: Tensor, told: Tensor) -> None:
        """Begins the next row.

        Arguments:
            u: Features of the other stream on that row, with shape (B, F, 1, W).
            told: The projected condition, with shape (B, 2F, 1, W).
        """
        given1 = F.conv2d(F.pad(self.above1, (1, 0)), self.upper1, self.bias1)
        if self.beside is not None:
            given1 = given1 + F.conv2d(concat_elu(u), self.beside)
        given2 = F.conv2d(F.pad(self.above2, (1, 0)), self.upper2, self.bias2) + told
        self.given1, self.given2 = (
            g[:, :, 0].permute(2, 0, 1).contiguous() for g in (given1, given2)
        )
        nothing = torch.zeros_like(self.above1[:, :, 0, 0])
        self.seen1, self.seen2 = [nothing], [nothing]

    def pixel(self, f: Tensor, column: int) -> Tensor:
        """Returns the block's features at the row's next pixel.

        Arguments:
            f: Features of that pixel, with shape (B, F).
            column: Which pixel it is.
        """
        e = concat_elu(f)
        inner = torch.addmm(self.given1[column], torch.cat([self.seen1[-1], e], dim=1), self.lower1)
        self.seen1.append(e)
        e = concat_elu(inner)
        both = torch.addmm(self.given2[column], torch.cat([self.seen2[-1], e], dim=1), self.lower2)
        self.seen2.append(e)
        value, gate = both.chunk(2, dim=1)
        return f + value * torch.sigmoid(gate)

    def end(self) -> None:
        """Keeps the row for the next one."""
        self.above1, self.above2 = (
            torch.stack(seen[1:], dim=-1).unsqueeze(2) for seen in (self.seen1, self.seen2)
        )


def fixed(conv: NormedConv) -> tuple[Tensor, Tensor]:
    """Returns the filters and biases of a convolution; without biases, zeros."""
    weight = conv.weight
    return weight, weight.new_zeros(weight.shape[0]) if conv.bias is None else conv.bias


class Dropout:
    """Leaves features out, drawn from a generator that is passed along.

    Arguments:
        share: The share of features that is left out.
        generator: The source of randomness; needed unless the share is 0.
    """

    def __init__(self, share: float, generator: Randomness | None) -> None:
        if share and generator is None:
            raise ValueError(
                f"dropout={share} needs a generator in training; give one, or call eval()"
            )
        self.share, self.generator = share, generator

    def __call__(self, f: Tensor) -> Tensor:
        """Returns features, the rest of them scaled up."""
        if not self.share or self.generator is None:
            return f
        kept = rand(f.shape, self.generator).to(f.device) >= self.share
        return f * kept / (1 - self.share)


def concat_elu(f: Tensor) -> Tensor:
    """Returns elu([f, -f]), with twice the channels."""
    return F.elu(torch.cat([f, -f], dim=1), inplace=True)
