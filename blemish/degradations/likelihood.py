r"""A degradation that was learned as a law of images: how likely is y where x was clean?

.. math:: \log p(y \mid x) = \sum_{r, c} \log p(y_{rc} \mid y_{< rc}, x)

The product runs over the pixels in raster order, and a network says what each may be, of 256 values a channel, given the
clean image and the pixels before it. Such a law is trained on pairs of clean and damaged images alone, and needs to know
nothing of how the damage comes about: rounding, as in JPEG, is no obstacle, for no gradient runs through it. What has
gradients is the clean image, which is asked which observed one it explains.

It can be drawn from, too, pixel by pixel: then it is a degradation like any other, whose parameters are the uniform numbers
of the draw.

*More likely is not better.* An observed image is more likely given itself than given the clean one, for a network that
has seen little but the nearly clean and the damaged; and a law that was fitted for long tells pairs more likely without
leading a search to better images (the paper's Sec. 4.3). The likelihood says what fits, a prior what is an image.

References:
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning (Han et al., 2021), Section 3.2
    | https://arxiv.org/abs/2103.03010
    | PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications
    | (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional import mixtures
from ..functional.random import Randomness, rand
from ..networks import ConditionalPixelCNN
from ..types import Params, Shape
from .base import Likelihood

__all__ = ["LearnedLikelihood", "LikelihoodParams"]


@dataclass(frozen=True)
class LikelihoodParams(Params):
    """The uniform numbers from which an image is drawn.

    Attributes:
        u: For each pixel one for the component of its mixture, and one for each channel, with shape (B, 1 + C, H, W).
    """

    u: Tensor


class LearnedLikelihood(Likelihood[LikelihoodParams]):
    """The law of damaged images given clean ones, by a network.

    Arguments:
        config: The network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The network.

        Attributes:
            network: The law of each pixel, given the clean image and the pixels before it.
        """

        network: ConditionalPixelCNN.Config = ConditionalPixelCNN.Config()

        def build(self) -> LearnedLikelihood:
            """Makes the degradation with a freshly initialised network."""
            return LearnedLikelihood(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.network = config.network.build()

    @property
    def channels(self) -> int:
        """The channels of the images: 1 for grey, 3 for RGB."""
        channels: int = self.config.network.channels
        return channels

    def sample(self, shape: Shape, *, generator: Randomness) -> LikelihoodParams:
        """Draws uniform numbers, with shape (B, 1 + C, H, W)."""
        B, C, H, W = shape
        return LikelihoodParams(rand((B, 1 + C, H, W), generator))

    @torch.no_grad()
    def forward(self, x: Tensor, params: LikelihoodParams) -> Tensor:
        """Draws damaged images of clean ones with shape (B, C, H, W), pixel by pixel; nothing has a gradient.

        The time is that of H W small steps. They are taken in float64 where there is one: a last bit, which depends on
        the batch, could else round a pixel to its neighbour, and all that follow would be others.
        """
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        network = copy.deepcopy(self.network).to(wide)
        y = network.draw(2 * x.to(wide) - 1, params.u.to(wide))
        return ((y + 1) / 2).to(x.dtype)

    @torch.no_grad()
    def redrawn(self, y: Tensor, x: Tensor, params: LikelihoodParams) -> Tensor:
        """Draws every pixel of observed images anew, given the observed ones before it: what the law expects there.

        Arguments:
            y: Observed images, as :meth:`prepared` returns them, with shape (B, C, H, W).
            x: Clean images, with shape (B, C, H, W).
            params: What :meth:`sample` drew.
        """
        own, c = next(self.parameters()).dtype, self.config.network
        condition = 2 * x.to(own) - 1
        drawn = mixtures.sample(
            self.network(2 * y.to(own) - 1, condition),
            params.u.to(own),
            components=c.components,
            family=c.family,
            coupled=c.coupled,
            base=condition if c.residual else None,
        )
        return ((drawn + 1) / 2).to(x.dtype)

    def log_prob(self, y: Tensor, x: Tensor, params: LikelihoodParams | None = None) -> Tensor:
        """Returns the log-probabilities of observed images in nats, with shape (B,).

        Arguments:
            y: Observed images, as :meth:`prepared` returns them, with shape (B, C, H, W), or one for all x.
            x: Clean images, with shape (B, C, H, W). Gradients flow to them alone, and to the weights.
            params: Not used: the noise is averaged over.
        """
        return self.pixels(y, x).flatten(1).sum(dim=1)

    def pixels(self, y: Tensor, x: Tensor, generator: Randomness | None = None) -> Tensor:
        """Returns the terms of :meth:`log_prob`, with shape (B, H, W).

        Arguments:
            y: Observed images, with shape (B, C, H, W), or one for all x.
            x: Clean images, with shape (B, C, H, W).
            generator: The source of randomness of the dropout; needed in training alone.
        """
        own = next(self.parameters()).dtype
        observed = 2 * y.detach().to(own).expand(len(x), -1, -1, -1) - 1
        return self.network.log_prob(observed, 2 * x.to(own) - 1, generator=generator).to(x.dtype)
