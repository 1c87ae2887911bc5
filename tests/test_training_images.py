"""The images that systems are taught with: partners stay partners, and sets are what they are said to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from blemish import artefacts, load
from blemish.commands import train
from blemish.data import ImageReader, Images, JoinedBatches, load_images, open_source, read_images
from blemish.data.batches import ImageBatches
from blemish.degradations import freeze, setting, untouched
from blemish.functional.random import generator_for
from blemish.recipes import configure
from blemish.runs import change, start
from blemish.systems import Supervised
from blemish.training.config import DataConfig
from blemish.training.images import taught_images

GLYPHS = DataConfig(source="glyphs:80", size=16, channels=3)


def pixels(images: ImageReader) -> Tensor:
    return (torch.cat(list(read_images(images))) * 255).round().to(torch.uint8)


def glyphs() -> Tensor:
    return load_images(open_source("glyphs:80", size=16, channels=3))


def data(**changes: Any) -> DataConfig:
    return DataConfig(**{**vars(GLYPHS), **changes})


def test_partners_are_the_images_before_their_damage() -> None:
    observed, clean = taught_images(data(setting="J"), "partners", seed=3)
    assert torch.equal(pixels(clean), glyphs())
    assert torch.equal(pixels(observed), freeze(setting("J"), glyphs(), seed=3))


@pytest.mark.parametrize("letter", ["K", "M", "O", "Q"])
def test_the_spared_images_are_the_clean_set(letter: str) -> None:
    observed, clean = taught_images(data(setting=letter), "set", seed=3)
    whole = freeze(setting(letter), glyphs(), seed=3)
    spared = untouched(setting(letter), 80, (3, 16, 16), seed=3)
    assert torch.equal(pixels(clean), glyphs()[spared])
    assert torch.equal(pixels(observed), whole[~spared])
    share = {"K": 0.75, "M": 0.25, "O": 0.75**3, "Q": 0.25**3}[letter]
    assert abs(float(spared.double().mean()) - share) < 5 * (share * (1 - share) / 80) ** 0.5


def test_what_is_untouched_does_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    one = untouched(setting("L"), 40, (1, 16, 16), seed=1)
    monkeypatch.setattr("blemish.degradations.frozen._LARGEST_BATCH", 7)
    assert torch.equal(untouched(setting("L"), 40, (1, 16, 16), seed=1), one)
    assert untouched(setting("A"), 9, (1, 8, 8), seed=1).all()
    assert not untouched(setting("J"), 9, (1, 8, 8), seed=1).any()


def folder(place: Path, names: list[str], shade: int = 0) -> str:
    place.mkdir()
    for i, name in enumerate(names):
        Image.new("RGB", (16, 16), (i, shade, 0)).save(place / name)
    return str(place)


def test_partners_in_folders_meet_by_name(tmp_path: Path) -> None:
    damaged = folder(tmp_path / "damaged", ["b.png", "a.png", "c.png"], 9)
    clean = folder(tmp_path / "clean", ["b.bmp", "a.bmp", "c.bmp"])
    one, two = taught_images(data(source=damaged, clean=clean), "partners", seed=0)
    assert torch.equal(pixels(one)[:, 0], pixels(two)[:, 0])
    assert (pixels(one)[:, 1] == 9).all()


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("partners", {}, "has no clean images to teach with: give them with --clean"),
        ("set", {}, "has no clean images to teach with"),
        ("set", {"setting": "J"}, "of 80 images J damages all: there are no two sets"),
        ("set", {"setting": "A"}, "A damages none"),
        ("partners", {"source": "two", "clean": "three"}, "c of three has no partner .* in two"),
        ("partners", {"source": "three", "clean": "two"}, "c of three has no partner .* in two"),
        ("partners", {"source": "two", "clean": "twice"}, "2 images and twice 3"),
    ],
)
def test_what_cannot_teach_is_one_line(
    kind: Any,
    changes: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "two", ["a.png", "b.png"])
    folder(tmp_path / "three", ["a.png", "b.png", "c.png"])
    folder(tmp_path / "twice", ["a.png", "b.png", "b.bmp"])
    with pytest.raises(ValueError, match=message) as caught:
        taught_images(data(**changes), kind, seed=0)
    assert "\n" not in str(caught.value)


def test_a_set_of_its_own_is_taken_as_it_is(tmp_path: Path) -> None:
    clean = folder(tmp_path / "clean", ["x.png", "y.png"], 5)
    observed, taught = taught_images(data(clean=clean, setting="J"), "set", seed=0)
    assert len(observed) == 80
    assert len(taught) == 2
    assert (pixels(taught)[:, 1] == 5).all()


def test_joined_batches_hold_the_channels_of_both() -> None:
    numbers = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 1, 2, 2)
    same = [ImageBatches(Images(numbers), 5, flip=True) for _ in range(2)]
    batch = JoinedBatches(*same)(7, 9)
    assert batch.shape == (9, 2, 2, 2)
    assert torch.equal(batch[:, 0], batch[:, 1])
    other = JoinedBatches(same[0], ImageBatches(Images(numbers[:5]), 6))(7, 9)
    assert torch.equal(other[:, 0], batch[:, 0])
    assert not torch.equal(other[:, 0], other[:, 1])


# Runs


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {"data.source": "glyphs:64", "training.images": "16"}
    config = change(configure("cr-gan", "tiny", "J"), changes)
    run, _ = start(config, tmp_path_factory.mktemp("runs") / "cr", device="cpu", silent=True)
    return run.folder


ARGUMENTS: dict[str, Any] = {
    "data": "glyphs:64",
    "preset": "tiny",
    "setting": "J",
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


def same_weights(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_restorer_is_trained_against_what_was_learned(learned: Path, tmp_path: Path) -> None:
    out = tmp_path / "unir"
    assert train.run("unir", out=out, degradation=str(learned), **ARGUMENTS) == 0
    run, simulator = load(out), load(learned).degradation
    assert same_weights(run.degradation, simulator)
    assert any(p.numel() for p in simulator.parameters())
    assert run.config.system.simulator == f"sha256:{artefacts.digest(simulator)}"
    y = torch.rand(2, 3, 16, 16, generator=generator_for("y"))
    x = run.restorer(y)
    assert x.shape == y.shape
    assert not torch.equal(x, y)
    assert run.restorer.scale == 1
    page = (out / "report.html").read_text()
    for text in ("against a simulator of the damage", "Before and after", "Loss of T: identity"):
        assert text in page


def test_a_stopped_restorer_goes_on_to_the_same_bits(learned: Path, tmp_path: Path) -> None:
    arguments = {**ARGUMENTS, "degradation": str(learned), "images": 32}
    train.run("unir", out=tmp_path / "whole", **arguments)
    config = load(tmp_path / "whole").config
    half = change(config, {"training.images": "16"})
    parts = {"degradation": load(learned).degradation}
    start(half, tmp_path / "broken", parts=parts, device="cpu", silent=True)
    # The checkpoint has the simulator's weights.
    start(config, tmp_path / "broken", resume=True, device="cpu", silent=True)
    one, two = (load(tmp_path / name) for name in ("whole", "broken"))
    assert same_weights(one.restorer, two.restorer)
    assert same_weights(one.degradation, two.degradation)


def test_another_simulator_is_another_run(learned: Path, tmp_path: Path) -> None:
    train.run("unir", out=tmp_path / "r", degradation=str(learned), **ARGUMENTS)
    again = {**ARGUMENTS, "resume": True, "images": 32}
    with pytest.raises(ValueError, match="another configuration"):
        train.run("unir", out=tmp_path / "r", degradation="setting:J", **again)


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("unir", {"setting": None}, "add --degradation RUN, or setting:NAME"),
        ("gan", {"degradation": "setting:J"}, "gan takes no simulator of the damage"),
        ("unir", {"degradation": "nowhere"}, "'nowhere' is no degradation"),
        ("unir", {"degradation": "setting:Z"}, "unknown setting 'Z'"),
        ("cyclegan", {}, "of 64 images J damages all"),
        ("gan", {"size": 24}, "leave --size out or choose another preset"),
    ],
)
def test_what_does_not_fit_is_one_line(
    recipe: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        train.run(recipe, out=tmp_path / "r", **{**ARGUMENTS, **changes})
    assert "\n" not in str(caught.value)


def test_weights_are_not_made_up(learned: Path, tmp_path: Path) -> None:
    system = change(configure("unir", "tiny", "J"), {"data.source": "glyphs:64"})
    train.run("unir", out=tmp_path / "r", degradation=str(learned), **ARGUMENTS)
    config = load(tmp_path / "r").config
    with pytest.raises(ValueError, match="trained against a degradation that it is given"):
        start(config, tmp_path / "again", device="cpu", silent=True)
    with pytest.raises(ValueError, match="learns its damage itself; leave --degradation out"):
        start(system, tmp_path / "p", parts={"damage": torch.nn.Linear(1, 1)}, silent=True)
    with pytest.raises(ValueError, match="learns its prior itself; leave --prior out"):
        start(system, tmp_path / "p", parts={"prior": torch.nn.Linear(1, 1)}, silent=True)


@pytest.mark.parametrize("recipe", ["unir", "supervised"])
def test_restorers_are_trained_on_any_size(recipe: str, tmp_path: Path) -> None:
    arguments = {**ARGUMENTS, "size": 24, "fit": "resize", "dry_run": False}
    assert train.run(recipe, out=tmp_path / "r", **arguments) == 0
    run = load(tmp_path / "r")
    assert run.config.data.size == 24
    assert "Before and after" in (run.folder / "report.html").read_text()
    with Image.open(max((run.folder / "samples").glob("*.png"))) as sheet:
        # Eight rows of eight, with a pixel between: observed above restored.
        assert sheet.size == (8 * 25 - 1, 8 * 25 - 1)
    assert train.run(recipe, out=tmp_path / "d", **{**arguments, "dry_run": True}) == 0


def test_partners_stay_partners_in_a_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    losses = Supervised.losses

    def watched(self: Supervised, phase: str, batch: Tensor, *rest: Any) -> dict[str, Tensor]:
        seen.append(batch)
        return losses(self, phase, batch, *rest)

    monkeypatch.setattr(
        Supervised,
        "losses",
        lambda self, phase, batch, generator, iteration: watched(
            self, phase, batch, generator, iteration
        ),
    )
    # In A nothing is damaged: partners are equal.
    changes = {"data.source": "glyphs:64", "training.images": "16", "data.half": "1"}
    config = change(configure("supervised", "tiny", "A"), changes)
    start(config, tmp_path / "r", device="cpu", silent=True)
    assert len(seen) == 4
    for batch in seen:
        observed, clean = batch.chunk(2, dim=1)
        assert torch.equal(observed, clean)


@pytest.mark.parametrize("recipe", ["unir", "supervised"])
def test_nothing_is_kept_for_a_choice_that_is_not_made(recipe: str, tmp_path: Path) -> None:
    config = change(configure(recipe, "tiny", "J"), {"data.held_out": "9"})
    with pytest.raises(ValueError, match=r"data\.held_out=9: checkpoints of .* leave it at 0"):
        start(config, tmp_path / "r", device="cpu", silent=True)
    assert not (tmp_path / "r").exists()
