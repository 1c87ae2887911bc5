"""The chain of diffusion: closed forms, and Gaussian images, for which each step is known."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.diffusion import (
    Prediction,
    Step,
    ancestral_step,
    clean_estimate,
    learned_variance,
    linear_betas,
    noise_estimate,
    noisy,
    small_variance,
    steps_of,
)
from blemish.functional.random import generator_for, randn

COUNTS = [None, 1, 2, 7, 250]


def numbers(*name: str) -> Tensor:
    return randn((3, 2, 4), generator_for("diffusion", *name)).double()


def test_the_whole_chain_is_a_product() -> None:
    steps = steps_of(linear_betas(1000))
    assert [step.time for step in steps] == list(range(999, -1, -1))
    abar = 1.0
    for step in reversed(steps):
        beta = 1e-4 + (0.02 - 1e-4) * step.time / 999
        assert math.isclose(step.beta, beta, rel_tol=1e-9)
        assert math.isclose(step.abar_before, abar, rel_tol=1e-12)
        abar *= 1 - beta
        assert math.isclose(step.abar, abar, rel_tol=1e-12)
    assert steps[-1].last
    assert not any(step.last for step in steps[:-1])


@pytest.mark.parametrize("count", COUNTS)
def test_a_shorter_chain_has_the_noise_of_the_whole_one(count: int | None) -> None:
    whole = {step.time: step for step in steps_of(linear_betas())}
    steps = steps_of(linear_betas(), count)
    assert len(steps) == (count or 1000)
    assert [step.abar for step in steps] == [whole[step.time].abar for step in steps]
    assert [step.abar for step in steps[1:]] == [step.abar_before for step in steps[:-1]]
    assert steps[0].time == 999
    if len(steps) > 1:
        assert steps[-1].time == 0
        gaps = {a.time - b.time for a, b in itertools.pairwise(steps)}
        assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("betas", "count", "message"),
    [
        (linear_betas(10), 0, r"steps=0; this chain has 1 to 10"),
        (linear_betas(10), 11, r"steps=11; this chain has 1 to 10"),
        (torch.tensor([0.1, 1.0]), None, r"the betas go from 0.1 to 1; all must lie between"),
        (torch.tensor([0.1, math.nan]), None, r"all must lie between 0 and 1"),
    ],
)
def test_no_chain_is_refused(betas: Tensor, count: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        steps_of(betas, count)


@pytest.mark.parametrize("prediction", ["noise", "clean", "velocity"])
def test_all_predictions_give_the_image(prediction: Prediction) -> None:
    x0, eps = numbers("x"), numbers("eps")
    for step in steps_of(linear_betas(), 5):
        x_t = noisy(x0, eps, step)
        velocity = math.sqrt(step.abar) * eps - math.sqrt(1 - step.abar) * x0
        said = {"noise": eps, "clean": x0, "velocity": velocity}[prediction]
        assert_close(clean_estimate(x_t, said, step, prediction), x0)
        assert_close(noise_estimate(x_t, x0, step), eps)


@pytest.mark.parametrize("count", COUNTS)
def test_noise_grows_as_if_it_came_step_by_step(count: int | None) -> None:
    # q(x_t | x_{t-1}) after q(x_{t-1} | x_0) is q(x_t | x_0).
    for step in steps_of(linear_betas(), count):
        assert math.isclose(step.alpha * step.abar_before, step.abar)
        both = step.alpha * (1 - step.abar_before) + step.beta
        assert math.isclose(both, 1 - step.abar, rel_tol=1e-9)


@pytest.mark.parametrize("count", COUNTS)
def test_a_step_back_is_the_law_of_bayes(count: int | None) -> None:
    # p(x_{t-1} | x_t, x_0) is proportional to p(x_t | x_{t-1}) p(x_{t-1} | x_0): precisions add.
    x0, x_t = numbers("x"), numbers("x_t")
    zero = torch.zeros_like(x0)
    for step in steps_of(linear_betas(), count)[:-1]:
        likelihood, prior = step.alpha / step.beta, 1 / (1 - step.abar_before)
        variance = 1 / (likelihood + prior)
        centre = x_t / math.sqrt(step.alpha) * likelihood + math.sqrt(step.abar_before) * x0 * prior
        assert math.isclose(small_variance(step), variance, rel_tol=1e-9)
        assert_close(ancestral_step(x_t, x0, zero, step, 0.0), centre * variance)


def test_noise_comes_with_its_variance_but_not_at_the_end() -> None:
    x0, x_t, z = numbers("x"), numbers("x_t"), numbers("z")
    first, last = steps_of(linear_betas(), 2)
    mean = ancestral_step(x_t, x0, torch.zeros_like(z), first, 0.0)
    for variance in (0.3, torch.full_like(z, 0.3)):
        drawn = ancestral_step(x_t, x0, z, first, variance)
        assert_close(drawn, mean + math.sqrt(0.3) * z)
    assert torch.equal(ancestral_step(x_t, x0, z, last, 0.3), x0)
    assert small_variance(last) == 0


@pytest.mark.parametrize("count", [3, 250, None])
def test_a_learned_variance_lies_between_the_fixed_ones(count: int | None) -> None:
    said = torch.tensor([-1.0, 0.0, 1.0]).double()
    *steps, last = steps_of(linear_betas(), count)
    for step in steps:
        low, high = small_variance(step), step.beta
        expected = torch.tensor([low, math.sqrt(low * high), high]).double()
        assert_close(learned_variance(step, said), expected)
        assert low < high
    assert_close(learned_variance(last, said), torch.zeros(3).double())


def walked_variance(w: float, large: bool, steps: tuple[Step, ...]) -> float:
    """The variance that images drawn with the best denoiser of N(0, w) have."""
    total = 1.0
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    for step in steps:
        gain = math.sqrt(step.abar) * w / (step.abar * w + 1 - step.abar)
        scale = float(ancestral_step(one, gain * one, zero, step, 0.0))
        variance = 0 if step.last else step.beta if large else small_variance(step)
        total = scale**2 * total + variance
    return total


@pytest.mark.parametrize("count", [2, 7, 1000])
@pytest.mark.parametrize(("w", "large"), [(1.0, True), (0.0, False)])
def test_a_fixed_variance_is_right_at_its_end(w: float, large: bool, count: int) -> None:
    # Ho et al. (2020), Section 3.2: the large one for images that are noise, the small one for a single image. After
    # the last step, which draws no noise, what it was the estimate of is missing.
    steps = steps_of(linear_betas(), count)
    rest = w * (1 - steps[-1].abar)
    assert math.isclose(walked_variance(w, large, steps), w - rest, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("w", [0.05, 0.25, 0.6])
def test_the_truth_lies_between_the_fixed_variances(w: float) -> None:
    steps = steps_of(linear_betas(), 100)
    assert walked_variance(w, False, steps) < w < walked_variance(w, True, steps)
    errors = [abs(walked_variance(w, large, steps_of(linear_betas())) / w - 1) for large in (0, 1)]
    assert max(errors) < 0.04
