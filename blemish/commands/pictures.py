"""What verbs that go over pictures have in common: finding them, stepping over what cannot be read, and counting.

What is there already is stepped over, so that a run which was stopped goes on with the same command. What cannot be read
is reported and stepped over, and makes the exit code 1. Nothing is written over an input unless it is asked for.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..data.files import picture_names
from ..photos import FORMATS, VIDEOS, NotEnoughMemory, lies_in
from ..training.progress import Tell, waiting

__all__ = ["Job", "Tally", "Worker", "conclude", "find_jobs", "is_video", "work"]

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS)
_SHARES = 1000  # of a picture, for the bar


@dataclass(frozen=True)
class Job:
    """A picture to work on: its name, where it is read, where it is written."""

    name: str
    source: Path
    target: Path


class Worker(Protocol):
    """What is done with pictures.

    Attributes:
        notes: What there is to say, beside what became of single pictures; emptied by who says it.
    """

    notes: list[str]

    def carry_out(self, job: Job, progress: Tell) -> tuple[str, ...]:
        """Does a job, and returns what of its picture is not kept."""
        ...


@dataclass
class Tally:
    """What became of the pictures.

    Attributes:
        total: Their number.
        output: Where they go.
        in_place: Whether they are replaced.
        verb: What is done with them, a verb that ends in e.
        done: How many are done.
        skipped: How many are there already.
        failed: The names of those that failed, and why.
        notes: What else there is to say.
    """

    total: int
    output: Path
    in_place: bool
    verb: str = "restore"
    done: int = 0
    skipped: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def so_far(self) -> str:
        """Returns how many are done, and how to go on."""
        done = f"after {self.done} of {self.total} pictures"
        if self.in_place:
            return f"{done}, the first in the order of names; the same command would {self.verb} them again"
        return f"{done}; the same command goes on"

    def report(self) -> None:
        """Prints what there is to say, and the numbers."""
        lines = [*self.notes, *(f"failed {name}: {reason}" for name, reason in self.failed)]
        counts = [f"{self.verb}d {self.done}"]
        if self.skipped:
            counts.append(f"skipped {self.skipped} that are there (--overwrite {self.verb}s them)")
        if self.failed:
            counts.append(f"failed {len(self.failed)}")
        summary = f"{', '.join(counts)} of {self.total} pictures, to {self.output}"
        print("\n".join((*lines, summary)))


def work(jobs: Sequence[Job], worker: Worker, tally: Tally, doing: str, *, again: bool) -> int:
    """Does all jobs and counts what became of them.

    Arguments:
        jobs: What there is to do.
        worker: Who does it.
        tally: The counts.
        doing: What is being done, for the progress bar.
        again: Whether what is there is done again.

    Returns:
        0, or 1 where something failed, or 130 where Ctrl-C stopped it.

    Raises:
        OSError: If there is no space left.
    """
    try:
        with waiting(doing) as tell:
            for number, job in enumerate(jobs):
                _attempt(job, worker, tally, _share(tell, number, len(jobs)), again=again)
    except KeyboardInterrupt:
        tally.report()
        print(f"error: stopped {tally.so_far()}", file=sys.stderr)
        return 130
    return 1 if tally.failed else 0


def conclude(source: Path, tally: Tally, code: int) -> int:
    """Says what became of the pictures, unless Ctrl-C stopped it, which says so itself.

    Arguments:
        source: The picture or the folder.
        tally: The counts.
        code: What :func:`work` returned.

    Returns:
        The code.

    Raises:
        ValueError: If the one picture failed.
    """
    if code == 130:
        return code
    if source.is_file() and tally.failed:
        raise ValueError(f"{source}: {tally.failed[0][1]}")
    tally.report()
    return code


def _attempt(job: Job, worker: Worker, tally: Tally, progress: Tell, *, again: bool) -> None:
    """Does one job, and counts what became of it.

    Raises:
        OSError: If there is no space left.
    """
    try:
        if not _is_wanted(job, in_place=tally.in_place, again=again):
            tally.skipped += 1
            return
        notes = worker.carry_out(job, progress)
    except OSError as error:
        if error.errno in _FULL:
            raise OSError(f"{job.target}: {error.strerror}; stopped {tally.so_far()}") from error
        tally.failed.append((job.name, error.strerror or str(error)))
    except (ValueError, NotEnoughMemory, MemoryError) as error:
        tally.failed.append((job.name, " ".join(str(error).split()) or "not enough memory"))
    else:
        tally.done += 1
        tally.notes += [f"{job.name}: {note}" for note in notes]
    tally.notes += worker.notes
    worker.notes.clear()


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its name."""
    return path.suffix.lower() in VIDEOS


def _is_wanted(job: Job, *, in_place: bool, again: bool) -> bool:
    if job.target.is_dir():
        raise ValueError(f"{job.target} is a folder; move it")
    if not in_place and job.target.exists() and job.target.samefile(job.source):
        raise ValueError(
            f"{job.target} is the input itself; choose another place, or give --in-place"
        )
    return again or not os.path.lexists(job.target)


def find_jobs(source: Path, output: Path | None, *, in_place: bool) -> list[Job]:
    """Returns what there is to do; nothing is written yet."""
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give a picture or a folder of pictures")
    output = _output(source, output, in_place=in_place)
    if source.is_dir():
        names = picture_names(source)
        if not names:
            raise ValueError(f"{source} holds no pictures; looked for {' '.join(FORMATS)}")
        return [Job(name, source / name, output / name) for name in names]
    if not in_place and (output.is_dir() or not output.suffix):
        output = output / source.name
    kind, endings = ("videos", VIDEOS) if is_video(source) else ("pictures", tuple(FORMATS))
    if output.suffix.lower() not in endings:
        raise ValueError(f"{output}: {kind} are written to names ending in {' '.join(endings)}")
    return [Job(source.name, source, output)]


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


def _share(tell: Tell, number: int, total: int) -> Tell:
    """Returns what is told of the tiles of one picture of several."""

    def of_tiles(done: int, tiles: int) -> None:
        tell(int((number + done / tiles) * _SHARES), total * _SHARES)

    return of_tiles
