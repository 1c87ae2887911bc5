"""LPIPS against loops over pixels, on small made weights; its name is the publication's alone."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand, randn, uniform
from blemish.metrics import LPIPSNetwork, lpips, lpips_network
from blemish.networks import VGG16, AlexNet, read_weights

SMALL = (3, 4, 5, 4, 3)
SIDES = {"alex": (35, 40), "vgg": (19, 24)}


def backbone(kind: str, channels: tuple[int, ...] = SMALL) -> AlexNet | VGG16:
    network = (AlexNet if kind == "alex" else VGG16)(channels).double()
    g = generator_for("backbone", kind)
    for p in network.parameters():
        bound = math.sqrt(6 / p[0].numel()) if p.ndim > 1 else 0.1
        p.data.copy_(uniform(p.shape, -bound, bound, g))
    return network


def made(kind: str) -> LPIPSNetwork:
    g = generator_for("heads", kind)
    return LPIPSNetwork(backbone(kind), [rand((c,), g).double() for c in SMALL])


def images(kind: str, channels: int = 3) -> tuple[Tensor, Tensor]:
    g = generator_for("lpips", kind, channels)
    x = rand((2, channels, *SIDES[kind]), g).double()
    return x, (x + 0.2 * randn(x.shape, g)).clamp(0, 1)


def layers(kind: str, x: Tensor) -> list[Tensor]:
    """The activations, layer by layer, as the published architectures list them."""
    f = dict(backbone(kind).features.items())

    def conv(h: Tensor, n: int, stride: int = 1, pad: int = 1) -> Tensor:
        return F.relu(F.conv2d(h, f[str(n)].weight, f[str(n)].bias, stride, pad))

    if kind == "alex":
        a = conv(x, 0, 4, 2)
        b = conv(F.max_pool2d(a, 3, 2), 3, 1, 2)
        c = conv(F.max_pool2d(b, 3, 2), 6)
        d = conv(c, 8)
        return [a, b, c, d, conv(d, 10)]
    a = conv(conv(x, 0), 2)
    b = conv(conv(F.max_pool2d(a, 2), 5), 7)
    c = conv(conv(conv(F.max_pool2d(b, 2), 10), 12), 14)
    d = conv(conv(conv(F.max_pool2d(c, 2), 17), 19), 21)
    return [a, b, c, d, conv(conv(conv(F.max_pool2d(d, 2), 24), 26), 28)]


def slow(kind: str, x: Tensor, y: Tensor, heads: list[Tensor]) -> float:
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, y = (((2 * z - 1) - shift[:, None, None]) / scale[:, None, None] for z in (x, y))
    total = 0.0
    for a, b, w in zip(layers(kind, x[None]), layers(kind, y[None]), heads, strict=True):
        value = 0.0
        for i in range(a.shape[2]):
            for j in range(a.shape[3]):
                u, v = a[0, :, i, j], b[0, :, i, j]
                u, v = u / (u.norm() + 1e-10), v / (v.norm() + 1e-10)
                value += float((w * (u - v) ** 2).sum())
        total += value / (a.shape[2] * a.shape[3])
    return total


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_agrees_with_loops(kind: str) -> None:
    network, (x, y) = made(kind), images(kind)
    with torch.no_grad():
        expected = [slow(kind, a, b, list(network.heads)) for a, b in zip(x, y, strict=True)]
    # The constants of the publication are read in single precision by the loops above.
    assert_close(lpips(x, y, network), torch.tensor(expected).double(), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_is_zero_at_equality_symmetric_and_grows_with_noise(kind: str) -> None:
    network, (x, y) = made(kind), images(kind)
    assert torch.equal(lpips(x, x, network), torch.zeros(2).double())
    assert_close(lpips(x, y, network), lpips(y, x, network))
    noise = randn(x.shape, generator_for("noise", kind))
    distances = torch.stack([lpips(x, x + s * noise, network) for s in (0.02, 0.05, 0.1, 0.2)])
    assert (distances.diff(dim=0) > 0).all()


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_gradient_is_right_and_reaches_images_alone(kind: str) -> None:
    network, (x, y) = made(kind), images(kind)
    x, y = x[:1].requires_grad_(), y[:1]
    assert torch.autograd.gradcheck(lambda z: lpips(z, y, network), x, fast_mode=True)
    lpips(x, y, network).sum().backward()
    assert all(p.grad is None for p in network.parameters())


def test_gradient_is_finite_where_all_activations_are_zero() -> None:
    network = made("vgg")
    for p in network.backbone.parameters():
        p.data = -p.data.abs()
    x = torch.ones(1, 3, 16, 16).double().requires_grad_()
    distance = lpips(x, torch.zeros_like(x), network)
    distance.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert distance.isfinite().all()


def test_reads_bytes_and_grey_images() -> None:
    network, (x, y) = made("vgg"), images("vgg", channels=1)
    rgb = lpips(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1), network)
    assert_close(lpips(x, y, network), rgb)
    x, y = (x * 255).to(torch.uint8), (y * 255).to(torch.uint8)
    assert_close(lpips(x, y, network), lpips(x.double() / 255, y.double() / 255, network))


def write(folder: Path) -> tuple[Path, Path]:
    """Weights of AlexNet's published sizes under the published names."""
    trunk = backbone("alex", (64, 192, 384, 256, 256)).float().state_dict()
    heads = {f"lin{i}.model.1.weight": rand((1, c, 1, 1), generator_for("head", i))
             for i, c in enumerate((64, 192, 384, 256, 256))}  # fmt: skip
    torch.save({**trunk, "classifier.1.weight": torch.zeros(2)}, folder / "trunk.pth")
    torch.save(heads, folder / "heads.pth")
    return folder / "trunk.pth", folder / "heads.pth"


def test_files_are_named_for_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk, heads = write(tmp_path)
    digests = read_weights(trunk).sha256, read_weights(heads).sha256
    network = lpips_network("alex", trunk, heads)
    assert network.name == f"LPIPS-like (alex, weights {digests[0][:8]} {digests[1][:8]})"
    direct = LPIPSNetwork(network.backbone, list(torch.load(heads).values()))
    assert direct.name == "LPIPS-like"
    x, y = (z.float() for z in images("alex"))
    assert_close(lpips(x, y, network), lpips(x, y, direct))
    published = sys.modules["blemish.metrics.lpips"]._PUBLISHED
    monkeypatch.setitem(published, "alex", digests)
    assert lpips_network("alex", trunk, heads).name == "LPIPS (alex, v0.1)"
    monkeypatch.setitem(published, "alex", (digests[0], "0" * 64))
    assert lpips_network("alex", trunk, heads).name.startswith("LPIPS-like")


def test_refuses_what_does_not_fit(tmp_path: Path) -> None:
    trunk, heads = write(tmp_path)
    with pytest.raises(ValueError, match=r"VGG16: it lacks 'features\.2\.weight'"):
        lpips_network("vgg", trunk, heads)
    with pytest.raises(ValueError, match=r"has no tensor 'lin0\.model\.1\.weight'"):
        lpips_network("alex", trunk, trunk)
    with pytest.raises(ValueError, match="'alex' or 'vgg'"):
        lpips_network("squeeze", trunk, heads)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"heads of \(3,\) weights"):
        LPIPSNetwork(backbone("vgg"), [torch.ones(3)])
    x = torch.zeros(1, 3, 30, 40)
    with pytest.raises(ValueError, match="needs at least 31x31"):
        lpips(x, x, made("alex"))
    with pytest.raises(ValueError, match="same shape"):
        lpips(x, x[..., :-1], made("vgg"))


@pytest.mark.parametrize(("kind", "side"), [("alex", 31), ("vgg", 16)])
def test_smallest_images_are_the_smallest(kind: str, side: int) -> None:
    x = rand((1, 3, side, side), generator_for("smallest")).double()
    assert float(lpips(x, 1 - x, made(kind))) > 0
    with pytest.raises(RuntimeError):
        backbone(kind)(x[..., 1:])
