"""The metrics as classes of torchmetrics: update with batches, compute at the end, over processes.

::

    from blemish.metrics import effnet_lite0
    from blemish.metrics.classes import PSNR, FrechetDistance

    distance = FrechetDistance(effnet_lite0())
    distance.update(clean, real=True)
    distance.update(samples, real=False)
    print(distance.title, float(distance.compute()))

A class keeps what its function needs, and its state after several processes (or ``merge_state``) is
that of one process that saw all images: the Fréchet distance keeps moments, merged about their means
in float64, so that a large offset of the features costs no digits; the kernel distance and the
manifold scores keep every feature, float32, 5 KB for an image at D = 1280; scores of pairs and of
single images keep a sum and a count, and are the mean over images (infinite PSNR for an equal pair
makes the mean infinite).

``forward`` scores its own batch alone, so that for distances between sets, whose update sees one side
at a time, there is only ``update`` and then ``compute``. In a ``MetricCollection`` the kernel distance
and the manifold scores on one extractor share their features; it tells that from the states after the
first batch, for which reason those of means carry their titles in their names.

States and scores are float64, which Apple's GPUs lack: leave the metrics on the CPU there. The
features of images are computed where the extractor is, which follows the metric when that is moved.
An extractor is no submodule: a model that holds a metric neither trains, casts nor saves its network.

This module imports torchmetrics, which takes a second, and nothing in the package imports this
module. If torch-fidelity is installed and torchvision is not, torchmetrics itself fails to import
(RuntimeError or ImportError): uninstall torch-fidelity, or use the functions, which need neither.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from .dists import DISTSNetwork, dists
from .features import Features, extract
from .fidelity import Space, check_protocol, ms_ssim, psnr, ssim
from .frechet import Moments, frechet_distance, merge_moments, pack_moments
from .images import unit
from .kernel import check_subsets, kid, kid_subsets
from .lpips import LPIPSNetwork, lpips
from .manifold import check_k, manifold
from .niqe import NIQEModel, niqe
from .perceptual import PerceptualNetwork, perceptual
from .rankiqa import RankIQANetwork, rankiqa
from .titles import fidelity_title, frechet_title, kernel_title, manifold_title, rank_title

__all__ = [
    "DISTS",
    "LPIPS",
    "MSSSIM",
    "NIQE",
    "PSNR",
    "SSIM",
    "FrechetDistance",
    "KernelDistance",
    "Manifold",
    "Perceptual",
    "RankIQA",
]

_Side = Literal["real", "fake"]


class _Distance(Metric):
    # Two sets of images, compared by their features.
    is_differentiable = False
    full_state_update = False

    def __init__(self, features: Features, batch: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Within a tuple the network is hidden from nn.Module.
        self._features = (features,)
        self._batch = batch

    @property
    def features(self) -> Features:
        """The feature extractor."""
        return self._features[0]

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """The honest name of the score, with its features."""

    def update(self, images: Tensor, real: bool) -> None:
        """Takes in images of one side.

        Arguments:
            images: uint8 or in [0, 1], with shape (B, C, H, W).
            real: Whether they are real (clean), or else generated.

        Raises:
            ValueError: If a value is not finite.
        """
        _check_finite(images)
        features = extract(self.features, images, self._batch).to(self.device)
        self._take("real" if real else "fake", features)

    @abc.abstractmethod
    def _take(self, side: _Side, features: Tensor) -> None: ...

    def _require(self, real: int, fake: int, least: int) -> None:
        if min(real, fake) < least:
            raise ValueError(
                f"{self.title} saw {real} real and {fake} generated images; "
                f"it needs at least {least} of each"
            )

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> nn.Module:
        moved = super()._apply(fn, exclude_state)
        if isinstance(self.features, nn.Module):
            self.features.to(self.device)
        return moved


class _Bank(_Distance):
    # Every feature of both sides, in lists that are concatenated over processes.
    real: list[Tensor] | Tensor
    fake: list[Tensor] | Tensor

    def __init__(self, features: Features, batch: int, **kwargs: Any) -> None:
        super().__init__(features, batch, **kwargs)
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("fake", default=[], dist_reduce_fx="cat")

    def _take(self, side: _Side, features: Tensor) -> None:
        getattr(self, side).append(features)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gathers the features of all processes; see torchmetrics."""
        # torchmetrics sends a vector for an empty list, which ends all where others send matrices.
        for side in (self.real, self.fake):
            if isinstance(side, list) and not side:
                side.append(torch.empty(0, self.features.dimension, device=self.device))
        super().sync(*args, **kwargs)

    def _both(self, least: int) -> tuple[Tensor, Tensor]:
        real, fake = (_joined(side, self.features.dimension) for side in (self.real, self.fake))
        self._require(len(real), len(fake), least)
        return real, fake


@final
class FrechetDistance(_Distance):
    """The Fréchet distance of real and generated images; FID on features named ``inception@299``.

    Arguments:
        features: The feature extractor.
        batch: Images whose features are computed at a time; take more than 32 on a GPU.
        kwargs: Of :class:`torchmetrics.Metric`.
    """

    higher_is_better = False
    real: Tensor
    fake: Tensor

    def __init__(self, features: Features, *, batch: int = 32, **kwargs: Any) -> None:
        super().__init__(features, batch, **kwargs)
        nothing = pack_moments(torch.empty(0, features.dimension))
        self.add_state("real", nothing, dist_reduce_fx=merge_moments)
        self.add_state("fake", nothing, dist_reduce_fx=merge_moments)

    @property
    def title(self) -> str:
        """The honest name of the score, with its features."""
        return frechet_title(self.features.name)

    def _take(self, side: _Side, features: Tensor) -> None:
        both = torch.stack([getattr(self, side), pack_moments(features)])
        setattr(self, side, merge_moments(both))

    def compute(self) -> Tensor:
        """Returns the distance, float64, a scalar; it needs 2 images of each side."""
        real, fake = Moments.unpack(self.real), Moments.unpack(self.fake)
        self._require(real.count, fake.count, 2)
        return _score(frechet_distance(real.mean, real.cov, fake.mean, fake.cov), self.device)


@final
class KernelDistance(_Bank):
    """The kernel distance (MMD²) of real and generated images; KID on ``inception@299``.

    Arguments:
        features: The feature extractor.
        subsets: The number of random subsets to average over; None computes with all images, which
            estimates the same with less variance.
        subset_size: The images in a subset.
        seed: Determines the subsets, together with the order of the images: after several processes
            it is another one.
        batch: Images whose features are computed at a time; take more than 32 on a GPU.
        kwargs: Of :class:`torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(
        self,
        features: Features,
        *,
        subsets: int | None = None,
        subset_size: int = 1000,
        seed: int = 0,
        batch: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(features, batch, **kwargs)
        if subsets is not None:
            check_subsets(subsets, subset_size)
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    @property
    def title(self) -> str:
        """The honest name of the score, with its features."""
        return kernel_title(self.features.name)

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Returns the distance, float64, a scalar; with subsets ``kernel_distance`` and ``..._std``."""
        if self.subsets is None:
            return _score(kid(*self._both(2)), self.device)
        sets = self._both(self.subset_size)
        result = kid_subsets(
            *sets, subsets=self.subsets, subset_size=self.subset_size, seed=self.seed
        )
        return {
            "kernel_distance": _score(result.mean, self.device),
            "kernel_distance_std": _score(result.std, self.device),
        }


@final
class Manifold(_Bank):
    """Precision, recall, density and coverage of generated images.

    Arguments:
        features: The feature extractor.
        k: The neighbour that a ball reaches to.
        batch: Images whose features are computed at a time; take more than 32 on a GPU.
        kwargs: Of :class:`torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, features: Features, *, k: int = 5, batch: int = 32, **kwargs: Any) -> None:
        super().__init__(features, batch, **kwargs)
        check_k(k)
        self.k = k

    @property
    def title(self) -> str:
        """The honest name of the score, with its features."""
        return manifold_title(self.features.name, self.k)

    def compute(self) -> dict[str, Tensor]:
        """Returns ``precision``, ``recall``, ``density`` and ``coverage``, float64 scalars."""
        scores = manifold(*self._both(self.k + 1), k=self.k)
        return {
            name: _score(value, self.device) for name, value in dataclasses.asdict(scores).items()
        }


class _Mean(Metric):
    # The mean over images of a function with one value for each.
    is_differentiable = False
    full_state_update = False
    count: Tensor

    def __init__(self, title: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._title = title
        # MetricCollection would take scores of equal states and names for one.
        self._sum = "sum_" + re.sub(r"\W+", "_", title)
        self.add_state(self._sum, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    @property
    def title(self) -> str:
        """The honest name of the score, with its protocol or the weights that made it."""
        return self._title

    def compute(self) -> Tensor:
        """Returns the mean over images, float64, a scalar."""
        if not self.count:
            raise ValueError(f"{self.title} saw 0 images; it needs at least 1")
        mean: Tensor = getattr(self, self._sum) / self.count
        return mean

    def _add(self, values: Tensor) -> None:
        total = values.detach().double().sum().to(self.device)
        setattr(self, self._sum, getattr(self, self._sum) + total)
        self.count = self.count + len(values)


class _Pairs(_Mean):
    # Of pairs of images.
    def __init__(self, title: str, function: Callable[..., Tensor], **kwargs: Any) -> None:
        super().__init__(title, **kwargs)
        self._function = function

    @torch.no_grad()
    def update(self, x: Tensor, y: Tensor) -> None:
        """Takes in pairs of images.

        Arguments:
            x: Images, uint8 or in [0, 1], with shape (B, C, H, W).
            y: Images to compare with, of the same shape.

        Raises:
            ValueError: If a value is not finite, or the function refuses the images.
        """
        _check_finite(x)
        _check_finite(y)
        self._add(self._function(x, y))


class _Fidelity(_Pairs):
    higher_is_better = True

    def __init__(
        self, name: str, function: Callable[..., Tensor], space: Space, crop: int, **kwargs: Any
    ) -> None:
        check_protocol(space, crop)
        compare = functools.partial(function, space=space, crop=crop)
        super().__init__(fidelity_title(name, space, crop), compare, **kwargs)


@final
class PSNR(_Fidelity):
    """The mean peak signal-to-noise ratio in dB.

    Arguments:
        space: ``rgb`` for the channels as they are, ``y`` for the luma of RGB images.
        crop: Pixels left out at each side.
        kwargs: Of :class:`torchmetrics.Metric`.
    """

    def __init__(self, *, space: Space = "rgb", crop: int = 0, **kwargs: Any) -> None:
        super().__init__("PSNR", psnr, space, crop, **kwargs)


@final
class SSIM(_Fidelity):
    """The mean structural similarity, of images of at least 11x11 pixels.

    Arguments:
        space: ``rgb`` for the channels as they are, ``y`` for the luma of RGB images.
        crop: Pixels left out at each side.
        kwargs: Of :class:`torchmetrics.Metric`.
    """

    def __init__(self, *, space: Space = "rgb", crop: int = 0, **kwargs: Any) -> None:
        super().__init__("SSIM", ssim, space, crop, **kwargs)


@final
class MSSSIM(_Fidelity):
    """The mean structural similarity over five scales, of images of at least 176x176 pixels.

    Arguments:
        space: ``rgb`` for the channels as they are, ``y`` for the luma of RGB images.
        crop: Pixels left out at each side.
        kwargs: Of :class:`torchmetrics.Metric`.
    """

    def __init__(self, *, space: Space = "rgb", crop: int = 0, **kwargs: Any) -> None:
        super().__init__("MS-SSIM", ms_ssim, space, crop, **kwargs)


@final
class LPIPS(_Pairs):
    """The mean learned perceptual distance; named so on the published weights alone.

    Arguments:
        network: The backbone and its heads; images are compared on its device.
        kwargs: Of :class:`torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, network: LPIPSNetwork, **kwargs: Any) -> None:
        super().__init__(network.name, functools.partial(lpips, network=network), **kwargs)


@final
class DISTS(_Pairs):
    """The mean distance in structure and texture; named so on the published weights alone.

    Arguments:
        network: The network and its weights; images are compared on its device.
        kwargs: Of :class:`torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, network: DISTSNetwork, **kwargs: Any) -> None:
        super().__init__(network.name, functools.partial(dists, network=network), **kwargs)


@final
class Perceptual(_Pairs):
    """The mean distance in the activations of EfficientNet-Lite0.

    Arguments:
        network: The network; images are compared on its device.
        kwargs: Of :class:`torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, network: PerceptualNetwork, **kwargs: Any) -> None:
        super().__init__(network.name, functools.partial(perceptual, network=network), **kwargs)


@final
class NIQE(_Mean):
    """The mean distance from natural images; named so with the published Gaussian alone.

    Arguments:
        model: The Gaussian of natural images.
        kwargs: Of :class:`torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, model: NIQEModel, **kwargs: Any) -> None:
        super().__init__(model.name, **kwargs)
        self._model = model

    def update(self, images: Tensor) -> None:
        """Takes in images.

        Arguments:
            images: uint8 or in [0, 1], large enough for two blocks, with shape (B, C, H, W).

        Raises:
            ValueError: If a value is not finite, or an image is too small.
        """
        _check_finite(images)
        self._add(niqe(images, self._model))


@final
class RankIQA(_Mean):
    """The mean over images of what random crops of each are given.

    Arguments:
        network: The network.
        resize: The side to which images are brought before, 256 in the paper; None takes them as they are.
        statistic: What is taken of an image's crops.
        crops: The crops of an image.
        seed: Determines where they lie.
        kwargs: Of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If the statistic is unknown.
    """

    higher_is_better = False

    def __init__(
        self,
        network: RankIQANetwork,
        *,
        resize: int | None = None,
        statistic: Literal["mean", "median"] = "mean",
        crops: int = 100,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if statistic not in ("mean", "median"):
            raise ValueError(f"statistic={statistic!r} is not known; choose mean or median")
        super().__init__(rank_title(network.name, resize, statistic), **kwargs)
        self._statistic = statistic
        self._function = functools.partial(
            rankiqa, network=network, resize=resize, crops=crops, seed=seed
        )

    def update(self, images: Tensor) -> None:
        """Takes in images.

        Arguments:
            images: uint8 or in [0, 1], of at least 224x224 pixels unless they are resized, with shape
                (B, C, H, W).

        Raises:
            ValueError: If a value is not finite, or an image is too small.
        """
        _check_finite(images)
        self._add(getattr(self._function(images), self._statistic))


def _check_finite(images: Tensor) -> None:
    if not images.is_floating_point():
        return
    finite = unit(images).isfinite().flatten(1).all(dim=1)
    if not finite.all():
        raise ValueError(
            f"{int((~finite).sum())} of {len(images)} images are not finite; "
            "check the model that made them"
        )


def _joined(features: list[Tensor] | Tensor, dimension: int) -> Tensor:
    # After a sync torchmetrics leaves one tensor, before it a list.
    if isinstance(features, Tensor):
        return features
    return torch.cat(features) if features else torch.empty(0, dimension)


def _score(value: float, device: torch.device) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device=device)
