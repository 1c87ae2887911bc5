r"""A small residual network that enlarges images, made to be trained and used on CPUs.

All its work is done at the size of the observed image. With the enlargement :math:`B` by bicubic interpolation,
the packing of f x f pixels into channels and a few residual blocks,

.. math:: \hat x = B(y) + \mathrm{shuffle}(g(\mathrm{pack}_f(y))),

where g ends with :math:`C (f s)^2` channels for C channels and scale s, which the shuffle unpacks into blocks of
:math:`f s \times f s` pixels of the estimate (sub-pixel convolution). The last convolution starts small, so that
the network starts near B.

*Alignment.* Pixels are areas: pixel j of the estimate lies at :math:`(j + 1/2) / s - 1/2` of y, which is where
averages over blocks belong. The cubic kernel has a = -0.5, as in PIL and MATLAB, and reproduces a ramp. Measured:
torch's bicubic mode without antialiasing, with a = -0.75, errs on a ramp by up to 0.047 of a pixel of y (s = 2), and
with aligned corners by 0.2 to 0.35. On a wave of 20 pixels and amplitude 1, the RMS errors are 0.0004, 0.011 and
0.029. What B gets wrong, g would have to learn.

References:
    | Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    | Neural Network (Shi et al., 2016), https://arxiv.org/abs/1609.05158
    | Cubic Convolution Interpolation for Digital Image Processing (Keys, 1981)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.pool import SCALES
from ..functional.resample import bicubic
from .resnet import channels_last, check_widths, pack, zero_biases
from .translator import packed_reach, residual_blocks

__all__ = ["Upscaler"]


class Upscaler(nn.Module):
    """Adds what it learned to the enlarged image.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the network; the default one has 70 256 parameters, and 59 852 at scale 2.

        Attributes:
            scale: The factor s by which images grow: 1, 2, 3 or 4.
            channels: The channels of the blocks.
            blocks: The number of residual blocks.
            factor: The side f of the blocks of observed pixels that are packed into channels.
            image_channels: The channels of the images.
            residual_scale: The factor of the residuals.
            output_gain: A factor on the last convolution's initial weights; small ones start near the
                enlargement.
        """

        scale: int = 4
        channels: int = 32
        blocks: int = 3
        factor: int = 1
        image_channels: int = 3
        residual_scale: float = 0.3
        output_gain: float = 0.1

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            if self.scale not in SCALES:
                raise ValueError(f"scale={self.scale} is not known; choose 1, 2, 3 or 4")
            check_widths("channels, blocks", (self.channels, self.blocks))
            check_widths("factor, image_channels", (self.factor, self.image_channels))

        def build(self) -> Upscaler:
            """Makes the network."""
            return Upscaler(self)

        @property
        def receptive_field(self) -> int:
            """The side of the square of input pixels that an output pixel depends on; the enlargement sees 2 far."""
            return 1 + 2 * packed_reach(self.factor, self.blocks)

        @property
        def multiple(self) -> int:
            """What the corner of a part must be a multiple of to be computed as in the whole."""
            return self.factor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, packed = config.channels, config.image_channels * config.factor**2
        self.first = nn.Conv2d(packed, width, 3, padding=1)
        self.blocks = residual_blocks(config.blocks, width, config.residual_scale)
        self.last = nn.Conv2d(width, packed * config.scale**2, 3, padding=1)
        nn.init.xavier_uniform_(self.first.weight)
        nn.init.xavier_uniform_(self.last.weight, gain=config.output_gain)
        zero_biases(self)

    def forward(self, y: Tensor) -> Tensor:
        """Enlarges images.

        Arguments:
            y: Images in [-1, 1], with shape (B, image_channels, H, W), of any size.

        Returns:
            Images, with shape (B, image_channels, scale H, scale W), a little beyond [-1, 1] here and there.
        """
        f, s = self.config.factor, self.config.scale
        height, width = (s * side for side in y.shape[-2:])
        features = self.blocks(self.first(channels_last(pack(y, f))))
        change = F.pixel_shuffle(self.last(F.relu(features)), f * s)
        return bicubic(y, (height, width)) + change[..., :height, :width]
