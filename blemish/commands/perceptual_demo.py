"""``blemish demo perceptual``: perceptual restoration from end to end, in a few minutes on one or two CPU cores.

A small style generator learns crisp glyphs, and a likelihood learns what strong JPEG makes of them: p(damaged | clean).
Other glyphs are damaged, and restored by three searches of the generator's latents. They know nothing of one another, and
none is told what JPEG is.

===============  ===========================================================================================
``pulse``        asks for the damaged pixels, and styles close to each other, in coordinates of its own
``mmd``          asks for the damaged pixels, and styles that look like draws of the prior, too
``likelihood``   asks that the damaged picture be likely under the learned law instead, and for such styles
===============  ===========================================================================================

All start from the same draws of the prior, once for each of three seeds.

References:
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning
    | (Han, Duan, Tao & Lu, a preprint), Sections 3 and 4; Tables 1 and 2 in small
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..configuration import encode
from ..data import load_images, open_source
from ..degradations import freeze
from ..evaluation import (
    Column,
    Likelihoods,
    check_replaceable,
    comparison_page,
    judge_likelihood,
)
from ..metrics import Extractor, extract, frechet, psnr
from ..restorers import MMD_SEARCH, PULSE_SEARCH, LatentSearch
from ..runs import Run, load
from ..training.grids import save_grid
from ..training.progress import Tell, waiting
from .demo_parts import classifier, labelled_glyphs, train_all
from .perceptual_words import lessons, table

__all__ = ["SIZES", "WAYS", "Glyphs", "Size", "evaluate", "restored_by", "run"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the demo is.

    Attributes:
        prior: What is set of the recipe ``style-prior``, preset ``demo``.
        likelihood: What is set of the recipe ``likelihood``, preset ``tiny``.
        restored: The number of glyphs that are damaged and restored.
        others: The number of clean glyphs that realism is measured against.
        labelled: The number of clean glyphs that the classifier is taught, for some steps.
        taught: These steps.
        steps: The steps of a search.
        seeds: The seeds of the searches.
    """

    prior: tuple[str, ...]
    likelihood: tuple[str, ...]
    restored: int
    others: int
    labelled: int
    taught: int
    steps: int
    seeds: tuple[int, ...]


_PRIOR = ("system.prior.mixing=0.9", "system.batch_multiple=1")
# Glyphs are no larger than a crop. The law of qualities is one that leaves most of them readable.
_LIKELIHOOD = (
    "data.size=16",
    "data.channels=1",
    "data.random_crop=false",
    "data.held_out_crops=1",
    "system.degradation.network.channels=1",
    "system.damage.law.low=3",
    "system.damage.law.high=10",
)

SIZES: dict[str, Size] = {
    # Four minutes of one core.
    "demo": Size(
        prior=(*_PRIOR, "training.images=28000"),
        likelihood=(*_LIKELIHOOD, "data.held_out=64", "training.images=8000"),
        restored=40,
        others=2000,
        labelled=6000,
        taught=500,
        steps=100,
        seeds=(0, 1, 2),
    ),
    # Seconds; nothing is learned.
    "toy": Size(
        prior=(*_PRIOR, "data.source=glyphs:400", "training.images=32"),
        likelihood=(
            *_LIKELIHOOD,
            "data.source=glyphs:400",
            "training.images=32",
            "system.degradation.network.width=4",
            "system.degradation.network.blocks=1",
        ),
        restored=6,
        others=40,
        labelled=80,
        taught=2,
        steps=2,
        seeds=(0, 1),
    ),
}
"""The sizes by name."""

# Both start from draws: from the mean style, which the restoration starts at by default, seeds would change nothing.
_MMD = replace(MMD_SEARCH, start="random")
WAYS: dict[str, LatentSearch.Config] = {"pulse": PULSE_SEARCH, "mmd": _MMD, "likelihood": _MMD}
"""The searches by name."""

SHOWN = 30
"""The number of glyphs in the pictures, at most."""

IN_A_ROW = 3
"""The number of glyphs in a row of the picture."""

NEIGHBOURS = 5
"""A glyph is read as most of its nearest labelled glyphs."""

_TITLES = {
    "pulse": ("PULSE", "Asks for the damaged pixels, and for styles close to each other."),
    "mmd": ("MMD, pixels", "Asks for the damaged pixels, and for styles like the prior's."),
    "likelihood": (
        "MMD, likelihood",
        "Asks what clean glyph makes the damaged one likely, by the learned law.",
    ),
}


@dataclass(frozen=True)
class Glyphs:
    """What is restored, in [0, 1] with shape (N, C, H, W), and what it is compared with."""

    clean: Tensor
    damaged: Tensor
    labels: Tensor
    others: Tensor


def run(out: Path, *, seed: int = 0, images: int | None = None, size: str = "demo") -> int:
    """Trains the prior and the likelihood, restores, and writes ``report.html``, ``summary.json``, ``restored.png``.

    What is trained already is not trained again.

    Arguments:
        out: The folder.
        seed: The seed of every random number but the searches'.
        images: The number of images that prior and likelihood see, each; None means the size's.
        size: A name of :data:`SIZES`.

    Returns:
        0.

    Raises:
        ValueError: If a training fails; the message names its log.
        FileExistsError: If the folder holds such files that are not of an earlier demo.
    """
    began, s = time.monotonic(), SIZES[size]
    page_file, files = out / "report.html", ("report.html", "summary.json", "restored.png")
    for name in files:
        check_replaceable(out / name, page=page_file)
    print("Training a prior on clean glyphs, and a likelihood of JPEG on glyphs that it damages.")
    print(f"A few minutes on one or two cores; logs are in {out}/*.log")
    train_all(out, _trainings(s, images), seed=seed)
    count = 3 * len(s.seeds)
    print(f"Restoring {s.restored} other glyphs by {count} searches, and measuring", flush=True)
    runs = {name: load(out / name) for name in ("prior", "likelihood")}
    with waiting("restoring") as tell:
        glyphs = _glyphs(runs, s, seed)
        restored = restored_by(runs, glyphs, s, tell)
        summary = evaluate(runs, glyphs, restored, s, seed=seed)
    summary["seconds"] = round(time.monotonic() - began)
    first = [restored[name][0] for name in WAYS]
    _draw([glyphs.clean, glyphs.damaged, *first], out / "restored.png")
    page_file.write_text(_page(glyphs, first, summary), encoding="utf-8")
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(table(summary))
    print(f"{summary['seconds']} seconds. Open {page_file}, or look at {out / 'restored.png'}:")
    print("of each glyph: clean, damaged, pulse, mmd, mmd with the likelihood")
    return 0


def _trainings(s: Size, images: int | None) -> dict[str, list[str]]:
    """Returns what ``blemish train`` is told of both runs."""
    # The last of two that set the same wins, over --images too.
    few = () if images is None else _set((f"training.images={images}",))
    return {
        "prior": ["style-prior", "--preset", "demo", *_set(s.prior), *few],
        "likelihood": ["likelihood", "--preset", "tiny", *_set(s.likelihood), *few],
    }


def _set(changes: tuple[str, ...]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def _glyphs(runs: Mapping[str, Run], s: Size, seed: int) -> Glyphs:
    """Returns glyphs that neither model saw, damaged as the likelihood's were, and others."""
    data = runs["likelihood"].config.data
    source = open_source(
        f"glyphs:{s.restored + s.others}", size=data.size, channels=data.channels, seed=1
    )
    images = load_images(source)
    clean = images[: s.restored]
    damage = runs["likelihood"].config.system.damage.build()
    return Glyphs(
        clean.float() / 255,
        freeze(damage, clean, seed=seed).float() / 255,
        torch.tensor([source.label(i) for i in range(s.restored)]),
        images[s.restored :].float() / 255,
    )


def restored_by(
    runs: Mapping[str, Run], glyphs: Glyphs, s: Size, tell: Tell
) -> dict[str, list[Tensor]]:
    """Returns what every way restores, for each seed."""
    prior, law = runs["prior"].prior, runs["likelihood"].degradation
    for part in (prior, law):
        part.eval().requires_grad_(False)
    found: dict[str, list[Tensor]] = {name: [] for name in WAYS}
    total = len(s.seeds) * len(WAYS) * (s.steps + 1)
    before = 0
    for seed in s.seeds:
        for name, config in WAYS.items():
            search = LatentSearch(
                prior,
                law if name == "likelihood" else None,
                replace(config, steps=s.steps, seed=seed),
            )
            search.tell = partial(_told, tell, before, total)
            found[name].append(search(glyphs.damaged))
            before += search.asked
    return found


def _told(tell: Tell, before: int, total: int, done: int) -> None:
    tell(before + done, total)


def evaluate(
    runs: Mapping[str, Run],
    glyphs: Glyphs,
    restored: Mapping[str, list[Tensor]],
    s: Size,
    *,
    seed: int,
) -> dict[str, Any]:
    """Measures the likelihood, and what was restored.

    Arguments:
        runs: The runs ``prior`` and ``likelihood``.
        glyphs: What was restored.
        restored: What every way restored, for each seed.
        s: The size.
        seed: Decides which glyph is whose other.

    Returns:
        The summary: what JSON holds.
    """
    law: Any = runs["likelihood"].degradation
    judge = _Judge(glyphs, s)
    rows = {
        "clean": judge([glyphs.clean]),
        "damaged": judge([glyphs.damaged]),
        **{name: judge(images) for name, images in restored.items()},
    }
    return {
        "seed": seed,
        "seeds of searches": list(s.seeds),
        "count": s.restored,
        "features": judge.features.name,
        "damage": encode(runs["likelihood"].config.system.damage),
        "likelihood": _bits(judge_likelihood(law, glyphs.damaged, glyphs.clean, seed=seed)),
        "restored": rows,
    }


def _bits(found: Likelihoods) -> dict[str, float]:
    """Returns the mean scores, and the share of pairs that are told."""
    return {**{name: found.mean(name) for name in found.bits}, "told": found.told}


class _Judge:
    """Measures images against the truth, the damaged ones and other clean ones.

    Arguments:
        glyphs: What was restored.
        s: The size.
    """

    def __init__(self, glyphs: Glyphs, s: Size) -> None:
        images, self.labels = labelled_glyphs(
            glyphs.clean.shape[-1], glyphs.clean.shape[1], s.labelled
        )
        self.glyphs = glyphs
        self.features: Extractor = classifier(images, self.labels, steps=s.taught)
        self.known = extract(self.features, images)
        self.true = extract(self.features, glyphs.clean)
        self.others = extract(self.features, glyphs.others)

    def __call__(self, seeds: list[Tensor]) -> dict[str, Any]:
        """Returns the scores: means over images and seeds, the seeds' own, and the distance of each image."""
        scores = [self._scores(images) for images in seeds]
        distances = torch.stack([found.pop("distance") for found in scores]).mean(dim=0)
        means: dict[str, Any] = {"distance": float(distances.mean())}
        for name in scores[0]:
            means[name] = sum(found[name] for found in scores) / len(scores)
        # The truth's is infinite, which JSON has no word for.
        for found in (means, *scores):
            found["psnr"] = found["psnr"] if math.isfinite(found["psnr"]) else None
        return {**means, "by seed": scores, "distances": distances.tolist()}

    def _scores(self, images: Tensor) -> dict[str, Any]:
        seen = extract(self.features, images)
        near = torch.cdist(seen, self.known).topk(NEIGHBOURS, dim=1, largest=False).indices
        read = self.labels[near].mode(dim=1).values
        off = (images - self.glyphs.damaged).square().mean(dim=(1, 2, 3)).sqrt()
        return {
            "distance": (seen - self.true).square().mean(dim=1),
            "realism": frechet(seen, self.others),
            "to damaged": float(off.mean()),
            "psnr": float(psnr(images, self.glyphs.clean).mean()),
            "read": float((read == self.glyphs.labels).double().mean()),
        }


def _draw(kinds: list[Tensor], path: Path) -> None:
    """Writes the kinds of each glyph beside each other, some glyphs in a row, four pixels for each of their own."""
    glyphs = torch.stack([images[:SHOWN] for images in kinds], dim=1)
    # A white picture keeps a glyph apart from the next; the last of a row has none.
    apart = torch.cat([glyphs, torch.ones_like(glyphs[:, :1])], dim=1)
    rows = [part.flatten(0, 1)[:-1] for part in torch.split(apart, IN_A_ROW)]
    columns = len(rows[0])
    rows[-1] = torch.cat([rows[-1], rows[0].new_ones(columns - len(rows[-1]), *glyphs.shape[2:])])
    large = F.interpolate(torch.cat(rows), scale_factor=4, mode="nearest")
    save_grid(large, path, columns=columns)


def _page(glyphs: Glyphs, first: list[Tensor], summary: dict[str, Any]) -> str:
    columns = [
        Column("The truth", "Clean glyphs, which nobody saw.", glyphs.clean, {}),
        Column("Damaged", "All that the searches see: strong JPEG.", glyphs.damaged, {}),
    ]
    for (name, (title, caption)), images in zip(_TITLES.items(), first, strict=True):
        columns.append(Column(title, caption, images, {}, marked=name == "likelihood"))
    numbered = [
        replace(column, numbers=_numbers(row))
        for column, row in zip(columns, summary["restored"].values(), strict=True)
    ]
    notes = (
        f"{' '.join(lessons(summary))} Distances are squared differences of the features {summary['features']}, a small "
        f"classifier of clean glyphs, and realism is a Fréchet distance of {summary['count']} glyphs to others on them: "
        "lower is better, and they compare with each other only. Pictures are those of the first seed, numbers means over all."
    )
    page: str = comparison_page(
        "Clean glyphs from strong JPEG, by searching a prior", numbered, None, summary, notes
    )
    return page


def _numbers(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "distance to the truth": f"{row['distance']:.3f}",
        "realism": f"{row['realism']:.2f}",
        "distance to damaged": f"{row['to damaged']:.3f}",
        **({} if row["psnr"] is None else {"PSNR": f"{row['psnr']:.1f} dB"}),
        "read right": f"{row['read']:.0%}",
    }
