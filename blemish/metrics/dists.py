r"""DISTS: structure and texture of two images, compared in the activations of VGG-16.

The image itself and five layers make 1475 maps. A map :math:`\tilde x` is described by its mean, and
is compared with the other image's by their covariance:

.. math::
    l = \frac{2 \mu_x \mu_y + c_1}{\mu_x^2 + \mu_y^2 + c_1}, \qquad
    s = \frac{2 \sigma_{xy} + c_2}{\sigma_x^2 + \sigma_y^2 + c_2}, \qquad
    D(x, y) = 1 - \sum (\alpha \, l + \beta \, s)

with :math:`c_1 = c_2 = 10^{-6}` and weights :math:`\alpha, \beta` that sum to 1 together. Means and
covariances are over a whole map, so that two samples of one texture are near each other where no
pixel agrees with its counterpart. VGG's maxima are replaced by an L2 pooling that does not alias:
:math:`\sqrt{g * \tilde x^2}` with a Hanning window g of 3x3, at every second pixel.

What is computed is :math:`\sum \alpha (1 - l) + \beta (1 - s)`, the same number, in the forms

.. math::
    1 - l = \frac{(\mu_x - \mu_y)^2}{\mu_x^2 + \mu_y^2 + c_1}, \qquad
    1 - s = \frac{\mathrm{mean} ((\tilde x - \mu_x) - (\tilde y - \mu_y))^2}
    {\sigma_x^2 + \sigma_y^2 + c_2},

which do not cancel: D is 0 for equal images to the last bit. It is symmetric and differentiable.

*Names.* The score is called ``DISTS`` with torchvision's VGG-16 and the published weights, both known
by the digests of their files, and ``DISTS-like`` with the beginnings of the digests otherwise. The
publication resizes images whose shorter side exceeds 256 pixels to 256 first; nothing is resized
here.

References:
    | Image Quality Assessment: Unifying Structure and Texture Similarity (Ding et al., 2020)
    | https://arxiv.org/abs/2004.07728
"""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks.vgg import VGG16
from ..networks.weights import read_weights
from .images import check_size, colour, imagenet, pair

__all__ = ["DISTSNetwork", "dists", "dists_network"]

_PUBLISHED = (
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
)
"""The digests of torchvision's VGG-16 and of the published alpha and beta."""

_C1 = _C2 = 1e-6


@final
class DISTSNetwork(nn.Module):
    """A frozen VGG-16 with two weights for each of its maps and for each channel of the image.

    Arguments:
        backbone: The network, with its weights.
        alpha: The weights of the means, one for each map, in any shape.
        beta: The weights of the covariances, as many; both are divided by their common sum.
        name: What is written beside a score; the name of the publication is
            :func:`dists_network`'s to give.
    """

    alpha: Tensor
    beta: Tensor

    def __init__(
        self, backbone: VGG16, alpha: Tensor, beta: Tensor, name: str = "DISTS-like"
    ) -> None:
        super().__init__()
        maps = 3 + sum(backbone.channels)
        if alpha.numel() != maps or beta.numel() != maps:
            raise ValueError(
                f"got {alpha.numel()} weights alpha and {beta.numel()} weights beta; "
                f"the backbone and the image have {maps} maps, and each has one of both"
            )
        total = alpha.sum() + beta.sum()
        if not total > 0:
            raise ValueError(f"alpha and beta sum to {float(total)}; it must be positive")
        self.name = name
        self.smallest = backbone.SMALLEST
        self.backbone = backbone
        self.register_buffer("alpha", alpha.detach().flatten() / total)
        self.register_buffer("beta", beta.detach().flatten() / total)
        self.eval().requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        """The type in which a distance is computed, that of the weights."""
        return self.alpha.dtype

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the image itself and the activations of each layer.

        Arguments:
            x: Images in [0, 1], with shape (B, C, H, W), C = 1 or 3.
        """
        check_size(x, self.smallest, f"{self.name} needs")
        x = colour(x, self.name)
        return [x, *self.backbone(imagenet(x), pool=_l2_pool)]


def dists(x: Tensor, y: Tensor, network: DISTSNetwork) -> Tensor:
    """Returns the distance in structure and texture, with shape (B,); 0 for equal images.

    Arguments:
        x: Images, uint8 or in [0, 1], of at least 16x16 pixels, with shape (B, C, H, W), C = 1 or 3.
        y: Images to compare with, of the same shape.
        network: VGG-16 and the weights of its maps; their type is that of the distance.
    """
    x, y = pair(x, y, network.dtype)
    terms = [_terms(a, b) for a, b in zip(network(x), network(y), strict=True)]
    texture = torch.cat([t for t, _ in terms], dim=1)
    structure = torch.cat([s for _, s in terms], dim=1)
    # Ding et al. (2020), Eq. 7, where the weights sum to 1.
    return texture @ network.alpha + structure @ network.beta


def dists_network(backbone: Path | str, weights: Path | str) -> DISTSNetwork:
    """Reads the network of DISTS from two files.

    Arguments:
        backbone: torchvision's weights of VGG-16, ``vgg16-397923af.pth``.
        weights: The published ``weights.pt``, with alpha and beta.

    Raises:
        FileNotFoundError: If a file is absent.
        ValueError: If a file holds other tensors.
    """
    trunk, maps = read_weights(backbone), read_weights(weights)
    network = trunk.build(VGG16, ignore=("classifier.",))
    shape = (1, 3 + sum(network.channels), 1, 1)
    published = (trunk.sha256, maps.sha256) == _PUBLISHED
    name = "DISTS" if published else f"DISTS-like (weights {trunk.short} {maps.short})"
    alpha, beta = maps.require("alpha", shape), maps.require("beta", shape)
    return DISTSNetwork(network, alpha, beta, name)


def _terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns 1 - l and 1 - s of two groups of maps, (B, C, H, W), each with shape (B, C)."""
    mu_x, mu_y = x.mean(dim=(2, 3)), y.mean(dim=(2, 3))
    x, y = x - mu_x[..., None, None], y - mu_y[..., None, None]
    # Ding et al. (2020), Eq. 5 and 6, subtracted from 1.
    texture = (mu_x - mu_y).square() / (mu_x.square() + mu_y.square() + _C1)
    variances = x.square().mean(dim=(2, 3)) + y.square().mean(dim=(2, 3))
    structure = (x - y).square().mean(dim=(2, 3)) / (variances + _C2)
    return texture, structure


def _l2_pool(x: Tensor) -> Tensor:
    # The window is the inside of a Hanning window of 5 in each direction, of sum 1.
    g = x.new_tensor([0.25, 0.5, 0.25])
    window = torch.outer(g, g).expand(x.shape[1], 1, 3, 3)
    mean = F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1])
    return (mean + 1e-12).sqrt()
