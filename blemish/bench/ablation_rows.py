r"""The rows of the ablation of perceptual restoration as searches, and the pairs of rows that one cause parts.

Rows are those of the paper, and three of blemish's own:

==================  ===================================================================================================
original            the clean images
compressed          the damaged ones
v1, v2              draws to start from, pixels and the cross loss, on two generators
mean                from the mean style
mmd                 with the discrepancy
mean-mmd            with both
mean-mmd-long       and ten times the steps
mean-mmd-free       and no spheres
bits1-early, ...    and bits under a learned law of damage in the place of pixels, by the law's weight; *late* is a law
                    that was trained until it had learned its images by heart
pulse               v2 in the coordinates in which PULSE searches; the paper's rows search styles directly
mean-mmd-prior      mean-mmd on the spheres on which the prior's styles lie; the mean style is much shorter
mean-mmd-gaussian   mean-mmd with the kernel that is called Gaussian, of squared distances; printed is another
==================  ===================================================================================================

The paper does not say what weight the discrepancy has, nor whether bits stand in the place of pixels or beside them: the
weight is :data:`~blemish.restorers.MMD_SEARCH`'s, and bits stand alone.

A row that lacks a part is not computed: the other generator, a law, the late law; or styles, on a prior that has none,
whose latents have no mean on a sphere.

References:
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning
    | (Han, Duan, Tao & Lu, 2021), Section 4.4 and Table 2, https://arxiv.org/abs/2103.03010
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..restorers import MMD_SEARCH, LatentSearch
from .ablation_figures import PUBLISHED_ROWS, UNSEARCHED_ROWS, Scores, Search

__all__ = ["ABLATION_ROWS", "CAUSES", "NEEDS", "AblationRow"]

_STEPS = 100
"""The steps of most rows; the others have a multiple."""

_EARLY = 29
"""The epoch of the law that is not trained too long."""

NEEDS = {
    "prior_v1": "--prior-v1",
    "likelihood": "--likelihood",
    "likelihood_late": "--likelihood-late",
    "styles": "a prior with styles",
}
"""What a row may need beside a prior and damage, and how this is called."""


@dataclass(frozen=True)
class AblationRow:
    """A row of the table.

    Attributes:
        name: Its name.
        search: How is searched, by the paper's columns; None where nothing is.
        published: The paper's scores; None of a row that is blemish's own.
        changes: What a row of blemish's own changes beside.
    """

    name: str
    search: Search | None
    published: Scores | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def late(self) -> bool:
        """Whether the law of damage was trained too long."""
        return self.search is not None and self.search.epoch not in (None, _EARLY)

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs beside a prior and damage, of :data:`NEEDS`."""
        s = self.search
        if s is None:
            return ()
        law = "likelihood_late" if self.late else "likelihood"
        wants = {
            "prior_v1": s.generator == "v1",
            law: s.coefficient is not None,
            "styles": s.mean or self.config().straightened,
        }
        return tuple(need for need, wanted in wants.items() if wanted)

    def lacks(self, given: object) -> list[str]:
        """Returns what it needs and was not given, in words.

        Arguments:
            given: What has an attribute for each of :data:`NEEDS`, a protocol.
        """
        return [NEEDS[need] for need in self.needs if not getattr(given, need, None)]

    def config(self, *, steps: int | None = None, seed: int = 0) -> LatentSearch.Config:
        """Returns how is searched.

        Arguments:
            steps: The steps of rows that have 100 in the paper; the others have as many times more. None takes 100.
            seed: The seed.

        Raises:
            ValueError: If nothing is searched.
        """
        s = self.search
        if s is None:
            raise ValueError(f"the row {self.name} is no search; take another")
        base = replace(
            MMD_SEARCH,
            start="mean" if s.mean else "random",
            mmd=MMD_SEARCH.mmd if s.mmd else 0.0,
            sphere="start" if s.sphere else "none",
            bits=float(s.coefficient or 0),
            steps=s.steps * (steps or _STEPS) // _STEPS,
            seed=seed,
        )
        return replace(base, **self.changes)


def _rows() -> dict[str, AblationRow]:
    rows = [AblationRow(name, None, scores) for name, scores in UNSEARCHED_ROWS.items()]
    rows += [AblationRow(name, *row) for name, row in PUBLISHED_ROWS.items()]
    v2, both = (PUBLISHED_ROWS[name][0] for name in ("v2", "mean-mmd"))
    rows += [
        AblationRow("pulse", v2, changes={"straightened": True}),
        AblationRow("mean-mmd-prior", both, changes={"sphere": "prior"}),
        AblationRow("mean-mmd-gaussian", both, changes={"power": 2}),
    ]
    return {row.name: row for row in rows}


ABLATION_ROWS: dict[str, AblationRow] = _rows()
"""All rows by name: the images themselves, the paper's searches, and blemish's own."""

CAUSES = (
    ("generator", "v1", "v2"),
    ("mean start", "v2", "mean"),
    ("mean start", "mmd", "mean-mmd"),
    ("MMD", "v2", "mmd"),
    ("MMD", "mean", "mean-mmd"),
    ("spheres", "mean-mmd-free", "mean-mmd"),
    ("steps", "mean-mmd", "mean-mmd-long"),
    ("steps", "bits1-late", "bits1-late-long"),
    ("bits for pixels", "mean-mmd", "bits1-early"),
    ("bits for pixels", "mean-mmd", "bits10-early"),
    ("late law", "bits1-early", "bits1-late"),
    ("late law", "bits10-early", "bits10-late"),
    ("weight of bits", "bits1-early", "bits10-early"),
    ("weight of bits", "bits1-late", "bits10-late"),
    ("weight of bits", "bits10-late", "bits50-late"),
    ("PULSE's coordinates", "v2", "pulse"),
    ("the prior's spheres", "mean-mmd", "mean-mmd-prior"),
    ("Gaussian kernel", "mean-mmd", "mean-mmd-gaussian"),
)
"""Causes, each with a row without and a row with it that differ in nothing else that is set.

The learning rate is set relative to the sphere's radius, or without spheres to the usual length of draws. So "mean start",
whose sphere is the mean style's, "spheres" and "the prior's spheres" bring another rate with them, which is not parted from
the cause."""
