r"""A perceptual distance on the activations of EfficientNet-Lite0, whose weights come in a package.

For two images with activations :math:`h^l` of layer l, of length 1 over the channels at each place,

.. math:: d(x, y) = \frac{1}{L} \sum_l \mathrm{mean}_{ij} \| h^l_{ij}(x) - h^l_{ij}(y) \|^2.

This is the distance of LPIPS before its weights were fitted to what people see, in another network: it is never
called LPIPS. It lies in [0, 4], and orders damages of an image as LPIPS does (blur above noise of the same
PSNR, say), without a file to be downloaded. Images are taken at their own size.

References:
    | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018), Section 3
    | https://arxiv.org/abs/1801.03924
    | EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan & Le, 2019)
    | https://arxiv.org/abs/1905.11946
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..networks.effnet import EFFNET_SMALLEST, effnet_layers, effnet_network
from .images import check_size, colour, pair

__all__ = ["PerceptualNetwork", "perceptual", "perceptual_network"]


class PerceptualNetwork(nn.Module):
    """The activations that images are compared in.

    Arguments:
        network: EfficientNet-Lite0, with its weights.
        name: What is written beside a score.
    """

    SMALLEST = EFFNET_SMALLEST
    """The least side of images in pixels: the network halves it five times."""

    def __init__(self, network: Any, name: str = "effnet-lite0") -> None:
        super().__init__()
        self.name = f"perceptual distance ({name})"
        self.network = network
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the activations of each layer, of length 1 over the channels.

        Arguments:
            x: Images in [0, 1], with shape (B, C, H, W), C = 1 or 3.
        """
        check_size(x, self.SMALLEST, f"{self.name} needs")
        return effnet_layers(self.network, colour(x, self.name))


def perceptual(x: Tensor, y: Tensor, network: PerceptualNetwork) -> Tensor:
    """Returns the distance in the network's activations, in [0, 4], with shape (B,); 0 for equal images.

    Arguments:
        x: Images, uint8 or in [0, 1], of at least 32x32 pixels, with shape (B, C, H, W), C = 1 or 3.
        y: Images to compare with, of the same shape.
        network: The network.
    """
    x, y = pair(x, y, torch.float32)
    layers = zip(network(x), network(y), strict=True)
    # Zhang et al. (2018), Eq. 1, with w = 1.
    distances = [(a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in layers]
    return torch.stack(distances).mean(dim=0)


def perceptual_network() -> PerceptualNetwork:
    """Returns the network of the distance.

    Raises:
        ModuleNotFoundError: If the packages with the network and its weights are not installed.
    """
    return PerceptualNetwork(effnet_network(PerceptualNetwork.SMALLEST))
