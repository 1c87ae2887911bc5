"""Cells as files: one JSON object each, which says of what table it is, how it was computed, and what was found.

Cells of a folder can be compared if they have a protocol in common. A part of it may be open: what a cell had no use for is
None there, and goes together with anything.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, final

import torch

from ..configuration import read_json
from ..training.checkpoint import write_atomically
from .work import AnyCell, Work

__all__ = ["Bench", "MeasuredTask", "agreed", "read_documents", "write_document"]

FORMAT = 1
"""The version of a document."""

AnyProtocol = TypeVar("AnyProtocol")


class Bench(Protocol):
    """What measures the cells of a table. It can be sent to other processes."""

    table: ClassVar[str]
    """The name of the table."""
    shown: ClassVar[tuple[str, ...]]
    """The scores that are told when a cell is finished."""

    @property
    def protocol(self) -> Any:
        """What its cells have in common, a dataclass."""

    def measured(self, cell: Any) -> dict[str, Any]:
        """Returns the scores of a cell."""


@final
@dataclass(frozen=True)
class MeasuredTask(Work[AnyCell]):
    """Cells that are searched and measured; a cell that has begun is finished, whatever the time.

    Attributes:
        bench: What they share.
    """

    bench: Bench

    def compute(self, cell: AnyCell) -> str:
        """Computes a cell."""
        bench = self.bench
        found = bench.measured(cell)
        write_document(self.out, bench.table, cell.name, cell, found, bench.protocol)
        known = {name: found[name] for name in bench.shown if found[name] is not None}
        return ", ".join(f"{name} {value}" for name, value in known.items())


def write_document(
    out: Path, table: str, name: str, cell: Any, found: Mapping[str, Any], protocol: Any
) -> None:
    """Writes a cell's file.

    Arguments:
        out: The folder of all cells.
        table: The table.
        name: The cell's name.
        cell: The cell, a dataclass.
        found: What was measured.
        protocol: How, a dataclass.
    """
    document = {
        "format": FORMAT,
        "table": table,
        **asdict(cell),
        **found,
        **asdict(protocol),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    path = out / "cells" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(document, indent=2) + "\n").encode())


def read_documents(out: Path, table: str) -> list[dict[str, Any]]:
    """Returns the documents of all finished cells of a folder, by name.

    Arguments:
        out: The folder.
        table: The table that they are of.

    Raises:
        ValueError: If one is damaged, of another version or of another table; the message names it.
    """
    return [_read(file, table) for file in sorted((out / "cells").glob("*.json"))]


def _read(file: Path, table: str) -> dict[str, Any]:
    again = "remove it, and its cell is computed again"
    try:
        found = read_json(file)
    except ValueError as error:
        raise ValueError(f"{error}, or {again}") from error
    if found.get("table") != table and "format" in found:
        raise ValueError(f"{file} is no cell of the table {table}; choose another --out")
    if found.get("format") != FORMAT:
        raise ValueError(
            f"{file} has format {found.get('format')}, this version reads {FORMAT}; {again}"
        )
    return found


def agreed(
    named: Sequence[tuple[str, Mapping[str, Any]]],
    protocol: AnyProtocol,
    optional: Sequence[str] = (),
) -> AnyProtocol:
    """Returns the protocol that cells and a new one have in common, or refuses cells that were computed otherwise.

    Arguments:
        named: The names and the documents of finished cells.
        protocol: What they shall have in common, a dataclass.
        optional: Fields that may be None on either side; what is known of them comes from all cells.

    Raises:
        ValueError: If one differs; the message names the first difference.
    """
    for name, document in named:
        for f in fields(protocol):  # type: ignore[arg-type]
            wanted, found = getattr(protocol, f.name), document.get(f.name)
            if f.name in optional and None in (wanted, found):
                if wanted is None:
                    protocol = replace(protocol, **{f.name: found})  # type: ignore[type-var]
            elif found != wanted:
                raise ValueError(
                    f"the folder holds cells of another protocol: {name} has {f.name}="
                    f"{found!r}, not {wanted!r}; choose another --out"
                )
    return protocol
