"""The robust GAN system: who is trained by what, and which numbers the losses are made of."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from blemish.degradations import Chain, Identity, LearnedBlur, LearnedJPEG, LearnedNoise
from blemish.functional.kernels import delta
from blemish.functional.random import Randomness, Shard, generator_for, rand
from blemish.losses import discriminator_loss
from blemish.networks import ResNetDiscriminator, ResNetGenerator
from blemish.priors import GANPrior
from blemish.recipes import configure
from blemish.recipes.robust_gans import ROBUST_GANS
from blemish.systems import KINDS, RobustGAN, System
from blemish.systems.base import Strength

TERMS: dict[str, set[str]] = {
    "gan": set(),
    "ambient-gan": set(),
    "p-ambient-gan": set(),
    "nr-gan": {"diversity_noise"},
    "br-gan": {"diversity_blur"},
    "cr-gan": {"diversity_quality"},
    "br-gan-no-mask": {"diversity_blur"},
    "cr-gan-no-mask": {"diversity_quality"},
    "cr-gan-ac": {"diversity_quality", "consistency_compression"},
}
DIVERSE = {"diversity_blur", "diversity_noise", "diversity_quality"}
TERMS |= {
    "bncr-gan": DIVERSE | {"consistency_blur", "consistency_compression"},
    "bncr-gan-no-ac": DIVERSE,
    "bncr-gan-ac-blur": DIVERSE | {"consistency_blur"},
    "bncr-gan-ac-comp": DIVERSE | {"consistency_compression"},
    "bncr-gan-constant-c": DIVERSE | {"consistency_blur", "consistency_compression"},
}
"""The generators' loss terms beside the adversarial one."""


def _system(recipe: str, **changes: Any) -> RobustGAN:
    # Setting B has no motion blur, whose bank of kernels takes long to make.
    config = replace(configure(recipe, "tiny", "B").system, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return config.build()


def _batch(n: int = 4) -> Tensor:
    return (rand((n, 3, 16, 16), generator_for("observed")) * 255).round() / 255


def _losses(
    system: RobustGAN, phase: str, iteration: int = 1, generator: Randomness | None = None
) -> dict[str, Tensor]:
    return system.losses(phase, _batch(), generator or generator_for("losses"), iteration)


def _trained(system: RobustGAN, phase: str) -> dict[str, nn.Parameter]:
    """Freezes all that a phase does not train, as the loop does, and returns the rest."""
    groups = {p.name: [g.module for g in p.groups] for p in system.phases}[phase]
    for p in system.parameters():
        p.requires_grad_(False)
    for name in groups:
        system.get_submodule(name).requires_grad_(True)
    return {n: p for n, p in system.named_parameters() if p.requires_grad}


# Every recipe


@pytest.mark.parametrize("recipe", ROBUST_GANS)
def test_every_parameter_is_trained_by_one_player(recipe: str) -> None:
    system = _system(recipe)
    g, d = system.phases
    assert (g.name, g.start, g.every, g.average) == ("G", 1, 1, True)
    assert (d.name, d.start, d.every, d.average) == ("D", 0, 1, False)
    players = [set(_trained(system, phase)) for phase in ("G", "D")]
    assert not players[0] & players[1]
    assert players[0] | players[1] == {n for n, _ in system.named_parameters()}
    learned = any(True for _ in system.degradation.parameters())
    assert [group.module for group in g.groups] == ["prior"] + ["degradation"] * learned


def test_qualities_can_be_learned_more_slowly() -> None:
    usual = _system("bncr-gan", degradation_rate=0.5)
    slower = _system("bncr-gan", degradation_rate=0.5, quality_rate=0.2)
    rates = {}
    for system in (usual, slower):
        for group in system.phases[0].groups:
            for name, _ in system.get_submodule(group.module).named_parameters():
                rates.setdefault(f"{group.module}.{name}", []).append(group.rate)
    assert {name for name, _ in usual.named_parameters()} - set(rates) == {
        f"discriminator.{name}" for name, _ in usual.discriminator.named_parameters()
    }
    for name, (before, after) in rates.items():
        assert after == before * (0.2 if name.startswith("degradation.stages.2") else 1)


@pytest.mark.parametrize("recipe", ROBUST_GANS)
def test_the_generators_turn_moves_the_generators_alone(recipe: str) -> None:
    system = _system(recipe)
    trained = _trained(system, "G")
    losses = _losses(system, "G")
    assert set(losses) == {"adversarial", *TERMS[recipe]}
    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None for p in system.discriminator.parameters())
    for name, p in trained.items():
        if "no-mask" in recipe and ".mask." in name:
            continue
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name


@pytest.mark.parametrize("recipe", ROBUST_GANS)
def test_the_discriminators_turn_moves_the_discriminator_alone(recipe: str) -> None:
    system = _system(recipe)
    losses = _losses(system, "D", iteration=0)
    assert set(losses) == {"adversarial", "r1"}
    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())
    # Nothing is frozen here: the fake images themselves carry no gradient.
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None for part in system.parts.values() for p in part.parameters())
    for name, p in system.discriminator.named_parameters():
        # The last bias moves the two sides of the loss alike; it is in balance only by chance.
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name


@pytest.mark.parametrize("recipe", ["gan", "p-ambient-gan", "bncr-gan"])
def test_losses_need_their_generator_alone(recipe: str) -> None:
    system = _system(recipe)
    before = torch.random.get_rng_state()
    for phase in ("G", "D"):
        first = _losses(system, phase)
        assert_close(_losses(system, phase), first, rtol=0, atol=0)
        other = _losses(system, phase, generator=generator_for("other"))
        assert other["adversarial"] != first["adversarial"]
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("recipe", ["ambient-gan", "bncr-gan"])
@pytest.mark.parametrize("phase", ["G", "D"])
def test_processes_average_to_the_whole_batch(recipe: str, phase: str) -> None:
    system, batch = _system(recipe), _batch()
    whole = system.losses(phase, batch, generator_for("shared"), 0)
    shares = [
        system.losses(phase, batch[2 * r : 2 * r + 2], Shard(generator_for("shared"), r, 2), 0)
        for r in range(2)
    ]
    for name, loss in whole.items():
        assert_close((shares[0][name] + shares[1][name]) / 2, loss, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("recipe", ["gan", "bncr-gan"])
@pytest.mark.parametrize("phase", ["G", "D"])
def test_half_precision_networks_give_nearly_the_same_losses(recipe: str, phase: str) -> None:
    system = _system(recipe)
    exact = _losses(system, phase)
    system.autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    rough = _losses(system, phase)
    for name, loss in exact.items():
        assert rough[name].dtype == torch.float32
        assert_close(rough[name], loss, rtol=0.05, atol=1e-5)
    rough["adversarial"].backward()


# What the discriminator sees


class _Spy(nn.Module):
    """Passes images on to a discriminator and remembers them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[Tensor] = []

    def forward(self, y: Tensor) -> Tensor:
        self.seen.append(y.detach())
        logits: Tensor = self.inner(y)
        return logits


def _spied(recipe: str, **changes: Any) -> tuple[RobustGAN, list[Tensor]]:
    system = _system(recipe, **changes)
    spy = _Spy(system.discriminator)
    system.discriminator = spy  # type: ignore[assignment]
    return system, spy.seen


@pytest.mark.parametrize("multiple", [1, 2, 3])
def test_generators_are_judged_on_a_larger_batch(multiple: int) -> None:
    system, seen = _spied("bncr-gan", batch_multiple=multiple)
    _losses(system, "G")
    assert [len(y) for y in seen] == [4 * multiple]
    _losses(system, "D")
    assert [len(y) for y in seen[1:]] == [4, 4]


def test_the_papers_preset_doubles_the_generated_batch() -> None:
    assert configure("bncr-gan", "cifar10").system.batch_multiple == 2


def test_real_images_are_spread_over_their_quantisation_cells() -> None:
    system, seen = _spied("gan")
    _losses(system, "D")
    real = seen[0]
    assert real.min() >= -1
    assert real.max() < 1
    level = (_batch() * 255).round()
    assert torch.equal(((real.double() + 1) * 128 + 1e-4).floor(), level.double())
    within = (real + 1) * 128 - level
    assert_close(within.mean().item(), 0.5, rtol=0, atol=0.03)


@pytest.mark.parametrize("recipe", ["gan", "ambient-gan", "bncr-gan"])
def test_generated_images_are_clipped_to_the_range_of_real_ones(recipe: str) -> None:
    system, seen = _spied(recipe)
    for p in system.prior.network.conv.parameters():
        p.data *= 50
    _losses(system, "G")
    assert seen[0].abs().max() <= 1
    assert seen[0].shape == (8, 3, 16, 16)


# Terms


def _one_by_one(system: RobustGAN, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Recomputes the discriminator's terms without weights, gradients image by image."""
    g = generator_for("losses")
    fake = system.generate(len(batch), g)[2].detach()
    real = 2 * (255 / 256 * batch - 0.5) + rand(batch.shape, g) / 128
    penalties, logits = [], []
    for image in real:
        leaf = image[None].clone().requires_grad_()
        logit = system.discriminator(leaf)
        penalties.append(torch.autograd.grad(logit.sum(), leaf)[0].square().sum())
        logits.append(logit.detach())
    with torch.no_grad():
        adversarial = discriminator_loss(torch.cat(logits), system.discriminator(2 * fake - 1))
    return adversarial, torch.stack(penalties).mean()


def test_the_discriminators_terms_are_those_of_the_paper() -> None:
    system = _system("bncr-gan", r1=7.0)
    adversarial, penalty = _one_by_one(system, _batch())
    losses = _losses(system, "D")
    assert_close(losses["adversarial"], adversarial)
    assert_close(losses["r1"], 7 * penalty, rtol=1e-4, atol=0)


def test_a_lazy_penalty_is_rarer_and_heavier() -> None:
    always, lazy = _system("gan", r1_every=1), _system("gan", r1_every=4)
    for iteration in range(9):
        expected, found = _losses(always, "D", iteration), _losses(lazy, "D", iteration)
        assert ("r1" in found) == (iteration % 4 == 0)
        assert_close(found["adversarial"], expected["adversarial"])
        if "r1" in found:
            assert_close(found["r1"], 4 * expected["r1"])


@pytest.mark.parametrize("term", ["consistency_blur", "consistency_compression"])
def test_consistency_moves_the_clean_image_alone(term: str) -> None:
    system = _system("bncr-gan")
    loss = _losses(system, "G")[term]
    of_degradation = torch.autograd.grad(
        loss, list(system.degradation.parameters()), allow_unused=True, retain_graph=True
    )
    assert all(g is None for g in of_degradation)
    of_prior = torch.autograd.grad(loss, list(system.prior.parameters()))
    assert all(g.abs().sum() > 0 for g in of_prior)


@pytest.mark.parametrize(
    ("term", "stage"), [("diversity_blur", 0), ("diversity_noise", 1), ("diversity_quality", 2)]
)
def test_diversity_moves_its_own_generator_alone(term: str, stage: int) -> None:
    system = _system("bncr-gan")
    loss = _losses(system, "G")[term]
    moved = set()
    for name, p in system.named_parameters():
        (gradient,) = torch.autograd.grad(loss, p, allow_unused=True, retain_graph=True)
        if gradient is not None and gradient.abs().sum() > 0:
            moved.add(".".join(name.split(".")[:3]))
    assert moved == {f"degradation.stages.{stage}"}
    assert loss < 0


@pytest.mark.parametrize(
    ("weight", "term"),
    [
        ("diversity_blur", "diversity_blur"),
        ("diversity_noise", "diversity_noise"),
        ("diversity_quality", "diversity_quality"),
        ("consistency_blur", "consistency_blur"),
        ("consistency_compression", "consistency_compression"),
    ],
)
def test_a_weight_scales_its_term_and_no_other(weight: str, term: str) -> None:
    usual = _system("bncr-gan")
    changed = _system("bncr-gan", **{weight: 3 * getattr(usual.config, weight)})
    before, after = _losses(usual, "G"), _losses(changed, "G")
    for name, loss in before.items():
        assert_close(after[name], loss * (3 if name == term else 1))


def test_consistency_adapts_to_the_strength() -> None:
    adaptive, constant = _system("bncr-gan"), _system("bncr-gan-constant-c")
    for term in ("consistency_blur", "consistency_compression"):
        ratio = _losses(adaptive, "G")[term] / _losses(constant, "G")[term]
        # Weights are exp(-entropy) and exp(-(100 - q) / 10): a fresh G_q makes q about 50.
        assert 0 < ratio < (0.5 if term == "consistency_blur" else 0.05)


def test_kernels_are_compared_by_the_sum_or_the_mean() -> None:
    by_sum = _losses(_system("br-gan", diversity_kernel_reduction="sum"), "G")["diversity_blur"]
    by_mean = _losses(_system("br-gan", diversity_kernel_reduction="mean"), "G")["diversity_blur"]
    assert_close(by_sum, 81 * by_mean)


# The chain


def _without_damage(system: RobustGAN) -> None:
    blur, noise, jpeg = system.degradation
    for stage in (blur, jpeg):
        nn.init.constant_(stage.network.mask.bias, -1e4)
    nn.init.zeros_(noise.network.conv.weight)


def test_generators_at_the_identity_leave_images_alone() -> None:
    system = _system("bncr-gan")
    _without_damage(system)
    with torch.no_grad():
        x, params, y = system.generate(5, generator_for("identity"))
    blur, noise, jpeg = params.stages  # type: ignore[attr-defined]
    assert torch.equal(blur.kernel, delta(9).expand(5, -1, -1, -1))
    assert not noise.sigma_read.any()
    assert not noise.sigma_shot.any()
    assert not jpeg.mask.any()
    assert torch.equal(x, y)


def test_the_gradient_through_the_identity_is_the_identity() -> None:
    system = _system("bncr-gan")
    _without_damage(system)
    x, params, _ = system.generate(2, generator_for("identity"))
    x = x.detach().requires_grad_()
    y = system.degradation(x, params)
    assert_close(y, x, rtol=0, atol=1e-6)
    weights = rand(tuple(x.shape), generator_for("weights"))
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    assert_close(gradient, weights, rtol=0, atol=1e-5)


def test_a_single_degradation_becomes_a_chain() -> None:
    system = _system("gan", degradation=Identity.Config())
    assert isinstance(system.degradation, Chain)
    x, _, y = system.generate(2, generator_for("x"))
    assert torch.equal(x, y)


# Strengths


def test_strengths_are_means_since_the_last_report() -> None:
    system = _system("bncr-gan")
    assert system.strengths() == {}
    drawn = []
    for i in range(3):
        _losses(system, "G", generator=generator_for("strength", i))
        drawn.append(system.generate(8, generator_for("strength", i))[1].summary())
    strengths = system.strengths()
    assert set(strengths) == set(drawn[0])
    assert {"radius", "kernel_sum", "sigma_read", "sigma_shot", "quality"} <= set(strengths)
    for name, strength in strengths.items():
        expected = torch.stack([summary[name].mean() for summary in drawn]).mean()
        assert_close(strength.value, expected.item(), rtol=1e-4, atol=1e-5)
        assert strength.sane[0] < strength.sane[1]
    assert strengths["radius"].sane[0] == 0
    assert strengths["radius"].sane[1] >= 0.45 * 9
    assert system.strengths() == {}


@pytest.mark.parametrize("recipe", ["gan", "ambient-gan"])
def test_what_is_not_learned_has_no_strength(recipe: str) -> None:
    system = _system(recipe)
    _losses(system, "G")
    assert system.strengths() == {}


def test_a_runaway_strength_leaves_its_sane_range() -> None:
    system = _system("nr-gan")
    nn.init.constant_(system.degradation.stages[0].network.conv.bias, 2.0)
    _losses(system, "G")
    for strength in system.strengths().values():
        assert not strength.sane[0] <= strength.value <= strength.sane[1]


@pytest.mark.parametrize("preset", ["tiny", "cifar10"])
@pytest.mark.parametrize("recipe", ROBUST_GANS)
def test_no_recipe_starts_with_a_runaway_strength(recipe: str, preset: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system: RobustGAN = configure(recipe, preset, "B").system.build()
    batch = rand((4, *system.prior.shape), generator_for("observed"))
    with torch.no_grad():
        system.losses("G", batch, generator_for("start"), 1)
    strengths = system.strengths()
    assert bool(strengths) == any(True for _ in system.degradation.parameters())
    for name, strength in strengths.items():
        assert strength.sane[0] <= strength.value <= strength.sane[1], name


@pytest.mark.parametrize("preset", ["tiny", "small16", "cifar10"])
def test_a_flat_discriminator_is_noticed(preset: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system: RobustGAN = configure("gan", preset).system.build()
    batch = rand((4, *system.prior.shape), generator_for("observed"))

    def slope() -> Strength:
        system.losses("D", batch, generator_for("slope"), 0)
        return system.strengths()["discriminator_slope"]

    fresh = slope()
    assert fresh.sane[0] <= fresh.value <= fresh.sane[1]
    real = (2 * (batch * (255 / 256) - 0.5)).requires_grad_()
    (gradient,) = torch.autograd.grad(system.discriminator(real).sum(), real)
    norm = gradient.square().sum(dim=(1, 2, 3)).mean().sqrt()
    assert_close(fresh.value, norm.item(), rtol=0.1, atol=0)  # at images without the noise in 1/128
    # No unit of the last layer is active any more.
    nn.init.constant_(system.discriminator.blocks[-1].conv2.bias, -1e3)
    dead = slope()
    assert dead.value == 0 < dead.sane[0]
    assert "gone flat" in dead.beyond


def test_wide_fresh_kernels_widen_their_range_and_no_other() -> None:
    usual, wide = _system("br-gan"), _system("br-gan-no-mask")
    _losses(usual, "G")
    _losses(wide, "G")
    narrow, found = usual.strengths(), wide.strengths()
    # Nearly flat 9x9 kernels: sqrt(2) sqrt(2 (81 - 1) / 12) = 5.16, and a quarter more.
    assert_close(found["radius"].sane[1], 1.25 * 5.16, rtol=0.03, atol=0)
    assert narrow["radius"].sane[1] < 1.25 * 5.16 * 0.95
    assert found["kernel_sum"].sane == (0.8, 1.25)


@pytest.mark.parametrize(("fresh", "sane"), [(0.5, (0.4, 1.25)), (2.0, (0.8, 2.5))])
def test_a_range_holds_the_fresh_strength_on_either_side(
    fresh: float, sane: tuple[float, float]
) -> None:
    system = _system("br-gan")
    system._fresh["kernel_sum"] = fresh
    _losses(system, "G")
    assert_close(system.strengths()["kernel_sum"].sane, sane)


def test_trained_weights_do_not_move_the_ranges() -> None:
    # As on resuming: the weights are loaded into a freshly built system.
    fresh, resumed = _system("nr-gan"), _system("nr-gan")
    nn.init.constant_(resumed.degradation.stages[0].network.conv.bias, 2.0)
    _losses(fresh, "G")
    _losses(resumed, "G")
    ranges = [{n: s.sane for n, s in x.strengths().items()} for x in (fresh, resumed)]
    assert ranges[0] == ranges[1]


# Configurations and guards


@pytest.mark.parametrize("field", ["batch_multiple", "r1_every"])
def test_impossible_numbers_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        RobustGAN.Config(**{field: 0})  # type: ignore[arg-type]


def test_an_odd_number_of_generated_images_has_no_pairs() -> None:
    system = _system("br-gan", batch_multiple=1)
    with pytest.raises(ValueError, match="even number"):
        system.losses("G", _batch(3), generator_for("odd"), 1)


def test_rates_reach_the_phases() -> None:
    rates = {"degradation_rate": 0.25, "discriminator_rate": 4.0}
    system = _system("br-gan", lr=3e-3, betas=(0.1, 0.9), ema=0.7, **rates)
    g, d = system.phases
    assert (g.lr, g.betas, d.lr, d.betas) == (3e-3, (0.1, 0.9), 3e-3, (0.1, 0.9))
    assert [group.rate for group in g.groups] == [1.0, 0.25]
    assert [group.rate for group in d.groups] == [4.0]
    assert system.ema_decay == 0.7
    assert set(system.parts) == {"prior", "degradation"}


def test_the_defaults_are_the_papers() -> None:
    c = RobustGAN.Config()
    assert (c.r1, c.r1_every, c.lr, c.betas, c.ema) == (10.0, 1, 2e-4, (0.0, 0.99), 0.999)
    assert (c.diversity_blur, c.diversity_noise, c.diversity_quality) == (4e-4, 0.02, 1e-5)
    assert (c.mu_blur, c.mu_compression) == (1.0, 10.0)
    assert c.degradation_rate == c.discriminator_rate == 1.0
    assert c.prior == GANPrior.Config(network=ResNetGenerator.Config())
    assert c.discriminator == ResNetDiscriminator.Config()


def _subclasses(cls: type) -> set[type]:
    """Returns the classes below one that can be built."""
    below = {c for direct in cls.__subclasses__() for c in {direct} | _subclasses(direct)}
    return {c for c in below if not inspect.isabstract(c)}


def test_every_system_is_named_and_every_learned_part_has_losses() -> None:
    found = {c for c in _subclasses(System) if c.__module__.startswith("blemish.")}
    assert {c.__name__ for c in found} == set(KINDS)
    stages = list(_system("bncr-gan").degradation)
    assert [type(stage) for stage in stages] == [LearnedBlur, LearnedNoise, LearnedJPEG]
    assert set(TERMS) == set(ROBUST_GANS)
