"""CIFAR-10 in its official forms: binary and python, as a folder, a .tar.gz file or a single batch.

*Binary*: records of 3073 bytes, the label and then 32 x 32 pixels of the red, green and blue planes.

*Python*: a pickled dictionary with ``data``, an (N, 3072) array of uint8, and ``labels``. A pickle can
name any function and have it called; this reader lets it name five things, and none of them is the
real one. Arrays and dtypes are rebuilt as records of what the file says, and only a plain array
of uint8 is then read from such a record.
"""

from __future__ import annotations

import io
import pickle
import re
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import MemorySource

__all__ = ["find_cifar", "is_batch", "read_cifar"]

_RECORD = 1 + 3 * 32 * 32
_BATCH = re.compile(r"(data_batch_\d+|test_batch)(\.bin)?")
_FOLDERS = ("", "cifar-10-batches-py", "cifar-10-batches-bin")


def is_batch(name: str) -> bool:
    """Whether a file's name is that of a batch of CIFAR-10."""
    return _BATCH.fullmatch(name) is not None


def find_cifar(folder: Path) -> Path | None:
    """Returns the folder that holds batches: this one, or its official subfolder; None if none does."""
    for name in _FOLDERS:
        inner = folder / name
        if inner.is_dir() and any(is_batch(path.name) for path in inner.iterdir()):
            return inner
    return None


def read_cifar(path: Path, split: str | None = None) -> MemorySource:
    """Reads CIFAR-10.

    Arguments:
        path: A folder that holds batches, a tar file of one, or one batch.
        split: ``train`` or ``test``; None means ``train`` where there is any of it.

    Raises:
        ValueError: If there are no such batches, or one is broken or would call a function.
    """
    batches = _tar_batches(path) if path.is_file() and not is_batch(path.name) else _batches(path)
    starts = {"train": "data", "test": "test"}
    if not is_batch(path.name):
        split = split or ("train" if any(name.startswith("data") for name in batches) else "test")
    names = sorted(n for n in batches if split is None or n.startswith(starts[split]))
    if not names:
        held = ", ".join(sorted(batches)) or "none"
        raise ValueError(f"{path} has no {split} batches of CIFAR-10; batches found: {held}")
    parts = [_parse(f"{path}/{n}" if n != path.name else str(path), batches[n]) for n in names]
    return MemorySource(
        torch.cat([images for images, _ in parts]),
        title=f"{path} (CIFAR-10, {split or path.name})",
        names=split or path.name.removesuffix(".bin"),
        labels=[label for _, labels in parts for label in labels],
    )


def _batches(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [p for p in path.iterdir() if is_batch(p.name)]
    return {file.name: file.read_bytes() for file in files}


def _tar_batches(path: Path) -> dict[str, bytes]:
    """Reads the batches of a tar file; nothing is written to disk."""
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None and is_batch(name := Path(member.name).name):
                    found[name] = content.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise ValueError(f"{path} is a broken tar file ({error}); copy it again") from error
    return found


def _parse(name: str, content: bytes) -> tuple[Tensor, list[int]]:
    return _parse_binary(name, content) if name.endswith(".bin") else _parse_python(name, content)


def _parse_binary(name: str, content: bytes) -> tuple[Tensor, list[int]]:
    if not content or len(content) % _RECORD:
        raise ValueError(
            f"{name} is broken: its {len(content)} bytes are no multiple of {_RECORD}; copy it again"
        )
    records = torch.from_numpy(np.frombuffer(bytearray(content), dtype=np.uint8))
    records = records.reshape(-1, _RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].tolist()


def _parse_python(name: str, content: bytes) -> tuple[Tensor, list[int]]:
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except pickle.UnpicklingError as error:
        raise ValueError(f"{name} is not read: {error}") from error
    except Exception as error:  # A broken pickle raises errors of every kind.
        raise ValueError(f"{name} is a broken pickle ({error}); copy it again") from error
    if not isinstance(batch, Mapping):
        raise ValueError(f"{name} is no batch of CIFAR-10: it holds a {type(batch).__name__}")
    fields = {k.decode() if isinstance(k, bytes) else k: value for k, value in batch.items()}
    data, labels = fields.get("data"), fields.get("labels")
    if not isinstance(data, _Array) or not isinstance(labels, list):
        raise ValueError(
            f"{name} is no batch of CIFAR-10: it lacks an array 'data' or list 'labels'"
        )
    images = data.pixels(name)
    if len(labels) != len(images) or not all(isinstance(label, int) for label in labels):
        raise ValueError(f"{name} has {len(labels)} labels for {len(images)} images; copy it again")
    return images, labels


class _Dtype:
    """A record of a pickled numpy dtype: its code only."""

    def __init__(self, code: Any = None, *flags: Any) -> None:
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        """Ignores byte order and fields: a dtype of one byte has none."""


class _Array:
    """A record of a pickled numpy array: what its state says, checked only when it is read."""

    def __init__(
        self, buffer: Any = b"", dtype: Any = None, shape: Any = (), order: Any = "C"
    ) -> None:
        self.state = (shape, dtype, order == "F", buffer)

    def __setstate__(self, state: Any) -> None:
        """Keeps (shape, dtype, whether in Fortran's order, bytes); the first item is a version."""
        self.state = tuple(state)[-4:]

    def pixels(self, name: str) -> Tensor:
        """Returns the images, uint8, with shape (N, 3, 32, 32)."""
        shape, dtype, fortran, buffer = self.state
        plain = isinstance(buffer, (bytes, bytearray)) and isinstance(dtype, _Dtype)
        if not plain or dtype.code != "u1" or not shape or tuple(shape) != (shape[0], 3072):
            raise ValueError(f"{name} is no batch of CIFAR-10: 'data' is not (N, 3072) of uint8")
        if len(buffer) != shape[0] * 3072 or not shape[0]:
            raise ValueError(f"{name} is broken: {len(buffer)} bytes for {shape[0]} images")
        array = np.frombuffer(bytearray(buffer), dtype=np.uint8)
        array = array.reshape(shape, order="F" if fortran else "C")
        return torch.from_numpy(np.ascontiguousarray(array)).reshape(-1, 3, 32, 32)


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: Any = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}; only latin1 is allowed")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _Array,
    ("numpy._core.numeric", "_frombuffer"): _Array,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    """Unpickles dictionaries, lists, numbers, strings and records of arrays; refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in of an allowed name."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no batch of CIFAR-10 needs; the file may be "
                "malicious: get it from its official source"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        """Refuses references to the outside."""
        raise pickle.UnpicklingError("it refers to objects outside of the file")
