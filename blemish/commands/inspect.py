"""``blemish inspect``: show what damage was learned, as a page and as JSON."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from .. import artefacts
from ..degradations import Degradation, LearnedNoise
from ..evaluation import check_replaceable, inspect_degradation, inspect_page
from ..runs import Run, Which, load

__all__ = ["run"]

COUNT = 1000
"""The number of draws."""

_SHAPE = (3, 32, 32)
"""The images that a degradation without a size of its own is drawn for."""


@dataclass(frozen=True)
class _Subject:
    """What is inspected."""

    degradation: Degradation[Any]
    shape: tuple[int, int, int]
    truth: Degradation[Any] | None = None
    title: str = "What this degradation does"
    lead: str = ""
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How the damage is called."""
        return "learned" if any(True for _ in self.degradation.parameters()) else "given"


def run(what: str, *, out: Path, seed: int = 0, checkpoint: Which | None = None) -> int:
    """Inspects a run or a degradation, and writes ``index.html`` and ``findings.json``.

    Arguments:
        what: The folder of a run or of a degradation.
        out: The folder written.
        seed: The seed of the draws.
        checkpoint: Of a run, ``best`` or ``last``; None means the best where one was chosen.

    Returns:
        0.

    Raises:
        ValueError: If there is nothing to inspect; the message says what there is instead.
        FileExistsError: If the folder holds such files that are not of an earlier inspection.
    """
    subject = _subject(Path(what), checkpoint)
    page_file, findings_file = out / "index.html", out / "findings.json"
    for file in (page_file, findings_file):
        check_replaceable(file, page=page_file)
    findings = inspect_degradation(
        subject.degradation,
        subject.shape,
        truth=subject.truth,
        count=COUNT,
        seed=seed,
        progress=_progress if sys.stderr.isatty() else None,
    )
    page = inspect_page(
        findings,
        title=subject.title,
        lead=subject.lead,
        facts=subject.facts,
        name=subject.name,
    )
    out.mkdir(parents=True, exist_ok=True)
    page_file.write_text(page, encoding="utf-8")
    findings_file.write_text(findings.to_json(), encoding="utf-8")
    for name, distance in findings.distances().items():
        print(f"{name:13} {distance:8.4f} from the truth")
    print(f"wrote {page_file} and {findings_file}")
    return 0


def _subject(folder: Path, checkpoint: Which | None) -> _Subject:
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give the folder of a run or of a degradation")
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} is no run and no degradation: it has no config.json. This version does not "
            "inspect folders of images yet; train on them first: blemish train bncr-gan --data "
            f"{folder} --out RUN"
        )
    if artefacts.is_artefact(folder):
        return _of_artefact(folder)
    loaded = load(folder, checkpoint)
    if not (folder / "degradation").is_dir():
        raise ValueError(f"{folder} has no degradation yet; wait until its first samples are there")
    return _of_run(loaded)


def _of_artefact(folder: Path) -> _Subject:
    part = artefacts.load(folder)
    if not isinstance(part, Degradation):
        raise ValueError(f"{folder} holds a {type(part).__name__}; give a run or a degradation")
    facts = {"Degradation": folder.name}
    return _Subject(part, _shape(part), lead="A degradation, by itself.", facts=facts)


def _of_run(run: Run) -> _Subject:
    config = run.config
    facts = {
        "Recipe": config.recipe,
        "Preset": config.preset,
        "Data": Path(config.data.source).name,
        "Setting": config.data.setting or "none",
        "Images seen": f"{run.images:,}",
        "Checkpoint": run.describe(),
    }
    truth, degradation = run.truth(), run.degradation
    if not any(True for _ in degradation.parameters()):
        lead = f"{config.recipe} learns no damage; this is what it was given."
        title = f"The damage that {config.recipe} was given"
        return _Subject(degradation, run.prior.shape, None, title, lead, facts)
    beside = ", beside the true one" if truth else ""
    lead = f"{config.recipe} saw damaged images alone. This is the damage it came up with{beside}."
    title = f"What {config.recipe} learned about the damage"
    return _Subject(degradation, run.prior.shape, truth, title, lead, facts)


def _shape(degradation: nn.Module) -> tuple[int, int, int]:
    """Returns the shape of the images that a degradation was learned on."""
    for part in degradation.modules():
        if isinstance(part, LearnedNoise):
            network = part.config.network
            return network.image_channels // 2, network.size, network.size
    return _SHAPE


def _progress(done: int) -> None:
    print(f"\r{done} of {COUNT} draws", end="\n" if done == COUNT else "", file=sys.stderr)
