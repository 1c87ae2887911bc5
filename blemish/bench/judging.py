r"""How restored images are judged where there is a truth, and clean images of other scenes.

With the true image x, the restored one x', the damage f and all that was drawn of it, ε,

.. math:: \text{accuracy} = d(x', x), \quad \text{fidelity} = d(f(x', \varepsilon), f(x, \varepsilon)),

as files hold damaged images; *realism*, a Fréchet distance of patches of x' to those of other clean images; PSNR and
SSIM. Distance and features are those of EfficientNet-Lite0 where it is installed and images are large enough; a cell
names what was measured.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

from ..degradations import to_uint8
from ..functional.random import generator_for, rand
from ..losses import Distance, texture_distance
from ..metrics import Features, effnet_lite0, perceptual, perceptual_network, pixels
from .cells import clean_images

__all__ = ["digest_of", "distance_for", "features_for", "patches", "picked"]

_PATCHES = 16
"""Patches of each image, of half its side, on which realism is measured."""

_OTHERS = 8
"""Clean images that realism is measured against, at most, for each restored one."""


def picked(source: str, side: int, channels: int, count: int) -> tuple[Tensor, Tensor]:
    """Picks images of a source at random: those that are damaged and restored, and others.

    Arguments:
        source: Clean images.
        side: The side that they are brought to.
        channels: The channels that they are brought to.
        count: How many are restored.

    Returns:
        Both in [0, 1], with shape (N, C, side, side).

    Raises:
        ValueError: If there are too few images.
    """
    images = clean_images(source, side, channels)
    if len(images) <= count:
        raise ValueError(
            f"{source} has {len(images)} images; give more than the {count} restored, as realism is measured "
            "against others, or a smaller --count"
        )
    order = torch.randperm(len(images), generator=generator_for("images"))
    clean, others = images[order[:count]], images[order[count : (1 + _OTHERS) * count]]
    return clean.float() / 255, others.float() / 255


# Their networks are loaded once in each process.
@lru_cache(maxsize=1)
def distance_for(side: int) -> tuple[str, Distance]:
    """Returns a distance for images of a side, and its name."""
    try:
        network = perceptual_network()
    except ModuleNotFoundError:
        return "distance of textures", texture_distance
    if side < network.SMALLEST:
        return "distance of textures", texture_distance
    return network.name, lambda x, y: perceptual(x, y, network)


@lru_cache(maxsize=1)
def features_for(channels: int) -> Features:
    """Returns what patches are compared on."""
    try:
        return effnet_lite0(64)
    except ModuleNotFoundError:
        return pixels(8, channels)


def patches(images: Tensor) -> Tensor:
    """Cuts squares of half the side out of images, at places that depend on the image's number alone."""
    side = images.shape[-1] // 2
    found = []
    for i, image in enumerate(images):
        places = (rand((_PATCHES, 2), generator_for("patch", i)) * (side + 1)).long()
        found += [image[:, a : a + side, b : b + side] for a, b in places.tolist()]
    return torch.stack(found)


def digest_of(*images: Tensor) -> str:
    """Returns 16 hexadecimal digits that tell sets of images from others."""
    found = hashlib.sha256()
    for some in images:
        found.update(to_uint8(some).numpy().tobytes())
    return found.hexdigest()[:16]
