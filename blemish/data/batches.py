r"""Batches as a pure function of progress.

Training goes through the N images in a new order in every epoch. Progress is the number of images
seen; the image at position :math:`p = 0, 1, 2, \ldots` of that endless walk is

.. math:: i(p) = \pi_e(p \bmod N), \qquad e = \lfloor p / N \rfloor,

where the permutation :math:`\pi_e`, and likewise the flips and the corners of random crops, are
drawn from (seed, e) alone. A batch is a stretch of the walk; it may straddle epochs. So a resumed run
sees what an unbroken one sees, whatever the sizes of batches, and nothing needs to be saved.

A random crop takes its corner at :math:`\lfloor u \, (\lfloor (H - S) / 8 \rfloor + 1) \rfloor \cdot 8`,
u from U[0, 1): at multiples of 8 pixels, so that the blocks of a JPEG file stay where they are.
(A flip keeps the blocks where the width is a multiple of 8.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, final

import torch
from torch import Tensor

from ..functional.random import generator_for, rand
from .base import MemorySource, Source
from .glyphs import Glyphs
from .open import MEMORY

__all__ = [
    "Draw",
    "ImageBatches",
    "ImageReader",
    "Images",
    "JoinedBatches",
    "StreamedImages",
    "Subset",
    "batch_indices",
    "draw",
    "hold_out",
    "load_images",
    "open_images",
    "read_images",
]


@dataclass(frozen=True)
class Draw:
    """The images of one batch and how they are shown.

    Attributes:
        indices: Numbers of images, int64, with shape (B).
        flips: Which are mirrored left to right, bool, with shape (B); None mirrors none.
        corners: Where random crops start, from U[0, 1), with shape (B, 2); None crops the centre.
    """

    indices: Tensor
    flips: Tensor | None = None
    corners: Tensor | None = None


def batch_indices(n_images: int, batch: int, images_seen: int, seed: int) -> Tensor:
    """Returns which images the batch holds that starts at some progress.

    Arguments:
        n_images: The number N of images.
        batch: The number B of images in the batch, at least 1; it may exceed N.
        images_seen: The number of images seen before this batch.
        seed: The seed of the run.

    Returns:
        Numbers in [0, N), int64, with shape (B); every image comes once an epoch.

    Raises:
        ValueError: If there are no images, or a number is negative.
    """
    return _walk(n_images, batch, images_seen, seed, _order)


def draw(
    n_images: int,
    batch: int,
    images_seen: int,
    seed: int,
    *,
    flip: bool = False,
    random_crop: bool = False,
) -> Draw:
    """Draws the batch that starts at some progress: which images, and how they are shown.

    Arguments:
        n_images: The number of images.
        batch: The number of images in the batch.
        images_seen: The number of images seen before this batch.
        seed: The seed of the run.
        flip: Whether half of the images are mirrored.
        random_crop: Whether crops start at random corners.
    """
    return Draw(
        indices=batch_indices(n_images, batch, images_seen, seed),
        flips=_walk(n_images, batch, images_seen, seed, _flips) if flip else None,
        corners=_walk(n_images, batch, images_seen, seed, _corners) if random_crop else None,
    )


def load_images(source: Source) -> Tensor:
    """Reads all images of a source.

    Returns:
        A uint8 tensor, with shape (N, C, H, W).

    Raises:
        ValueError: If the images have different sizes.
    """
    if isinstance(source, MemorySource):
        return source.tensor()
    if isinstance(source, Glyphs):
        return source.draw(range(len(source)))
    if source.size is None:
        raise ValueError(
            f"{source.describe()}: images of different sizes make no tensor; open the source with a "
            "size and fit='crop' or 'resize' (--size N --fit crop)"
        )
    images = torch.empty((len(source), source.channels, *source.size), dtype=torch.uint8)
    for row, image in zip(images, source.read_each(range(len(source))), strict=True):
        row.copy_(image)
    return images


class ImageReader(Protocol):
    """What :class:`ImageBatches` needs: in memory (:class:`Images`) or not."""

    def __len__(self) -> int: ...

    def begin(self, draw: Draw) -> Callable[[], Tensor]:
        """Begins to read a batch ``(B, C, H, W)``; the returned function waits for it."""
        ...


@final
class Images:
    """Images in memory.

    Arguments:
        images: A uint8 tensor, with shape (N, C, H, W); batches are made on its device.
    """

    def __init__(self, images: Tensor) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(
                f"got {images.dtype} with shape {tuple(images.shape)}; Images takes uint8 (N, C, H, W)"
            )
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor, *, flips: Tensor | None = None) -> Tensor:
        """Returns images.

        Arguments:
            indices: Their numbers, int64, with shape (B).
            flips: Which are mirrored left to right, bool, with shape (B).

        Returns:
            Images in [0, 1], float32, with shape (B, C, H, W).
        """
        return _finish(self.images[indices.to(self.images.device)], flips)

    def begin(self, draw: Draw) -> Callable[[], Tensor]:
        """Begins to read a batch ``(B, C, H, W)``; the returned function waits for it."""
        if draw.corners is not None:
            raise ValueError("images in memory are cropped already; use StreamedImages(crop=...)")
        return functools.partial(self.batch, draw.indices, flips=draw.flips)


@final
class StreamedImages:
    """Images that are read when they are needed, by threads; decoding runs beside training.

    Arguments:
        source: Where they are read from; of any sizes if they are cropped.
        crop: The side S of the square crops in pixels; None takes images as they are.
        keep_jpeg_grid: Whether crops start at multiples of 8 pixels.
        workers: The number of threads.

    Raises:
        ValueError: If sizes differ and there is no crop.
    """

    def __init__(
        self,
        source: Source,
        *,
        crop: int | None = None,
        keep_jpeg_grid: bool = True,
        workers: int = 4,
    ) -> None:
        if crop is None and source.size is None:
            raise ValueError(
                f"{source.describe()}: images of different sizes need a crop (--size N)"
            )
        self.source, self.crop, self.grid = source, crop, 8 if keep_jpeg_grid else 1
        self.pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="images")

    def __len__(self) -> int:
        return len(self.source)

    def batch(
        self, indices: Tensor, *, flips: Tensor | None = None, corners: Tensor | None = None
    ) -> Tensor:
        """Returns images.

        Arguments:
            indices: Their numbers, int64, with shape (B).
            flips: Which are mirrored left to right, bool, with shape (B).
            corners: Where crops start, in [0, 1), with shape (B, 2); None crops the centre.

        Returns:
            Images in [0, 1], float32, with shape (B, C, H, W).

        Raises:
            ValueError: If an image is smaller than the crop, or broken.
        """
        return self.begin(Draw(indices, flips, corners))()

    def begin(self, draw: Draw) -> Callable[[], Tensor]:
        """Begins to read a batch ``(B, C, H, W)``; the returned function waits for it."""
        corners = [None] * len(draw.indices) if draw.corners is None else draw.corners.tolist()
        futures = [
            self.pool.submit(self._one, index, corner)
            for index, corner in zip(draw.indices.tolist(), corners, strict=True)
        ]
        return functools.partial(_collect, futures, draw.flips)

    def close(self) -> None:
        """Ends the threads."""
        self.pool.shutdown(wait=True, cancel_futures=True)

    def _one(self, index: int, corner: list[float] | None) -> Tensor:
        image = self.source.read(index)
        if self.crop is None:
            return image
        height, width = image.shape[-2:]
        if min(height, width) < self.crop:
            raise ValueError(
                f"{self.source.name(index)} ({height}x{width}) is smaller than the crop "
                f"{self.crop}x{self.crop}; choose a smaller one"
            )
        top = _start(height - self.crop, None if corner is None else corner[0], self.grid)
        left = _start(width - self.crop, None if corner is None else corner[1], self.grid)
        return image[:, top : top + self.crop, left : left + self.crop]


def open_images(
    source: Source,
    *,
    random_crop: int | None = None,
    keep_jpeg_grid: bool = True,
    workers: int = 4,
    memory: int = MEMORY,
) -> Images | StreamedImages:
    """Returns the images of a source in memory where they fit, else streamed.

    Arguments:
        source: The source.
        random_crop: The side of random crops, which are always streamed; None takes images as
            they are.
        keep_jpeg_grid: Whether crops start at multiples of 8 pixels.
        workers: The number of reading threads.
        memory: The most bytes of images held in memory.
    """
    if random_crop is None and source.size is not None:
        height, width = source.size
        if len(source) * source.channels * height * width <= memory:
            return Images(load_images(source))
    return StreamedImages(source, crop=random_crop, keep_jpeg_grid=keep_jpeg_grid, workers=workers)


@final
class Subset:
    """Some of the images of a set, which are not copied.

    Arguments:
        images: The set.
        indices: The numbers of those taken, int64, with shape (N).
    """

    def __init__(self, images: ImageReader, indices: Tensor) -> None:
        self.images, self.indices = images, indices

    def __len__(self) -> int:
        return len(self.indices)

    def begin(self, draw: Draw) -> Callable[[], Tensor]:
        """Begins to read a batch ``(B, C, H, W)``; the returned function waits for it."""
        return self.images.begin(replace(draw, indices=self.indices[draw.indices]))


def hold_out(images: ImageReader, count: int, seed: int) -> tuple[Subset, Subset]:
    """Splits images at random into those to train on and those kept.

    Arguments:
        images: The images.
        count: The number of images kept, less than all.
        seed: Determines which.

    Returns:
        The images to train on, and the others, both in their old order.

    Raises:
        ValueError: If the count is negative, or leaves nothing.
    """
    if not 0 <= count < len(images):
        raise ValueError(f"cannot keep {count} of {len(images)} images; keep fewer, at least 0")
    order = torch.randperm(len(images), generator=generator_for(seed, "held out"))
    kept, rest = order[:count].sort().values, order[count:].sort().values
    return Subset(images, rest), Subset(images, kept)


def read_images(images: ImageReader, batch: int = 256) -> Iterator[Tensor]:
    """Yields all images once, in order and in [0, 1], with shape (B, C, H, W).

    Arguments:
        images: The images; of crops, the middle ones.
        batch: The number of images at a time.
    """
    for indices in torch.split(torch.arange(len(images)), batch):
        yield images.begin(Draw(indices))()


@final
class ImageBatches:
    """The batches of a run, as a function of progress; the next ones are read ahead.

    Several processes share a batch by asking for different stretches of the same walk.

    Arguments:
        images: Where images are read from.
        seed: The seed of the run.
        flip: Whether half of the images are mirrored.
        random_crop: Whether crops start at random corners (streamed images with a crop only).
        stride: How far the next batch starts behind this one, which is what is read ahead; None
            means where this one ends.
        ahead: The number of batches that are read ahead.
    """

    def __init__(
        self,
        images: ImageReader,
        seed: int,
        *,
        flip: bool = False,
        random_crop: bool = False,
        stride: int | None = None,
        ahead: int = 2,
    ) -> None:
        self.images, self.seed = images, seed
        self.flip, self.random_crop = flip, random_crop
        self.stride, self.ahead = stride, ahead
        self._coming: dict[tuple[int, int], Callable[[], Tensor]] = {}

    def __call__(self, images_seen: int, batch: int) -> Tensor:
        """Returns the batch that starts at some progress.

        Arguments:
            images_seen: The number of images before the first of this batch.
            batch: The number B of images.

        Returns:
            Images in [0, 1], float32, with shape (B, C, H, W).
        """
        stride = self.stride or batch
        wanted = [(images_seen + k * stride, batch) for k in range(self.ahead + 1)]
        self._coming = {key: self._coming.get(key) or self._begin(*key) for key in wanted}
        return self._coming.pop(wanted[0])()

    def iterate(self, batch: int, images_seen: int = 0) -> Iterator[Tensor]:
        """Yields batches ``(B, C, H, W)`` without end, from some progress on."""
        while True:
            yield self(images_seen, batch)
            images_seen += self.stride or batch

    def _begin(self, images_seen: int, batch: int) -> Callable[[], Tensor]:
        return self.images.begin(
            draw(
                len(self.images),
                batch,
                images_seen,
                self.seed,
                flip=self.flip,
                random_crop=self.random_crop,
            )
        )


@final
class JoinedBatches:
    """Two sets of images, of which a batch holds the channels of both.

    Arguments:
        first: The batches of the first set.
        second: Those of the second, of images of the same size.
    """

    def __init__(self, first: ImageBatches, second: ImageBatches) -> None:
        self.first, self.second = first, second

    def __call__(self, images_seen: int, batch: int) -> Tensor:
        """Returns the batches of both that start at some progress, with shape (B, C + C', H, W)."""
        return torch.cat([self.first(images_seen, batch), self.second(images_seen, batch)], dim=1)


def _walk(
    n_images: int, batch: int, images_seen: int, seed: int, draws: Callable[[int, int, int], Tensor]
) -> Tensor:
    """Returns rows p, ..., p + B - 1 of the per-epoch draws laid end to end."""
    if n_images < 1 or batch < 1 or images_seen < 0:
        raise ValueError(
            f"n_images={n_images}, batch={batch}, images_seen={images_seen}: the first two are at "
            "least 1, the last at least 0"
        )
    parts, position, stop = [], images_seen, images_seen + batch
    while position < stop:
        epoch, start = divmod(position, n_images)
        part = draws(n_images, seed, epoch)[start : start + stop - position]
        parts.append(part)
        position += len(part)
    return torch.cat(parts)


@functools.lru_cache(maxsize=4)
def _order(n_images: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n_images, generator=generator_for(seed, "order", epoch))


@functools.lru_cache(maxsize=4)
def _flips(n_images: int, seed: int, epoch: int) -> Tensor:
    return rand((n_images,), generator_for(seed, "flip", epoch)) < 0.5


@functools.lru_cache(maxsize=4)
def _corners(n_images: int, seed: int, epoch: int) -> Tensor:
    return rand((n_images, 2), generator_for(seed, "corner", epoch))


def _start(room: int, u: float | None, grid: int) -> int:
    if u is None:
        return room // 2 // grid * grid
    return int(u * (room // grid + 1)) * grid


def _finish(images: Tensor, flips: Tensor | None) -> Tensor:
    shown = images.float() / 255
    if flips is None:
        return shown
    return torch.where(flips.to(shown.device)[:, None, None, None], shown.flip(-1), shown)


def _collect(futures: list[Future[Tensor]], flips: Tensor | None) -> Tensor:
    return _finish(torch.stack([future.result() for future in futures]), flips)
