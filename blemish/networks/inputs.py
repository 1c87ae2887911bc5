"""How networks of photographs read images: large enough, of three channels, normalised over ImageNet."""

from __future__ import annotations

from torch import Tensor

__all__ = ["check_size", "colour", "imagenet"]


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
