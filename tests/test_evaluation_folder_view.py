"""The page about a folder of images: its examples are the right ones, and it says what was found."""

from __future__ import annotations

import re
from html import unescape

import pytest
import torch
from test_evaluation_folder import damaged, scenes
from test_evaluation_pages import HOSTILE, check
from test_evaluation_pictures import pixels

from blemish.data import MemorySource
from blemish.evaluation import QUANTITIES, folder_page, inspect_folder
from blemish.evaluation.folder_view import SIDE, strengths, view_folder


def test_examples_are_the_images_with_the_least_and_the_most() -> None:
    source = damaged("AN", count=40)
    found = inspect_folder(source)
    for (damage, strength), card in zip(
        strengths(found).items(), view_folder(found, source).cards, strict=True
    ):
        known = strength[~strength.isnan()].sort().values
        assert (len(card.least), len(card.most)) == (4, 4), damage
        names = [p.caption.rpartition(" · ")[2] for p in (*card.least, *card.most)]
        shown = strength[[found.names.index(name) for name in names]]
        torch.testing.assert_close(shown[:4], known[:4])
        torch.testing.assert_close(shown[4:], known.flip(0)[:4])
        number = int(names[-1].rpartition("/")[2])
        assert (pixels(card.most[-1]) == source.images[number].permute(1, 2, 0).numpy()).all()


def test_strength_of_jpeg_goes_from_no_traces_to_the_lowest_quality() -> None:
    found = inspect_folder(damaged("AHS", count=60))
    strength, chance = strengths(found)["jpeg"], found.values["jpeg_probability"]
    traces = chance >= 0.9
    assert 20 < int(traces.sum()) <= 40
    assert float(strength[~traces].max()) < 1 <= float(strength[traces].min())
    quality = found.values["jpeg_quality"][traces]
    assert torch.equal(strength[traces].argmax(), quality.argmin())


def test_page_says_what_was_found() -> None:
    source = damaged("AN", count=60)
    found = inspect_folder(source)
    page = check(folder_page(found, source, command="blemish train x", advice="Some advice."))
    parts = ("conclusions", "warnings", "suggestion", "damage", "numbers", "files")
    places = [page.text.index(f'id="{part}"') for part in parts]
    assert places == sorted(places)
    text = unescape(page.text)
    for verdict in found.verdicts:
        assert verdict.text in text
    for name in found.summary():
        assert QUANTITIES[name] in text
    for words in ("blemish train x", "Some advice.", found.suggestion.recipe, "All together"):
        assert words in text
    assert text.count("data-chart=") == 3
    assert len(page.images) == 3 * 8


def test_one_large_image_and_one_that_is_too_small() -> None:
    large = (255 * scenes(1, 200)[0].clamp(0, 1)).round().to(torch.uint8)
    for images, shown, measured in (([large], 3, True), ([large[:, :9, :9]], 0, False)):
        source = MemorySource(images, title="one", names=["one"])
        page = check(folder_page(inspect_folder(source), source))
        assert len(page.images) == shown
        assert {(i["width"], i["height"]) for i in page.images} <= {(str(SIDE), str(SIDE))}
        assert ("data-chart=" in page.text) == measured
        assert "blemish train" not in page.text


def test_names_are_escaped_and_shown() -> None:
    images = damaged("A", count=4).images
    source = MemorySource(images, title=HOSTILE, names=[f"{i}{HOSTILE}" for i in range(4)])
    page = check(folder_page(inspect_folder(source), source, command=HOSTILE, advice=HOSTILE))
    assert "<script>alert" not in page.text
    assert any(HOSTILE in image["alt"] for image in page.images)


@pytest.mark.parametrize(("count", "rows"), [(3, 3), (12, 12), (20, 12)])
def test_long_lists_are_shortened_and_nothing_is_lost(count: int, rows: int) -> None:
    images = [torch.zeros(3, 9, 1 + i, dtype=torch.uint8) for i in range(count)]
    source = MemorySource(images, title="sizes", names="sizes")
    view = view_folder(inspect_folder(source), source)
    assert len(view.sizes) == rows
    assert sum(int(n) for _, n, _ in view.sizes) == count
    assert bool(re.search("other sizes", view.sizes[-1][0])) == (rows < count)
