"""A network as a restorer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from ..networks import PackedTranslator

__all__ = ["FeedForward"]


@final
class FeedForward(nn.Module):
    """Restores images by one pass of a network, which keeps their size or enlarges them.

    Arguments:
        config: The network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The network.

        Attributes:
            network: The configuration of a network with ``scale``, ``receptive_field`` and ``multiple``, such as
                :class:`~blemish.networks.PackedTranslator` or :class:`~blemish.networks.Upscaler`.
        """

        network: Any = PackedTranslator.Config()

        def build(self) -> FeedForward:
            """Makes the restorer."""
            return FeedForward(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.network = config.network.build()

    @property
    def scale(self) -> int:
        """The factor by which images grow; 1 keeps their size."""
        scale: int = self.config.network.scale
        return scale

    @property
    def channels(self) -> int:
        """The channels of the images: 1 for grey, 3 for RGB."""
        channels: int = self.config.network.image_channels
        return channels

    @property
    def receptive_field(self) -> int:
        """The side of the square of input pixels that an output pixel depends on."""
        side: int = self.config.network.receptive_field
        return side

    @property
    def multiple(self) -> int:
        """What the corner of a part must be a multiple of to be restored as in the whole."""
        multiple: int = self.config.network.multiple
        return multiple

    def estimate(self, y: Tensor) -> Tensor:
        """Restores images for training: nothing is clamped, so that all pixels have gradients.

        Arguments:
            y: Observed images in [0, 1], with shape (B, C, H, W).

        Returns:
            Estimates, with shape (B, C, scale H, scale W), about in [0, 1].
        """
        x: Tensor = self.network(2 * y - 1).float()
        return (x + 1) / 2

    def forward(self, y: Tensor) -> Tensor:
        """Restores images.

        Arguments:
            y: Observed images in [0, 1], with shape (B, C, H, W).

        Returns:
            Estimates in [0, 1], with shape (B, C, scale H, scale W).

        Raises:
            ValueError: If the images have other channels than the restorer was made for.
        """
        if y.ndim != 4 or y.shape[1] != self.channels:
            raise ValueError(
                f"got images with shape {tuple(y.shape)}; this restorer takes (B, {self.channels}, H, W)"
            )
        return self.estimate(y).clamp(0, 1)
