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

import errno
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.files import picture_names
from ..evaluation import BeforeAfter, Shown, before_after_page, check_replaceable, show
from ..functional.resample import repeated
from ..photos import (
    FORMATS,
    VIDEOS,
    NotEnoughMemory,
    Picture,
    deviation,
    lies_in,
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
from ..training.progress import Tell, waiting

__all__ = ["find_restorer", "run"]

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS)
_SHOWN = 24  # pictures on a page
_SHARES = 1000  # of a picture, for the bar


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
    jobs = _jobs(source, output, in_place=in_place)
    if page is not None:
        check_replaceable(page, page=page)
    restorer = _on(find_restorer(what, checkpoint, tell=print), place)
    worker = _Worker(restorer, place, tile, shows=0 if page is None else _SHOWN)
    tally = _Tally(len(jobs), output or source, in_place=in_place)
    again = overwrite or in_place
    try:
        with waiting("restoring") as tell:
            for number, job in enumerate(jobs):
                _attempt(job, worker, tally, _share(tell, number, len(jobs)), again=again)
    except KeyboardInterrupt:
        tally.report()
        print(f"error: stopped {tally.so_far()}", file=sys.stderr)
        return 130
    if page is not None:
        _write_page(page, worker.shown, what, tally.restored)
    if source.is_file() and tally.failed:
        raise ValueError(f"{source}: {tally.failed[0][1]}")
    tally.report()
    return 1 if tally.failed else 0


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


@dataclass(frozen=True)
class _Job:
    """A picture to restore: its name, where it is read, where it is written."""

    name: str
    source: Path
    target: Path


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


@dataclass
class _Tally:
    """What became of the pictures."""

    total: int
    output: Path
    in_place: bool
    restored: int = 0
    skipped: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def so_far(self) -> str:
        """Returns how many are done, and how to go on."""
        done = f"after {self.restored} of {self.total} pictures"
        if self.in_place:
            return f"{done}, the first in the order of names; the same command would restore them again"
        return f"{done}; the same command goes on"

    def report(self) -> None:
        """Prints what there is to say, and the numbers."""
        lines = [*self.notes, *(f"failed {name}: {reason}" for name, reason in self.failed)]
        counts = [f"restored {self.restored}"]
        if self.skipped:
            counts.append(f"skipped {self.skipped} that are there (--overwrite restores them)")
        if self.failed:
            counts.append(f"failed {len(self.failed)}")
        summary = f"{', '.join(counts)} of {self.total} pictures, to {self.output}"
        print("\n".join((*lines, summary)))


def _attempt(job: _Job, worker: _Worker, tally: _Tally, progress: Tell, *, again: bool) -> None:
    """Restores one picture, and counts what became of it.

    Raises:
        OSError: If there is no space left.
    """
    try:
        if not _is_wanted(job, in_place=tally.in_place, again=again):
            tally.skipped += 1
            return
        notes = _restored(job, worker, progress)
    except OSError as error:
        if error.errno in _FULL:
            raise OSError(f"{job.target}: {error.strerror}; stopped {tally.so_far()}") from error
        tally.failed.append((job.name, error.strerror or str(error)))
    except (ValueError, NotEnoughMemory, MemoryError) as error:
        tally.failed.append((job.name, " ".join(str(error).split()) or "not enough memory"))
    else:
        tally.restored += 1
        tally.notes += [f"{job.name}: {note}" for note in notes]
    tally.notes += worker.notes
    worker.notes.clear()


def _restored(job: _Job, worker: _Worker, progress: Tell) -> tuple[str, ...]:
    """Restores a picture or a video, and returns what is not kept of it."""
    if _is_video(job.source):
        restore_video(worker.restore_frame, job.source, job.target, progress)
        return ()
    picture = read_picture(job.source)
    lost = write_picture(worker.restore(picture, progress, job.name), job.target)
    return (*picture.notes, *lost)


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


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS


def _is_wanted(job: _Job, *, in_place: bool, again: bool) -> bool:
    if job.target.is_dir():
        raise ValueError(f"{job.target} is a folder; move it")
    if not in_place and job.target.exists() and job.target.samefile(job.source):
        raise ValueError(
            f"{job.target} is the input itself; choose another place, or give --in-place"
        )
    return again or not os.path.lexists(job.target)


def _jobs(source: Path, output: Path | None, *, in_place: bool) -> list[_Job]:
    """Returns what there is to do; nothing is written yet."""
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give a picture or a folder of pictures")
    output = _output(source, output, in_place=in_place)
    if source.is_dir():
        names = picture_names(source)
        if not names:
            raise ValueError(f"{source} holds no pictures; looked for {' '.join(FORMATS)}")
        return [_Job(name, source / name, output / name) for name in names]
    if not in_place and (output.is_dir() or not output.suffix):
        output = output / source.name
    kind, endings = ("videos", VIDEOS) if _is_video(source) else ("pictures", tuple(FORMATS))
    if output.suffix.lower() not in endings:
        raise ValueError(f"{output}: {kind} are written to names ending in {' '.join(endings)}")
    return [_Job(source.name, source, output)]


def _output(source: Path, output: Path | None, *, in_place: bool) -> Path:
    """Returns where pictures are written.

    Raises:
        ValueError: If that is missing, or would write over the input unasked.
    """
    if in_place:
        if output is not None and not (output.exists() and output.samefile(source)):
            raise ValueError(
                f"{output} is not the input {source}; leave it out, or leave out --in-place"
            )
        return source
    if output is None:
        raise ValueError(f"{source}: give OUTPUT too, or --in-place to replace the pictures")
    if not source.is_dir():
        return output
    if output.is_file() or output.suffix.lower() in FORMATS:
        raise ValueError(f"{output} is one picture, but {source} is a folder; give a folder")
    if lies_in(output, source) or lies_in(source, output):
        raise ValueError(
            f"{output} and the input {source} are one folder, or one lies in the other; choose a place outside "
            "of it, or give --in-place to replace the pictures"
        )
    return output


def _on(restorer: Restorer, device: torch.device) -> Restorer:
    if isinstance(restorer, nn.Module):
        restorer.to(device)
    return restorer


def _share(tell: Tell, number: int, total: int) -> Tell:
    """Returns what is told of the tiles of one picture of several."""

    def of_tiles(done: int, tiles: int) -> None:
        tell(int((number + done / tiles) * _SHARES), total * _SHARES)

    return of_tiles
