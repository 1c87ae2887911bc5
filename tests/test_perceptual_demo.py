"""The demo of perceptual restoration from end to end at a toy size, and what it says of its numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from blemish import runs
from blemish.commands import demo, perceptual_demo
from blemish.commands.perceptual_words import lessons, paired_gap, table
from blemish.recipes import configure
from blemish.restorers import MMD_SEARCH, LatentSearch

BITS = {
    "paired": 4.0,
    "unpaired": 5.1,
    "zero": 5.3,
    "blurred": 4.1,
    "observed": 3.9,
    "logistic": 5.2,
    "told": 1.0,
}


def train_here(out: Path, trainings: Mapping[str, Sequence[str]], *, seed: int) -> None:
    """Trains what ``blemish train`` would be told, in this process and without reports."""
    for name, (recipe, _, preset, *rest) in trainings.items():
        assert set(rest[::2]) <= {"--set"}
        changes = dict(change.split("=", 1) for change in rest[1::2])
        config = runs.change(configure(recipe, preset), {"seed": str(seed), **changes})
        runs.start(config, out / name, resume=True, device="cpu", silent=True)


def test_the_number_of_images_wins_over_the_sizes() -> None:
    for name, words in perceptual_demo._trainings(perceptual_demo.SIZES["toy"], 24).items():
        recipe, _, preset, *rest = words
        changes = dict(change.split("=", 1) for change in rest[1::2])
        config = runs.change(configure(recipe, preset), changes)
        assert config.training.images == 24, name


def test_the_demo_trains_restores_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perceptual_demo, "train_all", train_here)
    monkeypatch.setitem(perceptual_demo.SIZES, "demo", perceptual_demo.SIZES["toy"])
    assert demo.run(tmp_path, what="perceptual", seed=1) == 0
    text = (tmp_path / "summary.json").read_text()
    summary = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    size, rows = perceptual_demo.SIZES["toy"], summary["restored"]
    assert (summary["seed"], summary["count"]) == (1, size.restored)
    assert summary["likelihood"].keys() == BITS.keys()
    assert list(rows) == ["clean", "damaged", *perceptual_demo.WAYS]
    assert rows["clean"]["distance"] == rows["damaged"]["to damaged"] == 0
    for name in perceptual_demo.WAYS:
        row = rows[name]
        assert row["distance"] == pytest.approx(sum(row["distances"]) / size.restored, rel=1e-5)
        # An untrained prior is nowhere near the truth, and says so; another seed finds another image.
        assert row["distance"] > rows["damaged"]["distance"]
        first, second = row["by seed"]
        assert first != second
        assert row["psnr"] == pytest.approx((first["psnr"] + second["psnr"]) / 2)
    with Image.open(tmp_path / "restored.png") as picture:
        # Three glyphs in a row, five pictures of each, and two white ones between.
        assert picture.size == (17 * 65 - 1, size.restored // 3 * 65 - 1)
        pixels = np.asarray(picture)
    assert (pixels[:, 5 * 65 : 6 * 65] == 255).all()
    assert pixels[:, : 5 * 65 - 1].min() == 0
    page = (tmp_path / "report.html").read_text()
    assert "MMD, likelihood" in page
    said = capsys.readouterr().out
    for sentence in lessons(summary):
        assert sentence in said

    # It goes on where it stopped: nothing is trained again, and the numbers are the same.
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/model.safetensors")}
    assert written
    assert demo.run(tmp_path, what="perceptual", seed=1) == 0
    again = json.loads((tmp_path / "summary.json").read_text())
    assert {**again, "seconds": 0} == {**summary, "seconds": 0}
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())


def test_the_likelihood_alone_searches_with_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, LatentSearch.Config]] = []

    class Recorded(torch.nn.Module):
        asked = 3

        def __init__(self, prior: Any, damage: Any, config: LatentSearch.Config) -> None:
            super().__init__()
            seen.append((damage, config))

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            return y

    class Loaded:
        prior = torch.nn.Identity()
        degradation = torch.nn.Identity()

    monkeypatch.setattr(perceptual_demo, "LatentSearch", Recorded)
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    glyphs = perceptual_demo.Glyphs(x, x, torch.zeros(2), x)
    size = perceptual_demo.SIZES["toy"]
    both: Any = {"prior": Loaded(), "likelihood": Loaded()}
    found = perceptual_demo.restored_by(both, glyphs, size, lambda done, total: None)
    assert {name: len(images) for name, images in found.items()} == dict.fromkeys(
        perceptual_demo.WAYS, len(size.seeds)
    )
    assert [damage for damage, _ in seen] == [None, None, Loaded.degradation] * len(size.seeds)
    assert [config.seed for _, config in seen] == [0, 0, 0, 1, 1, 1]
    weight = MMD_SEARCH.mmd
    assert [config.mmd for _, config in seen] == [0, weight, weight] * 2
    assert all(config.start == "random" and config.steps == size.steps for _, config in seen)


def summary_of(**distances: list[float]) -> dict[str, Any]:
    def row(values: list[float], realism: float, off: float, read: float) -> dict[str, Any]:
        mean = sum(values) / len(values)
        return {
            "distance": mean,
            "distances": values,
            "realism": realism,
            "to damaged": off,
            "psnr": None if mean == 0 else 20.0,
            "read": read,
        }

    return {
        "likelihood": BITS,
        "seeds of searches": [0, 1, 2],
        "count": 4,
        "features": "some",
        "restored": {
            "clean": row([0.0] * 4, 1.0, 0.1, 1.0),
            "damaged": row([1.0] * 4, 9.0, 0.0, 0.5),
            "pulse": row(distances["pulse"], 7.0, 0.1, 0.75),
            "mmd": row(distances["mmd"], 6.0, 0.1, 0.5),
            "likelihood": row(distances["likelihood"], 5.0, 0.2, 0.25),
        },
    }


def test_a_difference_counts_above_its_error_alone() -> None:
    far, near, mixed = [1.0, 2.0, 3.0, 4.0], [0.9, 1.8, 2.9, 3.8], [1.5, 1.5, 3.5, 3.6]
    better = lessons(summary_of(pulse=mixed, mmd=far, likelihood=near))
    assert "made no clear difference" in better[2]
    assert "came nearer to the truth (2.350 against 2.500)" in better[3]
    assert "looks more like clean glyphs (realism 5.00 against 6.00)" in better[3]
    worse = lessons(summary_of(pulse=near, mmd=far, likelihood=far))
    assert "came less near to the truth" in worse[2]
    assert "made no clear difference" in worse[3]


def test_sentences_follow_the_numbers() -> None:
    distances = {"pulse": [1.0, 2.0], "mmd": [1.0, 2.0], "likelihood": [1.0, 2.0]}
    summary = summary_of(**distances)
    said = " ".join(lessons(summary))
    assert "in 100% of the pairs: damaged glyphs cost 4.00 bits a value given their own" in said
    assert "likelier still given itself" in said
    assert "farther from the damaged pixels" in said
    assert "Of the damaged glyphs 50% are read right, of the restored ones 75% (pulse), 50%" in said
    assert said.endswith("(mmd, likelihood) is now and then another one.")
    summary["likelihood"] = {**BITS, "observed": 4.5}
    summary["restored"]["likelihood"]["to damaged"] = 0.05
    summary["restored"]["likelihood"]["read"] = 0.5
    said = " ".join(lessons(summary))
    assert "less likely given itself" in said
    assert "nearer to the damaged pixels" in said
    assert said.endswith("50% (mmd, likelihood).")
    rows = table(summary).splitlines()
    assert sum(row.startswith(("clean ", "damaged ", "pulse ", "mmd, ")) for row in rows) == 5


def test_the_error_of_a_gap_is_that_of_pairs() -> None:
    a, b = [3.0, 5.0, 10.0, 2.0], [1.0, 4.0, 7.0, 2.0]
    mean, error = paired_gap(a, b)
    gaps = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)
    assert mean == pytest.approx(float(gaps.mean()))
    assert error == pytest.approx(float(gaps.std()) / math.sqrt(4))
    # What both have in common is no error.
    shifted = [x + 100 * i for i, x in enumerate(b)]
    assert paired_gap([x + 100 * i for i, x in enumerate(a)], shifted) == pytest.approx(
        (mean, error)
    )


@pytest.mark.parametrize("name", ["report.html", "summary.json", "restored.png"])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match="was not made by blemish; move it"):
        demo.run(tmp_path, what="perceptual")
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.slow
def test_a_failed_training_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"training .* failed; its log is .*at least 1"):
        demo.run(tmp_path, what="perceptual", images=-1)
