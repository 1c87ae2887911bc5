"""The table of restoration by inversion: the report's figures, the cells, the verb, and how they are shown."""

from __future__ import annotations

import csv
import io
import json
import pickle
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from inversion_toy import SIDE, gan_prior, style_prior, universal
from torch.testing import assert_close

from blemish import artefacts, cli
from blemish.bench import (
    INVERSION_METHODS,
    INVERSION_TASKS,
    InversionBench,
    InversionCell,
    fits,
    inversion,
    plan_inversion,
    read_inversion_cells,
    summarise_inversion,
)
from blemish.bench.inversion_figures import FIGURES, PUBLISHED, SCORES, figure
from blemish.degradations import TASKS, known_mask
from blemish.functional.random import generator_for, rand
from blemish.types import Params

SINGLE = [name for name in FIGURES if "-" in name]
SUBSETS = {
    "all": list(FIGURES),
    "single": SINGLE,
    "mixed": [name for name in FIGURES if name not in SINGLE],
}


# The report's figures.


def test_the_report_has_31_complete_rows() -> None:
    assert list(FIGURES) == list(TASKS)
    assert len(FIGURES) == 31
    assert all(len(row) == len(SCORES) * len(PUBLISHED) == 15 for row in FIGURES.values())
    for row in FIGURES.values():
        assert all((0 < value < 1) == (score != "realism") for (score, _), value in row.items())


@pytest.mark.parametrize(
    ("subset", "score", "blind", "ours", "told"),
    [
        ("all", "accuracy", 0.551, 0.485, 0.460),
        ("all", "fidelity", 0.258, 0.226, 0.205),
        ("all", "realism", 108.2, 26.4, 18.4),
        ("single", "accuracy", 0.505, 0.463, 0.442),
        ("single", "fidelity", 0.260, 0.250, 0.226),
        ("single", "realism", 85.4, 22.8, 17.6),
        ("mixed", "accuracy", 0.635, 0.524, 0.493),
        ("mixed", "fidelity", 0.253, 0.182, 0.167),
        ("mixed", "realism", 149.6, 33.0, 19.9),
    ],
)
def test_means_of_the_reports_rows(
    subset: str, score: str, blind: float, ours: float, told: float
) -> None:
    digits = 1 if score == "realism" else 3
    for method, mean in (("blind", blind), ("universal", ours), ("non-blind", told)):
        found = fmean(FIGURES[name][score, method] for name in SUBSETS[subset])
        assert found == pytest.approx(mean, abs=0.5001 * 10**-digits), method


def test_what_the_report_has_not_has_no_figure() -> None:
    assert figure("U-XS", "pulse", "accuracy") == 0.493
    assert figure("UNAP", "universal", "realism") == 31.7
    absent = [("toy", "pulse", "accuracy"), ("U-M", "universal-no-v", "realism")]
    assert [figure(*one) for one in [*absent, ("U-M", "blind", "psnr")]] == [None] * 3


# Cells.


@pytest.fixture(scope="module")
def bench() -> InversionBench:
    return InversionBench.of(style_prior(), universal(), "glyphs:20", count=2, steps=2)


def tensors(params: Params) -> list[torch.Tensor]:
    return list(params.tensors().values())


def test_a_plan_has_every_method_on_every_task_but_undamaged_ones() -> None:
    cells = plan_inversion([0, 3])
    assert len({cell.name for cell in cells}) == len(cells) == 2 * (33 * 6 - 1)
    assert [cell.seed for cell in cells] == [0] * 197 + [3] * 197
    assert InversionCell("clean", "damaged", 0) not in cells
    assert {(cell.task, cell.method) for cell in cells} | {("clean", "damaged")} == {
        (task, method) for task in INVERSION_TASKS for method in INVERSION_METHODS
    }


@pytest.mark.parametrize(
    ("name", "side", "fit"),
    [
        ("U-XL", 32, True),
        ("U-XL", 16, False),
        ("UNAP", 16, True),
        ("UA", 20, False),
        ("toy", 17, True),
        ("N-M", 17, True),
    ],
)
def test_only_what_divides_the_side_can_be_reduced(name: str, side: int, fit: bool) -> None:
    assert fits(name, side) is fit


@pytest.mark.parametrize("name", ["toy", "N-M", "P-M", "NAP"])
def test_what_befalls_an_image_does_not_depend_on_the_others(
    name: str, bench: InversionBench
) -> None:
    both, alone = (inversion._Case.of(name, x, 3) for x in (bench.clean, bench.clean[:1]))
    assert_close(both.y[:1], alone.y, rtol=0, atol=0)
    for many, one in zip(tensors(both.known), tensors(alone.known), strict=True):
        assert_close(many[:1], one, rtol=0, atol=0)
    other = inversion._Case.of(name, bench.clean, 4)
    assert not torch.equal(both.y, other.y)


@pytest.mark.parametrize("name", ["toy", "P-M", "NP", "N-M"])
def test_strokes_are_known_and_noise_only_of_the_toy(name: str, bench: InversionBench) -> None:
    case = inversion._Case.of(name, bench.clean, 0)
    true, known = known_mask(case.params), known_mask(case.known)
    if "P" in name:
        assert true is not None
        assert known is not None
        assert torch.equal(true, known)
    drawn, told = tensors(case.params), tensors(case.known)
    same = all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(drawn, told, strict=True))
    assert same == (name in ("toy", "P-M"))


def test_what_strokes_hide_is_not_compared(bench: InversionBench) -> None:
    mask = (rand((1, 1, SIDE, SIDE), generator_for("mask")) < 0.7).float()
    x, y, other = (rand((1, 3, SIDE, SIDE), generator_for(name)) for name in "xyz")
    hidden, seen = x * mask + other * (1 - mask), x * (1 - mask) + other * mask

    def distance(image: torch.Tensor) -> torch.Tensor:
        return inversion._masked(mask, generator_for("fill"))(image, y)

    assert_close(distance(hidden), distance(x), rtol=0, atol=1e-6)
    assert (distance(seen) - distance(x)).abs() > 1e-3


@pytest.mark.parametrize("name", ["clean", "U-M", "UNAP"])
def test_the_truth_is_judged_best(name: str, bench: InversionBench) -> None:
    case = inversion._Case.of(name, bench.clean, 0)
    truth = bench.judged(case, bench.clean, "blind")
    other = bench.judged(case, bench.clean.flip(-1), "blind")
    # Files round: what is damaged again from the same image is the same file.
    assert truth["accuracy"] == truth["fidelity"] == 0
    assert other["accuracy"] > 0.01
    assert truth["psnr"] > other["psnr"]
    assert bench.judged(case, bench.clean, "damaged")["fidelity"] is None


def test_patches_of_the_same_images_are_real() -> None:
    found = InversionBench.of(style_prior(), universal(), "glyphs:20", count=2)
    same = InversionBench(found.prior, found.model, found.clean, found.clean)
    case = inversion._Case.of("clean", found.clean, 0)
    assert abs(same.judged(case, found.clean, "blind")["realism"]) < 1e-3
    assert found.judged(case, found.clean, "blind")["realism"] > 1


def test_a_method_without_v_has_all_other_phases(bench: InversionBench) -> None:
    all_phases, some = (
        bench.ignorant(name, 0).config.phases for name in ("universal", "universal-no-v")
    )
    assert all_phases is not None
    assert some == all_phases[1:]
    assert [phase.space for phase in all_phases] == ["W", "W", "W+", "W++"]


def test_another_process_computes_the_same(bench: InversionBench) -> None:
    copy = pickle.loads(pickle.dumps(bench))
    cell = InversionCell("UNAP", "universal", 1)
    one, two = (some.measured(cell) for some in (bench, copy))
    assert one | {"cpu_seconds": 0} == two | {"cpu_seconds": 0}
    assert copy.protocol == bench.protocol


# The verb.


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    artefacts.save(style_prior(), folder / "prior")
    artefacts.save(gan_prior(), folder / "gan")
    artefacts.save(universal(), folder / "universal")
    return folder


def run(models: Path, out: Path, /, *more: object, **changes: str) -> int:
    given = {
        "prior": str(models / "prior"),
        "degradation": str(models / "universal"),
        "data": "glyphs:20",
        "settings": "toy,U-M",
        "seeds": "0",
        "count": "2",
        "steps": "2",
        **changes,
    }
    flags = [word for name, value in given.items() for word in (f"--{name}", value)]
    return cli.run(["bench", "udm-table1", "--out", str(out), *flags, *map(str, more)])


@pytest.fixture(scope="module")
def finished(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    assert run(models, out) == 0
    return out


def test_cells_end_to_end(finished: Path) -> None:
    found = {(one["task"], one["method"]): one for one in read_inversion_cells(finished)}
    assert set(found) == {(t, m) for t in ("toy", "U-M") for m in INVERSION_METHODS}
    for (_, method), one in found.items():
        assert one["accuracy"] == pytest.approx(fmean(one["accuracies"]), abs=2e-5)
        assert len(one["accuracies"]) == one["images"] == 2
        assert (one["fidelity"] is None) == (method == "damaged")
        assert (one["size"], one["steps"], one["others"]) == (SIDE, 2, 16)
        assert one["psnr"] > 0
    # The methods are different ones.
    assert len({one["accuracy"] for (task, _), one in found.items() if task == "toy"}) == 6


def test_the_three_files_tell_the_same(finished: Path) -> None:
    cell = json.loads((finished / "cells" / "U-M-universal-0.json").read_text())
    (document,) = json.loads((finished / "udm-table1.json").read_text())
    place = {"task": "U-M", "method": "universal", "score": "realism"}
    (one,) = [c for c in document["cells"] if place.items() <= c.items()]
    assert (one["mean"], one["report"], one["seeds"]) == (
        cell["realism"],
        28.8,
        {"0": cell["realism"]},
    )
    lines = list(csv.reader(io.StringIO((finished / "udm-table1.csv").read_text())))
    assert ["U-M", "universal", "realism", "0", str(cell["realism"]), "28.8"] in lines
    # Each of 12 cells has five scores; damaged images have no fidelity.
    assert len(lines) == 1 + 12 * 5 - 2
    text = (finished / "udm-table1.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| U-M |"))
    assert f"| {cell['accuracy']:.3f} | 0.459 |" in row
    assert "numbers with the report's cannot" in text


def test_a_second_call_computes_nothing(
    finished: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in (finished / "cells").iterdir()}
    assert run(models, finished) == 0
    assert "12 cells, 0 to compute" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in (finished / "cells").iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": "3"}, "steps=2, not 3"),
        ({"count": "3"}, "images=2, not 3"),
        ({"data": "glyphs:21"}, "data="),
        ({"prior": "gan"}, "prior="),
    ],
)
def test_cells_of_another_protocol_are_refused(
    changes: dict[str, str],
    words: str,
    finished: Path,
    models: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "prior" in changes:
        changes = {"prior": str(models / "gan")}
    assert run(models, finished, **changes) == 1
    error = capsys.readouterr().err
    assert "cells of another protocol" in error
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--preset", "tiny"], "--preset tiny: the table udm-table1 has no such option"),
        (["--images", "9"], "--images 9:"),
        (["--set", "a=1", "--set", "b=2"], "--set a=1 b=2:"),
        (["--test", "glyphs"], "--test glyphs:"),
        (["--label", "x"], "--label x:"),
        (["--features", "pixels"], "--features pixels:"),
        (["--shard", "1/2"], "--shard 1/2:"),
        (["--device", "cuda"], "--device cuda:"),
        (["--settings", "U-M,U-XXL"], "no task 'U-XXL'; it has clean, toy, U-XS"),
        (["--models", "blind,l-brgm"], "no model 'l-brgm'; it has damaged, pulse"),
        (["--seeds", "0,x"], "joined by commas"),
        (["--count", "20"], "glyphs:20 has 20 images; give more than the 20 restored"),
    ],
)
def test_wrong_wishes_are_told(
    flags: list[str],
    words: str,
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(models, tmp_path, *flags) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--prior", "--degradation", "--steps"])
def test_other_tables_refuse_its_options(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["bench", "table2", "--out", str(tmp_path), flag, "3"]) == 1
    assert f"{flag} 3: the table table2 has no such option" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--prior", "--degradation", "--data"])
def test_parts_are_given_together(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["bench", "udm-table1", "--out", str(tmp_path), flag, "x"]) == 1
    assert "needs --data, --prior, --degradation" in capsys.readouterr().err


def test_parts_that_do_not_go_together_are_refused() -> None:
    class Wide:
        shape = (3, 16, 32)

    class Grey:
        shape = (1, 16, 16)

    for prior, words in ((Wide(), "takes squares"), (Grey(), "1 channels")):
        with pytest.raises(ValueError, match=words):
            InversionBench.of(prior, universal(), "glyphs:20")  # type: ignore[arg-type]


def test_without_data_the_table_is_written_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["bench", "udm-table1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| N-M | - | - | 0.500 | 0.465 | - | 0.446 | - | 0.697 | - | 0.482 | - |" in out
    assert "| universal beats blind | - | 22 of 31 | - | 17 of 31 | - | 27 of 31 |" in out
    assert all(sum(line.startswith(f"| {n} |") for line in out.splitlines()) == 3 for n in TASKS)
    assert "PSNR" not in out
    assert not (tmp_path / "cells").exists()


def test_a_budget_of_nothing_computes_nothing(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(models, tmp_path, budget="0") == 0
    assert "the same command goes on" in capsys.readouterr().out
    assert not read_inversion_cells(tmp_path)


def test_a_stopped_bench_goes_on(
    models: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured, begun = InversionBench.measured, []

    def stopped(self: InversionBench, cell: InversionCell) -> dict[str, Any]:
        begun.append(cell.name)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return measured(self, cell)

    monkeypatch.setattr(InversionBench, "measured", stopped)
    wishes = {"settings": "U-M", "models": "damaged,blind"}
    assert run(models, tmp_path, **wishes) == 130
    assert [one["method"] for one in read_inversion_cells(tmp_path)] == ["damaged"]
    monkeypatch.undo()
    assert run(models, tmp_path, **wishes) == 0
    assert "2 cells, 1 to compute" in capsys.readouterr().out
    for one in read_inversion_cells(tmp_path):
        name = InversionCell(one["task"], one["method"], one["seed"]).name
        whole = json.loads((finished / "cells" / f"{name}.json").read_text())
        assert one | {"cpu_seconds": 0} == whole | {"cpu_seconds": 0}


def test_tasks_that_do_not_fit_are_told(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(models, tmp_path, settings="U-XL") == 0
    out = capsys.readouterr().out
    assert "16 pixels are no multiple of its factor: U-XL" in out
    assert "0 cells" in out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "remove it, and its cell is computed again"),
        ('{"format": 1, "data": "x"}', "no cell of the table udm-table1"),
        ('{"format": 9, "table": "udm-table1"}', "has format 9"),
    ],
)
def test_a_strange_cell_is_named(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "a.json").write_text(content)
    assert cli.run(["bench", "udm-table1", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "a.json" in error
    assert words in error


def test_other_tables_refuse_its_cells(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bench", "table2", "--out", str(finished)]) == 1
    assert "is a cell of the table udm-table1; choose another --out" in capsys.readouterr().err


# The table.


def document(task: str, method: str, seed: int, value: float) -> dict[str, Any]:
    protocol = InversionBench.of(style_prior(), universal(), "glyphs:20", count=2).protocol
    scores = dict.fromkeys(("accuracy", "fidelity", "realism", "psnr", "cpu_seconds"), value)
    return {"task": task, "method": method, "seed": seed, **scores, **vars(protocol)}


def test_ours_is_the_mean_with_the_extremes_beside_the_reports() -> None:
    values = {0: 0.1, 1: 0.2, 2: 0.6}
    summary = summarise_inversion([document("UN", "blind", s, v) for s, v in values.items()])
    assert summary.of("UN", "blind", "accuracy") == values
    text = summary.to_markdown()
    assert "| - | 0.511 | 0.300 [0.100, 0.600] | 0.700 | - | 0.564 |" in text
    found = [c for c in summary.to_json()["cells"] if c["mean"] is not None]
    assert len(found) == 5
    assert [found[0][k] for k in ("lowest", "highest", "report")] == [0.1, 0.6, 0.7]
    assert found[0]["mean"] == pytest.approx(0.3)
    assert "seeds 0, 1, 2" in text
    assert "150 steps a phase" in text


def test_methods_are_compared_on_seeds_that_both_have() -> None:
    values = {
        ("UN", "blind"): [0.5, 0.1],
        ("UN", "universal"): [0.4],
        ("UA", "blind"): [0.2, 0.5],
        ("UA", "universal"): [0.3, 0.5],
        ("AP", "universal"): [0.1],
        # Not the report's.
        ("toy", "blind"): [0.9],
        ("toy", "universal"): [0.1],
    }
    documents = [
        document(*place, seed, value)
        for place, found in values.items()
        for seed, value in enumerate(found)
    ]
    summary = summarise_inversion(documents)
    assert summary.wins("universal", "blind", "accuracy") == (1, 2)
    assert summary.wins("blind", "universal", "realism") == (1, 2)
    assert "| universal beats blind | 1 of 2 | 22 of 31 |" in summary.to_markdown()


def test_cells_of_two_protocols_make_no_table() -> None:
    one, two = document("UN", "blind", 0, 1.0), document("UN", "blind", 1, 1.0)
    with pytest.raises(ValueError, match="UN-blind-1 has steps=7, not None"):
        summarise_inversion([one, two | {"steps": 7}])
