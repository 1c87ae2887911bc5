"""How the metrics read images: bytes are divided by 255, floating values are taken as they are.

Networks of colour images read a grey image as three equal channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks.inputs import check_size, colour, imagenet

__all__ = ["check_size", "colour", "imagenet", "pair", "unit"]


def unit(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns images on the [0, 1] scale.

    Arguments:
        images: uint8 in [0, 255] or floating in [0, 1], with shape (B, C, H, W).
        dtype: The floating type of the result.

    Raises:
        ValueError: If the images have another rank.
        TypeError: If they are neither uint8 nor floating.
    """
    if images.ndim != 4:
        raise ValueError(
            f"got images with shape {tuple(images.shape)}; metrics take (B, C, H, W): "
            "add the missing dimensions with images[None]"
        )
    if images.dtype == torch.uint8:
        return images.to(dtype) / 255
    if not images.is_floating_point():
        raise TypeError(
            f"got images of type {images.dtype}; give uint8 in [0, 255] or floats in [0, 1]"
        )
    return images.to(dtype)


def pair(x: Tensor, y: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Returns two batches of one shape on the [0, 1] scale.

    Arguments:
        x: Images, uint8 or in [0, 1], with shape (B, C, H, W).
        y: Images to compare with, of the same shape.
        dtype: The floating type of the result.

    Raises:
        ValueError: If the shapes differ.
    """
    if x.shape != y.shape:
        raise ValueError(
            f"got shapes {tuple(x.shape)} and {tuple(y.shape)}; "
            "an image can only be compared with one of the same shape"
        )
    return unit(x, dtype), unit(y, dtype)
