"""The images of a run: observed ones, damaged first where there is a setting, and clean ones to be taught with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath

import torch

from ..data import (
    Draw,
    ImageReader,
    Images,
    Shrunk,
    Source,
    StreamedImages,
    Subset,
    clean_of,
    open_images,
    open_source,
)
from ..degradations import FrozenSource, freeze, setting, untouched
from ..systems.base import Clean
from .config import DataConfig
from .processes import is_main
from .progress import Tell, waiting

__all__ = ["crops", "observed_images", "photographs", "taught_images"]


def taught_images(
    data: DataConfig, clean: Clean, *, seed: int, workers: int = 4, silent: bool = False
) -> tuple[ImageReader, ImageReader]:
    """Opens observed images and the clean ones that a system is taught with.

    Partners are those of the same names in ``data.clean``, or those of a ``data.source`` that lists pairs, or the
    images of ``data.source`` before its setting damages them. A set is ``data.clean``, or those images of
    ``data.source`` that its setting spares; the others are observed.

    Arguments:
        data: Where images come from.
        clean: Whether partners or a set are wanted.
        seed: The seed of the run, which is that of the frozen degraded copies.
        workers: The number of reading threads for sets too large for memory.
        silent: Whether nothing is printed.

    Returns:
        The observed images, and the clean ones; partners have the same number.

    Raises:
        ValueError: If there are none, or partners do not fit; in one line.
    """
    if data.clean is None and data.setting is None:
        data = replace(data, clean=clean_of(data.source))
    opened = functools.partial(observed_images, seed=seed, workers=workers, silent=silent)
    if data.clean is None and data.setting is None:
        raise ValueError(
            f"{data.source} has no clean images to teach with: give them with --clean SOURCE, or clean images "
            "as --data and the damage as --setting"
        )
    if data.clean is None and clean == "set":
        return _split_by_damage(data, opened, seed)
    observed = opened(data)
    source = data.source if data.clean is None else data.clean
    taught = opened(replace(data, source=source, setting=None))
    if clean == "partners" and data.clean is not None:
        _check_partners(data, observed, taught)
    return observed, taught


def _split_by_damage(
    data: DataConfig, opened: Callable[[DataConfig], Images | StreamedImages], seed: int
) -> tuple[Subset, Subset]:
    """Returns the damaged images of a partial setting, and those that are as they were."""
    assert data.setting is not None
    observed = opened(data)
    first = observed.begin(Draw(torch.zeros(1, dtype=torch.long)))()
    _, C, H, W = first.shape
    spared = untouched(setting(data.setting), len(observed), (C, H, W), seed=seed)
    if spared.all() or not spared.any():
        which = "none" if spared.all() else "all"
        raise ValueError(
            f"of {len(observed)} images {data.setting} damages {which}: there are no two sets to learn from; use a "
            "setting that damages some (E to G, K to M, O to Q), or give clean images with --clean SOURCE"
        )
    damaged, clean = ((~spared).nonzero().squeeze(1), spared.nonzero().squeeze(1))
    return Subset(observed, damaged), Subset(observed, clean)


def _check_partners(data: DataConfig, observed: ImageReader, clean: ImageReader) -> None:
    """Refuses sets whose images do not have the same names, up to the ending."""
    assert data.clean is not None
    mine, theirs = (_stems(data, spec) for spec in (data.source, data.clean))
    for stem in sorted(mine ^ theirs)[:1]:
        here, there = (data.source, data.clean) if stem in mine else (data.clean, data.source)
        raise ValueError(
            f"{stem} of {here} has no partner of the same name in {there}; partners have the same path in both, "
            "up to the ending"
        )
    if len(observed) != len(clean):
        raise ValueError(
            f"{data.source} has {len(observed)} images and {data.clean} {len(clean)}; each must have one partner"
        )


def _stems(data: DataConfig, spec: str) -> set[str]:
    source = open_source(spec, mixed=True, memory=0, limit=data.limit, skip_bad=data.skip_bad)
    return {str(PurePosixPath(source.name(i)).with_suffix("")) for i in range(len(source))}


def observed_images(
    data: DataConfig, *, seed: int, workers: int = 4, silent: bool = False
) -> Images | StreamedImages:
    """Opens a run's training images, damaged first where there is a setting.

    Arguments:
        data: Where images come from.
        seed: The seed of the run, which is that of the frozen degraded copies.
        workers: The number of reading threads for sets too large for memory.
        silent: Whether nothing is printed; of several processes only the main one speaks anyway.

    Raises:
        ValueError: If the source does not exist, is broken or does not fit; in one line.
    """
    if data.random_crop:
        return crops(photographs(data, seed=seed, silent=silent), data, workers=workers)
    silent = silent or not is_main()
    images = open_images(_opened(data, silent=silent), workers=workers)
    if data.setting is None:
        return images
    damage = setting(data.setting)
    if isinstance(images, Images):
        with waiting(f"degrading images by {data.setting}", silent=silent) as tell:
            progress = functools.partial(_followed, tell=tell, total=len(images))
            return Images(freeze(damage, images.images, seed=seed, progress=progress))
    images.close()
    return StreamedImages(FrozenSource(images.source, damage, seed=seed), workers=workers)


def crops(source: Source, data: DataConfig, *, workers: int = 4) -> StreamedImages:
    """Returns random crops of photographs, or of small copies of them.

    Arguments:
        source: The photographs, as :func:`photographs` opens them.
        data: How they are cropped, and how many times smaller they are made first.
        workers: The number of reading threads.
    """
    if data.shrink > 1:
        source = Shrunk(source, data.shrink)
    # What is made smaller has lost the grid.
    grid = data.keep_jpeg_grid and data.shrink == 1
    return StreamedImages(source, crop=data.size, keep_jpeg_grid=grid, workers=workers)


def photographs(data: DataConfig, *, seed: int, silent: bool = False) -> Source:
    """Opens whole images that are larger than what is trained on, damaged first where there is a setting.

    Arguments:
        data: Where images come from; every one must be as large as a crop.
        seed: The seed of the run, which is that of the frozen degraded copies.
        silent: Whether nothing is printed.

    Raises:
        ValueError: If the source does not exist, is broken or does not fit; in one line.
    """
    if data.size is None or data.fit == "resize":
        raise ValueError("data.random_crop=true needs data.size, and takes no --fit resize")
    source = _opened(data, silent=silent or not is_main())
    if data.setting is None:
        return source
    return FrozenSource(source, setting(data.setting), seed=seed)


def _opened(data: DataConfig, *, silent: bool) -> Source:
    """Opens the source, and says what was skipped."""
    whole = data.random_crop
    with waiting("reading images", silent=silent) as tell:
        source = open_source(
            data.source,
            size=None if whole else data.size,
            fit="none" if whole else data.fit,
            mixed=whole,
            smallest=(data.size or 1) * data.shrink if whole else None,
            channels=data.channels,
            limit=data.limit,
            skip_bad=data.skip_bad,
            keep_jpeg_grid=data.keep_jpeg_grid,
            progress=tell,
        )
    for name, reason in () if silent else source.skipped:
        print(f"skipped {name}: {reason}")
    return source


def _followed(starts: Iterator[int], tell: Tell, total: int) -> Iterator[int]:
    """Tells how many images are done while batches that start at these numbers are asked for."""
    for start_of_batch in starts:
        tell(start_of_batch, total)
        yield start_of_batch
    tell(total, total)
