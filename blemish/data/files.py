"""Pictures in a folder or in a ZIP file.

Both are lists of encoded pictures, sorted by their relative paths. Files are pictures by their names'
endings; hidden files and folders (and ``__MACOSX``) are passed over.

Labels: ``dataset.json`` in NVlabs' layout, ``{"labels": [["00000/img00000000.png", 6], ...]}``, where
it exists (its labels may be null); else, where every picture lies in a subfolder and there are at
least two, the number of the topmost subfolder in sorted order; else none.
"""

from __future__ import annotations

import abc
import contextlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NoReturn, cast, final

from torch import Tensor

from .base import BadImage, Source
from .images import SUFFIXES, decode, peek

__all__ = ["Archive", "Folder", "Pictures", "picture_names"]


# The last two are zipfile's words for encrypted members and unknown compression.
_DAMAGED = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error),
    *(RuntimeError, NotImplementedError),
)


class Pictures(Source):
    """Encoded pictures.

    Arguments:
        title: What the source is, in a few words.
        names: The relative path of each picture.
        catalogue: The parsed ``dataset.json``, if there is one.
    """

    def __init__(self, title: str, names: Sequence[str], catalogue: Any = None) -> None:
        if not names:
            endings = " ".join(sorted(SUFFIXES))
            raise ValueError(f"{title} holds no pictures; looked for names ending in {endings}")
        self.title = title
        self.names = list(names)
        self.labels = _labels(self.names, catalogue, title)
        self.skipped = []
        self.channels, self.size = 3, None

    @abc.abstractmethod
    def open(self, index: int) -> BinaryIO:
        """Opens one file, which is seekable."""

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Returns the picture's path, relative to the folder or inside the ZIP file."""
        return self.names[index]

    def label(self, index: int) -> int | None:
        """Returns the number of the picture's class."""
        return self.labels[index]

    def read(self, index: int) -> Tensor:
        """Decodes one picture as it is, uint8, with shape (1, H, W) or (3, H, W)."""
        return decode(self.raw(index))

    def raw(self, index: int) -> bytes:
        """Returns the content of one file."""
        with self._opened(index) as file:
            return file.read()

    def peek(self, index: int) -> tuple[int, int, int]:
        """Returns the picture's shape (C, H, W), from its header."""
        with self._opened(index) as file:
            return peek(file)

    @contextlib.contextmanager
    def _opened(self, index: int) -> Iterator[BinaryIO]:
        try:
            with self.open(index) as file:
                yield file
        except _DAMAGED as error:
            raise BadImage(str(error) or type(error).__name__) from error


@final
class Folder(Pictures):
    """The pictures in a folder and its subfolders, or a single picture.

    Arguments:
        path: A folder or a picture.
    """

    def __init__(self, path: Path) -> None:
        if path.is_file():
            self.root, names = path.parent, [path.name]
        else:
            self.root = path
            names = picture_names(path)
        catalogue = path / "dataset.json"
        parsed = _parse(catalogue.read_bytes(), str(catalogue)) if catalogue.is_file() else None
        super().__init__(str(path), names, parsed)

    def open(self, index: int) -> BinaryIO:
        """Opens one file."""
        return (self.root / self.names[index]).open("rb")


@final
class Archive(Pictures):
    """The pictures in a ZIP file.

    Arguments:
        path: The ZIP file.

    Raises:
        ValueError: If it is broken, or has members that lie outside of it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path} is a broken ZIP file ({error}); copy it again") from error
        names = sorted(name for name in self.archive.namelist() if _is_picture(name))
        # Names become the paths of files that are written for these pictures.
        if outside := [name for name in names if _is_outside(name)]:
            raise ValueError(
                f"{path} holds {outside[0]!r}, a path that leads out of it; pack it anew"
            )
        parsed = None
        if "dataset.json" in self.archive.namelist():
            try:
                content = self.archive.read("dataset.json")
            except _DAMAGED as error:
                raise ValueError(f"dataset.json in {path} cannot be read: {error}") from error
            parsed = _parse(content, f"dataset.json in {path}")
        super().__init__(str(path), names, parsed)

    def open(self, index: int) -> BinaryIO:
        """Opens one member."""
        return cast("BinaryIO", self.archive.open(self.names[index]))


def picture_names(root: Path) -> list[str]:
    """Returns the relative paths of the pictures in a folder and its subfolders, sorted; hidden ones are passed over.

    Raises:
        OSError: If a folder cannot be read.
    """
    return sorted(name for name in _names(root) if _is_picture(name))


def _names(root: Path) -> Iterator[str]:
    """Yields the paths of all files below a folder; links to folders are followed, each folder once.

    Raises:
        OSError: If a folder cannot be read: its images would be missing without a word.
    """
    seen: set[str] = set()

    def fail(error: OSError) -> NoReturn:
        raise error

    for folder, subfolders, files in os.walk(root, onerror=fail, followlinks=True):
        here = os.path.realpath(folder)
        if here in seen:
            subfolders.clear()
            continue
        seen.add(here)
        # In an order of its own, so that of two links to a folder always the same one counts.
        subfolders[:] = sorted(name for name in subfolders if not _is_hidden(name))
        inside = Path(folder).relative_to(root)
        yield from ((inside / name).as_posix() for name in files)


def _is_hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(_is_hidden(part) for part in path.parts if part != "..")
    return path.suffix.lower() in SUFFIXES and not hidden and not name.endswith("/")


def _is_outside(name: str) -> bool:
    return ".." in PurePosixPath(name).parts or "\\" in name or ":" in name or name[:1] == "/"


def _parse(content: bytes, name: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"{name} is not JSON ({error}); mend or remove it") from error


def _labels(names: Sequence[str], catalogue: Any, title: str) -> list[int | None]:
    if catalogue is None:
        return _labels_of_folders(names)
    if not isinstance(catalogue, dict) or "labels" not in catalogue:
        raise ValueError(
            f"dataset.json of {title} has no 'labels'; add them (or null), or remove it"
        )
    try:
        known = {str(name): label for name, label in catalogue["labels"] or ()}
    except (TypeError, ValueError):
        raise ValueError(
            f'"labels" of dataset.json of {title} is not a list of pairs [name, label]; mend or remove it'
        ) from None
    found = (known.get(name) for name in names)
    return [label if isinstance(label, int) else None for label in found]


def _labels_of_folders(names: Sequence[str]) -> list[int | None]:
    tops = [name.partition("/")[0] if "/" in name else None for name in names]
    classes = sorted({top for top in tops if top is not None})
    if None in tops or len(classes) < 2:
        return [None] * len(names)
    number = {top: i for i, top in enumerate(classes)}
    return [number[top] for top in tops if top is not None]
