"""The search of latents: its terms, its spheres, what it finds, and that samples do not see each other."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from inversion_toy import SIDE, damaged, gan_prior, style_prior
from torch import Tensor
from torch.testing import assert_close

from blemish.configuration import decode, encode, override
from blemish.degradations import (
    JPEG,
    Downsample,
    GaussianNoise,
    Identity,
    LearnedLikelihood,
    QualityLaw,
    bits_per_dim,
)
from blemish.functional.random import generator_for, generators_for, randn
from blemish.functional.resample import area
from blemish.losses import MMD
from blemish.networks import ConditionalPixelCNN, StyleGenerator
from blemish.priors import Prior, StylePrior
from blemish.restorers import (
    MMD_SEARCH,
    PULSE_SEARCH,
    Found,
    LatentSearch,
    Restorer,
    best_found,
)
from blemish.restorers.charts import Straightened
from blemish.restorers.latent_search import chunked, draws_of
from blemish.restorers.terms import Bits, Candidate, Discrepancy, Objective, PixelDistance

LAYERS, WIDTH = 6, 8


def search(prior: Prior | None = None, damage: Any = None, **changes: Any) -> LatentSearch:
    config = replace(LatentSearch.Config(steps=3, draws=50), **changes)
    return LatentSearch(style_prior() if prior is None else prior, damage, config)


def only(searcher: LatentSearch, y: Tensor) -> Found:
    (found,) = searcher.searches(y)
    return found


# Terms


def test_the_distance_between_pixels_has_a_floor_below_which_nothing_pulls() -> None:
    prior = style_prior()
    y = damaged(prior)
    x = (y + torch.tensor([0.01, 0.3])[:, None, None, None]).requires_grad_()
    params = Identity().sample(tuple(y.shape), generator=generator_for("p"))
    candidate = Candidate(x, torch.zeros(2, 1, 4), torch.zeros(2, 1, 4))
    term = PixelDistance(y, Identity(), params, floor=2e-3)
    assert_close(term(candidate).detach(), torch.tensor([2e-3, 0.09]), rtol=1e-4, atol=0)
    (slope,) = torch.autograd.grad(term(candidate).sum(), x)
    assert (slope[0] == 0).all()
    assert (slope[1] != 0).all()
    absolute = PixelDistance(y, Identity(), params, norm="L1")(candidate).detach()
    assert_close(absolute, torch.tensor([0.01, 0.3]), rtol=1e-4, atol=0)


def test_the_objective_is_the_sum_of_weighted_terms() -> None:
    y = (damaged(style_prior()) * 255).round() / 255
    weights = {"pixels": 70.0, "bits": 2.0, "cross": 0.5, "mmd": 3.0}
    path = only(search(damage=GaussianNoise((0.1, 0.1)), **weights), y).path
    assert list(path) == [*weights, "total"]
    assert_close(path["total"], sum(weight * path[name] for name, weight in weights.items()))
    assert all(values.shape == (4, 2) for values in path.values())


def test_bits_are_those_of_the_likelihood() -> None:
    d = GaussianNoise((0.1, 0.1))
    y = d.prepared((damaged(style_prior()) * 255).round() / 255)
    x = damaged(style_prior(), seed=1)
    candidate = Candidate(x, torch.zeros(2, 1, 4), torch.zeros(2, 1, 4))
    expected = -d.log_prob(y, x) / (3 * SIDE * SIDE * math.log(2))
    assert_close(Bits(y, d)(candidate), expected)
    # A larger image is brought to the size of what was observed.
    large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert_close(Bits(y, d)(replace(candidate, images=large)), expected)


def test_the_discrepancy_compares_chunks_of_z_with_draws_of_a_normal_law() -> None:
    z = randn((2, 24), generator_for("z"))
    assert chunked(z).shape == (2, 3, 8)
    assert torch.equal(chunked(z).flatten(1), z)
    assert chunked(randn((2, 6), generator_for("z"))).shape == (2, 1, 6)
    assert chunked(randn((2, 22), generator_for("z"))).shape == (2, 11, 2)
    draws = draws_of(gan_prior(), "Z", 4000, like=z)
    assert draws.shape == (4000, 6)
    assert_close(draws.T.cov(), torch.eye(6), rtol=0, atol=0.1)
    # Its minimum lies where draws lie, not at the origin.
    mmd = MMD.of(randn((1000, 8), generator_for("ref")), power=2)
    many = randn((50, 64), generator_for("many"))
    at = {s: mmd(chunked(s * many)).mean() for s in (0.01, 0.5, 1.0, 2.0)}
    assert min(at, key=lambda s: at[s].item()) == 1.0


# Steps


@pytest.mark.parametrize("centre", ["origin", "mean"])
@pytest.mark.parametrize("sphere", ["start", "prior"])
def test_every_vector_stays_on_its_sphere(sphere: str, centre: str) -> None:
    prior = style_prior()
    y = damaged(prior)
    found = only(search(prior, start="random", sphere=sphere, centre=centre, steps=9), y)
    draws = draws_of(prior, "W+", 50, like=y)
    c = draws.mean(dim=0) if centre == "mean" else torch.zeros(WIDTH)
    lengths = (found.latents - c).norm(dim=-1)
    start = only(search(prior, start="random", sphere="none", steps=1, lr=1e-12), y).latents
    expected = (start - c).norm(dim=-1)
    if sphere == "prior":
        expected = (draws - c).norm(dim=-1).mean().expand_as(lengths)
    assert_close(lengths, expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(found.latents, start)


def test_without_spheres_lengths_change() -> None:
    y = damaged(style_prior())
    found = only(search(sphere="none", steps=9, kept="last"), y)
    lengths = found.latents.norm(dim=-1)
    assert (lengths - lengths[0, 0]).abs().max() > 1e-3


def test_steps_scale_with_the_radius() -> None:
    """What Adam's first step turns a vector by does not depend on the units of the latents."""

    class Scaled(type(style_prior())):  # type: ignore[misc]
        def map(self, z: Tensor) -> Tensor:
            return 20 * super().map(z)

        def synthesize(self, latent: Tensor, space: str = "Z", noise: Any = None) -> Tensor:
            return super().synthesize(latent if space == "Z" else latent / 20, space, noise)

    prior = style_prior()
    scaled = Scaled(prior.config)
    scaled.load_state_dict(prior.state_dict())
    y = damaged(prior)
    plain, large = (only(search(p, cross=0.0, steps=5), y) for p in (prior, scaled.eval()))
    assert_close(large.latents / 20, plain.latents, rtol=1e-3, atol=1e-4)


def test_the_mean_start_has_the_same_style_everywhere_and_a_random_one_has_not() -> None:
    prior = style_prior()
    y = damaged(prior)
    same = only(search(prior, lr=1e-12, kept="last"), y).latents
    assert_close(same, same[:1, :1].expand_as(same), rtol=0, atol=1e-6)
    assert_close(same[0, 0], prior.mean_w(generator=generator_for("mean style")))
    drawn = only(search(prior, start="random", lr=1e-12, kept="last"), y).latents
    assert torch.pdist(drawn.flatten(0, 1)[:LAYERS]).min() > 1e-2
    # Each image's start follows from the seed alone.
    assert_close(drawn[0], drawn[1])
    other = only(search(prior, start="random", lr=1e-12, kept="last", seed=1), y).latents
    assert (other - drawn).abs().max() > 1e-2


def test_straightened_coordinates_are_about_normal_and_go_there_and_back() -> None:
    w = torch.nn.functional.leaky_relu(
        3 * randn((20000, 4), generator_for("w")) + torch.arange(4.0), 0.2
    )
    chart = Straightened.of(w)
    u = chart.coordinates(w)
    assert_close(chart.styles(u), w, rtol=1e-5, atol=1e-5)
    assert_close(u.mean(dim=0), torch.zeros(4), rtol=0, atol=1e-4)
    assert_close(u.T.cov(), torch.eye(4), rtol=0, atol=0.03)
    with pytest.raises(ValueError, match="at least 2"):
        Straightened.of(w[:1])


def test_pulse_moves_on_the_sphere_of_its_coordinates() -> None:
    prior = style_prior()
    y = damaged(prior)
    config = replace(PULSE_SEARCH, steps=6, draws=400)
    found = only(LatentSearch(prior, None, config), y)
    chart = Straightened.of(draws_of(prior, "W+", 400, like=y))
    start = only(LatentSearch(prior, None, replace(config, lr=1e-12)), y)
    lengths = [chart.coordinates(f.latents).norm(dim=-1) for f in (found, start)]
    assert_close(*lengths, rtol=1e-4, atol=1e-4)


# What it finds


@pytest.mark.parametrize("config", [PULSE_SEARCH, MMD_SEARCH])
@pytest.mark.parametrize("make", [style_prior, gan_prior])
def test_what_the_prior_made_is_found_again(config: LatentSearch.Config, make: Any) -> None:
    prior = make()
    with torch.no_grad():
        x = prior.sample(3, generator=generators_for(7, range(3)))
    found = only(LatentSearch(prior, None, replace(config, steps=60, draws=100)), x)
    path = found.path["pixels"].mean(dim=1)
    assert path.min() < 0.5 * path[0]
    assert (found.losses <= found.path["total"].min(dim=0).values + 1e-6).all()


def test_a_smaller_picture_is_explained() -> None:
    prior = style_prior()
    with torch.no_grad():
        x = prior.sample(2, generator=generators_for(7, range(2)))
    d = Downsample(4)
    y = d(x, d.sample(tuple(x.shape), generator=generator_for("d")))
    searcher = search(prior, d, steps=40)
    assert searcher(y).shape == x.shape
    path = only(searcher, y).path["pixels"].mean(dim=1)
    assert path.min() < 0.5 * path[0]


def test_the_discrepancy_falls_where_it_counts() -> None:
    prior = style_prior()
    y = damaged(prior, 4)
    with_, without = (
        only(search(prior, mmd=w, power=2, sphere="none", cross=0.0, steps=40, kept="last"), y)
        for w in (300.0, 0.0)
    )
    assert (with_.path["mmd"][-1] < without.path["mmd"][-1]).all()


def test_the_best_on_the_path_or_the_last_is_kept() -> None:
    y = damaged(style_prior())
    best, last = (only(search(steps=12, lr=3.0, kept=kept), y) for kept in ("best", "last"))
    assert_close(best.last, last.images)
    assert_close(last.losses, last.path["total"][-1])
    assert_close(best.losses, best.path["total"].min(dim=0).values)


def test_a_picture_is_restored_as_it_would_be_alone() -> None:
    prior = style_prior()
    y = damaged(prior, 3)
    for config in (PULSE_SEARCH, MMD_SEARCH):
        searcher = LatentSearch(prior, GaussianNoise((0.1, 0.2)), replace(config, steps=2))
        assert_close(searcher(y[1:2]), searcher(y)[1:2], rtol=0, atol=1e-4)


def test_the_best_of_restarts_is_chosen_for_each_image() -> None:
    y = damaged(style_prior(), 4)
    searcher = search(start="random", restarts=3)
    results = searcher.searches(y)
    best = best_found(results)
    losses = torch.stack([found.losses for found in results])
    assert_close(best.losses, losses.min(dim=0).values)
    for i, winner in enumerate(losses.argmin(dim=0).tolist()):
        assert torch.equal(best.images[i], results[winner].images[i])
        assert torch.equal(best.path["total"][:, i], results[winner].path["total"][:, i])
    assert searcher.asked == 12
    assert isinstance(searcher, Restorer)


def test_a_search_from_the_mean_is_begun_again_at_draws() -> None:
    prior = style_prior()
    y = damaged(prior)
    first, second, third = search(prior, restarts=3, lr=1e-12, kept="last").searches(y)
    mean = prior.mean_w(generator=generator_for("mean style"))
    assert_close(first.latents, mean.expand_as(first.latents))
    assert (second.latents - third.latents).abs().amax() > 1e-2
    assert (second.latents[:, 0] - second.latents[:, 1]).abs().amax() > 1e-2


def test_a_display_is_told_of_every_step() -> None:
    told: list[int] = []
    searcher = search(restarts=2)
    searcher.tell = told.append
    searcher.searches(damaged(style_prior()))
    assert told == list(range(1, 9))


def test_a_caller_without_gradients_gets_the_same() -> None:
    y = damaged(style_prior())
    searcher = search()
    expected = searcher(y)
    with torch.inference_mode():
        assert_close(searcher(y), expected)


@pytest.mark.parametrize(
    "changes", [{"power": 2}, {"gamma": 3.0}, {"scales": (0.5, 2.0)}, {"unbiased": True}]
)
def test_the_kernel_is_the_one_that_was_asked_for(changes: dict[str, Any]) -> None:
    prior = style_prior()
    y = damaged(prior)
    found = only(search(prior, start="random", kept="last", **changes), y)
    samples = draws_of(prior, "W+", 50, like=y)
    gamma = changes.get("gamma", changes.get("scales", "median"))
    mmd = MMD.of(
        samples, gamma=gamma, **{k: v for k, v in changes.items() if k in ("power", "unbiased")}
    )
    assert_close(found.path["mmd"][-1], mmd(found.latents))
    assert (mmd(found.latents) - MMD.of(samples)(found.latents)).abs().min() > 1e-4


# What does not fit


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": "W"}, "choose Z or W+"),
        ({"bits": 1.0}, "is no likelihood"),
        ({"pixels": 0.0}, "nothing would ask"),
        ({"steps": 0}, "at least 1"),
        ({"draws": 1}, "at least 2"),
        ({"sphere": "moon"}, "choose start, prior, none"),
        ({"gamma": 0.0}, "above 0"),
        ({"scales": (1.0, -1.0)}, "above 0"),
        ({"gamma": 1.0, "scales": (1.0,)}, "give one of them"),
        ({"mmd": -1.0}, "weights from 0"),
    ],
)
def test_what_is_no_search_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        search(damage=Identity(), **changes)


def test_damage_without_gradients_is_no_distance() -> None:
    with pytest.raises(ValueError, match="no gradients"):
        search(damage=JPEG(QualityLaw(10, 20)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"centre": "mean"}, "no step could leave it"),
        ({"side": 8}, "compared at the prior's size"),
        ({"noise": 1}, "has 0 maps of noise"),
    ],
)
def test_a_search_that_could_not_move_or_compare_is_refused(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        search(**changes)


@pytest.mark.parametrize("shape", [(2, 1, SIDE, SIDE), (2, 3, SIDE // 2, SIDE // 2)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"takes \(B, 3, {SIDE}, {SIDE}\)"):
        search().searches(torch.zeros(shape))


def learned(side: int = SIDE) -> tuple[LearnedLikelihood, Tensor]:
    network = ConditionalPixelCNN.Config(
        width=4, blocks=1, components=2, residual=True, dropout=0.0
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        law = LearnedLikelihood.Config(network=network).build().eval().requires_grad_(False)
    return law, area(damaged(style_prior()), (side, side)).mul(255).round() / 255


def test_bits_of_a_learned_law_take_the_place_of_pixels_or_stand_beside_them() -> None:
    law, y = learned()
    assert list(only(search(damage=law), y).path) == ["bits", "cross", "mmd", "total"]
    both = only(search(damage=law, pixels=100.0, steps=20), y).path
    assert list(both) == ["pixels", "bits", "cross", "mmd", "total"]
    x = only(search(damage=law, pixels=100.0, kept="last"), y)
    assert_close(x.path["pixels"][-1], (x.images - y).square().mean(dim=(1, 2, 3)).clamp(min=2e-3))
    assert both["total"].min(dim=0).values.lt(both["total"][0]).all()


def test_a_law_of_smaller_images_is_asked_about_area_averages() -> None:
    law, y = learned(SIDE // 2)
    found = only(search(damage=law, side=SIDE // 2, kept="last"), y)
    assert found.images.shape[-1] == SIDE
    small = area(found.images, (SIDE // 2, SIDE // 2))
    assert_close(found.path["bits"][-1], bits_per_dim(law.log_prob(y, small), y.shape))


def test_maps_of_noise_move_on_their_spheres_and_come_with_the_result() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = StyleGenerator.Config(latent=8, channels=(6, 6, 6), noise=True)
        prior = StylePrior.Config(network=network).build().eval().requires_grad_(False)
        for conv in prior.network.convs:
            torch.nn.init.constant_(conv.strength, 0.5)
    y = damaged(prior)
    for kept in ("best", "last"):
        found = only(search(prior, noise=2, steps=5, kept=kept), y)
        assert_close(prior.synthesize(found.latents, found.space, found.noise), found.images)
        generators = [generator_for(0, 0, "noise") for _ in y]
        drawn = prior.noise(2, generator=generators)
        moved = [not torch.equal(a, b) for a, b in zip(found.noise, drawn, strict=True)]
        assert moved == [True, True, False, False, False]
        for a, b in zip(found.noise, drawn, strict=True):
            assert_close(a.flatten(1).norm(dim=1), b.flatten(1).norm(dim=1))
    assert only(search(prior), y).noise == ()


def test_a_term_without_weight_is_seen_and_does_not_pull() -> None:
    y = damaged(style_prior())
    seen = only(search(cross=0.0, mmd=0.0), y)
    term = Discrepancy(MMD.of(torch.full((3, WIDTH), 1.0) + torch.eye(3, WIDTH)))
    candidate = Candidate(y, seen.latents, seen.latents.clone().requires_grad_())
    values = Objective([term], [0.0])(candidate)
    assert not values["mmd"].requires_grad
    assert Objective([term], [1.0])(candidate)["mmd"].requires_grad


def test_configurations_are_written_and_read() -> None:
    config = override(override(MMD_SEARCH, "mmd", "30"), "sphere", "prior")
    assert (config.mmd, config.sphere) == (30.0, "prior")
    kinds = {"LatentSearch": LatentSearch.Config}
    assert decode(encode(config), kinds) == config
