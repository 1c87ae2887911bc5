r"""The features of DINOv2, D = 384, 768 or 1024: a class token that no labels shaped.

Distances in them agree better with people's judgement of generated images than those in Inception's,
which look at the classes of ImageNet. The image is resized to 224 pixels (bicubic, anti-aliased, any
aspect becomes square; overshoot is clipped as in a saved image) and normalised by the mean and the
deviation of ImageNet.

The name is ``dinov2-vits14@224`` (or ``vitb14``, ``vitl14``) with the published files and
``dinov2-like-XXXXXXXX@224``, after the digest of the file, with others.

References:
    | DINOv2: Learning Robust Visual Features without Supervision (Oquab et al., 2024)
    | https://arxiv.org/abs/2304.07193
    | Exposing Flaws of Generative Model Evaluation Metrics and Their Unfair Treatment of Diffusion
      Models (Stein et al., 2023)
    | https://arxiv.org/abs/2306.04675
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

from torch import Tensor, nn

from ..functional.resample import bicubic
from ..networks.vit import DINOv2
from ..networks.weights import Weights, read_weights
from .features import Extractor
from .images import colour, imagenet

__all__ = ["dinov2"]

_PUBLISHED = {
    "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9": "dinov2-vits14",
    "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73": "dinov2-vitb14",
    "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428": "dinov2-vitl14",
}
_SIZE = 224


def dinov2(weights: Path | str) -> Extractor:
    """Returns the class tokens of DINOv2.

    Arguments:
        weights: The published file ``dinov2_vits14_pretrain.pth`` (or ``vitb14``, ``vitl14``), or
            other weights of that architecture; its width, depth and patches are read off them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds other tensors than those of the network, as the files with registers
            and the giant one do.
    """
    given = read_weights(weights)
    width, depth, patch, grid = _sizes(given)
    # The token that hides patches in training is of no use here.
    network = given.build(
        lambda: DINOv2(width, depth, patch=patch, grid=grid), ignore=("mask_token",)
    )
    name = _PUBLISHED.get(given.sha256, f"dinov2-like-{given.short}")
    resize = f"{_SIZE}x{_SIZE}, bicubic with antialiasing"
    return Extractor(f"{name}@{_SIZE}", width, _Prepared(network), resize)


def _sizes(given: Weights) -> tuple[int, int, int, int]:
    # Width, depth, the side of a patch in pixels, the side of the table in patches.
    width, _, patch, _ = given.require("patch_embed.proj.weight", (None, 3, None, None)).shape
    places = given.require("pos_embed", (1, None, width)).shape[1] - 1
    if _SIZE % patch or math.isqrt(places) ** 2 != places:
        raise ValueError(
            f"{given.source} has patches of {patch} pixels and {places} positions; patches must "
            f"divide {_SIZE} and positions be a square, as in the published files"
        )
    depth = next(i for i in itertools.count() if f"blocks.{i}.norm1.weight" not in given.tensors)
    return width, depth, patch, math.isqrt(places)


class _Prepared(nn.Module):
    def __init__(self, network: DINOv2) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        x = bicubic(colour(x, "dinov2"), _SIZE).clamp(0, 1)
        features: Tensor = self.network(imagenet(x))
        return features
