"""Features of sets of images, kept on disk under the digest of the images.

Extracting features is what takes the time of an evaluation, and a reference is compared with again and
again. The digest is of the bytes of all images as they are compared, after cropping or resizing; so a
file under a known name with other images in it is another set.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..metrics import Extractor, extract
from .sets import ImageSet

__all__ = ["FeatureCache", "default_folder"]

VERSION = 1
"""Raised when the extractors give other features for the same images."""

_KEPT = 2**28
"""Bytes of images that are kept between the two passes over a set: its digest, its features."""


def default_folder() -> Path:
    """Returns where features are kept: ``BLEMISH_CACHE``, else ``blemish`` in the user's cache."""
    given = os.environ.get("BLEMISH_CACHE")
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "blemish"


class FeatureCache:
    """Features of sets.

    Arguments:
        folder: Where they are kept; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def features(
        self,
        images: ImageSet,
        extractor: Extractor,
        *,
        device: torch.device | str = "cpu",
        progress: Callable[[int, int], object] | None = None,
    ) -> Tensor:
        """Returns the features of a set, float32, on the CPU, with shape (N, D).

        Arguments:
            images: The images.
            extractor: What extracts them, on the device.
            device: Where they are computed.
            progress: Called with the numbers of images done and to be done.
        """
        if self.folder is None:
            return _extracted(images, extractor, device, progress)
        batches = _Kept(images)
        digest = hashlib.sha256(repr((VERSION, images.shape, images.count)).encode())
        for batch in batches:
            digest.update(batch.contiguous().numpy().tobytes())
        name = re.sub(r"[^A-Za-z0-9.@-]+", "-", extractor.name)
        file = self.folder / f"{digest.hexdigest()[:32]}-{name}.safetensors"
        found = _load(file, (images.count, extractor.dimension))
        if found is None:
            again = ImageSet(images.title, images.count, images.shape, batches.__iter__)
            found = _extracted(again, extractor, device, progress)
            _save(file, found)
        return found


class _Kept:
    """The batches of a set, kept in memory if they are few."""

    def __init__(self, images: ImageSet) -> None:
        channels, height, width = images.shape
        self.images = images
        self.small = images.count * channels * height * width <= _KEPT
        self.batches: list[Tensor] = []

    def __iter__(self) -> Iterator[Tensor]:
        if self.batches:
            yield from self.batches
            return
        for batch in self.images.batches():
            if self.small:
                self.batches.append(batch)
            yield batch


def _extracted(
    images: ImageSet,
    extractor: Extractor,
    device: torch.device | str,
    progress: Callable[[int, int], object] | None,
) -> Tensor:
    found, done = [], 0
    for batch in images.batches():
        found.append(extract(extractor, batch.to(device)).cpu())
        done += len(batch)
        if progress is not None:
            progress(done, images.count)
    return torch.cat(found)


def _load(file: Path, shape: tuple[int, int]) -> Tensor | None:
    """Returns kept features; a file that was damaged is as good as none."""
    if not file.is_file():
        return None
    try:
        found = load_file(file).get("features")
    except SafetensorError:
        return None
    return found if found is not None and tuple(found.shape) == shape else None


def _save(file: Path, features: Tensor) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.part")
    save_file({"features": features.contiguous()}, temporary)
    temporary.replace(file)
