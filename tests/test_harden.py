"""From a folder of photographs to a hardened restorer, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blemish import cli
from blemish.artefacts import save
from blemish.degradations import BSRGAN, Chain, NeuralDegradation
from blemish.functional.random import generator_for, rand
from blemish.networks import Upscaler
from blemish.restorers import FeedForward
from blemish.runs import Run, load
from blemish.training.config import RunConfig

SHORT = ["--images", "16", "--device", "cpu"]


def call(*arguments: str | Path) -> int:
    return cli.run([str(a) for a in arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(3):
        rough = rand((1, 3, 9, 10), generator_for("photo", i))
        x = torch.nn.functional.interpolate(rough, size=(71, 83), mode="bicubic").clamp(0, 1)
        pixels = (x[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "and"
    options = ["--data", photos, "--out", out, "--scale", "2", "--preset", "tiny", *SHORT]
    assert call("train", "andnet", *options) == 0
    return out


def config_of(folder: Path) -> RunConfig:
    found: Run = load(folder)
    return found.config


def test_a_folder_becomes_a_restorer_that_enlarges(run: Path, photos: Path, tmp_path: Path) -> None:
    assert call("restore", run, photos, tmp_path / "large") == 0
    for i in range(3):
        with Image.open(tmp_path / "large" / f"{i}.png") as picture:
            assert picture.size == (166, 142)
    assert (run / "report.html").is_file()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(15 < line["strength/deviation_db"] < 60 for line in lines)


def test_its_damage_befalls_other_folders(run: Path, photos: Path, tmp_path: Path) -> None:
    assert call("degrade", run, photos, tmp_path / "small", "--seed", 1) == 0
    with Image.open(tmp_path / "small" / "0.png") as picture:
        assert picture.size == (41, 35)
    row = json.loads((tmp_path / "small" / "params.jsonl").read_text().splitlines()[0])
    assert set(row["drawn"]) == {"summary.kernels", "summary.slopes", "summary.noise"}
    with Image.open(photos / "0.png") as picture:
        clean = np.asarray(picture.crop((0, 0, 82, 70)).resize((41, 35), Image.Resampling.BOX))
    with Image.open(tmp_path / "small" / "0.png") as picture:
        error = np.asarray(picture).astype(float) - clean
    assert 0.1 < np.abs(error).mean() < 30


@pytest.mark.parametrize("name", ["bsrgan:2", "real-esrgan:1", "bicubic:3"])
def test_published_damage_has_a_name_in_every_verb(name: str, photos: Path, tmp_path: Path) -> None:
    assert call("degrade", name, photos, tmp_path / "damaged") == 0
    factor = int(name[-1])
    with Image.open(tmp_path / "damaged" / "1.png") as picture:
        assert picture.size == (83 // factor, 71 // factor)
    if name != "bsrgan:2":
        return
    out = tmp_path / "run"
    options = ["--data", photos, "--out", out, "--degradation", name, "--scale", "2", *SHORT]
    assert call("train", "synthetic", "--preset", "tiny", "--size", "32", *options) == 0
    system = config_of(out).system
    assert system.degradation == BSRGAN.Config(2)
    assert isinstance(system.restorer.network, Upscaler.Config)


def test_a_restorer_is_hardened_with_its_own_damage(photos: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["--data", photos, "--size", "32", *SHORT]
    synthetic = ["--preset", "tiny", "--setting", "B", "--set", "data.random_crop=true"]
    assert call("train", "synthetic", "--out", first, *synthetic, *options) == 0
    harden = ["--out", second, "--restorer", first, "--preset", "tiny"]
    assert call("train", "harden", *harden, *options) == 0
    before, after = load(first), load(second)
    assert after.config.system.restorer == before.config.system.restorer
    assert after.config.system.perturbation.scale == 1
    seen = after.degradation
    assert isinstance(seen, Chain)
    assert [type(stage) for stage in seen] == [Chain, NeuralDegradation]
    # It went on from where the first ended.
    weights = [run.restorer.state_dict() for run in (before, after)]
    for name, tensor in weights[0].items():
        assert 0 < (weights[1][name] - tensor).abs().max() < 0.02 or tensor.abs().max() == 0
    # Once more: what it was hardened against is not put on top.
    third = ["--out", tmp_path / "third", "--restorer", second, "--preset", "tiny"]
    assert call("train", "harden", *third, *options) == 0
    assert config_of(tmp_path / "third").system.degradation == after.config.system.degradation
    # What is said counts.
    fourth = ["--out", tmp_path / "fourth", "--restorer", second, "--preset", "tiny"]
    assert call("train", "harden", *fourth, "--setting", "J", *options) == 0
    assert config_of(tmp_path / "fourth").system.simulator == "setting:ffhq/J"


def test_what_a_restorer_undoes_must_be_known(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = save(FeedForward.Config().build(), tmp_path / "alone")
    options = ["--data", photos, "--out", tmp_path / "out", "--preset", "tiny", *SHORT]
    assert call("train", "harden", "--restorer", alone, *options) == 1
    assert "does not say what damage it undoes" in capsys.readouterr().err
    assert call("train", "harden", "--restorer", alone, *options, "--setting", "J") == 0


def test_a_scale_need_not_divide_the_crop(photos: Path, tmp_path: Path) -> None:
    options = ["--data", photos, "--out", tmp_path / "run", "--degradation", "bicubic:3", *SHORT]
    three = ["--scale", "3", "--preset", "tiny", "--size", "32"]
    assert call("train", "synthetic", *three, *options) == 0


def test_reports_are_those_of_its_own_presets(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", photos, "--out", "nowhere", "--preset", "div2k", "--dry-run"]
    small = ["--images", "4800", "--set", "training.batch=2", "--set", "data.size=16"]
    assert call("train", "andnet-bicubic", *options, *small) == 0
    assert '"log_every": 2,' in capsys.readouterr().out


def test_a_hardened_run_goes_on(photos: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "more"
    options = ["--data", photos, "--out", out, "--restorer", run, "--preset", "tiny", *SHORT]
    assert call("train", "harden", *options) == 0
    assert call("train", "harden", *options, "--resume") == 0
    assert config_of(out).system.restorer.network.scale == 2


def test_the_profile_stands_beside_plain_enlargement(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "profile.json"
    options = ["--reference", photos, "--robustness", "--device", "cpu", "-n", "2"]
    assert call("evaluate", run, *options, "--json", file) == 0
    told = capsys.readouterr().out
    assert "disk+noise+jpeg" in told
    assert "mean of unseen" in told
    document = json.loads(file.read_text())
    assert set(document) == {str(run), "bicubic enlargement"}
    assert all(len(row) == 2 for way in document.values() for row in way["scores"]["noise"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["andnet", "--preset", "ffhq128"], "andnet has no preset 'ffhq128'; choose one of tiny"),
        (["harden", "--preset", "tiny"], "harden goes on training a restorer"),
        (["andgan", "--preset", "tiny"], "andgan goes on training a restorer"),
        (["unir", "--preset", "tiny", "--scale", "2"], "unir keeps the size of images"),
        (["andnet", "--preset", "tiny", "--restorer", "RUN", "--scale", "3"], "2 times larger"),
        (["unir", "--preset", "tiny", "--restorer", "RUN"], "unir starts from a fresh restorer"),
        (
            ["andnet", "--preset", "tiny", "--degradation", "bsrgan:3"],
            "3 times smaller, and the restorer 4 times larger",
        ),
        (["andnet", "--preset", "tiny", "--degradation", "bsrgan:x"], "has no scale after"),
        (["andnet", "--preset", "tiny", "--degradation", "nothing"], "bsrgan, real-esrgan"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    arguments: list[str],
    text: str,
    photos: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(run) if word == "RUN" else word for word in arguments]
    assert call("train", *words, "--data", photos, "--out", tmp_path / "out", *SHORT) == 1
    told = capsys.readouterr().err.strip()
    assert text in told
    assert "\n" not in told
    assert not (tmp_path / "out").exists()


def test_a_profile_needs_clean_pictures_alone(
    run: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("evaluate", run, "--robustness") == 1
    assert "give --reference" in capsys.readouterr().err
    assert call("evaluate", photos, "--robustness", "--reference", photos) == 1
    assert "is no run and no artefact" in capsys.readouterr().err
