"""The verb degrade: folders, pictures, parameters, replay, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blemish import artefacts
from blemish.commands import degrade
from blemish.data import load_images, open_source
from blemish.degradations import Chain, LearnedBlur, freeze, setting

ARGUMENTS = {
    "seed": 1,
    "params": None,
    "replay": None,
    "overwrite": False,
    "skip_bad": False,
}


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    folder = tmp_path / "clean"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "sub/a.png", "sub/c.webp"):
        low = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(low).resize((24, 24), Image.Resampling.BICUBIC)
        picture.save(folder / name, lossless=True)
    return folder


def pixels(file: Path) -> torch.Tensor:
    with Image.open(file) as picture:
        return torch.from_numpy(np.array(picture))


def test_a_folder_keeps_its_structure_and_equals_the_frozen_copy(
    clean: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert degrade.run("setting:N", str(clean), out, **ARGUMENTS) == 0
    source = open_source(clean)
    expected = freeze(setting("N"), load_images(source), seed=1)
    files = sorted(out.rglob("*.png"))
    assert [f.relative_to(out).as_posix() for f in files] == [
        "a.png",
        "b.png",
        "sub/a.png",
        "sub/c.png",
    ]
    for i in range(len(source)):
        file = (out / source.name(i)).with_suffix(".png")
        assert torch.equal(pixels(file).permute(2, 0, 1), expected[i])


def test_the_parameters_tell_what_was_drawn(clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    degrade.run("setting:N", str(clean), out, **ARGUMENTS)
    lines = [json.loads(line) for line in (out / "params.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2, 3]
    for line in lines:
        drawn = line["drawn"]
        assert len(drawn["stages.0.kernel"]) == 81
        assert sum(drawn["stages.0.kernel"]) == pytest.approx(1, abs=1e-5)
        assert 60 <= drawn["stages.2.quality"] <= 100
        assert drawn["summary.sigma_shot"] == pytest.approx(drawn["stages.1.sigma_shot"])
        assert not any("eps" in name for name in drawn)


def test_a_replay_repeats_the_damage_on_fewer_images(clean: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    degrade.run("setting:N", str(clean), out, **ARGUMENTS)
    (clean / "a.png").unlink()
    replay = {**ARGUMENTS, "seed": 9, "replay": out / "params.jsonl"}
    degrade.run("setting:N", str(clean), again, **replay)
    for name in ("b.png", "sub/a.png", "sub/c.png"):
        assert torch.equal(pixels(again / name), pixels(out / name))
    with pytest.raises(ValueError, match="was written by 'setting:N', not by 'setting:R'"):
        degrade.run("setting:R", str(clean), tmp_path / "x", **replay)


def test_a_replay_without_a_line_for_an_image_is_refused(clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    degrade.run("setting:B", str(clean), out, **ARGUMENTS)
    Image.new("RGB", (24, 24)).save(clean / "new.png")
    with pytest.raises(ValueError, match=r"no line for new\.png"):
        degrade.run(
            "setting:B",
            str(clean),
            tmp_path / "x",
            **{**ARGUMENTS, "replay": out / "params.jsonl"},
        )


def test_one_picture_gives_one_picture(clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.png"
    degrade.run("setting:R", str(clean / "a.png"), out, **ARGUMENTS)
    assert pixels(out).shape == (24, 24, 3)
    assert (tmp_path / "one.jsonl").exists()
    with pytest.raises(FileExistsError, match="--overwrite"):
        degrade.run("setting:R", str(clean / "a.png"), out, **ARGUMENTS)
    before = pixels(out)
    degrade.run("setting:R", str(clean / "a.png"), out, **{**ARGUMENTS, "overwrite": True})
    assert torch.equal(pixels(out), before)


def test_a_folder_of_different_sizes_is_damaged_one_by_one(clean: Path, tmp_path: Path) -> None:
    Image.new("L", (33, 47), 128).save(clean / "odd.png")
    out = tmp_path / "out"
    degrade.run("setting:N", str(clean), out, **ARGUMENTS)
    assert pixels(out / "odd.png").shape[:2] == (47, 33)
    assert len(list(out.rglob("*.png"))) == 5


def test_names_that_differ_in_their_ending_stay_apart(clean: Path, tmp_path: Path) -> None:
    Image.new("RGB", (24, 24), "red").save(clean / "a.bmp")
    out = tmp_path / "out"
    degrade.run("setting:A", str(clean), out, **ARGUMENTS)
    assert (out / "a.bmp.png").exists()
    assert (out / "a.png.png").exists()
    assert len(list(out.rglob("*.png"))) == 5


def test_a_learned_degradation_damages_a_folder(clean: Path, tmp_path: Path) -> None:
    folder = artefacts.save(Chain([LearnedBlur.Config().build()]), tmp_path / "learned")
    out = tmp_path / "out"
    degrade.run(str(folder), str(clean), out, **ARGUMENTS)
    line = json.loads((out / "params.jsonl").read_text().splitlines()[0])
    assert line["drawn"]["summary.radius"] > 0
    assert not torch.equal(pixels(out / "a.png"), pixels(clean / "a.png"))


@pytest.mark.parametrize(
    ("what", "output", "message"),
    [
        ("setting:Z", "out", "unknown setting 'Z'"),
        ("nowhere", "out", "is no degradation"),
        ("setting:N", "one.png", "the input has 4"),
        ("setting:N", "one.jpg", "written as PNG"),
    ],
)
def test_wrong_arguments_are_named(
    clean: Path, tmp_path: Path, what: str, output: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        degrade.run(what, str(clean), tmp_path / output, **ARGUMENTS)
    assert not (tmp_path / output).exists()


def test_a_full_folder_is_not_written_into(clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match="--overwrite"):
        degrade.run("setting:N", str(clean), out, **ARGUMENTS)
    assert (out / "mine.txt").read_text() == "keep me"
