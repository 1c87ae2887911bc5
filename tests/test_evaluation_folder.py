"""What a folder of images seems to have: known damage is found, told and written down."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from blemish.data import MemorySource, open_source
from blemish.degradations import setting
from blemish.evaluation import QUANTITIES, inspect_folder
from blemish.evaluation.verdicts import BOUNDS, Bounds, Share, judge, share, suggest
from blemish.functional.random import generator_for


def scenes(count: int, size: int = 32, channels: int = 3) -> torch.Tensor:
    """Crisp overlapping rectangles of many shades and pale colours on slopes, in [0.1, 0.9]."""
    u = torch.rand(count, 5, 5 + channels, generator=generator_for(0))
    p = torch.arange(size)
    x = torch.full((count, channels, size, size), 0.5)
    for k in range(5):
        top, left, height, width = (u[:, k, i, None] * size * 0.8 for i in range(4))
        rows = (p >= top) & (p < top + height + 2)
        columns = (p >= left) & (p < left + width + 2)
        inside = (rows[:, :, None] & columns[:, None])[:, None]
        colour = 0.2 + 0.5 * u[:, k, 4:5] + 0.1 * u[:, k, 5:]
        x = torch.where(inside, colour[..., None, None], x)
    slope = torch.linspace(-0.05, 0.05, size)
    return x + slope + slope[:, None].sin()


def damaged(letters: str, count: int = 60, **options) -> MemorySource:
    """A source of scenes, an equal share of them damaged by each of the settings."""
    x = scenes(count, **options)
    parts = []
    for part, name in zip(x.chunk(len(letters)), letters, strict=True):
        degradation = setting(name)
        params = degradation.sample(tuple(part.shape), generator=generator_for(1, name))
        parts.append(degradation(part, params))
    images = (torch.cat(parts).clamp(0, 1) * 255).round().to(torch.uint8)
    return MemorySource(images, title=f"scenes in {letters}", names=letters)


@pytest.mark.parametrize(
    ("letters", "usual", "recipe"),
    [
        ("A", set(), None),
        ("R", {"noise"}, "nr-gan"),
        ("J", {"jpeg"}, "cr-gan"),
        ("S", {"jpeg"}, "cr-gan"),
    ],
)
def test_the_damage_of_a_setting_is_found(letters, usual, recipe):
    found = inspect_folder(damaged(letters))
    assert {damage for damage, s in found.shares.items() if s.usual} == usual
    assert found.suggestion.recipe == recipe
    assert any(v.topic == "clean" for v in found.verdicts) == (letters == "A")
    assert not any(v.topic in BOUNDS for v in found.warnings)


def test_the_numbers_are_those_of_the_damage():
    source = damaged("R", count=60)
    clean = inspect_folder(damaged("A", count=60))
    found = inspect_folder(source)
    params = setting("R").sample((60, 3, 32, 32), generator=generator_for(1, "R")).stages[0]
    x = scenes(60).mean((1, 2, 3))
    truth = (params.sigma_read.square().flatten() + params.sigma_shot.square().flatten() * x).sqrt()
    assert torch.corrcoef(torch.stack([truth, found.values["noise"]]))[0, 1] > 0.97
    assert found.values["noise"].median() == pytest.approx(float(truth.median()), rel=0.1)
    assert found.pooled["noise"] == pytest.approx(float(truth.square().mean().sqrt()), rel=0.1)
    assert clean.values["noise"].median() < 0.004
    blurred = inspect_folder(damaged("B", count=60))
    assert blurred.pooled["blur_sigma"] > clean.pooled["blur_sigma"] + 0.2


@pytest.mark.parametrize(("letters", "topic"), [("AR", "noise"), ("AH", "jpeg")])
def test_mixed_folders_are_told_with_examples_of_both(letters, topic):
    found = inspect_folder(damaged(letters))
    (verdict,) = [v for v in found.warnings if v.topic == topic]
    assert verdict.text.startswith("Mixed: ")
    assert 0.3 < verdict.numbers["present"] < 0.6
    numbers = [int(name.rpartition("/")[2]) for name in verdict.examples]
    assert (min(numbers[:3]) >= 30, max(numbers[3:]) < 30) == (True, True)


def test_files_sizes_and_small_images_are_told(tmp_path):
    x = scenes(5, 40).permute(0, 2, 3, 1).mul(255).round().clamp(0, 255).to(torch.uint8).numpy()
    for i, side in enumerate((40, 40, 40, 24, 12)):
        Image.fromarray(x[i, :side, :side]).save(tmp_path / f"{i}.jpg", quality=60 + 10 * (i % 2))
    found = inspect_folder(open_source(tmp_path, mixed=True))
    assert found.sizes == {(40, 40): 3, (24, 24): 1, (12, 12): 1}
    assert found.values["file_quality"].tolist() == [60, 70, 60, 70, 60]
    assert {name: file.quality for name, file in found.files.items()}["1.jpg"] == 70
    measured = ~found.values["blur_sigma"].isnan()
    assert measured.tolist() == [True] * 4 + [False]
    assert {"sizes", "count"} <= {v.topic for v in found.warnings}
    assert any("5 JPEG files, whose headers say quality 60 to 70" in line for line in found.lines())
    assert {name for name, values in found.values.items() if values.isnan().all()} <= {
        "blur_anisotropy"
    }


def test_one_shape_at_a_time_or_all_together_is_the_same():
    source = damaged("N", count=20)
    found = inspect_folder(source)
    for i in (0, 13):
        alone = MemorySource(source.images[i : i + 1], title="one", names="one")
        for name, values in inspect_folder(alone).values.items():
            torch.testing.assert_close(
                values[0], found.values[name][i], rtol=1e-3, atol=1e-4, equal_nan=True
            )


def test_the_sample_is_a_function_of_the_seed():
    source = damaged("A", count=40)
    a, b, c = (inspect_folder(source, count=8, seed=seed) for seed in (3, 3, 4))
    assert a.to_json() == b.to_json()
    assert a.names != c.names
    assert (len(set(a.names)), list(a.names), a.total) == (8, sorted(a.names), 40)
    with pytest.raises(ValueError, match="count=0; measure at least 1"):
        inspect_folder(source, count=0)


def test_the_document_and_the_lines_say_everything():
    seen = []
    found = inspect_folder(damaged("N", count=20), progress=lambda *step: seen.append(step))
    document = json.loads(found.to_json())
    assert seen[-1] == (20, 20)
    assert set(document["values"]) == set(document["quantities"]) == set(QUANTITIES)
    assert all(len(values) == 20 for values in document["values"].values())
    for name, bars in document["histograms"].items():
        known = found.values[name][~found.values[name].isnan()]
        if name != "jpeg_quality":
            assert sum(bars["counts"]) == len(known)
        assert len(bars["edges"]) == (len(bars["counts"]) + 1 if bars["counts"] else 0)
    assert document["summary"]["noise"]["q50"] == pytest.approx(
        float(found.values["noise"].quantile(0.5)), rel=1e-4
    )
    lines = found.lines()
    assert lines[0].startswith("20 of 20 images measured: scenes in N")
    assert all(verdict.text in "\n".join(lines) for verdict in found.verdicts)
    assert lines[-1].startswith(f"Recipe that fits: {found.suggestion.recipe} (")
    with pytest.raises(ValueError, match="unknown quantity 'radius'; choose one of noise"):
        found.histogram("radius")


def test_shares_count_both_sides_and_leave_out_the_unknown():
    bounds = Bounds("noise", 1.0, 2.0, 1.5, 0.25, 0.4)
    values = torch.tensor([0.5, 1.0, 1.5, 2.0, float("nan")])
    assert share(values, bounds) == Share(0.25, 0.5, 1.0, 4, False, True)
    assert not share(values[:3], bounds).mixed
    assert share(values[2:], bounds).usual
    nothing = share(values[4:], bounds)
    assert (nothing.count, nothing.usual, nothing.mixed) == (0, False, False)


@pytest.mark.parametrize(
    ("found", "recipe"),
    [
        *(("", None), ("blur", "br-gan"), ("noise", "nr-gan"), ("jpeg", "cr-gan")),
        *(("blur noise", "bncr-gan"), ("blur noise jpeg", "bncr-gan")),
    ],
)
def test_the_recipe_follows_from_what_is_there(found, recipe):
    shares = {
        d: Share(0.9 * (d in found.split()), 0.0, 1.0, 9, d in found.split(), False) for d in BOUNDS
    }
    suggestion = suggest(shares)
    assert suggestion.recipe == recipe
    assert all(f"{damage} in 90%" in suggestion.reason for damage in found.split())


@pytest.mark.parametrize(
    ("chance", "luma", "present"), [(1.0, 0.02, 1), (1.0, 0.01, 0), (0.0, 0.02, 0)]
)
def test_under_jpeg_the_noise_of_the_luma_counts(chance, luma, present):
    values = {name: torch.full((4,), float("nan")) for name in QUANTITIES}
    values |= {"noise": torch.full((4,), 0.002), "noise_luma": torch.full((4,), luma)}
    values["jpeg_probability"] = torch.full((4,), chance)
    shares = judge(values, list("abcd"), {(32, 32): 4}, 5000, {})[1]
    assert shares["noise"].present == present
    assert shares["noise"].median == pytest.approx(luma / 0.668 if present else 0.002)


def test_nothing_known_is_said_to_be_unknown():
    values = {name: torch.full((2,), float("nan")) for name in QUANTITIES}
    verdicts, shares = judge(values, ["a", "b"], {(8, 8): 2}, 5000, {})
    assert [s.count for s in shares.values()] == [0, 0, 0]
    assert "not measured" in verdicts[0].text
    assert not any(v.topic in ("clean", "count", "sizes") for v in verdicts)
    assert not any(v.examples for v in verdicts)
    assert suggest(shares).reason.endswith("not all was measured: noise, jpeg, blur")


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("A", None), ("B", "br-gan"), ("R", "nr-gan"), ("L", "cr-gan"), ("N", "bncr-gan")],
)
def test_cifar(data_folder, name, recipe):
    source = open_source(data_folder / "cifar-10" / "test.zip", limit=80)
    x = source.tensor() / 255
    degradation = setting(name)
    y = degradation(x, degradation.sample(tuple(x.shape), generator=generator_for(0, name)))
    images = (y.clamp(0, 1) * 255).round().to(torch.uint8)
    found = inspect_folder(MemorySource(images, title=name, names=name))
    assert found.suggestion.recipe == recipe
