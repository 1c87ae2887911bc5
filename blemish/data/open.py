"""Opening a source by name.

:func:`open_source` finds out what a name stands for, makes every image fit and checks all of them:

* a source whose prepared images take at most ``memory`` bytes is decoded once and held in memory;
* a larger one stays on disk. Then only the headers are read now, unless ``skip_bad`` asks for a full
  look at every file, and a file that breaks later is named when it is read.

Nothing is silently left out or resized: a problem is one line that names the first five files and
says how to go on.
"""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, final, get_args

from torch import Tensor

from .base import BadImage, MemorySource, Source, gather
from .cifar import find_cifar, is_batch, read_cifar
from .files import Archive, Folder, Pictures
from .glyphs import Glyphs
from .hub import Hub, looks_like_hub_id
from .idx import find_idx, is_idx, read_idx
from .images import SUFFIXES, Fit, Preparation
from .manifest import Manifest, Side

__all__ = ["MEMORY", "Prepared", "open_source"]

MEMORY = 4 * 2**30
"""The most bytes of images that are held in memory."""

Progress = Callable[[int, int], None]
Shape = tuple[int, int, int]

_GLYPHS = re.compile(r"glyphs(?::(\d+))?")
_SIDES = get_args(Side)
_CHOICE = re.compile(r"(.+):(train|test|observed|clean)")
_CHUNK = 256
_AHEAD = 32
"""Images that threads decode while others are used."""

_SMALL = 128 * 128
"""Pixels of small pictures: they cost more in Python than in the decoder, where threads only wait."""


def open_source(
    spec: str | Path,
    *,
    size: int | None = None,
    fit: Fit = "none",
    channels: int | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
    keep_jpeg_grid: bool = True,
    seed: int = 0,
    mixed: bool = False,
    smallest: int | None = None,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> Source:
    """Opens a source of images.

    Arguments:
        spec: A folder of pictures (searched recursively), a picture, a ZIP file of pictures,
            CIFAR-10 in an official form, an IDX file or a folder of them, a CSV file of pairs
            (see :mod:`~blemish.data.manifest`), the id of a data set on the Hub, or ``glyphs``
            (``glyphs:5000`` for a count). ``PATH:test`` and ``PATH:train`` choose the split of
            CIFAR-10, IDX folders and the Hub, ``pairs.csv:clean`` the clean pictures of pairs.
        size: The side of the square images in pixels; None leaves them as they are.
        fit: How images of another size are made to fit: ``none``, ``crop`` or ``resize``.
        channels: 1 for grey, 3 for RGB; None means grey where all images are grey.
        limit: The number of images used; None uses all.
        skip_bad: Whether broken files are stepped over; the source's ``skipped`` lists them.
        keep_jpeg_grid: Whether crops start at multiples of 8 pixels.
        seed: The seed of ``glyphs``.
        mixed: Whether images may have different sizes.
        smallest: The height and width that every image must have at least, for crops that are cut
            later; None allows any.
        memory: The most bytes of images held in memory; larger sources are read when needed.
        progress: Called now and then with the numbers of files seen and to be seen.

    Raises:
        ValueError: If there is no such source, or it does not fit; one line that says how to go on.
    """
    preparation = Preparation(size, fit, channels, keep_jpeg_grid)
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: use at least 1 image, or leave the limit out")
    if match := _GLYPHS.fullmatch(str(spec)):
        count = int(match[1]) if match[1] else 20_000
        count = count if limit is None else min(count, limit)
        return Glyphs(count, size=size or 16, channels=channels or 1, seed=seed)
    source = _find(str(spec))
    if isinstance(source, MemorySource):
        return _prepare_memory(source.head(limit), preparation, smallest)
    survey = _Survey(source, preparation, limit, skip_bad, mixed, smallest, progress)
    return survey.hold() if survey.bytes() <= memory else survey.stream()


@final
class Prepared(Source):
    """A source on disk whose images are made to fit when they are read.

    Arguments:
        source: The images as they are.
        indices: Which of them are used.
        preparation: How they are made to fit.
        channels: 1 for grey, 3 for RGB.
        size: The height and width that all images will have; None where they differ.
        skipped: The images that were left out, with the reasons.
        threads: Whether several threads read faster than one.
    """

    def __init__(
        self,
        source: Source,
        indices: Sequence[int],
        preparation: Preparation,
        *,
        channels: int,
        size: tuple[int, int] | None,
        skipped: Sequence[tuple[str, str]],
        threads: bool = True,
    ) -> None:
        self.source, self.indices, self.preparation = source, indices, preparation
        self.threads = threads
        self.title, self.channels, self.size = source.title, channels, size
        self.skipped = list(skipped)

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """Returns the image's name."""
        return self.source.name(self.indices[index])

    def label(self, index: int) -> int | None:
        """Returns the image's label."""
        return self.source.label(self.indices[index])

    def raw(self, index: int) -> bytes | None:
        """Returns the image's file as it is stored, if there is one."""
        return self.source.raw(self.indices[index])

    def read(self, index: int) -> Tensor:
        """Reads one image and makes it fit, uint8, with shape (C, H, W)."""
        try:
            return self.preparation(self.source.read(self.indices[index]))
        except BadImage as error:
            raise BadImage(
                f"{self.title}: {self.name(index)} cannot be read ({error}); remove it, or step over "
                "broken files with --skip-bad"
            ) from error

    def read_each(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """Yields images in the order of their numbers."""
        if not self.threads:
            yield from map(self.read, indices)
            return
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(indices), _AHEAD):
                yield from pool.map(self.read, indices[start : start + _AHEAD])


@dataclass(frozen=True)
class _Seen:
    """What a look at one file found: its own shape (C, H, W), and the prepared image if decoded."""

    index: int
    shape: Shape | None = None
    image: Tensor | None = None
    broken: str | None = None


@final
class _Survey:
    """One look at each file of a source."""

    def __init__(
        self,
        source: Source,
        preparation: Preparation,
        limit: int | None,
        skip_bad: bool,
        mixed: bool,
        smallest: int | None,
        progress: Progress | None,
    ) -> None:
        self.source, self.preparation, self.limit = source, preparation, limit
        self.smallest = smallest
        self.skip_bad, self.mixed, self.progress = skip_bad, mixed, progress
        self.title = source.title
        step = max(1, len(source) // 32)
        shapes = [self._header(i).shape for i in range(0, len(source), step)]
        self.examples = [shape for shape in shapes if shape is not None]

    def bytes(self) -> float:
        """Estimates the size of all prepared images, from some examples."""
        side, channels = self.preparation.size, self.preparation.channels
        sizes = [(channels or c) * (side * side if side else h * w) for c, h, w in self.examples]
        count = min(len(self.source), self.limit or len(self.source))
        return count * sum(sizes) / max(1, len(sizes))

    def hold(self) -> MemorySource:
        """Decodes all images into memory."""
        seen, skipped = self._checked(self._decoded)
        channels = self._channels(seen)
        fitted = Preparation(channels=channels)
        images = gather([fitted(one.image) for one in seen if one.image is not None])
        indices = [one.index for one in seen]
        return MemorySource(
            images,
            title=self.title,
            names=[self.source.name(i) for i in indices],
            labels=[self.source.label(i) for i in indices],
            skipped=skipped,
            files=(self.source, indices),
        )

    def stream(self) -> Prepared:
        """Leaves the images on disk."""
        seen, skipped = self._checked(self._decoded if self.skip_bad else self._header)
        channels, side = self._channels(seen), self.preparation.size
        shapes = {one.shape[1:] for one in seen if one.shape}
        size = (side, side) if side else next(iter(shapes)) if len(shapes) == 1 else None
        preparation = Preparation(
            side, self.preparation.fit, channels, self.preparation.keep_jpeg_grid
        )
        return Prepared(
            self.source,
            [one.index for one in seen],
            preparation,
            channels=channels,
            size=size,
            skipped=skipped,
            threads=not self._small(),
        )

    def _small(self) -> bool:
        return all(h * w <= _SMALL for _, h, w in self.examples)

    def _channels(self, seen: list[_Seen]) -> int:
        return self.preparation.channels or max(one.shape[0] for one in seen if one.shape)

    def _header(self, index: int) -> _Seen:
        if not isinstance(self.source, Pictures):
            return self._decoded(index)
        try:
            return _Seen(index, shape=self.source.peek(index))
        except BadImage as error:
            return _Seen(index, broken=str(error))

    def _decoded(self, index: int) -> _Seen:
        try:
            image = self.source.read(index)
        except BadImage as error:
            return _Seen(index, broken=str(error))
        channels, height, width = image.shape
        fits = self.preparation.objection(height, width) is None
        return _Seen(index, (channels, height, width), self.preparation(image) if fits else None)

    def _checked(self, look: Callable[[int], _Seen]) -> tuple[list[_Seen], list[tuple[str, str]]]:
        """Returns the good images and the skipped ones, or raises an error about the others."""
        good: list[_Seen] = []
        skipped: list[tuple[str, str]] = []
        for one in self._visit(look):
            if one.broken is None:
                good.append(one)
            else:
                skipped.append((self.source.name(one.index), one.broken))
            if len(good) == self.limit:
                break
        if skipped and not (self.skip_bad and good):
            _fail_broken(self.title, skipped, all_broken=not good)
        self._check_sizes(good)
        return good, skipped

    def _visit(self, look: Callable[[int], _Seen]) -> Iterator[_Seen]:
        total = len(self.source)
        small = self._small()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, total, _CHUNK):
                chunk = range(start, min(start + _CHUNK, total))
                yield from map(look, chunk) if small else pool.map(look, chunk)
                if self.progress:
                    self.progress(min(start + _CHUNK, total), total)

    def _check_sizes(self, seen: list[_Seen]) -> None:
        shapes = [(self.source.name(one.index), one.shape) for one in seen if one.shape]
        sizes = [(name, shape[1:]) for name, shape in shapes]
        _check_fit(self.title, self.preparation, sizes)
        _check_smallest(self.title, self.smallest, sizes)
        counts = Counter(size for _, size in sizes)
        if len(counts) == 1 or self.mixed or self.preparation.size is not None:
            return
        common, times = counts.most_common(1)[0]
        others = [(name, _by(*size)) for name, size in sizes if size != common]
        raise ValueError(
            f"{self.title}: images have different sizes (height x width): {times} are {_by(*common)}, but "
            f"{_five(others)}; choose a size with --size N and --fit crop or --fit resize"
        )


def _prepare_memory(
    source: MemorySource, preparation: Preparation, smallest: int | None
) -> MemorySource:
    height, width = source.tensor().shape[-2:]
    sizes = [(source.name(0), (height, width))]
    _check_fit(source.title, preparation, sizes)
    _check_smallest(source.title, smallest, sizes)
    images = source.tensor()
    chunks = (images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK))
    return MemorySource(
        gather([image for chunk in chunks for image in preparation(chunk)]),
        title=source.title,
        names=source.names,
        labels=source.labels,
    )


def _check_fit(
    title: str, preparation: Preparation, sizes: Sequence[tuple[str, tuple[int, int]]]
) -> None:
    side = preparation.size
    objections = [(name, _by(h, w)) for name, (h, w) in sizes if preparation.objection(h, w)]
    if not objections:
        return
    if preparation.fit == "crop":
        raise ValueError(
            f"{title}: {len(objections)} of {len(sizes)} images are smaller than {side}x{side}: "
            f"{_five(objections)}; choose a smaller --size, or --fit resize"
        )
    raise ValueError(
        f"{title}: {len(objections)} of {len(sizes)} images are not {side}x{side}: "
        f"{_five(objections)}; make them fit with --fit crop or --fit resize"
    )


def _check_smallest(
    title: str, smallest: int | None, sizes: Sequence[tuple[str, tuple[int, int]]]
) -> None:
    small = [(name, _by(h, w)) for name, (h, w) in sizes if smallest and min(h, w) < smallest]
    if small:
        raise ValueError(
            f"{title}: {len(small)} of {len(sizes)} images are smaller than {smallest}x{smallest}, which the crops "
            f"need: {_five(small)}; remove them, or choose smaller crops (--size), or a smaller data.shrink"
        )


def _fail_broken(title: str, broken: list[tuple[str, str]], *, all_broken: bool) -> NoReturn:
    if all_broken:
        raise ValueError(
            f"{title}: no image can be read: {_five(broken)}; is this the right place?"
        )
    count = "1 image" if len(broken) == 1 else f"{len(broken)} images"
    raise ValueError(
        f"{title}: {count} cannot be read: {_five(broken)}; mend or remove them, or step over "
        "them with --skip-bad"
    )


def _five(files: Sequence[tuple[str, str]]) -> str:
    named = ", ".join(f"{name} ({reason})" for name, reason in files[:5])
    return named + (f" and {len(files) - 5} more" if len(files) > 5 else "")


def _by(height: int, width: int) -> str:
    return f"{height}x{width}"


def _find(spec: str) -> Source:
    """Returns the images that a name stands for, as they are."""
    path, split = Path(spec).expanduser(), None
    if not path.exists() and (match := _CHOICE.fullmatch(spec)):
        spec, split = match[1], match[2]
        path = Path(spec).expanduser()
    if split in _SIDES and path.suffix.lower() != ".csv":
        raise ValueError(f"{path} lists no pairs; ':{split}' is for a CSV file of pairs")
    if path.is_dir():
        return _find_folder(path, split)
    if path.is_file():
        return _find_file(path, split)
    if looks_like_hub_id(spec):
        return Hub(spec, split or "train")
    raise ValueError(
        f"{spec} does not exist; give a folder, a picture, a ZIP file, CIFAR-10 or IDX files, a CSV "
        "file of pairs, the id of a data set on the Hub (owner/name), or 'glyphs'"
    )


def _find_folder(path: Path, split: str | None) -> Source:
    if batches := find_cifar(path):
        return read_cifar(batches, split)
    if images := find_idx(path, split):
        return read_idx(images)
    return Folder(_without_split(path, split))


def _find_file(path: Path, split: str | None) -> Source:
    if path.suffix.lower() == ".csv":
        if split not in _SIDES:
            path = _without_split(path, split)
        return Manifest(path, "clean" if split == "clean" else "observed")
    if path.suffix.lower() in SUFFIXES:
        return Folder(_without_split(path, split))
    if is_batch(path.name) or (not is_idx(path) and tarfile.is_tarfile(path)):
        return read_cifar(path, split)
    if is_idx(path):
        return read_idx(_without_split(path, split))
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return Archive(_without_split(path, split))
    raise ValueError(
        f"{path} is of an unknown kind; allowed are pictures ({' '.join(sorted(SUFFIXES))}), ZIP files "
        "of pictures, CSV files of pairs, CIFAR-10 batches or their .tar.gz, and IDX files of images"
    )


def _without_split(path: Path, split: str | None) -> Path:
    if split is not None:
        raise ValueError(f"{path} has no splits; leave out ':{split}'")
    return path
