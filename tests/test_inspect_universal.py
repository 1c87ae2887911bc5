"""The verb inspect on universal degradation models: from the folder to the page; references, matrix and walk."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from test_evaluation_codes import make_model
from test_evaluation_pages import HOSTILE, check
from torch import Tensor
from torch.testing import assert_close

from blemish import artefacts, cli
from blemish.commands import inspect
from blemish.degradations import GaussianNoise, Imaging, UniversalDegradation, mix
from blemish.degradations.imaging import STEPS as DAMAGES
from blemish.evaluation import CodeFindings, codes_page, inspect_codes, specimen
from blemish.evaluation.code_findings import KINDS, References, choose_references, cross, walk
from blemish.functional.random import generators_for, stable_hash
from blemish.functional.stages import to_8_bits
from blemish.losses import texture_distance
from blemish.recipes import configure
from blemish.runs import change, start
from blemish.systems import Universal, UniversalPairs

DAMAGE = Imaging(Imaging.Config(strength=0.25, local=0.5))
COMMON = Imaging(Imaging.Config(strength=0.5, local=0.5))
"""What artefacts are tried with."""


@cache
def _model() -> UniversalDegradation:
    return make_model(bend=30.0, std=1.0)


@cache
def _found() -> CodeFindings:
    return inspect_codes(_model(), COMMON, count=3, seed=1)


@cache
def _references() -> References:
    return choose_references(DAMAGE, _contents(5), seed=0)


def _contents(n: int, side: int = 32) -> Tensor:
    return torch.cat([specimen(3, side, side, seed=seed) for seed in range(n)])


def test_references_have_one_kind_of_damage_alone() -> None:
    found = choose_references(DAMAGE, _contents(5), seed=0, pool=400)
    assert found.names == tuple(KINDS)
    drawn = found.params.summary()
    steps = {"noisy": "noise", "blurred": "blur", "shaken": "motion", "damaged in part": "local"}
    for i, name in enumerate(found.names):
        befell = {n.partition("_")[0] for n, v in drawn.items() if not v[i].isnan()}
        assert befell == {"jpeg"} | ({steps[name]} if name in steps else set())
        assert {n for n, v in drawn.items() if not v[i].isnan()} == set(found.drawn[i])
    assert set(DAMAGES) <= {"contrast", *steps.values()}
    assert_close(found.images, to_8_bits(DAMAGE(_contents(5), found.params)))


def test_the_strongest_is_chosen() -> None:
    noise = Imaging(Imaging.Config(strength=0.25, probability=1.0))
    found = choose_references(noise, _contents(5), seed=0, pool=20)
    rows = generators_for(stable_hash(0, "references"), range(20))
    drawn = noise.sample((20, 3, 32, 32), generator=rows).summary()
    assert found.drawn[0]["noise_sigma"] == pytest.approx(float(drawn["noise_sigma"].max()))
    worst = found.names.index("compressed")
    assert found.drawn[worst]["jpeg_quality"] == float(drawn["jpeg_quality"].min())
    assert "damaged in part" not in found.names


def test_references_depend_on_the_seed_alone() -> None:
    first = _references()
    again, other = (choose_references(DAMAGE, _contents(5), seed=s) for s in (0, 1))
    assert torch.equal(first.images, again.images)
    assert first.drawn == again.drawn != other.drawn


def test_a_law_without_kinds_gives_its_first_draws() -> None:
    found = choose_references(GaussianNoise((0.1, 0.2)), _contents(3), seed=0, pool=8)
    assert found.names == ("draw 1", "draw 2", "draw 3")
    assert all(0.1 <= value <= 0.2 for told in found.drawn for value in told.values())


def test_cells_are_contents_with_the_codes_of_columns() -> None:
    x, references = _contents(2), _references()
    found = cross(_model(), DAMAGE, x, references, seed=4)
    codes = _model().encode(
        references.images, generator=generators_for(stable_hash(4, "n"), range(5))
    )
    assert found.cells.shape == (2, 5, 3, 32, 32)
    for r, k in ((0, 3), (1, 0)):
        made = to_8_bits(_model()(x[r : r + 1], codes[k]))
        assert_close(found.cells[r, k][None], made, atol=1.01 / 255, rtol=0)
    # A reference without noise of the sensor has one truth.
    blurred = references.names.index("blurred")
    truth = to_8_bits(DAMAGE(x, references.params[[blurred] * 2]))
    assert_close(found.left[:, blurred], texture_distance(x, truth))
    assert_close(found.distances[:, blurred], texture_distance(found.cells[:, blurred], truth))


def test_who_does_nothing_leaves_contents_as_they_are() -> None:
    references = _references()
    idle = make_model(std=0.0)
    found = cross(idle, DAMAGE, _contents(2), references, seed=0)
    x = to_8_bits(_contents(2))
    assert_close(found.cells, x[:, None].expand_as(found.cells), atol=1.01 / 255, rtol=0)
    assert_close(found.distances, found.left, atol=2e-3, rtol=0)


def test_a_walk_goes_from_one_code_to_the_other() -> None:
    model = make_model(bend=300.0, std=1.0)
    x, references = _contents(1), _references()
    found = walk(model, x, references, seed=2)
    noise = generators_for(stable_hash(2, "n"), range(2))
    codes = model.encode(references.images[:2], generator=noise)
    assert not torch.equal(codes[0].e_g, codes[1].e_g)
    middle = mix((codes[0], codes[1]), (0.5, 0.5))
    last = replace(codes[1], noise=codes[0].noise)
    for place, code in ((0, codes[0]), (3, middle), (6, last)):
        expected = to_8_bits(model(x, code))
        assert_close(found[place][None], expected, atol=1.01 / 255, rtol=0)


def test_the_document_holds_what_was_found() -> None:
    found = _found()
    document = json.loads(found.to_json())
    assert document["active"] == found.entries.active
    assert len(document["traversals"]) == len(document["active"]) > 0
    assert len(document["idle"]) == 6 - len(document["active"])
    with pytest.raises(ValueError, match="at least 2"):
        inspect_codes(_model(), DAMAGE, count=1)


def test_the_page_shows_it_all() -> None:
    found = _found()
    text = codes_page(found, title=HOSTILE, lead=HOSTILE, facts={HOSTILE: HOSTILE})
    page = check(text)
    assert HOSTILE not in text
    assert {"conclusions", "transfer", "walk", "entries", "costs"} <= set(page.ids)
    assert len(page.images) == 5 + 4 * 6 + 7 + 7 * len(found.traversals)
    assert len({image["alt"] for image in page.images}) == len(page.images)
    for t in found.traversals:
        assert f"<h3>Entry {t.entry}: " in text


def test_a_code_that_says_nothing_is_told() -> None:
    model = make_model()
    torch.nn.init.zeros_(model.global_encoder.tail[-1].weight)
    found = inspect_codes(model, DAMAGE, count=2)
    assert found.entries.active == []
    text = codes_page(found, title="t")
    assert len(check(text).images) == 5 + 4 * 6 + 7
    assert "The embedding says nothing" in text
    assert "there is nothing to move" in text


def test_an_artefact_is_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefacts.save(_model(), tmp_path / "model")
    out = tmp_path / "out"
    words = ["inspect", str(tmp_path / "model"), "--out", str(out), "--count", "3", "--seed", "1"]
    assert cli.run(words) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == _found().lines()
    assert (out / "findings.json").read_text() == _found().to_json()
    check((out / "index.html").read_text())
    words = ["inspect", str(tmp_path / "model"), "--out", str(out)]
    assert cli.run([*words, "--against", str(tmp_path / "model")]) == 1
    assert "leave --against out" in capsys.readouterr().err


def test_a_run_is_tried_with_its_own_damage(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i, x in enumerate(_contents(4, side=40)):
        picture = (255 * x).byte().permute(1, 2, 0).numpy()
        Image.fromarray(picture).save(tmp_path / "images" / f"{i}.png")
    changes = {
        "data.source": str(tmp_path / "images"),
        "training.images": "4",
        "training.batch": "4",
        "system.damage.quality": "[20,21]",
    }
    config = change(configure("universal", "tiny"), changes)
    small = replace(config, system=replace(config.system, degradation=_model().config))
    start(small, tmp_path / "run", device="cpu", silent=True)
    assert (
        cli.run(["inspect", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--count", "2"])
        == 0
    )
    found = json.loads((tmp_path / "out" / "findings.json").read_text())
    qualities = [told["jpeg_quality"] for told in found["references"].values()]
    assert set(qualities) <= {20, 21}
    text = (tmp_path / "out" / "index.html").read_text()
    assert "<dd>universal</dd>" in text
    assert "the damage of its run" in text


def test_of_real_pairs_the_law_is_not_known() -> None:
    pairs, given = (
        kind(degradation=_model().config) for kind in (UniversalPairs.Config, Universal.Config)
    )
    assert inspect._of_universal(pairs, _model(), {}).damage is None
    assert isinstance(inspect._of_universal(given, _model(), {}).damage, Imaging)
    assert "commonly have" in inspect._of_universal(pairs, _model(), {}).lead
