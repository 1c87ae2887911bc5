"""DISTS against its equations written out map by map, on a small made VGG."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand, randn, uniform
from blemish.metrics import DISTSNetwork, dists, dists_network
from blemish.networks import VGG16, read_weights

SMALL = (3, 4, 5, 4, 3)
MAPS = 3 + sum(SMALL)


def made() -> DISTSNetwork:
    g = generator_for("dists-network")
    vgg = VGG16(SMALL).double()
    for p in vgg.parameters():
        bound = math.sqrt(6 / p[0].numel()) if p.ndim > 1 else 0.1
        p.data.copy_(uniform(p.shape, -bound, bound, g))
    alpha, beta = (rand((1, MAPS, 1, 1), g).double() for _ in range(2))
    return DISTSNetwork(vgg, alpha, beta)


def images(sides: tuple[int, int] = (21, 24), channels: int = 3) -> tuple[Tensor, Tensor]:
    g = generator_for("dists", channels)
    x = rand((2, channels, *sides), g).double()
    return x, (x + 0.2 * randn(x.shape, g)).clamp(0, 1)


def l2_pool(h: Tensor) -> Tensor:
    """The pooling with loops: a Hanning window of 3x3, zeros beyond the border."""
    weight = {-1: 0.25, 0: 0.5, 1: 0.25}
    out = torch.zeros(h.shape[0], (h.shape[1] + 1) // 2, (h.shape[2] + 1) // 2, dtype=h.dtype)
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            for di, wi in weight.items():
                for dj, wj in weight.items():
                    r, c = 2 * i + di, 2 * j + dj
                    if 0 <= r < h.shape[1] and 0 <= c < h.shape[2]:
                        out[:, i, j] += wi * wj * h[:, r, c] ** 2
    return (out + 1e-12).sqrt()


def maps(network: DISTSNetwork, x: Tensor) -> list[Tensor]:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    h = (x - mean[:, None, None].double()) / std[:, None, None].double()
    out = list(x)
    for i, group in enumerate(VGG16.GROUPS):
        h = l2_pool(h) if i else h
        for n in group:
            conv = network.backbone.features[str(n)]
            h = F.relu(F.conv2d(h[None], conv.weight, conv.bias, padding=1))[0]
        out += list(h)
    return out


def slow(network: DISTSNetwork, x: Tensor, y: Tensor) -> Tensor:
    score = torch.tensor(1.0).double()
    pairs = zip(maps(network, x), maps(network, y), network.alpha, network.beta, strict=True)
    for a, b, alpha, beta in pairs:
        covariance = ((a - a.mean()) * (b - b.mean())).mean()
        var_a, var_b = a.var(correction=0), b.var(correction=0)
        lightness = (2 * a.mean() * b.mean() + 1e-6) / (a.mean() ** 2 + b.mean() ** 2 + 1e-6)
        structure = (2 * covariance + 1e-6) / (var_a + var_b + 1e-6)
        score = score - alpha * lightness - beta * structure
    return score


@pytest.mark.parametrize("sides", [(21, 24), (16, 17)])
def test_agrees_with_its_equations(sides: tuple[int, int]) -> None:
    network, (x, y) = made(), images(sides)
    expected = torch.stack([slow(network, a, b) for a, b in zip(x, y, strict=True)])
    assert_close(dists(x, y, network), expected, rtol=1e-6, atol=1e-9)
    assert_close(network.alpha.sum() + network.beta.sum(), torch.tensor(1.0).double())


def test_is_zero_at_equality_symmetric_and_grows_with_noise() -> None:
    network, (x, y) = made(), images()
    assert torch.equal(dists(x, x, network), torch.zeros(2).double())
    assert torch.equal(dists(x, y, network), dists(y, x, network))
    noise = randn(x.shape, generator_for("noise"))
    distances = torch.stack([dists(x, x + s * noise, network) for s in (0.02, 0.05, 0.1, 0.2)])
    assert (distances.diff(dim=0) > 0).all()


def test_two_samples_of_a_texture_are_near_in_its_means() -> None:
    # With beta = 0 only means count: another draw of the same noise is nearer than grey.
    network = made()
    network.beta.zero_()
    a, b = rand((2, 1, 3, 48, 48), generator_for("texture")).double()
    grey = torch.full_like(a, 0.5)
    assert float(dists(a, b, network)) < 0.05 * float(dists(a, grey, network))


def test_gradient_is_right_and_reaches_images_alone() -> None:
    network, (x, y) = made(), images((16, 17))
    x, y = x[:1].requires_grad_(), y[:1]
    assert torch.autograd.gradcheck(lambda z: dists(z, y, network), x, fast_mode=True)
    dists(x, torch.zeros_like(x), network).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is None for p in network.parameters())


def test_reads_bytes_and_grey_images() -> None:
    network, (x, y) = made(), images(channels=1)
    rgb = dists(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1), network)
    assert_close(dists(x, y, network), rgb)
    x, y = (x * 255).to(torch.uint8), (y * 255).to(torch.uint8)
    assert_close(dists(x, y, network), dists(x.double() / 255, y.double() / 255, network))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Weights of VGG-16's published sizes under the published names, nearly all of them zero."""
    folder = tmp_path_factory.mktemp("dists")
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in VGG16().state_dict().items()}
    trunk = {key: torch.zeros(shape) for key, shape in shapes.items()}
    trunk["features.0.weight"] = uniform((64, 3, 3, 3), -1, 1, generator_for("trunk"))
    torch.save({**trunk, "classifier.0.bias": torch.zeros(2)}, folder / "trunk.pth")
    g = generator_for("maps")
    weights = {key: rand((1, 1475, 1, 1), g) for key in ("alpha", "beta")}
    torch.save(weights, folder / "weights.pt")
    return folder / "trunk.pth", folder / "weights.pt"


def test_files_are_named_for_what_they_are(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = tuple(read_weights(path).sha256 for path in files)
    network = dists_network(*files)
    assert network.name == f"DISTS-like (weights {digests[0][:8]} {digests[1][:8]})"
    weights = torch.load(files[1])
    total = weights["alpha"].sum() + weights["beta"].sum()
    assert_close(network.alpha, weights["alpha"].flatten() / total)
    assert_close(network.beta, weights["beta"].flatten() / total)
    module = sys.modules["blemish.metrics.dists"]
    for known, name in ((digests, "DISTS"), ((digests[0], "0" * 64), network.name)):
        monkeypatch.setattr(module, "_PUBLISHED", known)
        assert dists_network(*files).name == name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda trunk, _: dists_network(trunk, trunk), "has no tensor 'alpha'"),
        (lambda _, maps: dists_network(maps, maps), "does not fit VGG16: it lacks 'features"),
        (lambda *_: DISTSNetwork(VGG16(SMALL), torch.ones(3), torch.ones(3)), "22 maps"),
        (lambda *_: DISTSNetwork(VGG16(SMALL), *2 * [torch.zeros(22)]), "sum to 0"),
        (lambda *_: dists(*2 * [torch.zeros(1, 3, 15, 20)], made()), "at least 16x16"),
    ],
)
def test_refuses_what_does_not_fit(
    files: tuple[Path, Path], call: Callable[[Path, Path], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(*files)
