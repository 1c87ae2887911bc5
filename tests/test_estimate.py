"""The damage of photographs, estimated from them alone, and a restorer that learns from no more."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from blemish import artefacts, cli, restoration
from blemish.data import MemorySource, Shrunk, open_source, shrink
from blemish.data.images import SUFFIXES
from blemish.degradations import Degradation, DiskLaw, Estimated, to_uint8
from blemish.evaluation import estimate
from blemish.evaluation.estimate import estimate_damage
from blemish.evaluation.folder import measure
from blemish.functional.kernels import delta, disk, disk_radius
from blemish.functional.random import generator_for, rand
from blemish.functional.resample import area
from blemish.runs import load

SIDE = 168


def leaves(seed: int) -> Tensor:
    """Returns a picture of overlapping disks of all sizes, as edges and sizes are in photographs."""
    g = generator_for("leaves", seed)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    picture = torch.full((3, SIDE, SIDE), 0.5)
    for _ in range(300):
        u = rand((6,), g)
        inside = (x - u[0] * SIDE) ** 2 + (y - u[1] * SIDE) ** 2 < (3 / (0.05 + u[2])) ** 2
        picture = torch.where(inside, 0.1 + 0.8 * u[3:, None, None], picture)
    return picture


@pytest.fixture(scope="module")
def clean() -> Tensor:
    return torch.stack([leaves(seed) for seed in range(5)])


def of(**rows: Tensor) -> Estimated:
    table = {"kernel": delta(15), "sigma_read": torch.zeros(1), "sigma_shot": torch.zeros(1)}
    return Estimated.of(**{**table, "quality": torch.zeros(1), **rows})


def damaged(clean: Tensor, d: Degradation) -> Tensor:
    B, C, H, W = clean.shape
    return to_uint8(d(clean, d.sample((B, C, H, W), generator=generator_for("damage"))))


def source(images: Tensor) -> MemorySource:
    return MemorySource(images, title="leaves", names="leaves")


def found(images: Tensor, seed: int = 0) -> Estimated:
    return estimate_damage(source(images), seed=seed, simulations=80).degradation


# What is found


def test_the_quality_is_read_exactly(clean: Tensor) -> None:
    quality = found(damaged(clean, of(quality=torch.tensor([55.0])))).quality
    assert_close(quality, torch.full_like(quality, 55.0))


def test_images_without_jpeg_are_told_apart(clean: Tensor) -> None:
    assert not found(to_uint8(clean)).quality.any()


def test_more_blur_is_found_as_more_blur(clean: Tensor) -> None:
    radii = [
        disk_radius(found(damaged(clean, of(kernel=disk(torch.tensor([r]), 15)))).kernel).median()
        for r in (0.5, 2.0, 3.5)
    ]
    assert radii[0] < radii[1] < radii[2]
    assert abs(radii[1] - 2.0) < 0.8
    assert abs(radii[2] - 3.5) < 1.0


def test_noise_is_found_at_its_level(clean: Tensor) -> None:
    d = found(damaged(clean, of(sigma_read=torch.tensor([0.06]))))
    level = (d.sigma_read.square() + d.sigma_shot.square() / 2).sqrt().median()
    assert 0.035 < level < 0.085
    quiet = found(to_uint8(clean))
    assert (quiet.sigma_read.square() + quiet.sigma_shot.square() / 2).sqrt().median() < 0.02


def test_an_estimate_is_a_function_of_the_images_and_the_seed(clean: Tensor) -> None:
    images = to_uint8(clean)[:2]
    a, b, c = (estimate_damage(source(images), seed=s, simulations=8) for s in (0, 0, 1))
    for name, rows in a.degradation.state_dict().items():
        assert_close(rows, b.degradation.state_dict()[name], rtol=0, atol=0)
    assert not torch.equal(a.degradation.sigma_read, c.degradation.sigma_read)
    assert a.simulations == 8


def test_readings_do_not_depend_on_what_is_measured_together(
    clean: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = list(to_uint8(clean))
    laws = estimate._draw(5, generator_for("laws"), torch.full((1,), torch.nan))
    together = estimate._read_damaged(images, laws, 0, lambda done: None)
    monkeypatch.setattr(estimate, "_PIXELS", 1)
    assert_close(estimate._read_damaged(images, laws, 0, lambda done: None), together)
    other = estimate._read_damaged(images, laws, 1, lambda done: None)
    assert not torch.equal(other, together)


def test_photographs_are_read_as_their_copies_are(clean: Tensor) -> None:
    # A photograph of the size of its copy is one cut: both readings are those of the whole.
    image = to_uint8(clean)[0, :, :160, :104]
    cuts = estimate._read_cuts(image, image.shape[-2:])
    assert_close(cuts, estimate._scaled(measure(image[None]))[0])


def test_cuts_keep_the_grid_and_lie_inside() -> None:
    seen = []

    def see(cuts: Tensor) -> dict[str, Tensor]:
        seen.append(cuts)
        return {name: torch.zeros(len(cuts)) for name in estimate._READINGS}

    rows, columns = torch.meshgrid(torch.arange(200), torch.arange(130), indexing="ij")
    photograph = torch.stack([rows, columns]).to(torch.uint8)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(estimate, "measure", see)
        estimate._read_cuts(photograph, torch.Size((66, 43)))
    corners = seen[0][:, :, 0, 0].tolist()
    assert seen[0].shape[-2:] == (66, 43)
    assert corners == [[32, 16], [32, 64], [96, 16], [96, 64]]


def test_simulations_are_compressed_as_the_photographs_are() -> None:
    read = torch.tensor([30.0, 0.0, torch.nan])
    quality = estimate._draw(900, generator_for("laws"), read).quality
    for known in (30.0, 0.0):
        assert 250 < (quality == known).sum() < 400
    others = quality[(quality != 30) & (quality != 0)]
    assert (others.min(), others.max()) == (10, 100)


def test_neighbours_are_those_of_a_loop() -> None:
    observed, simulated = rand((4, 8), generator_for("a")), 3 * rand((50, 8), generator_for("b"))
    rows, strange = estimate._nearest(observed, simulated)
    spread = [
        max(float(s.std()), least)
        for s, least in zip(simulated.T, estimate._READINGS.values(), strict=True)
    ]
    for i, one in enumerate(observed):
        distances = [float((((one - s) / torch.tensor(spread)) ** 2).sum()) for s in simulated]
        assert rows[i].tolist() == sorted(range(50), key=distances.__getitem__)[:5]
    assert strange.shape == (4,)
    assert estimate._nearest(observed + 99, simulated)[1].all()


def test_a_photograph_unlike_all_simulations_is_told() -> None:
    found = estimate.Estimate(of(), ("a.png", "b.png"), 10, ("b.png",))
    assert "1 of the photographs look like none" in found.lines()[-1]
    assert "b.png" in found.lines()[-1]


def test_photographs_of_different_sizes_and_in_grey_are_read(clean: Tensor, tmp_path: Path) -> None:
    noisy = damaged(clean, of(sigma_read=torch.tensor([0.05])))
    for i, image in enumerate(noisy[:3]):
        cut = image[:, : 120 + 16 * i].permute(1, 2, 0).numpy()
        picture = Image.fromarray(cut)
        (picture.convert("L") if i == 2 else picture).save(tmp_path / f"{i}.png")
    opened = open_source(str(tmp_path), mixed=True)
    d = estimate_damage(opened, simulations=30).degradation
    assert d.config.count == 15
    assert d.sigma_read.mean() > 0.005
    assert estimate_damage(opened, among=[2], simulations=5).names == ("2.png",)


def test_nothing_large_is_kept_alive(clean: Tensor) -> None:
    photograph = to_uint8(clean)[0]
    copy = estimate._copy(photograph, 3, "a")
    assert copy.untyped_storage().nbytes() == copy.numel()


@pytest.mark.parametrize("simulations", [0, 4])
def test_too_few_simulations_are_refused(clean: Tensor, simulations: int) -> None:
    with pytest.raises(ValueError, match=f"simulations={simulations}; .* 5 of them"):
        estimate_damage(source(to_uint8(clean)), simulations=simulations)


def test_small_photographs_are_refused(clean: Tensor) -> None:
    with pytest.raises(ValueError, match=r"leaves/.* is 56x20 pixels .* 96 pixels or more"):
        estimate_damage(source(to_uint8(clean[..., :60])), simulations=8)


def test_photographs_damaged_as_in_the_paper_are_read(data_folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    assert (
        cli.run(["degrade", "setting:ffhq/N", str(data_folder / "photos/test"), str(damaged)]) == 0
    )
    rows = [
        json.loads(line)["drawn"] for line in (damaged / "params.jsonl").read_text().splitlines()
    ]
    kernels = torch.tensor([row["stages.0.kernel"] for row in rows]).view(-1, 1, 15, 15)
    qualities = torch.tensor([row["stages.2.quality"] for row in rows]).flatten()
    result = estimate_damage(open_source(str(damaged), mixed=True), simulations=240)
    d = result.degradation
    assert list(result.names) == sorted(result.names)
    assert_close(d.quality.view(24, -1).median(dim=1).values, qualities, rtol=0, atol=1)
    radius, true = disk_radius(d.kernel).view(24, -1).mean(dim=1), disk_radius(kernels)
    assert torch.corrcoef(torch.stack([radius, true]))[0, 1] > 0.4
    assert abs(radius.mean() - true.mean()) < 0.6


def test_cuts_that_say_nothing_are_left_out() -> None:
    values = torch.tensor([torch.nan, 0.4, torch.nan, 0.4])
    with pytest.MonkeyPatch.context() as m:
        m.setattr(estimate, "measure", lambda cuts: dict.fromkeys(estimate._READINGS, values))
        found = estimate._read_cuts(
            torch.zeros(3, 200, 200, dtype=torch.uint8), torch.Size((64, 64))
        )
    blur = list(estimate._READINGS).index("blur_sigma")
    assert_close(found[blur], torch.tensor(0.4))


# The degradation


def test_rows_are_drawn_together_and_equally_often() -> None:
    kernels = DiskLaw((0.5, 2.0), 15).kernels(4, generator_for("k"))
    levels = torch.tensor([0.0, 0.01, 0.02, 0.03])
    qualities = torch.tensor([0.0, 30.0, 60.0, 90.0])
    d = Estimated.of(kernels, levels, 2 * levels, qualities)
    drawn = d.sample((4000, 1, 1, 1), generator=generator_for("draw"))
    blur, noise, jpeg = drawn.stages
    row = (100 * noise.sigma_read.flatten()).round().long()
    assert_close(blur.kernel, kernels[row])
    assert_close(noise.sigma_shot.flatten(), 2 * levels[row])
    assert_close(jpeg.applied, qualities[row] > 0)
    assert_close(jpeg.inner.quality[row > 0], qualities[row[row > 0]])
    assert all(900 < n < 1100 for n in row.bincount().tolist())


def test_a_fresh_table_changes_nothing() -> None:
    x = rand((2, 3, 16, 16), generator_for("x"))
    d = Estimated(Estimated.Config(count=3))
    assert_close(d(x, d.sample((2, 3, 16, 16), generator=generator_for("fresh"))), x)


def test_a_table_survives_its_artefact(tmp_path: Path) -> None:
    d = of(kernel=disk(torch.tensor([1.5]), 15), quality=torch.tensor([70.0]))
    loaded = artefacts.load(artefacts.save(d, tmp_path / "d"))
    x = rand((2, 3, 16, 16), generator_for("x"))
    params = d.sample((2, 3, 16, 16), generator=generator_for("p"))
    assert_close(loaded(x, params), d(x, params), rtol=0, atol=0)
    assert artefacts.digest(loaded) == artefacts.digest(d)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"kernel": torch.ones(1, 1, 15, 15)}, "row 0 has the kernel 225; kernels sum to 1"),
        ({"kernel": torch.ones(1, 1, 3, 1) / 3}, r"shape \(1, 1, 3, 1\)"),
        ({"quality": torch.tensor([101.0])}, "quality 101; qualities"),
        ({"quality": torch.tensor([0.5])}, "quality 0.5; qualities"),
        ({"quality": torch.tensor([70.0, 80.0])}, "quality has the shape"),
        ({"quality": torch.tensor([torch.nan])}, "quality nan"),
        ({"sigma_shot": torch.tensor([-0.1])}, "sigma_shot -0.1; .* at least 0"),
        ({"sigma_read": torch.tensor([torch.nan])}, "sigma_read nan"),
    ],
)
def test_rows_that_are_no_damage_are_refused(rows: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        of(**rows)


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="count=0"):
        Estimated.Config(count=0)


# Small copies


def test_copies_are_block_averages(clean: Tensor) -> None:
    images = to_uint8(clean[:2, :, :100, :95])
    small = Shrunk(source(images), 3)
    assert (len(small), small.size, small.name(1)) == (2, (33, 31), small.source.name(1))
    wanted = (area(images[1, :, :99, :93].double(), (33, 31)) + 0.5 + 1e-9).floor()
    assert_close(small.read(1).double(), wanted, rtol=0, atol=0)
    assert small.read(1) is small.read(1)


def test_averages_are_rounded_up_from_the_middle() -> None:
    image = torch.tensor([[[0, 1], [0, 1]]], dtype=torch.uint8)
    assert shrink(image, 2).item() == 1
    assert shrink(image[:, :, :1].repeat(1, 1, 2), 2).item() == 0
    assert shrink(torch.full((3, 4, 4), 255, dtype=torch.uint8), 4).tolist() == [[[255]]] * 3


def test_copies_that_do_not_fit_are_made_again(clean: Tensor) -> None:
    small = Shrunk(source(to_uint8(clean)), 2, memory=10)
    assert small.read(0) is not small.read(0)
    assert_close(small.read(0), small.read(0))


def test_a_factor_below_one_is_refused(clean: Tensor) -> None:
    with pytest.raises(ValueError, match="shrink=0"):
        Shrunk(source(to_uint8(clean)), 0)


# From a folder to a restorer


@pytest.fixture
def folders(clean: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setattr(
        restoration, "estimate_damage", functools.partial(estimate_damage, simulations=10)
    )
    for name, images in {
        "clean": to_uint8(clean),
        "damaged": damaged(clean, of(sigma_read=torch.tensor([0.05]))),
    }.items():
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{i}.png")
    return tmp_path / "clean", tmp_path / "damaged"


def train(data: Path, out: Path, *more: str) -> int:
    words = ["train", "restorer", "--data", str(data), "--out", str(out), "--preset", "tiny"]
    return cli.run([*words, "--images", "16", *more])


def _opened(names: list[str]) -> Iterator[Path]:
    for name in names:
        if Path(name).suffix in SUFFIXES:
            yield Path(name).resolve()


def test_a_restorer_is_trained_without_a_clean_image(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    _, data = folders
    names: list[str] = []
    listening = [True]

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        # A hook cannot be taken away again.
        if listening and event == "open" and isinstance(arguments[0], str | bytes):
            names.append(os.fsdecode(arguments[0]))

    sys.addaudithook(hear)
    assert train(data, tmp_path / "run") == 0
    listening.clear()
    opened = {p for p in _opened(names) if not p.is_relative_to(tmp_path / "run")}
    assert opened == {p.resolve() for p in data.iterdir()}


def test_the_damage_is_an_artefact_for_every_verb(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    clean, data = folders
    run = tmp_path / "run"
    assert train(data, run) == 0
    d = artefacts.load(run / "damage")
    assert isinstance(d, Estimated)
    assert load(run).config.system.simulator == f"sha256:{artefacts.digest(d)}"
    assert cli.run(["degrade", str(run / "damage"), str(clean), str(tmp_path / "again")]) == 0
    assert cli.run(["restore", str(run), str(data), str(tmp_path / "restored")]) == 0
    assert len(list((tmp_path / "restored").glob("*.png"))) == 5


def _fail(*arguments: object, **options: object) -> None:
    raise KeyboardInterrupt


def _assert_same(a: Path, b: Path) -> None:
    for name in ("restorer", "degradation", "damage"):
        one, two = (artefacts.digest(artefacts.load(run / name)) for run in (a, b))
        assert one == two, name


def test_a_restorer_that_is_stopped_after_the_estimate_goes_on(
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, data = folders
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(data, whole) == 0
    with monkeypatch.context() as m:
        m.setattr(restoration, "start", _fail)
        assert train(data, broken) == 130
    monkeypatch.setattr(restoration, "estimate_damage", _fail)
    assert train(data, broken, "--resume") == 0
    assert "estimated before" in capsys.readouterr().err
    _assert_same(whole, broken)


def test_a_restorer_that_is_stopped_in_training_goes_on(
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, data = folders
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(data, whole) == 0
    assert train(data, broken, "--images", "8") == 0
    monkeypatch.setattr(restoration, "estimate_damage", _fail)
    assert train(data, broken, "--resume") == 0
    _assert_same(whole, broken)
    # Into another folder, with the same damage.
    assert train(data, tmp_path / "other", "--resume-from", str(broken)) == 0
    _assert_same(whole, tmp_path / "other")
    capsys.readouterr()
    assert train(data, broken, "--resume", "--seed", "1") == 1
    assert "seed was 0 and is 1" in capsys.readouterr().err


def test_a_restorer_that_is_stopped_in_the_estimate_begins_again(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, data = folders
    with monkeypatch.context() as m:
        m.setattr(restoration, "estimate_damage", _fail)
        assert train(data, tmp_path / "run") == 130
    assert not (tmp_path / "run" / "damage").exists()
    assert train(data, tmp_path / "run") == 0


def test_another_estimate_is_not_taken_for_this_one(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean, data = folders
    run = tmp_path / "run"
    assert train(data, run) == 0
    capsys.readouterr()
    # The same names, other pictures.
    assert train(clean, run, "--resume") == 1
    assert "looks was" in capsys.readouterr().err
    (data / "4.png").unlink()
    assert train(data, run, "--resume") == 1
    assert "photographs was 5 and is 4" in capsys.readouterr().err


def test_what_is_wrong_is_told_before_the_estimate(
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, data = folders
    monkeypatch.setattr(restoration, "estimate_damage", _fail)
    assert train(data, data / "run") == 1
    assert "lies inside" in capsys.readouterr().err
    assert not (data / "run").exists()
    monkeypatch.setattr(restoration, "processes", lambda: (2, 2))
    assert train(data, tmp_path / "run") == 1
    assert "one process, and there are 2" in capsys.readouterr().err


def test_a_dry_run_says_that_the_damage_is_estimated(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(folders[1], tmp_path / "run", "--dry-run") == 0
    assert "the damage is estimated first" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_halves_have_damages_of_their_own(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, data = folders
    for half in "01":
        assert train(data, tmp_path / half, "--set", f"data.half={half}") == 0
    # Of five photographs every second one, with five rows each.
    counts = [artefacts.load(tmp_path / half / "damage").config.count for half in "01"]
    assert counts == [15, 10]


def test_the_pictures_of_a_restorer_are_the_photographs(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    _, data = folders
    assert train(data, tmp_path / "run") == 0
    sheet = np.asarray(Image.open(tmp_path / "run" / "observed.png"))
    first = np.asarray(Image.open(data / "0.png"))
    top = (SIDE - 16) // 2 // 8 * 8
    crop = first[top : top + 16, top : top + 16]
    assert any((sheet[y : y + 16, x : x + 16] == crop).all() for y in range(8) for x in range(96))


def test_a_given_damage_is_not_estimated(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, data = folders
    monkeypatch.setattr(restoration, "estimate_damage", None)
    artefacts.save(of(), tmp_path / "d")
    assert train(data, tmp_path / "run", "--degradation", str(tmp_path / "d")) == 0
    assert not (tmp_path / "run" / "damage").exists()
