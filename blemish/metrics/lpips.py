r"""LPIPS: the distance of two images in the activations of a network of objects.

With the activations :math:`\hat x_l` of layer l, scaled to length 1 over the channels of each pixel,
and one weight :math:`w_{l,c} \ge 0` for each channel, fitted to people's judgement,

.. math:: d(x, y) = \sum_l \mathrm{mean}_{h,w} \sum_c w_{l,c} (\hat x_l - \hat y_l)_{c,h,w}^2 .

It is symmetric and 0 for equal images; it is differentiable, and gradients reach the images.

*Names.* Only the published numbers are LPIPS. With torchvision's backbone and the heads of version
0.1, both known by the digests of their files, the score is called ``LPIPS (alex, v0.1)`` or
``LPIPS (vgg, v0.1)``. Everything else is ``LPIPS-like``, with the beginnings of the digests of the
backbone and the heads. No argument turns one into the other. A converted copy of a published file
gives the same numbers under the longer name; give the file itself.

References:
    | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
    | https://arxiv.org/abs/1801.03924
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor, nn

from ..networks.vgg import VGG16, AlexNet
from ..networks.weights import Weights, read_weights
from .images import check_size, colour, pair

__all__ = ["LPIPSNetwork", "lpips", "lpips_network"]

_BACKBONES: dict[str, Callable[[], AlexNet | VGG16]] = {"alex": AlexNet, "vgg": VGG16}

_PUBLISHED = {
    "alex": (
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    ),
    "vgg": (
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    ),
}
"""The digests of torchvision's backbone and of the heads of version 0.1."""

# The square of a length below which a pixel counts as dark; its gradient is 0 and not infinite.
_TINY = 1e-30
_EPS = 1e-10


@final
class LPIPSNetwork(nn.Module):
    """A frozen backbone with one weight for each channel of its layers.

    Arguments:
        backbone: The network, with its weights.
        heads: The weights of each layer's channels, each with C values in any shape.
        name: What is written beside a score; the name of the publication is
            :func:`lpips_network`'s to give.
    """

    def __init__(
        self, backbone: AlexNet | VGG16, heads: Sequence[Tensor], name: str = "LPIPS-like"
    ) -> None:
        super().__init__()
        sizes = tuple(head.numel() for head in heads)
        if sizes != backbone.channels:
            raise ValueError(
                f"got heads of {sizes} weights; the backbone's layers have {backbone.channels} "
                "channels, and each head has one weight for a channel"
            )
        self.name = name
        self.smallest = backbone.SMALLEST
        self.backbone = backbone
        self.heads = nn.ParameterList(head.detach().clone().flatten() for head in heads)
        self.eval().requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        """The type in which a distance is computed, that of the weights."""
        dtype: torch.dtype = self.heads[0].dtype
        return dtype

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the activations of each layer, of length 1 over the channels.

        Arguments:
            x: Images in [0, 1], with shape (B, C, H, W), C = 1 or 3.
        """
        check_size(x, self.smallest, f"{self.name} needs")
        # The published constants, for images in [-1, 1].
        shift = x.new_tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
        scale = x.new_tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
        x = (2 * colour(x, self.name) - 1 - shift) / scale
        return [h / (_length(h) + _EPS) for h in self.backbone(x)]


def lpips(x: Tensor, y: Tensor, network: LPIPSNetwork) -> Tensor:
    """Returns the distance in the network's activations, with shape (B,); 0 for equal images.

    Arguments:
        x: Images, uint8 or in [0, 1], of at least 31x31 pixels (alex) or 16x16 (vgg), with shape
            (B, C, H, W), C = 1 or 3.
        y: Images to compare with, of the same shape.
        network: The backbone and its heads; their type is that of the distance.
    """
    x, y = pair(x, y, network.dtype)
    distance = x.new_zeros(len(x))
    for a, b, w in zip(network(x), network(y), network.heads, strict=True):
        # Zhang et al. (2018), Eq. 1, with their w as the square of the one written there.
        difference = (a - b).square().mean(dim=(2, 3))
        distance = distance + difference @ w
    return distance


def lpips_network(
    kind: Literal["alex", "vgg"], backbone: Path | str, heads: Path | str
) -> LPIPSNetwork:
    """Reads the network of LPIPS from two files.

    Arguments:
        kind: The backbone; ``alex`` is the default of the publication's code.
        backbone: torchvision's weights, ``alexnet-owt-7be5be79.pth`` or ``vgg16-397923af.pth``.
        heads: The publication's weights of version 0.1, ``alex.pth`` or ``vgg.pth``.

    Raises:
        FileNotFoundError: If a file is absent.
        ValueError: If a file holds other tensors.
    """
    if kind not in _BACKBONES:
        raise ValueError(f"kind is {kind!r}; choose 'alex' or 'vgg'")
    trunk, tips = read_weights(backbone), read_weights(heads)
    network = trunk.build(_BACKBONES[kind], ignore=("classifier.",))
    weights = [
        tips.require(f"lin{i}.model.1.weight", (1, c, 1, 1)) for i, c in enumerate(network.channels)
    ]
    return LPIPSNetwork(network, weights, _name(kind, trunk, tips))


def _name(kind: str, trunk: Weights, tips: Weights) -> str:
    if (trunk.sha256, tips.sha256) == _PUBLISHED[kind]:
        return f"LPIPS ({kind}, v0.1)"
    return f"LPIPS-like ({kind}, weights {trunk.short} {tips.short})"


def _length(h: Tensor) -> Tensor:
    return h.square().sum(dim=1, keepdim=True).clamp(min=_TINY).sqrt()
