"""Runs: start, resume, change, load; the verbs train and sample on top of them."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close

import blemish
from blemish import cli, runs
from blemish.commands import sample, train
from blemish.data import Images, read_images
from blemish.degradations import GaussianNoise, LearnedBlur, freeze, setting
from blemish.functional.random import generator_for, rand
from blemish.recipes import DAMAGING, HARDENING, RECIPES, configure, with_scale, with_simulator
from blemish.runs import Run, change, load, observed_images, start
from blemish.training.selection import FEWEST


def tiny(recipe: str = "br-gan", letter: str | None = "B", **changes: str):
    base = {"data.source": "glyphs:64", "training.images": "32"}
    return change(configure(recipe, "tiny", letter), {**base, **changes})


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = max((run / "checkpoints").iterdir())
    return {
        f"{file.name}/{name}": tensor
        for file in sorted(newest.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def assert_same(a: Path, b: Path) -> None:
    one, two = weights(a), weights(b)
    assert one.keys() == two.keys()
    assert one
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "br"
    run, result = start(tiny(), out, device="cpu", silent=True)
    assert result.finished
    return run


def test_a_run_is_a_folder_that_loads(finished: Run) -> None:
    run = load(finished.folder)
    assert run.config == finished.config
    g = torch.Generator().manual_seed(0)
    clean = run.prior.sample(4, generator=g)
    assert clean.shape == (4, 3, 16, 16)
    assert clean.min() >= 0
    assert clean.max() <= 1
    assert isinstance(run.degradation.stages[0], LearnedBlur)
    observed = run.degradation(clean, run.degradation.sample(clean.shape, generator=g))
    assert observed.shape == clean.shape
    assert [line["images"] for line in run.metrics()][-1] == 32
    assert run.images == 32
    assert (run.folder / "observed.png").exists()
    assert run.truth() is not None


def test_the_package_loads_runs_and_parts(finished: Run) -> None:
    assert blemish.load(finished.folder).config.recipe == "br-gan"
    prior = blemish.load(finished.folder / "prior")
    assert prior.shape == (3, 16, 16)
    with pytest.raises(FileNotFoundError, match="no run and no artefact"):
        blemish.load(finished.folder / "samples")
    with pytest.raises(FileNotFoundError, match=f"; there are .*{finished.folder.name}"):
        blemish.load(finished.folder.parent)


def test_training_on_a_setting_is_training_on_its_frozen_copies() -> None:
    config = tiny()
    clean = observed_images(tiny(letter=None).data, seed=config.seed)
    damaged = observed_images(config.data, seed=3)
    assert isinstance(clean, Images)
    assert isinstance(damaged, Images)
    assert torch.equal(damaged.images, freeze(setting("B"), clean.images, seed=3))
    assert not torch.equal(damaged.images, clean.images)


def test_a_resumed_run_equals_an_unbroken_one(finished: Run, tmp_path: Path) -> None:
    half = change(finished.config, {"training.images": "16"})
    start(half, tmp_path / "a", device="cpu", silent=True)
    start(finished.config, tmp_path / "a", device="cpu", resume=True, silent=True)
    assert_same(tmp_path / "a", finished.folder)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_resumes_to_the_same_bits(recipe: str, tmp_path: Path) -> None:
    # CycleGAN needs images that are spared.
    letter = "K" if recipe == "cyclegan" else "B"
    whole = tiny(recipe, letter, **{"training.images": "16"})
    parts, images = {}, None
    if recipe == "restorer":
        # Small copies are none of the smallest pictures; what is estimated is handed over.
        parts["degradation"] = GaussianNoise((0.0, 0.1))
        whole = change(whole, {"data.size": "16", "data.shrink": "1"})
        whole = with_simulator(whole, parts["degradation"].config, "noise")
    if recipe in DAMAGING:
        whole = change(whole, {"data.size": "16"})
    if recipe in HARDENING:
        # The features of a perceptual loss need 32 pixels, and clean images have colours.
        x = (rand((6, 3, 32, 32), generator_for("clean")) * 255).to(torch.uint8)
        images = Images(x)
        side = {"data.size": "32", "data.random_crop": "false", "training.batch": "4"}
        whole = change(with_scale(whole, 2), side)
    half = change(whole, {"training.images": "8"})
    begin = functools.partial(start, device="cpu", silent=True, parts=parts, images=images)
    begin(whole, tmp_path / "unbroken")
    begin(half, tmp_path / "broken")
    begin(whole, tmp_path / "broken", resume=True)
    assert_same(tmp_path / "broken", tmp_path / "unbroken")


def test_a_checkpoint_of_an_older_version_resumes(finished: Run, tmp_path: Path) -> None:
    half = change(finished.config, {"training.images": "16"})
    start(half, tmp_path / "a", device="cpu", silent=True)
    for file in (tmp_path / "a" / "checkpoints").glob("*/state.json"):
        state = json.loads(file.read_text())
        # As if these fields had come later; their defaults leave everything as it was.
        del state["config"]["data"]["random_crop"]
        del state["config"]["system"]["discriminator_rate"]
        del state["config"]["system"]["degradation"]["stages"][0]["normalise"]
        file.write_text(json.dumps(state))
    faster = change(finished.config, {"system.discriminator_rate": "2"})
    with pytest.raises(ValueError, match=r"discriminator_rate was 1.0 and is 2.0"):
        start(faster, tmp_path / "a", device="cpu", resume=True, silent=True)
    start(finished.config, tmp_path / "a", device="cpu", resume=True, silent=True)
    assert_same(tmp_path / "a", finished.folder)


def test_a_run_resumes_into_another_folder(finished: Run, tmp_path: Path) -> None:
    half = change(finished.config, {"training.images": "16"})
    start(half, tmp_path / "a", device="cpu", silent=True)
    start(finished.config, tmp_path / "b", device="cpu", resume=tmp_path / "a", silent=True)
    assert_same(tmp_path / "b", finished.folder)
    assert (tmp_path / "b" / "observed.png").exists()


def test_a_run_without_a_checkpoint_starts_again_but_no_other_in_its_place(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r"
    shutil.copytree(finished.folder, out)
    shutil.rmtree(out / "checkpoints")
    (out / "observed.png").write_bytes(b"of before")
    for other in (tiny(seed="5"), tiny("gan"), tiny(**{"training.batch": "8"})):
        with pytest.raises(ValueError, match="is of another configuration"):
            start(other, out, device="cpu", resume=True, silent=True)
    assert load(out).config == finished.config
    start(finished.config, out, device="cpu", resume=True)
    assert "holds no checkpoint yet: starting at the beginning" in capsys.readouterr().err
    assert_same(out, finished.folder)
    observed = (finished.folder / "observed.png").read_bytes()
    assert (out / "observed.png").read_bytes() == observed


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("bncr-gan", {}, "other networks: .* is absent there"),
        (
            "br-gan",
            {"system.prior.network.latent": "4"},
            r"is \(128, 8\) there and \(128, 4\) here",
        ),
        ("br-gan", {"system.degradation.stages.0.size": "7"}, "other networks"),
    ],
)
def test_other_networks_are_not_resumed(
    recipe: str, changes: dict[str, str], message: str, finished: Run, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        start(
            tiny(recipe, **changes),
            tmp_path / "r",
            device="cpu",
            resume=finished.folder,
            silent=True,
        )
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(("count", "held_out"), [(6, 0), (7, 0), (2005, 100)])
def test_halves_are_disjoint_and_hold_all_images(count: int, held_out: int) -> None:
    n = torch.arange(count)
    digits = torch.stack([n // 256, n % 256, 0 * n], dim=1).to(torch.uint8)
    images = Images(digits[:, :, None, None].expand(-1, -1, 16, 16))
    halves = []
    for half in ("0", "1"):
        config = tiny("gan", None, **{"data.half": half, "data.held_out": str(held_out)})
        told: list[str] = []
        training, kept = runs._split(images, config, FEWEST, told.append)
        parts = [training] if kept is None else [training, kept]
        assert [len(part) for part in parts[1:]] == ([held_out] if held_out else [])
        pixels = torch.cat([x[:, :, 0, 0] for part in parts for x in read_images(part)])
        halves.append((255 * pixels).round() @ torch.tensor([256.0, 1.0, 0.0]))
        assert told == []
    for half, seen in enumerate(halves):
        assert_close(seen.sort().values, torch.arange(half, count, 2.0))


def test_a_half_belongs_to_the_run(tmp_path: Path) -> None:
    first, second = (tiny("gan", None, **{"data.half": half}) for half in ("0", "1"))
    start(first, tmp_path / "r", device="cpu", silent=True)
    assert load(tmp_path / "r").config.data.half == 0
    with pytest.raises(ValueError, match=r"data\.half was 0 and is 1"):
        start(second, tmp_path / "r", device="cpu", resume=True, silent=True)
    one = Images(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match="needs at least 2 images"):
        start(first, tmp_path / "one", device="cpu", images=one, silent=True)
    with pytest.raises(ValueError, match=r"data\.half=2; give 0 or 1"):
        tiny("gan", None, **{"data.half": "2"})


@pytest.mark.slow
def test_a_killed_command_resumes_to_the_same_bits(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "blemish", "train", "bncr-gan", "--preset", "tiny"]
    words += ["--data", "glyphs:64", "--setting", "N", "--device", "cpu", "--images", "600"]
    words += ["--set", "training.checkpoint_every=40"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [*words, "--out", str(out)], env=environment, stderr=subprocess.DEVNULL
    )
    checkpoints = out / "checkpoints"
    deadline = time.monotonic() + 120
    while not (checkpoints.is_dir() and any(p.name[0] != "." for p in checkpoints.iterdir())):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert int(max(p.name for p in checkpoints.iterdir() if p.name.isdigit())) < 600
    subprocess.run([*words, "--out", str(out), "--resume"], env=environment, check=True)
    unbroken = tmp_path / "unbroken"
    subprocess.run([*words, "--out", str(unbroken)], env=environment, check=True)
    assert_same(out, unbroken)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    words = ["-m", "blemish", "train", "bncr-gan", "--preset", "tiny", "--data", "glyphs:64"]
    words += ["--setting", "N", "--device", "cpu", "--images", "80"]
    words += ["--set", "training.batch=4", "--set", "training.log_every=4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher in {"one": [], "two": torchrun}.items():
        command = [sys.executable, *launcher, *words, "--out", str(tmp_path / name)]
        # A session of its own, because torchrun's workers outlive it when it alone is killed.
        process = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            _, errors = process.communicate(timeout=240)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0, errors
    one, two = (load(tmp_path / name).metrics() for name in ("one", "two"))
    assert [line["images"] for line in one] == [4 * i for i in range(1, 21)]
    assert len(two) == 20
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        losses = [name for name in a if name.startswith("loss/")]
        assert losses
        for name in losses:
            assert b[name] == pytest.approx(a[name], rel=1e-4, abs=1e-4), name


def test_cadences_follow_batch_and_length() -> None:
    config = change(configure("gan", "demo"), {"training.batch": "48", "training.images": "4800"})
    t = config.training
    assert (t.batch, t.images) == (48, 4800)
    for every in (t.log_every, t.sample_every, t.checkpoint_every):
        assert every % 48 == 0
    assert t.images // t.sample_every >= 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.batch": "0"}, "whole number of at least 1"),
        ({"training.bacth": "4"}, "did you mean 'batch'"),
        ({"system.lr": "fast"}, "cannot be read"),
        ({"training.log_every": "5"}, "no multiple"),
        ({"recipe": "br-gan"}, "recipe has shaped the rest already and cannot be set; use RECIPE"),
        ({"preset": "tiny"}, "use --preset"),
        ({"data.setting": "R"}, r"data\.setting has shaped .* use --setting"),
        ({"system.prior.network.channels": "0,0"}, r"channels=\(0, 0\); give positive"),
        ({"system.prior.network.latent": "-1"}, "give positive"),
        ({"system.discriminator.down": ""}, r"down=\(\); give .* at least 1"),
    ],
)
def test_wrong_changes_are_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change(configure("gan", "demo"), changes)


ARGUMENTS = {
    "data": "glyphs:64",
    "preset": "tiny",
    "setting": "B",
    "images": 16,
    "seed": 0,
    "device": "cpu",
    "precision": "32",
    "size": None,
    "fit": "none",
    "workers": 1,
    "skip_bad": False,
    "resume": False,
    "dry_run": False,
    "overrides": [],
}


def test_train_writes_a_run_and_its_report(tmp_path: Path) -> None:
    assert train.run("cr-gan", out=tmp_path / "r", **ARGUMENTS) == 0
    assert "<html" in (tmp_path / "r" / "report.html").read_text()
    assert load(tmp_path / "r").config.training.images == 16


def test_a_run_is_not_written_among_its_images(tmp_path: Path) -> None:
    for i in range(4):
        Image.new("RGB", (16, 16), (i, i, i)).save(tmp_path / f"{i}.png")
    arguments = {**ARGUMENTS, "data": str(tmp_path), "setting": None}
    for out in (tmp_path, tmp_path / "a" / ".." / "r"):
        with pytest.raises(ValueError, match="lies inside the images' folder"):
            train.run("gan", out=out, **arguments)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_stopped_run_has_the_exit_code_of_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train.start

    def stopped(*args: Any, **options: Any) -> Any:
        run, result = whole(*args, **options)
        return run, replace(result, finished=False)

    monkeypatch.setattr(train, "start", stopped)
    assert train.run("gan", out=tmp_path / "r", **ARGUMENTS) == 130
    assert not (tmp_path / "r" / "report.html").exists()


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {
        **ARGUMENTS,
        "dry_run": True,
        "overrides": ["system.lr=0.5", "system.degradation.stages.2.mask_bias=-3.5"],
    }
    assert train.run("bncr-gan", out=tmp_path / "r", **arguments) == 0
    text = capsys.readouterr().out
    assert '"lr": 0.5' in text
    assert text.count('"mask_bias": -3.5') == 1
    assert "FLOP" in text
    assert not (tmp_path / "r").exists()


def test_train_in_bf16_stays_near_full_precision(tmp_path: Path) -> None:
    losses = []
    for precision in ("32", "bf16"):
        arguments = {**ARGUMENTS, "precision": precision}
        train.run("bncr-gan", out=tmp_path / precision, **arguments)
        losses.append(load(tmp_path / precision).metrics()[0])
    # The penalty is computed in full precision, so only the rest differs in the first iterations.
    assert losses[1]["loss/D/r1"] == pytest.approx(losses[0]["loss/D/r1"], rel=0.05)
    full, half = (line["loss/D/adversarial"] for line in losses)
    assert half == pytest.approx(full, rel=0.05)
    assert half != full


def test_a_size_that_the_networks_do_not_make_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--size 20 does not fit preset 'tiny'"):
        train.run("gan", out=tmp_path / "r", **{**ARGUMENTS, "size": 20})


@pytest.mark.parametrize("change", ["data.size=32", "data.channels=1"])
def test_images_of_another_shape_are_refused_at_once(change: str, tmp_path: Path) -> None:
    message = r"(3x32x32|1x16x16) .*'tiny' make 3x16x16; set data.size=16 and data.channels=3"
    with pytest.raises(ValueError, match=message):
        train.run("gan", out=tmp_path / "r", **{**ARGUMENTS, "overrides": [change]})
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.channels=1"], "make 3x16x16; set data.size=16"),
        (["system.discriminator.image_channels=1"], "of 3 channels and the discriminator takes 1"),
        (["system.discriminator.down=8,8,8,8,8"], "side 16 more often than they can be"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_shapes_that_do_not_fit_are_one_line(
    changes: list[str], message: str, dry_run: bool, tmp_path: Path
) -> None:
    arguments = {**ARGUMENTS, "overrides": changes, "dry_run": dry_run}
    with pytest.raises(ValueError, match=message):
        train.run("gan", out=tmp_path / "r", **arguments)


@pytest.mark.parametrize("setting", [None, "B"])
def test_images_taken_as_they_are_must_have_the_networks_shape(
    setting: str | None, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(4):
        Image.new("RGB", (24, 16), (i, i, i)).save(pictures / f"{i}.png")
    arguments = {**ARGUMENTS, "data": str(pictures), "setting": setting}
    with pytest.raises(ValueError, match=r"3x16x24 .*'tiny' make 3x16x16"):
        train.run("gan", out=tmp_path / "r", **{**arguments, "overrides": ["data.size=none"]})


def test_a_torn_last_line_of_metrics_is_left_out(finished: Run, tmp_path: Path) -> None:
    lines = finished.metrics()
    (tmp_path / "config.json").write_text((finished.folder / "config.json").read_text())
    whole = (finished.folder / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(whole + '{"images": 3')
    assert load(tmp_path).metrics() == lines
    assert lines


@pytest.mark.parametrize("wrong", ["device", "occupied", "checkpoint", "config"])
def test_what_is_cheap_is_checked_before_images_are_read(
    wrong: str, finished: Run, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {**ARGUMENTS, "data": str(tmp_path / "nowhere")}
    out = tmp_path / "r"
    if wrong == "device":
        arguments["device"] = "tpu"
    elif wrong == "checkpoint":
        arguments["resume"] = tmp_path
    else:
        out = finished.folder
        arguments |= {"resume": wrong == "config", "overrides": ["system.lr=0.5"]}
    message = "unknown device|no whole checkpoint|holds a run|another configuration"
    with pytest.raises((ValueError, FileExistsError, FileNotFoundError), match=message):
        train.run("br-gan", out=out, **arguments)


def test_a_part_or_a_strangers_folder_is_not_overwritten(finished: Run, tmp_path: Path) -> None:
    before = (finished.folder / "prior" / "config.json").read_text()
    for resume in (False, True):
        with pytest.raises(FileExistsError, match="not of a run"):
            start(tiny(), finished.folder / "prior", resume=resume, device="cpu", silent=True)
    assert (finished.folder / "prior" / "config.json").read_text() == before


def test_only_the_main_process_names_skipped_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    data = replace(tiny(letter=None).data, source=str(tmp_path), skip_bad=True)
    observed_images(data, seed=0)
    assert capsys.readouterr().out.startswith("skipped b.png: ")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("RANK", "1")
    observed_images(data, seed=0)
    assert capsys.readouterr().out == ""


def test_reading_and_damaging_show_a_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = observed_images(tiny().data, seed=0)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = observed_images(tiny().data, seed=0)
    assert "degrading images by B" in capsys.readouterr().err
    assert isinstance(plain, Images)
    assert isinstance(shown, Images)
    assert torch.equal(plain.images, shown.images)
    observed_images(tiny().data, seed=0, silent=True)
    assert capsys.readouterr().err == ""


def test_a_failed_report_does_not_undo_a_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: Path, *, out: Path | None) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train, "write_report", fail)
    assert train.run("gan", out=tmp_path / "r", **ARGUMENTS) == 0
    assert f"try again: blemish report {tmp_path / 'r'}" in capsys.readouterr().err


def test_the_resume_command_is_the_command_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = change(tiny(), {"data.fit": "crop"})
    given = {"images": 32, "workers": 2}
    text = train.resume_command(config, Path("a b"), "cpu", ["system.lr=0.1"], **given)
    words = shlex.split(text)
    assert words[:3] == ["blemish", "train", "br-gan"]
    received: list[dict[str, Any]] = []
    monkeypatch.setattr(train, "run", lambda recipe, **options: received.append(options) or 0)
    assert cli.run(words[1:]) == 0
    expected = {"out": Path("a b"), "images": 32, "fit": "crop", "workers": 2, "resume": True}
    assert expected.items() <= received[0].items()
    assert received[0]["overrides"] == ["system.lr=0.1"]
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    text = train.resume_command(config, tmp_path, "cpu", [], **given)
    assert text.startswith("torchrun --standalone --nproc-per-node 2 -m blemish train br-gan ")


def test_divergence_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="diverged"):
        train.run(
            "gan", out=tmp_path / "r", **{**ARGUMENTS, "overrides": ["training.explode=0.001"]}
        )


def test_samples_depend_on_seed_and_index_alone(finished: Run, tmp_path: Path) -> None:
    few = sample.sample_images(finished.prior, 3, seed=1)
    many = sample.sample_images(finished.prior, 300, seed=1)
    torch.testing.assert_close(many[:3], few, rtol=0, atol=1e-6)
    assert not torch.equal(few, sample.sample_images(finished.prior, 3, seed=2))
    folder, grid = tmp_path / "s", tmp_path / "g.png"
    assert sample.run(finished.folder, out=folder, count=3, seed=1, grid=grid) == 0
    assert len(list(folder.glob("*.png"))) == 3
    with Image.open(folder / "000000.png") as picture:
        pixels = torch.tensor(list(picture.tobytes())).view(16, 16, 3).permute(2, 0, 1)
    assert (pixels / 255 - few[0]).abs().max() <= 0.5 / 255 + 1e-6
    assert grid.exists()


def test_samples_replace_numbered_pictures_only_when_asked(finished: Run, tmp_path: Path) -> None:
    folder, grid = tmp_path / "s", tmp_path / "g.png"
    base = {"out": folder, "seed": 1, "grid": None}
    sample.run(finished.folder, count=3, **base)
    before = (folder / "000000.png").read_bytes()
    for kept in ("mine.png", "0000000016.png"):
        (folder / kept).write_text("keep me")
    with pytest.raises(FileExistsError, match="--overwrite"):
        sample.run(finished.folder, count=2, **{**base, "seed": 2})
    assert (folder / "000000.png").read_bytes() == before
    with pytest.raises(FileExistsError, match=r"holds 000002.png \(1 in all\), which 2 images"):
        sample.run(finished.folder, count=2, overwrite=True, **{**base, "seed": 2})
    assert (folder / "000000.png").read_bytes() == before
    (folder / "000002.png").unlink()
    sample.run(finished.folder, count=2, overwrite=True, **{**base, "seed": 2})
    names = sorted(f.name for f in folder.iterdir())
    assert names == ["000000.png", "0000000016.png", "000001.png", "mine.png"]
    assert (folder / "000000.png").read_bytes() != before
    grid.write_text("mine")
    with pytest.raises(FileExistsError, match="--overwrite"):
        sample.run(finished.folder, count=2, **{**base, "out": None, "grid": grid})
    assert grid.read_text() == "mine"


def test_a_grid_is_a_png(finished: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.jpg: .* end the name in \.png"):
        sample.run(finished.folder, out=None, count=1, seed=0, grid=tmp_path / "x.jpg")
    assert not list(tmp_path.iterdir())


def test_many_samples_are_written_batch_by_batch(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "_BATCH", 2)
    sample.run(finished.folder, out=tmp_path / "s", count=5, seed=1, grid=tmp_path / "g.png")
    files = sorted((tmp_path / "s").iterdir())
    assert [file.name for file in files] == [f"{i:06d}.png" for i in range(5)]
    for file, image in zip(files, sample.sample_images(finished.prior, 5, seed=1), strict=True):
        with Image.open(file) as picture:
            pixels = torch.tensor(list(picture.tobytes())).view(16, 16, 3).permute(2, 0, 1)
        assert (pixels / 255 - image).abs().max() <= 0.5 / 255 + 1e-6
    with Image.open(tmp_path / "g.png") as picture:
        # Two columns (the root of 5) and three rows with gaps of one pixel.
        assert picture.size == (33, 50)


def test_sampling_a_degradation_is_refused(finished: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a run or a prior"):
        sample.run(finished.folder / "degradation", out=tmp_path, count=1, seed=0, grid=None)


def test_the_configuration_of_a_run_is_plain_json(finished: Run) -> None:
    document = json.loads((finished.folder / "config.json").read_text())
    assert document["recipe"] == "br-gan"
    assert document["system"]["degradation"]["stages"][0]["type"] == "LearnedBlur"


def test_generated_data_do_not_depend_on_the_global_seed(tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    start(tiny("gan", None), tmp_path / "a", device="cpu", silent=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    start(tiny("gan", None), tmp_path / "b", device="cpu", silent=True)
    assert_same(tmp_path / "a", tmp_path / "b")


def test_the_command_line_resumes_into_another_folder(finished: Run, tmp_path: Path) -> None:
    out = tmp_path / "b"
    arguments = {**ARGUMENTS, "images": 48, "resume": finished.folder}
    assert train.run("br-gan", out=out, **arguments) == 0
    lines = load(out).metrics()
    assert [line["images"] for line in lines if line["images"] <= 32] == [
        line["images"] for line in finished.metrics()
    ]
    assert lines[-1]["images"] == 48


def test_a_run_that_was_stopped_early_says_how_far_it_came(tmp_path: Path) -> None:
    config = change(tiny(), {"training.log_every": "32", "training.images": "8"})
    run, _ = start(config, tmp_path / "r", device="cpu", silent=True)
    (run.folder / "metrics.jsonl").write_text("")
    assert run.images == 8
