"""``blemish inspect``: show what damage was learned, or what images seem to have, as a page and as JSON."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from .. import artefacts
from ..data import open_source
from ..degradations import Degradation, Imaging, LearnedNoise, UniversalDegradation
from ..evaluation import (
    CodeFindings,
    Findings,
    FolderFindings,
    check_replaceable,
    codes_page,
    damaged_specimen,
    folder_page,
    inspect_codes,
    inspect_degradation,
    inspect_folder,
    inspect_page,
)
from ..recipes import PRESETS
from ..runs import Run, Which, load
from ..systems import ANDNet, Universal, UniversalPairs
from ..training.progress import waiting

__all__ = ["run", "train_command"]

DRAWS = 1000
"""The number of draws from a degradation."""

CODES = 64
"""The number of damaged pictures whose codes a universal degradation model reads."""

IMAGES = 500
"""The number of images that are measured."""

_SEED = "Seed of the run"

_TITLE = "What a universal degradation model reads and does"

_WHAT = (
    "The model reads the damage of a picture as a code, an embedding of the whole and a map of its places, and puts it "
    "onto another picture."
)

_SHAPE = (3, 32, 32)
"""The images that a degradation without a size of its own is drawn for."""


@dataclass(frozen=True)
class _Subject:
    """What is inspected; its shape is that of the images it was learned on, where it has one.

    The damage is the law that a universal degradation model is tried with; None is that of artefacts.
    """

    degradation: Degradation[Any]
    shape: tuple[int, int, int] | None
    truth: Degradation[Any] | None = None
    title: str = "What this degradation does"
    lead: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    other: Degradation[Any] | None = None
    damage: Degradation[Any] | None = None

    @property
    def name(self) -> str:
        """How the damage is called."""
        if self.other is not None:
            return "first"
        return "learned" if _is_learned(self.degradation) else "given"


def run(
    what: str,
    *,
    out: Path,
    seed: int = 0,
    checkpoint: Which | None = None,
    count: int | None = None,
    skip_bad: bool = False,
    against: Path | None = None,
) -> int:
    """Inspects a run, a degradation or images, and writes ``index.html`` and ``findings.json``.

    Arguments:
        what: The folder of a run or of a degradation, or a source of images.
        out: The folder written.
        seed: The seed of the draws, or of the sample of the images.
        checkpoint: Of a run, ``best`` or ``last``; None means the best where one was chosen.
        count: The number of draws, of codes that a universal degradation model reads, or the largest number of
            images measured; None means 1000, 64 or 500.
        skip_bad: Whether broken images are stepped over.
        against: The folder of a run or of a degradation that is compared with; None means the truth
            where it is known.

    Returns:
        0.

    Raises:
        ValueError: If there is nothing to inspect, or an option does not go with it; the message says
            what to do.
        FileExistsError: If the folder holds such files that are not of an earlier inspection.
    """
    images = _is_images(what, checkpoint=checkpoint, against=against, skip_bad=skip_bad)
    subject = None if images else _subject(Path(what), checkpoint)
    if subject and against:
        subject = _against(subject, Path(what), _subject(against, checkpoint), against)
    page_file, findings_file = out / "index.html", out / "findings.json"
    for file in (page_file, findings_file):
        check_replaceable(file, page=page_file)
    found: Findings | FolderFindings | CodeFindings
    if subject is None:
        page, found = _inspect_images(what, count or IMAGES, seed, skip_bad=skip_bad)
    elif isinstance(subject.degradation, UniversalDegradation):
        page, found = _inspect_universal(subject, subject.degradation, count or CODES, seed)
    else:
        page, found = _inspect_subject(subject, count or DRAWS, seed)
    out.mkdir(parents=True, exist_ok=True)
    page_file.write_text(page, encoding="utf-8")
    findings_file.write_text(found.to_json(), encoding="utf-8")
    for line in found.lines():
        print(line)
    print(f"wrote {page_file} and {findings_file}")
    return 0


def train_command(what: str, findings: FolderFindings) -> tuple[str, str]:
    """Returns the command line that trains what fits the images, and a sentence of advice.

    Arguments:
        what: The source of the images, as it was given.
        findings: What was found out about them.

    Returns:
        The command, empty where no preset is small enough; and the advice, perhaps empty.
    """
    least = min(min(size) for size in findings.sizes)
    name = "cifar10-small" if least >= PRESETS["cifar10-small"].size else "small16"
    side = PRESETS[name].size
    if least < side:
        return (
            "",
            f"No preset is small enough for sides of {least} pixels; take out images below {side}x{side}.",
        )
    words = ["blemish", "train", findings.suggestion.recipe or "gan", "--data", what]
    words += ["--out", f"runs/{findings.suggestion.recipe or 'gan'}", "--preset", name]
    advice = ""
    if least >= 2 * side:
        words += ["--set", "data.random_crop=true"]
        advice = f"It cuts {side}x{side} pixels at random from each image, and never scales, which would change the damage."
    elif any(size != (side, side) for size in findings.sizes):
        words += ["--fit", "crop"]
        advice = f"It cuts {side}x{side} pixels from the middle, and never scales, which would change the damage."
    large = PRESETS["ffhq128"].size
    if least >= large:
        advice += f" On a GPU, --preset ffhq128 takes {large}x{large} pixels."
    return shlex.join(words), advice


def _inspect_images(
    what: str, count: int, seed: int, *, skip_bad: bool
) -> tuple[str, FolderFindings]:
    with waiting("reading images") as tell:
        # Nothing is held in memory, as only a sample is looked at.
        source = open_source(what, mixed=True, skip_bad=skip_bad, memory=0, progress=tell)
    for name, reason in source.skipped:
        print(f"skipped {name}: {reason}")
    with waiting("measuring images") as tell:
        findings = inspect_folder(source, count=count, seed=seed, progress=tell)
    command, advice = train_command(what, findings)
    return folder_page(findings, source, command=command, advice=advice), findings


def _inspect_subject(subject: _Subject, count: int, seed: int) -> tuple[str, Findings]:
    with waiting("drawing damage") as tell:
        findings = inspect_degradation(
            subject.degradation,
            subject.shape or _SHAPE,
            truth=subject.truth,
            other=subject.other,
            count=count,
            seed=seed,
            progress=lambda done: tell(done, count),
        )
    page = inspect_page(
        findings,
        title=subject.title,
        lead=subject.lead,
        facts=subject.facts,
        name=subject.name,
        card=damaged_specimen(subject.degradation, subject.shape, seed),
    )
    return page, findings


def _inspect_universal(
    subject: _Subject, model: UniversalDegradation, count: int, seed: int
) -> tuple[str, CodeFindings]:
    damage = subject.damage or Imaging(Imaging.Config(strength=0.5, local=0.5))
    with waiting("reading codes") as tell:
        findings = inspect_codes(
            model, damage, count=count, seed=seed, progress=lambda done: tell(done, count)
        )
    page = codes_page(findings, title=subject.title, lead=subject.lead, facts=subject.facts)
    return page, findings


def _is_images(
    what: str, *, checkpoint: Which | None, against: Path | None, skip_bad: bool
) -> bool:
    """Tells images from a run and a degradation, and refuses options of the other."""
    folder = Path(what)
    if (folder / "config.json").is_file():
        if skip_bad:
            raise ValueError(
                f"--skip-bad steps over broken images, and {what} is none; leave it out"
            )
        return False
    inside = sorted(str(config.parent) for config in folder.glob("*/config.json"))
    if inside:
        # Else their sample grids would be taken for images.
        raise ValueError(f"{what} holds runs or degradations; choose one: {', '.join(inside[:5])}")
    for option, value in (("--checkpoint", checkpoint), ("--against", against)):
        if value is not None:
            raise ValueError(
                f"{option} is for a run or a degradation, and {what} is none: it has no config.json"
            )
    return True


def _subject(folder: Path, checkpoint: Which | None) -> _Subject:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no run and no degradation: it has no config.json")
    if artefacts.is_artefact(folder):
        return _of_artefact(folder)
    loaded = load(folder, checkpoint)
    if not (folder / "degradation").is_dir():
        raise ValueError(f"{folder} has no degradation yet; wait until its first samples are there")
    return _of_run(loaded)


def _against(subject: _Subject, folder: Path, other: _Subject, against: Path) -> _Subject:
    """Returns a subject that is compared with another one instead of the truth."""
    for side, name in ((subject, folder), (other, against)):
        if isinstance(side.degradation, UniversalDegradation):
            raise ValueError(
                f"{name} is a universal degradation model, whose codes mean nothing to another one; leave --against out "
                "and inspect each by itself"
            )
    lead = (
        f"First: {folder}. Second: {against}. What they do not share is chance, or comes from what they were not "
        "given in common; neither is the truth."
    )
    seeds = subject.facts.get(_SEED), other.facts.get(_SEED)
    if seeds[0] is not None and seeds[0] == seeds[1]:
        lead += " Runs of one seed begin with the same weights, and agree the more for it."
    return replace(
        subject,
        shape=subject.shape or other.shape,
        truth=None,
        other=other.degradation,
        title="How far two runs agree about the damage",
        lead=lead,
        facts=_both(subject.facts, other.facts),
    )


def _both(first: dict[str, str], second: dict[str, str]) -> dict[str, str]:
    """Joins facts, which are told once where they are the same."""
    facts = {name: value for name, value in first.items() if second.get(name) == value}
    for word, mine in (("first", first), ("second", second)):
        facts |= {f"{name}, {word}": value for name, value in mine.items() if name not in facts}
    return facts


def _of_artefact(folder: Path) -> _Subject:
    part = artefacts.load(folder)
    if not isinstance(part, Degradation):
        raise ValueError(f"{folder} holds a {type(part).__name__}; give a run or a degradation")
    facts = {"Degradation": folder.name}
    if isinstance(part, UniversalDegradation):
        lead = f"{_WHAT} It is tried with drawn pictures and damage that photographs commonly have."
        return _Subject(part, None, title=_TITLE, lead=lead, facts=facts)
    return _Subject(part, _shape(part), lead="A degradation, by itself.", facts=facts)


def _of_run(run: Run) -> _Subject:
    config = run.config
    facts = {
        "Recipe": config.recipe,
        "Preset": config.preset,
        "Data": Path(config.data.source).name,
        "Setting": config.data.setting or "none",
        **({} if config.data.half is None else {"Half": str(config.data.half)}),
        _SEED: str(config.seed),
        "Images seen": f"{run.images:,}",
        "Checkpoint": run.describe(),
    }
    truth, degradation = run.truth(), run.degradation
    side = config.data.size or PRESETS["photos"].size
    made = (run.parts / "prior").is_dir()
    shape = run.prior.shape if made else (config.data.channels, side, side)
    if isinstance(config.system, Universal.Config):
        return _of_universal(config.system, degradation, facts)
    if isinstance(config.system, ANDNet.Config):
        lead = (
            f"Perturbations at random, as far from the identity as the worst ones that {config.recipe} was trained "
            "against, which are searched for each image."
        )
        return _Subject(degradation, None, None, f"What {config.recipe} stands up to", lead, facts)
    if not _is_learned(degradation):
        lead = f"{config.recipe} learns no damage; this is what it was given."
        title = f"The damage that {config.recipe} was given"
        return _Subject(degradation, shape, None, title, lead, facts)
    beside = ", beside the true one" if truth else ""
    lead = f"{config.recipe} saw damaged images alone. This is the damage it came up with{beside}."
    title = f"What {config.recipe} learned about the damage"
    return _Subject(degradation, shape, truth, title, lead, facts)


def _of_universal(
    system: Universal.Config, model: Degradation[Any], facts: dict[str, str]
) -> _Subject:
    # Of real pairs the law is not known.
    given = None if isinstance(system, UniversalPairs.Config) else system.damage.build()
    told = "damage that photographs commonly have" if given is None else "the damage of its run"
    lead = f"{_WHAT} It is tried with drawn pictures and {told}."
    return _Subject(model, None, title=_TITLE, lead=lead, facts=facts, damage=given)


def _shape(degradation: nn.Module) -> tuple[int, int, int] | None:
    """Returns the shape of the images that a degradation was learned on, if it depends on it."""
    for part in degradation.modules():
        if isinstance(part, LearnedNoise):
            network = part.config.network
            return network.image_channels // 2, network.size, network.size
    return None


def _is_learned(degradation: nn.Module) -> bool:
    return any(True for _ in degradation.parameters())
