"""Pictures hold the pixels they were given; charts put values where they belong."""

from __future__ import annotations

import base64
import io
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from blemish.evaluation.charts import band_chart, histogram, line_chart, short
from blemish.evaluation.pictures import Picture, cut, heat, picture, sheet
from blemish.functional.random import generator_for
from blemish.training.grids import save_grid


def pixels(picture: Picture, mode: str = "RGB") -> np.ndarray:
    head, _, body = picture.uri.partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(body, validate=True))) as file:
        assert file.size == (picture.width, picture.height)
        return np.array(file.convert(mode)).astype(int)


def images(n: int, channels: int = 3, side: int = 8) -> Tensor:
    g = generator_for("pictures")
    return torch.randint(0, 256, (n, channels, side, side), generator=g) / 255


@pytest.mark.parametrize("channels", [1, 3])
def test_picture_keeps_every_pixel(channels: int) -> None:
    image = images(1, channels)[0]
    expected = (255 * image).round().long().expand(3, -1, -1).permute(1, 2, 0)
    assert (pixels(picture(image, "an image")) == expected.numpy()).all()
    clipped = pixels(picture(torch.tensor([[[-3.0, 7.0]]]), "clipped"))
    assert clipped[0, :, 0].tolist() == [0, 255]


def test_small_pictures_are_crisp() -> None:
    assert picture(torch.zeros(1, 32, 32), "").crisp
    assert not picture(torch.zeros(1, 128, 128), "").crisp


def test_sheet_puts_images_row_by_row_on_glass() -> None:
    x = images(5)
    paper = pixels(sheet(x, 3, "five images"), "RGBA")
    assert paper.shape == (2 * 8 + 1, 3 * 8 + 2, 4)
    for i in range(5):
        top, left = i // 3 * 9, i % 3 * 9
        cell = paper[top : top + 8, left : left + 8]
        assert (cell[..., :3] == (255 * x[i]).round().permute(1, 2, 0).numpy()).all()
        assert (cell[..., 3] == 255).all()
    assert (paper[8, :, 3] == 0).all()
    assert (paper[9:, 18:, 3] == 0).all()
    with pytest.raises(ValueError, match="0 images"):
        sheet(x[:0], 3, "")


@pytest.mark.parametrize(("channels", "n"), [(1, 6), (3, 8)])
def test_cut_undoes_a_training_grid(channels: int, n: int, tmp_path: Path) -> None:
    x = images(n, channels)
    save_grid(x, tmp_path / "grid.png", columns=2)
    assert_close(cut((tmp_path / "grid.png").read_bytes(), (channels, 8, 8)), x, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="not made of images of 7x7"):
        cut((tmp_path / "grid.png").read_bytes(), (channels, 7, 7))


def test_heat_is_brighter_where_more_is() -> None:
    shown = pixels(heat(torch.linspace(-0.5, 2.5, 61)[None], 2.0, ""))[0]
    light = shown @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(light) >= 0).all()
    assert light[0] == light[10] < light[11] < light[49] < light[50] == light[60]
    assert (pixels(heat(torch.zeros(2, 2), 0.0, "")) < 10).all()


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.e]+) ([-\d.e]+)", path)]


def test_lines_go_through_their_values() -> None:
    x, y = [0.0, 10.0, 40.0], [1.0, 5.0, 3.0]
    chart = line_chart("t", x, {"a": y}, x_label="x", rule=("true", 2.0))
    placed = points(chart.lines[0].path)
    assert placed[0][0] == chart.left
    assert placed[-1][0] == chart.right
    # Both axes are affine, and the vertical one points down.
    assert_close((placed[1][0] - chart.left) / (chart.right - chart.left), 0.25, atol=1e-3, rtol=0)
    slope = (placed[1][1] - placed[0][1]) / (5 - 1)
    assert slope < 0
    assert_close(placed[2][1], placed[0][1] + slope * 2, atol=0.2, rtol=0)
    assert chart.rule is not None
    assert_close(chart.rule, placed[0][1] + slope, atol=0.2, rtol=0)
    assert chart.data["lines"][0]["label"] == ["1", "5", "3"]
    assert chart.data["at"] == ["0", "10", "40"]


def test_gaps_interrupt_a_line() -> None:
    chart = line_chart("t", [0, 1, 2, 3, 4], {"a": [1, 2, None, math.nan, 3]}, x_label="x")
    assert [word[0] for word in re.findall(r"[ML]", chart.lines[0].path)] == ["M", "L", "M"]
    assert chart.data["lines"][0]["y"][2:4] == [None, None]
    for values in ([], [None, None]):
        empty = line_chart("t", [0, 1][: len(values)], {"a": values}, x_label="x")
        assert empty.lines[0].path == ""
        assert "none" in empty.alt


def test_long_lines_are_averaged() -> None:
    values = [float(i % 10) for i in range(3000)]
    chart = line_chart("t", list(map(float, range(3000))), {"a": values}, x_label="x")
    assert len(points(chart.lines[0].path)) == 300
    assert set(chart.data["lines"][0]["label"]) == {"4.5"}


def test_histogram_counts() -> None:
    values = torch.tensor([0.0, 0.1, 0.1, 0.9, 1.0, 5.0])
    chart = histogram("t", {"learned": values}, x_label="x", limits=(0.0, 1.0), bins=2)
    # Values beyond the limits count at the border.
    assert chart.data["lines"][0]["label"] == ["50 %", "50 %"]
    assert chart.data["at"] == ["0.25", "0.75"]
    g = generator_for("histogram")
    samples = {"learned": torch.randn(500, generator=g), "true": torch.rand(300, generator=g)}
    both = histogram("t", samples, x_label="x")
    for line, shares in zip(both.lines, both.data["lines"], strict=True):
        assert sum(float(text.split()[0]) for text in shares["label"]) == pytest.approx(100, abs=1)
        assert bool(line.area) == (line.role == "learned")


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 1e-7, 1e6])
def test_equal_values_still_have_axes(value: float) -> None:
    values = torch.full((9,), value)
    values[0] *= 1 + 1e-6  # a difference of rounding
    chart = histogram("t", {"learned": values}, x_label="x")
    shares = [float(text.split()[0]) for text in chart.data["lines"][0]["label"]]
    assert sorted(shares)[-2:] == [0, 100]
    for ticks, (low, high) in (
        (chart.x_ticks, (chart.left, chart.right)),
        (chart.y_ticks, (chart.top, chart.bottom)),
    ):
        assert 2 <= len(ticks) <= 8
        assert all(low - 0.1 <= tick.at <= high + 0.1 for tick in ticks)
        assert len({tick.label for tick in ticks}) == len(ticks)


def test_band_encloses_its_median() -> None:
    x = torch.linspace(0, 1, 5)
    band = torch.stack([x, x + 1, x + 3])
    chart = band_chart("t", x, {"learned": band}, x_label="x")
    area, line = points(chart.lines[0].area), points(chart.lines[0].path)
    upper, lower = area[:5], area[5:][::-1]
    assert chart.lines[0].area.count("M") == 1
    assert all(a[0] == b[0] == c[0] for a, b, c in zip(upper, line, lower, strict=True))
    assert all(a[1] < b[1] < c[1] for a, b, c in zip(upper, line, lower, strict=True))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234567, "1.23M"),
        (108800, "109k"),
        (9999, "10000"),
        (0.0123456, "0.0123"),
        (-0.5, "-0.5"),
        (math.nan, "none"),
    ],
)
def test_numbers_are_written_short(value: float, text: str) -> None:
    assert short(value) == text


def test_ticks_are_evenly_spaced_round_numbers() -> None:
    chart = line_chart("t", [0.0, 108_800.0], {"a": [0.0, 0.31]}, x_label="x")
    for ticks in (chart.x_ticks, chart.y_ticks):
        gaps = [b.at - a.at for a, b in pairwise(ticks)]
        assert max(gaps, key=abs) == pytest.approx(min(gaps, key=abs), abs=0.21)
    assert [tick.label for tick in chart.x_ticks] == ["0", "25k", "50k", "75k", "100k"]
