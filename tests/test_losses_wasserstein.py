"""The critic's losses against closed forms of linear and quadratic critics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, generators_for, rand, randn
from blemish.losses import gradient_penalty, wasserstein_critic_loss, wasserstein_generator_loss

SHAPE = (4, 2, 3, 5)


def images(name: str) -> Tensor:
    return rand(SHAPE, generator_for("wasserstein", name)).double()


def g() -> torch.Generator:
    return generator_for("lines")


def test_the_losses_are_differences_of_means() -> None:
    real, fake = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.5, 1.5])
    assert wasserstein_critic_loss(real, fake).item() == 1.0 - 3.0
    assert wasserstein_generator_loss(fake).item() == -1.0


def test_a_constant_added_to_a_critic_changes_nothing() -> None:
    real, fake = (randn((6,), generator_for(n)).double() for n in ("real", "fake"))
    assert_close(wasserstein_critic_loss(real + 7, fake + 7), wasserstein_critic_loss(real, fake))


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic_is_that_of_its_norm(scale: float) -> None:
    w = randn(SHAPE[1:], generator_for("w")).double()
    w = (scale * w / w.norm()).requires_grad_()
    penalty = gradient_penalty(lambda x: (x * w).sum(dim=(1, 2, 3)), images("r"), images("f"), g())
    assert_close(penalty.item(), (scale - 1) ** 2, atol=1e-12, rtol=0)
    (gradient,) = torch.autograd.grad(penalty, w)
    assert_close(gradient, 2 * (scale - 1) * w.detach() / scale, atol=1e-12, rtol=1e-9)


def test_the_penalty_is_taken_on_one_line_for_each_pair() -> None:
    real, fake = images("r"), images("f")
    seen: list[Tensor] = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.square().sum(dim=(1, 2, 3)) / 2

    penalty = gradient_penalty(critic, real, fake, g())
    epsilon = rand((4, 1, 1, 1), g()).double()
    assert_close(seen[0], epsilon * real + (1 - epsilon) * fake)
    assert len(set(epsilon.flatten().tolist())) == 4
    # The gradient of half the squared norm is the point itself.
    norms = torch.stack([point.norm() for point in seen[0]])
    assert_close(penalty, (norms - 1).square().mean())


def test_the_penalty_moves_the_critic_alone() -> None:
    real, fake = images("r").requires_grad_(), images("f").requires_grad_()
    w = randn(SHAPE[1:], generator_for("w")).double().requires_grad_()
    penalty = gradient_penalty(lambda x: (x.square() * w).sum(dim=(1, 2, 3)), real, fake, g())
    of = torch.autograd.grad(penalty, (real, fake, w), allow_unused=True)
    assert of[0] is None
    assert of[1] is None
    assert of[2].abs().sum() > 0


def test_a_critic_of_pairs_is_judged_by_its_slope_along_what_it_judges() -> None:
    w = randn((4, 3, 5), generator_for("pairs")).double()
    x = images("x")
    critic = lambda y: (torch.cat([x, y], dim=1) * w).sum(dim=(1, 2, 3))  # noqa: E731
    penalty = gradient_penalty(critic, images("r"), images("f"), g())
    assert_close(penalty, (w[2:].norm() - 1).square())


def test_a_dead_critic_has_a_finite_gradient() -> None:
    w = torch.zeros(SHAPE[1:], dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(lambda x: (x * w).sum(dim=(1, 2, 3)), images("r"), images("f"), g())
    (gradient,) = torch.autograd.grad(penalty, w)
    assert penalty.item() == 1
    assert gradient.isfinite().all()


def test_a_pairs_penalty_does_not_depend_on_its_batch() -> None:
    real, fake = images("r"), images("f")
    critic = lambda x: x.square().sum(dim=(1, 2, 3))  # noqa: E731
    whole = gradient_penalty(critic, real, fake, generators_for(1, range(4)))
    parts = [
        gradient_penalty(critic, real[i : i + 1], fake[i : i + 1], generators_for(1, [i]))
        for i in range(4)
    ]
    assert_close(whole, torch.stack(parts).mean())


def test_the_penalty_refuses_sets_that_are_no_pairs() -> None:
    with pytest.raises(ValueError, match=r"got real images \(4, 2, 3, 5\) and .* \(3, 2, 3, 5\)"):
        gradient_penalty(torch.Tensor.sum, images("r"), images("f")[:3], g())
