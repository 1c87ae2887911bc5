r"""The critic of the universal degradation model.

Five convolutions without bias and with leaky rectifications of slope 0.2, of 64 to 1024 channels, bring images of 128
pixels to 4x4 places. Each halves its input with a kernel of 4x4; for smaller images the first ones keep it, with a
kernel of 3x3. A last convolution of 4x4 pixels makes 2048 features of what is left, and a linear layer one score of
those.

Where more than 4x4 places are left, for images larger than the network was made for, the score is the mean over the
last convolution's places. Weights start from :math:`N(0, 0.02^2)`. Nothing is normalised, so that a score is that of its
own image, as a penalty on its slope needs it.

The published description leaves open whether a rectification follows the last convolution; here one does, or else it
would be one linear map together with the layer behind it.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025)
    | https://arxiv.org/abs/2505.12860
    | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks
    | (Radford et al., 2015), https://arxiv.org/abs/1511.06434
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from .inputs import check_size
from .resnet import channels_last, check_widths

__all__ = ["Critic"]

_SIDES = (16, 32, 64, 128)
_LAYERS = 5


class Critic(nn.Module):
    """Maps images to one score each.

    Arguments:
        config: The shape of the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a critic; the defaults are the published ones.

        Attributes:
            side: The side of the smallest images in pixels: 16, 32, 64 or 128.
            features: The channels of the first layer; sixteen times as many of the fifth, and twice those behind.
            image_channels: The channels of what is judged: 3, or 6 for pairs of colour images side by side.
        """

        side: int = 128
        features: int = 64
        image_channels: int = 3

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            if self.side not in _SIDES:
                raise ValueError(
                    f"side={self.side}; give 16, 32, 64 or 128 pixels, the next below that of your images"
                )
            check_widths("features, image_channels", (self.features, self.image_channels))

        def build(self) -> Critic:
            """Makes the network."""
            return Critic(self)

        @property
        def halvings(self) -> int:
            """The number of layers that halve their input: 5 for images of 128 pixels, 2 for those of 16."""
            return _SIDES.index(self.side) + 2

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        c = config.features
        widths = (config.image_channels, *(c * 2**i for i in range(_LAYERS)))
        kept = _LAYERS - config.halvings
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False)
            if i < kept
            else nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False)
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.last = nn.Conv2d(widths[-1], 2 * widths[-1], 4, bias=False)
        self.linear = nn.Linear(2 * widths[-1], 1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Judges images.

        Arguments:
            x: Images in [-1, 1], with shape (B, image_channels, H, W), of at least side x side pixels.

        Returns:
            Scores, with shape (B,); large means real.

        Raises:
            ValueError: If the images are smaller.
        """
        check_size(x, self.config.side, "this critic needs")
        h = channels_last(x)
        for conv in (*self.convs, self.last):
            h = F.leaky_relu(conv(h), 0.2)
        scores: Tensor = self.linear(h.mean(dim=(2, 3))).squeeze(1)
        return scores
