"""Restorers: what they declare about themselves is so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blemish import artefacts
from blemish.configuration import decode, encode
from blemish.functional.random import generator_for, rand
from blemish.networks import PackedTranslator, RRDBNet, Translator, Upscaler
from blemish.restorers import KINDS, RESTORERS, FeedForward, Keep, Restorer

MATRIX: dict[str, Callable[[], FeedForward]] = {
    "paper": lambda: feed_forward(Translator.Config(channels=6)),
    "one-block": lambda: feed_forward(Translator.Config(channels=4, blocks=1)),
    "grey": lambda: feed_forward(Translator.Config(channels=4, blocks=1, image_channels=1)),
    "packed": lambda: feed_forward(PackedTranslator.Config(channels=6, blocks=2)),
    "packed-1": lambda: feed_forward(PackedTranslator.Config(channels=4, blocks=1, factor=1)),
    "packed-3": lambda: feed_forward(PackedTranslator.Config(channels=6, blocks=1, factor=3)),
    "upscaler": lambda: feed_forward(Upscaler.Config(channels=4, blocks=1, scale=2)),
    "upscaler-same": lambda: feed_forward(Upscaler.Config(channels=4, blocks=2, scale=1)),
    "upscaler-packed": lambda: feed_forward(
        Upscaler.Config(channels=4, blocks=1, scale=3, factor=2, image_channels=1)
    ),
    "upscaler-4": lambda: feed_forward(Upscaler.Config(channels=4, blocks=1, scale=4)),
    "rrdb": lambda: feed_forward(RRDBNet.Config(features=4, growth=3, blocks=1)),
    "rrdb-2": lambda: feed_forward(RRDBNet.Config(scale=2, features=3, growth=2, blocks=1)),
    "rrdb-1": lambda: feed_forward(RRDBNet.Config(scale=1, features=3, growth=2, blocks=1)),
}


def feed_forward(network: object) -> FeedForward:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FeedForward.Config(network=network).build()


def images(restorer: FeedForward, height: int = 0, width: int = 0, count: int = 1) -> Tensor:
    # Where no size is asked for, the receptive field fits in around the pixel (middle, middle).
    height, width = height or 2 * middle(restorer) + 5, width or 2 * middle(restorer) + 3
    shape = (count, restorer.channels, height, width)
    return rand(shape, generator_for("restorers", *shape))


def middle(restorer: FeedForward) -> int:
    step = restorer.multiple
    return (restorer.receptive_field // 2 // step + 2) * step


@pytest.mark.parametrize("name", MATRIX)
def test_a_restorer_is_one(name: str) -> None:
    restorer = MATRIX[name]()
    assert isinstance(restorer, Restorer)
    y = images(restorer, 7, 5, 3)
    x = restorer(y)
    assert x.shape == (*y.shape[:2], 7 * restorer.scale, 5 * restorer.scale)
    assert x.dtype == torch.float32
    assert 0 <= x.min() <= x.max() <= 1
    torch.testing.assert_close(restorer(y[1:2]), x[1:2])
    assert restorer.receptive_field % 2 == 1


@pytest.mark.parametrize("name", MATRIX)
def test_the_receptive_field_is_what_is_declared(name: str) -> None:
    # By gradients: nothing beyond it, and something at its edge from the farthest of all positions.
    restorer = MATRIX[name]()
    radius, step, scale = restorer.receptive_field // 2, restorer.multiple, restorer.scale
    y = images(restorer).requires_grad_()
    x = restorer.estimate(y)
    farthest = 0
    for offset in range(step * scale):
        i, o = middle(restorer) + offset // scale, middle(restorer) * scale + offset
        (gradient,) = torch.autograd.grad(x[..., o, o].sum(), y, retain_graph=True)
        rows, columns = gradient.abs().sum(dim=(0, 1)).nonzero().T
        reach = max(int((rows - i).abs().max()), int((columns - i).abs().max()))
        assert reach <= radius
        farthest = max(farthest, reach)
    assert farthest == radius


@pytest.mark.parametrize("name", MATRIX)
def test_a_part_from_a_multiple_on_is_restored_as_in_the_whole(name: str) -> None:
    restorer = MATRIX[name]()
    y, scale = images(restorer), restorer.scale
    radius, corner = restorer.receptive_field // 2, 2 * restorer.multiple
    part = restorer(y[..., corner:, corner:])
    whole = restorer(y)[..., scale * corner :, scale * corner :]
    inside = (..., slice(scale * radius, None), slice(scale * radius, None))
    assert part[inside].numel()
    torch.testing.assert_close(part[inside], whole[inside])


def test_a_packed_network_starts_near_the_identity() -> None:
    restorer = FeedForward.Config().build()
    y = images(restorer, 32, 32)
    with torch.no_grad():
        change = float((restorer(y) - y).abs().mean())
    assert 0 < change < 0.03


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_an_upscaler_starts_near_the_aligned_enlargement(scale: int) -> None:
    # A ramp is smooth, so that its enlargement is the ramp whose block averages are shown: no pixel is shifted.
    x = torch.linspace(0.1, 0.9, 24 * scale).expand(1, 3, 24 * scale, -1)
    x = (x + x.mT) / 2
    y = torch.nn.functional.avg_pool2d(x, scale)
    silent, fresh = (
        feed_forward(Upscaler.Config(scale=scale, output_gain=gain)) for gain in (0.0, 0.1)
    )
    inside = (..., slice(3 * scale, -3 * scale), slice(3 * scale, -3 * scale))
    torch.testing.assert_close(silent(y)[inside], x[inside], rtol=0, atol=1e-5)
    with torch.no_grad():
        change = float((fresh(y) - silent(y)).abs().mean())
    assert 0 < change < 0.03


@pytest.mark.parametrize("name", MATRIX)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 2)])
def test_any_size_is_restored(name: str, shape: tuple[int, int]) -> None:
    restorer = MATRIX[name]()
    x = restorer(images(restorer, *shape))
    assert x.shape[-2:] == (shape[0] * restorer.scale, shape[1] * restorer.scale)
    assert x.isfinite().all()


def test_other_channels_are_refused() -> None:
    restorer = MATRIX["grey"]()
    with pytest.raises(
        ValueError, match=r"shape \(1, 3, 4, 4\); this restorer takes \(B, 1, H, W\)"
    ):
        restorer(torch.zeros(1, 3, 4, 4))


def test_keeping_depends_on_one_pixel() -> None:
    y = torch.rand(2, 3, 4, 5)
    assert torch.equal(Keep()(y), y)
    assert Keep().receptive_field == 1


@pytest.mark.parametrize("name", MATRIX)
def test_a_loaded_restorer_restores_as_the_saved_one(name: str, tmp_path: Path) -> None:
    restorer = MATRIX[name]()
    folder = artefacts.save(restorer, tmp_path / "restorer")
    again = artefacts.load(folder)
    y = images(restorer, 9, 11)
    assert torch.equal(again(y), restorer(y))
    assert not again.training
    assert json.loads((folder / "config.json").read_text())["part"] == "restorer"
    assert "blemish restore THIS_FOLDER IN OUT" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", RESTORERS)
def test_a_configuration_survives_json(name: str) -> None:
    config = RESTORERS[name]()
    assert decode(json.loads(json.dumps(encode(config))), KINDS) == config
