"""The verb invert: what is written, what is reported, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from inversion_toy import SIDE, damaged, gan_prior, style_prior, universal
from PIL import Image
from torch import Tensor

from blemish import artefacts
from blemish.cli import run
from blemish.restorers import Inverter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models")
    artefacts.save(style_prior(), out / "prior")
    artefacts.save(gan_prior(), out / "gan")
    artefacts.save(universal(), out / "universal")
    return out


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def _pictures(place: Path, *names: str, side: int = SIDE) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        pixels = damaged(style_prior(), 1, seed=i)[0].permute(1, 2, 0)[:side, :side]
        Image.fromarray((255 * pixels.numpy()).round().astype(np.uint8)).save(place / name)
    return place


def _invert(folder: Path, *arguments: object, model: bool = True, steps: int = 2) -> int:
    given = ["--prior", folder / "prior"]
    given += ["--degradation", folder / "universal"] if model else []
    return run(["invert", *map(str, [*given, "--steps", steps, *arguments])])


def test_a_picture_of_a_folder_is_restored_as_it_would_be_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _pictures(tmp_path / "in", "a.png", "b.png", "c.png")
    out, report = tmp_path / "out", tmp_path / "r.json"
    assert _invert(folder, source, out, "--batch", 2, "--report", report) == 0
    assert "restored 3 of 3 pictures" in capsys.readouterr().out
    assert _invert(folder, source / "b.png", tmp_path / "b.png", "--batch", 1) == 0
    together, alone = _pixels(out / "b.png"), _pixels(tmp_path / "b.png")
    assert together.shape == (SIDE, SIDE, 3)
    assert np.abs(together.astype(int) - alone).max() <= 1
    assert np.abs(together.astype(int) - _pixels(out / "a.png")).max() > 5
    said = json.loads(report.read_text())
    assert said["method"] == "universal"
    assert [phase["space"] for phase in said["phases"]] == ["W", "W", "W+", "W++"]
    assert set(said["pictures"]) == {"a.png", "b.png", "c.png"}
    for one in said["pictures"].values():
        assert [[len(path) for path in paths] for paths in one["paths"]] == [[3] * 4]
        assert one["loss"] == one["losses"][one["restart"]] == one["paths"][0][-1][-1]


def test_the_best_restart_is_kept_beside_all(folder: Path, tmp_path: Path) -> None:
    source = _pictures(tmp_path / "in", "a.png", "b.png")
    out, report = tmp_path / "out", tmp_path / "r.json"
    flags = ["--method", "pulse", "--restarts", 3, "--keep-all", "--report", report]
    assert _invert(folder, source, out, *flags, model=False) == 0
    assert len(list(out.iterdir())) == 8
    for name, one in json.loads(report.read_text())["pictures"].items():
        stem = Path(name).stem
        assert one["loss"] == min(one["losses"]) < max(one["losses"])
        best = _pixels(out / name)
        same = [np.array_equal(best, _pixels(out / f"{stem}.restart-{i}.png")) for i in range(3)]
        assert same == [i == one["restart"] for i in range(3)]


def test_what_is_there_is_stepped_over_and_the_report_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _pictures(tmp_path / "in", "a.png", "b.png")
    out, report = tmp_path / "out", tmp_path / "r.json"
    arguments = [source, out, "--method", "blind", "--report", report]
    assert _invert(folder, *arguments, model=False) == 0
    (out / "a.png").unlink()
    before = (out / "b.png").stat().st_mtime_ns
    capsys.readouterr()
    assert _invert(folder, *arguments, model=False) == 0
    assert "restored 1, skipped 1" in capsys.readouterr().out
    assert (out / "b.png").stat().st_mtime_ns == before
    assert set(json.loads(report.read_text())["pictures"]) == {"a.png", "b.png"}
    assert _invert(folder, *arguments, "--seed", 1, model=False) == 1
    assert "no report of this search" in capsys.readouterr().err
    assert _invert(folder, *arguments, "--seed", 1, "--overwrite", model=False) == 0
    assert json.loads(report.read_text())["seed"] == 1
    assert (out / "b.png").stat().st_mtime_ns > before


def test_what_was_done_before_a_stop_is_kept(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = _pictures(tmp_path / "in", "a.png", "b.png", "c.png")
    search, calls = Inverter.searches, []

    def stopped(self: Inverter, y: Tensor):
        calls.append(len(y))
        if len(calls) > 1:
            raise KeyboardInterrupt
        return search(self, y)

    monkeypatch.setattr(Inverter, "searches", stopped)
    out, report = tmp_path / "out", tmp_path / "r.json"
    arguments = [source, out, "--batch", 2, "--report", report]
    assert _invert(folder, *arguments) == 130
    assert calls == [2, 1]
    assert "stopped after 2 of 3" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]
    assert set(json.loads(report.read_text())["pictures"]) == {"a.png", "b.png"}
    monkeypatch.undo()
    assert _invert(folder, *arguments) == 0
    assert len(list(out.iterdir())) == len(json.loads(report.read_text())["pictures"]) == 3


def test_pictures_that_do_not_fit_are_told_and_the_others_done(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _pictures(tmp_path / "in", "a.png", "c.png")
    _pictures(source, "b.png", side=12)
    (source / "d.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    assert _invert(folder, source, out, "--method", "blind", model=False) == 1
    said = capsys.readouterr().out
    assert "failed b.png: it has 12x12 pixels; this prior and this damage take 16x16 alone" in said
    assert "failed d.png" in said
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "c.png"]


@pytest.mark.parametrize(
    ("name", "side", "method"),
    [("task:U-S", 4, "non-blind"), ("task:N-M", 16, "non-blind"), ("setting:N", 16, "non-blind")],
)
def test_named_damage_has_gradients_or_a_stand_in(
    name: str, side: int, method: str, folder: Path, tmp_path: Path
) -> None:
    source = _pictures(tmp_path / "in", "a.png", side=side)
    out, report = tmp_path / "out", tmp_path / "r.json"
    flags = ["--degradation", name, "--report", report]
    assert _invert(folder, source, out, *flags, model=False) == 0
    assert _pixels(out / "a.png").shape == (SIDE, SIDE, 3)
    said = json.loads(report.read_text())
    assert (said["method"], said["degradation"]) == (method, name)
    paths = said["pictures"]["a.png"]["paths"][0]
    assert paths[-1][-1] < paths[0][0]


@pytest.mark.parametrize("mode", ["L", "I;16", "RGBA"])
def test_pictures_of_other_kinds_are_taken(mode: str, folder: Path, tmp_path: Path) -> None:
    grey = _pixels(_pictures(tmp_path / "rgb", "a.png") / "a.png")[..., 1]
    pixels = {"L": grey, "I;16": grey.astype(np.uint16) * 257}.get(mode, np.dstack([grey] * 4))
    for name, picture in (("odd.png", pixels), ("plain.png", np.dstack([grey] * 3))):
        Image.fromarray(picture).save(tmp_path / name)
        arguments = [tmp_path / name, tmp_path / "out" / name, "--method", "blind"]
        assert _invert(folder, *arguments, model=False) == 0
    odd, plain = (_pixels(tmp_path / "out" / name) for name in ("odd.png", "plain.png"))
    assert odd.shape == (SIDE, SIDE, 3)
    assert np.abs(odd.astype(int) - plain).max() <= 1


def test_a_prior_with_z_alone_is_searched_there(folder: Path, tmp_path: Path) -> None:
    source = _pictures(tmp_path / "in", "a.png")
    report = tmp_path / "r.json"
    arguments = ["--prior", folder / "gan", "--degradation", folder / "universal", "--steps", 1]
    arguments += ["--report", report, source, tmp_path / "out"]
    assert run(["invert", *map(str, arguments)]) == 0
    assert {phase["space"] for phase in json.loads(report.read_text())["phases"]} == {"Z"}
    assert _pixels(tmp_path / "out" / "a.png").shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([], ["--degradation", "--method blind"]),
        (["--degradation", "FOLDER/prior"], ["StylePrior", "damages nothing"]),
        (["--prior", "FOLDER/universal"], ["UniversalDegradation", "makes no pictures"]),
        (["--prior", "FOLDER/none"], ["none"]),
        (["--degradation", "bsrgan:2"], ["bsrgan:2 cannot be inverted", "not differentiable"]),
        (["--degradation", "task:U-XL"], ["16x16 pixels", "32 does not divide"]),
        (["--degradation", "task:U-S"], ["16x16 pixels", "take 4x4 alone"]),
        (["--degradation", "task:N-M", "--method", "universal"], ["a Chain"]),
        (["--degradation", "task:N-M", "--method", "blind"], ["leave it out"]),
    ],
    ids=lambda value: " ".join(value) or "nothing",
)
def test_errors_are_one_line(
    changes: list[str],
    words: list[str],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = _pictures(tmp_path / "in", "a.png") / "a.png"
    given = [text.replace("FOLDER", str(folder)) for text in changes]
    assert _invert(folder, source, tmp_path / "out.png", *given, model=False) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not (tmp_path / "out.png").exists()


def test_no_picture_is_written_over_another(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _pictures(tmp_path / "in", "a.png", "a.bmp")
    flags = ["--method", "blind"]
    assert _invert(folder, source, tmp_path / "out", *flags, model=False) == 1
    assert "a.bmp and a.png would both be written" in capsys.readouterr().err
    assert _invert(folder, source / "a.png", tmp_path / "x.jpg", *flags, model=False) == 1
    assert "end the name in .png" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["pulse", "mmd"])
def test_searches_of_latents_tell_the_path_of_every_term(
    folder: Path, tmp_path: Path, method: str
) -> None:
    source = _pictures(tmp_path / "in", "a.png", "b.png")
    report = tmp_path / "r.json"
    flags = ["--method", method, "--set", "mmd=30", "--set", "draws=20", "--restarts", 2]
    assert _invert(folder, source, tmp_path / "out", *flags, "--report", report, model=False) == 0
    said = json.loads(report.read_text())
    assert (said["method"], said["search"]["mmd"], said["search"]["steps"]) == (method, 30, 2)
    assert said["search"]["start"] == {"pulse": "random", "mmd": "mean"}[method]
    for one in said["pictures"].values():
        assert [list(path) for path in one["paths"]] == [["pixels", "cross", "mmd", "total"]] * 2
        for loss, path in zip(one["losses"], one["paths"], strict=True):
            total = [
                100 * p + 0.05 * c + 30 * m
                for p, c, m in zip(path["pixels"], path["cross"], path["mmd"], strict=True)
            ]
            assert path["total"] == pytest.approx(total, rel=1e-4)
            assert loss == pytest.approx(min(total), rel=1e-4)


def test_a_known_law_of_damage_is_a_likelihood(folder: Path, tmp_path: Path) -> None:
    source = _pictures(tmp_path / "in", "a.png")
    report = tmp_path / "r.json"
    flags = ["--method", "mmd", "--degradation", "disk:1+noise:0.1", "--set", "bits=1"]
    flags += ["--set", "draws=20", "--report", report]
    assert _invert(folder, source, tmp_path / "out", *flags, model=False) == 0
    (one,) = json.loads(report.read_text())["pictures"].values()
    assert list(one["paths"][0]) == ["bits", "cross", "mmd", "total"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--method", "blind", "--set", "mmd=3"], "only pulse and mmd have settings"),
        (["--method", "mmd", "--set", "steps=3"], "give --steps 3"),
        (["--method", "mmd", "--set", "weight=3"], "no field 'weight'"),
        (["--method", "mmd", "--set", "mmd"], "write --set KEY=VALUE"),
        (["--method", "mmd", "--set", "bits=1"], "is no likelihood"),
        (["--method", "mmd", "--degradation", "setting:J", "--set", "noise=1"], "maps of noise"),
    ],
)
def test_what_is_no_setting_of_a_search_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    source = _pictures(tmp_path / "in", "a.png")
    assert _invert(folder, source, tmp_path / "out", *flags, model=False) != 0
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_picture_of_16_bits_is_named_and_the_others_of_its_batch_are_done(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _pictures(tmp_path / "in", "a.png", "c.png")
    deep = np.full((SIDE, SIDE), 300, dtype=np.uint16)
    Image.fromarray(deep).save(source / "b.png")
    flags = ["--method", "mmd", "--degradation", "noise:0.1", "--set", "bits=1"]
    flags += ["--set", "draws=20"]
    assert _invert(folder, source, tmp_path / "out", *flags, model=False) == 1
    assert "failed b.png: it has 16 bits" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
