"""Posterior sampling: Gaussian images tell where it is right, and by how much it is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from gaussian_toy import Gaussian, Matrix, blur, first_of_two, shown, smooth, two_pixels
from torch import Tensor, nn
from torch.testing import assert_close

from blemish.configuration import decode, encode
from blemish.degradations import (
    JPEG,
    Chain,
    Downsample,
    GaussianNoise,
    Identity,
    UniversalDegradation,
)
from blemish.functional.diffusion import Step, ancestral_step
from blemish.functional.random import Randomness, generator_for, generators_for, randn
from blemish.losses import residual_length
from blemish.networks import Redegrader
from blemish.restorers import (
    Denoiser,
    PosteriorSampler,
    Restorer,
    drawn_anew,
    sample_chain,
    sample_posterior,
)
from blemish.types import Params


def free(model: Gaussian, **settings: Any) -> Denoiser:
    """The best denoiser of Gaussian images, which have no range."""
    return Denoiser(model, clip=None, **settings)


def noise(model: Gaussian, count: int) -> Tensor:
    return randn((count, *model.shape), generator_for("start", count))


def check_law(x: Tensor, mean: Tensor, covariance: Tensor, slack: float) -> None:
    """Checks draws (n, D) against a law, up to four standard errors and a relative error of the chain."""
    spread = covariance.trace()
    error = (x.mean(dim=0) - mean).square().sum()
    assert error.sqrt() < (2 * (spread / len(x)).sqrt() + slack * spread.sqrt())
    chance = ((spread**2 + covariance.square().sum()) / len(x)).sqrt()
    assert (x.T.cov() - covariance).norm() < 2 * chance + 2 * slack * covariance.norm()


@pytest.mark.parametrize("make", [two_pixels, lambda: smooth(4, 3.0)])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_without_guidance_images_are_those_of_the_model(
    make: Callable[[], Gaussian], variance: str
) -> None:
    model = make()
    x = sample_chain(
        free(model, variance=variance),
        noise(model, 2000),
        generator=generator_for("chain"),
        steps=300,
    )
    check_law(x.flatten(1).double(), model.mu, model.S, 0.02)
    assert not x.requires_grad


CASES = {
    "2 pixels": (two_pixels, first_of_two, 0.1),
    "4x4": (lambda: smooth(4, 3.0), lambda: blur(4), 0.05),
    "4x4, noisy": (lambda: smooth(4, 3.0), lambda: blur(4), 0.3),
}


@pytest.mark.parametrize("case", CASES)
def test_with_the_exact_slope_images_are_those_of_the_posterior(case: str) -> None:
    make, see, sigma = CASES[case]
    model, A = make(), see()
    y = model.draw()[0] @ A.T

    def exact(x_t: Tensor, x0: Tensor, step: Step) -> Tensor:
        # p(y | x_t) is N(A x0, A C A' + sigma^2); what it adds to the mean of x_{t-1} is beta / sqrt(alpha) its slope.
        spread = A @ model.rest(step) @ A.T + sigma**2 * torch.eye(len(A))
        r = y - x0.flatten(1).double() @ A.T
        minus_log = torch.einsum("bi,ij,bj->", r, torch.linalg.inv(spread), r) / 2
        return step.beta / math.sqrt(step.alpha) * torch.autograd.grad(minus_log, x_t)[0]

    x = sample_chain(
        free(model),
        noise(model, 1000),
        generator=generator_for("chain"),
        steps=300,
        guide=exact,
    )
    mean, covariance = model.posterior(A, y, sigma)
    check_law(x.flatten(1).double(), mean, covariance, 0.03)
    # The check can tell it from the prior.
    with pytest.raises(AssertionError):
        check_law(x.flatten(1).double(), model.mu, model.S, 0.03)


def guided(model: Gaussian, A: Tensor, y: Tensor, draws: int = 16, **settings: Any) -> Tensor:
    """Draws images for each row of y by posterior sampling, as if A was how it came to be: (n, draws, D) in [-1, 1]."""
    d = Matrix(A)
    observed = shown(y, A, model.shape).repeat_interleave(draws, dim=0)
    params = d.sample(tuple(observed.shape), generator=generator_for("none"))
    x = sample_posterior(
        free(model), observed, d, params, generator=generator_for("dps"), **settings
    )
    return (2 * x - 1).flatten(1).double().unflatten(0, (len(y), draws))


def observed(model: Gaussian, A: Tensor, sigma: float, count: int = 8) -> Tensor:
    """Returns so many images as A and noise leave them, (count, D) in [-1, 1]."""
    eps = randn((count, len(A)), generator_for("eps")).double()
    return model.draw(count) @ A.T + sigma * eps


def miss(x: Tensor, mean: Tensor, model: Gaussian) -> float:
    """How far the means of draws are from the posteriors', as a part of what y moved those; but for chance."""
    chance = x.var(dim=1).sum(dim=1) / x.shape[1]
    error = (x.mean(dim=1) - mean).square().sum(dim=1) - chance
    moved = (mean - model.mu).square().sum(dim=1)
    return float((error.mean() / moved.mean()).clamp(min=0).sqrt())


def spread(x: Tensor, covariance: Tensor) -> float:
    """The variance of draws, as a part of the posterior's."""
    return float(x.var(dim=1).sum(dim=1).mean() / covariance.trace())


def left(x: Tensor, A: Tensor, y: Tensor) -> float:
    """The length of the residuals, per root of pixels."""
    return float((x @ A.T - y[:, None]).square().mean().sqrt())


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


@pytest.mark.parametrize(("sigma", "zeta"), [(0.05, 3.0), (0.2, 1.0)])
def test_with_a_zeta_that_fits_the_noise_means_are_nearly_right(sigma: float, zeta: float) -> None:
    # 100 steps of 3 pull as 1000 of 0.3, which Chung et al. (2023) take for blurs with noise of 0.05.
    model, A = smooth(16, 5.0), blur(16)
    y = observed(model, A, sigma)
    mean, covariance = model.posterior(A, y, sigma)
    x = guided(model, A, y, zeta=zeta, steps=100)
    assert miss(x, mean, model) < 0.15
    # Of the draws' spread no more can be said than its size.
    assert 0.5 < spread(x, covariance) < 1.2
    blind = guided(model, A, y, zeta=0.0, steps=100)
    assert miss(blind, mean, model) > 0.85
    assert spread(blind, covariance) > 4


@pytest.mark.parametrize("fit", ["too small", "right", "too large"])
def test_zeta_must_fit_the_noise(fit: str) -> None:
    # Too small, and images stay those of the model; too large, and they fit the noise. The residual tells which.
    zeta = {"too small": 0.003, "right": 0.03, "too large": 0.3}[fit]
    model, A, sigma = smooth(4, 3.0), blur(4), 0.2
    y = observed(model, A, sigma, 32)
    mean, _ = model.posterior(A, y, sigma)
    x = guided(model, A, y, zeta=zeta)
    wrong, residual = miss(x, mean, model), left(x, A, y) / sigma
    if fit == "right":
        assert wrong < 0.25
        assert 0.8 < residual < 1.2
    else:
        assert wrong > 0.5
        assert residual > 1.5 if fit == "too small" else residual < 0.8


def test_what_is_left_of_y_is_the_steps_length_and_not_the_noises() -> None:
    model, A = two_pixels(), first_of_two()
    residuals = []
    for sigma in (0.05, 0.2):
        y = observed(model, A, sigma, 32) * torch.tensor([1.0, 0.0])
        residuals.append(left(guided(model, A, y, zeta=0.3, steps=200), A, y))
    assert math.isclose(residuals[0], residuals[1], rel_tol=0.1)


@pytest.mark.parametrize("wrong", [0.8, 1.3, 1.6])
def test_a_wrong_degradation_costs_what_it_costs_the_posterior(wrong: float) -> None:
    model, A, B, sigma = smooth(16, 5.0), blur(16), blur(16, wrong), 0.05
    y, x0 = observed(model, A, sigma), model.draw(8)
    right, misled = (guided(model, M, y, zeta=3.0, steps=100).mean(dim=1) - x0 for M in (A, B))
    exact = model.posterior(B, y, sigma)[0] - x0
    assert rms(misled - exact) < 0.1
    assert rms(misled) < rms(exact) + 0.03
    # It is worse by a bounded amount, and still far better than to guess.
    assert rms(misled) < 1.5 * rms(right)
    assert rms(misled) < 0.6 * rms(model.mu - x0)
    if wrong > 1:
        assert rms(misled) > 1.05 * rms(right)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("zeta", [0.0, 0.7])
def test_a_step_is_its_formula(steps: int, zeta: float) -> None:
    # A linear denoiser x0 = J x + c has the slope J' A' r / |r|, where r is the residual in [0, 1].
    model, A = smooth(4, 3.0), blur(4)
    y = observed(model, A, 0.1, 3)
    found = guided(model, A, y, 1, zeta=zeta, steps=steps)[:, 0]
    g = generator_for("dps")
    x_t = randn((3, *model.shape), g)
    for step in free(model).steps(steps):
        z = randn((3, *model.shape), g)
        gain = math.sqrt(step.abar) / (1 - step.abar) * model.rest(step)
        x0 = model.mu + (x_t.flatten(1).double() - math.sqrt(step.abar) * model.mu) @ gain
        r = x0 @ A.T - y
        slope = r / r.norm(dim=1, keepdim=True) @ A @ gain
        low = step.beta * (1 - step.abar_before) / (1 - step.abar)
        x0 = x0.view(x_t.shape)
        x_t = ancestral_step(x_t, x0, z, step, low) - zeta * slope.view(x_t.shape)
    assert_close(found, x_t.flatten(1).double(), rtol=1e-4, atol=1e-4)


def test_a_draw_of_noise_that_stays_is_fitted_and_one_that_changes_is_not() -> None:
    model = smooth(4, 0.2)  # nearly independent pixels, which can take any noise
    model.S = model.S / 4
    noisy_copy, y = GaussianNoise((0.1, 0.1)), torch.full((32, 1, 4, 4), 0.55)
    params = noisy_copy.sample((32, 1, 4, 4), generator=generator_for("damage"))

    def alike(**settings: Any) -> float:
        x = sample_posterior(
            free(model),
            y,
            noisy_copy,
            params,
            generator=generator_for("chain"),
            noise=generator_for("noise"),
            zeta=0.1,
            steps=200,
            **settings,
        )
        return float(torch.corrcoef(torch.stack([x.flatten(), params.eps.flatten()]))[0, 1])

    assert alike() < -0.9
    assert abs(alike(renew=drawn_anew("eps"))) < 0.2


def test_only_what_is_named_is_drawn_anew() -> None:
    chain = Chain([GaussianNoise((0.1, 0.2)), GaussianNoise((0.1, 0.2))])
    params = chain.sample((3, 3, 4, 4), generator=generators_for(0, range(3)))
    g = generators_for(1, range(3))
    first, second = (drawn_anew("stages.1.eps")(params, g).tensors() for _ in range(2))
    for name, old in params.tensors().items():
        assert torch.equal(first[name], old) == (name != "stages.1.eps")
    assert not torch.equal(first["stages.1.eps"], second["stages.1.eps"])
    alone = drawn_anew("stages.1.eps")(params[1], generators_for(1, [1]))
    assert torch.equal(alone.tensors()["stages.1.eps"], first["stages.1.eps"][1:2])
    with pytest.raises(ValueError, match=r"no 'noise' that could be drawn; they have stages.0"):
        drawn_anew("noise")(params, g)


class Smoother(nn.Module):
    """A denoiser of colour images that is none of a Gaussian: two convolutions and a tanh."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 3, 3, padding=1)
            )

    def forward(self, x_t: Tensor, time: Tensor) -> Tensor:
        said: Tensor = self.layers(x_t) * (1 + time.view(-1, 1, 1, 1) / 1000)
        return said


def sampler(**changes: Any) -> PosteriorSampler:
    blurred = Chain([Downsample(2), GaussianNoise((0.1, 0.2))])

    def estimate(y: Tensor, generator: Randomness) -> Params:
        return blurred.sample((len(y), 3, 2 * y.shape[2], 2 * y.shape[3]), generator=generator)

    settings = {"zeta": 0.3, "steps": 5, **changes}
    return PosteriorSampler(
        Denoiser(Smoother()),
        blurred,
        estimate,
        renew=drawn_anew("stages.1.eps"),
        config=PosteriorSampler.Config(**settings),
    )


def photographs(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 6, 8, generator=generator_for("y"))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_sampler_is_a_restorer(mode: Callable[[], torch.no_grad]) -> None:
    restorer = sampler()
    assert isinstance(restorer, Restorer)
    assert (restorer.scale, restorer.receptive_field, restorer.multiple) == (2, None, 1)
    with mode():
        y = photographs() + 0
        x = restorer(y)
        alone = torch.cat([restorer(one[None]) for one in y])
    assert x.shape == (3, 3, 12, 16)
    assert 0 <= x.min() < x.max() <= 1
    assert not x.requires_grad
    assert_close(alone, x, rtol=0, atol=1e-4)
    assert torch.equal(x, sampler()(photographs()))
    assert not torch.equal(x, sampler(seed=1)(photographs()))
    # What is drawn for the degradation does not move the chain.
    g = [generator_for(0, "chain") for _ in y]
    start = randn(tuple(x.shape), g)
    unguided = sample_chain(restorer.denoiser, start, generator=g, steps=5)
    assert_close(sampler(zeta=0.0)(photographs()), ((unguided + 1) / 2).clamp(0, 1))
    assert all(p.grad is None for p in restorer.parameters())


def test_chain_estimate_and_new_noise_draw_from_streams_of_their_own() -> None:
    drawn: dict[str, Tensor] = {}

    def listens(x_t: Tensor, time: Tensor) -> Tensor:
        drawn.setdefault("chain", x_t.detach())
        return x_t / 2

    def estimate(y: Tensor, generator: Randomness) -> Params:
        drawn["estimate"] = randn(tuple(y.shape), generator)
        return Identity().sample(tuple(y.shape), generator=generator)

    def renew(params: Params, generator: Randomness) -> Params:
        drawn["renew"] = randn((3, 3, 6, 8), generator)
        return params

    config = PosteriorSampler.Config(steps=3)
    parts = (Denoiser(listens), Identity(), estimate)
    x = PosteriorSampler(*parts, renew=renew, config=config)(photographs())
    assert torch.equal(x, PosteriorSampler(*parts, config=config)(photographs()))
    assert len({float(numbers[0, 0, 0, 0]) for numbers in drawn.values()}) == 3


@pytest.mark.parametrize("settings", [{}, {"block": 2, "colour": 0.5}])
def test_guidance_brings_images_near_what_was_observed(settings: dict[str, Any]) -> None:
    model, halve = smooth(8, 4.0), Downsample(2, "area")
    params = halve.sample((16, 1, 8, 8), generator=generator_for("none"))
    y = halve(model.draw(16).float().view(16, 1, 8, 8) / 2 + 0.5, params)

    def residual(zeta: float) -> float:
        made = PosteriorSampler(
            Denoiser(model),
            halve,
            lambda y, g: halve.sample((len(y), 1, 8, 8), generator=g),
            distance=lambda a, b: residual_length(a, b, **settings),
            config=PosteriorSampler.Config(zeta=zeta, steps=100),
        )(y)
        assert 0 <= made.min() <= made.max() <= 1
        return float(residual_length(halve(made, params), y, **settings).mean())

    assert residual(1.0) < 0.4 * residual(0.0)


def test_a_learned_redegrader_is_put_in_with_its_code_and_new_noise() -> None:
    network = Redegrader.Config(
        widths=(4, 6), blocks=(1, 1), condition=4, embedding=5, local=2, ratio=2
    )
    config = UniversalDegradation.Config(redegrader=network, width=3, kernel=3, norm=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        universal = config.build().eval()
        nn.init.normal_(universal.redegrader.last.weight, std=0.1)
    restorer = PosteriorSampler(
        Denoiser(Smoother()),
        universal,
        lambda y, generator: universal.encode(y, generator=generator),
        renew=drawn_anew("noise"),
        config=PosteriorSampler.Config(steps=4),
    )
    x = restorer(photographs())
    assert x.isfinite().all()
    assert_close(restorer(photographs()[2:]), x[2:], rtol=0, atol=1e-4)
    other = PosteriorSampler(
        Denoiser(Smoother()), universal, restorer.estimate, config=restorer.config
    )
    assert not torch.equal(other(photographs()), x)


def test_a_configuration_survives_json() -> None:
    config = PosteriorSampler.Config(zeta=1.0, steps=100, seed=3)
    kinds = {"PosteriorSampler": PosteriorSampler.Config}
    assert decode(json.loads(json.dumps(encode(config))), kinds) == config
    for wrong in ({"zeta": -1.0}, {"steps": 0}):
        with pytest.raises(ValueError, match=r"give at least 0, and at least 1 or None"):
            replace(config, **wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"degradation": JPEG()}, r"JPEG has no gradients to the image"),
        ({"count": 1}, r"got params of 1 samples for 3 images"),
        ({"denoiser": Denoiser(Smoother(), multiple=4)}, r"6x8 pixels .* takes multiples of 4"),
        ({"zeta": math.nan}, r"zeta=nan; give at least 0"),
        ({"distance": lambda a, b: (a - b).mean()}, r"shape \(\); give one number for each of"),
        ({"steps": 1001}, r"steps=1001; this chain has 1 to 1000"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    given = {"denoiser": Denoiser(Smoother()), "degradation": Identity(), **changes}
    shape = (given.pop("count", 3), 3, 6, 8)
    params = Identity().sample(shape, generator=generator_for("p"))
    with pytest.raises(ValueError, match=message):
        sample_posterior(
            given.pop("denoiser"),
            photographs(),
            given.pop("degradation"),
            params,
            generator=generator_for("g"),
            **given,
        )
