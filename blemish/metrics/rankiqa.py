r"""RankIQA: the quality of one image as a network has learned to rank it, without a reference.

VGG-16 with a single output is trained to put images that were damaged more behind those damaged less, then fitted to
people's judgement. It takes crops of 224x224 pixels, their channels in the order blue, green, red and from 0 to 255, with
nothing subtracted, and its layers are fully connected to the whole crop, so that no other size fits. With the weights
that were fitted to LIVE a score lies about between 0 and 100, and smaller is better.

*Two forms.* An image is judged by the mean and the median of 100 random crops; that looks at pieces of a large image. Resized
to 256x256 before, bicubically with antialiasing, a crop has most of the image, at a scale near that of the training. The
crops lie at places that follow from the seed and the size alone: of two restorations of an image the same
pieces are compared.

*What it says.* It judges looks, not fidelity: in the paper that this form is taken from, restorations score better than the
originals. Stand a fidelity beside it.

*Names.* There is no score without weights, and these are not published under a digest that is known here: the first eight
digits of the file's stand in the name, ``RankIQA (weights 01234567)``. A network that was put together otherwise
gives ``RankIQA-like`` scores.

References:
    | RankIQA: Learning from Rankings for No-reference Image Quality Assessment (Liu et al., 2017)
    | https://arxiv.org/abs/1707.08347
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning (Han et al., 2021), Table 2
    | https://arxiv.org/abs/2103.03010
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.random import generator_for, rand
from ..functional.resample import bicubic
from ..networks.vgg import VGG16
from ..networks.weights import Weights, read_weights
from .images import check_size, colour, unit

__all__ = ["RankIQANetwork", "RankIQAScores", "rankiqa", "rankiqa_network"]

_SIDE = 224
_GRID = _SIDE // 32
_AT_ONCE = 10
"""Crops in the network at a time."""

_LAYERS = {
    **{
        f"conv{group}_{place}": f"backbone.features.{number}"
        for group, numbers in enumerate(VGG16.GROUPS, 1)
        for place, number in enumerate(numbers, 1)
    },
    **{f"fc{n}": f"fc{n}" for n in (6, 7, 8)},
}
"""Caffe's names of the layers, and ours."""

_NAMES = {
    r"features\.(\d+)": r"backbone.features.\1",
    r"classifier\.0": "fc6",
    r"classifier\.3": "fc7",
    r"classifier\.6": "fc8",
    r"(?:features\.|classifier\.)?(conv\d_\d|fc\d)(?:_m)?": "",
}
"""The names of layers in files: torchvision's, then Caffe's, as they are and as parts of the PyTorch port's module."""


@dataclass(frozen=True)
class RankIQAScores:
    """What the crops of each image were given, smaller for better ones.

    Attributes:
        mean: Their mean, with shape (B,).
        median: Their median, the mean of the middle two of an even number, with shape (B,).
    """

    mean: Tensor
    median: Tensor


@final
class RankIQANetwork(nn.Module):
    """VGG-16 with one output, frozen.

    Arguments:
        backbone: Its convolutions.
        layers: The three fully connected layers behind them, the last with one output.
        name: What is written beside a score.

    Raises:
        ValueError: If the layers do not fit together, or give more than one number.
    """

    def __init__(
        self, backbone: VGG16, layers: Sequence[nn.Linear], name: str = "RankIQA-like"
    ) -> None:
        super().__init__()
        widths = [backbone.channels[-1] * _GRID**2, *(layer.out_features for layer in layers)]
        inputs = [layer.in_features for layer in layers]
        if len(layers) != 3 or inputs != widths[:-1] or widths[-1] != 1:
            raise ValueError(
                f"got layers of {inputs} inputs and {widths[1:]} outputs; three are needed that fit together, "
                f"from {widths[0]} inputs to one output"
            )
        self.name = name
        self.backbone = backbone
        self.fc6, self.fc7, self.fc8 = layers
        self.eval().requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        """The type in which a score is computed, that of the weights."""
        dtype: torch.dtype = self.fc8.weight.dtype
        return dtype

    def forward(self, x: Tensor) -> Tensor:
        """Returns the score of each crop, with shape (B,).

        Arguments:
            x: Crops in [0, 1], with shape (B, C, 224, 224), C = 1 or 3.

        Raises:
            ValueError: If they have another size.
        """
        if x.shape[-2:] != (_SIDE, _SIDE):
            raise ValueError(
                f"got crops of {x.shape[-2]}x{x.shape[-1]} pixels; {self.name} takes {_SIDE}x{_SIDE}, "
                "which rankiqa() cuts out of larger images"
            )
        h = self.backbone(255 * colour(x, self.name).flip(1))[-1]
        h = F.max_pool2d(h, 2).flatten(1)
        h = F.relu(self.fc7(F.relu(self.fc6(h))))
        scores: Tensor = self.fc8(h)
        return scores.squeeze(1)


@torch.no_grad()
def rankiqa(
    images: Tensor,
    network: RankIQANetwork,
    *,
    resize: int | None = None,
    crops: int = 100,
    seed: int = 0,
) -> RankIQAScores:
    """Returns the scores of random crops of each image.

    Arguments:
        images: uint8 or in [0, 1], of at least 224x224 pixels unless they are resized, with shape (B, C, H, W),
            C = 1 or 3.
        network: The network; its name is that of the scores, and its type theirs.
        resize: The side to which images are brought before, 256 in the paper; None takes them as they are.
        crops: The crops of an image.
        seed: Determines where they lie.

    Raises:
        ValueError: If an image is too small, or there is no crop.
    """
    if crops < 1:
        raise ValueError(f"crops={crops}; an image is judged by at least 1")
    x = unit(images, network.dtype)
    if resize is not None:
        x = bicubic(x, resize).clamp(0, 1)
    check_size(x, _SIDE, f"{network.name} without resize=256 needs")
    corners = _corners(x.shape[-2], x.shape[-1], crops, seed)
    table = torch.stack([_score(image, corners, network) for image in x])
    # The quantile is the mean of the middle two, where torch's median is the lower one.
    return RankIQAScores(table.mean(dim=1), table.quantile(0.5, dim=1))


def rankiqa_network(path: Path | str) -> RankIQANetwork:
    """Reads the network of RankIQA.

    Arguments:
        path: The published weights as tensors by name, in a file of torch's or safetensors: by Caffe's names of the
            layers, alone or as parts of the PyTorch port's module, or by torchvision's. Sizes of 1 that Caffe puts
            before those of a layer are left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds other tensors.
    """
    weights = read_weights(path)
    weights = replace(weights, tensors=_renamed(weights))
    hidden = [len(weights.require(f"fc{n}.bias", (None,))) for n in (6, 7)]
    channels = [
        len(weights.require(f"backbone.features.{group[-1]}.bias", (None,)))
        for group in VGG16.GROUPS
    ]
    name = f"RankIQA (weights {weights.short})"
    return weights.build(functools.partial(_network, channels, hidden, name))


def _network(channels: Sequence[int], hidden: Sequence[int], name: str) -> RankIQANetwork:
    widths = [channels[-1] * _GRID**2, *hidden, 1]
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    return RankIQANetwork(VGG16(channels), layers, name)


def _renamed(weights: Weights) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for old, tensor in weights.tensors.items():
        name = _ours(old)
        if name in tensors:
            raise ValueError(f"{weights.source} has {name!r} twice, as {old!r}, too")
        if not tensor.is_floating_point():
            raise ValueError(
                f"{old!r} of {weights.source} holds {tensor.dtype}; give floating weights"
            )
        kernel = 4 if "features" in name else 2
        tensors[name] = _without_ones(tensor, 1 if name.endswith("bias") else kernel).float()
    return tensors


def _ours(name: str) -> str:
    layer, dot, kind = name.rpartition(".")
    for pattern, ours in _NAMES.items():
        if found := re.fullmatch(pattern, layer):
            return (found.expand(ours) if ours else _LAYERS.get(found[1], layer)) + dot + kind
    return name


def _without_ones(tensor: Tensor, rank: int) -> Tensor:
    while tensor.ndim > rank and tensor.shape[0] == 1:
        tensor = tensor[0]
    return tensor


def _corners(height: int, width: int, crops: int, seed: int) -> list[tuple[int, int]]:
    """Returns the upper left corners of crops, all places with the same chance; of more, the first are the same."""
    places = torch.tensor([height - _SIDE + 1, width - _SIDE + 1])
    corners = (rand((crops, 2), generator_for("rankiqa", seed)) * places).int()
    return [(i, j) for i, j in corners.tolist()]


def _score(image: Tensor, corners: Sequence[tuple[int, int]], network: RankIQANetwork) -> Tensor:
    """Returns the scores of an image's crops, (C, H, W) to (crops,)."""
    cuts = [image[:, i : i + _SIDE, j : j + _SIDE] for i, j in corners]
    parts = [cuts[k : k + _AT_ONCE] for k in range(0, len(cuts), _AT_ONCE)]
    return torch.cat([network(torch.stack(part)) for part in parts])
