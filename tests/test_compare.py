"""Blind comparisons: what the page shows and hides, what is read back, and its statistics."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from test_evaluation_pages import check
from torch import Tensor

from blemish import cli
from blemish.data import decode
from blemish.evaluation import (
    Trial,
    blind_page,
    blind_pair,
    page_digest,
    pair_digest,
    plan_trials,
    preference,
    read_choices,
    sign_test,
    wilson,
)
from blemish.functional.random import generator_for, rand

COUNT = 7


def pixels(arm: str, i: int, channels: int = 3, size: tuple[int, int] = (20, 30)) -> Tensor:
    return (rand((channels, *size), generator_for("compare", arm, i)) * 255).round().to(torch.uint8)


def save(folder: Path, images: dict[str, Tensor]) -> Path:
    folder.mkdir()
    for name, image in images.items():
        Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def arms(tmp_path: Path) -> Path:
    """A folder with the folders "mmd", "pulse" and "before" of pictures."""
    for arm in ("mmd", "pulse", "before"):
        save(tmp_path / arm, {f"face-{i}": pixels(arm, i) for i in range(COUNT)})
    return tmp_path


def page_of(arms: Path, *words: str) -> str:
    out = arms / "page.html"
    paths = [str(arms / "mmd"), str(arms / "pulse")]
    assert cli.run(["compare", *paths, "--output", str(out), *words]) == 0
    return out.read_text()


def about(page: str) -> dict[str, Any]:
    return json.loads(unescape(page.partition('data-blind="')[2].partition('"')[0]))


def shown(page: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the left and the right picture of each choice."""
    images = [i for i in check(page).images if i["alt"] in ("Left picture", "Right picture")]
    decoded = [decode(base64.b64decode(i["src"].partition(",")[2])) for i in images]
    assert [i["alt"] for i in images] == ["Left picture", "Right picture"] * (len(images) // 2)
    return zip(decoded[::2], decoded[1::2], strict=True)


def sides_of(page: str) -> list[tuple[int, str]]:
    """Returns, for each choice, which pair it shows, and the arm on the left, by the pixels alone."""
    every = [(arm, i) for arm in ("mmd", "pulse") for i in range(COUNT)]
    names = {pixels(*key).numpy().tobytes(): key for key in every}
    found = []
    for left, right in shown(page):
        (arm, i), (other, j) = (names[x.contiguous().numpy().tobytes()] for x in (left, right))
        assert i == j
        assert {arm, other} == {"mmd", "pulse"}
        found.append((i, arm))
    return found


def write_choices(path: Path, html: str, chosen: list[str], **changes: Any) -> Path:
    rows = [
        {"trial": n, "chosen": side, "seconds": float(n)}
        for n, side in enumerate(chosen, 1)
        if side
    ]
    document = {"format": 1, **about(html), "started": "x", "choices": rows, **changes}
    path.write_text(json.dumps(document))
    return path


def test_a_page_shows_each_pair_once_without_names(arms: Path) -> None:
    page = page_of(arms, "--seed", "0")
    found = sides_of(page)
    assert sorted(i for i, _ in found) == list(range(COUNT))
    assert [i for i, _ in found] != list(range(COUNT))
    # Each arm stands on the left in every second choice.
    assert sum(arm == "mmd" for _, arm in found) in (COUNT // 2, COUNT - COUNT // 2)
    text = re.sub('"data:image[^"]*"', "", page)
    for hidden in ("mmd", "pulse", "face-", str(arms)):
        assert hidden not in text
    assert about(page) == {
        "page": about(page)["page"],
        "seed": 0,
        "count": COUNT,
        "reference": False,
    }


def test_the_seed_determines_the_page(arms: Path) -> None:
    first, again, other = (page_of(arms, "--seed", seed) for seed in ("0", "0", "1"))
    assert first == again
    assert sides_of(first) != sides_of(other)
    assert about(first)["page"] != about(other)["page"]
    fewer = page_of(arms, "--count", "3")
    assert len(sides_of(fewer)) == 3


def test_what_both_were_made_from_is_shown_above(arms: Path) -> None:
    # It may have another size.
    for i in range(COUNT):
        small = Image.fromarray(pixels("before", i).permute(1, 2, 0).numpy()).resize((6, 4))
        small.save(arms / "before" / f"face-{i}.png")
    page = page_of(arms, "--reference", str(arms / "before"))
    assert about(page)["reference"]
    images = [i for i in check(page).images if i["alt"] == "The picture before"]
    for (i, _), image in zip(sides_of(page), images, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))) as file:
            assert file.tobytes() == Image.open(arms / "before" / f"face-{i}.png").tobytes()


def test_sides_are_even_and_say_nothing_of_each_other() -> None:
    left = torch.tensor([[t.a_left for t in plan_trials(10, seed=s)] for s in range(400)]).float()
    order = torch.tensor([[t.index for t in plan_trials(10, seed=s)] for s in range(400)])
    assert (left.sum(dim=1) == 5).all()
    # Five standard deviations of means of 400 fair coins, and of 400 digits.
    assert (left.mean(dim=0) - 0.5).abs().max() < 5 * 0.5 / 20
    assert (order.double().mean(dim=0) - 4.5).abs().max() < 5 * 2.9 / 20
    assert (order.sort(dim=1).values == torch.arange(10)).all()
    # The side does not go with the place in the folder, either.
    by_pair = torch.zeros(400, 10).scatter(1, order, left)
    assert (by_pair.mean(dim=0) - 0.5).abs().max() < 5 * 0.5 / 20


def test_choices_are_read_back(arms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = page_of(arms, "--seed", "4")
    sides = sides_of(page)
    # Ours wherever it stands, but once theirs, once neither, and the last one is left out.
    chosen = ["left" if arm == "mmd" else "right" for _, arm in sides]
    chosen[0] = {"left": "right", "right": "left"}[chosen[0]]
    chosen[1], chosen[-1] = "none", ""
    file = write_choices(arms / "choices.json", page, chosen)
    out = arms / "out" / "result.json"
    words = [str(arms / "mmd"), str(arms / "pulse"), "--choices", str(file), "--json", str(out)]
    capsys.readouterr()
    assert cli.run(["compare", *words]) == 0
    said = capsys.readouterr().out
    assert "mmd: 4, " in said
    assert "pulse: 1, neither: 1" in said
    assert "80.0 % of 5 decided choices" in said
    assert "p-value: 0.375" in said
    assert "1 choices were not made" in said
    found = json.loads(out.read_text())
    assert found["choices"] == {"a": 4, "b": 1, "none": 1, "missing": 1}
    assert found["share_a"] == 0.8
    assert found["interval"] == list(wilson(4, 5))
    assert found["median_seconds"] == 3.5
    assert found["left"] == sum(side == "left" for side in chosen)
    theirs, neither = (f"face-{sides[n][0]}.png" for n in (0, 1))
    assert found["pictures"][theirs] == {"a": 0, "b": 1, "none": 0}
    assert found["pictures"][neither] == {"a": 0, "b": 0, "none": 1}
    assert len(found["pictures"]) == COUNT - 1


def test_several_peoples_choices_add_up(arms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = page_of(arms)
    first = write_choices(arms / "first.json", page, ["left"] * COUNT)
    second = write_choices(arms / "second.json", page, ["right"] * COUNT)
    words = ["compare", str(arms / "mmd"), str(arms / "pulse"), "--choices", str(first)]
    assert cli.run([*words, "--choices", str(second)]) == 0
    said = capsys.readouterr().out
    assert f"50.0 % of {2 * COUNT} decided" in said
    assert "note: 2 people's choices" in said
    assert "p-value: 1\n" in said
    assert cli.run([*words, "--choices", str(first)]) == 1
    assert "hold the same choices" in capsys.readouterr().err


def test_an_empty_page_of_choices_says_nothing(
    arms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = page_of(arms)
    file = write_choices(arms / "c.json", page, ["none", ""])
    out = arms / "r.json"
    words = [str(arms / "mmd"), str(arms / "pulse"), "--choices", str(file), "--json", str(out)]
    assert cli.run(["compare", *words]) == 0
    assert "%" not in capsys.readouterr().out.partition("MiB")[2].partition("\n")[2]
    found = json.loads(out.read_text())
    assert (found["share_a"], found["interval"], found["p_value"]) == (None, None, 1.0)


def refused(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    capsys.readouterr()
    assert cli.run(["compare", *map(str, words)]) == 1
    return capsys.readouterr().err


def test_choices_of_another_page_are_refused(
    arms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = page_of(arms, "--seed", "0")
    ours, theirs = arms / "mmd", arms / "pulse"
    file = write_choices(arms / "c.json", page, ["left"] * COUNT)
    other = "was not chosen on a page of"
    assert other in refused(capsys, theirs, ours, "--choices", file)
    assert other in refused(capsys, ours, arms / "before", "--choices", file)
    for changes in ({"seed": 1}, {"count": COUNT + 1}, {"page": "0" * 64}):
        changed = write_choices(arms / "d.json", page, ["left"], **changes)
        assert other in refused(capsys, ours, theirs, "--choices", changed)
        message = refused(capsys, ours, theirs, "--choices", file, "--choices", changed)
        assert "d.json was chosen on another page than" in message
    # One pixel is enough.
    image = pixels("mmd", 3)
    image[0, 0, 0] ^= 1
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(ours / "face-3.png")
    assert other in refused(capsys, ours, theirs, "--choices", file)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"no JSON", "is not what a page of blemish compare hands out"),
        (b"[]", "is not what a page"),
        (b'{"format": 1}', "is not what a page"),
        ({"format": 2}, "or of another version"),
        ({"seed": "0"}, "or of another version"),
        ({"count": True}, "or of another version"),
        ({"choices": [3]}, "is not what a page"),
        ({"choices": [{"trial": 0, "chosen": "left", "seconds": 1}]}, "no choice 0 of 2"),
        ({"choices": [{"trial": 3, "chosen": "left", "seconds": 1}]}, "no choice 3 of 2"),
        ({"choices": [{"trial": "1", "chosen": "left", "seconds": 1}]}, "no choice '1' of 2"),
        ({"choices": 2 * [{"trial": 1, "chosen": "left", "seconds": 1}]}, "or it is made twice"),
        ({"choices": [{"trial": 1, "chosen": "a", "seconds": 1}]}, "'a', none of left, right"),
    ],
)
def test_what_is_no_file_of_choices_is_refused(
    content: bytes | dict[str, Any], match: str, tmp_path: Path
) -> None:
    good = {"format": 1, "page": "0", "seed": 0, "count": 2, "choices": []}
    file = tmp_path / "c.json"
    file.write_bytes(
        content if isinstance(content, bytes) else json.dumps({**good, **content}).encode()
    )
    with pytest.raises(ValueError, match=match):
        read_choices(file)


def test_what_does_not_fit_is_refused(arms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs, page = arms / "mmd", arms / "pulse", arms / "p.html"
    assert "give --output PAGE.html" in refused(capsys, ours, theirs)
    assert "give --output PAGE.html" in refused(
        capsys, ours, theirs, "--output", page, "--choices", "x"
    )
    assert "--json x is for what was chosen" in refused(
        capsys, ours, theirs, "--output", page, "--json", "x"
    )
    assert "leave them out" in refused(capsys, ours, theirs, "--choices", "x", "--seed", "0")
    assert "are one; give two folders" in refused(capsys, ours, ours, "--output", page)
    page.write_text("somebody's")
    assert "was not made by blemish" in refused(capsys, ours, theirs, "--output", page)
    page.unlink()
    (theirs / "face-3.png").unlink()
    assert "have no partner" in refused(capsys, ours, theirs, "--output", page)
    save(arms / "x", {f"face-{i}": pixels("pulse", i, size=(20, 31)) for i in range(COUNT)})
    message = refused(capsys, ours, arms / "x", "--output", page)
    assert "partners are 20x30 and 20x31 (height x width)" in message
    assert not page.exists()


def test_grey_and_colour_can_be_compared() -> None:
    grey, colour = pixels("a", 0, channels=1), pixels("b", 0)
    pair = blind_pair(Trial(0, True), grey, colour)
    page = blind_page([pair], seed=0)
    ((left, right),) = shown(page)
    assert torch.equal(left.expand(3, -1, -1), grey.expand(3, -1, -1))
    assert torch.equal(right, colour)


def test_a_side_means_an_arm() -> None:
    assert [Trial(0, True).arm(s) for s in ("left", "right", "none")] == ["a", "b", "none"]
    assert [Trial(0, False).arm(s) for s in ("left", "right", "none")] == ["b", "a", "none"]
    a, b = pixels("a", 0), pixels("b", 0)
    digests = {
        pair_digest(Trial(0, True), a, b),
        pair_digest(Trial(0, False), a, b),
        pair_digest(Trial(0, False), b, a),
        pair_digest(Trial(0, True), a, b.transpose(1, 2).reshape(b.shape)),
    }
    assert len(digests) == 4
    assert page_digest(0, ["x", "y"]) != page_digest(0, ["y", "x"])
    assert preference([], [Trial(0, True)]).missing == 0


@pytest.mark.parametrize(
    ("successes", "total"), [(0, 1), (81, 100), (19, 100), (3, 7), (5, 5), (50, 100)]
)
def test_the_interval_holds_the_shares_that_it_cannot_refuse(successes: int, total: int) -> None:
    low, high = wilson(successes, total)
    p, z = successes / total, 1.959963984540054
    # Its ends are the shares whose normal test is just significant.
    for end in (low, high):
        if 0 < end < 1:
            assert abs(p - end) == pytest.approx(z * math.sqrt(end * (1 - end) / total), rel=1e-9)
    assert 0 <= low <= p <= high <= 1
    assert wilson(total - successes, total) == pytest.approx((1 - high, 1 - low))
    assert wilson(0, 0) == (0, 1)


def test_the_sign_test_is_a_sum_over_all_outcomes() -> None:
    for total in range(9):
        for successes in range(total + 1):
            chances = [Fraction(math.comb(total, i), 2**total) for i in range(total + 1)]
            uneven = abs(2 * successes - total)
            expected = sum(c for i, c in enumerate(chances) if abs(2 * i - total) >= uneven)
            assert sign_test(successes, total) == pytest.approx(float(expected), rel=1e-15)
    # The table of the paper: 81 of 100.
    assert sign_test(81, 100) == sign_test(19, 100) == pytest.approx(2.7e-10, rel=0.1)
    assert sign_test(5000, 20000) < 1e-300


def test_both_agree_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for successes, total in ((0, 4), (81, 100), (7, 13), (6, 12), (480, 1000)):
        found = stats.binomtest(successes, total, 0.5)
        assert sign_test(successes, total) == pytest.approx(found.pvalue, rel=1e-9)
        interval = found.proportion_ci(method="wilson")
        assert wilson(successes, total) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_what_somebody_chose_is_not_written_over(
    arms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = page_of(arms)
    ann = write_choices(arms / "ann.json", page, ["left"] * COUNT)
    ben = write_choices(arms / "ben.json", page, ["right"] * COUNT)
    link = arms / "link.json"
    link.symlink_to(ann)
    before = ann.read_bytes(), ben.read_bytes()
    # One of those that are read, by whatever name, and one that is not.
    for json_file in (ann, arms / "mmd" / ".." / "ann.json", link, ben):
        words = (arms / "mmd", arms / "pulse", "--choices", ann, "--json", json_file)
        assert "is somebody's choices" in refused(capsys, *words)
    assert (ann.read_bytes(), ben.read_bytes()) == before
    # An earlier result is replaced.
    result = arms / "result.json"
    words = (arms / "mmd", arms / "pulse", "--choices", ann, "--json", result)
    for _ in range(2):
        assert cli.run(["compare", *map(str, words)]) == 0
    assert json.loads(result.read_text())["choices"]["missing"] == 0


def test_the_sides_are_drawn_where_no_seed_is_given(arms: Path) -> None:
    first, second = about(page_of(arms)), about(page_of(arms))
    assert first["seed"] != second["seed"]
    # A page in JavaScript hands the number out as it is.
    assert 0 <= first["seed"] < 2**53
