import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.kernels import (
    anisotropic_gaussian,
    centroid,
    delta,
    disk,
    disk_radius,
    entropy,
    gaussian,
    rms_radius,
)
from blemish.functional.motion import (
    MotionDraws,
    motion_draws,
    motion_kernel,
    motion_psf,
    motion_trajectory,
)
from blemish.functional.random import generators_for

CENTRINGS = ["full", "centroid", "box"]


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def supersampled_disk(radius: float, size: int, factor: int = 400) -> Tensor:
    """Counts points of a fine grid inside the disk."""
    fine = (torch.arange(size * factor, dtype=torch.float64) + 0.5) / factor - size / 2
    inside = (fine.square() + fine.square()[:, None] <= radius**2).double()
    area = inside.reshape(size, factor, size, factor).mean((1, 3))
    return area / area.sum()


def sums(kernel: Tensor) -> Tensor:
    return kernel.sum((1, 2, 3))


# Disk


@pytest.mark.parametrize("radius", [0.3, 0.6, 0.75, 1.0, math.sqrt(0.5), 1.234, 2.0, 2.5, 3.0, 4.9])
def test_disk_is_the_area_of_a_supersampled_disk(radius: float) -> None:
    kernel = disk(doubles(radius), 7)[0, 0]
    assert_close(kernel, supersampled_disk(radius, 7), rtol=0, atol=1e-4)
    assert_close(kernel.sum(), torch.ones((), dtype=torch.float64))


def test_disk_has_the_whole_area() -> None:
    radius = doubles(0.6, 1.0, 2.3, 3.4)
    kernel = disk(radius, 9)
    # The centre pixel lies inside these disks, so its mass is one pixel over the disk's area.
    inside = radius > math.sqrt(0.5)
    assert_close(kernel[inside, 0, 4, 4], 1 / (math.pi * radius[inside].square()))


@pytest.mark.parametrize("radius", [1e-6, 0.1, 0.5])
def test_disk_inside_one_pixel_changes_nothing(radius: float) -> None:
    assert_close(disk(doubles(radius), 5), delta(5).double(), rtol=0, atol=1e-12)


def test_disk_is_batched_and_symmetric() -> None:
    radius = torch.rand(20, generator=torch.Generator().manual_seed(0)) * 4 + 0.01
    kernel = disk(radius, 9)
    assert kernel.shape == (20, 1, 9, 9)
    assert kernel.dtype == torch.float32
    assert_close(kernel, torch.cat([disk(r[None], 9) for r in radius]))
    for other in (kernel.mT, kernel.flip(-1), kernel.flip(-2)):
        assert_close(kernel, other, rtol=0, atol=1e-7)
    assert (kernel >= 0).all()


def test_disk_spreads_with_its_radius() -> None:
    kernel = disk(torch.linspace(0.5, 4, 200, dtype=torch.float64), 11)
    spread = rms_radius(kernel)
    assert (spread.diff() > 0).all()
    assert (kernel[:, 0, 5, 5].diff() < 1e-12).all()


def test_disk_has_the_moment_of_a_disk_and_a_pixel() -> None:
    radius = torch.linspace(1, 5, 41, dtype=torch.float64)
    measured = disk_radius(disk(radius, 13))
    # A uniform pixel has the second moment 1 / 12 along each axis: r^2 / 2 + 1 / 6 in all.
    assert_close(measured, (radius.square() + 1 / 3).sqrt(), rtol=0.09, atol=0)
    assert_close(measured[radius >= 2], radius[radius >= 2], rtol=0.06, atol=0)


def test_disk_larger_than_its_support_is_cut() -> None:
    assert_close(disk(doubles(100.0), 3), torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64))
    assert_close(sums(disk(doubles(2.2, 3.0, 9.0), 5)), doubles(1, 1, 1))


def test_disk_gradient_to_the_radius() -> None:
    radius = doubles(0.8, 1.3, 2.1, 3.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda r: disk(r, 7), radius)
    special = doubles(0.2, 0.5, 1.5, 2.5, 50.0).requires_grad_()
    (gradient,) = torch.autograd.grad(disk(special, 5).square().sum(), special)
    assert gradient.isfinite().all()


# Gaussians


@pytest.mark.parametrize("sigma", [0.8, 1.0, 2.0])
def test_gaussian_moments(sigma: float) -> None:
    kernel = gaussian(doubles(sigma), 31)
    assert_close(rms_radius(kernel), doubles(math.sqrt(2) * sigma), rtol=1e-3, atol=0)
    assert_close(centroid(kernel), torch.zeros(1, 2, dtype=torch.float64), rtol=0, atol=1e-12)
    # The differential entropy of a normal law in the plane.
    assert_close(entropy(kernel), doubles(1 + math.log(2 * math.pi * sigma**2)), rtol=1e-3, atol=0)


def test_gaussian_of_no_width_changes_nothing() -> None:
    assert_close(gaussian(doubles(1e-9, 0.02), 5), delta(5).double().expand(2, -1, -1, -1))


def test_anisotropic_gaussian_has_the_covariance() -> None:
    sigma_x, sigma_y, angle = doubles(3.0, 1.0, 2.0), doubles(1.0, 2.5, 2.0), doubles(0.0, 0.4, 1.0)
    kernel = anisotropic_gaussian(sigma_x, sigma_y, angle, 31)
    p = torch.arange(31, dtype=torch.float64) - 15
    column, row = p.expand(31, 31), p[:, None].expand(31, 31)
    moments = [(kernel[:, 0] * m).sum((1, 2)) for m in (column**2, row**2, column * row)]
    a, b = sigma_x.square(), sigma_y.square()
    cos, sin = angle.cos(), angle.sin()
    assert_close(moments[0], a * cos**2 + b * sin**2, rtol=5e-3, atol=0)
    assert_close(moments[1], a * sin**2 + b * cos**2, rtol=5e-3, atol=0)
    assert_close(moments[2], (a - b) * sin * cos, rtol=5e-3, atol=1e-9)


def test_turning_a_gaussian_by_a_right_angle_swaps_its_axes() -> None:
    a, b, angle = doubles(2.0), doubles(0.7), doubles(0.3)
    turned = anisotropic_gaussian(a, b, angle + math.pi / 2, 11)
    assert_close(turned, anisotropic_gaussian(b, a, angle, 11))
    assert_close(turned, anisotropic_gaussian(a, b, angle, 11).rot90(1, (2, 3)))


# Statistics


def test_statistics_of_the_delta_kernel() -> None:
    kernel = delta(7)
    assert float(kernel[0, 0, 3, 3]) == float(kernel.sum()) == 1
    for statistic in (entropy, rms_radius, disk_radius):
        assert_close(statistic(kernel), torch.zeros(1))
    assert_close(centroid(kernel), torch.zeros(1, 2))


def test_statistics_of_two_points() -> None:
    kernel = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    kernel[0, 0, 0, 1], kernel[0, 0, 0, 3] = 0.2, 0.6
    # Masses 1/4 at column -1 and 3/4 at column 1, both in row -2.
    assert_close(centroid(kernel), doubles(0.5, -2.0)[None])
    assert_close(rms_radius(kernel), doubles(math.sqrt(0.75)))
    assert_close(entropy(kernel), doubles(-0.25 * math.log(0.25) - 0.75 * math.log(0.75)))


def test_statistics_do_not_depend_on_the_sum() -> None:
    kernel = torch.rand(3, 1, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for statistic in (entropy, rms_radius, disk_radius, centroid):
        assert_close(statistic(kernel), statistic(7 * kernel))
    assert (entropy(kernel) < math.log(81)).all()
    assert_close(entropy(torch.ones(1, 1, 9, 9)), torch.tensor([math.log(81)]))


@pytest.mark.parametrize("place", [(0, 0), (3, 12), (14, 14)])
def test_the_spread_of_a_narrow_kernel_far_from_the_centre(place: tuple[int, int]) -> None:
    kernel = torch.full((1, 1, 15, 15), 1e-6)
    kernel[0, 0, place[0], place[1]] = 1
    assert_close(rms_radius(kernel), rms_radius(kernel.double()).float(), rtol=1e-5, atol=0)


def test_entropy_has_finite_gradients_at_empty_pixels() -> None:
    kernel = delta(3).requires_grad_()
    (gradient,) = torch.autograd.grad(entropy(kernel).sum(), kernel)
    assert gradient.isfinite().all()


# Motion


def draws(n: int, seed: int = 0, steps: int = 400) -> MotionDraws:
    return motion_draws(n, torch.Generator().manual_seed(seed), steps)


@pytest.mark.parametrize("expl", [0.005, 0.05, None])
@pytest.mark.parametrize("length", [5.0, 10.0])
def test_paths_have_the_length(expl: float | None, length: float) -> None:
    path = motion_trajectory(draws(50, steps=2000), length, expl=expl)
    assert path.shape == (50, 2000)
    assert_close(path.diff(dim=1).abs().sum(1), torch.full((50,), length), rtol=1e-3, atol=0)
    assert_close(path[:, 0], torch.zeros(50, dtype=path.dtype))


def test_calm_paths_are_straight() -> None:
    given = draws(20)
    path = motion_trajectory(given, 5.0, expl=0.0)
    end = torch.polar(torch.full((20,), 5.0), math.tau * given.scalars[:, 4])
    assert_close(path[:, -1], end, rtol=1e-4, atol=0)


def slow_path(given: MotionDraws, length: float, expl: float) -> Tensor:
    """The walk of the module's docstring, one path and one step at a time."""
    paths = []
    for scalars, normal, uniform in zip(
        given.scalars.tolist(), given.normal.tolist(), given.uniform.tolist(), strict=True
    ):
        _, pull, big, tremor, direction = scalars
        step = length / len(uniform)
        x, v = 0j, step * complex(math.cos(math.tau * direction), math.sin(math.tau * direction))
        path = [x]
        for n, chance in zip(normal, uniform, strict=True):
            change = expl * (10 * tremor * complex(*n) - 0.7 * pull * x) * step
            if chance < (p := expl * 0.2 * big):
                phi = chance / p - 0.5
                change += 2 * v * complex(math.cos(math.pi + phi), math.sin(math.pi + phi))
            v += change
            v *= step / abs(v)
            x += v
            path.append(x)
        paths.append(path)
    return torch.tensor(paths, dtype=torch.complex128)


@pytest.mark.parametrize("expl", [0.005, 0.3])
def test_paths_agree_with_a_walk_step_by_step(expl: float) -> None:
    given = draws(8)
    exact = slow_path(given, 5.0, expl)
    path = motion_trajectory(given, 5.0, expl=expl)
    assert_close(path, exact.to(path.dtype), rtol=0, atol=1e-3)


def test_big_shakes_turn_round() -> None:
    given = draws(40)
    given.normal.zero_()
    given.scalars[:, 1] = 0  # no pull either
    velocity = motion_trajectory(given, 5.0, expl=0.5).diff(dim=1)
    cosine = (velocity[:, 1:] * velocity[:, :-1].conj()).real / velocity.abs()[:, 1:].square()
    # At a shake, (1 - 2 exp(i phi)) / |...| with |phi| < 1/2 leaves at most this cosine.
    shakes = given.uniform[:, 1:] < 0.5 * 0.2 * given.scalars[:, 2:3]
    assert shakes.sum() > 100
    worst = complex(1 - 2 * math.cos(0.5), -2 * math.sin(0.5))
    assert (cosine[shakes] < worst.real / abs(worst) + 0.01).all()
    assert (cosine[~shakes] > 0.99).all()


def test_psf_is_a_bilinear_splat() -> None:
    path = torch.complex(torch.rand(3, 50) * 6 - 3, torch.rand(3, 50) * 6 - 3).to(torch.complex128)
    path = path - path.mean(1, keepdim=True)
    expected = torch.zeros(3, 9, 9, dtype=torch.float64)
    for b in range(3):
        for z in path[b, :25].tolist():
            column, row = math.floor(z.real), math.floor(z.imag)
            for i in (row, row + 1):
                for j in (column, column + 1):
                    if abs(i) <= 4 and abs(j) <= 4:
                        expected[b, i + 4, j + 4] += (1 - abs(z.imag - i)) * (1 - abs(z.real - j))
    kernel = motion_psf(path, torch.full((3,), 0.5), 9, centring="full")
    assert_close(kernel[:, 0], expected / expected.sum((1, 2), keepdim=True))


@pytest.mark.parametrize("centring", CENTRINGS)
@pytest.mark.parametrize("exposure", [0.01, 0.1, 0.5, 1.0])
def test_motion_kernels_sum_to_one(centring: str, exposure: float) -> None:
    kernel = motion_kernel(draws(30), 5.0, torch.full((30,), exposure), 9, centring=centring)
    assert kernel.shape == (30, 1, 9, 9)
    assert_close(sums(kernel), torch.ones(30))
    assert (kernel >= 0).all()


def test_motion_kernels_lie_on_the_centre() -> None:
    given, exposure = draws(60), torch.tensor([0.1, 0.5, 1.0]).repeat(20)
    off = centroid(motion_kernel(given, 5.0, exposure, 9, centring="centroid"))
    assert_close(off, torch.zeros(60, 2), rtol=0, atol=1e-5)
    full = centroid(motion_kernel(given, 5.0, exposure, 9, centring="full")).norm(dim=1)
    assert_close(full[exposure == 1], torch.zeros(20), rtol=0, atol=1e-5)
    assert full[exposure < 1].mean() > 0.3  # a part of a path lies beside its middle
    box = centroid(motion_kernel(given, 5.0, exposure, 9, centring="box"))[exposure == 1]
    assert box.abs().max() < 2.5
    assert box.mean() > 0.05  # rounding up leaves a shift


def test_longer_exposures_blur_more() -> None:
    given = draws(200)
    spread = [
        rms_radius(motion_kernel(given, 5.0, torch.full((200,), t), 9)).mean()
        for t in (0.1, 0.5, 1.0)
    ]
    assert spread[0] < spread[1] < spread[2]


def test_motion_kernels_do_not_depend_on_the_batch() -> None:
    generators = generators_for(3, range(6))
    together = motion_draws(6, generators, 300)
    exposure = torch.tensor([0.1, 0.5, 1.0, 0.1, 0.5, 1.0])
    kernel = motion_kernel(together, 5.0, exposure, 9)
    for i, g in enumerate(generators_for(3, range(6))):
        alone = motion_draws(1, [g], 300)
        assert_close(alone.normal[0], together.normal[i], rtol=0, atol=0)
        assert torch.equal(motion_kernel(alone, 5.0, exposure[i : i + 1], 9)[0], kernel[i])


def test_a_path_outside_the_support_becomes_the_identity() -> None:
    # Half of the path far to the left, half far to the right: nothing is left on the support.
    path = torch.tensor([[-100.0] * 50 + [100.0] * 50]).to(torch.complex64)
    kernel = motion_psf(path, torch.ones(1), 5, centring="full")
    assert_close(kernel, delta(5))


@pytest.mark.parametrize("size", [0, 4])
def test_even_sizes_are_refused(size: int) -> None:
    for make in (
        lambda: disk(torch.ones(1), size),
        lambda: gaussian(torch.ones(1), size),
        lambda: delta(size),
        lambda: motion_kernel(draws(1), 5.0, torch.ones(1), size),
    ):
        with pytest.raises(ValueError, match=f"size {size} has no middle pixel"):
            make()


def test_unknown_centrings_are_refused() -> None:
    with pytest.raises(ValueError, match="choose full, centroid, box"):
        motion_kernel(draws(1), 5.0, torch.ones(1), 9, centring="middle")  # type: ignore[arg-type]
