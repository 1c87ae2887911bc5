"""The loss of colours and that of resemblance: slow references, invariances, closed forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand, randn
from blemish.losses import colour_loss, resemblance_loss


def images(name: str, height: int = 24, width: int = 31) -> Tensor:
    return rand((3, 3, height, width), generator_for("colour", name)).double()


def slow_blur(x: Tensor) -> Tensor:
    """A convolution of the reflected image with the whole kernel."""
    side = min(x.shape[-2:])
    radius = (side - 2) // 2
    assert 2 * radius + 1 in (side - 1, side - 2)
    t = torch.arange(-radius, radius + 1).double()
    g = torch.exp(-t.square() / (2 * (0.4 * side) ** 2))
    kernel = torch.outer(g, g) / g.sum() ** 2
    planes = F.pad(x, [radius] * 4, mode="reflect").flatten(0, 1)[:, None]
    return F.conv2d(planes, kernel[None, None]).view(x.shape)


def stretched(x: Tensor) -> Tensor:
    return torch.stack([(image - image.min()) / (image.max() - image.min()) for image in x])


@pytest.mark.parametrize("size", [(4, 4), (7, 16), (24, 31), (33, 20)])
@pytest.mark.parametrize("normalise", [True, False])
def test_the_colour_loss_is_its_equation(size: tuple[int, int], *, normalise: bool) -> None:
    x, y = images("x", *size), images("y", *size)
    a, b = (stretched(x), stretched(y)) if normalise else (x, y)
    expected = (slow_blur(a) - slow_blur(b)).abs().flatten(1).mean(dim=1)
    assert_close(colour_loss(x, y, normalise=normalise), expected)


def test_an_affine_change_of_intensity_is_no_change_of_colour() -> None:
    x = images("x")
    gain = torch.tensor([0.3, 0.8, 1.7]).double().view(3, 1, 1, 1)
    y = gain * x + 0.1
    assert_close(colour_loss(y, x), torch.zeros(3).double(), atol=1e-14, rtol=0)
    # Where contrast shall be learned, it counts: a flat image's offset is the loss itself.
    level = torch.full_like(x, 0.4)
    assert_close(colour_loss(level + 0.2, level, normalise=False), torch.full((3,), 0.2).double())


@pytest.mark.parametrize("normalise", [True, False])
def test_fine_detail_is_no_colour(*, normalise: bool) -> None:
    x = 0.3 + 0.4 * images("x")
    x[..., 0, 0], x[..., 0, 1] = 0.0, 1.0
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(31), indexing="ij")
    # A checkerboard has mean 0 under any wide window; the least and greatest values stay.
    detail = 0.2 * (1 - 2 * ((rows + columns) % 2)) * (rows > 0)
    hue = torch.tensor([0.1, 0.0, -0.1]).view(3, 1, 1).double() * (rows > 0)
    fine, shift = (colour_loss(x + change, x, normalise=normalise) for change in (detail, hue))
    assert (fine < 0.01 * detail.abs().mean()).all()
    assert (shift > 0.9 * hue.abs().mean()).all()


def test_noise_costs_less_than_its_colour_would() -> None:
    x = 0.2 + 0.6 * images("x", 64, 64)
    noise = 0.1 * randn((3, 3, 64, 64), generator_for("colour-noise")).double()
    # It is averaged over hundreds of pixels at least.
    assert (colour_loss(x + noise, x, normalise=False) < 0.1 * noise.abs().mean()).all()


@pytest.mark.parametrize("loss", [colour_loss, resemblance_loss])
def test_losses_of_flat_images_have_finite_gradients(loss: object) -> None:
    assert callable(loss)
    x = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    for y in (torch.full_like(x, 0.5), rand((1, 3, 16, 16), generator_for("flat"))):
        (gradient,) = torch.autograd.grad(loss(x, y).sum(), x)
        assert gradient.isfinite().all()


def test_the_range_of_an_image_is_a_grey_level_at_least() -> None:
    x = torch.full((1, 1, 16, 16), 0.5).double()
    y = x.clone()
    y[..., 8:] += 0.1 / 255
    # A tenth of a level, seen as such: 0 on the left half and 0.1 on the right.
    assert_close(colour_loss(y, x).item(), 0.05, rtol=1e-6, atol=0)
    assert colour_loss(x + 0.2, x).item() == 0


@pytest.mark.parametrize("loss", [colour_loss, resemblance_loss])
def test_samples_are_compared_alone_and_differentiably(loss: object) -> None:
    assert callable(loss)
    x, y = images("x", 12, 13), images("y", 12, 13)
    found = loss(x, y)
    assert found.shape == (3,)
    assert_close(found, torch.cat([loss(x[i : i + 1], y[i : i + 1]) for i in range(3)]))
    assert_close(found, loss(y, x))
    assert torch.autograd.gradcheck(lambda z: loss(z, y), x.requires_grad_(), fast_mode=True)


def test_equal_images_have_equal_colours_and_resemble_each_other() -> None:
    x = images("x")
    assert torch.equal(colour_loss(x, x), torch.zeros(3).double())
    assert_close(resemblance_loss(x, x), torch.ones(3).double())
    # So do negatives, and means do not count.
    assert_close(resemblance_loss(x, 1 - x), torch.ones(3).double())
    assert_close(resemblance_loss(x, x + 0.3), torch.ones(3).double())


def test_the_resemblance_is_its_equation_in_the_networks_range() -> None:
    x, y = images("x", 13, 14), images("y", 13, 14)
    t = torch.arange(-5, 6).double()
    g = torch.exp(-t.square() / (2 * 1.5**2))
    window = torch.outer(g, g) / g.sum() ** 2
    rows = []
    for a, b in zip(2 * x - 1, 2 * y - 1, strict=True):
        terms = []
        for c, i, j in ((c, i, j) for c in range(3) for i in range(3) for j in range(4)):
            p, q = a[c, i : i + 11, j : j + 11], b[c, i : i + 11, j : j + 11]
            p, q = p - (window * p).sum(), q - (window * q).sum()
            cov, var = (window * p * q).sum(), (window * (p * p + q * q)).sum()
            # 0.12 belongs to images in [-1, 1].
            terms.append(float((2 * cov.abs() + 0.12) / (var + 0.12)))
        rows.append(sum(terms) / len(terms))
    assert_close(resemblance_loss(x, y), torch.tensor(rows).double())


def test_stronger_noise_is_less_alike() -> None:
    x = torch.full((1, 1, 128, 128), 0.5).double()
    e_1, e_2 = (randn(x.shape, generator_for("alike", n)).double() for n in "12")
    levels = (0.02, 0.05, 0.1, 0.2)
    found = [float(resemblance_loss(x + s * e_1, x + s * e_2)) for s in levels]
    assert found == sorted(found, reverse=True)
    # Variances are near their means, and covariances small beside them.
    for s, value in zip(levels, found, strict=True):
        lowest = 0.03 / (2 * s**2 + 0.03)
        assert lowest < value < lowest + 0.25 * (1 - lowest)
    # One state for both is what it punishes.
    assert found[-1] < 0.6 < float(resemblance_loss(x + 0.2 * e_1, x + 0.1 * e_1))


def test_the_resemblance_pushes_two_draws_apart() -> None:
    x = 0.5 + 0.1 * randn((1, 1, 16, 16), generator_for("apart")).double()
    x.requires_grad_()
    other = (x + 0.02 * randn(x.shape, generator_for("nudge"))).detach()
    before = resemblance_loss(x, other)
    (gradient,) = torch.autograd.grad(before.sum(), x)
    assert (resemblance_loss(x - gradient, other) < before).all()


@pytest.mark.parametrize(
    ("loss", "side", "message"),
    [
        (colour_loss, 3, "got images of 3x8 pixels; the blur of the loss of colours needs at le"),
        (resemblance_loss, 10, "got images of 10x8 pixels; the window of the resemblance needs"),
    ],
)
def test_losses_refuse_what_they_cannot_compare(loss: object, side: int, message: str) -> None:
    assert callable(loss)
    x = torch.zeros(1, 3, side, 8)
    with pytest.raises(ValueError, match=message):
        loss(x, x)
    with pytest.raises(
        ValueError, match=rf"got shapes \(1, 3, {side}, 8\) and \(1, 1, {side}, 8\)"
    ):
        loss(x, x[:, :1])
