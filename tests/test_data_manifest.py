"""CSV files of pairs: what they list, in which spelling, what is wrong with them, and training on them."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from blemish.data import (
    ImageBatches,
    JoinedBatches,
    clean_of,
    load_images,
    open_images,
    open_source,
    read_images,
)
from blemish.data.manifest import COLUMNS, Row, read_manifest
from blemish.functional.random import generator_for, rand
from blemish.training.config import DataConfig
from blemish.training.images import taught_images

PAIRS = {"bad/1 b.png": "good/1.png", "bad/0.png": "good/0.png", "bad/1,a.png": "good/1.png"}
"""Not sorted, two of one clean picture, with a space and a comma."""


@functools.cache
def picture(name: str, side: int = 8) -> Tensor:
    return (rand((3, side, side), generator_for(name)) * 256).byte()


def write_picture(file: Path, side: int = 8) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    name = f"{file.parent.name}/{file.name}"
    Image.fromarray(picture(name, side).permute(1, 2, 0).numpy()).save(file)


def table(columns: tuple[str, str] = COLUMNS[0], pairs: dict[str, str] = PAIRS) -> str:
    rows = [f'"{observed}",{clean}' for observed, clean in pairs.items()]
    return "\n".join([",".join(columns), *rows, ""])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for name in {*PAIRS, *PAIRS.values()}:
        write_picture(tmp_path / name)
    (tmp_path / "pairs.csv").write_text(table())
    return tmp_path / "pairs.csv"


def stack(names: Any) -> Tensor:
    return torch.stack([picture(name) for name in names])


@pytest.mark.parametrize("memory", [0, 2**30], ids=["streamed", "held"])
@pytest.mark.parametrize("columns", COLUMNS)
def test_both_sides_come_in_the_order_of_the_rows(
    pairs: Path, columns: tuple[str, str], memory: int
) -> None:
    pairs.write_text(table(columns))
    observed = open_source(pairs, memory=memory)
    clean = open_source(f"{pairs}:clean", memory=memory)
    for source, names in ((observed, PAIRS), (clean, PAIRS.values())):
        assert load_images(source).equal(stack(names))
        # Partners have the name of the observed picture.
        assert [source.name(i) for i in range(3)] == list(PAIRS)
        assert (source.size, source.channels) == ((8, 8), 3)
    assert load_images(open_source(f"{pairs}:observed")).equal(stack(PAIRS))
    assert clean.raw(1) == (pairs.parent / "good/0.png").read_bytes()
    assert len(open_source(pairs, limit=2, memory=memory)) == 2


SPELLINGS = {
    "plain": lambda text: text.encode(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "no last end of line": lambda text: text.rstrip("\n").encode(),
    "empty lines": lambda text: text.replace("\n", "\n\n").encode(),
    "spaces": lambda text: text.replace(",good", ", good").replace(",clean", " , clean").encode(),
    "quotes": lambda text: text.replace("observed", '"observed"').encode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_of_a_table_mean_the_same(pairs: Path, spelling: str) -> None:
    pairs.write_bytes(SPELLINGS[spelling](table()))
    assert [(row.observed, row.clean) for row in read_manifest(pairs)] == list(PAIRS.items())


def test_other_columns_are_passed_over_and_lines_counted(tmp_path: Path) -> None:
    path = tmp_path / "frames.csv"
    path.write_text(
        'frame,ref_name,note,name\n1,c/ä.png,"two\nlines",o/1.png\n\n2,c/ä.png,"a ""b""",o/2.png\n'
    )
    assert read_manifest(path) == [Row(3, "o/1.png", "c/ä.png"), Row(5, "o/2.png", "c/ä.png")]


HEADER = b"observed,clean\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; its first line names the columns, as 'observed' and 'clean'"),
        (b"\n\n", "is empty"),
        (HEADER, "lists no pairs: there is nothing below its header"),
        (b"observed\na.png\n", "has the columns 'observed', separated by commas; it needs"),
        (b"name;ref_name\na;b\n", "has the columns 'name;ref_name', .* or 'name' and 'ori_name'"),
        (b"clean,observed,clean\na,b,c\n", "has two columns 'clean'; name each column once"),
        (b"name,ref_name,ori_name\na,b,c\n", "has the columns of pairs twice, .* leave one"),
        (HEADER + b"a.png\n", "line 2 has 1 cells, but the header has 2"),
        (HEADER + b"a.png,b.png\nc,d.png,e.png\n", "line 3 has 3 cells, .* a comma in quotes"),
        (HEADER + b"a.png,\n", "line 2 names no picture under 'clean'"),
        (HEADER + b"../a.png,b.png\n", "line 2: ../a.png leads out of the folder of the list"),
        (HEADER + b"a.png,/b.png\n", "line 2: /b.png leads out of the folder"),
        (HEADER + b"bad\\a.png,b.png\n", r"line 2: bad\\a.png has a backslash; write / between"),
        (HEADER + b"a.png,b.png\n\na.png,c.png\n", "line 4: a.png stands on line 2 already"),
        (HEADER + b'a.png,"b.png\n', r"line \d: .*; write it as CSV anew"),
        (HEADER + b"a\xe4.png,b.png\n", r"is not UTF-8 \(byte 0xe4 at 16\); save it as CSV in UTF"),
        ("observed,clean\n".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        open_source(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_missing_pictures_are_named_with_their_line(pairs: Path) -> None:
    (pairs.parent / "good/0.png").unlink()
    assert len(open_source(pairs)) == 3
    with pytest.raises(ValueError, match=r"line 3: there is no file .*good/0\.png; paths are"):
        open_source(f"{pairs}:clean")
    (pairs.parent / "bad/1,a.png").unlink()
    with pytest.raises(ValueError, match=r"line 4: there is no file .*bad/1,a\.png"):
        open_source(pairs)


@pytest.mark.parametrize("options", [{}, {"size": 4, "fit": "resize"}, {"mixed": True}])
def test_pictures_of_a_pair_have_one_size(pairs: Path, options: dict[str, Any]) -> None:
    write_picture(pairs.parent / "good/0.png", side=9)
    text = r"line 3: bad/0.png is 8x8 and its partner good/0.png 9x9 \(height x width\)"
    with pytest.raises(ValueError, match=text):
        open_source(f"{pairs}:clean", **options)


def test_pairs_may_differ_in_size_from_each_other(pairs: Path) -> None:
    for name in ("bad/0.png", "good/0.png"):
        write_picture(pairs.parent / name, side=9)
    clean = open_source(f"{pairs}:clean", mixed=True)
    assert [tuple(clean.read(i).shape[1:]) for i in range(3)] == [(8, 8), (9, 9), (8, 8)]


@pytest.mark.parametrize("memory", [0, 2**30], ids=["streamed", "held"])
def test_a_broken_partner_is_named_itself(pairs: Path, memory: int) -> None:
    (pairs.parent / "good/0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"bad/0\.png \(its partner good/0\.png: not a JPEG"):
        open_source(f"{pairs}:clean", memory=memory)
    (pairs.parent / "bad/0.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"bad/0\.png \(empty file\)"):
        open_source(pairs, memory=memory)


def test_sides_are_for_tables_and_splits_are_not(pairs: Path) -> None:
    for spec in (f"{pairs.parent}:clean", f"{pairs.parent}/bad/0.png:observed"):
        with pytest.raises(ValueError, match=r"lists no pairs; ':.*' is for a CSV file of pairs"):
            open_source(spec)
    with pytest.raises(ValueError, match="has no splits; leave out ':test'"):
        open_source(f"{pairs}:test")
    with pytest.raises(ValueError, match=r"none\.csv does not exist"):
        open_source(f"{pairs.parent}/none.csv:clean")


def test_the_partners_of_a_table_are_known_by_its_name(pairs: Path) -> None:
    assert clean_of(str(pairs)) == clean_of(f"{pairs}:observed") == f"{pairs}:clean"
    for other in (f"{pairs}:clean", str(pairs.parent), f"{pairs.parent}/none.csv", "glyphs"):
        assert clean_of(other) is None


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("crop", [False, True])
def test_systems_are_taught_with_the_partners_of_a_table(
    pairs: Path, named: bool, crop: bool
) -> None:
    data = DataConfig(source=str(pairs), clean=f"{pairs}:clean" if named else None)
    if crop:
        data = replace(data, size=8, random_crop=True)
    observed, clean = taught_images(data, "partners", seed=0, silent=True)
    walks = [ImageBatches(side, 3, flip=True, random_crop=crop) for side in (observed, clean)]
    batch = (JoinedBatches(*walks)(1, 7) * 255).round().byte()
    partner = {picture(o).numpy().tobytes(): picture(c) for o, c in PAIRS.items()}
    for both in batch:
        mine, theirs = both.chunk(2)
        flipped = mine.contiguous().numpy().tobytes() not in partner
        seen, expected = (t.flip(-1) if flipped else t for t in (mine, theirs))
        assert torch.equal(partner[seen.contiguous().numpy().tobytes()], expected)


def test_without_partners_the_table_is_a_source_like_any(pairs: Path) -> None:
    images = open_images(open_source(pairs, channels=1, size=4, fit="crop"))
    assert torch.cat(list(read_images(images))).shape == (3, 1, 4, 4)
    with pytest.raises(ValueError, match="has no clean images to teach with"):
        taught_images(DataConfig(source=f"{pairs.parent}/bad"), "partners", seed=0, silent=True)
