r"""The perceptual loss: what a network of objects sees in two images, compared.

With the maps :math:`\phi_j` of layer j and weights :math:`c_j`,

.. math:: L(\hat x, x) = \sum_j c_j \, \mathrm{mean} |\phi_j(\hat x) - \phi_j(x)|^p, \qquad p = 1, 2,

where the mean over a layer's numbers stands for the norm, so that weights go with images of any size. The default is
that of Real-ESRGAN: VGG-19 before the rectifications, p = 1, weights (0.1, 0.1, 1, 1, 1), beside a mean absolute
difference of pixels with weight 1. The equation of AND has p = 2, and leaves layers and weights open.

Any function from images to a list of maps can be compared in. Two are made here: VGG-19 with torchvision's weights,
which are a download, and EfficientNet-Lite0, whose weights come in a package.

*Cost.* The clean image's maps are the same for all estimates of it: compute them once.

.. code-block:: python

    with torch.no_grad():
        reference = loss.features(x)
    loss.compare(loss.features(x_hat), reference).mean()

References:
    | Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson et al., 2016)
    | https://arxiv.org/abs/1603.08155
    | Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data
    | (Wang et al., 2021), https://arxiv.org/abs/2107.10833
    | Adversarial Neural Degradation for Learning Blind Super-Resolution (Luo et al., 2023), Eq. 2
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from ..networks.effnet import EFFNET_SMALLEST, effnet_layers, effnet_network
from ..networks.inputs import check_size, colour, imagenet
from ..networks.resnet import channels_last
from ..networks.vgg import VGG19
from ..networks.weights import read_weights

__all__ = ["PerceptualLoss", "effnet_features", "vgg19_features"]


@final
class PerceptualLoss(nn.Module):
    """A distance of images in the maps of a frozen network.

    Gradients reach the images, never the network, which stays in eval mode. As a part of another module it brings its
    weights into that one's state dictionary.

    Arguments:
        network: A function of images in [0, 1], with shape (B, C, H, W), to a sequence of maps, each with shape
            (B, c, h, w), such as :func:`vgg19_features` or :func:`effnet_features`. A module is frozen.
        weights: The weights c of the layers, as many as there are maps; those with weight 0 are not compared.
        criterion: Whether absolute differences ("l1") or their squares ("l2") are averaged.

    Raises:
        ValueError: If a weight is negative, none is positive, or the criterion is unknown.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Sequence[Tensor]],
        weights: Sequence[float] = (0.1, 0.1, 1.0, 1.0, 1.0),
        criterion: Literal["l1", "l2"] = "l1",
    ) -> None:
        super().__init__()
        if min(weights, default=0) < 0 or not any(weights):
            raise ValueError(f"weights={tuple(weights)}; give none below 0, and one above")
        if criterion not in ("l1", "l2"):
            raise ValueError(f"criterion={criterion!r} is not known; choose l1 or l2")
        self.network = network
        self.weights = tuple(weights)
        self.criterion = criterion
        if isinstance(network, nn.Module):
            network.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Changes nothing: the network stays in eval mode, or else images of a batch might mix."""
        super().train(False)
        return self

    def features(self, x: Tensor) -> Sequence[Tensor]:
        """Computes the maps that are compared, each with shape (B, c, h, w).

        Arguments:
            x: Images in [0, 1], with shape (B, C, H, W).
        """
        return self.network(x)

    def compare(self, x_hat: Sequence[Tensor], x: Sequence[Tensor]) -> Tensor:
        """Compares the maps of two batches of images.

        Arguments:
            x_hat: What :meth:`features` returned for the estimates.
            x: What it returned for the images themselves.

        Returns:
            The loss of each image, with shape (B,); 0 for equal ones. The loss of a batch is its mean.

        Raises:
            ValueError: If there are not as many maps as weights.
        """
        if not len(x_hat) == len(x) == len(self.weights):
            raise ValueError(
                f"got {len(x_hat)} and {len(x)} maps, and {len(self.weights)} weights; give one weight for each map"
            )
        layers = zip(self.weights, x_hat, x, strict=True)
        # Luo et al. (2023), Eq. 2, the sum over j.
        terms = [c * self._difference(a, b) for c, a, b in layers if c]
        return torch.stack(terms).sum(dim=0)

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Returns the mean loss of a batch, a scalar; its gradient reaches the estimates alone.

        Arguments:
            x_hat: The estimates, about in [0, 1], with shape (B, C, H, W).
            x: The images themselves, in [0, 1], of the same shape.
        """
        with torch.no_grad():
            reference = self.features(x)
        return self.compare(self.features(x_hat), reference).mean()

    def _difference(self, a: Tensor, b: Tensor) -> Tensor:
        # Maps of half precision are averaged in single.
        difference = (a - b).flatten(1).to(torch.promote_types(a.dtype, torch.float32))
        powers = difference.abs() if self.criterion == "l1" else difference.square()
        return powers.mean(dim=1)


def vgg19_features(path: Path | str, *, rectified: bool = False) -> nn.Module:
    """Returns the maps of VGG-19 at the last convolution of each group, for images of at least 16x16 pixels.

    Arguments:
        path: torchvision's weights, ``vgg19-dcbb9e9d.pth``, or the same as safetensors.
        rectified: Whether maps are read after their rectification.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds other tensors.
    """
    weights = read_weights(path)
    return _VGGFeatures(weights.build(lambda: VGG19(rectified=rectified), ignore=("classifier.",)))


def effnet_features() -> nn.Module:
    """Returns the maps of EfficientNet-Lite0, of length 1 over the channels, for images of at least 32x32 pixels.

    They are those of :class:`~blemish.metrics.PerceptualNetwork`: five, as VGG-19's, so that the same weights go with
    them.

    Raises:
        ModuleNotFoundError: If the packages with the network and its weights are not installed.
    """
    return _EffNetFeatures(effnet_network(EFFNET_SMALLEST))


class _VGGFeatures(nn.Module):
    def __init__(self, network: VGG19) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        check_size(x, VGG19.SMALLEST, "VGG-19 needs")
        maps: list[Tensor] = self.network(channels_last(imagenet(colour(x, "VGG-19"))))
        return maps


class _EffNetFeatures(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        check_size(x, EFFNET_SMALLEST, "EfficientNet-Lite0 needs")
        return effnet_layers(self.network, colour(x, "EfficientNet-Lite0"))
