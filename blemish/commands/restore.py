"""``blemish restore``: restored photographs from photographs.

Pictures of any size are restored in tiles (:mod:`blemish.photos.tiles`) and keep their depth, alpha and
metadata (:mod:`blemish.photos.picture`). A folder keeps its structure and its names. What is there already is
stepped over, so that a run which was stopped goes on with the same command. What cannot be read is reported and
stepped over, and makes the exit code 1. An output is whole or is not there, and nothing is written over an input
unless ``--in-place`` asks for it.

A video is restored frame by frame (:mod:`blemish.photos.video`); those in folders are left out.

Grey pictures and restorers of RGB go together, and the other way round (:mod:`blemish.photos.channels`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..evaluation import BeforeAfter, Shown, before_after_page, check_replaceable, show
from ..functional.resample import repeated
from ..photos import (
    Picture,
    deviation,
    read_picture,
    restore_tiled,
    restore_video,
    tiling,
    with_channels,
    write_picture,
)
from ..restorers import Restorer
from ..runs import Run, Which, load
from ..training.checkpoint import write_atomically
from ..training.processes import find_device
from ..training.progress import Tell
from .pictures import Job, Tally, conclude, find_jobs, is_video, work

__all__ = ["find_restorer", "run"]

_SHOWN = 24  # pictures on a page


def run(
    what: str,
    source: Path,
    output: Path | None,
    *,
    tile: int,
    overwrite: bool = False,
    in_place: bool = False,
    page: Path | None = None,
    device: str = "auto",
    checkpoint: Which | None = None,
) -> int:
    """Restores a picture or a video, or all pictures in a folder.

    Arguments:
        what: A run's folder or a restorer's.
        source: A picture, a video or a folder.
        output: The picture or the folder written; of one picture, a folder keeps its name. None with ``in_place``.
        tile: The largest side of a tile in pixels.
        overwrite: Whether pictures that are there are restored again; else they are stepped over.
        in_place: Whether each picture is replaced by the restored one, as soon as that is whole.
        page: A page of the first pictures before and after, or None.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        checkpoint: Of a run, ``best`` or ``last``; None means the best where one was chosen.

    Returns:
        0, or 1 where pictures of a folder failed, or 130 where Ctrl-C stopped it.

    Raises:
        ValueError: If an argument does not fit, or the one picture cannot be restored; in one line.
        OSError: If a file cannot be read or there is no space left.
    """
    place = find_device(device)
    jobs = find_jobs(source, output, in_place=in_place)
    if page is not None:
        check_replaceable(page, page=page)
    restorer = _on(find_restorer(what, checkpoint, tell=print), place)
    worker = _Worker(restorer, place, tile, shows=0 if page is None else _SHOWN)
    tally = Tally(len(jobs), output or source, in_place=in_place)
    code = work(jobs, worker, tally, "restoring", again=overwrite or in_place)
    if page is not None and code != 130:
        _write_page(page, worker.shown, what, tally.done)
    return conclude(source, tally, code)


def find_restorer(
    what: str, checkpoint: Which | None = None, *, tell: Callable[[str], object] | None = None
) -> Restorer:
    """Returns a restorer from the folder of a run or of a restorer.

    Arguments:
        what: The folder.
        checkpoint: Of a run, ``best`` or ``last``; None means the best where one was chosen.
        tell: Is told which checkpoint of a run it is.

    Raises:
        ValueError: If there is no restorer in it.
        FileNotFoundError: If it is neither.
    """
    found = load(what, checkpoint)
    if isinstance(found, Run):
        if not (found.parts / "restorer").is_dir():
            raise ValueError(
                f"{what} has no restorer: its recipe {found.config.recipe!r} trains none; give the folder of "
                "a restorer, or of a run that has one"
            )
        if tell is not None:
            tell(f"using {found.describe()}")
        found = found.restorer
    if not isinstance(found, Restorer):
        raise ValueError(f"{what} holds a {type(found).__name__}, which restores nothing")
    return found


@dataclass
class _Worker:
    """A restorer on its device, and the side of tiles that memory has allowed so far."""

    restorer: Restorer
    device: torch.device
    tile: int
    notes: list[str] = field(default_factory=list)
    measured: bool = False
    shows: int = 0
    shown: list[Shown] = field(default_factory=list)

    def carry_out(self, job: Job, progress: Tell) -> tuple[str, ...]:
        """Restores a picture or a video, and returns what is not kept of it."""
        if is_video(job.source):
            restore_video(self.restore_frame, job.source, job.target, progress)
            return ()
        picture = read_picture(job.source)
        lost = write_picture(self.restore(picture, progress, job.name), job.target)
        return (*picture.notes, *lost)

    def restore(self, picture: Picture, progress: Tell, name: str = "") -> Picture:
        """Restores the colours of a picture, and enlarges its alpha if the restorer enlarges."""
        restorer = with_channels(self.restorer, picture.colours.shape[2])
        y = torch.from_numpy(picture.colours).permute(2, 0, 1)[None]
        x = restore_tiled(
            restorer, y, tile=self.tile, device=self.device, progress=progress, smaller=self._shrink
        )
        self._measure(restorer, y)
        if len(self.shown) < self.shows:
            self.shown.append(show(BeforeAfter(name, repeated(_unit(y), restorer.scale), _unit(x))))
        alpha = picture.alpha
        if alpha is not None:
            alpha = alpha.repeat(restorer.scale, axis=0).repeat(restorer.scale, axis=1)
        colours = np.ascontiguousarray(x[0].permute(1, 2, 0).numpy())
        return replace(picture, colours=colours, alpha=alpha)

    def restore_frame(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Restores a frame of a video, with shape (H, W, 3)."""
        return self.restore(Picture(frame), lambda done, total: None).colours

    def _shrink(self, tile: int) -> None:
        self.notes.append(
            f"not enough memory for tiles of {self.tile} pixels; going on with tiles of {tile}"
        )
        self.tile = tile

    def _measure(self, restorer: Restorer, y: Tensor) -> None:
        """Says once by how much tiles that overlap too little deviate."""
        cut = tiling(restorer, self.tile)
        if cut.exact or self.measured or max(y.shape[-2:]) <= self.tile:
            return
        self.measured = True
        found = deviation(restorer, y, tile=self.tile, device=self.device)
        how_far = "not measured for want of memory"
        if found is not None:
            difference, (height, width) = found
            how_far = f"{255 * difference:.2f}/255 at most, in the middle {width}x{height} pixels of a picture"
        self.notes.append(
            f"the restorer sees {restorer.receptive_field} pixels wide, more than tiles of {self.tile} can "
            f"overlap: they fade into one another, and deviate from the untiled picture ({how_far}); a "
            "larger --tile deviates less"
        )


def _write_page(page: Path, shown: list[Shown], what: str, restored: int) -> None:
    """Writes the page of the pictures before and after."""
    if not shown:
        print(f"no {page} was written: nothing was restored")
        return
    lead = f"{restored:,} pictures, restored by {what}." if restored > 1 else f"Restored by {what}."
    if restored > len(shown):
        lead += f" The first {len(shown)} are shown."
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page, before_after_page(shown, lead=lead).encode())
    print(f"wrote {page}")


def _unit(pixels: Tensor) -> Tensor:
    """Returns a picture (1, C, H, W) in [0, 1], with shape (C, H, W)."""
    peak = 65535 if pixels.dtype == torch.uint16 else 255
    return pixels[0].float() / peak


def _on(restorer: Restorer, device: torch.device) -> Restorer:
    if isinstance(restorer, nn.Module):
        restorer.to(device)
    return restorer
