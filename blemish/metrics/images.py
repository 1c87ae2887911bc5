"""How the metrics read images: bytes are divided by 255, floating values are taken as they are."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["unit"]


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
