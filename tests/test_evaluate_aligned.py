"""Pairs of small and large pictures: how they find one another in the layouts of published sets, and what is compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from blemish import cli
from blemish.artefacts import save
from blemish.functional.random import generator_for, rand
from blemish.functional.resample import bicubic
from blemish.metrics import psnr, ssim
from blemish.networks import Upscaler
from blemish.restorers import FeedForward

SCALE = 2

# name: (the folder of small pictures and their names, the folder of large ones and theirs)
LAYOUTS: dict[str, tuple[str, str, str, str]] = {
    "plain": ("lr", "{}.png", "hr", "{}.png"),
    "RealSR": ("Canon/Test/4", "Canon_{}_LR4.png", "Canon/Test/4", "Canon_{}_HR.png"),
    "DRealSR": ("Test_x4/test_LR", "panasonic_{}_x1.png", "Test_x4/test_HR", "panasonic_{}_x4.png"),
    "SupER": ("binning4", "scene/{}.png", "binning1", "scene/{}.png"),
    "ImagePairs": ("test", "{}_LR.png", "test", "{}_HR.png"),
}


def call(*arguments: str | Path) -> int:
    return cli.run([str(a) for a in arguments])


def picture(number: int) -> Tensor:
    rough = rand((1, 3, 6, 7), generator_for("picture", number))
    x = torch.nn.functional.interpolate(rough, size=(28, 32), mode="bicubic").clamp(0, 1)
    return (x * 255).round() / 255


def small(x: Tensor) -> Tensor:
    y = bicubic(x, (x.shape[-2] // SCALE, x.shape[-1] // SCALE))
    return (y.clamp(0, 1) * 255).round() / 255


def write(x: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (x[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(path)


def layout(name: str, root: Path) -> tuple[Path, Path]:
    lr, lr_name, hr, hr_name = LAYOUTS[name]
    for i in range(3):
        write(small(picture(i)), root / lr / lr_name.format(i))
        write(picture(i), root / hr / hr_name.format(i))
    return root / lr, root / hr


def scores(file: Path) -> dict[str, float]:
    document: dict[str, Any] = json.loads(file.read_text())
    return {row["title"]: row["value"] for row in document["scores"]}


def enlarged(i: int) -> Tensor:
    y = small(picture(i))
    x = bicubic(y, (28, 32)).clamp(0, 1)
    return (x * 255).round() / 255


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_layouts_are_understood(name: str, tmp_path: Path) -> None:
    lr, hr = layout(name, tmp_path)
    file = tmp_path / "scores.json"
    assert call("evaluate", "--pairs", lr, hr, "--scale", SCALE, "--json", file) == 0
    pairs = [(enlarged(i), picture(i)) for i in range(3)]
    expected = [
        torch.cat([f(a, b, space="y", crop=SCALE) for a, b in pairs]).mean().item()
        for f in (psnr, ssim)
    ]
    assert_close(list(scores(file).values()), expected, rtol=1e-3, atol=0)
    assert [n.partition(" ")[2] for n in scores(file)] == ["(Y, crop 2)"] * 2


def test_a_restorer_goes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lr, hr = layout("RealSR", tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = FeedForward.Config(network=Upscaler.Config(scale=SCALE, channels=4, blocks=1))
        restorer = config.build().eval()
    folder, file = save(restorer, tmp_path / "restorer"), tmp_path / "scores.json"
    options = ["--reference", hr, "--pairs", "--restorer", folder, "--metrics", "psnr"]
    assert call("evaluate", lr, *options, "--crop", 3, "--json", file) == 0
    with torch.no_grad():
        rounded = [(restorer(small(picture(i))) * 255).round() / 255 for i in range(3)]
    values = [psnr(rounded[i], picture(i), crop=3) for i in range(3)]
    assert_close(
        next(iter(scores(file).values())), torch.cat(values).mean().item(), rtol=1e-4, atol=0
    )
    assert "restored by" in capsys.readouterr().out
    assert call("evaluate", lr, *options, "--scale", 4) == 1
    assert "2 times larger, not 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["LR", "--reference", "HR", "--scale", "2"], 1, "give --pairs"),
        (["LR", "HR", "--reference", "HR"], 2, "is the reference already"),
        (["LR", "HR", "--pairs"], 1, "14x16"),
        (["LR", "OTHER", "--pairs", "--scale", "2"], 1, "have no partner of the same name"),
        (["LR", "HR", "--pairs", "--restorer", "HR"], 1, "is no run and no artefact"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    arguments: list[str],
    code: int,
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lr, hr = layout("DRealSR", tmp_path)
    write(picture(0), tmp_path / "other" / "else_x4.png")
    places = {"LR": lr, "HR": hr, "OTHER": tmp_path / "other"}
    assert call("evaluate", *[places.get(word, word) for word in arguments]) == code
    told = capsys.readouterr().err.strip()
    assert text in told
    assert "\n" not in told
