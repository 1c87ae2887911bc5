r"""Inception v3 as the Fréchet inception distance uses it: the TensorFlow graph of 2015-12-05.

The numbers called FID come from one frozen file of weights and from one graph, whose ways differ
from those of other Inceptions:

* average pooling inside a block leaves the padding out of its means, so that a pixel of the border
  is averaged over 4 or 6 values and not over 9;
* the last block pools by maxima where the others pool by means (an oversight that became the
  standard);
* there are 1008 logits, normalisations have :math:`\epsilon = 10^{-3}`.

The network is written as data. A block is a list of branches whose results are joined along the
channels; a branch is a list of steps, each a pooling, a convolution, or a fork of two convolutions.
Inside a block a convolution of stride 1 keeps the size, and one of stride 2 pads nothing. Names are
those of the published PyTorch ports of the weights.

References:
    | Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2016)
    | https://arxiv.org/abs/1512.00567
    | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium
      (Heusel et al., 2017)
    | https://arxiv.org/abs/1706.08500
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

__all__ = ["Inception"]


class _Conv(NamedTuple):
    name: str
    channels: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1


_MEAN, _MAX, _REDUCE = "mean", "max", "reduce"

_Step = str | _Conv | tuple[_Conv, _Conv]
_Branch = tuple[_Step, ...]
_Block = tuple[_Branch, ...]


class Inception(nn.Module):
    """Maps images to pool3 features, D = 2048, and these to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Unit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Unit(32, 32, 3)
        self.Conv2d_2b_3x3 = _Unit(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = _Unit(80, 192, 3)
        channels = 192
        for name, block in _blocks().items():
            mixed = _Mixed(channels, block)
            self.add_module(name, mixed)
            channels = mixed.channels
        self.fc = nn.Linear(channels, 1008)

    def forward(self, x: Tensor) -> Tensor:
        """Computes the features of the last pooling, before the logits.

        Arguments:
            x: Images in [-1, 1], of at least 75x75 pixels and in the publication 299x299, with shape
                (B, 3, H, W).

        Returns:
            Features, with shape (B, 2048).
        """
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for module in self.children():
            if isinstance(module, _Mixed):
                x = module(x)
        return x.mean(dim=(2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """Returns the logits of the 1008 classes.

        Arguments:
            features: What :meth:`forward` returned, with shape (B, 2048).
        """
        logits: Tensor = self.fc(features)
        return logits

    def fold(self) -> Inception:
        """Folds each normalisation into its convolution, for inference; returns the network.

        The weights come to lie channels last, which takes 0.7 of the time on a CPU if the images do
        so too.
        """
        self.eval()
        for module in self.modules():
            if isinstance(module, _Unit) and isinstance(module.bn, nn.BatchNorm2d):
                module.conv = fuse_conv_bn_eval(module.conv, module.bn)
                weight = module.conv.weight.data
                module.conv.weight.data = weight.contiguous(memory_format=torch.channels_last)
                module.bn = nn.Identity()
        return self


class _Unit(nn.Module):
    """A convolution without bias, its normalisation, a rectification."""

    bn: nn.Module

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _Mixed(nn.Module):
    """A block: branches on one input, joined along the channels."""

    def __init__(self, inputs: int, block: _Block) -> None:
        super().__init__()
        self.block = block
        self.channels = 0
        for branch in block:
            channels = inputs
            for step in branch:
                channels = self._add(channels, step)
            self.channels += channels

    def _add(self, channels: int, step: _Step) -> int:
        # Makes the convolutions of a step, and says how many channels leave it.
        if isinstance(step, str):
            return channels
        convs = _convs(step)
        for conv in convs:
            unit = _Unit(channels, conv.channels, conv.kernel, conv.stride, _padding(conv))
            self.add_module(conv.name, unit)
        return sum(conv.channels for conv in convs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._branch(x, branch) for branch in self.block], dim=1)

    def _branch(self, x: Tensor, branch: _Branch) -> Tensor:
        for step in branch:
            if isinstance(step, str):
                x = _pool(x, step)
            else:
                parts = [cast(Tensor, getattr(self, conv.name)(x)) for conv in _convs(step)]
                x = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return x


def _convs(step: _Conv | tuple[_Conv, _Conv]) -> Sequence[_Conv]:
    return (step,) if isinstance(step, _Conv) else step


def _padding(conv: _Conv) -> tuple[int, int]:
    height, width = (conv.kernel,) * 2 if isinstance(conv.kernel, int) else conv.kernel
    return (height // 2, width // 2) if conv.stride == 1 else (0, 0)


def _pool(x: Tensor, kind: str) -> Tensor:
    if kind == _MEAN:
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    if kind == _MAX:
        return F.max_pool2d(x, 3, stride=1, padding=1)
    return F.max_pool2d(x, 3, stride=2)


def _blocks() -> dict[str, _Block]:
    return {
        "Mixed_5b": _block_a(32),
        "Mixed_5c": _block_a(64),
        "Mixed_5d": _block_a(64),
        "Mixed_6a": _block_b(),
        "Mixed_6b": _block_c(128),
        "Mixed_6c": _block_c(160),
        "Mixed_6d": _block_c(160),
        "Mixed_6e": _block_c(192),
        "Mixed_7a": _block_d(),
        "Mixed_7b": _block_e(_MEAN),
        "Mixed_7c": _block_e(_MAX),
    }


def _block_a(pooled: int) -> _Block:
    # Szegedy et al. (2016), figure 5, with one 5x5 kept.
    return (
        (_Conv("branch1x1", 64),),
        (_Conv("branch5x5_1", 48), _Conv("branch5x5_2", 64, 5)),
        (
            _Conv("branch3x3dbl_1", 64),
            _Conv("branch3x3dbl_2", 96, 3),
            _Conv("branch3x3dbl_3", 96, 3),
        ),
        (_MEAN, _Conv("branch_pool", pooled)),
    )


def _block_b() -> _Block:
    # From 35x35 to 17x17 (figure 10).
    return (
        (_Conv("branch3x3", 384, 3, 2),),
        (
            _Conv("branch3x3dbl_1", 64),
            _Conv("branch3x3dbl_2", 96, 3),
            _Conv("branch3x3dbl_3", 96, 3, 2),
        ),
        (_REDUCE,),
    )


def _block_c(width: int) -> _Block:
    # 7x7 convolutions taken apart into rows and columns (figure 6).
    row, column = (1, 7), (7, 1)
    return (
        (_Conv("branch1x1", 192),),
        (
            _Conv("branch7x7_1", width),
            _Conv("branch7x7_2", width, row),
            _Conv("branch7x7_3", 192, column),
        ),
        (
            _Conv("branch7x7dbl_1", width),
            _Conv("branch7x7dbl_2", width, column),
            _Conv("branch7x7dbl_3", width, row),
            _Conv("branch7x7dbl_4", width, column),
            _Conv("branch7x7dbl_5", 192, row),
        ),
        (_MEAN, _Conv("branch_pool", 192)),
    )


def _block_d() -> _Block:
    # From 17x17 to 8x8.
    return (
        (_Conv("branch3x3_1", 192), _Conv("branch3x3_2", 320, 3, 2)),
        (
            _Conv("branch7x7x3_1", 192),
            _Conv("branch7x7x3_2", 192, (1, 7)),
            _Conv("branch7x7x3_3", 192, (7, 1)),
            _Conv("branch7x7x3_4", 192, 3, 2),
        ),
        (_REDUCE,),
    )


def _block_e(pooling: str) -> _Block:
    # A row and a column side by side at the end of two branches (figure 7).
    def fork(name: str) -> tuple[_Conv, _Conv]:
        return _Conv(f"{name}a", 384, (1, 3)), _Conv(f"{name}b", 384, (3, 1))

    return (
        (_Conv("branch1x1", 320),),
        (_Conv("branch3x3_1", 384), fork("branch3x3_2")),
        (_Conv("branch3x3dbl_1", 448), _Conv("branch3x3dbl_2", 384, 3), fork("branch3x3dbl_3")),
        (pooling, _Conv("branch_pool", 192)),
    )
