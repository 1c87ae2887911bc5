"""The systems of restorers: who is trained by what, and which numbers the losses are made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from blemish.degradations import Chain, GaussianNoise, Identity, LearnedBlur, setting, simulator
from blemish.functional.random import generator_for, rand
from blemish.networks import PackedTranslator, ResNetDiscriminator
from blemish.recipes import RESTORATION, configure
from blemish.restorers import FeedForward
from blemish.systems import UNIR, CycleGAN, Supervised, System

SETTING = {"unir": "J", "cyclegan": "K", "supervised": "J", "synthetic": "J", "restorer": "J"}
PARTS = {
    "unir": {"restorer", "degradation"},
    "cyclegan": {"restorer"},
    "supervised": {"restorer"},
    "synthetic": {"restorer", "degradation"},
    "restorer": {"restorer", "degradation"},
}
TERMS = {
    ("unir", "T"): {"adversarial", "reconstruction", "identity"},
    ("unir", "D"): {"adversarial", "r1"},
    ("cyclegan", "T"): {"adversarial_clean", "adversarial_damaged", "cycle", "identity"},
    ("cyclegan", "D"): {"adversarial_clean", "adversarial_damaged", "r1_clean", "r1_damaged"},
    ("supervised", "T"): {"error"},
    ("synthetic", "T"): {"error"},
    ("restorer", "T"): {"error"},
}
PACKED = FeedForward.Config(network=PackedTranslator.Config(channels=4, blocks=1))
JUDGE = ResNetDiscriminator.Config(down=(4, 4), flat=())


def build(config: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return config.build()


def of_recipe(recipe: str) -> System:
    return build(configure(recipe, "tiny", SETTING[recipe]).system)


def images(n: int = 4, name: str = "observed", side: int = 16) -> Tensor:
    return (rand((n, 3, side, side), generator_for(name)) * 255).round() / 255


def batch_for(system: System) -> Tensor:
    if system.clean is None:
        return images()
    return torch.cat([images(), images(name="clean")], dim=1)


def keeping(restorer: nn.Module) -> None:
    """Makes a packed translator the identity."""
    nn.init.zeros_(restorer.network.last.weight)


def unir(degradation: Any, **changes: Any) -> UNIR:
    config = UNIR.Config(restorer=PACKED, degradation=degradation, discriminator=JUDGE)
    return build(replace(config, **changes))


@pytest.mark.parametrize(("recipe", "phase"), TERMS)
def test_a_turn_moves_its_player_alone(recipe: str, phase: str) -> None:
    system = of_recipe(recipe)
    groups = {p.name: [g.module for g in p.groups] for p in system.phases}[phase]
    for p in system.parameters():
        p.requires_grad_(False)
    for name in groups:
        system.get_submodule(name).requires_grad_(True)
    losses = system.losses(phase, batch_for(system), generator_for("turn"), 0)
    assert set(losses) == TERMS[recipe, phase]
    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for name, p in system.named_parameters():
        if name.partition(".")[0] not in groups:
            assert p.grad is None, name
        elif not name.endswith("linear.bias"):
            assert p.grad is not None, name
            assert p.grad.abs().sum() > 0, name


@pytest.mark.parametrize("recipe", RESTORATION)
def test_every_parameter_is_trained_by_one_player_or_given(recipe: str) -> None:
    system = of_recipe(recipe)
    groups = [g.module for phase in system.phases for g in phase.groups]
    assert len(set(groups)) == len(groups)
    assert {n.partition(".")[0] for n, _ in system.named_parameters()} <= {*groups, *system.given}
    assert set(system.parts) == PARTS[recipe]
    assert system.image_shape == (3, None, None)
    assert 0 < system.ema_decay < 1


def test_the_discriminators_fakes_carry_no_gradient() -> None:
    for recipe in ("unir", "cyclegan"):
        system = of_recipe(recipe)
        losses = system.losses("D", batch_for(system), generator_for("fakes"), 0)
        torch.stack(list(losses.values())).sum().backward()
        assert all(p.grad is None for p in system.restorer.parameters())


# UNIR


def test_what_changes_nothing_costs_nothing() -> None:
    system = unir(Identity.Config())
    keeping(system.restorer)
    losses = system.losses("T", images(), generator_for("nothing"), 1)
    assert max(losses["identity"], losses["reconstruction"]) < 1e-9


def test_the_reconstruction_meets_the_same_noise_again() -> None:
    # T keeps: y = clamp(x + n) and again clamp(y + n), so that the difference is n, on [-1, 1] twice that. Norms are sums.
    sigma = 0.01
    system = unir(Chain([GaussianNoise((sigma, sigma))]).config, reconstruction=3.0, identity=7.0)
    keeping(system.restorer)
    observed = 0.25 + 0.5 * images(side=64)
    losses = system.losses("T", observed, generator_for("noise"), 1)
    assert_close(
        losses["reconstruction"], torch.tensor(3 * 4 * sigma**2 * 3 * 64**2), rtol=0.02, atol=0
    )
    assert losses["identity"] < 1e-9


def test_the_identity_compares_with_the_observed_image() -> None:
    system = unir(Identity.Config(), identity=0.5)
    observed = images()
    losses = system.losses("T", observed, generator_for("identity"), 1)
    change = (2 * (system.restorer.estimate(observed) - observed)).square().sum() / len(observed)
    assert_close(losses["identity"], 0.5 * change)
    # Without damage, what is reconstructed is T(y) by T(T(y)).
    once = system.restorer.estimate(observed)
    again = (2 * (once - system.restorer.estimate(once))).square().sum() / len(observed)
    assert_close(losses["reconstruction"], again)


def test_the_discriminator_judges_what_is_damaged_again() -> None:
    # Eq. 10, which the published code does not follow.
    system = unir(simulator("S").config)
    seen: list[Tensor] = []
    system.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    system.losses("T", images(), generator_for("judged"), 1)
    (judged,) = seen
    estimate = system.restorer.estimate(images())
    params = system.degradation.sample((4, 3, 16, 16), generator=generator_for("judged"))
    assert_close((judged + 1) / 2, system.degradation(estimate, params))
    assert (((judged + 1) / 2) - estimate).abs().max() > 0.05


def test_the_simulator_is_drawn_once_a_turn_without_gradients() -> None:
    system = unir(Chain([LearnedBlur.Config(size=3, latent=4).build()]).config)
    losses = system.losses("T", images(), generator_for("once"), 1)
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None for p in system.degradation.parameters())
    assert all(p.grad is not None for p in system.restorer.parameters())


def test_a_simulator_without_gradients_is_refused() -> None:
    with pytest.raises(ValueError, match="this one has no gradients"):
        unir(setting("J").config)


def test_lazy_penalties_are_weighted_by_their_period() -> None:
    for make in (lambda **c: unir(Identity.Config(), **c), cyclegan):
        plain, lazy = make(r1=2.0), make(r1=2.0, r1_every=4)
        batch = batch_for(plain)
        always = plain.losses("D", batch, generator_for("lazy"), 4)
        rare = lazy.losses("D", batch, generator_for("lazy"), 4)
        for name in always:
            assert_close(rare[name], always[name] * (4 if name.startswith("r1") else 1))
        assert not any(n.startswith("r1") for n in lazy.losses("D", batch, generator_for("x"), 5))
        with pytest.raises(ValueError, match="r1_every=0"):
            make(r1_every=0)


def test_a_flat_discriminator_is_told() -> None:
    system = unir(Identity.Config())
    assert system.strengths() == {}
    nn.init.zeros_(system.discriminator.linear.weight)
    system.losses("D", images(), generator_for("flat"), 0)
    strength = system.strengths()["discriminator_slope"]
    assert strength.value < strength.sane[0]
    assert "gone flat" in strength.beyond
    assert system.strengths() == {}


# CycleGAN


def cyclegan(**changes: Any) -> CycleGAN:
    return build(replace(CycleGAN.Config(restorer=PACKED, discriminator=JUDGE), **changes))


def test_translators_that_keep_go_around_for_nothing() -> None:
    system = cyclegan()
    keeping(system.restorer)
    keeping(system.degrader)
    losses = system.losses("T", batch_for(system), generator_for("keep"), 1)
    assert max(losses["cycle"], losses["identity"]) < 1e-5


def test_cycle_and_identity_are_those_by_hand() -> None:
    system = cyclegan(cycle=3.0, identity=2.0)
    y, x = images(), images(name="clean")
    T, S = system.restorer.estimate, system.degrader.estimate
    losses = system.losses("T", torch.cat([y, x], dim=1), generator_for("hand"), 1)
    cycle = (2 * (S(T(y)) - y)).abs().mean() + (2 * (T(S(x)) - x)).abs().mean()
    same = (2 * (T(x) - x)).abs().mean() + (2 * (S(y) - y)).abs().mean()
    assert_close(losses["cycle"], 3 * cycle)
    assert_close(losses["identity"], 2 * same)
    clean = nn.functional.softplus(-system.judge_clean(2 * T(y) - 1)).mean()
    assert_close(losses["adversarial_clean"], clean)


# Supervised


def test_the_supervised_error_is_the_mean_difference() -> None:
    system = build(Supervised.Config(restorer=PACKED))
    keeping(system.restorer)
    y, x = images(), images(name="clean")
    (error,) = system.losses("T", torch.cat([y, x], dim=1), generator_for("pairs"), 0).values()
    assert_close(error, (x - y).abs().mean())


def test_pairs_teach_to_undo_a_darkening() -> None:
    system = build(Supervised.Config(restorer=PACKED))
    optimizer = torch.optim.Adam(system.parameters(), 1e-2)
    errors = []
    for step in range(60):
        x = images(name=f"clean {step}")
        (error,) = system.losses(
            "T", torch.cat([x / 2, x], dim=1), generator_for("pairs"), 0
        ).values()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.5 * errors[0]
