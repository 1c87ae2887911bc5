r"""Encoders that read a degradation off an image: one embedding of the whole, and a map.

The **homogeneous degradation embedding** network (HDE) gives :math:`e_g`, what is the same everywhere: the strength of
noise, a camera's blur, compression. The **inhomogeneous** one (IDE) gives :math:`e_l`, a map of what is not: drops on the
lens, a blurred background. Both have two branches, one that looks far in steps and one that looks near,

=========  =========================================================================================================
far        a k x k convolution of stride s = (k - 1) / 2, then three of 3 x 3
near       3x3 convolutions with 1x1 ones in between, the third with stride 2
=========  =========================================================================================================

HDE averages both over the image and joins them; IDE brings the far branch to the near one's resolution, half the
image's, by a transposed convolution, and joins them at each pixel.

What differs from the authors' code: the far branch has the stride that its kernel says (in their configurations k = 3,
so that it looked no farther than the near one); e_l is not squashed to (0, 1), since its code rounds to whole numbers.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025)
    | https://arxiv.org/abs/2505.12860
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .resnet import check_widths

__all__ = ["GlobalEncoder", "LocalEncoder"]

SMALLEST = 16
"""The side to which smaller images are continued."""


class GlobalEncoder(nn.Module):
    """Reads one embedding off an image.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the network; the default one is the authors', but for its kernel.

        Attributes:
            embedding: The length of e_g.
            width: The channels of the first layers; the last have four times as many.
            kernel: The side k of the far branch's first kernel, 3, 5, 7, ...
            norm: Whether convolutions are followed by batch normalisation.
            image_channels: The channels of the images.
        """

        embedding: int = 256
        width: int = 64
        kernel: int = 13
        norm: bool = True
        image_channels: int = 3

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            check_widths("embedding, width", (self.embedding, self.width))
            _check_kernel(self.kernel)

        @property
        def stride(self) -> int:
            """The stride of the far branch."""
            return (self.kernel - 1) // 2

        @property
        def reach(self) -> int:
            """How many pixels away a map's cell sees, at most: the far branch, its three convolutions, and back."""
            return 2 * self.kernel + 3 * self.stride

        def build(self) -> GlobalEncoder:
            """Makes the network."""
            return GlobalEncoder(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        c, w, k = config.image_channels, config.width, config.kernel
        self.far = nn.Sequential(
            _layer(c, w, k, config, stride=(k - 1) // 2, padding=0),
            _layer(w, w, 3, config),
            _layer(w, 2 * w, 3, config),
            _layer(2 * w, 4 * w, 3, config),
        )
        self.near = _near(config)
        self.tail = nn.Sequential(
            nn.Linear(8 * w, 4 * w), nn.LeakyReLU(0.1), nn.Linear(4 * w, config.embedding)
        )
        _initialise(self, self.tail[-1], gain=10)

    def forward(self, y: Tensor) -> Tensor:
        """Reads embeddings.

        Arguments:
            y: Images in [-1, 1], with shape (B, C, H, W), of any size.

        Returns:
            Embeddings, with shape (B, embedding).
        """
        return self.embed(self.features(y))

    def features(self, y: Tensor) -> Tensor:
        """Returns the averages of both branches, with shape (B, 8 width); those of parts of an image may be averaged."""
        side = max(SMALLEST, self.config.kernel)
        y = _continued(y, side, side)
        return torch.cat([self.far(y).mean(dim=(2, 3)), self.near(y).mean(dim=(2, 3))], dim=1)

    def embed(self, features: Tensor) -> Tensor:
        """Returns the embeddings of averages."""
        e: Tensor = self.tail(features)
        return e


class LocalEncoder(nn.Module):
    """Reads a map off an image.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the network.

        Attributes:
            channels: The channels of e_l.
            ratio: The ratio r of the image's resolution to that of e_l, an even number.
            width: The channels of the first layers; the last have four times as many.
            kernel: The side k of the far branch's first kernel.
            norm: Whether convolutions are followed by batch normalisation.
            image_channels: The channels of the images.
        """

        channels: int = 4
        ratio: int = 2
        width: int = 64
        kernel: int = 13
        norm: bool = True
        image_channels: int = 3

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            check_widths("channels, width", (self.channels, self.width))
            _check_kernel(self.kernel)
            if self.ratio < 2 or self.ratio % 2:
                raise ValueError(f"ratio={self.ratio} is not known; give 2, 4, ...")

        def build(self) -> LocalEncoder:
            """Makes the network."""
            return LocalEncoder(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        c, w, k = config.image_channels, config.width, config.kernel
        s = (k - 1) // 2
        self.far = nn.Sequential(
            _layer(c, w, k, config, stride=s, padding=k // 2),
            _layer(w, w, 3, config),
            _layer(w, 2 * w, 3, config),
            _layer(2 * w, 2 * w, 3, config),
        )
        self.spread = nn.ConvTranspose2d(2 * w, 4 * w, k, stride=s, padding=k // 2)
        self.near = _near(config)
        self.tail = nn.Sequential(
            nn.Conv2d(8 * w, 4 * w, 1), nn.LeakyReLU(0.1), nn.Conv2d(4 * w, config.channels, 1)
        )
        _initialise(self, self.tail[-1], gain=2)

    def forward(self, y: Tensor) -> Tensor:
        """Reads maps.

        Arguments:
            y: Images in [-1, 1], with shape (B, C, H, W), of sides that the ratio divides.

        Returns:
            Maps, with shape (B, channels, H / r, W / r).
        """
        height, width = y.shape[-2:]
        r = self.config.ratio
        # The last rows and columns that the strides leave out are filled by those beside them.
        far = _continued(self.spread(self.far(y)), height, width)
        both = torch.cat([F.avg_pool2d(far, 2), self.near(y)], dim=1)
        e: Tensor = self.tail(F.avg_pool2d(both, r // 2))
        return e


def _layer(
    channels_in: int,
    channels_out: int,
    kernel: int,
    config: GlobalEncoder.Config | LocalEncoder.Config,
    *,
    stride: int = 1,
    padding: int | None = None,
) -> nn.Sequential:
    margin = kernel // 2 if padding is None else padding
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, margin)
    normalised = [nn.BatchNorm2d(channels_out)] if config.norm else []
    return nn.Sequential(convolution, *normalised, nn.LeakyReLU(0.2))


def _near(config: GlobalEncoder.Config | LocalEncoder.Config) -> nn.Sequential:
    c, w = config.image_channels, config.width
    return nn.Sequential(
        _layer(c, w, 3, config),
        _layer(w, w, 1, config),
        _layer(w, 2 * w, 3, config, stride=2),
        _layer(2 * w, 2 * w, 1, config),
        _layer(2 * w, 4 * w, 3, config),
        _layer(4 * w, 4 * w, 1, config),
    )


def _initialise(encoder: nn.Module, last: nn.Module, *, gain: float) -> None:
    """Draws weights that keep the size of features, with a gain at the end that makes it some steps of rounding.

    Otherwise what differs from image to image is, at first, a thousandth of the noise that imitates rounding: nobody
    reads a code that says nothing, and a code that nobody reads never comes to say anything.
    """
    for m in encoder.modules():
        if isinstance(m, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            terms = m.weight[0].numel()
            if isinstance(m, nn.ConvTranspose2d):
                # So many weights add up to one of its outputs.
                terms = m.in_channels * math.prod(m.kernel_size) // math.prod(m.stride)
            # He et al. (2015), https://arxiv.org/abs/1502.01852
            nn.init.normal_(m.weight, std=math.sqrt(2 / terms) * (gain if m is last else 1))
            if m.bias is not None:
                nn.init.zeros_(m.bias)


def _continued(x: Tensor, height: int, width: int) -> Tensor:
    """Repeats the last rows and columns of what is smaller."""
    missing = max(height - x.shape[-2], 0), max(width - x.shape[-1], 0)
    return F.pad(x, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else x


def _check_kernel(kernel: int) -> None:
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(f"kernel={kernel} has no middle or no stride; give an odd side from 3")
