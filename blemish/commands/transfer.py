"""``blemish transfer``: the damage of one picture, or a saved code of it, put onto others.

Pictures of any size are redegraded in tiles (:mod:`blemish.photos.redegrade`) and keep their depth, alpha and metadata.
What is there already is stepped over; what cannot be read is reported and stepped over. The noise of a picture follows
from the seed and its name. A grey picture is redegraded as one of equal channels and becomes grey again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from ..degradations import UniversalDegradation, UniversalParams
from ..functional.random import stable_hash
from ..photos import Picture, read_picture, recoloured, tensor_of, write_picture
from ..photos.redegrade import redegrade_picture
from ..runs import Which
from ..training.processes import find_device
from ..training.progress import Tell
from .encode import find_model, find_reference
from .pictures import Job, Tally, conclude, find_jobs, is_video, work

__all__ = ["run"]


def run(
    what: str,
    source: Path,
    output: Path,
    *,
    reference: Path,
    local: bool = True,
    seed: int = 0,
    overwrite: bool = False,
    device: str = "auto",
    checkpoint: Which | None = None,
) -> int:
    """Puts the damage of a picture onto another, or onto all pictures in a folder.

    Arguments:
        what: A run's folder or a degradation's.
        source: A picture or a folder.
        output: The picture or the folder written; of one picture, a folder keeps its name.
        reference: The damaged picture, or its code as ``encode`` wrote it.
        local: Whether the map of what varies over the reference is stretched over each picture, or left out.
        seed: The seed of the noise.
        overwrite: Whether pictures that are there are made again; else they are stepped over.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        checkpoint: Of a run, ``best`` or ``last``; None means the best where one was chosen.

    Returns:
        0, or 1 where pictures of a folder failed, or 130 where Ctrl-C stopped it.

    Raises:
        ValueError: If an argument does not fit, or the one picture cannot be redegraded; in one line.
        OSError: If a file cannot be read or there is no space left.
    """
    place = find_device(device)
    jobs = find_jobs(source, output, in_place=False)
    model = find_model(what, checkpoint, device)
    worker = _Worker(model, find_reference(model, reference, place), place, seed, local=local)
    tally = Tally(len(jobs), output, in_place=False, verb="redegrade")
    return conclude(source, tally, work(jobs, worker, tally, "redegrading", again=overwrite))


@dataclass
class _Worker:
    """A model on its device, and the code that it puts onto pictures."""

    model: UniversalDegradation
    params: UniversalParams
    device: torch.device
    seed: int
    local: bool
    notes: list[str] = field(default_factory=list)

    def carry_out(self, job: Job, progress: Tell) -> tuple[str, ...]:
        """Redegrades a picture, and returns what is not kept of it."""
        if is_video(job.source):
            raise ValueError("videos are not redegraded; give pictures")
        picture = read_picture(job.source)
        lost = write_picture(self.redegraded(picture, job.name, progress), job.target)
        return (*picture.notes, *lost)

    def redegraded(self, picture: Picture, name: str, progress: Tell) -> Picture:
        """Redegrades the colours of a picture."""
        x = tensor_of(picture.colours, self.model.channels)
        shape = (1, x.shape[1], x.shape[2], x.shape[3])
        y = redegrade_picture(
            self.model,
            x,
            self.model.fit(self.params, shape, local=self.local),
            seed=stable_hash(self.seed, name),
            device=self.device,
            progress=progress,
        )
        y = recoloured(y, picture.colours.shape[2])
        return replace(picture, colours=np.ascontiguousarray(y[0].permute(1, 2, 0).numpy()))
