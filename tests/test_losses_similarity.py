"""The distance of textures: its equations, and what makes it fit to teach noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.blur import blur
from blemish.functional.kernels import gaussian
from blemish.functional.random import generator_for, rand, randn
from blemish.functional.stages import file_jpeg
from blemish.losses import Distance, clamped, texture_distance
from blemish.metrics import DISTSNetwork, dists, ssim
from blemish.networks import VGG16

SIDE = 64
LEVELS = (5, 10, 25, 50)


def flat() -> Tensor:
    return torch.full((1, 3, SIDE, SIDE), 0.5)


def ramp() -> Tensor:
    return torch.linspace(0.2, 0.8, SIDE).expand(1, 3, SIDE, SIDE)


def grating(frequency: float = 0.2) -> Tensor:
    t = torch.arange(SIDE)
    wave = torch.sin(2 * math.pi * frequency * (0.8 * t[:, None] + 0.6 * t))
    return (0.5 + 0.3 * wave).expand(1, 3, SIDE, SIDE)


def discs(channels: int = 3) -> Tensor:
    """Discs that cover each other, of flat colours."""
    g, t, x = generator_for("discs"), torch.arange(SIDE), torch.zeros(1, channels, SIDE, SIDE)
    for _ in range(150):
        u = rand((6,), g)
        row, column, radius = SIDE * u[0], SIDE * u[1], 3 / (0.1 + 0.9 * u[2])
        inside = (t[:, None] - row).square() + (t - column).square() < radius**2
        x[:, :, inside] = 0.1 + 0.8 * u[3 : 3 + channels, None]
    return x


CONTENTS: dict[str, Callable[[], Tensor]] = {
    "flat": flat,
    "ramp": ramp,
    "coarse-grating": partial(grating, 0.05),
    "fine-grating": grating,
    "discs": discs,
    "grey-discs": partial(discs, 1),
}


def noisy(x: Tensor, sigma: float, name: str) -> Tensor:
    """Four draws of noise with a deviation of so many grey levels."""
    return x + sigma / 255 * randn((4, *x.shape[1:]), generator_for("noise", name))


def mse(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().mean(dim=(1, 2, 3))


def order(distance: Distance, x: Tensor, sigma: float) -> float:
    """The distance of two noisy images over that of a noisy one and the clean one; below 1 if right."""
    y_1, y_2 = noisy(x, sigma, "1"), noisy(x, sigma, "2")
    between = distance(y_1, y_2).mean()
    return float(between / distance(y_1, x.expand_as(y_1)).mean())


@pytest.mark.parametrize("sigma", LEVELS)
@pytest.mark.parametrize("content", CONTENTS)
def test_equal_noise_is_nearer_than_none(content: str, sigma: float) -> None:
    x = CONTENTS[content]()
    assert order(texture_distance, x, sigma) < 0.7
    # What pixels say.
    assert order(mse, x, sigma) > 1.8
    assert order(lambda a, b: 1 - ssim(a, b), x, sigma) > 1


@pytest.mark.parametrize("sigma", LEVELS)
def test_equal_noise_is_nearer_than_none_on_photographs(data_folder: Path, sigma: float) -> None:
    files = sorted((data_folder / "photos" / "test").glob("*.png"))[::4]
    assert files
    for file in files:
        with Image.open(file) as image:
            crop = image.convert("RGB").crop((300, 200, 300 + SIDE, 200 + SIDE))
        x = torch.from_numpy(np.asarray(crop) / 255).float().permute(2, 0, 1)[None]
        assert order(texture_distance, x, sigma) < 0.6
        assert order(texture_distance, x.mean(dim=1, keepdim=True), sigma) < 1
        assert order(mse, x, sigma) > 1.8


@pytest.mark.parametrize("sigma", [10, 25])
@pytest.mark.parametrize("content", CONTENTS)
def test_the_nearest_noise_is_that_of_the_same_deviation(content: str, sigma: float) -> None:
    x = CONTENTS[content]()
    y = noisy(x, sigma, "target")
    factors = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.33, 2.0)
    found = [float(texture_distance(noisy(x, k * sigma, "e"), y).mean()) for k in factors]
    middle = factors.index(1.0)
    assert found[: middle + 1] == sorted(found[: middle + 1], reverse=True)
    assert found[middle:] == sorted(found[middle:])


def blurred(x: Tensor, sigma: float) -> Tensor:
    return blur(x, gaussian(torch.tensor([sigma]), 13))


def contrasted(x: Tensor, factor: float) -> Tensor:
    return 0.5 + factor * (x - 0.5)


def compressed(x: Tensor, quality: float) -> Tensor:
    return file_jpeg(x, torch.tensor([quality]))


LADDERS: dict[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, ...]]] = {
    "noise": (lambda x, s: noisy(x, s, "ladder")[:1], (1, 2, 5, 10, 25, 50)),
    "blur": (blurred, (0.4, 0.6, 0.8, 1.0, 1.5, 2.0)),
    "less-contrast": (contrasted, (0.95, 0.9, 0.8, 0.6, 0.3)),
    "more-contrast": (contrasted, (1.05, 1.1, 1.2, 1.4, 1.8)),
    "jpeg": (compressed, (95, 80, 60, 40, 20, 10)),
}


@pytest.mark.parametrize("content", ["fine-grating", "discs", "grey-discs"])
@pytest.mark.parametrize("ladder", LADDERS)
def test_stronger_damage_is_farther(ladder: str, content: str) -> None:
    x = CONTENTS[content]()
    damage, strengths = LADDERS[ladder]
    found = [float(texture_distance(damage(x, s), x)) for s in strengths]
    assert found[0] > 0
    assert found == sorted(found)


@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_a_blur_is_found_under_noise(sigma: float) -> None:
    x = discs()
    y = noisy(blurred(x, 1.0), 10, "target")
    right, wrong = (
        float(texture_distance(noisy(blurred(x, s), 10, "other"), y).mean()) for s in (1.0, sigma)
    )
    assert right < 0.8 * wrong


LATTICES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "chequers": lambda i, j: (-1.0) ** (i + j),
    "lines": lambda i, j: (-1.0) ** (i + 0 * j),
    "points": lambda i, j: ((i % 2 == 0) & (j % 2 == 0)).float() - 0.25,
    "coarse-points": lambda i, j: ((i % 4 == 0) & (j % 4 == 0)).float() - 1 / 16,
    "diagonals": lambda i, j: ((i + j) % 3 - 1).float(),
}


@pytest.mark.parametrize("sigma", [10, 25])
@pytest.mark.parametrize("lattice", LATTICES)
@pytest.mark.parametrize("content", ["flat", "discs"])
def test_no_lattice_stands_for_noise(content: str, lattice: str, sigma: float) -> None:
    x, t = CONTENTS[content](), torch.arange(SIDE)
    y = noisy(x, sigma, "1")
    p = LATTICES[lattice](t[:, None], t)
    p = sigma / 255 * p / p.square().mean().sqrt()
    # The nearest of several strengths is little better than none at all.
    lattices = [
        texture_distance((x + k * p).expand_as(y), y).mean() for k in (0.3, 0.5, 0.8, 1.0, 1.2)
    ]
    between = texture_distance(noisy(x, sigma, "2"), y).mean()
    assert min(lattices) > 2 * between
    assert min(lattices) > 0.8 * texture_distance(x.expand_as(y), y).mean()


def test_coloured_noise_is_not_grey_noise() -> None:
    x = flat()
    coloured, again = noisy(x, 25, "1"), noisy(x, 25, "2")
    grey = x + noisy(x, 25, "3")[:, :1] - x[:, :1]
    # The energies of red, green and blue are the same in both.
    assert_close(grey.std(), coloured.std(), rtol=0.03, atol=0)
    between = texture_distance(coloured, again).mean()
    assert texture_distance(coloured, grey).mean() > 2.5 * between


def test_the_negative_of_a_texture_is_far() -> None:
    x = grating()
    assert float(texture_distance(x, 1 - x)) > float(texture_distance(x, noisy(x, 10, "1")[:1]))


def blocks(x: Tensor, size: int) -> list[list[Tensor]]:
    height, width = x.shape
    rows = [x[i : i + size] for i in range(0, height, size)]
    return [[row[:, j : j + size] for j in range(0, width, size)] for row in rows]


def filtered(x: Tensor) -> list[Tensor]:
    centre = x[1:-1, 1:-1]
    laplacian = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * centre
    along, down = x[:, 1:] - x[:, :-1], x[1:] - x[:-1]
    return [along / 2**0.5, down / 2**0.5, laplacian / 20**0.5]


def slow_texture(x: Tensor, y: Tensor) -> float:
    amplitudes = [
        [float(block.square().mean() + 255**-2) ** 0.5 for row in blocks(z, 4) for block in row]
        for z in (x, y)
    ]
    differences = [a - b for a, b in zip(*amplitudes, strict=True)]
    local, whole = sum(map(abs, differences)), abs(sum(differences))
    return (local + whole) / len(differences) / 2


def slow_pattern(x: Tensor, y: Tensor) -> float:
    i, u = torch.arange(8).double()[:, None], torch.arange(8).double()
    t = torch.cos(math.pi * i * (2 * u + 1) / 16) / 2
    t[0] /= 2**0.5
    spectra = []
    for z in (x, y):
        windows = [
            z[a : a + 8, b : b + 8]
            for a in range(0, z.shape[0] - 7, 4)
            for b in range(0, z.shape[1] - 7, 4)
        ]
        powers = torch.stack([(t @ w @ t.T).square() for w in windows])
        spectra.append((powers.mean(dim=0) + 255**-2).sqrt())
    return float((spectra[0] - spectra[1]).abs().flatten()[1:].mean())


def slow_structure(x: Tensor, y: Tensor) -> float:
    covariance = float(((x - x.mean()) * (y - y.mean())).mean())
    variances = float(x.var(correction=0) + y.var(correction=0))
    return 1 - (2 * covariance + 0.03) / (variances + 0.03)


def slow_distance(x: Tensor, y: Tensor) -> float:
    """The distance of two images (C, H, W), window by window."""
    if len(x) == 3:
        colours = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]).double()
        colours = colours / colours.norm(dim=1, keepdim=True)
        x, y = ((colours @ z.flatten(1)).view(z.shape) for z in (x, y))
    texture, structure = [], []
    pattern = [slow_pattern(a, b) for a, b in zip(x, y, strict=True)]
    for a, b in zip(x, y, strict=True):
        for scale in range(3):
            if scale:
                a, b = (
                    torch.stack([torch.stack([p.mean() for p in row]) for row in blocks(z, 2)])
                    for z in (a, b)
                )
            structure.append(slow_structure(a, b))
            texture += [slow_texture(*f) for f in zip(filtered(a), filtered(b), strict=True)]
        texture.append(slow_texture(a, b))
    means = [sum(values) / len(values) for values in (texture, pattern, structure)]
    return 2.5 * (means[0] + means[1]) + 0.25 * means[2]


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 1, 19, 22)])
def test_the_distance_is_its_equation(shape: tuple[int, ...]) -> None:
    x, y = (rand(shape, generator_for("similarity", n)).double() for n in "xy")
    expected = [slow_distance(a, b) for a, b in zip(x, y, strict=True)]
    assert_close(texture_distance(x, y), torch.tensor(expected).double())


def test_it_is_a_distance_of_each_sample() -> None:
    x, y = (rand((3, 3, 17, 20), generator_for("similarity", n)) for n in "xy")
    found = texture_distance(x, y)
    assert torch.equal(texture_distance(x, x), torch.zeros(3))
    assert (found > 0).all()
    assert torch.equal(found, texture_distance(y, x))
    rows = [texture_distance(a[None], b[None]) for a, b in zip(x, y, strict=True)]
    assert_close(found, torch.cat(rows))


def test_its_gradient_is_right() -> None:
    x, y = (rand((1, 3, 16, 17), generator_for("gradient", n)).double() for n in "xy")
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: texture_distance(z, y), x, fast_mode=True)


@pytest.mark.parametrize("content", ["black", "flat", "ramp", "equal"])
def test_its_gradient_is_finite_where_nothing_is(content: str) -> None:
    other = rand((1, 3, SIDE, SIDE), generator_for("other"))
    x = {"black": torch.zeros(1, 3, SIDE, SIDE), "equal": other}.get(content)
    x = (CONTENTS[content]() if x is None else x).clone().requires_grad_()
    for target in (x.detach(), other):
        (gradient,) = torch.autograd.grad(texture_distance(x, target).sum(), x)
        assert gradient.isfinite().all()
    if content != "equal":
        assert gradient.abs().sum() > 0


def test_it_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match=r"got shapes \(1, 3, 16, 16\) and \(1, 1, 16, 16\)"):
        texture_distance(torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16))
    with pytest.raises(ValueError, match="got images of 15x16 pixels; the distance of textures"):
        texture_distance(torch.zeros(1, 3, 15, 16), torch.zeros(1, 3, 15, 16))


def test_dists_takes_its_place() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = VGG16((3, 4, 4, 3, 2))
    maps = 3 + sum(backbone.channels)
    network = DISTSNetwork(backbone, torch.ones(maps), torch.ones(maps))
    x, y = (rand((2, 3, 16, 16), generator_for("place", n)) for n in "xy")
    distances: list[Distance] = [texture_distance, partial(dists, network=network)]
    for distance in distances:
        estimate = (1.5 * x).requires_grad_()
        found = distance(clamped(estimate), y)
        assert found.shape == (2,)
        (gradient,) = torch.autograd.grad(found.sum(), estimate)
        assert gradient.isfinite().all()
        # What lies beyond the range is moved, too.
        assert (gradient[estimate > 1] != 0).float().mean() > 0.9


def test_clamped_values_pass_their_gradient() -> None:
    x = torch.tensor([-3.0, -1e-8, 0.3, 1.0, 1.7, 1e6], requires_grad=True)
    assert torch.equal(clamped(x), x.clamp(0, 1))
    assert torch.equal(clamped(x, -1, 2), x.clamp(-1, 2))
    weights = torch.arange(6.0)
    (gradient,) = torch.autograd.grad((weights * clamped(x)).sum(), x)
    assert torch.equal(gradient, weights)
