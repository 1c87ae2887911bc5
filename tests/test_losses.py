"""The losses against closed forms, finite differences and loops that anybody can read."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand, randn
from blemish.losses import (
    blur_weight,
    compression_weight,
    consistency_loss,
    discriminator_loss,
    diversity_loss,
    generator_loss,
    r1_penalty,
)

SHAPE = (3, 2, 4, 5)


def _images(name: str) -> Tensor:
    return rand(SHAPE, generator_for("losses", name)).double()


def test_an_undecided_discriminator_has_the_losses_of_a_coin() -> None:
    assert_close(generator_loss(torch.zeros(4)).item(), math.log(2))
    assert_close(discriminator_loss(torch.zeros(4), torch.zeros(8)).item(), 2 * math.log(2))


def test_adversarial_losses_are_cross_entropies() -> None:
    real = torch.tensor([-1.5, 0.3, 2.0], dtype=torch.float64)
    fake = torch.tensor([0.7, -2.0], dtype=torch.float64)
    expected_d = -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()
    assert_close(discriminator_loss(real, fake), expected_d)
    assert_close(generator_loss(fake), -fake.sigmoid().log().mean())


@pytest.mark.parametrize("logit", [-200.0, 0.0, 200.0])
def test_adversarial_losses_do_not_saturate_or_overflow(logit: float) -> None:
    fake = torch.full((2,), logit, requires_grad=True)
    (gradient,) = torch.autograd.grad(generator_loss(fake), fake)
    # d/dl softplus(-l) = -sigmoid(-l): the non-saturating loss pulls hardest where D is surest.
    assert_close(gradient, torch.full((2,), -1 / (1 + math.exp(logit)) / 2))
    assert discriminator_loss(fake, fake).isfinite()


def test_r1_of_a_linear_discriminator_is_the_squared_norm_of_its_weights() -> None:
    weights = randn(SHAPE[1:], generator_for("w")).double().requires_grad_()
    y = _images("real").requires_grad_()
    penalty = r1_penalty((y * weights).sum(dim=(1, 2, 3)), y)
    assert_close(penalty, weights.square().sum())
    (gradient,) = torch.autograd.grad(penalty, weights)
    assert_close(gradient, 2 * weights)


def test_r1_is_the_batch_mean_of_finite_difference_gradients() -> None:
    w = randn((SHAPE[1] * SHAPE[2] * SHAPE[3],), generator_for("w2")).double()

    def judge(y: Tensor) -> Tensor:
        return (y.flatten(1) @ w).tanh() + y.flatten(1).square().sum(dim=1)

    y, step = _images("real"), 1e-6
    penalties = []
    for image in y:
        slopes = []
        for i in range(image.numel()):
            nudge = torch.zeros(image.numel(), dtype=torch.float64)
            nudge[i] = step
            up, down = image + nudge.view_as(image), image - nudge.view_as(image)
            slopes.append((judge(up[None]) - judge(down[None])).item() / (2 * step))
        penalties.append(sum(slope**2 for slope in slopes))
    y.requires_grad_()
    assert_close(r1_penalty(judge(y), y).item(), sum(penalties) / 3, rtol=1e-6, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_diversity_equals_a_loop_over_pairs(reduction: str) -> None:
    outputs = randn((6, 2, 3, 3), generator_for("o")).double()
    z = randn((6, 7), generator_for("z")).double()
    ratios = []
    for j in range(3):
        distances = [
            abs(a - b)
            for a, b in zip(
                outputs[2 * j].flatten().tolist(),
                outputs[2 * j + 1].flatten().tolist(),
                strict=True,
            )
        ]
        distance = sum(distances) / (len(distances) if reduction == "mean" else 1)
        latent = sum(
            abs(a - b) for a, b in zip(z[2 * j].tolist(), z[2 * j + 1].tolist(), strict=True)
        )
        ratios.append(distance / (latent / 7))
    loss = diversity_loss(outputs, z, reduction=reduction)  # type: ignore[arg-type]
    assert_close(loss.item(), -sum(ratios) / 3)


def test_diversity_of_a_linear_map_is_its_gain() -> None:
    z = randn((8, 5), generator_for("z"))
    assert_close(diversity_loss(3 * z, z), torch.tensor(-3.0))
    assert_close(diversity_loss(torch.ones(8, 4), z), torch.tensor(0.0))


def test_diversity_keeps_its_pairs_when_a_batch_is_cut() -> None:
    outputs, z = randn((8, 3), generator_for("o")), randn((8, 5), generator_for("z"))
    halves = [diversity_loss(outputs[i : i + 4], z[i : i + 4]) for i in (0, 4)]
    assert_close(diversity_loss(outputs, z), (halves[0] + halves[1]) / 2)


def test_diversity_pushes_a_pair_apart_and_survives_equal_latents() -> None:
    outputs = torch.tensor([[0.2], [0.1]], requires_grad=True)
    diversity_loss(outputs, torch.tensor([[0.0], [1.0]])).backward()
    assert outputs.grad is not None
    assert_close(-outputs.grad, torch.tensor([[1.0], [-1.0]]))
    assert diversity_loss(torch.zeros(2, 1), torch.zeros(2, 1)).item() == 0


def test_diversity_refuses_a_row_without_a_partner() -> None:
    with pytest.raises(ValueError, match="got 3 outputs"):
        diversity_loss(torch.zeros(3, 1), torch.zeros(3, 1))


def test_diversity_refuses_an_unknown_reduction() -> None:
    with pytest.raises(ValueError, match="reduction='avg' is not known; choose mean or sum"):
        diversity_loss(torch.zeros(2, 1), torch.zeros(2, 1), reduction="avg")  # type: ignore[arg-type]


def test_consistency_is_measured_in_the_networks_range() -> None:
    x, y, weight = _images("x"), _images("y"), torch.tensor([0.0, 0.5, 2.0]).double()
    wide = ((2 * x - 1) - (2 * y - 1)).square().flatten(1).mean(dim=1)
    assert_close(consistency_loss(x, y, weight), (weight * wide).mean())


def test_consistency_moves_the_clean_image_alone() -> None:
    x, y = _images("x").requires_grad_(), _images("y").requires_grad_()
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    loss = consistency_loss(x, y, weight)
    of_x, of_y, of_weight = torch.autograd.grad(loss, (x, y, weight), allow_unused=True)
    assert of_y is None
    assert of_weight is None
    assert_close(of_x, 8 * (x - y).detach() / x.numel())


def test_weights_have_the_papers_anchors() -> None:
    flat = torch.tensor(81.0).log()[None]
    assert_close(blur_weight(torch.zeros(1)), torch.ones(1))
    assert_close(blur_weight(flat), torch.tensor([1 / 81]))
    quality = torch.tensor([100.0, 80.0, 60.0])
    expected = torch.tensor([1.0, math.exp(-2), math.exp(-4)])
    assert_close(compression_weight(quality), expected)


def test_weights_without_a_scale_are_constant() -> None:
    assert_close(blur_weight(torch.tensor([0.3, 4.0]), mu=0.0), torch.ones(2))
    assert_close(compression_weight(torch.tensor([1.0, 100.0]), mu=0.0), torch.ones(2))
