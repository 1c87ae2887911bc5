"""Features of sets of images, kept on disk under the digest of the images.

Extracting features is what takes the time of an evaluation, and a reference is compared with again and
again. The digest is of the bytes of all images as they are compared, after cropping or resizing; so a
file under a known name with other images in it is another set. Each file carries the digest of its
features, too: one that was damaged is computed again.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..metrics import Extractor, extract
from .sets import ImageSet

__all__ = ["FeatureCache", "default_folder"]

VERSION = 2
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

        Raises:
            OSError: If the folder cannot be written; in one line.
        """
        if self.folder is None:
            return _extracted(images, extractor, device, progress)
        _make(self.folder)
        images = _held(images)
        # Devices round differently: features are those that would be computed here, to the bit.
        key = (VERSION, images.shape, images.count, extractor.name, torch.device(device).type)
        name = re.sub(r"[^A-Za-z0-9.@-]+", "-", extractor.name)
        file = self.folder / f"{_digest(images, key)[:32]}-{name}.safetensors"
        found = _load(file, (images.count, extractor.dimension))
        if found is None:
            found = _extracted(images, extractor, device, progress)
            _save(file, found)
        return found


def _held(images: ImageSet) -> ImageSet:
    """Returns the same set, in memory if it is small: it is read twice."""
    if images.count * math.prod(images.shape) > _KEPT:
        return images
    batches = list(images.batches())
    return replace(images, batches=lambda: iter(batches))


def _digest(images: ImageSet, key: object) -> str:
    digest = hashlib.sha256(repr(key).encode())
    for batch in images.batches():
        digest.update(_bytes(batch))
    return digest.hexdigest()


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


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> OSError:
    return OSError(
        f"features cannot be kept in {folder} ({error.strerror or error}); name another folder in "
        "BLEMISH_CACHE, or give --no-cache"
    )


def _load(file: Path, shape: tuple[int, int]) -> Tensor | None:
    """Returns kept features; a file that was damaged is as good as none."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as content:
            found: Tensor = content.get_tensor("features")
            expected = (content.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, ValueError):
        return None
    whole = tuple(found.shape) == shape and _sha256(found) == expected
    return found if whole else None


def _save(file: Path, features: Tensor) -> None:
    """Writes features; of several processes that do it at once the last one wins, and all are right."""
    features = features.contiguous()
    temporary = file.with_suffix(f".{uuid.uuid4().hex}.part")
    try:
        temporary.write_bytes(save({"features": features}, {"sha256": _sha256(features)}))
        temporary.replace(file)
    except OSError as error:
        raise _unwritable(file.parent, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(features: Tensor) -> str:
    return hashlib.sha256(_bytes(features)).hexdigest()


def _bytes(values: Tensor) -> memoryview:
    return values.contiguous().numpy().data.cast("B")
