"""The page of pictures before and after: what it shows is what was given, and where it changed most."""

from __future__ import annotations

import base64
import io

import pytest
import torch
from PIL import Image
from test_evaluation_pages import check
from torch import Tensor

from blemish.evaluation import BeforeAfter, before_after_page, most_changed, show
from blemish.evaluation.before_after import CROP
from blemish.functional.random import generator_for, rand


def photograph(height: int, width: int, channels: int = 3, name: str = "photo") -> Tensor:
    return (rand((channels, height, width), generator_for(name)) * 255).round() / 255


def decoded(uri: str) -> Tensor:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as file:
        pixels = torch.tensor(list(file.convert("RGB").tobytes()), dtype=torch.uint8)
        return pixels.view(file.height, file.width, 3).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("place", [(0, 0), (40, 64), (8, 120)])
def test_the_crop_lies_where_most_changed(place: tuple[int, int]) -> None:
    before = photograph(96, 160)
    after = before.clone()
    top, left = place
    after[:, top : top + 32, left : left + 32] = 1 - after[:, top : top + 32, left : left + 32]
    assert most_changed(before, after, 32) == place


def test_small_pictures_are_cropped_whole() -> None:
    one = photograph(5, 300)
    assert most_changed(one, one * 0, 16)[0] == 0
    assert most_changed(one[..., :3], one[..., :3] * 0, 16) == (0, 0)


def test_crops_are_the_pixels_themselves() -> None:
    before = photograph(300, 420)
    after = before.clone()
    after[:, 64:256, 128:320] = photograph(192, 192, name="other")
    page = check(before_after_page([show(BeforeAfter("a.png", before, after))]))
    shown = {image["alt"]: image["src"] for image in page.images}
    where = f"{CROP} x {CROP} pixels at 100 %, from row 64, column 128"
    for name, picture in (("before", before), ("after", after)):
        crop = decoded(shown[f"a.png {name}: {where}"])
        assert torch.equal(crop, picture[:, 64:256, 128:320])


@pytest.mark.parametrize(
    ("shape", "size"),
    [((90, 60), (90, 60)), ((1600, 800), (800, 400)), ((3, 2000), (1, 800)), ((1, 1), (1, 1))],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_large_pictures_are_reduced_for_the_slider(
    shape: tuple[int, int], size: tuple[int, int], channels: int
) -> None:
    x = photograph(*shape, channels)
    page = check(before_after_page([show(BeforeAfter("p", x, 1 - x))]))
    found = {i["alt"]: (int(i["height"]), int(i["width"])) for i in page.images}
    assert found["p before"] == found["p after"] == size


def test_words_are_escaped_and_every_picture_is_there() -> None:
    x = photograph(20, 30)
    names = ["<b>one</b>.png", "two.png"]
    pairs = [show(BeforeAfter(name, x, x, note="a & b")) for name in names]
    page = check(before_after_page(pairs, title="My <i>", lead="Lead.", facts={"Restorer": "r"}))
    assert page.text.count('type="range"') == 2
    for text in ("&lt;b&gt;one", "My &lt;i&gt;", "a &amp; b", "Lead.", "Restorer"):
        assert text in page.text
    assert "<b>one" not in page.text


def test_pictures_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x is \(3, 4, 4\) before and \(3, 4, 5\) after"):
        BeforeAfter("x", photograph(4, 4), photograph(4, 5))
