"""Inversion of a prior: what it finds, what moves, and that samples do not see each other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.configuration import decode, encode
from blemish.degradations import (
    JPEG,
    Blur,
    Chain,
    DiskLaw,
    Downsample,
    GaussianNoise,
    Identity,
    Partial,
)
from blemish.functional.descent import standardised
from blemish.functional.random import Randomness, generator_for, generators_for, randn
from blemish.networks import ResNetGenerator, StyleGenerator
from blemish.priors import GANPrior, Prior, Space, StylePrior
from blemish.restorers import (
    PULSE,
    RSG,
    UNIVERSAL,
    Free,
    Inverted,
    Inverter,
    Phase,
    Restorer,
    best_of,
    invert,
    phases_for,
)
from blemish.types import Params


def squares(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(dim=(1, 2, 3))


class LinearPrior(Prior):
    """Images 1/2 + A z, of which everything is known."""

    def __init__(self, A: Tensor) -> None:
        super().__init__()
        self.register_buffer("A", A)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, 4, 4

    def latents(self, n: int, *, generator: Randomness) -> Tensor:
        return randn((n, self.A.shape[1]), generator)

    def synthesize(self, latent: Tensor, space: Space = "Z") -> Tensor:
        self.check_space(space)
        return 0.5 + (latent @ self.A.T).unflatten(1, self.shape)


def linear_prior() -> LinearPrior:
    return LinearPrior(torch.linalg.qr(randn((16, 5), generator_for("A"))).Q)


def style_prior(seed: int = 2) -> StylePrior:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = StyleGenerator.Config(latent=8, channels=(6, 6, 6))
        return StylePrior.Config(network=network).build()


def short(phases: tuple[Phase, ...], steps: int) -> tuple[Phase, ...]:
    return tuple(replace(phase, steps=steps) for phase in phases)


def damage() -> Chain:
    return Chain([Blur(DiskLaw(radius=(1.0, 1.5), size=5)), GaussianNoise((0.1, 0.2))])


def scene(
    degradation: Chain | GaussianNoise, n: int = 3
) -> tuple[StylePrior, Tensor, Params, Tensor]:
    """A prior, images of its own, what befell them, and how they were observed."""
    prior = style_prior()
    with torch.no_grad():
        x = prior.sample(n, generator=generators_for(0, range(n)))
    params = degradation.sample(tuple(x.shape), generator=generators_for(1, range(n)))
    return prior, x, params, degradation(x, params)


def search(*args: object, **kwargs: object) -> Inverted:
    given = {"distance": squares, "generator": generator_for("search"), **kwargs}
    return invert(*args, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("optimiser", ["normalised", "adam"])
def test_a_linear_prior_gives_the_least_squares(optimiser: str) -> None:
    prior, blur = linear_prior(), Blur(DiskLaw(radius=(0.6, 0.8), size=3))
    y = 0.5 + 0.3 * randn((2, 1, 4, 4), generator_for("y"))
    params = blur.sample((2, 1, 4, 4), generator=generators_for(0, [0, 1]))
    phases = tuple(
        Phase(space="Z", steps=60, lr=lr, optimiser=optimiser)  # type: ignore[arg-type]
        for lr in (0.1, 0.02, 0.004)
    )
    found = search(prior, y, blur, params, phases=phases)
    basis = torch.eye(5) @ prior.A.T
    for i in range(2):
        columns = blur(basis.view(5, 1, 4, 4), params[[i] * 5]).flatten(1).T
        z = torch.linalg.lstsq(columns, (y[i] - 0.5).flatten()[:, None]).solution[:, 0]
        assert_close(found.latents[i], z, rtol=0, atol=0.004)
        assert_close(found.losses[i], (columns @ z - (y[i] - 0.5).flatten()).square().mean())


@pytest.mark.parametrize("phase", [*PULSE, Phase(space="Z", steps=200, lr=0.06, sphere=True)])
def test_a_search_of_the_sphere_finds_its_nearest_point(phase: Phase) -> None:
    # A is orthonormal: the nearest image of the sphere lies in the direction of A^T (y - 1/2).
    prior = linear_prior()
    y = 0.5 + randn((3, 1, 4, 4), generator_for("y"))
    found = search(
        prior,
        y,
        Identity(),
        Identity().sample(y.shape, generator=generator_for("p")),
        phases=[phase],
    )
    assert_close(found.latents.norm(dim=1), torch.full((3,), math.sqrt(5)))
    toward = torch.cosine_similarity(found.latents, (y - 0.5).flatten(1) @ prior.A)
    assert_close(toward, torch.ones(3), rtol=0, atol=1e-3)


def test_every_phase_brings_the_images_nearer() -> None:
    prior, _, params, y = scene(damage())
    found = search(prior, y, damage(), params, phases=short(RSG, 30))
    assert [losses.shape for losses in found.path] == [(31, 3)] * 3
    for losses in found.path:
        assert (losses[-1] < losses[0]).all()
    # Widening leaves the image as it is.
    for before, after in zip(found.path, found.path[1:], strict=False):
        assert_close(after[0], before[-1], rtol=1e-4, atol=1e-8)
    assert found.latents.shape == (3, sum(prior.features), 8)
    assert_close(found.images, prior.synthesize(found.latents, "W++"))
    assert_close(found.losses, squares(damage()(found.images, params), y))
    assert not found.images.requires_grad
    assert all(p.grad is None for p in prior.parameters())


def test_who_knows_the_damage_restores_better_than_who_is_blind_to_it() -> None:
    prior, x, params, y = scene(damage())
    nothing = Identity().sample(tuple(x.shape), generator=generator_for("n"))
    oracle = search(prior, y, damage(), params, phases=short(RSG, 30)).images
    naive = search(prior, y, Identity(), nothing, phases=short(RSG, 30)).images
    assert (squares(oracle, x) < 0.3 * squares(naive, x)).all()
    assert (squares(naive, x) < squares(y, x)).all()


FREE = Free(codes=("stages.1.sigma",), noise=("stages.1.eps",))


@pytest.mark.parametrize("phases", [RSG, UNIVERSAL, (replace(PULSE[0], noise=True, codes=True),)])
def test_a_batch_is_searched_as_each_sample_alone(phases: tuple[Phase, ...]) -> None:
    # In double precision: Adam's first steps have length 1 however small the slope, and would show its rounding.
    prior, _, params, y = scene(damage())
    prior, params, y = prior.double(), params.to(torch.float64), y.double()
    given = {"phases": short(phases, 4), "free": FREE}
    together = search(prior, y, damage(), params, generator=generators_for(3, range(3)), **given)
    for i in range(3):
        one = generators_for(3, [i])
        alone = search(prior, y[i : i + 1], damage(), params[i], generator=one, **given)
        assert_close(alone.latents, together.latents[i : i + 1], rtol=0, atol=1e-5)
        assert_close(alone.images, together.images[i : i + 1], rtol=0, atol=1e-5)
        assert_close(alone.losses, together.losses[i : i + 1], rtol=0, atol=1e-5)
        for name, tensor in alone.params.tensors().items():
            assert_close(tensor, together.params.tensors()[name][i : i + 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("count", "moved"), [(1, set()), (2, {"eps"}), (3, {"sigma", "eps"})])
def test_noise_moves_from_w_on_and_codes_from_the_wider_spaces(count: int, moved: set[str]) -> None:
    prior, _, params, y = scene(damage())
    before = {name: tensor.clone() for name, tensor in params.tensors().items()}
    phases = short(UNIVERSAL, 3)[:count]
    found = search(prior, y, damage(), params, phases=phases, free=FREE).params.tensors()
    changed = {name for name in before if not torch.equal(found[name], before[name])}
    assert changed == {f"stages.1.{name}" for name in moved}
    # What was given is left alone.
    assert all(torch.equal(params.tensors()[name], before[name]) for name in before)
    if "eps" in moved:
        n = found["stages.1.eps"]
        assert_close(n.mean(dim=(2, 3)), torch.zeros(3, 3), rtol=0, atol=1e-6)
        assert_close(n.square().mean(dim=(2, 3)), torch.ones(3, 3))
        assert_close(n, standardised(n))


def test_frozen_noise_is_left_alone_while_codes_move() -> None:
    prior, _, params, y = scene(damage())
    phase = Phase(space="W", steps=2, lr=0.01, codes=True)
    found = search(prior, y, damage(), params, phases=[phase], free=FREE).params.tensors()
    assert torch.equal(found["stages.1.eps"], params.tensors()["stages.1.eps"])
    assert not torch.equal(found["stages.1.sigma"], params.tensors()["stages.1.sigma"])


def test_a_free_code_finds_the_level_of_the_noise() -> None:
    prior, _, params, y = scene(GaussianNoise((0.1, 0.2)))
    w = prior.map(prior.latents(3, generator=generators_for(0, range(3))))
    wrong = replace(params, sigma=torch.full((3,), 0.02))  # type: ignore[call-arg]
    phase = Phase(space="W", steps=100, lr=1e-6, codes=True)
    found = search(
        prior,
        y,
        GaussianNoise((0.1, 0.2)),
        wrong,
        phases=[phase],
        free=Free(codes=("sigma",)),
        start=w,
    )
    assert_close(found.params.sigma, params.sigma, rtol=0, atol=2e-3)  # type: ignore[attr-defined]


def test_params_are_projected_as_the_caller_says() -> None:
    prior, _, params, y = scene(GaussianNoise((0.1, 0.2)))

    def project(params: Params) -> Params:
        tensors = params.tensors()
        return params.replace_tensors(
            {"sigma": tensors["sigma"].clamp(max=0.1), "eps": tensors["eps"].sign()}
        )

    found = search(
        prior,
        y,
        GaussianNoise((0.1, 0.2)),
        params,
        phases=short(UNIVERSAL, 2),
        free=Free(codes=("sigma",), noise=("eps",)),
        project=project,
    ).params.tensors()
    assert_close(found["eps"].abs(), torch.ones_like(found["eps"]))
    assert found["sigma"].max() <= 0.1


def test_a_search_that_arrived_stays_there() -> None:
    # The slope of a root at zero is no number; the other samples go on.
    prior = linear_prior()
    z = prior.latents(2, generator=generator_for("z"))
    y = prior(torch.stack([z[0], z[1] + 1]))
    nothing = Identity().sample(tuple(y.shape), generator=generator_for("n"))

    def root(a: Tensor, b: Tensor) -> Tensor:
        return squares(a, b).sqrt()

    phase = Phase(space="Z", steps=3, lr=0.1)
    found = search(prior, y, Identity(), nothing, phases=[phase], distance=root, start=z)
    assert torch.equal(found.latents[0], z[0])
    assert_close((found.latents[1] - z[1]).norm().item(), 0.3)


def test_a_search_can_be_replayed_and_taken_up_again() -> None:
    prior, _, params, y = scene(damage())
    phases = short(RSG, 5)
    whole, again = (search(prior, y, damage(), params, phases=phases) for _ in range(2))
    assert torch.equal(whole.latents, again.latents)
    first = search(prior, y, damage(), params, phases=phases[:2])
    wide = prior.widen(first.latents, first.space, "W++")
    rest = search(prior, y, damage(), params, phases=phases[2:], start=wide)
    assert torch.equal(rest.latents, whole.latents)
    other = search(prior, y, damage(), params, phases=short(PULSE, 2), generator=generator_for("b"))
    assert not torch.equal(
        search(prior, y, damage(), params, phases=short(PULSE, 2)).latents, other.latents
    )


@pytest.mark.parametrize(
    ("prior", "spaces"),
    [(style_prior(), ["W", "W+", "W++"]), (GANPrior.Config().build(), ["Z"])],
)
def test_phases_are_those_of_the_priors_spaces(prior: Prior, spaces: list[str]) -> None:
    assert [phase.space for phase in phases_for(prior)] == spaces


def test_a_plain_generator_is_inverted() -> None:
    network = ResNetGenerator.Config(latent=6, channels=(4,))
    prior = GANPrior.Config(network=network).build()
    y = prior.sample(2, generator=generator_for("x")).detach()
    nothing = Identity().sample(tuple(y.shape), generator=generator_for("n"))
    found = search(prior, y, Identity(), nothing)
    assert found.space == "Z"
    assert (found.losses < found.path[0][0]).all()


def inverter(**changes: object) -> Inverter:
    halve = Downsample(2)
    config = Inverter.Config(phases=short(PULSE, 6), **changes)  # type: ignore[arg-type]
    return Inverter(
        style_prior(),
        halve,
        lambda y, generator: halve.sample((len(y), 3, 16, 16), generator=generator),
        distance=squares,
        config=config,
    )


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_an_inverter_is_a_restorer(mode: Callable[[], torch.no_grad]) -> None:
    restorer = inverter(restarts=2)
    assert isinstance(restorer, Restorer)
    assert (restorer.scale, restorer.receptive_field, restorer.multiple) == (2, None, 1)
    with mode():
        y = style_prior(7).sample(3, generator=generator_for("y"))[..., ::2, ::2]
        x = restorer(y)
        alone = restorer(y[1:2])
    assert x.shape == (3, 3, 16, 16)
    assert 0 <= x.min() <= x.max() <= 1
    assert_close(alone, x[1:2], rtol=0, atol=1e-5)
    assert torch.equal(x, inverter(restarts=2)(y.clone()))
    assert not torch.equal(x, inverter(restarts=2, seed=1)(y.clone()))


def test_the_best_restart_of_each_image_is_kept() -> None:
    restorer = inverter(restarts=3)
    y = style_prior(7).sample(4, generator=generator_for("y"))[..., ::2, ::2].detach()
    searches = restorer.searches(y)
    best = best_of(searches)
    losses = torch.stack([found.losses for found in searches])
    assert losses.unique().numel() == 12
    assert_close(best.losses, losses.min(dim=0).values)
    for i, winner in enumerate(losses.argmin(dim=0).tolist()):
        assert torch.equal(best.images[i], searches[winner].images[i])
        assert torch.equal(best.latents[i], searches[winner].latents[i])
        assert torch.equal(best.path[0][:, i], searches[winner].path[0][:, i])
    assert torch.equal(restorer(y), best.images.clamp(0, 1))


def test_a_search_that_broke_down_is_never_the_best() -> None:
    y = torch.rand(2, 3, 8, 8, generator=generator_for("y"))
    (found,) = inverter().searches(y)
    broken = replace(found, losses=torch.full((2,), math.nan))
    assert torch.equal(best_of([broken, found]).losses, found.losses)


def test_a_configuration_survives_json() -> None:
    config = Inverter.Config(phases=UNIVERSAL, free=FREE, restarts=2)
    kinds = {"Inverter": Inverter.Config, "Phase": Phase, "Free": Free}
    assert decode(json.loads(json.dumps(encode(config))), kinds) == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Phase(space="W", lr=0.0), r"steps=150, lr=0.0; give both above 0"),
        (lambda: Phase(space="V", lr=1.0), r"space='V' is not known; choose Z, W, W\+, W\+\+"),  # type: ignore[arg-type]
        (lambda: Phase(space="W", lr=1.0, sphere=True), r"sphere=True in W; only latents of Z"),
        (lambda: Free(codes=("a",), noise=("a",)), r"'a' is named as code and as noise"),
        (lambda: Free(codes_lr=0.0), r"codes_lr=0.0, noise_lr=0.01; give both above 0"),
        (lambda: Inverter.Config(restarts=0), r"restarts=0; give at least 1"),
    ],
)
def test_settings_that_say_nothing_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_truth_values_cannot_be_free() -> None:
    prior, _, _, y = scene(damage())
    some = Partial(GaussianNoise((0.1, 0.2)), 0.5)
    params = some.sample(tuple(y.shape), generator=generator_for("p"))
    with pytest.raises(ValueError, match=r"'applied' holds torch.bool; only real numbers can move"):
        search(prior, y, some, params, free=Free(codes=("applied",)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phases": []}, r"there are no phases; give at least one"),
        ({"phases": RSG[::-1]}, r"go through W\+\+, W\+, W; no space may come after a larger one"),
        ({"free": Free(codes=("sigma",))}, r"no 'sigma' that could be free; they have stages.0"),
        ({"free": Free(noise=("stages.1.sigma",))}, r"shape \(3,\), and no maps to standardise"),
        ({"distance": lambda a, b: (a - b).mean()}, r"shape \(\); give one number for each of"),
        ({"params": 1}, r"got params of 1 samples for 3 images"),
        ({"y": 8}, r"shape \(3, 3, 16, 8\); this prior and .* make \(B, 3, 16, 16\)"),
        ({"degradation": JPEG()}, r"JPEG has no gradients to the image"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    prior, _, params, y = scene(damage())
    given = dict(changes)
    params = params[:1] if given.pop("params", None) else params
    y = y[..., :8] if given.pop("y", None) else y
    with pytest.raises(ValueError, match=message):
        search(prior, y, given.pop("degradation", damage()), params, **given)
