"""The choice of the best checkpoint from degraded images alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from blemish.commands import sample
from blemish.data import Images, draw, hold_out, read_images
from blemish.degradations import Identity, to_uint8
from blemish.functional.random import generator_for
from blemish.metrics import extract, frechet, named_features, pixels
from blemish.recipes import configure
from blemish.runs import Run, change, load, start
from blemish.training.config import DataConfig, RunConfig, SelectionConfig
from blemish.training.selection import Measured, Proximal, Selected, read_selection


def tiny(**changes: str) -> RunConfig:
    base = {
        "data.source": "glyphs:1000",
        "data.held_out": "100",
        "selection.features": "pixels@4",
        "selection.samples": "150",
        "training.images": "48",
        "training.sample_every": "8",
        "training.checkpoint_every": "8",
        "training.keep": "9",
    }
    return change(configure("br-gan", "tiny", "B"), {**base, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run, _ = start(tiny(), tmp_path_factory.mktemp("runs") / "a", device="cpu", silent=True)
    return run


def numbered(count: int) -> Images:
    return Images(torch.arange(count, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 2, 2))


def values(batches) -> list[int]:
    return [round(255 * v.item()) for batch in batches for v in batch[:, 0, 0, 0]]


@pytest.mark.parametrize("count", [0, 1, 30])
def test_held_out_images_are_the_rest(count: int) -> None:
    training, kept = hold_out(numbered(100), count, seed=3)
    one, two = values(read_images(training)), values(read_images(kept, batch=7))
    assert len(two) == count
    assert sorted(one + two) == list(range(100))
    assert values(read_images(hold_out(numbered(100), count, seed=3)[1])) == two


def test_another_seed_keeps_others() -> None:
    kept = [values(read_images(hold_out(numbered(100), 20, seed=s)[1])) for s in (0, 1)]
    assert kept[0] != kept[1]


def test_a_subset_shows_what_the_set_shows() -> None:
    training, _ = hold_out(numbered(10), 4, seed=0)
    plan = draw(6, 9, 3, 5, flip=True)
    shown = training.begin(plan)()
    direct = numbered(10).batch(training.indices[plan.indices], flips=plan.flips)
    assert torch.equal(shown, direct)


@pytest.mark.parametrize("count", [-1, 10, 11])
def test_nothing_is_left_out_by_mistake(count: int) -> None:
    with pytest.raises(ValueError, match=f"cannot keep {count} of 10"):
        hold_out(numbered(10), count, seed=0)


def test_the_distance_is_that_of_redegraded_samples(trained: Run) -> None:
    observed = torch.rand(120, 3, 16, 16, generator=generator_for(0))
    features = pixels(4, channels=3)
    found = Proximal(observed.split(50), features, samples=130, seed=5)(
        trained.prior, trained.degradation
    )
    g = generator_for(5, "selection")
    images = []
    with torch.no_grad():
        for n in (100, 30):
            x = trained.prior.sample(n, generator=g)
            params = trained.degradation.sample((n, 3, 16, 16), generator=g)
            images.append(to_uint8(trained.degradation(x, params)))
    expected = frechet(extract(features, torch.cat(images)), extract(features, observed))
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_generator_that_fails_has_no_distance(trained: Run) -> None:
    broken = load(trained.folder / "prior")
    with torch.no_grad():
        next(iter(broken.parameters())).fill_(torch.nan)
    proximal = Proximal([torch.rand(9, 3, 16, 16)], pixels(4, channels=3), samples=4, seed=0)
    assert proximal(broken, Identity()) is None


@pytest.mark.parametrize(
    ("distances", "best"),
    [((3.0, 1.0, 2.0), 1), ((2.0, 1.0, 1.0), 1), ((None, 4.0, None), 1), ((None,), None)],
)
def test_the_best_is_the_first_of_the_least(
    distances: tuple[float | None, ...], best: int | None
) -> None:
    history = tuple(Measured(i, d) for i, d in enumerate(distances))
    found = Selected("pixels@4", 1, 1, history).best
    assert found == (None if best is None else history[best])


def test_a_run_keeps_the_best_of_its_checkpoints(trained: Run) -> None:
    selection = trained.selection
    assert selection is not None
    assert [one.images for one in selection.history] == list(range(8, 49, 8))
    assert (selection.features, selection.samples, selection.held_out) == ("pixels@4", 150, 100)
    assert selection.best is not None
    for part in ("prior", "degradation"):
        best = load_file(trained.folder / "best" / part / "model.safetensors")
        averages = load_file(
            trained.folder
            / "checkpoints"
            / f"{selection.best.images:012d}"
            / "averages.safetensors"
        )
        for name, tensor in best.items():
            assert torch.equal(tensor, averages[f"{part}.{name}"])


def test_a_run_trains_on_all_but_the_kept_images(trained: Run) -> None:
    state = json.loads(next((trained.folder / "checkpoints").glob("*/state.json")).read_text())
    assert state["observed"]["count"] == 900


def test_a_resumed_run_chooses_as_an_unbroken_one(trained: Run, tmp_path: Path) -> None:
    start(tiny(**{"training.images": "16"}), tmp_path / "a", device="cpu", silent=True)
    early = read_selection(tmp_path / "a")
    assert early is not None
    # As if it had been killed after a later measurement: that is dropped and made again.
    history = [vars(one) for one in (*early.history, Measured(24, 0.0))]
    document = json.dumps({**vars(early), "history": history})
    (tmp_path / "a" / "selection.json").write_text(document)
    start(tiny(), tmp_path / "a", device="cpu", resume=True, silent=True)
    one, two = read_selection(tmp_path / "a"), trained.selection
    assert one is not None
    assert two is not None
    assert one == two
    same = [
        load_file(run / "best" / "prior" / "model.safetensors")
        for run in (tmp_path / "a", trained.folder)
    ]
    assert all(torch.equal(tensor, same[1][name]) for name, tensor in same[0].items())


def test_a_run_that_starts_again_forgets(trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "checkpoints")
    start(tiny(**{"training.images": "16"}), tmp_path / "a", device="cpu", resume=True, silent=True)
    found = read_selection(tmp_path / "a")
    assert found is not None
    assert trained.selection is not None
    assert found.history == trained.selection.history[:2]


def test_parts_are_those_of_the_checkpoint_that_is_asked_for(trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "a")
    selection = trained.selection
    assert selection is not None
    history = tuple(replace(m, distance=1.0 + (m.images != 16)) for m in selection.history)
    document = {**vars(selection), "history": [vars(m) for m in history]}
    (tmp_path / "a" / "selection.json").write_text(json.dumps(document))
    best, last = load(tmp_path / "a"), load(tmp_path / "a", "last")
    assert best.parts == tmp_path / "a" / "best"
    assert last.parts == tmp_path / "a"
    assert "best checkpoint, after 16 of 48 images" in best.describe()
    assert "last checkpoint, after 48 images" in last.describe()


def test_a_run_without_a_choice_has_no_best(tmp_path: Path, capsys) -> None:
    config = tiny(**{"data.source": "glyphs:990", "training.images": "8"})
    run, _ = start(config, tmp_path / "a", device="cpu")
    assert "990 images" in capsys.readouterr().err
    assert run.selection is None
    assert run.parts == run.folder
    with pytest.raises(ValueError, match="no best checkpoint"):
        _ = load(run.folder, "best").prior


def test_missing_features_are_told(tmp_path: Path, capsys, monkeypatch) -> None:
    def absent(name: str, channels: int):
        raise ModuleNotFoundError("effnet-lite0 needs a package")

    monkeypatch.setattr("blemish.runs.named_features", absent)
    run, _ = start(tiny(**{"training.images": "8"}), tmp_path / "a", device="cpu")
    assert "effnet-lite0 needs a package" in capsys.readouterr().err
    assert run.selection is None


def test_sample_says_which_checkpoint_it_uses(trained: Run, tmp_path: Path, capsys) -> None:
    for checkpoint, said in ((None, "best"), ("last", "last")):
        sample.run(
            trained.folder,
            out=None,
            count=2,
            seed=0,
            grid=tmp_path / f"{said}.png",
            checkpoint=checkpoint,
        )
        assert f"using the {said} checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "full", "dimension"),
    [("pixels", "pixels@8", 192), ("pixels@4", "pixels@4", 48)],
)
def test_features_have_names(name: str, full: str, dimension: int) -> None:
    features = named_features(name)
    assert (features.name, features.dimension) == (full, dimension)


@pytest.mark.parametrize("name", ["", "pixels@", "pixels@0", "Inception", "effnet-lite0@x"])
def test_unknown_features_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="choose effnet-lite0, inception"):
        named_features(name)


@pytest.mark.parametrize(
    "make", [lambda: DataConfig(held_out=-1), lambda: SelectionConfig(samples=1)]
)
def test_wrong_counts_are_refused(make) -> None:
    with pytest.raises(ValueError, match="it must be at least"):
        make()
