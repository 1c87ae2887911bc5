"""Pictures of other channels than a network's, and restorers for them.

A restorer of RGB gets a grey picture three times over, and what it makes of it becomes grey again by ITU-R BT.601,
Y = 0.299 R + 0.587 G + 0.114 B. A restorer of grey gets red, green and blue each by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..functional.stages import grey_of
from ..restorers import Restorer

__all__ = ["EachChannel", "GreyAsRGB", "recoloured", "tensor_of", "with_channels"]


@dataclass(frozen=True)
class _Adapted:
    # What a restorer declares holds for its adaptation, too.
    inner: Restorer

    @property
    def scale(self) -> int:
        """The factor by which images grow."""
        return self.inner.scale

    @property
    def receptive_field(self) -> int | None:
        """The side of the square of pixels that one pixel of the estimate depends on."""
        return self.inner.receptive_field

    @property
    def multiple(self) -> int:
        """What the corner of a part must be a multiple of."""
        return self.inner.multiple


@final
@dataclass(frozen=True)
class GreyAsRGB(_Adapted):
    """Restores grey images by a restorer of RGB.

    Attributes:
        inner: The restorer of RGB.
    """

    def __call__(self, y: Tensor) -> Tensor:
        """Restores images of shape (B, 1, H, W)."""
        return grey_of(self.inner(y.repeat_interleave(3, dim=1)))


@final
@dataclass(frozen=True)
class EachChannel(_Adapted):
    """Restores the channels of images each by itself, by a restorer of grey.

    Attributes:
        inner: The restorer of grey.
    """

    def __call__(self, y: Tensor) -> Tensor:
        """Restores images of shape (B, C, H, W)."""
        x = self.inner(y.flatten(0, 1).unsqueeze(1))
        return x.reshape(*y.shape[:2], *x.shape[2:])


def with_channels(restorer: Restorer, channels: int) -> Restorer:
    """Returns a restorer for images of so many channels.

    Arguments:
        restorer: A restorer; one with an attribute ``channels`` takes these only, others take any.
        channels: 1 for grey, 3 for RGB.

    Raises:
        ValueError: If neither is grey or RGB.
    """
    own = getattr(restorer, "channels", channels)
    if own == channels:
        return restorer
    if (own, channels) == (3, 1):
        return GreyAsRGB(restorer)
    if own == 1:
        return EachChannel(restorer)
    raise ValueError(
        f"images have {channels} channels, the restorer takes {own}; 1 and 3 are understood"
    )


def tensor_of(colours: np.ndarray[Any, Any], channels: int) -> Tensor:
    """Returns a picture's colours as a tensor of so many channels: grey as RGB, or the luma of RGB.

    Arguments:
        colours: The colours of a :class:`Picture`, with shape (H, W, 1 or 3).
        channels: 1 or 3.

    Returns:
        The colours with shape (1, channels, H, W), in the type that they have.
    """
    return recoloured(
        torch.from_numpy(np.ascontiguousarray(colours)).permute(2, 0, 1)[None], channels
    )


def recoloured(x: Tensor, channels: int) -> Tensor:
    """Returns images (B, C, H, W) with so many channels: grey as RGB, or the luma of RGB, rounded where they are whole."""
    if x.shape[1] == channels:
        return x
    if channels == 3:
        return x.repeat_interleave(3, dim=1)
    if x.is_floating_point():
        return grey_of(x)
    return grey_of(x.float()).round().to(x.dtype)
