"""How the metrics read images: bytes are divided by 255, floating values are taken as they are.

Networks of colour images read a grey image as three equal channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

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


def check_size(images: Tensor, least: int, what: str) -> None:
    """Refuses images that are too small.

    Arguments:
        images: Images, with shape (B, C, H, W).
        least: The least side in pixels.
        what: Who needs it, with the verb, for the message: "SSIM's window needs".

    Raises:
        ValueError: If a side is shorter.
    """
    if min(images.shape[-2:]) < least:
        raise ValueError(
            f"got images of {images.shape[-2]}x{images.shape[-1]} pixels; "
            f"{what} at least {least}x{least}"
        )


def colour(images: Tensor, reader: str) -> Tensor:
    """Returns images of three channels, grey ones as three equal channels, with shape (B, 3, H, W).

    Arguments:
        images: Images of 1 or 3 channels, with shape (B, C, H, W).
        reader: Who asks, for the message.

    Raises:
        ValueError: If there is another number of channels.
    """
    if images.shape[1] not in (1, 3):
        raise ValueError(f"got images with {images.shape[1]} channels; {reader} takes 1 or 3")
    return images.expand(-1, 3, -1, -1)


def imagenet(images: Tensor) -> Tensor:
    """Returns images of mean 0 and deviation 1 in each channel over ImageNet.

    Arguments:
        images: In [0, 1], with shape (B, 3, H, W).
    """
    mean = images.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = images.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return (images - mean) / std
