"""Sources of images.

A source is a numbered, finite collection of images: ``len(source)`` of them, image ``i`` is
``source.read(i)``, a uint8 tensor (C, H, W) with C = 1 (grey) or 3 (RGB). Everything a source does
follows from these two; the numbers never depend on the machine or on the order of reading.

A source that can be held in memory is a :class:`MemorySource`, whatever it was read from.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["BadImage", "MemorySource", "Source", "gather"]


class BadImage(ValueError):
    """An image that cannot be read; the message is the reason, without the image's name."""


class Source(abc.ABC):
    """A numbered, finite collection of images.

    Attributes:
        title: What the source is, in a few words.
        channels: 1 for grey, 3 for RGB.
        size: The height and width that all images share; None where they differ.
        skipped: The images that were stepped over because they are broken, with the reasons.
    """

    title: str
    channels: int
    size: tuple[int, int] | None
    skipped: list[tuple[str, str]]

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """Returns a name unique in the source, such as a relative path or ``glyphs/000012``."""

    @abc.abstractmethod
    def read(self, index: int) -> Tensor:
        """Reads one image.

        Returns:
            A uint8 tensor, with shape (C, H, W).

        Raises:
            BadImage: If the image is broken.
        """

    def read_each(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """Yields images in the order of their numbers; as :meth:`read`, several at a time if that helps."""
        return map(self.read, indices)

    def label(self, index: int) -> int | None:
        """Returns the number of the image's class, or None where it is unknown."""
        return None

    def raw(self, index: int) -> bytes | None:
        """Returns the file of the image as it is stored, before any crop or resize; None if it has none.

        Raises:
            BadImage: If the file cannot be read.
        """
        return None

    def describe(self) -> str:
        """Returns one line that says what the source is, how large and how coloured."""
        colour = "grey" if self.channels == 1 else "RGB"
        noun = "image" if len(self) == 1 else "images"
        height, width = self.size or (0, 0)
        size = f"{height}x{width} (height x width)" if self.size else "various sizes"
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"{self.title}: {len(self)} {colour} {noun}, {size}{skipped}"


class MemorySource(Source):
    """Images in memory.

    Arguments:
        images: A uint8 tensor with shape (N, C, H, W), or N tensors (C, H, W) of different sizes.
        title: What the source is, in a few words.
        names: One name for each image, or a prefix: image 12 is called ``PREFIX/000012``.
        labels: One label for each image, or nothing.
        skipped: The images that were left out, with the reasons.
        files: The source that has the images' files, and the images' numbers there; None without files.
    """

    def __init__(
        self,
        images: Tensor | Sequence[Tensor],
        *,
        title: str,
        names: Sequence[str] | str,
        labels: Sequence[int | None] | None = None,
        skipped: Sequence[tuple[str, str]] = (),
        files: tuple[Source, Sequence[int]] | None = None,
    ) -> None:
        self.files = files
        self.images = images
        self.title = title
        self.names = names
        self.labels = labels
        self.skipped = list(skipped)
        self.channels = int(images[0].shape[-3])
        self.size = (
            (int(images.shape[-2]), int(images.shape[-1])) if isinstance(images, Tensor) else None
        )

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """Returns the image's name."""
        if isinstance(self.names, str):
            return f"{self.names}/{index:06d}"
        return self.names[index]

    def read(self, index: int) -> Tensor:
        """Returns one image, uint8, with shape (C, H, W)."""
        return self.images[index]

    def label(self, index: int) -> int | None:
        """Returns the image's label."""
        return None if self.labels is None else self.labels[index]

    def raw(self, index: int) -> bytes | None:
        """Returns the image's file, if there is one."""
        if self.files is None:
            return None
        source, numbers = self.files
        return source.raw(numbers[index])

    def head(self, count: int | None) -> MemorySource:
        """Returns the first images; None keeps all of them."""
        return MemorySource(
            self.images[:count],
            title=self.title,
            names=self.names if isinstance(self.names, str) else self.names[:count],
            labels=None if self.labels is None else self.labels[:count],
            skipped=self.skipped,
            files=self.files,
        )

    def tensor(self) -> Tensor:
        """Returns all images as one uint8 tensor, with shape (N, C, H, W).

        Raises:
            ValueError: If their sizes differ.
        """
        if not isinstance(self.images, Tensor):
            raise ValueError(
                f"the images of {self.title} have different sizes; open the source with a size and "
                f"fit='crop' or 'resize' (--size N --fit crop)"
            )
        return self.images


def gather(images: list[Tensor]) -> Tensor | list[Tensor]:
    """Joins images of one size to a tensor ``(N, C, H, W)`` and leaves others as they are.

    The list is emptied on the way, so that hardly more memory is needed than for one copy.
    """
    if len({image.shape for image in images}) != 1:
        return images
    joined = torch.empty((len(images), *images[0].shape), dtype=torch.uint8)
    images.reverse()
    for row in joined:
        row.copy_(images.pop())
    return joined
