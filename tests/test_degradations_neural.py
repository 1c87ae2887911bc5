"""The neural degradation and its attack: identities, alignment, balls, ascent."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from blemish.degradations import NeuralDegradation, Radii, attack, deviation
from blemish.degradations.attack import STEP
from blemish.degradations.neural import Groups
from blemish.functional.each import conv2d_each
from blemish.functional.pool import Pool, pool
from blemish.functional.random import generator_for, generators_for, rand, randn
from blemish.functional.resample import bicubic, modcrop

SMALL = NeuralDegradation.Config(channels=8, blocks=(2, 2))
SCALES = (1, 2, 3, 4)
POOLS: tuple[Pool, ...] = ("binomial", "area", "bicubic")


def small(**changes: Any) -> NeuralDegradation:
    return replace(SMALL, **changes).build()


def images(n: int = 4, side: int = 24) -> Tensor:
    """Smooth pictures with edges: noise would hide what a filter does."""
    rough = rand((n, 3, side // 4, side // 4), generator_for("pictures"))
    return F.interpolate(rough, size=(side, side), mode="bicubic").clamp(0, 1)


def enlarging(x: Tensor) -> Any:
    """The loss of plain bicubic enlargement, one number for each sample."""

    def loss(y: Tensor) -> Tensor:
        return (bicubic(y, (x.shape[-2], x.shape[-1])) - x).abs().flatten(1).mean(dim=1)

    return loss


# Building blocks


@pytest.mark.parametrize("side", [1, 3, 5])
def test_each_sample_has_its_own_filters(side: int) -> None:
    g = generator_for("each")
    x, w = randn((3, 4, 7, 9), g), randn((3, 5, 4, side, side), g)
    padded = F.pad(x, (side // 2,) * 4, mode="replicate")
    slow = torch.cat([F.conv2d(padded[i : i + 1], w[i]) for i in range(3)])
    assert_close(conv2d_each(x, w), slow)


def test_filters_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"filters \(2, 5, 4, 3, 3\) do not fit images \(3, 4"):
        conv2d_each(torch.zeros(3, 4, 7, 9), torch.zeros(2, 5, 4, 3, 3))


@pytest.mark.parametrize("method", POOLS)
@pytest.mark.parametrize("scale", SCALES)
def test_reductions_move_nothing_and_keep_flat_images_flat(scale: int, method: Pool) -> None:
    # A row of ones at each place in turn: the weights with which a pixel counts.
    side = 16 * scale
    impulses = torch.eye(side, dtype=torch.float64)[:, None, None, :].expand(-1, 1, side, -1)
    weights = pool(impulses, scale, method)[:, 0, 8, :]  # (place, pixel of the result)
    assert_close(weights.sum(0), torch.ones(16, dtype=torch.float64), rtol=0, atol=1e-6)
    centroid = (weights * torch.arange(side)[:, None]).sum(0)
    expected = scale * torch.arange(16, dtype=torch.float64) + (scale - 1) / 2
    # Away from the borders, which go on as they end
    assert_close(centroid[4:-4], expected[4:-4], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_binomial_reduction_lets_less_pass_beyond_the_new_limit(scale: int) -> None:
    side = 48 * scale
    frequency = torch.arange(1, side // 2, dtype=torch.float64) / side
    waves = torch.cos(2 * math.pi * frequency[:, None] * torch.arange(side))[:, None, None, :]
    waves = waves.expand(-1, 1, scale, -1)
    energy = {
        m: pool(waves, scale, m)[:, 0, 0, 8:-8].square().mean(1) for m in ("binomial", "area")
    }
    beyond = frequency > 0.5 / scale
    assert energy["binomial"][beyond].sum() < 0.5 * energy["area"][beyond].sum()


def test_sides_that_the_scale_does_not_divide_are_cropped() -> None:
    assert modcrop(torch.zeros(2, 3, 33, 47), 4).shape == (2, 3, 32, 44)
    with pytest.raises(ValueError, match="33x47 pixels are not divided by 2"):
        pool(torch.zeros(1, 1, 33, 47), 2)
    with pytest.raises(ValueError, match="scale=5"):
        pool(torch.zeros(1, 1, 10, 10), 5)


# The identity


@pytest.mark.parametrize("scale", SCALES)
def test_unperturbed_it_is_the_reduction_in_a_thousand_draws(scale: int) -> None:
    d = NeuralDegradation.Config(scale=scale).build()
    assert d.config.channels == 64
    x = rand((50, 3, 12, 12), generator_for("x", scale))
    worst = 0.0
    with torch.no_grad():
        for i in range(5 if scale > 1 else 20):
            params = d.identity((50, 3, 12, 12), generator=generator_for("identity", scale, i))
            worst = max(worst, float((d(x, params) - pool(x, scale)).abs().max()))
    assert worst <= 1e-5


@pytest.mark.parametrize("blocks", [(0, 0), (0, 1), (3, 0), (2, 2)])
@pytest.mark.parametrize("method", POOLS)
def test_it_is_so_for_every_shape_of_the_network(blocks: tuple[int, int], method: Pool) -> None:
    d = small(scale=2, blocks=blocks, pool=method)
    x = rand((3, 1, 17, 23), generator_for("x")).double()
    params = d.identity((3, 1, 17, 23), generator=generator_for("blocks")).to(torch.float64)
    assert_close(d(x, params), pool(x[..., :16, :22], 2, method), rtol=0, atol=1e-5)


def test_every_sample_gets_a_network_of_its_own() -> None:
    params = small().identity((3, 3, 8, 8), generator=generator_for("own"))
    assert not torch.equal(params.centres[0], params.centres[1])


def test_ill_conditioned_draws_are_replaced() -> None:
    shape, d = (200, 3, 8, 8), small(draws=8)

    def condition(d: NeuralDegradation) -> Tensor:
        centres = d.identity(shape, generator=generator_for("condition")).centres.double()
        product = torch.eye(3, dtype=torch.float64)
        sizes = [8 * 3, 8 * 8, 8 * 8, 8 * 8]
        for A, width in zip(
            centres[:, : sum(sizes)].split(sizes, dim=1), (3, 8, 8, 8), strict=True
        ):
            product = A.unflatten(1, (8, width)) @ product
        return torch.linalg.cond(product)

    # The narrow network draws bad ones often, and one in eight draws is nearly always good.
    assert (condition(small(draws=1)) > 10).double().mean() > 0.1
    assert (condition(d) > 10).double().mean() < 0.01


def test_filters_drawn_in_full_are_no_identity() -> None:
    d, x = small(identity=False), images()
    params = d.identity((4, 3, 24, 24), generator=generator_for("any"))
    assert (deviation(d, x, d(x, params)) < 20).all()


# Perturbations


def test_slopes_may_exceed_one() -> None:
    d = small(blocks=(1, 0), channels=8)
    x = randn((2, 3, 6, 6), generator_for("slopes"))
    params = d.identity((2, 3, 6, 6), generator=generator_for("slopes"))
    bent = replace(params, slopes=torch.full_like(params.slopes, 0.5))
    A = params.centres[:, :24].unflatten(1, (8, 3))
    last = params.centres[:, 24:].unflatten(1, (3, 8))
    f = A @ x.flatten(2)
    expected = last @ torch.where(f > 0, f, 1.5 * f)
    assert_close(d(x, bent).flatten(2), expected, rtol=0, atol=1e-5)


def test_black_is_where_the_bend_is_and_has_one_gradient() -> None:
    d, x = small(), torch.zeros(2, 3, 6, 6, requires_grad=True)
    params = d.identity((2, 3, 6, 6), generator=generator_for("black"))
    weights = randn((2, 3, 6, 6), generator_for("weights"))
    (gradient,) = torch.autograd.grad((d(x, params) * weights).sum(), x)
    assert_close(gradient, weights, rtol=0, atol=1e-5)


def test_a_noise_map_adds_itself_to_the_image() -> None:
    d, shape = small(scale=2), (2, 3, 12, 12)
    params = d.identity(shape, generator=generator_for("noise"))
    for layer, side in enumerate((12, 12, 6, 6)):
        e = 0.1 * randn((2, 3, side, side), generator_for("map", layer))
        before = sum(3 * s * s for s in (12, 12, 6, 6)[:layer])
        noise = params.noise.clone()
        noise[:, before : before + e[0].numel()] = e.flatten(1)
        x = torch.zeros(shape)
        found = d(x, replace(params, noise=noise))
        assert_close(found, pool(e, 2) if side == 12 else e, rtol=0, atol=1e-5)


def test_filters_of_flat_perturbations_keep_flat_images() -> None:
    radii = Radii(kernel=0.5, slope=0.0, noise=0.0)
    x = torch.full((3, 3, 16, 16), 0.3)
    for flat in (True, False):
        d = small(scale=2, radii=radii, flat=flat)
        y = d(x, d.sample((3, 3, 16, 16), generator=generator_for("flat")))
        assert ((y - 0.3).abs().max() < 1e-5) == flat


@pytest.mark.parametrize("joint", [False, True])
def test_draws_lie_on_the_sphere_of_their_reach(joint: bool) -> None:
    d = small(radii=Radii(kernel=0.1, slope=0.2, noise=0.3, joint=joint), reach=2.5)
    shape = (3, 3, 8, 8)
    p = d.sample(shape, generator=generator_for("reach"))
    units = [
        t.norm(dim=1) / r
        for t, r in zip(
            (p.kernels, p.slopes, p.noise), d.config.radii.lengths(shape, d.scale), strict=True
        )
    ]
    if joint:
        units = [torch.stack(units).norm(dim=0)]
    for length in units:
        assert_close(length, torch.full((3,), 2.5))


@pytest.mark.parametrize("joint", [False, True])
def test_the_projection_is_the_nearest_point_of_the_ball(joint: bool) -> None:
    radii, g = Radii(joint=joint), generator_for("projection")
    far = Groups(*(s * randn((5, n), g) for s, n in ((2.0, 9), (0.2, 4), (1.0, 30))))
    near = radii.project(far)

    def inside(groups: Any) -> Tensor:
        norms = torch.stack([t.norm(dim=1) for t in groups])
        return norms.norm(dim=0)[None] if joint else norms

    assert (inside(near) <= 1 + 1e-6).all()
    for a, b in zip(radii.project(near), near, strict=True):
        assert_close(a, b)
    distance = inside_distance(far, near)
    # No other point of the ball is nearer.
    for i in range(20):
        g = generator_for("other", i)
        other = radii.project(Groups(*(t + 0.1 * randn(t.shape, g) for t in near)))
        assert (inside_distance(far, other) >= distance - 1e-5).all()
    small_ones = Groups(*(0.01 * t for t in near))
    for a, b in zip(radii.project(small_ones), small_ones, strict=True):
        assert torch.equal(a, b)


def inside_distance(a: Any, b: Any) -> Tensor:
    return torch.cat([s - t for s, t in zip(a, b, strict=True)], dim=1).norm(dim=1)


@pytest.mark.parametrize("method", POOLS)
def test_images_keep_their_precision_under_autocast(method: Pool) -> None:
    d, x = small(scale=2, pool=method), images()
    params = d.identity((4, 3, 24, 24), generator=generator_for("half"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = d(x, params)
    assert y.dtype == torch.float32
    assert (y - d(x, params)).abs().max() < 0.05


# The attack


@pytest.mark.parametrize(
    "radii",
    [
        Radii(kernel=0.05, slope=0.0, noise=0.0),
        Radii(kernel=0.0, slope=0.05, noise=0.0),
        Radii(kernel=0.0, slope=0.0, noise=0.01),
        Radii(kernel=0.05, slope=0.05, noise=0.01),
        Radii(kernel=0.05, slope=0.05, noise=0.01, joint=True),
    ],
)
def test_the_ascent_raises_the_loss_within_its_bounds(radii: Radii) -> None:
    d, x = small(scale=2, radii=radii), images(40)
    shape = (40, 3, 24, 24)
    loss = enlarging(x)
    params = attack(d, x, loss, generator=generator_for("ascent"))
    unperturbed = d.identity(shape, generator=generator_for("ascent"))
    assert torch.equal(params.centres, unperturbed.centres)
    with torch.no_grad():
        raised = loss(d(x, params)) > loss(d(x, unperturbed))
    assert raised.double().mean() >= 0.95
    for moved, r in zip(
        (params.kernels, params.slopes, params.noise), radii.lengths(shape, d.scale), strict=True
    ):
        assert (moved.norm(dim=1) <= r * (1 + 1e-5)).all()
    assert not any(t.requires_grad for t in params.tensors().values())


def test_a_step_has_the_length_of_its_radius_whatever_the_loss() -> None:
    radii = Radii(kernel=0.05, slope=0.05, noise=0.01)
    d, x = small(radii=radii), images()
    for factor in (1e-6, 1e6):
        loss = enlarging(x)
        params = attack(
            d,
            x,
            lambda y, f=factor, loss=loss: f * loss(y),
            generator=generator_for("step"),
            steps=1,
        )
        for moved, r in zip(
            (params.kernels, params.slopes, params.noise),
            radii.lengths((4, 3, 24, 24), d.scale),
            strict=True,
        ):
            assert_close(moved.norm(dim=1), torch.full((4,), STEP * r), rtol=1e-4, atol=0)


def test_without_steps_it_is_the_identity() -> None:
    d, x = small(scale=2), images()
    params = attack(d, x, enlarging(x), generator=generator_for("none"), steps=0)
    assert_close(d(x, params), pool(x, 2), rtol=0, atol=1e-5)


def test_an_attack_does_not_depend_on_the_batch() -> None:
    d, x = small(scale=2, radii=Radii(kernel=0.05)), images()
    together = attack(d, x, enlarging(x), generator=generators_for(0, range(4)))
    for i in range(4):
        alone = attack(d, x[[i]], enlarging(x[[i]]), generator=generators_for(0, [i]))
        assert_close(alone.tensors(), together[i].tensors(), rtol=1e-3, atol=1e-5)


def test_a_sample_whose_loss_is_no_number_stays_where_it_was() -> None:
    d, x = small(), images()

    def loss(y: Tensor) -> Tensor:
        broken = torch.tensor([1.0, float("nan"), 1.0, float("inf")])
        return enlarging(x)(y) * broken

    params = attack(d, x, loss, generator=generator_for("broken"))
    assert all(t.isfinite().all() for t in params.tensors().values())
    assert (params.kernels.norm(dim=1) > 0).tolist() == [True, False, True, False]


def test_the_printed_ball_diverges_and_uses_neither_noise_nor_slopes() -> None:
    config = NeuralDegradation.Config(scale=2, radii=Radii.paper(), flat=False, channels=16)
    d, x = config.build(), images(2, side=32)
    params = attack(d, x, enlarging(x), generator=generator_for("paper"))
    lengths = d.config.radii.lengths((2, 3, 32, 32), d.scale)
    parts = [
        (t.norm(dim=1) / r).square()
        for t, r in zip((params.kernels, params.slopes, params.noise), lengths, strict=True)
    ]
    assert (parts[0] / sum(parts) > 0.99).all()
    assert (deviation(d, x, d(x, params)) < -40).all()


def test_deviations_are_psnrs() -> None:
    d, x = small(scale=2), images()
    y = pool(x, 2) + 0.1
    assert_close(deviation(d, x, y), torch.full((4,), 20.0), rtol=1e-4, atol=0)


# Errors


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"scale": 5}, "scale=5"),
        ({"blocks": (-1, 2)}, r"blocks=\(-1, 2\)"),
        ({"channels": 2}, "channels=2"),
    ],
)
def test_impossible_networks_are_named(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(SMALL, **changes)


def test_radii_are_lengths() -> None:
    with pytest.raises(ValueError, match=r"radii=\(-1.0, 0.03, 0.01\)"):
        Radii(kernel=-1.0)
