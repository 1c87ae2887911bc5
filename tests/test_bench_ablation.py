"""The ablation of perceptual restoration: the paper's figures, rows that differ in one cause, cells, and how they are shown."""

from __future__ import annotations

import csv
import io
import json
import math
import pickle
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from inversion_toy import SIDE, gan_prior, style_prior
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from blemish import artefacts, cli
from blemish.bench import (
    ABLATION_ROWS,
    AblationBench,
    AblationCell,
    judging,
    plan_ablation,
    read_documents,
    summarise_ablation,
)
from blemish.bench.ablation_figures import PUBLISHED_ROWS, RANKIQA_SCORES, UNSEARCHED_ROWS
from blemish.bench.ablation_rows import CAUSES
from blemish.bench.judging import features_for
from blemish.degradations import GaussianNoise, LearnedLikelihood, setting
from blemish.functional.random import generator_for, rand
from blemish.losses import geodesic_cross
from blemish.metrics import NIQEModel, RankIQANetwork, niqe, rankiqa, rankiqa_network
from blemish.networks import VGG16, ConditionalPixelCNN, StyleGenerator
from blemish.priors import StylePrior
from blemish.restorers import MMD_SEARCH, PULSE_SEARCH

TABLE = """\
v1 N N Y - - 100 33.21 33.12 17.17 17.25
v2 N N Y - - 100 31.82 32.15 17.87 17.93
v2 Y N Y - - 100 35.11 34.94 21.33 21.32
v2 N Y Y - - 100 35.66 35.20 20.23 20.22
v2 Y Y Y - - 100 30.17 30.34 9.78 9.74
v2 Y Y Y - - 1000 31.55 31.54 11.94 11.91
v2 Y Y N - - 100 32.85 32.67 15.05 15.10
v2 Y Y Y 1 29 100 31.40 31.37 10.28 10.14
v2 Y Y Y 1 379 100 30.41 30.64 11.15 11.11
v2 Y Y Y 1 379 1000 31.79 31.65 11.69 11.60
v2 Y Y Y 10 29 100 30.57 30.69 9.37 9.23
v2 Y Y Y 10 379 100 29.41 29.97 10.04 10.05
v2 Y Y Y 50 379 100 29.84 30.69 10.56 10.53
Original - - - - - - - 45.61 45.75 13.67 13.65
Compressed - - - - - - - 59.47 59.81 54.57 54.62
"""
"""Table 2 as it is printed: the row's settings, then its four scores."""

FIELDS = {
    "generator": set(),
    "mean start": {"start"},
    "MMD": {"mmd"},
    "spheres": {"sphere"},
    "steps": {"steps"},
    "bits for pixels": {"bits"},
    "late law": set(),
    "weight of bits": {"bits"},
    "PULSE's coordinates": {"straightened"},
    "the prior's spheres": {"sphere"},
    "Gaussian kernel": {"power"},
}
"""What each cause changes of a search."""


def differing(a: Any, b: Any) -> set[str]:
    return {f.name for f in fields(a) if getattr(a, f.name) != getattr(b, f.name)}


# The paper's figures.


def test_every_figure_is_the_papers() -> None:
    rows = [line.split() for line in TABLE.splitlines()]
    printed = [row for row in rows if row[0].startswith("v")]
    assert len(printed) == len(PUBLISHED_ROWS) == 13
    for row, (search, scores) in zip(printed, PUBLISHED_ROWS.values(), strict=True):
        words = [search.generator, *("NY"[one] for one in (search.mean, search.mmd, search.sphere))]
        words += ["-" if n is None else str(n) for n in (search.coefficient, search.epoch)]
        assert [*words, str(search.steps)] == row[:7]
        assert [scores[name] for name in RANKIQA_SCORES] == [float(word) for word in row[7:]]
    others = {row[0].lower(): [float(word) for word in row[8:]] for row in rows[len(printed) :]}
    assert others == {name: list(scores.values()) for name, scores in UNSEARCHED_ROWS.items()}


def test_start_and_discrepancy_help_together_and_alone_they_do_not() -> None:
    neither, mean, mmd, both = (
        PUBLISHED_ROWS[name][1]["resized_mean"] for name in ("v2", "mean", "mmd", "mean-mmd")
    )
    assert both < neither < min(mean, mmd)


# Rows.


def test_rows_are_those_searches() -> None:
    rows = ABLATION_ROWS
    assert rows["mean-mmd"].config() == replace(MMD_SEARCH, bits=0.0)
    assert rows["pulse"].config() == replace(PULSE_SEARCH, bits=0.0)
    assert rows["mean-mmd-free"].config().sphere == "none"
    assert rows["bits50-late"].config(seed=3) == replace(MMD_SEARCH, bits=50.0, seed=3)
    assert [rows[name].config(steps=7).steps for name in ("mean", "mean-mmd-long")] == [7, 70]
    assert [rows[name].config().steps for name in ("mean", "mean-mmd-long")] == [100, 1000]
    with pytest.raises(ValueError, match="original is no search"):
        rows["original"].config()


@pytest.mark.parametrize(("cause", "before", "after"), CAUSES)
def test_rows_differ_in_the_one_cause_that_they_name(cause: str, before: str, after: str) -> None:
    one, two = ABLATION_ROWS[before], ABLATION_ROWS[after]
    assert differing(one.config(), two.config()) == FIELDS[cause]
    parts = {*one.needs} ^ {*two.needs}
    expected = {
        "generator": {"prior_v1"},
        "mean start": {"styles"},
        "late law": {"likelihood", "likelihood_late"},
        "bits for pixels": {"likelihood"},
        "PULSE's coordinates": {"styles"},
    }
    assert parts == expected.get(cause, set())
    assert one.search is not None
    assert two.search is not None
    columns = {
        "generator": {"generator"},
        "mean start": {"mean"},
        "MMD": {"mmd"},
        "spheres": {"sphere"},
        "steps": {"steps"},
        "bits for pixels": {"coefficient", "epoch"},
        "late law": {"epoch"},
        "weight of bits": {"coefficient"},
    }
    assert differing(one.search, two.search) == columns.get(cause, set())


def test_bits_stand_in_the_place_of_pixels(bench: AblationBench) -> None:
    for name, row in ABLATION_ROWS.items():
        if row.search is not None and name != "v1":
            config = bench.searcher(AblationCell(name, 0)).config
            assert (config.pixels, config.bits) == (
                (100, 0) if row.search.coefficient is None else (0, row.search.coefficient)
            )
    laws = {
        name: bench.searcher(AblationCell(f"bits10-{name}", 0)).degradation
        for name in ("early", "late")
    }
    assert laws == {"early": bench.law, "late": bench.late}


# Cells.


@pytest.fixture(scope="module", autouse=True)
def light() -> Iterator[None]:
    """Compares patches on pixels, as where the package of the features is not installed: it is quicker."""

    def missing(side: int) -> None:
        raise ModuleNotFoundError

    features_for.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "effnet_lite0", missing)
        yield
    features_for.cache_clear()


@pytest.fixture(scope="module")
def bench() -> AblationBench:
    return AblationBench.of(
        style_prior(),
        setting("S"),
        "glyphs:20",
        count=2,
        steps=2,
        law=GaussianNoise((0.1, 0.1)),
        late=GaussianNoise((0.3, 0.3)),
    )


def test_a_plan_has_every_row_for_every_seed() -> None:
    cells = plan_ablation([0, 3])
    assert len({cell.name for cell in cells}) == len(cells) == 2 * (2 + 13 + 3)
    assert [cell.row for cell in cells[:18]] == list(ABLATION_ROWS)


def test_what_befalls_an_image_does_not_depend_on_the_others(bench: AblationBench) -> None:
    both, _ = bench.damaged(3)
    alone, _ = replace(bench, clean=bench.clean[:1]).damaged(3)
    other, _ = bench.damaged(4)
    assert_close(both[:1], alone, rtol=0, atol=0)
    assert not torch.equal(both, other)
    assert_close(both, (both * 255).round() / 255, rtol=0, atol=1e-7)


def test_the_truth_is_judged_best(bench: AblationBench) -> None:
    y, params = bench.damaged(0)
    truth, other = (bench.judged("v2", x, y, params) for x in (bench.clean, bench.clean.flip(-1)))
    # Files round: what is damaged again from the same image is the same file.
    assert truth["accuracy"] == truth["fidelity"] == 0
    assert truth["ssim"] == 1 > other["ssim"]
    # That of the truth to itself has no number.
    assert truth["psnr"] is None
    assert other["accuracy"] > 0.01
    assert other["fidelity"] > 0.01
    assert other["psnr"] > 0
    original = bench.judged("original", bench.clean, y, params)
    assert {name for name, value in original.items() if value is not None} == {"realism"}
    assert bench.judged("compressed", y, y, params)["fidelity"] is None
    same = replace(bench, others=bench.clean)
    assert abs(same.judged("v2", bench.clean, y, params)["realism"]) < 1e-3 < truth["realism"]


def test_a_result_is_weighed_by_the_papers_objective(bench: AblationBench) -> None:
    y, _ = bench.damaged(0)
    cell = AblationCell("mean-mmd", 0)
    found = bench.found(cell, y)
    assert found is not None
    x = found.images.clamp(0, 1)
    weighed = bench.weighed("mean-mmd", x, y, found)
    assert weighed["pixels"] == pytest.approx(float((x - y).square().mean()), abs=1e-6)
    cross = geodesic_cross(found.latents).mean()
    assert weighed["cross"] == pytest.approx(float(cross), abs=1e-5)
    # The best image of each lies somewhere on its path.
    step = found.path["total"].argmin(dim=0)
    mmd = found.path["mmd"][step, torch.arange(2)].mean()
    assert weighed["mmd"] == pytest.approx(float(mmd), abs=1e-5)
    law = GaussianNoise((0.1, 0.1))
    bits = -law.log_prob(law.prepared(y), x).mean() / (3 * SIDE**2 * math.log(2))
    assert weighed["bits"] == pytest.approx(float(bits), abs=1e-4)
    # The kernel of the row with squared distances is not the one that weighs it.
    assert bench.weighed("mean-mmd-gaussian", x, y, found) == weighed
    # Images that no search has found have no styles.
    damaged = bench.weighed("compressed", y, y, None)
    assert (damaged["pixels"], damaged["cross"], damaged["mmd"]) == (0, None, None)
    assert damaged["bits"] < weighed["bits"]
    assert replace(bench, law=None).weighed("compressed", y, y, None)["bits"] is None


def test_another_process_computes_the_same(bench: AblationBench) -> None:
    copy = pickle.loads(pickle.dumps(bench))
    cell = AblationCell("bits1-early", 1)
    one, two = (some.measured(cell) for some in (bench, copy))
    assert one | {"cpu_seconds": 0} == two | {"cpu_seconds": 0}
    assert copy.protocol == bench.protocol


def test_a_learned_law_is_of_the_priors_colours(bench: AblationBench) -> None:
    network = ConditionalPixelCNN.Config(channels=1, width=4, blocks=1, components=1)
    law = LearnedLikelihood.Config(network=network).build()
    with pytest.raises(ValueError, match="3 channels, the likelihood takes 1"):
        AblationBench.of(style_prior(), setting("S"), "glyphs:20", count=2, late=law)
    colour = LearnedLikelihood.Config(network=replace(network, channels=3)).build()
    found = AblationBench.of(style_prior(), setting("S"), "glyphs:20", count=2, steps=1, law=colour)
    measured = found.measured(AblationCell("bits1-early", 0))
    x, y = found.found(AblationCell("bits1-early", 0), found.damaged(0)[0]), found.damaged(0)[0]
    assert x is not None
    bits = -colour.log_prob(y, x.images.clamp(0, 1)) / (3 * SIDE**2 * math.log(2))
    assert measured["bits"] == pytest.approx(float(bits.mean()), abs=1e-4)


def test_a_prior_without_styles_lacks_the_rows_that_need_them() -> None:
    prior = gan_prior()
    found = AblationBench.of(prior, setting("S"), "glyphs:20", count=2, prior_v1=gan_prior())
    lacking = {name for name in ABLATION_ROWS if found.lacks(name)}
    can = {"original", "compressed", "v1", "v2", "mmd"}
    assert set(ABLATION_ROWS) - lacking == can
    assert found.lacks("mean") == "a prior with styles"
    assert found.lacks("bits1-late") == "--likelihood-late, a prior with styles"


# Scores of looks.


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = [nn.Linear(a, b) for a, b in ((4 * 49, 8), (8, 8), (8, 1))]
        network = RankIQANetwork(VGG16((4, 4, 4, 4, 4)), layers)
        # Wide enough that something passes through all layers.
        for parameter in network.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_uniform_(parameter, mode="fan_out")
    save_file(network.state_dict(), folder / "rank.safetensors")
    NIQEModel(torch.zeros(36).double(), torch.eye(36).double(), "nothing", 32).save(
        folder / "niqe.safetensors"
    )
    return {name: str(folder / f"{name[:4]}.safetensors") for name in ("rankiqa", "niqe")}


def test_looks_are_scored_where_images_are_large_enough(
    bench: AblationBench, weights: dict[str, str]
) -> None:
    judge = replace(bench, rankiqa=weights["rankiqa"], niqe=weights["niqe"])
    x = rand((1, 3, 15, 15), generator_for("x")).repeat_interleave(15, -1).repeat_interleave(15, -2)
    network, model = rankiqa_network(weights["rankiqa"]), NIQEModel.load(weights["niqe"])
    found, plain, resized = judge.looks(x), rankiqa(x, network), rankiqa(x, network, resize=256)
    expected = [plain.mean, plain.median, resized.mean, resized.median, niqe(x, model)]
    assert list(found) == [*RANKIQA_SCORES, "niqe"]
    assert list(found.values()) == pytest.approx([float(one) for one in expected], abs=1e-3)
    assert len(set(found.values())) == 5
    assert judge.protocol.rankiqa_weights == network.name
    assert judge.protocol.niqe_weights == model.name
    assert set(bench.looks(x).values()) == {None}


# The verb.


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    artefacts.save(style_prior(), folder / "prior")
    artefacts.save(gan_prior(), folder / "gan")
    artefacts.save(GaussianNoise((0.1, 0.1)), folder / "law")
    small = StylePrior.Config(network=StyleGenerator.Config(latent=8, channels=(6, 6)))
    artefacts.save(small.build(), folder / "small")
    return folder


ROWS = "original,compressed,v1,v2,mean-mmd-long,mean-mmd-prior,bits1-early,bits1-late"


def run(models: Path, out: Path, /, *more: object, **changes: str) -> int:
    given = {
        "prior": str(models / "prior"),
        "data": "glyphs:20",
        "models": ROWS,
        "seeds": "0",
        "count": "2",
        "steps": "2",
        **changes,
    }
    flags = [word for name, value in given.items() for word in (f"--{name}", value)]
    return cli.run(["bench", "pir-table2", "--out", str(out), *flags, *map(str, more)])


@pytest.fixture(scope="module")
def finished(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    parts = ("--prior-v1", models / "gan", "--likelihood", models / "law")
    assert run(models, out, *parts, "--likelihood-late", "noise:0.3") == 0
    return out


def test_cells_end_to_end(finished: Path) -> None:
    found = {one["row"]: one for one in read_documents(finished, "pir-table2")}
    assert set(found) == set(ROWS.split(","))
    searched = {name: one for name, one in found.items() if ABLATION_ROWS[name].search}
    for one in found.values():
        assert (one["size"], one["steps"], one["others"], one["images"]) == (SIDE, 2, 16, 2)
        assert one["realism"] > 0
        assert (one["rankiqa_weights"], one["resized_mean"]) == (None, None)
    for one in searched.values():
        assert min(one[name] for name in ("accuracy", "fidelity", "psnr", "pixels", "bits")) > 0
        # A prior without styles has one latent, at no angle to another.
        assert (one["cross"] == 0) == (one["row"] == "v1")
    # Rows are different searches; a law that allows for more noise is another.
    assert len({one["accuracy"] for one in searched.values()}) == len(searched) == 6


def test_the_three_files_tell_the_same(finished: Path) -> None:
    cell = json.loads((finished / "cells" / "mean-mmd-long-0.json").read_text())
    (document,) = json.loads((finished / "pir-table2.json").read_text())
    places = [{"row": "mean-mmd-long", "score": name} for name in ("realism", "resized_mean")]
    ours, papers = (
        next(c for c in document["cells"] if place.items() <= c.items()) for place in places
    )
    assert (ours["mean"], ours["report"]) == (cell["realism"], None)
    assert (papers["mean"], papers["report"]) == (None, 11.94)
    lines = list(csv.reader(io.StringIO((finished / "pir-table2.csv").read_text())))
    assert ["mean-mmd-long", "realism", "0", str(cell["realism"]), ""] in lines
    text = (finished / "pir-table2.md").read_text()
    settings = "| mean-mmd-long | v2 | yes | yes | yes | - | - | 1000 |"
    assert f"{settings} - | 31.55 | - | 31.54 | - | 11.94 | - | 11.91 |" in text
    assert f"| mean-mmd-long | {cell['accuracy']:.4f} | {cell['fidelity']:.4f} |" in text
    assert "2 steps stand for 100" in text
    assert "no weights were given" in text
    assert "rows can be compared within a column, numbers with the paper's cannot" in text
    # What is absent has all that it needs.
    assert "\nNot computed: mean, mmd, mean-mmd, mean-mmd-free, bits1-late-long," in text


def test_what_is_missing_is_told(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "v1,v2,bits1-early,bits10-early,bits50-late"
    assert run(models, tmp_path, models=rows) == 0
    out = capsys.readouterr().out
    assert "not computed, for want of --prior-v1: v1\n" in out
    assert "not computed, for want of --likelihood: bits1-early, bits10-early\n" in out
    assert "not computed, for want of --likelihood-late: bits50-late\n" in out
    assert "1 cells, 1 to compute" in out
    assert [one["row"] for one in read_documents(tmp_path, "pir-table2")] == ["v2"]
    for words in ("v1 (needs --prior-v1)", "bits50-late (needs --likelihood-late)"):
        assert words in out.rpartition("Not computed: ")[2]


def test_a_part_that_comes_later_adds_its_rows_and_stays_the_same(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"models": "v2,bits1-early"}
    assert run(models, tmp_path, **rows) == 0
    before = (tmp_path / "cells" / "v2-0.json").stat().st_mtime_ns
    assert run(models, tmp_path, "--likelihood", models / "law", **rows) == 0
    said = capsys.readouterr().out
    assert "2 cells, 1 to compute" in said
    told = said.partition("finished without --likelihood, ")[2].partition("\n")[0]
    assert told.endswith(f"compute them again: {tmp_path}/cells/v2-0.json")
    assert (tmp_path / "cells" / "v2-0.json").stat().st_mtime_ns == before
    assert run(models, tmp_path, **rows) == 0
    assert "finished without" not in capsys.readouterr().out
    assert run(models, tmp_path, "--likelihood", "noise:0.2", **rows) == 1
    assert "bits1-early-0 has likelihood=" in capsys.readouterr().err


def test_a_second_call_computes_nothing(
    finished: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in (finished / "cells").iterdir()}
    assert run(models, finished, models="original,v2,mean-mmd-long") == 0
    assert "3 cells, 0 to compute" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in (finished / "cells").iterdir()} == before


def test_a_stopped_bench_goes_on(
    models: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured, begun = AblationBench.measured, []

    def stopped(self: AblationBench, cell: AblationCell) -> dict[str, Any]:
        begun.append(cell.name)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return measured(self, cell)

    monkeypatch.setattr(AblationBench, "measured", stopped)
    rows = {"models": "v2,mean-mmd-long"}
    assert run(models, tmp_path, **rows) == 130
    assert [one["row"] for one in read_documents(tmp_path, "pir-table2")] == ["v2"]
    monkeypatch.undo()
    assert run(models, tmp_path, **rows) == 0
    assert "2 cells, 1 to compute" in capsys.readouterr().out
    for one in read_documents(tmp_path, "pir-table2"):
        whole = json.loads((finished / "cells" / f"{one['row']}-0.json").read_text())
        apart = {name for name in one if one[name] != whole[name]}
        # That run had more parts.
        assert apart <= {"cpu_seconds", "prior_v1", "likelihood", "likelihood_late", "bits"}


def test_rankiqa_stands_beside_the_papers(
    models: Path, weights: dict[str, str], tmp_path: Path
) -> None:
    files = [word for name, path in weights.items() for word in ("--weights", f"{name}={path}")]
    assert run(models, tmp_path, *files, models="original") == 0
    (cell,) = read_documents(tmp_path, "pir-table2")
    network = rankiqa_network(weights["rankiqa"])
    bench = AblationBench.of(style_prior(), setting("S"), "glyphs:20", count=2)
    expected = rankiqa(bench.clean, network, resize=256)
    assert cell["resized_mean"] == pytest.approx(float(expected.mean.mean()), abs=1e-3)
    assert cell["resized_median"] == pytest.approx(float(expected.median.mean()), abs=1e-3)
    # Images of 16 pixels have no crops of 224, and no blocks.
    assert (cell["mean"], cell["median"], cell["niqe"]) == (None, None, None)
    text = (tmp_path / "pir-table2.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| original |"))
    shown = (f"{cell['resized_mean']:.2f}", f"{cell['resized_median']:.2f}")
    assert row.endswith(f"| - | 45.61 | - | 45.75 | {shown[0]} | 13.67 | {shown[1]} | 13.65 |")
    assert network.name in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": "3"}, "steps=2, not 3"),
        ({"count": "3"}, "images=2, not 3"),
        ({"data": "glyphs:21"}, "data="),
        ({"degradation": "setting:T"}, "degradation="),
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
        (["--settings", "U-M"], "--settings U-M: the table pir-table2 has no such option"),
        (["--set", "a=1"], "--set a=1:"),
        (["--shard", "1/2"], "--shard 1/2:"),
        (["--device", "cuda"], "--device cuda:"),
        (["--models", "v2,v3"], "no row 'v3'; it has original, compressed, v1"),
        (["--weights", "rank=x"], "--weights rank: unknown; choose rankiqa, niqe"),
        (["--weights", "niqe=x", "--weights", "niqe=y"], "niqe=... is given twice"),
        (["--weights", "rankiqa=none.pt"], "none.pt"),
        (["--degradation", "task:U-M"], "the damage reduces images by"),
        (["--likelihood", "setting:S"], "does not tell how likely a damaged image is"),
        (["--prior-v1", "small"], "that of the row v1 (3, 8, 8)"),
        (["--prior", "small"], "takes squares of 16x16 or more"),
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
    flags = [str(models / "small") if flag == "small" else flag for flag in flags]
    assert run(models, tmp_path, *flags) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--prior-v1", "--likelihood", "--likelihood-late", "--weights"])
@pytest.mark.parametrize("table", ["table2", "udm-table1"])
def test_other_tables_refuse_its_options(
    flag: str, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["bench", table, "--out", str(tmp_path), flag, "a=3"]) == 1
    error = capsys.readouterr().err
    assert f"{flag} a=3: the table {table} has no such option" in error
    assert ("it belongs to pir-table2" in error) == (table == "table2")


@pytest.mark.parametrize("flag", ["--prior", "--degradation", "--data", "--likelihood"])
def test_prior_and_data_are_given_together(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["bench", "pir-table2", "--out", str(tmp_path), flag, "x"]) == 1
    assert "needs --data, --prior, and" in capsys.readouterr().err


def test_without_data_the_papers_table_is_written_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["bench", "pir-table2", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| v1 | v1 | no | no | yes | - | - | 100 | - | 33.21 | - | 33.12 | - | 17.17 |" in out
    assert "| compressed |  |  |  |  |  |  |  | - | 59.47 |" in out
    assert "| MMD | mean | mean-mmd | - | - | - | - | - | - | -11.55 |" in out
    assert "bits50-late (needs --likelihood-late, a prior with styles)" in out
    assert "PSNR" not in out
    assert not (tmp_path / "cells").exists()


def test_cells_of_another_table_are_refused(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["bench", "udm-table1", "--out", str(finished)]) == 1
    assert "is no cell of the table udm-table1; choose another --out" in capsys.readouterr().err


# The table.


def document(row: str, seed: int, value: float, **parts: str | None) -> dict[str, Any]:
    found = AblationBench.of(style_prior(), setting("S"), "glyphs:20", count=2)
    names = (*RANKIQA_SCORES, "accuracy", "fidelity", "realism", "psnr", "ssim", "cpu_seconds")
    scores = dict.fromkeys((*names, "pixels", "cross", "mmd", "bits"), value)
    protocol = asdict(found.protocol) | parts
    return {"row": row, "seed": seed, **scores, "niqe": None, **protocol}


def test_a_cause_is_what_seeds_of_both_rows_tell() -> None:
    values = {("mean", 0): 0.5, ("mean", 1): 0.1, ("mean-mmd", 1): 0.4, ("mean-mmd", 2): 0.9}
    values |= {("mean", 3): 0.2, ("mean-mmd", 3): 0.1}
    summary = summarise_ablation([document(*key, value) for key, value in values.items()])
    change = summary.change("mean", "mean-mmd", "realism")
    assert change == pytest.approx({1: 0.3, 3: -0.1})
    assert summary.of("mean", "pixels") == {0: 0.5, 1: 0.1, 3: 0.2}
    assert summary.of("mean", "niqe") == {}
    text = summary.to_markdown()
    mean = fmean((0.5, 0.1, 0.2))
    assert f"| {mean:.2f} [0.10, 0.50] | 35.11 |" in text
    assert "| MMD | mean | mean-mmd | +0.10 [-0.10, +0.30] |" in text
    assert "| +0.10 [-0.10, +0.30] | -11.55 |" in text
    (found,) = (
        one
        for one in summary.to_json()["causes"]
        if (one["cause"], one["before"], one["score"]) == ("MMD", "mean", "realism")
    )
    assert [found[name] for name in ("mean", "lowest", "highest")] == pytest.approx(
        [0.1, -0.1, 0.3]
    )


def test_parts_that_some_cells_had_are_the_protocols() -> None:
    cells = [document("v2", 0, 0.1), document("bits1-early", 0, 0.2, likelihood="a")]
    summary = summarise_ablation([*cells, document("bits1-late", 0, 0.2, likelihood_late="b")])
    assert summary.protocol is not None
    assert (summary.protocol.likelihood, summary.protocol.likelihood_late) == ("a", "b")
    assert summary.absent()["v1"] == "--prior-v1"
    assert summary.absent()["bits10-late"] == ""
    with pytest.raises(ValueError, match="mmd-0 has likelihood='c', not 'a'"):
        summarise_ablation([*cells, document("mmd", 0, 0.1, likelihood="c")])
