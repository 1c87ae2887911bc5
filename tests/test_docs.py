"""The docs: their tables are those of the files, and their links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

specification = importlib.util.spec_from_file_location("embed", ROOT / "tools" / "embed.py")
assert specification is not None
assert specification.loader is not None
embed = importlib.util.module_from_spec(specification)
specification.loader.exec_module(embed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_their_files(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == embed.embedded(page), (
        f"run: python tools/embed.py {page.relative_to(ROOT)}"
    )


def test_some_tables_are_embedded() -> None:
    found = sum(len(embed.BLOCK.findall(page.read_text(encoding="utf-8"))) for page in PAGES)
    assert found >= 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_a_block_takes_the_content_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "t.md").write_text("| new |\n")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- begin t.md -->\n| old |\n<!-- end -->\nb\n")
    assert embed.embedded(page) == "a\n<!-- begin t.md -->\n\n| new |\n\n<!-- end -->\nb\n"
