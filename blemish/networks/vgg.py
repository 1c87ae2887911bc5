r"""The convolutions of AlexNet, VGG-16 and VGG-19, whose activations perceptual distances and losses compare.

All are read at five places. For distances that is after a rectification: AlexNet after each of its
convolutions, VGG-16 after the last of each group (relu1_2, relu2_2, relu3_3, relu4_3, relu5_3). Losses
read VGG-19 before the rectification of the last of each group (conv1_2, conv2_2, conv3_4, conv4_4,
conv5_4), where features are not sparse. What lies behind the last place, and the classifier, is left
out. Names are those of torchvision's published weights (``features.0.weight``, ...), where a layer's
number counts rectifications and poolings too.

References:
    | ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky et al., 2012), in
      the version of: One Weird Trick for Parallelizing Convolutional Neural Networks
      (Krizhevsky, 2014)
    | https://arxiv.org/abs/1404.5997
    | Very Deep Convolutional Networks for Large-Scale Image Recognition
      (Simonyan & Zisserman, 2015)
    | https://arxiv.org/abs/1409.1556
    | ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks (Wang et al., 2018), Section 3.3
    | https://arxiv.org/abs/1809.00219
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["VGG16", "VGG19", "AlexNet"]

_halve = partial(F.max_pool2d, kernel_size=2)


class AlexNet(nn.Module):
    """The five convolutions of AlexNet.

    Arguments:
        channels: The widths after each convolution.
    """

    SMALLEST = 31
    """The least side of an image, in pixels."""

    def __init__(self, channels: Sequence[int] = (64, 192, 384, 256, 256)) -> None:
        super().__init__()
        self.channels = tuple(channels)
        c_1, c_2, c_3, c_4, c_5 = channels
        self.features = nn.ModuleDict(
            {
                "0": nn.Conv2d(3, c_1, 11, stride=4, padding=2),
                "3": nn.Conv2d(c_1, c_2, 5, padding=2),
                "6": nn.Conv2d(c_2, c_3, 3, padding=1),
                "8": nn.Conv2d(c_3, c_4, 3, padding=1),
                "10": nn.Conv2d(c_4, c_5, 3, padding=1),
            }
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Computes the activations after each convolution.

        Arguments:
            x: Normalised images of at least 31x31 pixels, with shape (B, 3, H, W).

        Returns:
            Five maps, each with shape (B, channels, h, w).
        """
        taps: list[Tensor] = []
        for i, conv in enumerate(self.features.values()):
            x = F.relu(conv(F.max_pool2d(x, 3, 2) if i in (1, 2) else x))
            taps.append(x)
        return taps


class VGG16(nn.Module):
    """The thirteen convolutions of VGG-16.

    Arguments:
        channels: The widths of the five groups.
    """

    SMALLEST = 16
    """The least side of an image, in pixels."""

    GROUPS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
    """The numbers of the convolutions of each group."""

    def __init__(self, channels: Sequence[int] = (64, 128, 256, 512, 512)) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.features = _convolutions(channels, self.GROUPS)

    def forward(self, x: Tensor, pool: Callable[[Tensor], Tensor] = _halve) -> list[Tensor]:
        """Computes the activations at the end of each group.

        Arguments:
            x: Normalised images of at least 16x16 pixels, with shape (B, 3, H, W).
            pool: What halves the sides between the groups; maxima of 2x2 in the publication.

        Returns:
            Five maps, each with shape (B, channels, h, w).
        """
        taps: list[Tensor] = []
        for group in self.GROUPS:
            x = pool(x) if taps else x
            for number in group:
                x = F.relu(self.features[str(number)](x))
            taps.append(x)
        return taps


class VGG19(nn.Module):
    """The sixteen convolutions of VGG-19.

    Arguments:
        channels: The widths of the five groups.
        rectified: Whether the activations are read after their rectification.
    """

    SMALLEST = 16
    """The least side of an image, in pixels."""

    GROUPS = ((0, 2), (5, 7), (10, 12, 14, 16), (19, 21, 23, 25), (28, 30, 32, 34))
    """The numbers of the convolutions of each group."""

    def __init__(
        self, channels: Sequence[int] = (64, 128, 256, 512, 512), *, rectified: bool = False
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.rectified = rectified
        self.features = _convolutions(channels, self.GROUPS)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Computes the outputs of the last convolution of each group.

        Arguments:
            x: Normalised images of at least 16x16 pixels, with shape (B, 3, H, W).

        Returns:
            Five maps, each with shape (B, channels, h, w).
        """
        taps: list[Tensor] = []
        for group in self.GROUPS:
            x = _halve(F.relu(x)) if taps else x
            for number in group:
                x = self.features[str(number)](x if number == group[0] else F.relu(x))
            taps.append(x)
        return [F.relu(tap) for tap in taps] if self.rectified else taps


def _convolutions(channels: Sequence[int], groups: Sequence[Sequence[int]]) -> nn.ModuleDict:
    widths = [c for c, group in zip(channels, groups, strict=True) for _ in group]
    pairs = itertools.pairwise([3, *widths])
    numbers = itertools.chain.from_iterable(groups)
    return nn.ModuleDict(
        {str(n): nn.Conv2d(a, b, 3, padding=1) for n, (a, b) in zip(numbers, pairs, strict=True)}
    )
