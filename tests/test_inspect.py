"""The verb inspect: images and pairs of runs, from the command line to the page."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from evaluation_record import write_run
from PIL import Image
from test_evaluation_folder import damaged, scenes
from test_evaluation_pages import check

from blemish import artefacts, cli
from blemish.commands import inspect
from blemish.data import MemorySource, open_source
from blemish.degradations import setting
from blemish.evaluation import inspect_folder
from blemish.recipes import configure
from blemish.runs import change, start


def write_images(folder: Path, letters: str = "AJ", count: int = 12, size: int = 32) -> Path:
    folder.mkdir()
    images = damaged(letters, count, size=size).images
    for i, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    return folder


def test_a_folder_is_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_images(tmp_path / "images"), tmp_path / "out"
    words = ["inspect", str(folder), "--out", str(out), "--count", "10", "--seed", "3"]
    assert cli.run(words) == 0
    printed = capsys.readouterr().out.splitlines()
    found = inspect_folder(open_source(folder, mixed=True), count=10, seed=3)
    assert printed[:-1] == found.lines()
    assert (out / "findings.json").read_text() == found.to_json()
    page = check((out / "index.html").read_text())
    assert {"conclusions", "suggestion", "numbers", "files"} <= set(page.ids)
    command = inspect.train_command(str(folder), found)[0]
    assert shlex.split(command)[:3] == ["blemish", "train", found.suggestion.recipe]
    assert command in page.text
    assert cli.run(words) == 0  # it may be replaced


def test_a_single_picture_and_broken_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_images(tmp_path / "images", count=4), tmp_path / "out"
    assert inspect.run(str(folder / "00.png"), out=out) == 0
    assert json.loads((out / "findings.json").read_text())["total"] == 1
    (folder / "bad.png").write_bytes(b"no picture")
    assert cli.run(["inspect", str(folder), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "bad.png" in error
    assert "--skip-bad" in error
    assert cli.run(["inspect", str(folder), "--out", str(out), "--skip-bad"]) == 0
    assert "skipped bad.png" in capsys.readouterr().out
    assert "<dt>Skipped</dt><dd>1</dd>" in (out / "index.html").read_text()


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([(32, 32)], "--preset cifar10-small"),
        ([(32, 40), (50, 33)], "--preset cifar10-small --fit crop"),
        ([(70, 64), (90, 200)], "--preset cifar10-small --set data.random_crop=true"),
        ([(20, 40)], "--preset small16 --fit crop"),
        ([(15, 40), (64, 64)], None),
    ],
)
def test_the_suggested_command_fits_the_sizes(
    sizes: list[tuple[int, int]], words: str | None
) -> None:
    image = (255 * scenes(1, 200)[0]).clamp(0, 255).to(torch.uint8)
    source = MemorySource([image[:, :h, :w] for h, w in sizes], title="x", names="x")
    command, advice = inspect.train_command("a b", inspect_folder(source))
    if words is None:
        assert (command, "below 16x16" in advice) == ("", True)
        return
    assert command.endswith(words)
    assert "--data 'a b'" in command


def test_the_suggested_command_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_images(tmp_path / "images", "R", count=20, size=72)
    found = inspect_folder(open_source(folder, mixed=True))
    words = shlex.split(inspect.train_command(str(folder), found)[0])[1:]
    words[words.index("--out") + 1] = str(tmp_path / "run")
    assert cli.run([*words, "--images", "16", "--device", "cpu"]) == 0
    assert (tmp_path / "run" / "degradation").is_dir() == (words[1] != "gan")


def test_real_photographs_of_many_sizes_are_inspected(data_folder: Path, tmp_path: Path) -> None:
    photos = data_folder / "photos" / "real-noise"
    assert inspect.run(str(photos), out=tmp_path, count=3) == 0
    page = check((tmp_path / "index.html").read_text())
    assert len(page.images) == 3 * 2
    assert "data.random_crop=true" in page.text
    assert json.loads((tmp_path / "findings.json").read_text())["total"] == 15


def test_two_halves_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for half in ("0", "1"):
        changes = {"data.source": "glyphs:64", "training.images": "16", "data.half": half}
        start(
            change(configure("bncr-gan", "tiny", "N"), changes),
            tmp_path / half,
            device="cpu",
            silent=True,
        )
    words = ["inspect", str(tmp_path / "0"), "--out", str(tmp_path / "out"), "--count", "60"]
    assert cli.run([*words, "--against", str(tmp_path / "1")]) == 0
    printed = capsys.readouterr().out
    assert "between the two" in printed
    assert "truth" not in printed
    page = check((tmp_path / "out" / "index.html").read_text())
    assert "How far two runs agree" in page.text
    assert "<dt>Half, first</dt><dd>0</dd>" in page.text
    assert "<dt>Half, second</dt><dd>1</dd>" in page.text
    assert "<dt>Recipe</dt><dd>bncr-gan</dd>" in page.text
    assert "Runs of one seed begin with the same weights" in page.text
    assert "Second kernels" in page.text
    document = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert (document["reference"], document["true"], document["count"]) == ("other", None, 60)
    assert {"nearest_kernel", "noise_curve", "clean_jpeg", "radius"} <= set(document["distances"])


def test_a_run_agrees_with_its_own_artefact_as_two_samples_do(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    inspect.run(str(run), out=tmp_path / "out", against=run / "degradation", count=200)
    document = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert document["kernel_floor"] == pytest.approx(
        document["distances"]["nearest_kernel"], rel=0.2
    )
    assert 0 < document["distances"]["radius"] < 0.05


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere does not exist", "a folder"]),
        (["empty"], ["empty"]),
        (["."], ["holds runs or degradations", "run"]),
        (["images", "--checkpoint", "last"], ["--checkpoint", "no config.json"]),
        (["images", "--against", "run"], ["--against", "no config.json"]),
        (["run", "--skip-bad"], ["--skip-bad", "leave it out"]),
        (["run", "--against", "images"], ["images is no run and no degradation"]),
        (["run", "--against", "grey"], ["learned on images of 1 channels", "3"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    Path("empty").mkdir()
    write_images(tmp_path / "images", count=2)
    noise = configure("nr-gan", "small16-grey").system.build().degradation
    artefacts.save(noise, tmp_path / "grey")
    assert cli.run(["inspect", *arguments, "--out", "out"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert all(word in captured.err for word in words), captured.err
    assert not Path("out").exists()


def test_blur_and_noise_have_nothing_in_common_and_share_a_shape(tmp_path: Path) -> None:
    blur, noise = tmp_path / "blur", tmp_path / "noise"
    artefacts.save(setting("B"), blur)
    artefacts.save(configure("nr-gan", "small16-grey").system.build().degradation, noise)
    for what, against, kernels in ((blur, noise, "First"), (noise, blur, "Second")):
        inspect.run(str(what), out=tmp_path / "out", against=against, count=9)
        page = check((tmp_path / "out" / "index.html").read_text())
        assert f"{kernels} kernels" in page.text
        document = json.loads((tmp_path / "out" / "findings.json").read_text())
        assert (document["distances"], document["shape"]) == ({}, [1, 16, 16])
