"""``blemish sample``: draw clean images from a trained run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..degradations import to_uint8
from ..priors import Prior, sample_batches
from ..runs import Run, Which, load
from ..training.grids import save_grid

__all__ = ["run", "sample_images"]

_BATCH = 256
# As _write numbers them; the pictures that a run's training left have ten digits.
_PICTURE = re.compile(r"([0-9]{6}|[1-9][0-9]{6,})\.png")


def run(
    run: Path,
    *,
    out: Path | None,
    count: int,
    seed: int,
    grid: Path | None,
    overwrite: bool = False,
    checkpoint: Which | None = None,
) -> int:
    """Draws images and writes them.

    Image i depends on the seed and on i alone.

    Arguments:
        run: The folder of a run, or of a prior.
        out: The folder for single pictures, or None.
        count: The number of images.
        seed: The seed.
        grid: The file for one picture with all of them, or None; it ends in ``.png``.
        overwrite: Whether pictures of the same numbers, and the grid's file, are replaced.
        checkpoint: ``best`` or ``last``; None means the best where one was chosen.

    Returns:
        0.

    Raises:
        ValueError: If an argument does not fit; in one line.
        FileExistsError: If something is there and may not be replaced.
    """
    _check_outputs(out, grid, count=count, overwrite=overwrite)
    loaded = load(run, checkpoint)
    if isinstance(loaded, Run):
        print(f"using {loaded.describe()}")
    prior = loaded.prior if isinstance(loaded, Run) else loaded
    if not isinstance(prior, Prior):
        raise ValueError(f"{run} holds a {type(prior).__name__}; give a run or a prior")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    kept, start = [], 0
    for images in _progress(_batches(prior, count, seed), total=count):
        if out is not None:
            _write(images, out, start)
        if grid is not None:
            kept.append(images)
        start += len(images)
    if grid is not None:
        save_grid(torch.cat(kept), grid, columns=max(1, round(count**0.5)))
        print(f"wrote {grid}")
    if out is not None:
        print(f"wrote {count} images to {out}")
    return 0


def sample_images(prior: Prior, count: int, *, seed: int) -> Tensor:
    """Draws images in [0, 1], with shape (count, C, H, W); image i depends on (seed, i) alone.

    Arguments:
        prior: The prior, on the CPU.
        count: The number of images.
        seed: The seed.
    """
    return torch.cat(list(_batches(prior, count, seed)))


def _batches(prior: Prior, count: int, seed: int) -> Iterator[Tensor]:
    return sample_batches(prior, count, seed=seed, batch=_BATCH)


def _check_outputs(out: Path | None, grid: Path | None, *, count: int, overwrite: bool) -> None:
    if grid is not None and grid.suffix.lower() != ".png":
        raise ValueError(f"--grid {grid}: the picture is written as PNG; end the name in .png")
    if overwrite:
        if out is not None:
            _check_others(out, count)
        return
    if out is not None and out.exists() and any(out.iterdir()):
        raise FileExistsError(
            f"{out} is not empty; choose another folder, or give --overwrite to replace its "
            "numbered pictures"
        )
    if grid is not None and grid.exists():
        raise FileExistsError(f"{grid} exists; give --overwrite to replace it")


def _check_others(out: Path, count: int) -> None:
    """Refuses to mix new pictures with older ones, which are perhaps no samples: none is deleted."""
    numbered = [f.name for f in out.iterdir() if _PICTURE.fullmatch(f.name)] if out.exists() else []
    others = sorted(name for name in numbered if int(name.removesuffix(".png")) >= count)
    if others:
        raise FileExistsError(
            f"{out} holds {others[0]} ({len(others)} in all), which {count} images would not replace; "
            "remove them, or choose another folder"
        )


def _write(images: Tensor, out: Path, start: int) -> None:
    for i, image in enumerate(to_uint8(images), start):
        pixels = image.permute(1, 2, 0).numpy()
        picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
        picture.save(out / f"{i:06d}.png")


def _progress(batches: Iterator[Tensor], *, total: int) -> Iterator[Tensor]:
    """Shows a bar on stderr, where there is more than one batch to wait for."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("sampling", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = total <= _BATCH or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=total)
        for images in batches:
            yield images
            bar.advance(task, len(images))
