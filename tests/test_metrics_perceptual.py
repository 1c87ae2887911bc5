"""The perceptual distance: a distance, of the network it names, that grows with damage."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.data import load_images, open_source
from blemish.functional.blur import blur
from blemish.functional.kernels import disk
from blemish.functional.random import generator_for, randn
from blemish.metrics import PerceptualNetwork, effnet_lite0, perceptual, perceptual_network, psnr
from blemish.metrics.classes import Perceptual

pytest.importorskip("efficientnet_lite_pytorch")


@pytest.fixture(scope="module")
def network() -> PerceptualNetwork:
    return perceptual_network()


def pictures(count: int = 3, side: int = 48) -> Tensor:
    glyphs = load_images(open_source(f"glyphs:{count}", size=16, channels=3)).float() / 255
    return F.interpolate(glyphs, size=(side, side), mode="bicubic").clamp(0, 1)


def noisy(x: Tensor, sigma: float) -> Tensor:
    return (x + sigma * randn(x.shape, generator_for("noise"))).clamp(0, 1)


def test_a_distance_of_pairs(network: PerceptualNetwork) -> None:
    x, y = pictures(), noisy(pictures(), 0.1)
    d = perceptual(x, y, network)
    assert d.shape == (3,)
    assert torch.equal(perceptual(x, x, network), torch.zeros(3))
    torch.testing.assert_close(perceptual(y, x, network), d)
    assert ((d > 0) & (d < 4)).all()
    torch.testing.assert_close(perceptual(x[1:2], y[1:2], network)[0], d[1], rtol=1e-4, atol=1e-6)


def test_bytes_and_grey_are_read_as_their_values(network: PerceptualNetwork) -> None:
    x, y = ((pictures() * 255).round().to(torch.uint8), noisy(pictures(), 0.1))
    torch.testing.assert_close(perceptual(x, y, network), perceptual(x.float() / 255, y, network))
    grey = pictures()[:, :1]
    three = perceptual(grey.expand(-1, 3, -1, -1), noisy(grey, 0).expand(-1, 3, -1, -1), network)
    torch.testing.assert_close(perceptual(grey, noisy(grey, 0), network), three)


@pytest.mark.parametrize("kind", ["noise", "blur"])
def test_it_grows_with_damage(kind: str, network: PerceptualNetwork) -> None:
    x = pictures(8)
    if kind == "noise":
        damaged = [noisy(x, sigma) for sigma in (0.01, 0.03, 0.1, 0.3)]
    else:
        radii = torch.tensor([1.0, 1.7, 3.0, 5.0])
        damaged = [blur(x, disk(r.expand(8), 15)) for r in radii]
    distances = torch.stack([perceptual(x, y, network) for y in damaged]).mean(dim=1)
    assert (distances.diff() > 0).all()


def test_the_layers_are_the_networks_own(network: PerceptualNetwork) -> None:
    # The last of them leads to the features of the Fréchet distance.
    x = pictures(2, 64)
    whole = effnet_lite0(64).network.network
    layers = network(x)
    assert [h.shape[1] for h in layers] == [16, 24, 40, 112, 320]
    assert [h.shape[-1] for h in layers] == [32, 16, 8, 4, 2]
    assert all(torch.allclose(h.norm(dim=1), torch.ones(()), atol=1e-4) for h in layers)
    bytes_ = (x * 255 - 127) / 128
    features = whole.extract_features(bytes_)
    h = network.network._swish(network.network._bn0(network.network._conv_stem(bytes_)))
    for block in network.network._blocks:
        h = block(h)
    torch.testing.assert_close(F.normalize(h, dim=1), layers[-1], rtol=1e-3, atol=1e-4)
    assert features.shape == (2, 1280, 2, 2)


def test_gradients_reach_the_image_and_not_the_network(network: PerceptualNetwork) -> None:
    x = noisy(pictures(1), 0.1).requires_grad_()
    perceptual(x, pictures(1), network).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in network.parameters())


def test_small_images_are_refused(network: PerceptualNetwork) -> None:
    with pytest.raises(ValueError, match=r"\(effnet-lite0\) needs at least 32x32"):
        perceptual(pictures(1, 31), pictures(1, 31), network)
    with pytest.raises(ValueError, match="same shape"):
        perceptual(pictures(1), pictures(2), network)


def test_the_class_is_the_mean(network: PerceptualNetwork) -> None:
    x, y = pictures(), noisy(pictures(), 0.1)
    metric = Perceptual(network)
    for a, b in zip(x, y, strict=True):
        metric.update(a[None], b[None])
    expected = perceptual(x, y, network).mean()
    torch.testing.assert_close(metric.compute().float(), expected, rtol=1e-4, atol=1e-6)
    assert metric.title == "perceptual distance (effnet-lite0)"
    assert psnr(x, y).mean() > 10
