"""The paper's tables: their data, their cells, the processes that compute them, and how they are shown."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blemish.bench import (
    TABLES,
    Cell,
    Outcome,
    Protocol,
    Sources,
    Task,
    cells,
    check_protocol,
    lock,
    measure,
    plan,
    read_cells,
    shard_of,
    summarise,
    to_csv,
    to_markdown,
    work,
    work_in_parallel,
)
from blemish.bench.preparations import PREPARATIONS, prepare
from blemish.bench.restored import restored, scores
from blemish.commands import bench
from blemish.data import load_images, open_source
from blemish.degradations import freeze, setting
from blemish.metrics import extract, perceptual, perceptual_network, pixels, psnr
from blemish.recipes import PRESETS, RECIPES
from blemish.restorers import Keep
from blemish.runs import load
from blemish.training.checkpoint import latest_checkpoint

COMPOSED = {"bncr-unir"}
"""What two recipes make together."""

# The package's attribute of this name is the function.
WORK = importlib.import_module("blemish.bench.work")

SOURCES = Sources("glyphs", "glyphs:64", "glyphs:32:test")
PROTOCOL = Protocol("tiny", 16, "pixels@4", 24, {})


def cell(recipe: str = "gan", letter: str = "B", seed: int = 0, **fields: Any) -> Cell:
    return Cell("glyphs", letter, recipe, seed, **fields)


def task(out: Path, *cells: Cell, **fields: Any) -> Task:
    return Task(cells, SOURCES, PROTOCOL, "cpu", out=out, **fields)


def values(out: Path) -> dict[str, Any]:
    """Returns everything but the times."""
    clock = ("seconds", "training_seconds")
    return {
        f"{one['model']}-{one['setting']}-{one['seed']}": {
            k: v for k, v in one.items() if k not in clock
        }
        for one in read_cells(out)
    }


@pytest.mark.parametrize("name", TABLES)
def test_tables_name_what_there_is(name: str) -> None:
    table = TABLES[name]
    labels = [row.label for row in table.rows]
    assert len(set(labels)) == len(labels)
    assert table.preset in PRESETS
    for row in table.rows:
        assert row.recipe in {*RECIPES, *COMPOSED, "input"}
        for letter in table.settings:
            figures = table.paper(row, letter)
            assert figures is None or len(figures) == len(table.scores)
    for letter in table.settings:
        assert setting(letter) is not None
    for ordering in table.orderings:
        assert {ordering.better, ordering.worse} <= set(labels)
        assert set(ordering.settings) <= set(table.settings)


def test_all_tables_of_the_paper_are_there() -> None:
    assert {f"table{i}" for i in range(1, 11)} | {"smoke", "family"} == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_the_papers_claims_hold_in_its_own_figures(name: str) -> None:
    table = TABLES[name]
    rows = {row.label: row for row in table.rows}
    for ordering in table.orderings:
        for letter in ordering.settings:
            better, worse = (
                table.paper(rows[label], letter) for label in (ordering.better, ordering.worse)
            )
            if better and worse:
                assert better[0] < worse[0], (ordering, letter)


def test_equal_cells_have_equal_figures_in_all_tables() -> None:
    figures: dict[tuple[str, str, str], tuple[float, ...]] = {}
    for table in TABLES.values():
        for row in table.rows:
            for letter in table.settings:
                found = table.paper(row, letter)
                size = "ffhq" if table.preset == "ffhq128" else "cifar10"
                key = (size, row.key, letter)
                if found and len(table.scores) == 1:
                    assert figures.setdefault(key, found) == found, key
    assert len(figures) > 100


def test_a_plan_goes_seed_by_seed() -> None:
    cells = plan(TABLES["table5"], "x", [0, 1])
    assert len(cells) == 2 * 10
    assert [one.seed for one in cells] == [0] * 10 + [1] * 10
    assert {one.name for one in cells if one.seed == 0 and one.preparation} == {"x-R-denoise+gan-0"}


@pytest.mark.parametrize("recipe", ["gan", "ambient-gan", "br-gan"])
def test_a_cell_has_its_scores(recipe: str, tmp_path: Path) -> None:
    assert measure(cell(recipe), SOURCES, PROTOCOL, tmp_path, device="cpu")
    found = json.loads((tmp_path / "cells" / f"glyphs-B-{recipe}-0.json").read_text())
    assert found["images"] == 16
    assert found["features"] == "pixels@4"
    assert min(found[k] for k in ("frechet", "frechet_to_degraded", "degraded_frechet")) > 0
    assert ("radius" in found["learned"]) == (recipe == "br-gan")


@pytest.mark.parametrize(("recipe", "letter"), [("unir", "J"), ("cyclegan", "K"), ("input", "J")])
def test_a_restorers_cell_has_its_scores(recipe: str, letter: str, tmp_path: Path) -> None:
    assert measure(cell(recipe, letter), SOURCES, PROTOCOL, tmp_path, device="cpu")
    (found,) = read_cells(tmp_path)
    assert found["frechet"] > 0
    assert 5 < found["psnr"] < 60
    assert 0 < found["ssim"] < 1
    # Of 16 x 16 pixels there is no perceptual distance.
    assert "perceptual" not in found
    assert found.get("iterations") == (None if recipe == "input" else 4)


def test_a_restorer_is_trained_against_what_the_gan_learned(tmp_path: Path) -> None:
    assert measure(cell("bncr-unir", "J"), SOURCES, PROTOCOL, tmp_path, device="cpu")
    runs = tmp_path / "runs"
    unir, gan = (load(runs / f"glyphs-J-{name}-0") for name in ("bncr-unir", "bncr-gan"))
    one, two = unir.degradation.state_dict(), gan.degradation.state_dict()
    assert one.keys() == two.keys()
    assert one
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert unir.config.system.simulator == "bncr-gan of seed 0"
    # The GAN's own cell is measured from the same run.
    newest = latest_checkpoint(runs / "glyphs-J-bncr-gan-0")
    assert newest is not None
    before = (newest / "state.json").stat().st_mtime_ns
    assert measure(cell("bncr-gan", "J"), SOURCES, PROTOCOL, tmp_path, device="cpu")
    assert (newest / "state.json").stat().st_mtime_ns == before
    assert latest_checkpoint(runs / "glyphs-J-bncr-gan-0") == newest
    assert len(read_cells(tmp_path)) == 2


def test_waiting_for_what_the_gan_learns_ends_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "_POLL", 0.01)
    with cells.lock(tmp_path, cell("bncr-gan", "J").name):
        stopped = measure(
            cell("bncr-unir", "J"), SOURCES, PROTOCOL, tmp_path, device="cpu", stop=lambda: True
        )
    assert not stopped
    assert not read_cells(tmp_path)


def test_scores_of_restored_images_are_those_by_hand() -> None:
    clean = load_images(open_source("glyphs:60", size=32, channels=3))
    damaged = freeze(setting("S"), clean, seed=0)
    features = pixels(4, 3)
    found = scores(clean, damaged, features, extract(features, clean))
    assert found["psnr"] == pytest.approx(float(psnr(clean, damaged).mean()))
    network = perceptual_network()
    assert found["perceptual"] == pytest.approx(
        float(perceptual(clean, damaged, network).mean()), rel=1e-3
    )
    assert restored(Keep(), damaged).equal(damaged)
    same = scores(clean, clean, features, extract(features, clean))
    assert same["perceptual"] == 0
    assert same["ssim"] == pytest.approx(1)
    assert abs(same["frechet"]) < 1e-6


@pytest.mark.parametrize(
    ("preparation", "letter"), [("deblur", "B"), ("denoise", "R"), ("deblock", "S")]
)
def test_prepared_images_are_nearer_to_clean_ones(preparation: str, letter: str) -> None:
    clean = load_images(open_source("glyphs:24", size=16, channels=3))
    damage = setting(letter)
    damaged, prepared = freeze(damage, clean, seed=0), prepare(damage, clean, seed=0)
    assert prepared.shape == clean.shape
    gain = psnr(prepared, clean).clamp(max=60).mean() - psnr(damaged, clean).clamp(max=60).mean()
    assert letter in PREPARATIONS[preparation]
    assert gain > 0.1


def test_a_prepared_cell_trains_on_prepared_images(tmp_path: Path) -> None:
    one = cell("gan", preparation="deblur")
    assert measure(one, SOURCES, PROTOCOL, tmp_path, device="cpu")
    assert (tmp_path / "data" / "glyphs-B-0-deblur.npy").exists()
    found = read_cells(tmp_path)[0]
    assert found["model"] == "deblur+gan"


def test_the_damaged_images_themselves_are_a_cell(tmp_path: Path) -> None:
    assert measure(cell("input", "O"), SOURCES, PROTOCOL, tmp_path)
    found = json.loads((tmp_path / "cells" / "glyphs-O-input-0.json").read_text())
    assert 10 < found["psnr"] < 40
    assert 0.3 < found["ssim"] < 1


def test_the_best_checkpoint_has_its_own_score(tmp_path: Path) -> None:
    changes = {"data.held_out": "100", "selection.features": "pixels@4", "selection.samples": "9"}
    protocol = replace(PROTOCOL, changes=changes)
    sources = replace(SOURCES, train="glyphs:1000")
    assert measure(cell(), sources, protocol, tmp_path, device="cpu")
    found = read_cells(tmp_path)[0]
    assert found["best"]["images"] in (8, 16)
    assert found["best"]["frechet"] > 0


def test_a_stopped_cell_goes_on_to_the_same_figures(tmp_path: Path) -> None:
    asked = iter([False, False, True])
    assert not measure(
        cell(), SOURCES, PROTOCOL, tmp_path / "a", device="cpu", stop=lambda: next(asked)
    )
    assert not read_cells(tmp_path / "a")
    assert latest_checkpoint(tmp_path / "a" / "runs" / cell().name) is not None
    for out in ("a", "b"):
        assert measure(cell(), SOURCES, PROTOCOL, tmp_path / out, device="cpu")
    assert values(tmp_path / "a") == values(tmp_path / "b")


@pytest.mark.parametrize("n", [1, 2, 3, 7, 50])
def test_shards_are_a_partition(n: int) -> None:
    cells = plan(TABLES["table5"], "x", [0, 1])
    shards = [shard_of(cells, f"{i}/{n}") for i in range(1, n + 1)]
    assert sorted(one.name for shard in shards for one in shard) == sorted(c.name for c in cells)


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2"])
def test_wrong_shards_are_refused(shard: str) -> None:
    with pytest.raises(ValueError, match="write i/n"):
        shard_of([cell()], shard)


def test_two_shards_make_the_table_of_one(tmp_path: Path) -> None:
    cells = [cell("gan"), cell("br-gan"), cell("gan", seed=1)]
    work(task(tmp_path / "one", *cells))
    for shard in ("1/2", "2/2"):
        work(task(tmp_path / "two", *shard_of(cells, shard)))
    assert values(tmp_path / "one") == values(tmp_path / "two")
    assert len(values(tmp_path / "one")) == 3


def test_several_jobs_share_the_cells(tmp_path: Path) -> None:
    cells = [cell("gan"), cell("gan", seed=1)]
    outcome = work_in_parallel(task(tmp_path / "two", *cells), 2)
    assert not outcome.failed
    assert not outcome.stopped
    work(task(tmp_path / "one", *cells))
    assert values(tmp_path / "one") == values(tmp_path / "two")


def hold(out: Path, ready: Any) -> None:
    with task(out).lock(cell()):
        ready.set()
        time.sleep(300)


def test_a_cell_that_another_process_holds_is_left_to_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(60)
    said: list[str] = []
    held = task(tmp_path, cell(), cell(seed=1), deadline=time.time() + 100)
    try:
        # The free cell is computed first; when the holder is killed, its cell is free, too.
        def say(text: str) -> None:
            said.append(text)
            if "-1: " in text and "after" in text:
                holder.kill()

        outcome = work(held, say)
    finally:
        holder.kill()
        holder.join()
    assert [text for text in said if "begins" in text] == [
        "glyphs-B-gan-1: begins",
        "glyphs-B-gan-0: begins",
    ]
    assert not outcome.stopped


def test_nothing_begins_when_the_time_is_up(tmp_path: Path) -> None:
    outcome = work(task(tmp_path, cell(), deadline=time.time() - 1))
    assert outcome.stopped
    assert not (tmp_path / "runs").exists()


def test_a_cell_that_fails_leaves_the_others(tmp_path: Path) -> None:
    outcome = work(task(tmp_path, cell("no-such-recipe"), cell()))
    assert list(outcome.failed) == ["glyphs-B-no-such-recipe-0"]
    assert len(read_cells(tmp_path)) == 1


def arguments(out: Path, *more: str) -> list[str]:
    words = ["bench", "smoke", "--out", str(out), "--data", "glyphs:64", "--preset", "tiny"]
    words += ["--features", "pixels@4", "--count", "24", "--settings", "B", "--device", "cpu"]
    return [*words, *more]


def start_bench(out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "blemish", *arguments(out, *more)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["config.json", "checkpoints/000000000200"])
def test_a_killed_bench_goes_on_to_the_same_table(moment: str, tmp_path: Path) -> None:
    more = ("--images", "800", "--models", "gan")
    process = start_bench(tmp_path / "a", *more)
    until = time.monotonic() + 90
    while not (tmp_path / "a" / "runs" / "glyphs-B-gan-0" / moment).exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not read_cells(tmp_path / "a")
    again = start_bench(tmp_path / "a", *more)
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    protocol = replace(PROTOCOL, images=800)
    sources = replace(SOURCES, test="glyphs:64:test")
    assert measure(cell(), sources, protocol, tmp_path / "b", device="cpu")
    assert values(tmp_path / "a") == values(tmp_path / "b")


def document(value: float, **fields: Any) -> dict[str, Any]:
    base = {
        "format": 1,
        "data": "x",
        "setting": "R",
        "recipe": "gan",
        "seed": 0,
        "preparation": None,
    }
    return {**base, **vars(PROTOCOL), "frechet": value, **fields}


DOCUMENTS = [
    document(5.0),
    document(9.0, seed=1),
    document(7.0, seed=2),
    document(6.0, recipe="nr-gan"),
    document(8.0, recipe="nr-gan", seed=1),
    document(1.0, preparation="denoise"),
]


def test_a_summary_has_medians_and_orderings() -> None:
    summary = summarise("table5", TABLES["table5"], DOCUMENTS)[0]
    found = {(c["model"], c["setting"]): c for c in summary.to_json()["cells"]}
    gan = found["GAN", "R"]
    assert (gan["median"], gan["least"], gan["greatest"], gan["paper"]) == (7.0, 5.0, 9.0, 47.4)
    assert found["Denoise+GAN†", "R"]["seeds"] == {"0": 1.0}
    assert found["GAN", "A"]["median"] is None
    ordering = next(
        o for o in TABLES["table5"].orderings if (o.better, o.worse) == ("NR-GAN", "GAN")
    )
    # 6 is not below 5, 8 is below 9, and seed 2 has no rival.
    assert summary.holds(ordering, "R") == (1, 2)


def test_a_table_shows_ours_beside_the_papers() -> None:
    lines = to_markdown(summarise("table5", TABLES["table5"], DOCUMENTS)[0]).splitlines()
    assert "| GAN | - | 18.5 | 7 [5, 9] | 47.4 |" in lines
    assert "| AmbientGAN† |  |  | - | 20.0 |" in lines
    assert "| Denoise+GAN† |  |  | 1 | 21.4 |" in lines
    assert "| a robust GAN beats the plain one | NR-GAN | GAN |  | 1 of 2 |" in lines
    assert any("Fréchet distance (pixels@4) of 24 samples" in line for line in lines)


def test_a_file_of_commas_has_a_line_for_each_seed() -> None:
    lines = to_csv(summarise("table5", TABLES["table5"], DOCUMENTS)).splitlines()
    assert lines[0] == "data,model,setting,score,seed,value,paper"
    assert "x,GAN,R,frechet,1,9.0,47.4" in lines
    assert len(lines) == 1 + len(DOCUMENTS)


@pytest.mark.parametrize(
    ("field", "value"), [("images", 8), ("features", "pixels@8"), ("changes", {"seed": "1"})]
)
def test_cells_of_another_protocol_are_refused(field: str, value: Any) -> None:
    check_protocol(DOCUMENTS, PROTOCOL)
    with pytest.raises(ValueError, match=f"x-R-gan has {field}="):
        check_protocol([document(1.0, **{field: value})], PROTOCOL)


def run_bench(out: Path, **changes: Any) -> int:
    given: dict[str, Any] = {
        "data": "glyphs:64",
        "preset": "tiny",
        "images": 16,
        "features": "pixels@4",
        "count": 24,
        "settings": "B",
        "models": "gan",
        "device": "cpu",
        "jobs": 1,
        "overrides": [],
    }
    absent = dict.fromkeys(("test", "label", "seeds", "budget", "shard"))
    name = changes.pop("name", "smoke")
    return bench.run(name, out=out, **{**absent, **given, **changes})


def test_the_command_writes_three_files(tmp_path: Path, capsys) -> None:
    assert run_bench(tmp_path) == 0
    assert "1 cells, 1 to compute" in capsys.readouterr().out
    assert run_bench(tmp_path) == 0
    assert "1 cells, 0 to compute" in capsys.readouterr().out
    assert {"smoke.md", "smoke.csv", "smoke.json"} <= {p.name for p in tmp_path.iterdir()}
    assert json.loads((tmp_path / "smoke.json").read_text())[0]["data"] == "glyphs"


def test_without_data_the_table_is_written_alone(tmp_path: Path, capsys) -> None:
    assert run_bench(tmp_path, name="table5", data=None) == 0
    assert "| GAN | - | 18.5 | - | 47.4 |" in capsys.readouterr().out
    assert not (tmp_path / "cells").exists()


def test_a_budget_of_nothing_computes_nothing(tmp_path: Path, capsys) -> None:
    assert run_bench(tmp_path, budget=0.0) == 0
    assert "the same command goes on" in capsys.readouterr().out
    assert not read_cells(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "table11"}, "unknown table 'table11'; choose one of table1"),
        ({"settings": "BX"}, "no setting 'X'; it has BR"),
        ({"models": "gan,cr-gan"}, "no model 'cr-gan'; it has ambient-gan"),
        ({"data": "somewhere/pictures"}, "Give --test SOURCE"),
        ({"label": "a/b"}, "use letters"),
        ({"seeds": "0,x"}, "joined by commas"),
        ({"features": "vgg"}, "unknown features 'vgg'"),
        ({"overrides": ["system.no_such_field=1"]}, "no field 'no_such_field'"),
        ({"shard": "5/2"}, "write i/n"),
    ],
)
def test_wrong_wishes_are_told(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run_bench(tmp_path, **changes)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("data", "label", "test"),
    [
        ("glyphs", "glyphs", "glyphs:test"),
        ("glyphs:50", "glyphs", "glyphs:50:test"),
        ("c/cifar-10-python.tar.gz:train", "cifar-10-python", "c/cifar-10-python.tar.gz:test"),
        ("{}/set/train.zip", "set", "{}/set/test.zip"),
    ],
)
def test_test_images_are_found_beside_training_images(
    data: str, label: str, test: str, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "test.zip").touch()
    found = bench._sources(data.format(tmp_path), None, None)
    assert (found.label, found.test) == (label, test.format(tmp_path))


# What goes wrong in between


def bench_of(out: Path, **changes: Any) -> Any:
    return cells._Bench(replace(SOURCES, **changes), PROTOCOL, out)


def test_images_that_two_cells_want_at_once_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, together = [], threading.Barrier(2)

    def slowly(*arguments: Any, **options: Any) -> Any:
        made.append(1)
        time.sleep(0.2)
        return freeze(*arguments, **options)

    def want() -> Any:
        together.wait(60)
        return np.load(bench_of(tmp_path).observed(cell()))

    monkeypatch.setattr(cells, "freeze", slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = [one.result() for one in [pool.submit(want) for _ in range(2)]]
    assert (first == second).all()
    assert len(made) == 1


def test_a_crash_while_images_are_written_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(stream: Any, array: Any) -> None:
        stream.write(b"half of it")
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(cells.np, "save", torn)
        with pytest.raises(OSError, match="killed"):
            bench_of(tmp_path).observed(cell())
    assert not list((tmp_path / "data").glob("[!.]*"))
    assert np.load(bench_of(tmp_path).observed(cell())).shape == (64, 3, 16, 16)
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["glyphs-B-0.npy"]


def test_any_failure_of_a_cell_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def broken(one: Cell, *arguments: Any, **options: Any) -> bool:
        if one.seed == 0:
            raise RuntimeError("CUDA out of memory")
        return measure(one, *arguments, **options)

    monkeypatch.setattr(WORK, "measure", broken)
    outcome = work(task(tmp_path, cell(), cell(seed=1)))
    assert outcome.failed == {"glyphs-B-gan-0": "RuntimeError: CUDA out of memory"}
    assert [one["seed"] for one in read_cells(tmp_path)] == [1]
    assert "Traceback" in capsys.readouterr().err


class Wire:
    """Stands for the pipe to a process, and for the process."""

    def __init__(self, answer: Outcome | type[BaseException]) -> None:
        self.answer = answer
        self.done: list[str] = []

    def recv(self) -> Outcome:
        if isinstance(self.answer, Outcome):
            return self.answer
        raise self.answer

    def terminate(self) -> None:
        self.done.append("terminate")

    def join(self) -> None:
        self.done.append("join")


def crew(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[Wire]:
    wires = [Wire(answer) for answer in answers]
    waiting = iter(wires)
    monkeypatch.setattr(WORK, "_begin", lambda task: (one := next(waiting), one))
    return wires


def test_what_several_processes_tell_is_one_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (Outcome({"a": "x"}), EOFError, Outcome({"b": "y"}, stopped=True))
    wires = crew(monkeypatch, *said)
    outcome = work_in_parallel(task(tmp_path, cell()), 3)
    assert outcome == Outcome({"a": "x", "b": "y"}, stopped=True, lost=1)
    assert [wire.done for wire in wires] == [["join"]] * 3


def test_a_killed_process_is_forgiven_where_others_did_its_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(task(tmp_path, cell()))
    crew(monkeypatch, Outcome(), EOFError)
    assert work_in_parallel(task(tmp_path, cell()), 2) == Outcome()


def test_an_interruption_reaches_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wires = crew(monkeypatch, Outcome(), KeyboardInterrupt, Outcome())
    with pytest.raises(KeyboardInterrupt):
        work_in_parallel(task(tmp_path, cell()), 3)
    assert [wire.done for wire in wires] == [["terminate", "join"]] * 3


@pytest.mark.slow
def test_a_signal_to_the_first_process_ends_all_of_them(tmp_path: Path) -> None:
    process = start_bench(
        tmp_path, "--images", "80000", "--models", "gan,br-gan", "--jobs", "2", "--label", "x"
    )
    names = ("x-B-gan-0", "x-B-br-gan-0")
    until = time.monotonic() + 90
    while not all((tmp_path / "runs" / name / "observed.png").exists() for name in names):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b"error: stopped\n"
    for name in names:
        # Nobody holds the cell any more, and what was trained is saved.
        with lock(tmp_path, name).acquire(timeout=0):
            assert latest_checkpoint(tmp_path / "runs" / name) is not None


@pytest.mark.parametrize("budget", [None, 10.0])
def test_killed_processes_are_a_failure(
    budget: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    crew(monkeypatch, EOFError, EOFError)
    assert run_bench(tmp_path, jobs=2, budget=budget) == 1
    assert "2 of 2 processes were killed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", ["", '{"data": "glyphs"', "[]", '{"data": "glyphs"}', '{"format": 99}']
)
def test_a_damaged_cell_is_named(content: str, tmp_path: Path) -> None:
    work(task(tmp_path, cell()))
    file = tmp_path / "cells" / "glyphs-B-gan-0.json"
    whole = values(tmp_path)
    file.write_text(content)
    with pytest.raises(ValueError, match=r"glyphs-B-gan-0.json .*remove it, and its cell"):
        run_bench(tmp_path)
    file.unlink()
    assert run_bench(tmp_path, test="glyphs:32:test") == 0
    assert values(tmp_path) == whole


def test_cells_of_two_protocols_make_no_table(tmp_path: Path) -> None:
    others = [*DOCUMENTS, document(3.0, seed=5, images=99)]
    with pytest.raises(ValueError, match="cells of another protocol: x-R-gan has images=99"):
        summarise("table5", TABLES["table5"], others)
    assert summarise("table5", TABLES["table5"], [*DOCUMENTS, document(3.0, images=99, data="y")])


@pytest.mark.parametrize("key", ["seed=3", "training.images=8", "data.source=x", "data.fit=crop"])
def test_what_cells_set_themselves_cannot_be_set(key: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=f"--set {key.partition('=')[0]}: each cell sets it itself"
    ):
        run_bench(tmp_path, overrides=[key])


def test_features_from_a_file_are_read_from_it_in_every_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(name: str, channels: int) -> Any:
        assert name == "inception:some.pth"
        found = pixels(2, channels)
        found.name = "inception@299"
        return found

    cells._features.cache_clear()
    for module in (cells, bench):
        monkeypatch.setattr(module, "named_features", named)
    assert run_bench(tmp_path, features="inception:some.pth") == 0
    (found,) = read_cells(tmp_path)
    assert found["features"] == "inception@299"
    # Another machine has another file there.
    with pytest.raises(ValueError, match="are inception@299, not pixels@4 of the protocol"):
        bench_of(tmp_path, features="inception:some.pth").features()
    cells._features.cache_clear()


def test_missing_packages_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> Any:
        raise ModuleNotFoundError('run: pip install "blemish[features]"')

    monkeypatch.setattr(bench, "named_features", absent)
    with pytest.raises(ValueError, match="pip install"):
        run_bench(tmp_path)


@pytest.mark.parametrize(
    ("data", "label", "test"),
    [
        ("/x/a:b/cifar-10:train", "cifar-10", "/x/a:b/cifar-10:test"),
        ("owner/some_set:train", "some_set", "owner/some_set:test"),
        ("C:/my data/ü (1).zip:train", "1", "C:/my data/ü (1).zip:test"),
        ("glyphs:64", "glyphs", "glyphs:64:test"),
        ("/x/photos/train:train", "photos", "/x/photos/train:test"),
        ("..:train", "data", "..:test"),
    ],
)
def test_a_label_and_test_images_follow_from_the_source(data: str, label: str, test: str) -> None:
    found = bench._sources(data, None, None)
    assert (found.test, found.train) == (test, data)
    assert found.label == label
    assert re.fullmatch("[A-Za-z0-9_.-]+", found.label)


def test_only_glyphs_have_test_images_by_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def recorded(source: str, **options: Any) -> Any:
        opened.append((source, options["seed"]))
        return open_source("glyphs:3", size=16, channels=3)

    monkeypatch.setattr(cells, "open_source", recorded)
    cells.clean_images.cache_clear()
    for source in ("glyphs:test", "glyphs:64:test", "glyphs/cifar-10:test", "glyphs-photos:test"):
        cells.clean_images(source, 16, 3)
    cells.clean_images.cache_clear()
    assert opened == [
        ("glyphs", 1),
        ("glyphs:64", 1),
        ("glyphs/cifar-10:test", 0),
        ("glyphs-photos:test", 0),
    ]


def test_models_that_are_not_there_are_told(tmp_path: Path, capsys) -> None:
    bench._tell_unavailable([cell("pulse", "N"), cell("gan", "N", preparation="deblur"), cell()])
    out = capsys.readouterr().out
    assert "deblur+gan on N, pulse on N" in out
    assert "gan on B" not in out


def test_two_processes_write_the_table_at_once(tmp_path: Path) -> None:
    work(task(tmp_path, cell()))
    together = threading.Barrier(3)

    def write() -> None:
        together.wait(60)
        for _ in range(5):
            bench._write("smoke", TABLES["smoke"], tmp_path)

    with ThreadPoolExecutor(3) as pool:
        for one in [pool.submit(write) for _ in range(3)]:
            one.result()
    assert json.loads((tmp_path / "smoke.json").read_text())[0]["data"] == "glyphs"
