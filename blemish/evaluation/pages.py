"""Pages: one self-contained HTML file each, from a template.

A page carries its style, its script and its pictures in itself and forbids the browser, by a
Content-Security-Policy, to load anything else; it can be mailed, and read without a network in ten
years. Everything put into a template is escaped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor

from .. import __version__
from ..data import Source
from .charts import short
from .code_findings import CodeFindings
from .code_views import view_codes
from .findings import Findings
from .folder import FolderFindings
from .folder_view import SIDE, view_folder
from .pictures import Picture, sheet
from .views import view

__all__ = [
    "Bar",
    "Column",
    "check_replaceable",
    "codes_page",
    "comparison_page",
    "folder_page",
    "inspect_page",
    "render",
]

_MARK = "<footer>Made with blemish"
"""What every page's end says, in templates/base.html.j2."""


def check_replaceable(file: Path, *, page: Path) -> None:
    """Refuses to replace what did not come from here.

    Arguments:
        file: A file that is to be written.
        page: The page that stands for it: where the file exists, the page must be one of ours.

    Raises:
        FileExistsError: If the file exists and the page is missing or somebody else's.
    """
    if not file.exists():
        return
    if not page.is_file() or _MARK not in page.read_text(encoding="utf-8", errors="replace"):
        raise FileExistsError(
            f"{file} is there and was not made by blemish; move it, or choose another --out"
        )


@dataclass(frozen=True)
class Column:
    """One group of images on a comparison's first screen.

    Attributes:
        name: Whose images they are.
        caption: One sentence in plain words.
        images: Images in [0, 1], with shape (N, C, H, W), N >= 1; at most 30 are shown.
        numbers: Numbers below it, by name.
        marked: Whether the eye shall go here first.
    """

    name: str
    caption: str
    images: Tensor
    numbers: dict[str, str]
    marked: bool = False

    @property
    def sheet(self) -> Picture:
        """The images as one picture."""
        shown = self.images[:30]
        alt = f"{self.name}: {len(shown)} images. {self.caption}"
        return sheet(shown, columns=5, alt=alt)


@dataclass(frozen=True)
class Bar:
    """The distances of one model.

    Attributes:
        name: The model.
        clean: The distance to clean images.
        clean_share: The same in percent of the longest bar.
        degraded: The distance to damaged images; empty where it is not measured.
        degraded_share: The same in percent of the longest bar.
    """

    name: str
    clean: str
    clean_share: float
    degraded: str
    degraded_share: float


def render(template: str, **context: Any) -> str:
    """Fills a template.

    Arguments:
        template: The name of a file in ``templates/``.
        context: What the template needs; all of it is escaped.
    """
    return _environment().get_template(template).render(version=__version__, **context)


def inspect_page(
    findings: Findings,
    *,
    title: str = "What damage was learned",
    lead: str = "",
    facts: dict[str, str] | None = None,
    name: str = "learned",
    card: Picture | None = None,
) -> str:
    """Writes the page of ``blemish inspect``.

    Arguments:
        findings: What was found out.
        title: The heading.
        lead: A sentence below it.
        facts: Short facts by name: the recipe, the images seen.
        name: How the inspected degradation is called.
        card: A picture and what the degradation makes of it, or None.

    Returns:
        The HTML document.
    """
    every = {
        **(facts or {}),
        "Draws": f"{findings.count:,}",
        "Seed": str(findings.seed),
        **(
            {"Truth": "known" if findings.true else "not known"}
            if findings.reference == "truth"
            else {}
        ),
    }
    found = view(findings, name=name)
    return render("inspect.html.j2", title=title, lead=lead, facts=every, view=found, card=card)


def codes_page(
    findings: CodeFindings, *, title: str, lead: str = "", facts: dict[str, str] | None = None
) -> str:
    """Writes the page of ``blemish inspect`` about a universal degradation model.

    Arguments:
        findings: What was found out.
        title: The heading.
        lead: A sentence below it.
        facts: Short facts by name: the recipe, the images seen.

    Returns:
        The HTML document.
    """
    every = {**(facts or {}), "Codes read": f"{findings.count:,}", "Seed": str(findings.seed)}
    return render("codes.html.j2", title=title, lead=lead, facts=every, view=view_codes(findings))


def folder_page(
    findings: FolderFindings, source: Source, *, command: str = "", advice: str = ""
) -> str:
    """Writes the page of ``blemish inspect`` about a folder of images.

    Arguments:
        findings: What was found out.
        source: The images, from which examples are read.
        command: The command line that trains the suggested recipe, if there is one.
        advice: A sentence below it.

    Returns:
        The HTML document.
    """
    sizes, (height, width) = len(findings.sizes), next(iter(findings.sizes))
    facts = {
        "Images": f"{findings.total:,}",
        "Measured": f"{len(findings.names):,}",
        "Seed": str(findings.seed),
        "Size": f"{height}x{width}" if sizes == 1 else f"{sizes} sizes",
        "JPEG files": f"{len(findings.files):,}",
        **({"Skipped": f"{len(source.skipped):,}"} if source.skipped else {}),
    }
    reason = findings.suggestion.reason
    return render(
        "folder.html.j2",
        title="What damage these images seem to have",
        lead=findings.title,
        facts=facts,
        view=view_folder(findings, source),
        recipe=findings.suggestion.recipe or "none",
        reason=f"{reason[:1].upper()}{reason[1:]}.",
        command=command,
        advice=advice,
        side=SIDE,
    )


def comparison_page(
    title: str,
    columns: list[Column],
    findings: Findings | None,
    summary: dict[str, Any],
    notes: str = "",
) -> str:
    """Writes a page that compares groups of images at a glance.

    Arguments:
        title: The heading: the claim in one sentence.
        columns: Groups of images, shown side by side.
        findings: What one of the models learned about the damage.
        summary: Everything measured; entries with ``frechet`` and ``frechet_to_degraded`` become
            bars.
        notes: Prose below the heading.

    Returns:
        The HTML document.
    """
    return render(
        "comparison.html.j2",
        title=title,
        columns=columns,
        notes=notes,
        bars=_bars(summary),
        view=None if findings is None else view(findings),
        document=json.dumps(summary, indent=2) if summary else "",
    )


def _bars(summary: dict[str, Any]) -> list[Bar]:
    found = {
        name: (float(row["frechet"]), row.get("frechet_to_degraded"))
        for name, row in summary.items()
        if isinstance(row, dict) and "frechet" in row
    }
    longest = max((value for pair in found.values() for value in pair if value), default=1.0)
    return [
        Bar(
            name,
            short(clean),
            round(88 * clean / longest, 1),
            "" if degraded is None else short(degraded),
            round(88 * (degraded or 0.0) / longest, 1),
        )
        for name, (clean, degraded) in found.items()
    ]


@cache
def _environment() -> Environment:
    # autoescape for every file, whatever it is called; a missing value is an error, not a gap.
    return Environment(
        loader=PackageLoader(__package__ or "blemish.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
