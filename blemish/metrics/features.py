r"""Features of images, in which sets of images are compared.

An extractor is a map :math:`\phi: [0, 1]^{C \times H \times W} \to R^D`. A distance means something
only together with its features, so that every extractor has a name to be written beside the number:

* ``effnet-lite0@64``: EfficientNet-Lite0 with its ImageNet weights, on images resized to 64 pixels,
  pooled over space, D = 1280. Its weights come in a package.
* ``inception@299`` and ``dinov2-vits14@224``: the features of published scores, whose weights are
  a download (:func:`~blemish.metrics.inception.inception`, :func:`~blemish.metrics.dino.dinov2`).
* ``cnn32-seed0``, or another name that was given: the penultimate layer of a small classifier of
  *clean* images, D = 32, so that a finite sample biases distances little. Each feature is
  standardised on the clean images: distances are in units of their variance.
* ``pixels@8``: the image itself, averaged over areas.

Any other module from images in [0, 1] to (B, D) becomes an extractor by
``Extractor(name, dimension, module)``.

What they see differs. On drawn letters, whose areas are flat, EfficientNet puts noise of 0.02 twice
as far from clean images as a strong blur; the classifier sees the blur and hardly the noise. Choose
by the damage that is studied, and keep one classifier (one seed) for all numbers of a comparison.

References:
    | EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan & Le, 2019)
    | https://arxiv.org/abs/1905.11946
    | On Aliased Resizing and Surprising Subtleties in GAN Evaluation (Parmar et al., 2022)
    | https://arxiv.org/abs/2104.11222
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Protocol, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.random import generator_for, rand, uniform
from ..networks.effnet import effnet_network
from .images import unit

__all__ = [
    "Extractor",
    "Features",
    "effnet_lite0",
    "extract",
    "pixels",
    "train_classifier",
]


class Features(Protocol):
    """A named feature extractor."""

    @property
    def name(self) -> str:
        """What is written beside a distance."""
        ...

    @property
    def dimension(self) -> int:
        """The number D of features."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Maps images in [0, 1], ``(B, C, H, W)``, to float32 features, ``(B, D)``."""
        ...


@final
class Extractor(nn.Module):
    """A frozen network with a name; gradients reach the images, never the weights.

    Arguments:
        name: What is written beside a distance.
        dimension: The number D of features.
        network: A module from images in [0, 1] to (B, D).
        resize: The size to which the network itself brings images, and how; it belongs to the
            protocol of a distance.
    """

    def __init__(
        self, name: str, dimension: int, network: nn.Module, resize: str = "images as they are"
    ) -> None:
        super().__init__()
        self.name = name
        self.dimension = dimension
        self.resize = resize
        self.network = network.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Computes features.

        Arguments:
            images: uint8 or in [0, 1], with shape (B, C, H, W).

        Returns:
            Features, float32, with shape (B, D).
        """
        features: Tensor = self.network(unit(images))
        return features.float()


def extract(features: Features, images: Tensor, batch: int = 32) -> Tensor:
    """Computes the features of many images, without gradients.

    Arguments:
        features: The extractor.
        images: uint8 or in [0, 1], with shape (N, C, H, W).
        batch: Images at a time. On a CPU 32 stays in the caches: measured 1.5 to 2 times as fast
            as 256; take more on a GPU.

    Returns:
        Features, float32, on the images' device, with shape (N, D).
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    if not len(images):
        return torch.empty(0, features.dimension, device=images.device)
    with torch.no_grad():
        return torch.cat([features(unit(part)) for part in torch.split(images, batch)])


def pixels(size: int = 8, channels: int = 1) -> Extractor:
    """Returns the pixels themselves as features, averaged over areas to size x size.

    Arguments:
        size: The side of the reduced image.
        channels: The channels of the images, 1 or 3.
    """
    network = nn.Sequential(nn.AdaptiveAvgPool2d(size), nn.Flatten())
    resize = f"{size}x{size}, averages over areas"
    return Extractor(f"pixels@{size}", channels * size * size, network, resize)


def effnet_lite0(size: int = 64) -> Extractor:
    """Returns the pooled features of EfficientNet-Lite0 with its ImageNet weights, D = 1280.

    Arguments:
        size: The side to which images are resized (bicubic, anti-aliased; any aspect becomes
            square). It is a part of the name.

    Raises:
        ModuleNotFoundError: If the packages with the network and its weights are not installed.
    """
    if size < 32:
        raise ValueError(f"size is {size}; the network halves it five times, so use at least 32")
    network = _EffNetLite(effnet_network(size), size)
    resize = f"{size}x{size}, bicubic with antialiasing"
    return Extractor(f"effnet-lite0@{size}", 1280, network, resize)


class _EffNetLite(nn.Module):
    def __init__(self, network: Any, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] not in (1, 3):
            raise ValueError(f"got images with {x.shape[1]} channels; effnet-lite0 takes 1 or 3")
        x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True)
        # It was trained on (byte - 127) / 128. Overshoot is clipped, as saving an image would.
        x = (x.clamp(0, 1).expand(-1, 3, -1, -1) * 255 - 127) / 128
        x = x.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.network.extract_features(x)
        return features.mean(dim=(2, 3))


def train_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    seed: int,
    steps: int = 600,
    batch: int = 64,
    name: str = "cnn32",
) -> Extractor:
    """Trains a small classifier of clean images and returns its penultimate layer, D = 32.

    The features are standardised on the images. They depend on the arguments alone, up to rounding
    where the number of threads differs.

    Arguments:
        images: Clean images, uint8, with shape (N, C, H, W); features are for this size only.
        labels: Classes 0, 1, ..., with shape (N,).
        seed: Determines the initial weights and the order of the images.
        steps: Iterations of Adam.
        batch: Images in an iteration.
        name: The name, to which the seed is appended, as another seed gives other features.
    """
    _check_labelled(images, labels, steps)
    generator = generator_for("classifier", seed)
    # Layers draw from the global generator when they are made; what they draw is replaced.
    with torch.random.fork_rng(devices=[]):
        network = _Classifier(images.shape[1], int(labels.max()) + 1, tuple(images.shape[2:]))
    _initialise(network, generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = (rand((batch,), generator) * len(images)).long()
        loss = F.cross_entropy(network.logits(unit(images[rows])), labels[rows].long())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    extractor = Extractor(f"{name}-seed{seed}", _Classifier.FEATURES, network)
    network.standardise(extract(extractor, images, 256))
    return extractor


class _Classifier(nn.Module):
    """Three convolutions with two poolings, a linear layer of 32 features, a linear classifier."""

    FEATURES = 32
    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, classes: int, size: tuple[int, ...], width: int = 24) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 2 * width)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)
        )
        cells = math.prod(math.ceil(side / 4) for side in size)
        self.linear = nn.Linear(widths[-1] * cells, self.FEATURES)
        self.classify = nn.Linear(self.FEATURES, classes)
        self.register_buffer("mean", torch.zeros(self.FEATURES))
        self.register_buffer("std", torch.ones(self.FEATURES))
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != self.size:
            raise ValueError(
                f"got images of {tuple(x.shape[2:])} pixels; "
                f"this classifier was trained on {self.size}, so resize them first"
            )
        return (self.embed(x) - self.mean) / self.std

    def embed(self, x: Tensor) -> Tensor:
        h = 2 * x - 1
        for i, conv in enumerate(self.convs):
            h = F.relu(conv(h))
            if i < 2:
                h = F.avg_pool2d(h, 2, ceil_mode=True)
        features: Tensor = self.linear(h.flatten(1))
        return features

    def logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classify(F.relu(self.embed(x)))
        return logits

    def standardise(self, features: Tensor) -> None:
        self.mean = features.mean(dim=0)
        self.std = features.std(dim=0).clamp(min=1e-6)


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    # He's initialisation, drawn here because torch's own draws from the global state.
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.zero_()
            else:
                bound = math.sqrt(6 / parameter[0].numel())
                parameter.copy_(uniform(parameter.shape, -bound, bound, generator))


def _check_labelled(images: Tensor, labels: Tensor, steps: int) -> None:
    if images.ndim != 4 or images.dtype != torch.uint8 or len(images) < 2:
        raise ValueError(
            f"got {images.dtype} images with shape {tuple(images.shape)}; "
            "give at least 2 as uint8 (N, C, H, W)"
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"got labels with shape {tuple(labels.shape)} for {len(images)} images; "
            "give one class for each image"
        )
    if int(labels.min()) < 0 or int(labels.min()) == int(labels.max()):
        raise ValueError("labels must be 0, 1, ... with at least two different classes")
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1")
