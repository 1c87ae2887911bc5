"""Codes in numbers: which entries vary, what moving them does, closed forms of the facts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from blemish.degradations import (
    ContrastParams,
    Degradation,
    Imaging,
    UniversalDegradation,
    UniversalParams,
    pack_code,
)
from blemish.evaluation.codes import (
    ACTIVE,
    FACTS,
    STEPS,
    Entries,
    change,
    fact_spread,
    measure_facts,
    moved,
    read_entries,
    spans,
    tau,
    traverse,
)
from blemish.evaluation.specimen import specimen
from blemish.functional.jpeg import jpeg
from blemish.functional.random import generator_for, randn
from blemish.networks import Redegrader

DAMAGE = Imaging(Imaging.Config(strength=0.25, local=0.5))


def make_model(*, std: float = 0.3, local: int = 2, bend: float = 0.0) -> UniversalDegradation:
    """Returns a small random model; ``std`` is that of the last layer, ``bend`` makes its embeddings vary."""
    network = Redegrader.Config(
        widths=(4, 6), blocks=(1, 1), condition=4, embedding=6, local=local, ratio=4
    )
    config = UniversalDegradation.Config(redegrader=network, width=4, kernel=5, norm=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        d = config.build()
        nn.init.normal_(d.redegrader.last.weight, std=std)
        if bend:
            nn.init.normal_(d.global_encoder.tail[-1].weight, std=bend)
    return d.eval()


class _OneEntry(nn.Module):
    """An encoder whose third entry alone says something: ten times the mean light."""

    def forward(self, y: Tensor) -> Tensor:
        e = torch.full((len(y), 6), 0.1)
        e[:, 2] = 20 * y.mean(dim=(1, 2, 3))
        return e


def _contents(n: int) -> Tensor:
    return torch.cat([specimen(3, 32, 32, seed=seed) for seed in range(n)])


def _code(model: UniversalDegradation, x: Tensor) -> UniversalParams:
    return model.encode(x, generator=generator_for("n"))


def test_the_entry_that_varies_is_the_active_one() -> None:
    model = make_model()
    model.global_encoder, model.head = _OneEntry(), nn.Sequential()  # type: ignore[assignment]
    found = read_entries(model, DAMAGE, _contents(6), seed=0)
    assert found.active == [2]
    assert found.order == [2, 0, 1, 3, 4, 5]
    assert found.idle == [0, 1, 3, 4, 5]
    steps = found.codes - model.global_density.medians()
    assert_close(steps, steps.round(), atol=1e-5, rtol=0)
    mean = found.codes.double().mean(dim=0)
    assert_close(
        found.std[2].double(), (found.codes[:, 2].double() - mean[2]).square().mean().sqrt()
    )
    assert found.std[[0, 1, 3, 4, 5]].max() < 1e-6 < ACTIVE


@pytest.mark.parametrize("local", [0, 2])
def test_prices_are_those_of_the_model_whatever_the_batch(local: int) -> None:
    model, x = make_model(local=local, bend=5.0), _contents(4)
    found, singly = (read_entries(model, DAMAGE, x, seed=3, batch=b) for b in (3, 1))
    assert_close(found.codes, singly.codes)
    assert_close(found.bits_l, singly.bits_l)
    plain = model.plain_map((4, 3, 32, 32))
    params = UniversalParams(found.codes, plain, torch.zeros(4, 0))
    assert_close(found.bits.sum(dim=1), model.bits(params)[0])
    assert (found.bits_l == 0).all() == (local == 0)
    assert (found.bytes_l > 0).all() == (local > 0)
    # A file holds little besides its parts, and an embedding takes what it costs and some bytes more.
    assert (
        (found.bytes_all - found.bytes_g - found.bytes_l)
        == found.bytes_all[0] - found.bytes_g[0] - found.bytes_l[0]
    ).all()
    assert (8 * found.bytes_g >= found.bits.sum(dim=1).floor()).all()
    head = len(pack_code(model, params[:1], (32, 32)))
    assert head >= found.bytes_all[0] - found.bytes_l[0]


def test_who_ignores_the_code_does_nothing() -> None:
    model, x = make_model(std=0.0), _contents(1)
    code = _code(model, x)
    found = traverse(model, x, code, 1, 2.0)
    assert torch.equal(found.change, torch.zeros(len(STEPS)))
    assert set(spans(found.facts, dict.fromkeys(FACTS, 1.0)).values()) == {0.0}
    assert all(tau(values) == 0 for values in found.facts.values())
    assert change(model, x, code, 1, 2.0) == 0


def test_an_entry_is_moved_by_its_deviations_before_the_tail() -> None:
    model, x = make_model(), _contents(1)
    code = _code(model, x)
    found = traverse(model, x, code, 4, 2.5)
    for k, image in zip(STEPS, found.images, strict=True):
        e_g = code.e_g.clone()
        e_g[0, 4] += 2.5 * k
        expected = model(x, UniversalParams(e_g, code.e_l, code.noise)).clamp(0, 1)
        assert_close(image[None], expected, atol=0.51 / 255, rtol=0)
    assert found.change[3] == 0
    assert found.change[0] > 0.001
    assert_close(found.change[6], (found.images[6] - found.images[3]).abs().mean())


def test_an_idle_entry_is_moved_by_half_a_step_at_least() -> None:
    model, x = make_model(), _contents(1)
    code = _code(model, x)
    for std, far in ((0.0, 0.5), (0.2, 0.6)):
        low, middle, high = moved(model, x, code, 0, torch.tensor([-far, 0.0, far]))
        expected = max(float((side - middle).abs().mean()) for side in (low, high))
        assert change(model, x, code, 0, std) == pytest.approx(expected)
        assert expected > 0


@pytest.mark.parametrize("slope", [0.3, 0.8])
def test_contrast_is_the_slope(slope: float) -> None:
    x = specimen(3, 64, 64)
    found = measure_facts(0.5 + slope * (x - 0.5), x)
    assert found["contrast"].item() == pytest.approx(slope, abs=0.005)
    assert measure_facts(x, x)["contrast"].item() == pytest.approx(1, abs=1e-3)


def test_facts_tell_noise_blur_and_blocks() -> None:
    x = specimen(3, 96, 96, seed=0)
    y = torch.nn.functional.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False)
    noisy = 0.25 + 0.5 * x + 0.08 * randn(x.shape, generator_for("noise"))
    coarse = jpeg(x, torch.tensor([15.0]))
    clean, blurred, noise, blocks = (measure_facts(image, x) for image in (x, y, noisy, coarse))
    # The weights of the luma have the length 0.67.
    assert noise["noise"].item() == pytest.approx(0.67 * 0.08, rel=0.1)
    assert clean["noise"] < 0.01
    assert blurred["blur"] > clean["blur"] + 0.5
    assert blocks["grid"] > clean["grid"] + 0.3
    assert set(clean) == set(FACTS)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, 4.0, 8.0], 1.0),
        ([3.0, 2.0, 1.0], -1.0),
        ([2.0, 2.0, 2.0], 0.0),
        ([1.0, math.nan, 2.0], 1.0),
        ([1.0, 2.0, 0.0], -1 / 3),
        ([math.nan, 1.0], 0.0),
    ],
)
def test_tau_is_the_balance_of_pairs(values: list[float], expected: float) -> None:
    assert tau(torch.tensor(values)) == pytest.approx(expected)
    known = [v for v in values if not math.isnan(v)]
    pairs = [(b > a) - (b < a) for a, b in itertools.combinations(known, 2)]
    assert expected == pytest.approx(sum(pairs) / max(1, len(pairs)))


def test_ranges_are_in_units_of_what_damage_does() -> None:
    facts = {"noise": torch.tensor([0.1, 0.4, math.nan]), "blur": torch.tensor([1.0, 3.0])}
    found = spans(facts, {"noise": 0.1, "blur": 0.0})
    assert found["noise"] == pytest.approx(3)
    assert math.isnan(found["blur"])


class _Dimmer(Degradation[ContrastParams]):
    """Divides the contrast by two in every other sample."""

    def sample(self, shape, *, generator):  # type: ignore[no-untyped-def]
        gain = torch.tensor([1.0, 0.5]).repeat(shape[0])[: shape[0]]
        return ContrastParams(gain, torch.zeros_like(gain))

    def forward(self, x, params):  # type: ignore[no-untyped-def]
        return 0.5 + params.gain.view(-1, 1, 1, 1) * (x - 0.5)


def test_the_spread_of_facts_is_that_over_damage() -> None:
    found = fact_spread(_Dimmer(), specimen(3, 64, 64), seed=0)
    assert found["contrast"] == pytest.approx(0.25, abs=0.005)


def test_of_many_entries_the_most_varying_come_first() -> None:
    codes = torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.25], [0.0, 1.0, 0.0], [0.0, -1.0, 0.25]])
    e = Entries(codes, codes, *torch.zeros(4, 4))
    assert_close(e.std, torch.tensor([0.0, 1.0, 0.125]))
    assert (e.order, e.active, e.idle) == ([1, 2, 0], [1], [2, 0])
