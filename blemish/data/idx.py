r"""IDX files, the format of MNIST and Fashion-MNIST.

A file of images starts with the bytes 0, 0, 8 (unsigned bytes), 3 (dimensions) and the three sizes
N, H, W as big-endian 32-bit integers; N H W pixels follow. A file of labels has one dimension. Either
may be compressed by gzip. The labels of ``train-images-idx3-ubyte.gz`` are looked for beside it, in
``train-labels-idx1-ubyte.gz`` or ``train-labels-idx1-ubyte``.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from .base import MemorySource

__all__ = ["find_idx", "is_idx", "read_idx"]

_PATTERNS = ("*images[-.]idx3-ubyte", "*images[-.]idx3-ubyte.gz")


def is_idx(path: Path) -> bool:
    """Whether a file is an IDX file of unsigned bytes, compressed or not."""
    try:
        with path.open("rb") as file:
            head = file.read(3)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                head = file.read(3)
    except (OSError, EOFError, zlib.error):
        return False
    return head == b"\0\0\x08"


def find_idx(folder: Path, split: str | None) -> Path | None:
    """Returns the file of images in a folder, or None if there is none.

    Arguments:
        folder: The folder.
        split: ``train`` or ``test`` (``t10k`` counts as test); None prefers ``train``.

    Raises:
        ValueError: If there are files of images, but not of this split.
    """
    files = sorted(path for pattern in _PATTERNS for path in folder.glob(pattern))
    starts = {"train": ("train",), "test": ("test", "t10k")}[split or "train"]
    chosen = [path for path in files if path.name.startswith(starts)]
    if split and files and not chosen:
        raise ValueError(
            f"{folder} has no {split} images; it has {', '.join(p.name for p in files)}"
        )
    return next(iter(chosen or files), None)


def read_idx(path: Path) -> MemorySource:
    """Reads a file of images, with its labels where they lie beside it.

    Raises:
        ValueError: If the file is broken.
    """
    images = _read(path, dimensions=3)
    beside = _labels_beside(path)
    labels = None if beside is None else _read(beside, dimensions=1).tolist()
    if labels is not None and len(labels) != len(images):
        raise ValueError(
            f"{beside} has {len(labels)} labels for {len(images)} images; remove or mend it"
        )
    name = path.name.removesuffix(".gz").removesuffix("-ubyte").removesuffix("idx3").rstrip("-.")
    return MemorySource(
        torch.from_numpy(images)[:, None], title=str(path), names=name, labels=labels
    )


def _read(path: Path, dimensions: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is broken ({error}); copy it again") from error
    start = 4 + 4 * dimensions
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) < start:
        raise ValueError(
            f"{path} is no IDX file of unsigned bytes with {dimensions} dimensions; it starts with "
            f"{data[:4].hex()}"
        )
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    if len(data) - start != int(np.prod(shape, dtype=object)) or not min(shape):
        raise ValueError(
            f"{path} announces {'x'.join(map(str, shape))} bytes but holds {len(data) - start}; "
            "copy it again"
        )
    return np.frombuffer(bytearray(data), dtype=np.uint8, offset=start).reshape(shape)


def _labels_beside(path: Path) -> Path | None:
    name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    if name == path.name.removesuffix(".gz"):
        return None
    found = (path.with_name(name + ending) for ending in (".gz", ""))
    return next((file for file in found if file.is_file()), None)
