"""How transfer is judged: anchors, the model that does nothing, probes of linear facts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.degradations import GaussianNoise, Imaging, UniversalDegradation, renewed
from blemish.evaluation.transfer import (
    SCORES,
    judge_mixed,
    judge_transfer,
    probe,
    randomness,
    ratio,
)
from blemish.functional.random import generator_for, generators_for, rand, randn, stable_hash
from blemish.functional.stages import to_8_bits
from blemish.losses import texture_distance
from blemish.networks import Redegrader

DAMAGE = Imaging.Config(strength=0.25, local=0.5)


def _model(*, idle: bool) -> UniversalDegradation:
    network = Redegrader.Config(
        widths=(4, 6), blocks=(1, 1), condition=4, embedding=5, local=2, ratio=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        d = UniversalDegradation.Config(redegrader=network, width=4, kernel=5, norm=False).build()
    torch.nn.init.normal_(d.redegrader.last.weight, std=0.0 if idle else 0.2)
    return d.eval()


def _contents(name: str, n: int = 10) -> Tensor:
    small = rand((n, 3, 8, 8), generator_for(name))
    return torch.nn.functional.interpolate(small, scale_factor=4, mode="bilinear")


def test_who_does_nothing_has_no_skill() -> None:
    t = judge_transfer(_model(idle=True), DAMAGE.build(), _contents("b"), _contents("a"), seed=0)
    assert t.scores.keys() == set(SCORES)
    assert_close(t.scores["reproduction"], t.scores["identity"])
    assert t.skill == pytest.approx(0, abs=1e-6)
    assert t.swap == pytest.approx(0, abs=1e-6)
    # Another content is as far from its damaged image on average only.
    assert t.transferred == pytest.approx(-t.gap / t.span, abs=1e-6)
    assert 0 < t.mean("oracle") < min(t.mean("identity"), t.mean("random"))
    assert t.codes.shape == (10, 5)
    assert t.drawn["jpeg_quality"].shape == (10,)


def test_scores_are_their_formulas_and_do_not_depend_on_the_batch() -> None:
    model, damage = _model(idle=False), DAMAGE.build()
    x, other = _contents("b"), _contents("a")
    whole = judge_transfer(model, damage, x, other, seed=5)
    parts = judge_transfer(model, damage, x, other, seed=5, batch=10)
    assert_close(whole.scores, parts.scores)
    small = judge_transfer(model, damage, x[:4], other[:4], seed=5, batch=4)
    assert_close(small.scores["transfer"], whole.scores["transfer"][:4], rtol=1e-3, atol=1e-4)
    # The distance of the clean image to what befell it.
    theta = damage.sample(
        (10, 3, 32, 32), generator=generators_for(stable_hash(5, "damage"), range(10))
    )
    assert_close(
        whole.scores["identity"], texture_distance(to_8_bits(x), to_8_bits(damage(x, theta)))
    )
    assert whole.gap == pytest.approx(whole.mean("transfer") - whole.mean("reproduction"))


def test_without_maps_a_model_says_less() -> None:
    model, damage = _model(idle=False), replace(DAMAGE, local=1.0).build()
    x, other = _contents("b"), _contents("a")
    with_map = judge_transfer(model, damage, x, other, seed=5)
    without = judge_transfer(model, damage, x, other, seed=5, local=False)
    assert torch.equal(with_map.codes, without.codes)
    assert without.bits_l.sum() <= with_map.bits_l.sum()
    assert not torch.equal(with_map.scores["transfer"], without.scores["transfer"])


def test_noise_alone_is_renewed() -> None:
    damage = DAMAGE.build()
    first = damage.sample((3, 3, 32, 32), generator=generator_for("1"))
    second = damage.sample((3, 3, 32, 32), generator=generator_for("2"))
    found, a, b = (p.tensors() for p in (renewed(first, second), first, second))
    changed = {name for name in a if not torch.equal(found[name], a[name])}
    assert changed == {"overall.stages.3.inner.eps"}
    assert all(torch.equal(found[name], b[name]) for name in changed)


def test_randomness_is_the_noise_in_units_of_the_damages() -> None:
    noise = GaussianNoise.Config((0.1, 0.1)).build()
    # Light enough that nothing is clipped.
    x = 0.4 + 0.2 * _contents("b", 6)
    assert randomness(_model(idle=True), noise, x, seed=0) == 0
    model = _model(idle=False)
    model.redegrader.last.weight.data *= 0.1
    one = randomness(model, noise, x, seed=0)
    model.redegrader.last.weight.data *= 2
    # What is added to the image is linear in the last layer; two draws of the noise differ by sqrt(2) sigma.
    assert randomness(model, noise, x, seed=0, batch=4) == pytest.approx(2 * one, rel=1e-3)
    drawn = noise.sample(
        (6, 3, 32, 32), generator=generators_for(stable_hash(0, "damage"), range(6))
    )
    y = to_8_bits(noise(x, drawn))
    code, other = (
        model.encode(y, generator=generators_for(stable_hash(0, n), range(6)))
        for n in ("n", "other n")
    )
    made = (model(x, code) - model(x, other)).square().mean().sqrt().item()
    assert 2 * one == pytest.approx(made / (2**0.5 * 0.1), rel=0.05)


def test_the_mixed_case_has_its_anchors() -> None:
    damage = replace(DAMAGE, local=1.0).build()
    found = judge_mixed(_model(idle=True), damage, _contents("b"), _contents("a"), seed=0, batch=4)
    # An idle model gives the clean image, rounded.
    assert found["model"] == pytest.approx(found["identity"], abs=2e-3)
    assert found["oracle"] < found["identity"]


def test_a_probe_reads_what_is_linear_and_nothing_else() -> None:
    codes = randn((400, 6), generator_for("codes"))
    target = codes @ torch.tensor([1.0, -2.0, 0.0, 0.0, 0.5, 0.0]) + 3
    assert probe(codes, target, ridge=1e-6) > 0.999
    target[::3] = torch.nan
    assert probe(codes, target, ridge=1e-6) > 0.999
    assert probe(codes, randn((400,), generator_for("other"))) < 0.1
    noisy = codes[:, 0] + randn((400,), generator_for("noise"))
    assert probe(codes, noisy) == pytest.approx(0.5, abs=0.12)


def test_equal_images_have_equal_codes() -> None:
    model, y = _model(idle=False), _contents("y")
    with torch.no_grad():
        model.global_encoder.tail[2].weight.mul_(100)
        assert ratio(model, [(y, y)]) == 0
        assert ratio(model, [(y, _contents("z"))]) > 0.1
