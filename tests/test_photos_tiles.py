"""Tiles: put together, they are what the whole would be."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.functional.random import generator_for, rand
from blemish.networks import PackedTranslator, Translator
from blemish.photos import LEAST_TILE, NotEnoughMemory, deviation, restore_tiled, tiling
from blemish.restorers import Deblock, FeedForward, Keep, Restorer

SIZES = [(1, 1), (17, 3), (101, 67), (97, 131), (500, 500), (64, 257)]


@dataclass
class Box:
    """The mean of a square, of pixels outside of the picture too, which are 0; then blocks and enlargement.

    With blocks, each pixel gets the mean of its block of ``multiple`` pixels, counted from the corner.
    """

    radius: int
    multiple: int = 1
    scale: int = 1
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def receptive_field(self) -> int | None:
        return 2 * (self.radius + self.multiple - 1) + 1

    def __call__(self, y: Tensor) -> Tensor:
        self.shapes.append(tuple(y.shape))
        side, m = 2 * self.radius + 1, self.multiple
        x = F.avg_pool2d(y, side, stride=1, padding=self.radius)
        height, width = y.shape[-2:]
        x = F.avg_pool2d(x, m, ceil_mode=True, count_include_pad=False)
        x = x.repeat_interleave(m, -1).repeat_interleave(m, -2)[..., :height, :width]
        return x.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


def network(config: Any) -> FeedForward:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FeedForward.Config(network=config).build().eval()


MATRIX: dict[str, Callable[[], Restorer]] = {
    "keep": Keep,
    "box": lambda: Box(7),
    "blocks": lambda: Box(2, multiple=3),
    "enlarged": lambda: Box(3, scale=2),
    "enlarged blocks": lambda: Box(2, multiple=2, scale=3),
    "translator": lambda: network(Translator.Config(channels=4, blocks=1)),
    "packed": lambda: network(PackedTranslator.Config(channels=4, blocks=1)),
    "packed-3": lambda: network(PackedTranslator.Config(channels=4, blocks=1, factor=3)),
}


def picture(height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    y = rand((1, 3, height, width), generator_for("tiles", height, width))
    peak = {torch.uint8: 255, torch.uint16: 65535}.get(dtype)
    return y if peak is None else (y * peak).round().to(dtype)


def whole(restorer: Restorer, y: Tensor) -> Tensor:
    with torch.no_grad():
        return restorer(y)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", MATRIX)
def test_tiled_is_untiled(name: str, size: tuple[int, int]) -> None:
    restorer, y = MATRIX[name](), picture(*size)
    assert tiling(restorer, 72).exact
    x = restore_tiled(restorer, y, tile=72)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, whole(restorer, y), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dtype", "peak"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_levels_are_the_nearest_to_the_estimate(dtype: torch.dtype, peak: int) -> None:
    y = picture(90, 41, dtype)
    x = restore_tiled(Box(3), y, tile=32)
    assert x.dtype == dtype
    expected = peak * whole(Box(3), y.float() / peak)
    assert float((x.float() - expected).abs().max()) <= 0.5 + 1e-2
    assert torch.equal(restore_tiled(Keep(), y, tile=32).int(), y.int())


def test_a_large_photograph_is_restored_as_untiled() -> None:
    y = torch.empty(1, 3, 3000, 4000, dtype=torch.uint8).random_(generator=generator_for("large"))
    restorer = network(PackedTranslator.Config(channels=1, blocks=1, factor=4, output_gain=1.0))
    x = restore_tiled(restorer, y)
    difference = whole(restorer, y.float().div_(255)).mul_(255).sub_(x).abs_()
    assert float(difference.max()) <= 0.51
    assert float((x[..., ::9, ::9].float() - y[..., ::9, ::9]).abs().mean()) > 1


@pytest.mark.parametrize("tile", [24, 40, 64])
@pytest.mark.parametrize("name", MATRIX)
@pytest.mark.parametrize("length", [1, 25, 63, 64, 65, 100, 331])
def test_shares_of_tiles_add_up_to_one(name: str, tile: int, length: int) -> None:
    restorer = MATRIX[name]()
    cut, total = tiling(restorer, tile), torch.zeros(length * restorer.scale)
    parts = cut.parts(length)
    for part in parts:
        assert part.start % restorer.multiple == 0
        assert part.stop - part.start <= max(tile, 2 * restorer.multiple)
        s = restorer.scale
        total[s * part.left : s * part.right] += part.weights(s)
    torch.testing.assert_close(total, torch.ones_like(total))
    assert all(a.after == b.before for a, b in itertools.pairwise(parts))


@pytest.mark.parametrize("scale", [1, 2])
def test_tiles_that_overlap_too_little_fade_into_one_another(scale: int) -> None:
    # Each call adds another constant: in the middle between two tiles both count a half, and nothing jumps.
    calls: list[int] = []

    @dataclass
    class Counting(Box):
        def __call__(self, y: Tensor) -> Tensor:
            calls.append(len(calls))
            x = super().__call__(torch.zeros_like(y))
            return x + 0.1 * len(calls)

    restorer = Counting(1000, scale=scale)
    cut = tiling(restorer, 64)
    assert (cut.overlap, cut.step, cut.exact) == (16, 32, False)
    x = restore_tiled(restorer, picture(40, 96), tile=64)
    assert len(calls) == 3
    values, width = x[0, 0, 0], 32 * scale
    # The tiles' shares are [0, 48), [16, 80) and [48, 96).
    assert values[: width // 2] == pytest.approx(torch.full((width // 2,), 0.1))
    middle = values[width - 1 : width + 1].mean()
    assert middle == pytest.approx(0.15)
    assert float(values.diff().abs().max()) == pytest.approx(0.1 / width, rel=1e-3)


def test_a_restorer_that_sees_far_deviates_by_what_is_measured() -> None:
    y = picture(130, 150)
    near, far = Box(6), Box(40)
    size = (128, 128)
    assert deviation(near, y, tile=64) == (pytest.approx(0, abs=1e-6), size)
    found = deviation(far, y, tile=64)
    assert found is not None
    middle = y[..., 1:129, 11:139]
    direct = restore_tiled(far, middle, tile=64) - whole(far, middle)
    assert found == (pytest.approx(float(direct.abs().max()), rel=1e-4), size)
    assert found[0] > 1e-3


def test_only_tiles_reach_the_restorer() -> None:
    restorer = Box(5)
    restore_tiled(restorer, picture(300, 200), tile=48)
    assert max(max(shape[-2:]) for shape in restorer.shapes) <= 48
    assert all(shape[:2] == (1, 3) for shape in restorer.shapes)


def test_without_a_receptive_field_the_whole_is_restored_at_once() -> None:
    y = picture(90, 70)
    assert torch.equal(restore_tiled(Deblock(30), y, tile=32), whole(Deblock(30), y))


@dataclass
class Hungry(Box):
    """Has memory for so many pixels."""

    room: int = 0
    error: type[Exception] = MemoryError
    text: str = ""

    def __call__(self, y: Tensor) -> Tensor:
        if y.shape[-1] * y.shape[-2] > self.room:
            raise self.error(self.text)
        return super().__call__(y)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError, ""),
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 3 GiB"),
        (RuntimeError, "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        (RuntimeError, "MPS backend out of memory"),
    ],
)
def test_tiles_are_halved_when_memory_runs_out(error: type[Exception], text: str) -> None:
    y, told = picture(300, 280), []
    done: list[tuple[int, int]] = []
    hungry = Hungry(5, room=80 * 80, error=error, text=text)
    x = restore_tiled(hungry, y, tile=1000, smaller=told.append, progress=lambda *n: done.append(n))
    assert told == [75]
    assert done[-1][0] == done[-1][1] == len(done)
    torch.testing.assert_close(x, whole(Box(5), y), rtol=0, atol=1e-5)


def test_no_memory_at_all_is_said() -> None:
    with pytest.raises(NotEnoughMemory, match=f"280x300 pixels, even in tiles of {LEAST_TILE}"):
        restore_tiled(Hungry(5, room=99), picture(300, 280))
    assert deviation(Hungry(5, room=99), picture(300, 280)) is None

    class Whole(Hungry):
        receptive_field = None

    with pytest.raises(NotEnoughMemory, match="280x300 pixels, which this restorer needs whole"):
        restore_tiled(Whole(5, room=99), picture(300, 280))


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    with pytest.raises(RuntimeError, match="a mistake"):
        restore_tiled(Hungry(5, error=RuntimeError, text="a mistake"), picture(9, 9))


def test_values_that_are_no_numbers_are_refused() -> None:
    y = picture(8, 8)
    y[0, 0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="no numbers"):
        restore_tiled(Keep(), y)


@pytest.mark.parametrize(
    "y",
    [
        torch.zeros(3, 4, 4),
        torch.zeros(2, 3, 4, 4),
        torch.zeros(1, 3, 4, 4).int(),
        torch.zeros(1, 3, 0, 4),
    ],
    ids=["rank", "batch", "dtype", "empty"],
)
def test_other_tensors_are_refused(y: Tensor) -> None:
    with pytest.raises(ValueError, match=r"give one picture \(1, C, H, W\)"):
        restore_tiled(Keep(), y)


def test_a_tile_has_a_pixel() -> None:
    with pytest.raises(ValueError, match="tile=0"):
        restore_tiled(Keep(), picture(4, 4), tile=0)
