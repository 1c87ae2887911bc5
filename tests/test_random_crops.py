"""Training on random crops of larger photographs: where crops lie, and that they repeat themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from blemish.data import ImageBatches, StreamedImages
from blemish.degradations import degrade_batch, setting
from blemish.functional.random import generator_for, rand
from blemish.recipes import configure
from blemish.runs import change, observed_images, start
from blemish.training.config import RunConfig

SIZES = [(40, 56), (33, 48), (64, 41), (40, 40), (49, 72), (56, 40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of different sizes, in which every pixel tells its own place."""
    out = tmp_path_factory.mktemp("photographs")
    for i, (height, width) in enumerate(SIZES):
        picture = torch.full((height, width, 3), i)
        picture[..., 0] = torch.arange(height)[:, None]
        picture[..., 1] = torch.arange(width)
        Image.fromarray(picture.to(torch.uint8).numpy()).save(out / f"{i}.png")
    return out


def _config(folder: Path, letter: str | None = None, **changes: str) -> RunConfig:
    base = {"data.source": str(folder), "data.random_crop": "true", "training.images": "32"}
    return change(configure("gan", "tiny", letter), {**base, **changes})


def _batches(config: RunConfig) -> ImageBatches:
    images = observed_images(config.data, seed=config.seed)
    assert isinstance(images, StreamedImages)
    return ImageBatches(images, config.seed, random_crop=True)


def _places(batch: Tensor) -> dict[int, tuple[int, int]]:
    """Returns the corner of each photograph's crop."""
    assert batch.shape == (6, 3, 16, 16)
    pixels = (batch * 255).round().int()
    for crop in pixels:
        rows, columns = torch.arange(16)[:, None], torch.arange(16)
        assert torch.equal(crop[0] - crop[0, 0, 0], rows.expand(16, 16).int())
        assert torch.equal(crop[1] - crop[1, 0, 0], columns.expand(16, 16).int())
    return {int(c[2, 0, 0]): (int(c[0, 0, 0]), int(c[1, 0, 0])) for c in pixels}


@pytest.mark.parametrize("grid", [True, False])
def test_crops_lie_on_the_grid_and_differ_over_epochs(folder: Path, grid: bool) -> None:
    batches = _batches(_config(folder, **{"data.keep_jpeg_grid": str(grid)}))
    epochs = [_places(batches(6 * epoch, 6)) for epoch in range(24)]
    corners = torch.tensor([[epoch[i] for i in range(6)] for epoch in epochs])
    assert bool((corners % 8 == 0).all()) == grid
    room = torch.tensor(SIZES) - 16
    assert (corners >= 0).all()
    assert (corners <= room).all()
    if grid:
        # Two dozen epochs see both ends of what fits on the grid, and no two are the same.
        assert torch.equal(corners.amin(dim=(0, 1)), torch.tensor([0, 0]))
        assert torch.equal(corners.amax(dim=(0, 1)), torch.tensor([48, 56]))
    assert len({str(epoch.tolist()) for epoch in corners}) == 24


def test_another_reader_begins_anywhere_and_sees_the_same(folder: Path) -> None:
    one, other = _batches(_config(folder)), _batches(_config(folder))
    seen = [one(progress, 6) for progress in range(0, 30, 6)]
    assert torch.equal(other(18, 6), seen[3])
    assert torch.equal(other(24, 6), seen[4])


def test_a_resumed_run_on_crops_equals_an_unbroken_one(folder: Path, tmp_path: Path) -> None:
    config = _config(folder)
    start(config, tmp_path / "whole", device="cpu", silent=True)
    half = change(config, {"training.images": "16"})
    start(half, tmp_path / "halves", device="cpu", silent=True)
    start(config, tmp_path / "halves", device="cpu", resume=True, silent=True)
    ends = [max((tmp_path / run / "checkpoints").iterdir()) for run in ("whole", "halves")]
    files = sorted(ends[0].glob("*.safetensors"))
    assert files
    for file in files:
        one, other = load_file(file), load_file(ends[1] / file.name)
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    plain = tmp_path / "central"
    central = change(config, {"data.random_crop": "false", "data.fit": "crop"})
    start(central, plain, device="cpu", silent=True)
    found = load_file(max((plain / "checkpoints").iterdir()) / files[0].name)
    assert any(not torch.equal(t, found[name]) for name, t in load_file(files[0]).items())


def test_whole_photographs_are_damaged_and_cropped_then(tmp_path: Path) -> None:
    pixels = (rand((3, 40, 56), generator_for("photograph")) * 255).to(torch.uint8)
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "one.png")
    config = replace(_config(tmp_path, "J"), seed=5)
    images = observed_images(config.data, seed=5)
    batches = ImageBatches(images, 5, random_crop=True)
    damaged = degrade_batch(setting("J"), pixels[None], [0], seed=5)[0][0] / 255
    corners = set()
    for progress in range(6):
        crop = batches(progress, 1)[0]
        places = [(t, u) for t in range(0, 25, 8) for u in range(0, 41, 8)]
        found = [p for p in places if torch.equal(damaged[:, p[0] :, p[1] :][:, :16, :16], crop)]
        assert len(found) == 1
        corners.add(found[0])
    assert len(corners) > 1


@pytest.mark.parametrize("changes", [{"data.size": "none"}, {"data.fit": "resize"}])
def test_what_random_crops_do_not_go_with_is_named(folder: Path, changes: dict[str, str]) -> None:
    config = _config(folder, **changes)
    with pytest.raises(ValueError, match=r"random_crop=true needs data\.size"):
        observed_images(config.data, seed=0)


def test_a_photograph_smaller_than_the_crop_is_named(folder: Path) -> None:
    message = (
        r"5 of 6 images are smaller than 48x48, which the crops need: 0\.png \(40x56\), .*5\.png"
    )
    with pytest.raises(ValueError, match=message):
        observed_images(_config(folder, **{"data.size": "48"}).data, seed=0)
