"""Copies generated tables into the docs: what stands between <!-- begin FILE --> and <!-- end --> is that file.

    python tools/embed.py docs/*.md

A path counts from the folder of the page. `tests/test_docs.py` fails where a page and its files differ.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

BLOCK = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def embedded(page: Path) -> str:
    """Returns a page with the present content of its files."""

    def fill(match: re.Match[str]) -> str:
        content = (page.parent / match[2]).read_text(encoding="utf-8").strip()
        return f"{match[1]}\n{content}\n\n{match[3]}"

    return BLOCK.sub(fill, page.read_text(encoding="utf-8"))


def main() -> None:
    """Fills the pages that are named."""
    for name in sys.argv[1:]:
        Path(name).write_text(embedded(Path(name)), encoding="utf-8")


if __name__ == "__main__":
    main()
