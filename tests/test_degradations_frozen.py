"""Frozen copies depend on (seed, index) alone; transforms fit somebody else's data loader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset

from blemish.data import MemorySource
from blemish.degradations import (
    Blur,
    Degradation,
    DiskLaw,
    FrozenSource,
    GaussianNoise,
    Identity,
    LearnedBlur,
    as_transform,
    batch_for,
    degrade_batch,
    freeze,
    setting,
    to_uint8,
)
from blemish.functional.random import generator_for, rand


def _images(n: int = 7, channels: int = 3) -> Tensor:
    return to_uint8(rand((n, channels, 16, 16), generator_for("frozen")))


# Frozen copies


def test_rounding_to_bytes_goes_to_the_nearest_and_clips() -> None:
    levels = torch.arange(256).to(torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 255), levels)
    values = torch.tensor([-0.3, 0.4 / 255, 0.6 / 255, 1.7])
    assert to_uint8(values).tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("name", ["A", "N", "Q"])
def test_a_frozen_copy_does_not_depend_on_the_batch_size(name: str) -> None:
    d, images = setting(name), _images()
    copies = [freeze(d, images, seed=3, batch=batch) for batch in (1, 3, None)]
    assert copies[0].dtype == torch.uint8
    assert torch.equal(copies[0], copies[1])
    assert torch.equal(copies[0], copies[2])


@pytest.mark.parametrize("name", ["C", "N", "ffhq/C"])
def test_long_random_paths_do_not_depend_on_the_batch_size(name: str) -> None:
    # In float32 about one image in fifty would differ by a byte.
    images = to_uint8(rand((200, 3, 64, 64), generator_for("paths")))
    copies = [freeze(setting(name), images, seed=3, batch=batch) for batch in (200, 7)]
    assert torch.equal(copies[0], copies[1])


@pytest.mark.parametrize(
    ("size", "batch"),
    [((32, 32), 500), ((128, 128), 64), ((512, 1024), 2), ((4000, 6000), 1)],
)
def test_large_images_are_damaged_in_small_batches(size: tuple[int, int], batch: int) -> None:
    assert batch_for(size) == batch


def test_a_frozen_copy_is_each_image_with_its_own_randomness() -> None:
    d, images = setting("N"), _images()
    frozen = freeze(d, images, seed=3)
    for i in (5, 0, 6):
        y, params = degrade_batch(d, images[i : i + 1], [i], seed=3)
        assert torch.equal(y, frozen[i : i + 1])
        assert len(params) == 1
    mixed, _ = degrade_batch(d, images[[4, 2]], [4, 2], seed=3)
    assert torch.equal(mixed, frozen[[4, 2]])


def test_copies_differ_with_their_seed_and_repeat_with_it() -> None:
    d, images = GaussianNoise((0.1, 0.1)), _images()
    first = freeze(d, images, seed=0)
    assert torch.equal(first, freeze(d, images, seed=0))
    assert not torch.equal(first, freeze(d, images, seed=1))
    # Equal images with different indices are damaged differently.
    same = freeze(d, images[:1].expand(2, -1, -1, -1), seed=0)
    assert not torch.equal(same[0], same[1])


def test_an_identity_freezes_to_the_same_bytes() -> None:
    images = _images(channels=1)
    assert torch.equal(freeze(Identity(), images, seed=0), images)


def test_returned_parameters_replay_the_damage() -> None:
    d, images = setting("D"), _images()
    y, params = degrade_batch(d, images, range(7), seed=1)
    assert torch.equal(to_uint8(d(images.float() / 255, params)), y)


def test_progress_sees_every_batch() -> None:
    seen: list[int] = []

    def watch(batches: Iterator[int]) -> Iterator[int]:
        for start in batches:
            seen.append(start)
            yield start

    freeze(Identity(), _images(), seed=0, batch=3, progress=watch)
    assert seen == [0, 3, 6]


def test_a_frozen_copy_of_a_learned_degradation_carries_no_gradient() -> None:
    y, params = degrade_batch(LearnedBlur.Config(latent=4).build(), _images(), range(7), seed=0)
    assert not any(t.requires_grad for t in (y, *params.tensors().values()))


# Frozen sources


def test_a_frozen_source_reads_what_a_frozen_copy_holds() -> None:
    d, images = setting("N"), _images()
    clean = MemorySource(images, title="squares", names="sq", labels=range(7))
    source, copy = FrozenSource(clean, d, seed=3), freeze(d, images, seed=3)
    for index in (6, 0, 6):
        assert torch.equal(source.read(index), copy[index])
        assert (source.name(index), source.label(index)) == (f"sq/00000{index}", index)
    assert (len(source), source.channels, source.size) == (7, 3, (16, 16))
    expected = "squares, degraded with seed 3: 7 RGB images, 16x16 (height x width)"
    assert source.describe() == expected


def test_a_frozen_source_keeps_sizes_that_differ() -> None:
    clean = MemorySource([_images(1)[0], _images(1)[0, :, :9]], title="cut", names="cut")
    source = FrozenSource(clean, NOISE, seed=0)
    assert [source.read(i).shape for i in range(2)] == [(3, 16, 16), (3, 9, 16)]


# Transforms


NOISE = GaussianNoise((0.1, 0.1))


@pytest.mark.parametrize("shape", [(3, 9, 12), (1, 9, 12), (2, 3, 9, 12)])
def test_a_transform_keeps_shapes_and_types_of_tensors(shape: tuple[int, ...]) -> None:
    transform = as_transform(NOISE, seed=0)
    x = torch.full(shape, 0.5)
    y = transform(x)
    assert (y.shape, y.dtype) == (x.shape, torch.float32)
    assert_close((y - x).std().item(), 0.1, rtol=0.3, atol=0)
    as_bytes = transform(to_uint8(x))
    assert (as_bytes.shape, as_bytes.dtype) == (x.shape, torch.uint8)
    assert not torch.equal(as_bytes, to_uint8(x))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transform_keeps_pictures_pictures(mode: str) -> None:
    size = (12, 9)
    picture = Image.new(mode, size, 128 if mode == "L" else (10, 128, 250))
    same = as_transform(Identity())(picture)
    assert (same.mode, same.size) == (mode, size)
    assert np.array_equal(np.array(same), np.array(picture))
    damaged = as_transform(NOISE, seed=0)(picture)
    assert (damaged.mode, damaged.size) == (mode, size)
    assert not np.array_equal(np.array(damaged), np.array(picture))


def test_bytes_tensors_and_pictures_get_the_same_damage() -> None:
    x = _images(1)[0]
    picture = Image.fromarray(x.permute(1, 2, 0).numpy())
    as_bytes = as_transform(setting("N"), seed=4)(x)
    as_picture = as_transform(setting("N"), seed=4)(picture)
    as_floats = as_transform(setting("N"), seed=4)(x.float() / 255)
    assert np.array_equal(as_bytes.permute(1, 2, 0).numpy(), np.array(as_picture))
    assert torch.equal(as_bytes, to_uint8(as_floats))


def test_calls_differ_and_a_seed_repeats_them() -> None:
    x = torch.full((1, 8, 8), 0.5)
    first, second = as_transform(NOISE, seed=1), as_transform(NOISE, seed=1)
    calls = [first(x) for _ in range(3)]
    assert not torch.equal(calls[0], calls[1])
    assert all(torch.equal(call, second(x)) for call in calls)
    assert not torch.equal(calls[0], as_transform(NOISE, seed=2)(x))


def test_without_a_seed_torchs_own_decides() -> None:
    x = torch.full((1, 8, 8), 0.5)
    damaged = []
    with torch.random.fork_rng():
        for seed in (5, 5, 6):
            torch.manual_seed(seed)
            transform = as_transform(NOISE)
            damaged.append(torch.stack([transform(x), transform(x)]))
    assert torch.equal(damaged[0], damaged[1])
    assert not torch.equal(damaged[0], damaged[2])


class _Grey(Dataset[Tensor]):
    """Eight grey images, damaged as they are read."""

    def __init__(self, degradation: Degradation[Any], seed: int | None) -> None:
        self.transform = as_transform(degradation, seed=seed)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.transform(torch.full((1, 4, 4), 0.5))
        return image


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("used", [False, True])
def test_workers_and_epochs_differ_and_a_seeded_loader_repeats(
    seed: int | None, *, used: bool
) -> None:
    runs = []
    for _ in range(2):
        data = _Grey(NOISE, seed)
        if used:
            # Whoever looks at an image first must not give all workers one stream.
            data[0]
        loader = DataLoader(data, num_workers=2, generator=torch.Generator().manual_seed(0))
        runs.append(torch.cat([torch.cat(list(loader)) for _ in range(2)]))
    images = runs[0].flatten(1)
    assert len(torch.unique(images, dim=0)) == 16
    assert (seed is None and used) or torch.equal(runs[0], runs[1])


def test_a_transform_draws_no_gradient() -> None:
    x = torch.full((1, 8, 8), 0.5, requires_grad=True)
    assert not as_transform(Blur(DiskLaw()), seed=0)(x).requires_grad


@pytest.mark.parametrize(
    ("image", "error", "text"),
    [
        (np.zeros((3, 8, 8)), TypeError, "got ndarray"),
        (torch.full((1, 8, 8), 1.5), ValueError, r"values lie in \[1.5, 1.5\]"),
        (torch.full((1, 8, 8), -0.1), ValueError, r"images in \[0, 1\]"),
        (torch.zeros(8, 8), ValueError, r"shape \(8, 8\)"),
        (torch.zeros(1, 8, 8, dtype=torch.int64), TypeError, "int64"),
        (Image.new("P", (8, 8)), TypeError, "mode 'P'"),
        (Image.new("RGBA", (8, 8)), TypeError, "convert the image to L or RGB"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        as_transform(NOISE, seed=0)(image)
