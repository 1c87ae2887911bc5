r"""The generator of StyleGAN2 as it was published, so that published weights make the published images.

Its layers are those of the small :class:`~blemish.networks.StyleGenerator`; this is what differs.

*Up-sampling* is by the filter [1, 3, 3, 1]: of features after a transposed convolution
(:func:`~blemish.functional.fir.convolved_up`), of colours alone (:func:`~blemish.functional.fir.doubled`). Beyond the border are
zeros, and a wider picture fades towards it.

*Colours.* Those of each side have biases of their own, and the sum is the image: it overshoots [-1, 1], and nothing bends it.

*Clamp.* Weights that were trained in half precision belong to a network whose layers clamp their outputs, to 256 as a rule.

*Conventions,* for whoever reads published weights. N sides make 2N - 1 convolutions and N layers of colours.

====================================  ===============  =====================================================================
mapping.i.weight, .bias               (D, D), (D,)     used as :math:`W \, \text{rate} / \sqrt{D}` and :math:`b \, \text{rate}`;
                                                       :math:`\sqrt{2}` on the rectifier's output
w_avg                                 (D,)             the running mean of w; there with ``mean_style=True`` alone
constant                              (1, C, 4, 4)     used as it is
convs.j.conv.weight                   (O, C, 3, 3)     used as :math:`W / \sqrt{9C}`, which demodulation takes back (but for its
                                                       1e-8). j = 0 at the side 4, 2k - 1 (doubles) and 2k at the side
                                                       :math:`4 \cdot 2^k`. An even j correlates, as ``conv2d``; an odd j is given to
                                                       ``conv_transpose2d`` with stride 2, unturned
convs.j.conv.style.weight, .bias      (C, D), (C,)     the scales :math:`s = W w / \sqrt{D} + b`; b starts at 1, and no 1 is added
convs.j.strength                      ()               the factor on the noise
convs.j.noise                         (1, 1, S, S)     the map of noise
convs.j.bias                          (O,)             added after the noise, before rectifier, :math:`\sqrt{2}` and clamp
colours.k.conv.weight                 (I, C, 1, 1)     used as :math:`W / \sqrt{C}`, without demodulation
colours.k.conv.style.weight, .bias    (C, D), (C,)     as above
colours.k.bias                        (I,)             added before the clamp
====================================  ===============  =====================================================================

References:
    | Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020)
    | https://arxiv.org/abs/1912.04958
    | Training Generative Adversarial Networks with Limited Data (Karras et al., 2020), the clamp
    | https://arxiv.org/abs/2006.06676
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..functional.fir import doubled
from .style import ModulatedConv, add_up, styled_convs
from .style_network import Mapping, StyleNetwork

__all__ = ["Colours", "StyleGAN2"]


class Colours(nn.Module):
    """Turns features into colours, by a modulated convolution of 1x1 pixels without demodulation.

    Arguments:
        latent: The length D of a style vector.
        channels_in: The channels C of the features.
        channels_out: The channels of the image.
        clamp: The largest magnitude of an output, or None for no limit.
    """

    def __init__(
        self, latent: int, channels_in: int, channels_out: int, *, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv(latent, channels_in, channels_out, size=1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Returns colours, with shape (B, channels_out, H, W).

        Arguments:
            x: Features, with shape (B, C, H, W).
            w: Style vectors, with shape (B, D) or (B, C, D).
        """
        y: Tensor = self.conv(x, w) + self.bias[:, None, None]
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


class StyleGAN2(StyleNetwork):
    """Maps latents to images about [-1, 1], as published.

    Arguments:
        config: The shape of the network.
    """

    config: Config

    @dataclass(frozen=True, kw_only=True)
    class Config(StyleNetwork.Config):
        """The shape of a StyleGAN2; by default that of the published one for 1024x1024 pixels.

        Attributes:
            latent: The length D of the latents z and of the style vectors w.
            channels: The channels of the features at the sides 4, 8, 16, ...
            image_channels: The channels of the output.
            mapping: The number of layers from z to w.
            mapping_rate: The factor on the learning rate of these layers.
            noise: Whether convolutions have maps of noise.
            clamp: The largest magnitude of what a layer returns, or None for no limit.
            mean_style: Whether the network carries the mean style of its training (``w_avg``).
        """

        clamp: float | None = None
        mean_style: bool = False

        def __post_init__(self) -> None:
            """Checks that there is something to build."""
            super().__post_init__()
            if self.clamp is not None and not self.clamp > 0:
                raise ValueError(f"clamp={self.clamp}; give a limit above 0, or None for no limit")

        def build(self) -> StyleGAN2:
            """Makes the network."""
            return StyleGAN2(self)

    def __init__(self, config: Config) -> None:
        mapping = Mapping(config.latent, config.mapping, rate=config.mapping_rate)
        super().__init__(config, mapping, mean_style=config.mean_style)
        self.constant = nn.Parameter(torch.randn(1, config.channels[0], 4, 4))
        self.convs = nn.ModuleList(styled_convs(config, filtered=True, clamp=config.clamp))
        self.colours = nn.ModuleList(
            Colours(config.latent, c, config.image_channels, clamp=config.clamp)
            for c in config.channels
        )

    def synthesize(self, styles: Sequence[Tensor], noise: Sequence[Tensor] | None = None) -> Tensor:
        """Makes images about [-1, 1]; see :meth:`StyleNetwork.synthesize`."""
        maps = self.maps(styles, noise)
        return add_up(self.constant, self.convs, self.colours, styles, maps, doubled)
