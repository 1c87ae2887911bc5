"""Features of sets of images, and what they need no other set for, kept on disk under digests.

Extracting features, and comparing a set with itself, take most of the time of an evaluation, and a
reference is compared with again and again. The digest is of the bytes of all images as they are
compared, after cropping or resizing; so a file under a known name with other images in it is another
set. Each file carries the digest of what it holds, too: one that was damaged is computed again.
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

VERSION = 3
"""Raised when the extractors give other features, or statistics change."""

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
        found = _load(file)
        if found is None or found.shape != (images.count, extractor.dimension):
            found = _extracted(images, extractor, device, progress)
            _save(file, found)
        return found

    def statistic(
        self, name: str, features: Tensor, function: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Returns a statistic of one set: ``function(features)``, computed once for equal features.

        Arguments:
            name: What it is called; one name for one function.
            features: Features, on the CPU, with shape (N, D).
            function: Computes it, with any shape.

        Raises:
            OSError: If the folder cannot be written; in one line.
        """
        if self.folder is None:
            return function(features)
        key = repr((VERSION, name, tuple(features.shape))).encode()
        digest = hashlib.sha256(key + _bytes(features)).hexdigest()[:32]
        file = self.folder / f"{digest}-{name}.safetensors"
        found = _load(file)
        if found is None:
            _make(self.folder)
            found = function(features)
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


def _load(file: Path) -> Tensor | None:
    """Returns what was kept; a file that was damaged is as good as none."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as content:
            found: Tensor = content.get_tensor("values")
            expected = (content.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, ValueError):
        return None
    return found if _sha256(found) == expected else None


def _save(file: Path, values: Tensor) -> None:
    """Writes values; of several processes that do it at once the last one wins, and all are right."""
    values = values.contiguous()
    temporary = file.with_suffix(f".{uuid.uuid4().hex}.part")
    try:
        temporary.write_bytes(save({"values": values}, {"sha256": _sha256(values)}))
        temporary.replace(file)
    except OSError as error:
        raise _unwritable(file.parent, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(values: Tensor) -> str:
    return hashlib.sha256(_bytes(values)).hexdigest()


def _bytes(values: Tensor) -> memoryview:
    return values.contiguous().numpy().data.cast("B")
