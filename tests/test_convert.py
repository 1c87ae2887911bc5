"""``blemish convert``: published checkpoints as priors that the other verbs take."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published_generators import (
    FILES,
    authors_file,
    authors_image,
    authors_tensors,
    first_tensors,
)
from safetensors.torch import load_file

import blemish
from blemish import artefacts, cli
from blemish.degradations import Identity
from blemish.networks import StyleGAN1, StyleGAN2
from blemish.priors import StylePrior


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return authors_file(tmp_path / "ffhq.pkl", authors_tensors(), clamp=256)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_the_prior_makes_the_pictures_of_the_file(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "priors" / "ffhq"
    assert cli.run(["convert", str(source), str(target), "--licence", "CC-BY  4.0"]) == 0
    out = capsys.readouterr().out
    assert "StyleGAN2, PyTorch, 16x16 pixels, 6 styles of 6 numbers" in out
    assert f"{len(authors_tensors())} tensors are in it" in out
    assert "6 like synthesis.b4.resample_filter (the filter [1, 3, 3, 1]" in out
    assert "--licence" not in out
    prior = blemish.load(target)
    assert isinstance(prior, StylePrior)
    assert isinstance(prior.network, StyleGAN2)
    assert prior.config.network.clamp == 256
    ws = torch.randn(6, 6, generator=torch.Generator().manual_seed(3))
    expected = (authors_image(authors_tensors(), ws, clamp=256) + 1) / 2
    with torch.no_grad():
        found = prior.synthesize(ws[None], "W+")[0].double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    document = json.loads((target / "config.json").read_text())
    assert document["origin"] == {
        "source": "ffhq.pkl",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "layout": "StyleGAN2, PyTorch",
        "licence": "CC-BY 4.0",
    }
    page = (target / "README.md").read_text()
    assert all(text in page for text in ("ffhq.pkl", "CC-BY 4.0", "terms of their own"))
    assert not set(everything(target)) - {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    assert len(load_file(target / "model.safetensors")) == len(authors_tensors())


@pytest.mark.parametrize("program", FILES)
def test_other_verbs_take_what_was_converted(tmp_path: Path, program: str) -> None:
    make, write, _ = FILES[program]
    target = tmp_path / "prior"
    assert cli.run(["convert", str(write(tmp_path / "x", make())), str(target)]) == 0
    samples = tmp_path / "samples"
    assert cli.run(["sample", str(target), "--out", str(samples), "-n", "2"]) == 0
    with Image.open(samples / "000001.png") as image:
        assert image.size == (16, 16)
        assert np.asarray(image).std() > 5
    found = tmp_path / "found.png"
    words = ["invert", str(samples / "000000.png"), str(found), "--prior", str(target)]
    assert cli.run([*words, "--degradation", "task:N-M", "--steps", "1"]) == 0
    assert found.is_file()


def test_two_files_of_the_first_stylegan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = first_tensors()
    for start in ("g_mapping.", "g_synthesis."):
        held = {n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)}
        torch.save(held, tmp_path / f"{start}pt")
    files = [str(tmp_path / "g_synthesis.pt"), str(tmp_path / "prior")]
    assert cli.run(["convert", *files]) == 1
    assert "--mapping" in capsys.readouterr().err
    assert cli.run(["convert", *files, "--mapping", str(tmp_path / "g_mapping.pt")]) == 0
    out = capsys.readouterr().out
    assert "they were drawn" in out
    assert "look them up, and note them with --licence" in out
    assert isinstance(blemish.load(tmp_path / "prior").network, StyleGAN1)
    assert "no maps of noise" in (tmp_path / "prior" / "README.md").read_text()


@pytest.mark.parametrize("fault", ["malicious", "truncated", "foreign", "absent", "strange"])
@pytest.mark.parametrize("there", [False, True])
def test_failures_leave_things_as_they_were(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str], fault: str, there: bool
) -> None:
    marker, target = tmp_path / "marker", tmp_path / "priors" / "x"
    words = ["--overwrite"] if there else []
    if there:
        assert cli.run(["convert", str(source), str(target)]) == 0
    bad = tmp_path / "bad.pkl"
    whole = source.read_bytes()
    content = {
        "malicious": pickle.dumps({"G_ema": Malicious(marker)}),
        "truncated": whole[: len(whole) // 2],
        "foreign": b"\x89PNG" + bytes(100),
        "strange": whole.replace(b"noise_strength", b"noise_strongly"),
        "absent": b"",
    }[fault]
    if fault != "absent":
        bad.write_bytes(content)
    before = everything(tmp_path)
    capsys.readouterr()
    assert cli.run(["convert", str(bad), str(target), *words]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert "bad.pkl" in errors
    assert ("posix.system" in errors) == (fault == "malicious")
    assert not marker.exists()
    assert everything(tmp_path) == before
    assert target.exists() == there


def test_nothing_is_replaced_unasked(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "prior"
    assert cli.run(["convert", str(source), str(target)]) == 0
    before = everything(target)
    assert cli.run(["convert", str(source), str(target), "--licence", "other"]) == 1
    assert "give --overwrite" in capsys.readouterr().err
    assert everything(target) == before
    assert cli.run(["convert", str(source), str(target), "--licence", "other", "--overwrite"]) == 0
    assert json.loads((target / "config.json").read_text())["origin"]["licence"] == "other"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo.png").write_bytes(b"x")
    assert cli.run(["convert", str(source), str(mine), "--overwrite"]) == 1
    assert "is no artefact" in capsys.readouterr().err
    assert everything(mine) == {"photo.png": b"x"}


@pytest.mark.parametrize("words", [[], ["--overwrite"]])
def test_an_empty_folder_is_filled(tmp_path: Path, source: Path, words: list[str]) -> None:
    target = tmp_path / "prior"
    target.mkdir()
    assert cli.run(["convert", str(source), str(target), *words]) == 0
    assert isinstance(blemish.load(target), StylePrior)


@pytest.mark.parametrize("case", ["source", "link", "photo", "foreign", "degradation"])
def test_overwriting_deletes_a_prior_and_nothing_else(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    target = tmp_path / "prior"
    if case == "degradation":
        artefacts.save(Identity(), target)
    else:
        assert cli.run(["convert", str(source), str(target)]) == 0
    if case == "source":
        source = source.rename(target / "README.md")
    elif case == "link":
        (target / "README.md").unlink()
        (target / "README.md").symlink_to(source)
        source = target / "README.md"
    elif case == "photo":
        (target / "photo.png").write_bytes(b"x")
    elif case == "foreign":
        (target / "config.json").write_text('{"model_type": "bert"}')
    before = everything(tmp_path)
    capsys.readouterr()
    assert cli.run(["convert", str(source), str(target), "--overwrite"]) == 1
    message = {
        "source": "holds README.md, which is read",
        "link": "holds README.md, which is read",
        "photo": "holds 'photo.png' beside its artefact",
        "foreign": "describes no artefact of blemish",
        "degradation": "holds a degradation and no prior",
    }[case]
    assert message in capsys.readouterr().err
    assert everything(tmp_path) == before
