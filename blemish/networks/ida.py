r"""Layers that apply a degradation which varies over the image: IDA and IDA-SFT.

The **inhomogeneous degradation-aware layer** filters features :math:`F` as a map :math:`e` at half their resolution says,

.. math:: \mathrm{IDA}(F, e) = D_2 \big( C_1(\phi(D_1(e))) \odot C_2(F) \big),

where the :math:`C` are 3x3 convolutions of stride 2 and the :math:`D` 2x2 transposed convolutions of stride 2, with
:math:`m` channels in between. With :math:`m = 4c` for c channels and no :math:`\phi`, some weights make of it four
depthwise 2x2 convolutions of stride 2 whose taps vary over the image, one for each phase of the output, as long as the
taps of the four are in fixed proportions, :math:`W^{(k)} = u^{(k)} W^{(0)}`; with :math:`m = 16 c` the four are free.
It is linear in F.

**IDA-SFT** adds a spatial feature transform, and noise: with the condition map :math:`c` and white noise :math:`n`,

.. math:: F \mapsto F \odot (1 + \gamma(c)) + \beta(c, n) + \mathrm{IDA}(F, c).

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025), and its
    | technical report, Eq. 17 to 20, https://arxiv.org/abs/2505.12860
    | Recovering Realistic Texture in Image Super-resolution by Deep Spatial Feature Transform (Wang et al., 2018)
    | https://arxiv.org/abs/1804.02815
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["IDA", "IDASFT"]

SLOPE = 0.1

NOISE = 4
"""How many times as large the first weights of the noise are as those of the condition. A network to whom the noise speaks
softly finds other ways to its energy first, lattices or a blown-up content, and these run away."""


class IDA(nn.Module):
    """Filters features as a map of half their resolution says.

    Arguments:
        channels: The channels c of the features.
        condition: The channels of the map.
        middle: The channels m in between; (c + condition) // 2 by default, as the authors have it.
        rectify: Whether there is a :math:`\\phi`, a leaky rectifier of slope 0.1, which the authors have and their
            formula has not.
    """

    def __init__(
        self, channels: int, condition: int, middle: int | None = None, *, rectify: bool = True
    ) -> None:
        super().__init__()
        m = middle or (channels + condition) // 2
        self.rectify = rectify
        self.spread = nn.ConvTranspose2d(condition, m, 2, stride=2, bias=False)  # D_1
        self.read = nn.Conv2d(m, m, 3, stride=2, padding=1, bias=False)  # C_1
        self.reduce = nn.Conv2d(channels, m, 3, stride=2, padding=1, bias=False)  # C_2
        self.restore = nn.ConvTranspose2d(m, channels, 2, stride=2)  # D_2
        # At first, the four phases are alike: a lattice out of nothing has the energy of noise, and would be learned in
        # its place.
        with torch.no_grad():
            for layer in (self.spread, self.restore):
                layer.weight.copy_(layer.weight[..., :1, :1].expand_as(layer.weight))

    def forward(self, features: Tensor, e: Tensor) -> Tensor:
        """Applies the layer.

        Arguments:
            features: Features, with shape (B, c, H, W); both sides are even.
            e: The map, with shape (B, condition, H / 2, W / 2).

        Returns:
            Features, with shape (B, c, H, W).
        """
        e = self.spread(e)
        if self.rectify:
            e = F.leaky_relu(e, SLOPE)
        y: Tensor = self.restore(self.read(e) * self.reduce(features))
        return y


class IDASFT(nn.Module):
    """Scales, shifts and filters features as a condition map says, and adds noise.

    Arguments:
        channels: The channels of the features.
        condition: The channels of the condition map.
        ida: Whether the layer filters; without it, it scales and shifts alone.
    """

    def __init__(self, channels: int, condition: int, *, ida: bool = True) -> None:
        super().__init__()
        hidden = (condition + channels) // 4
        self.gamma = _pointwise(condition, hidden, channels)
        self.beta = _pointwise(condition + 1, hidden, channels)
        first = self.beta[0]
        assert isinstance(first, nn.Conv2d)
        with torch.no_grad():
            first.weight[:, condition].mul_(NOISE)
        self.ida = IDA(channels, condition) if ida else None

    def forward(self, features: Tensor, c: Tensor, half: Tensor, n: Tensor) -> Tensor:
        """Applies the layer.

        Arguments:
            features: Features, with shape (B, C, H, W); both sides are even.
            c: The condition map, with shape (B, condition, H, W).
            half: The same at half the resolution, with shape (B, condition, H / 2, W / 2).
            n: White noise, with shape (B, 1, H, W).

        Returns:
            Features, with shape (B, C, H, W).
        """
        y: Tensor = torch.addcmul(features, features, self.gamma(c))
        y = y + self.beta(torch.cat([c, n], dim=1))
        return y if self.ida is None else y + self.ida(features, half)


def _pointwise(channels_in: int, hidden: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, hidden, 1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(hidden, channels_out, 1),
    )
