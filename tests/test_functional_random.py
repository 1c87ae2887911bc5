import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from blemish.functional.random import (
    Shard,
    device_of,
    generator_for,
    generators_for,
    rand,
    randn,
    stable_hash,
    uniform,
    weighted,
    whole,
)

DRAWS = [
    rand,
    randn,
    lambda shape, g: uniform(shape, 2.0, 3.0, g),
    lambda shape, g: whole(shape, -(10**6), 10**6, g),
    lambda shape, g: weighted(shape, (1.0,) * 10**5, g),
]


def exactly(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def test_hash_is_the_same_on_every_machine() -> None:
    # Written down: frozen copies on disk depend on these numbers.
    assert stable_hash(0) == 6711488920161924273
    assert stable_hash("bank", 0, -1) == 1174877965784734780


def test_hash_tells_its_parts_apart() -> None:
    parts = [
        (),
        (0,),
        ("0",),
        (0, 0),
        (1, 0),
        (0, 1),
        (10,),
        (1, "0"),
        ("1", 0),
        ("ab",),
        ("a", "b"),
    ]
    parts += [(i, j) for i in range(2, 40) for j in range(40)]
    values = [stable_hash(*p) for p in parts]
    assert len(set(values)) == len(parts)
    assert all(0 <= v < 2**63 for v in values)


def test_hash_takes_numbers_from_arrays_as_the_integers_they_are() -> None:
    assert stable_hash(np.int64(5), torch.tensor(7).item()) == stable_hash(5, 7)
    with pytest.raises(TypeError, match="integer"):
        stable_hash(0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 3, 8, 8)])
def test_a_row_does_not_depend_on_its_batch(draw, shape: tuple[int, ...]) -> None:
    batch = draw(shape, generators_for(7, range(5)))
    for rows in ([0], [3], [4, 1], [2, 2, 0]):
        some = draw((len(rows), *shape[1:]), generators_for(7, rows))
        assert exactly(some, batch[rows])


@pytest.mark.parametrize("draw", DRAWS)
def test_seeds_and_indices_give_other_numbers(draw) -> None:
    rows = torch.cat([draw((10, 20), generators_for(seed, range(10))) for seed in (0, 1)])
    assert torch.cdist(rows, rows).fill_diagonal_(math.inf).min() > 0.1


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("world", [1, 2, 4])
def test_shards_are_the_rows_of_one_draw(draw, world: int) -> None:
    whole = draw((8, 3, 4), generator_for(1))
    generators = [generator_for(1) for _ in range(world)]
    parts = [draw((8 // world, 3, 4), Shard(g, i, world)) for i, g in enumerate(generators)]
    assert exactly(torch.cat(parts), whole)
    # All processes stay in step.
    states = {tuple(g.get_state().tolist()) for g in generators}
    assert len(states) == 1


@pytest.mark.parametrize("draw", DRAWS)
def test_a_stream_goes_on(draw) -> None:
    g = generator_for(0)
    first, second = draw((4, 2), g), draw((4, 2), g)
    assert not torch.equal(first, second)
    assert exactly(draw((4, 2), generator_for(0)), first)


def test_draws_have_their_distributions() -> None:
    u, n = rand((100_000,), generator_for(0)), randn((100_000,), generator_for(1))
    assert_close(torch.stack([u.mean(), u.var()]), torch.tensor([1 / 2, 1 / 12]), rtol=0, atol=5e-3)
    assert_close(torch.stack([n.mean(), n.var()]), torch.tensor([0.0, 1.0]), rtol=0, atol=2e-2)
    v = uniform((100_000,), -2.0, 6.0, generator_for(2))
    assert_close(v.aminmax().min, torch.tensor(-2.0), rtol=0, atol=1e-3)
    assert_close(v.aminmax().max, torch.tensor(6.0), rtol=0, atol=1e-3)
    assert_close(v.mean(), torch.tensor(2.0), rtol=0, atol=5e-2)


def test_uniform_never_reaches_its_upper_end(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = torch.full((3,), 1 - 2**-24)
    monkeypatch.setattr("blemish.functional.random.rand", lambda shape, g: largest)
    assert 60 + 41 * float(largest[0]) < 101
    assert torch.equal(60 + 41 * largest, torch.full((3,), 101.0))  # what rounding would do
    assert (uniform((3,), 60, 101, generator_for(0)) < 101).all()
    assert_close(uniform((3,), 2.0, 2.0, generator_for(0)), torch.full((3,), 2.0))


def test_whole_numbers_are_equally_likely() -> None:
    values, counts = whole((6000,), 3, 8, generator_for(0)).unique(return_counts=True)
    assert values.tolist() == [3, 4, 5, 6, 7, 8]
    assert (counts - 1000).abs().max() < 5 * math.sqrt(6000 * 5 / 36)
    assert_close(whole((3,), 4, 4, generator_for(0)), torch.full((3,), 4.0))


def test_weights_are_probabilities() -> None:
    weights = torch.tensor([3.0, 0.0, 1.0, 4.0])
    counts = weighted((8000,), weights.tolist(), generator_for(0)).long().bincount(minlength=4)
    assert counts[1] == 0
    assert (counts - 1000 * weights).abs().max() < 5 * math.sqrt(8000 / 4)
    assert_close(weighted((3,), [0.5], generator_for(0)), torch.zeros(3))


def test_draws_are_single_precision_whatever_the_default(default_double: None) -> None:
    for source in (generator_for(0), generators_for(0, range(2)), Shard(generator_for(0), 0, 2)):
        assert rand((2, 3), source).dtype == torch.float32


@pytest.fixture
def default_double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_no_samples_can_be_drawn() -> None:
    assert rand((0, 3), []).shape == (0, 3)
    assert rand((0, 3), generator_for(0)).shape == (0, 3)


def test_says_how_many_generators_are_needed() -> None:
    with pytest.raises(ValueError, match="got 2 generators for a batch of 3"):
        rand((3, 4), generators_for(0, range(2)))


def test_device_of_each_kind_of_source() -> None:
    g = generator_for(0)
    assert device_of(g) == device_of([g, g]) == device_of(Shard(g, 0, 2)) == torch.device("cpu")
