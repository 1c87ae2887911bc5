"""The distance on several scales against loops over scales and pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand, randn
from blemish.losses import multiscale_distance

Shape = tuple[int, int, int, int]


def images(name: str, shape: Shape = (3, 2, 40, 36)) -> Tensor:
    return rand(shape, generator_for("multiscale", name)).double()


def normal(name: str, shape: Shape) -> Tensor:
    return randn(shape, generator_for("multiscale", name)).double()


def roughness(x: Tensor, y: Tensor) -> Tensor:
    """A distance that is not linear and mixes neighbours: of products of neighbouring pixels."""
    a, b = (z[..., 1:] * z[..., :-1] for z in (x, y))
    return (a - b).square().flatten(1).mean(dim=1).sqrt()


def halved(x: Tensor) -> Tensor:
    """The mean of each 2x2 pixels of (C, H, W), by a loop."""
    c, h, w = x.shape
    y = x.new_zeros(c, h // 2, w // 2)
    for i in range(h // 2):
        for j in range(w // 2):
            y[:, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].sum(dim=(1, 2)) / 4
    return y


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("smallest", "scales", "asked"),
    [(17, 6, 2), (9, 6, 3), (18, 6, 2), (19, 6, 1), (17, 1, 1), (41, 6, 0), (17, 0, 0)],
)
def test_it_is_the_sum_over_scales(masked: bool, smallest: int, scales: int, asked: int) -> None:
    x, y = images("x"), images("y")
    mask = (images("mask", (3, 1, 40, 36)) > 0.3).double()
    noise = normal("noise", (3, 2, 40, 36))
    given = {"mask": mask, "noise": noise} if masked else {}
    found = multiscale_distance(roughness, x, y, smallest=smallest, scales=scales, **given)
    for i in range(3):
        known = mask[i] if masked else torch.ones(1, 40, 36).double()
        a, b, eps, expected = x[i] * known, y[i] * known, noise[i], 0.0
        for _ in range(asked):
            fill = (eps + 0.5) / 2 * (1 - known)
            expected += roughness((a + fill)[None], (b + fill)[None]).item()
            a, b, known, eps = halved(a), halved(b), halved(known), 2 * halved(eps)
        expected += 0.1 * (a - b).abs().mean().item()
        assert_close(found[i].item(), expected)


def test_no_more_than_six_scales_are_asked_and_none_of_sixteen_pixels() -> None:
    sides: list[tuple[int, int]] = []

    def listening(x: Tensor, y: Tensor) -> Tensor:
        sides.append((x.shape[-2], x.shape[-1]))
        return x.new_zeros(len(x))

    for size, expected in (((2048, 1024), 6), ((1024, 4096), 6), ((512, 512), 5), ((16, 64), 0)):
        sides.clear()
        x = torch.zeros(1, 1, *size)
        multiscale_distance(listening, x, x)
        assert sides == [(size[0] >> i, size[1] >> i) for i in range(expected)]


def test_the_noise_of_all_scales_is_as_strong() -> None:
    fills: list[Tensor] = []

    def listening(x: Tensor, y: Tensor) -> Tensor:
        fills.append(x)
        assert torch.equal(x, y)
        return x.new_zeros(len(x))

    shape = (1, 3, 256, 256)
    multiscale_distance(
        listening,
        torch.ones(shape),
        torch.zeros(shape),
        mask=torch.zeros(1, 1, 256, 256),
        noise=randn(shape, generator_for("noise")),
    )
    assert len(fills) == 4
    for fill in fills:
        # Half of a standard normal number, shifted by 1/4.
        n = fill.numel()
        assert abs(fill.mean() - 0.25) < 5 * 0.5 / n**0.5
        assert abs(fill.std() - 0.5) < 5 * 0.5 / (2 * n) ** 0.5


def test_what_is_unknown_does_not_count() -> None:
    x, y = images("x"), images("y")
    mask = torch.ones(3, 1, 40, 36, dtype=torch.float64)
    mask[..., 8:30, 10:20] = 0
    given = {"mask": mask, "noise": normal("noise", (3, 2, 40, 36))}
    found = multiscale_distance(roughness, x, y, **given)
    elsewhere = torch.where(mask == 0, images("z"), x)
    assert_close(multiscale_distance(roughness, elsewhere, y, **given), found)
    leaf = x.clone().requires_grad_()
    total = multiscale_distance(roughness, leaf, y, **given).sum()
    (gradient,) = torch.autograd.grad(total, leaf)
    assert not gradient[..., 8:30, 10:20].any()
    assert gradient[..., :8, :].abs().min() > 0


def test_it_is_zero_at_equality_symmetric_and_each_samples_own() -> None:
    x, y = images("x"), images("y")
    given = {
        "mask": (images("mask", (3, 1, 40, 36)) > 0.5).double(),
        "noise": normal("noise", (3, 2, 40, 36)),
    }
    assert not multiscale_distance(roughness, x, x, **given).any()
    found = multiscale_distance(roughness, x, y, **given)
    assert found.min() > 0
    assert_close(multiscale_distance(roughness, y, x, **given), found)
    second = {name: t[1:2] for name, t in given.items()}
    assert_close(multiscale_distance(roughness, x[1:2], y[1:2], **second), found[1:2])


def test_its_gradient_is_that_of_finite_differences() -> None:
    shape = (1, 1, 9, 8)
    x, y = images("x", shape).requires_grad_(), images("y", shape)
    mask, noise = (images("m", shape) > 0.3).double(), normal("n", shape)

    def f(x: Tensor) -> Tensor:
        return multiscale_distance(roughness, x, y, mask=mask, noise=noise, smallest=4)

    assert torch.autograd.gradcheck(f, x)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"y": torch.zeros(2, 3, 20, 21)}, "got pictures with shapes"),
        ({"smallest": 1}, "smallest=1; a picture of one pixel has no half"),
        ({"mask": torch.zeros(2, 1, 20, 20)}, "a mask needs noise, and noise a mask"),
        ({"noise": torch.zeros(2, 3, 20, 20)}, "a mask needs noise, and noise a mask"),
        (
            {"mask": torch.zeros(2, 3, 20, 20), "noise": torch.zeros(2, 3, 20, 20)},
            r"got a mask with shape \(2, 3, 20, 20\).*expected \(2, 1, 20, 20\)",
        ),
        (
            {"mask": torch.zeros(2, 1, 20, 20), "noise": torch.zeros(2, 1, 20, 20)},
            r"and noise with shape \(2, 1, 20, 20\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, object], text: str) -> None:
    x = torch.zeros(2, 3, 20, 20)
    arguments = {"x": x, "y": x, **changes}
    with pytest.raises(ValueError, match=text):
        multiscale_distance(roughness, **arguments)  # type: ignore[arg-type]
