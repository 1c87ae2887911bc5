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
from blemish.data import MemorySource, load_images, open_source
from blemish.degradations import Chain, LearnedBlur, LearnedNoise, freeze, setting
from blemish.networks import ResNetGenerator

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


@pytest.mark.parametrize(("name", "size"), [("task:U-S", 6), ("task:NP", 24), ("task:UNAP", 3)])
def test_a_named_task_damages_a_folder(clean: Path, tmp_path: Path, name: str, size: int) -> None:
    degrade.run(name, str(clean), tmp_path / "out", **ARGUMENTS)
    assert pixels(tmp_path / "out/sub/c.png").shape == (size, size, 3)
    drawn = json.loads((tmp_path / "out/params.jsonl").read_text().splitlines()[0])["drawn"]
    assert ("summary.covered" in drawn) == ("P" in name)
    assert ("summary.dropped" in drawn) == ("N" in name)
    # Masks and noise follow from the seed.
    assert all(isinstance(value, float) for value in drawn.values())


@pytest.mark.parametrize(
    ("what", "output", "message"),
    [
        ("setting:Z", "out", "unknown setting 'Z'"),
        ("task:Z", "out", "unknown task 'Z'"),
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


@pytest.mark.parametrize(
    ("source", "output", "word"),
    [
        ("clean", "clean", "is the input"),
        ("clean", "clean/sub/new", "lies inside"),
        ("clean", ".", "contains the input"),
        ("clean/a.png", "clean", "contains the input"),
        ("clean/a.png", "clean/a.png", "is the input"),
        ("clean", "link", "is the input"),
        ("clean", "link/sub/../new", "lies inside"),
        ("../{name}/clean", "clean", "is the input"),
    ],
)
def test_originals_are_never_written_over(
    clean: Path, tmp_path: Path, source: str, output: str, word: str
) -> None:
    (tmp_path / "link").symlink_to(clean)
    before = {file: file.read_bytes() for file in clean.rglob("*") if file.is_file()}
    given = str(tmp_path / source.format(name=tmp_path.name))
    with pytest.raises(ValueError, match=word) as caught:
        degrade.run("setting:N", given, tmp_path / output, **{**ARGUMENTS, "overwrite": True})
    assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in clean.rglob("*") if file.is_file()} == before


def test_parameters_are_not_written_over_files(clean: Path, tmp_path: Path) -> None:
    arguments = {**ARGUMENTS, "overwrite": True, "params": clean / "a.png"}
    with pytest.raises(ValueError, match="lies inside"):
        degrade.run("setting:B", str(clean), tmp_path / "out", **arguments)
    notes = tmp_path / "notes.jsonl"
    notes.write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.jsonl exists"):
        degrade.run("setting:B", str(clean), tmp_path / "out", **{**ARGUMENTS, "params": notes})
    assert notes.read_text() == "mine"


def test_a_link_in_the_output_is_replaced_not_followed(clean: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "out", (clean / "a.png").read_bytes()
    degrade.run("setting:N", str(clean), out, **ARGUMENTS)
    (out / "a.png").unlink()
    (out / "a.png").symlink_to(clean / "a.png")
    degrade.run("setting:N", str(clean), out, **{**ARGUMENTS, "overwrite": True})
    assert (clean / "a.png").read_bytes() == before
    assert not (out / "a.png").is_symlink()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_pictures_of_others_are_not_written_over(kind: str, clean: Path, tmp_path: Path) -> None:
    out, mine = tmp_path / "out", tmp_path / "out" / "b.png"
    out.mkdir()
    if kind == "file":
        mine.write_text("mine")
    else:
        mine.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match=r"b\.png is there and no list of parameters says"):
        degrade.run("setting:B", str(clean), out, **{**ARGUMENTS, "overwrite": True})
    assert [file.name for file in out.iterdir()] == ["b.png"]
    assert mine.is_symlink() == (kind == "link")


def test_overwriting_follows_a_list_that_lies_elsewhere(clean: Path, tmp_path: Path) -> None:
    out, arguments = tmp_path / "out", {**ARGUMENTS, "params": tmp_path / "p.jsonl"}
    degrade.run("setting:B", str(clean), out, **arguments)
    (clean / "a.png").unlink()
    degrade.run("setting:B", str(clean), out, **{**arguments, "overwrite": True})
    listed = [json.loads(line)["file"] for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert sorted(f.relative_to(out).as_posix() for f in out.rglob("*.png")) == sorted(listed)
    assert len(listed) == 3


def test_a_picture_that_is_too_small_is_named(clean: Path, tmp_path: Path) -> None:
    Image.new("RGB", (5, 3)).save(clean / "small.png")
    with pytest.raises(ValueError, match=r"^small\.png \(3x5\): a kernel of size 9 .* leave this"):
        degrade.run("setting:B", str(clean), tmp_path / "out", **ARGUMENTS)


@pytest.mark.parametrize(
    "change", [{"seed": None}, {"index": 1.5}, {"drawn": 3}, {"source": ["a.png"]}, None]
)
def test_a_replay_of_something_else_is_refused(
    change: dict[str, object] | None, clean: Path, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", tmp_path / "p.jsonl"
    degrade.run("setting:B", str(clean), out, **ARGUMENTS)
    line = json.loads((out / "params.jsonl").read_text().splitlines()[0])
    path.write_bytes(b"\x89PNG\n" if change is None else json.dumps({**line, **change}).encode())
    with pytest.raises(ValueError, match=r"p\.jsonl was not written by blemish degrade"):
        degrade.run("setting:B", str(clean), tmp_path / "new", **{**ARGUMENTS, "replay": path})
    assert not (tmp_path / "new").exists()


def test_maps_are_summarised_not_written(clean: Path, tmp_path: Path) -> None:
    network = ResNetGenerator.Config(image_channels=6, latent=8)
    learned = Chain([LearnedBlur.Config().build(), LearnedNoise.Config(network=network).build()])
    folder = artefacts.save(learned, tmp_path / "learned")
    out = tmp_path / "out"
    degrade.run(str(folder), str(clean), out, **ARGUMENTS)
    for text in (out / "params.jsonl").read_text().splitlines():
        drawn = json.loads(text)["drawn"]
        assert {name for name, value in drawn.items() if isinstance(value, list)} == {
            "stages.0.kernel"
        }
        assert drawn["summary.sigma_shot"] > 0
        assert len(text) < 4000
    again = {**ARGUMENTS, "seed": 5, "replay": out / "params.jsonl"}
    assert degrade.run(str(folder), str(clean), tmp_path / "again", **again) == 0


def test_a_level_map_of_a_small_image_is_no_kernel() -> None:
    drawn = LearnedNoise.Config(network=ResNetGenerator.Config(image_channels=2)).build()
    params = drawn.sample((2, 1, 9, 9), generator=torch.Generator().manual_seed(0))
    assert all(
        row.keys() == {"summary.sigma_read", "summary.sigma_shot"}
        for row in degrade._lines(params.detach())
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [("stages.2.quality", 1.0), ("summary.sigma_shot", 1e-4), ("stages.0.kernel", [0.0] * 81)],
)
def test_a_replay_of_edited_parameters_is_refused(
    clean: Path, tmp_path: Path, name: str, change: object
) -> None:
    out, file = tmp_path / "out", tmp_path / "edited.jsonl"
    degrade.run("setting:N", str(clean), out, **ARGUMENTS)
    lines = [json.loads(line) for line in (out / "params.jsonl").read_text().splitlines()]
    drawn = lines[2]["drawn"]
    drawn[name] = drawn[name] + change if isinstance(change, float) else change
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = tmp_path / "again"
    with pytest.raises(ValueError, match=rf"{name} of sub/a\.png is not what its seed") as caught:
        degrade.run("setting:N", str(clean), again, **{**ARGUMENTS, "replay": file})
    assert "\n" not in str(caught.value)
    assert not again.exists()


def test_a_replay_of_another_file_is_refused(clean: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"seed": 1}\n')
    with pytest.raises(ValueError, match="was not written by blemish degrade"):
        degrade.run("setting:N", str(clean), tmp_path / "o", **{**ARGUMENTS, "replay": file})


def test_a_replay_may_go_into_its_own_folder(clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    degrade.run("setting:N", str(clean), out, **ARGUMENTS)
    before = {file.relative_to(out): file.read_bytes() for file in out.rglob("*.*")}
    again = {**ARGUMENTS, "seed": 2, "overwrite": True, "replay": out / "params.jsonl"}
    degrade.run("setting:N", str(clean), out, **again)
    assert {file.relative_to(out): file.read_bytes() for file in out.rglob("*.*")} == before


def test_overwriting_removes_what_the_list_names_and_nothing_else(
    clean: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    degrade.run("setting:B", str(clean), out, **ARGUMENTS)
    outside, mine = tmp_path / "outside.png", out / "sub" / "mine.png"
    for file in (outside, mine):
        file.write_text("keep me")
    line = json.loads((out / "params.jsonl").read_text().splitlines()[0])
    with (out / "params.jsonl").open("a") as lines:
        lines.write(json.dumps({**line, "file": "../outside.png"}) + "\n")
        lines.write(json.dumps({**line, "file": str(outside)}) + "\n")
        lines.write('{"file": "sub/mine.png"}\n{"file": ')
    (clean / "a.png").unlink()
    degrade.run("setting:B", str(clean), out, **{**ARGUMENTS, "overwrite": True})
    left = sorted(file.relative_to(out).as_posix() for file in out.rglob("*.*"))
    assert left == ["b.png", "params.jsonl", "sub/a.png", "sub/c.png", "sub/mine.png"]
    assert outside.read_text() == mine.read_text() == "keep me"


def test_overwriting_removes_what_a_stopped_run_wrote(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write = tmp_path / "out", degrade._write

    def stop(image: torch.Tensor, file: Path) -> None:
        if file.name == "c.png":
            raise OSError("the disk is full")
        write(image, file)

    monkeypatch.setattr(degrade, "_write", stop)
    with pytest.raises(OSError, match="full"):
        degrade.run("setting:B", str(clean), out, **ARGUMENTS)
    assert (out / "a.png").exists()
    monkeypatch.undo()
    (clean / "a.png").unlink()
    degrade.run("setting:B", str(clean), out, **{**ARGUMENTS, "overwrite": True})
    assert len(list(out.rglob("*.png"))) == 3
    assert not list(out.rglob("*.part"))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "b.png"], ["a.png", "b.png"]),
        (["a.jpg", "a.png"], ["a.jpg.png", "a.png.png"]),
        (["a.jpg", "a.jpg.png", "a.png"], ["a.jpg.png", "a.jpg.png.png", "a.png.png"]),
        (["a.jpg.png", "a.jpg", "a.png"], ["a.jpg.png", "a.jpg-2.png", "a.png.png"]),
        (["A.jpg", "a.jpg"], ["A.jpg.png", "a.jpg-2.png"]),
        (["a.jpg", "a.png/b.jpg"], ["a.jpg.png", "a.png/b.png"]),
        (["x/a.jpg", "y/a.jpg"], ["x/a.png", "y/a.png"]),
    ],
)
def test_no_two_pictures_get_one_name(names: list[str], expected: list[str]) -> None:
    images = MemorySource(
        torch.zeros(len(names), 1, 2, 2, dtype=torch.uint8), title="", names=names
    )
    files = [file.as_posix() for file in degrade._files(images, Path("o"))]
    assert files == [f"o/{name}" for name in expected]
