r"""Pairs of an observed and a clean picture, listed in a CSV file.

Published sets of real pairs come as a table with one row for each observed picture:

.. code-block:: text

    name,ref_name
    drops/0001-00.jpg,clean/0001.jpg
    drops/0001-01.jpg,clean/0001.jpg

The first line names the columns; :data:`COLUMNS` says which are read, and others are passed over. Paths are relative to
the file's folder. ``pairs.csv`` (or ``pairs.csv:observed``) opens the observed pictures, ``pairs.csv:clean`` their
partners, both in the order of the rows. A clean picture may stand in many rows: a row's name is that of its observed
picture on both sides, so that partners have the same name.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, final

from torch import Tensor

from .base import BadImage
from .files import Pictures
from .images import peek

__all__ = ["COLUMNS", "Manifest", "Row", "Side", "clean_of", "read_manifest"]

COLUMNS = (("observed", "clean"), ("name", "ref_name"), ("name", "ori_name"))
"""The names of the columns of observed pictures and of their clean partners."""

Side = Literal["observed", "clean"]
"""Which picture of each pair."""


@dataclass(frozen=True)
class Row:
    """One pair.

    Attributes:
        line: The line of the file on which it ends; the header is line 1.
        observed: The path of the observed picture, relative to the file's folder.
        clean: That of its clean partner.
    """

    line: int
    observed: str
    clean: str


@final
class Manifest(Pictures):
    """The observed or the clean pictures of a CSV file of pairs.

    Arguments:
        path: The CSV file.
        side: Which picture of each pair.

    Raises:
        ValueError: If the file is no such list, a picture is missing, or those of a pair have different sizes (which is
            looked at only with the clean side).
    """

    def __init__(self, path: Path, side: Side = "observed") -> None:
        rows = read_manifest(path)
        self.root = path.parent
        self.files = [row.clean if side == "clean" else row.observed for row in rows]
        for row, file in zip(rows, self.files, strict=True):
            _check_there(path, row, file)
        title = str(path) if side == "observed" else f"{path}:{side}"
        super().__init__(title, [row.observed for row in rows])
        if side == "clean":
            _check_sizes(path, rows)

    def open(self, index: int) -> BinaryIO:
        """Opens one file."""
        return (self.root / self.files[index]).open("rb")

    def read(self, index: int) -> Tensor:
        """Decodes one picture as it is, uint8, with shape (1, H, W) or (3, H, W)."""
        with self._named(index):
            return super().read(index)

    def peek(self, index: int) -> tuple[int, int, int]:
        """Returns the picture's shape (C, H, W), from its header."""
        with self._named(index):
            return super().peek(index)

    @contextlib.contextmanager
    def _named(self, index: int) -> Iterator[None]:
        """Names the file of a broken picture, where the row has the name of another."""
        try:
            yield
        except BadImage as error:
            if self.files[index] == self.names[index]:
                raise
            raise BadImage(f"its partner {self.files[index]}: {error}") from error


def clean_of(spec: str) -> str | None:
    """Returns the name of the clean partners of a source, as ``pairs.csv:clean``; None if it lists no pairs."""
    name = spec.removesuffix(":observed")
    path = Path(name).expanduser()
    return f"{name}:clean" if path.suffix.lower() == ".csv" and path.is_file() else None


def read_manifest(path: Path) -> list[Row]:
    """Reads the pairs that a CSV file lists; whether there are such pictures is not looked at.

    Arguments:
        path: The file, in UTF-8, with or without a byte order mark, and with any ends of lines.

    Raises:
        ValueError: If it is no such list; in one line.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        # Lines are numbered as an editor does it; one without any cell is passed over.
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; write it as CSV anew") from None
    if not lines:
        raise ValueError(
            f"{path} is empty; its first line names the columns, as {_both(COLUMNS[0])}"
        )
    header = lines[0][1]
    places = _places(path, header)
    rows = [_row(path, line, cells, header, places) for line, cells in lines[1:]]
    if not rows:
        raise ValueError(f"{path} lists no pairs: there is nothing below its header")
    seen: dict[str, int] = {}
    for row in rows:
        first = seen.setdefault(row.observed, row.line)
        if first != row.line:
            raise ValueError(
                f"{path}, line {row.line}: {row.observed} stands on line {first} already; list each observed picture "
                "once"
            )
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}); save it as CSV in UTF-8"
        ) from None


def _places(path: Path, header: list[str]) -> tuple[int, int]:
    """Returns the numbers of the columns of observed and of clean pictures."""
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has two columns {twice[0]!r}; name each column once")
    found = [pair for pair in COLUMNS if set(pair) <= set(header)]
    if not found:
        wanted = ", or ".join(_both(pair) for pair in COLUMNS)
        raise ValueError(
            f"{path} has the columns {', '.join(map(repr, header))}, separated by commas; it needs {wanted}"
        )
    if len(found) > 1:
        raise ValueError(
            f"{path} has the columns of pairs twice, {_both(found[0])} and {_both(found[1])}; leave one column out"
        )
    observed, clean = found[0]
    return header.index(observed), header.index(clean)


def _row(
    path: Path, line: int, cells: list[str], header: list[str], places: tuple[int, int]
) -> Row:
    where = f"{path}, line {line}"
    if len(cells) != len(header):
        raise ValueError(
            f"{where} has {len(cells)} cells, but the header has {len(header)}; put names that hold a comma in quotes"
        )
    row = Row(line, *(cells[place] for place in places))
    for place in places:
        if not cells[place]:
            raise ValueError(f"{where} names no picture under {header[place]!r}; leave the row out")
        if "\\" in cells[place]:
            raise ValueError(f"{where}: {cells[place]} has a backslash; write / between folders")
        # Names become the paths of files that are written for these pictures.
        name = PurePosixPath(cells[place])
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(
                f"{where}: {cells[place]} leads out of the folder of the list; put the list above its pictures"
            )
    return row


def _check_there(path: Path, row: Row, file: str) -> None:
    if not (path.parent / file).is_file():
        raise ValueError(
            f"{path}, line {row.line}: there is no file {path.parent / file}; paths are relative to the list"
        )


def _check_sizes(path: Path, rows: list[Row]) -> None:
    """Refuses pairs of two sizes. Broken pictures pass: they are told of where they are read."""
    with ThreadPoolExecutor(4) as pool:
        sizes = pool.map(
            lambda row: [_size(path.parent / f) for f in (row.observed, row.clean)], rows
        )
        for row, (observed, clean) in zip(rows, sizes, strict=True):
            if observed and clean and observed != clean:
                raise ValueError(
                    f"{path}, line {row.line}: {row.observed} is {observed[0]}x{observed[1]} and its partner "
                    f"{row.clean} {clean[0]}x{clean[1]} (height x width); pictures of a pair have one size"
                )


def _size(file: Path) -> tuple[int, int] | None:
    try:
        with file.open("rb") as opened:
            return peek(opened)[1:]
    except (OSError, BadImage):
        return None


def _both(pair: tuple[str, str]) -> str:
    return f"'{pair[0]}' and '{pair[1]}'"
