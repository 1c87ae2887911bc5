"""ANDNet: what its restorer is shown, what the attack costs, and what hardening goes on from."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from blemish.degradations import (
    BSRGAN,
    Blur,
    Chain,
    DiskLaw,
    NeuralDegradation,
    Radii,
    deviation,
)
from blemish.functional.pool import pool
from blemish.functional.random import generator_for, rand
from blemish.losses import PerceptualLoss, effnet_features, generator_loss
from blemish.networks import UNetDiscriminator, Upscaler
from blemish.recipes import configure, with_restorer, with_scale, with_simulator
from blemish.restorers import FeedForward
from blemish.systems import ANDGAN, ANDNet

SMALL = ANDNet.Config(
    restorer=FeedForward.Config(network=Upscaler.Config(scale=2, channels=6, blocks=1)),
    perturbation=NeuralDegradation.Config(scale=2, channels=8, blocks=(1, 1)),
    steps=2,
)


def build(config: ANDNet.Config = SMALL, **changes: Any) -> ANDNet:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return replace(config, **changes).build()


def images(n: int = 4, side: int = 16) -> Tensor:
    return rand((n, 3, side, side), generator_for("clean"))


def prepared(system: ANDNet, x: Tensor) -> tuple[Tensor, Tensor]:
    system.prepare(x, generator_for("prepare"), 0)
    return system.pair()


class Counter(TorchDispatchMode):
    """Counts the convolutions' gradients with respect to some weights."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()
        self.weights, self.of_weights, self.of_inputs = weights, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (
            func._overloadpacket is torch.ops.aten.convolution_backward
            and args[2].data_ptr() in self.weights
        ):
            of_input, of_weight, _ = args[10]
            self.of_inputs += of_input
            self.of_weights += of_weight
        return func(*args, **(kwargs or {}))


def test_the_attack_computes_no_gradient_of_the_restorers_weights() -> None:
    system, x = build(), images()
    weights = {p.data_ptr() for p in system.restorer.parameters()}
    with Counter(weights) as counter:
        prepared(system, x)
    convolutions = sum(p.ndim == 4 for p in system.restorer.parameters())
    assert (counter.of_inputs, counter.of_weights) == (2 * convolutions, 0)
    assert all(p.requires_grad and p.grad is None for p in system.restorer.parameters())
    with Counter(weights) as counter:
        system.losses("T", x, generator_for("turn"), 0)["error"].backward()
    assert counter.of_weights == convolutions


def test_the_restorer_learns_from_what_was_prepared() -> None:
    system, x = build(), images()
    y, target = prepared(system, x)
    assert (y.shape, target.shape) == ((4, 3, 8, 8), x.shape)
    assert_close(y * 255, (y * 255).round(), rtol=0, atol=1e-4)
    assert not y.requires_grad
    loss = system.losses("T", x, generator_for("turn"), 0)
    assert loss.keys() == {"error"}
    assert_close(loss["error"], (x - system.restorer.estimate(y)).abs().mean())


def test_the_worst_is_worse_than_a_random_one_and_both_than_none() -> None:
    x, errors = images(16), []
    radii = Radii(kernel=0.2, slope=0.1, noise=0.02)
    perturbation = replace(SMALL.perturbation, radii=radii)
    for perturb in ("worst", "random", "none"):
        system = build(perturbation=perturbation, perturb=perturb)
        prepared(system, x)
        errors.append(system.losses("T", x, generator_for("turn"), 0)["error"].item())
    worst, random, none = errors
    assert worst > random > none


def test_without_perturbation_it_is_the_reduction_rounded() -> None:
    x = images(side=17)
    y, target = prepared(build(perturb="none"), x)
    assert torch.equal(target, x[..., :16, :16])
    assert (y - pool(target, 2)).abs().max() <= 0.5 / 255 + 1e-5


@pytest.mark.parametrize("identity", [True, False])
def test_the_last_images_may_be_left_as_they_are(identity: bool) -> None:
    perturbation = replace(SMALL.perturbation, radii=Radii(kernel=1.0), identity=identity)
    system, x = build(clean=0.3, perturbation=perturbation), images(10)
    y, _ = prepared(system, x)
    moved = (y - pool(x, 2)).abs().amax(dim=(1, 2, 3)) > 0.5 / 255 + 1e-5
    assert moved.tolist() == [True] * 7 + [False] * 3


def test_an_iteration_depends_on_its_generator_alone() -> None:
    system, x = build(), images()
    first, _ = prepared(system, x)
    prepared(system, images(2))
    assert torch.equal(prepared(system, x)[0], first)


def test_damage_comes_before_the_perturbation() -> None:
    damage = Blur(DiskLaw((3.0, 3.0)))
    system, x = build(degradation=damage.config, perturb="none"), images()
    y, target = prepared(system, x)
    blurred = damage(x, damage.sample((4, 3, 16, 16), generator=generator_for("any")))
    assert torch.equal(target, x)
    assert (y - pool(blurred, 2)).abs().max() <= 0.5 / 255 + 1e-5
    seen = system.parts["degradation"]
    assert isinstance(seen, Chain)
    assert [type(stage) for stage in seen] == [Blur, NeuralDegradation]
    assert isinstance(build().parts["degradation"], NeuralDegradation)


def test_how_far_images_were_taken_is_watched() -> None:
    system, x = build(), images()
    y, _ = prepared(system, x)
    found = system.strengths()["deviation_db"].value
    assert abs(found - deviation(system.perturbation, x, y).median()) < 1
    assert system.strengths() == {}
    some = build(clean=0.8)
    prepared(some, images(16))
    assert abs(some.strengths()["deviation_db"].value - found) < 10
    none = build(perturb="none")
    prepared(none, x)
    assert none.strengths() == {}


def test_a_phase_needs_its_preparation() -> None:
    with pytest.raises(RuntimeError, match="call prepare first"):
        build().losses("T", images(), generator_for("turn"), 0)


def test_what_is_shown_is_not_perturbed() -> None:
    x = images()
    y = build().shown(x, generator_for("shown"))
    assert (y - pool(x, 2)).abs().max() <= 0.5 / 255 + 1e-5


# ANDGAN


def gan(**changes: Any) -> ANDGAN:
    shared = {field.name: getattr(SMALL, field.name) for field in fields(SMALL)}
    judge = UNetDiscriminator.Config(features=4)
    return build(ANDGAN.Config(**shared, discriminator=judge, **changes))  # type: ignore[return-value]


def test_andgan_adds_two_terms_which_the_attack_maximises_too() -> None:
    system, x = gan(), images(3, side=32)
    y, _ = prepared(system, x)
    losses = system.losses("T", x, generator_for("turn"), 0)
    assert set(losses) == {"error", "perceptual", "adversarial"}
    estimate = system.restorer.estimate(y)
    assert_close(losses["error"], (x - estimate).abs().mean())
    assert_close(losses["perceptual"], PerceptualLoss(effnet_features())(estimate, x))
    logits = system.discriminator.eval()(2 * estimate - 1)
    assert_close(losses["adversarial"], 0.1 * generator_loss(logits))
    assert_close(system.errors(estimate, x).mean(), sum(losses.values()))


def test_only_the_discriminators_own_turn_leaves_a_trace_in_it() -> None:
    system, x = gan(), images(2, side=32)
    before = {n: t.clone() for n, t in system.discriminator.state_dict().items()}

    def moved() -> bool:
        now = system.discriminator.state_dict()
        return any(not torch.equal(t, now[n]) for n, t in before.items())

    prepared(system, x)
    system.losses("T", x, generator_for("turn"), 0)
    assert not moved()
    assert system.discriminator.training
    loss = system.losses("D", x, generator_for("turn"), 0)["adversarial"]
    assert moved()
    loss.backward()
    assert all(p.grad is None for p in system.restorer.parameters())


def test_weights_of_features_are_in_no_checkpoint() -> None:
    system = gan()
    parts = {name.partition(".")[0] for name in system.state_dict()}
    assert parts == {"restorer", "discriminator"}
    assert not any(p is q for p in system.parameters() for q in system._perceptual[0].parameters())


def test_features_that_are_not_known_are_named() -> None:
    with pytest.raises(ValueError, match="features='vgg16' are not known"):
        gan(features="vgg16")


def test_vgg19_is_looked_for_in_its_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        gan(features=f"vgg19:{tmp_path / 'none.safetensors'}")


# Configurations


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"perturbation": NeuralDegradation.Config(scale=4)},
            "2 times larger, and damage .* 4 times",
        ),
        ({"degradation": BSRGAN.Config(scale=2)}, "2 times larger, and damage .* 4 times"),
        ({"clean": 1.5}, "clean=1.5"),
        ({"steps": -1}, "steps=-1"),
        ({"step": 0.0}, "step=0.0"),
    ],
)
def test_parts_that_do_not_fit_are_named(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build(**changes)


def test_damage_may_make_images_smaller_in_the_perturbations_place() -> None:
    run = with_scale(configure("andnet", "tiny"), 4)
    run = with_simulator(run, BSRGAN.Config(2), "bsrgan:2")
    assert run.system.perturbation.scale == 2
    system, x = build(run.system), images(8, side=32)
    y, target = prepared(system, x)
    assert (y.shape, target.shape) == ((8, 3, 8, 8), x.shape)
    assert system.losses("T", x, generator_for("turn"), 0)["error"].isfinite()
    with pytest.raises(ValueError, match="3 times smaller, and the restorer 4 times larger"):
        with_simulator(run, BSRGAN.Config(3), "bsrgan:3")


@pytest.mark.parametrize("recipe", ["andnet", "andgan", "andnet-random", "andnet-bicubic"])
def test_half_precision_is_that_of_networks_alone(recipe: str) -> None:
    run = with_scale(configure(recipe, "tiny"), 2)
    system, x = build(run.system), images(4, side=32)
    system.autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    y, _ = prepared(system, x)
    losses = system.losses("T", x, generator_for("turn"), 0)
    assert {y.dtype, *(loss.dtype for loss in losses.values())} == {torch.float32}
    sum(losses.values()).backward()
    if recipe == "andgan":
        assert system._terms(x, x)["perceptual"].abs().max() == 0


def test_a_scale_is_that_of_both_parts() -> None:
    run = with_scale(configure("andnet", "tiny"), 3)
    assert run.system.restorer.network.scale == run.system.perturbation.scale == 3
    with pytest.raises(ValueError, match="unir keeps the size of images; leave --scale out"):
        with_scale(configure("unir", "tiny", "N"), 2)


def test_hardening_takes_over_a_restorer_and_its_damage() -> None:
    restorer = FeedForward.Config()
    run = with_restorer(configure("harden", "tiny"), restorer)
    assert run.system.restorer == restorer
    assert run.system.perturbation.scale == 1
    run = with_simulator(run, Blur(DiskLaw()).config, "blur")
    assert (run.system.degradation, run.system.simulator) == (Blur(DiskLaw()).config, "blur")
    with pytest.raises(ValueError, match="unir starts from a fresh restorer"):
        with_restorer(configure("unir", "tiny", "N"), restorer)


def test_the_ablations_differ_from_andnet_in_one_thing() -> None:
    base = configure("andnet", "tiny").system
    plain = configure("andnet-bicubic", "tiny").system
    assert plain == replace(base, perturb="none")
    assert configure("andnet-bicubic", "div2k").system.perturbation.pool == "bicubic"
    assert configure("andnet-random", "tiny").system == replace(base, perturb="random")
    anything = replace(base.perturbation, identity=False)
    assert configure("andnet-no-identity", "tiny").system == replace(base, perturbation=anything)
    noise = configure("andnet-noise", "tiny").system.perturbation
    assert (noise.blocks, noise.radii.kernel, noise.radii.slope) == ((0, 1), 0.0, 0.0)
