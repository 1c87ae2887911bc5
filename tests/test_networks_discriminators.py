"""The published discriminators against their equations, and what a pass in training mode changes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand
from blemish.losses import discriminator_loss
from blemish.networks import UNetDiscriminator, VGGDiscriminator

U, V = UNetDiscriminator.Config, VGGDiscriminator.Config
SMALL = (U(features=4), V(side=16, features=4, hidden=6))
NORMALISED = tuple(f"conv{i}" for i in range(1, 9))


def made(config: U | V) -> UNetDiscriminator | VGGDiscriminator:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return config.build()


def images(side: int = 16, width: int = 16, name: str = "x") -> Tensor:
    return 2 * rand((3, 3, side, width), generator_for("discriminators", name, side, width)) - 1


def phi(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


@pytest.mark.parametrize(
    ("config", "count"), [(U(), 4_376_897), (V(), 14_499_401), (V(side=256), 21_055_049)]
)
def test_the_published_networks_have_their_sizes(config: U | V, count: int) -> None:
    with torch.device("meta"):
        network = config.build()
    assert sum(p.numel() for p in network.parameters()) == count


def slow_unet(network: nn.Module, x: Tensor) -> Tensor:
    """The U-Net with all its weights as they are used, for sides that 8 divides."""

    def conv(i: int, h: Tensor, stride: int = 1) -> Tensor:
        layer = getattr(network, f"conv{i}")
        return F.conv2d(h, layer.weight, layer.bias, stride=stride, padding=1)

    up = nn.Upsample(scale_factor=2, mode="bilinear")
    down = [phi(conv(0, x))]
    for i in (1, 2, 3):
        down.append(phi(conv(i, down[-1], stride=2)))
    h = down.pop()
    for i in (4, 5, 6):
        h = phi(conv(i, up(h))) + down.pop()
    return conv(9, phi(conv(8, phi(conv(7, h)))))


def test_the_unet_agrees_with_its_equations() -> None:
    network, x = made(U(features=3)).double().eval(), images(16, 24).double()
    assert_close(network(x), slow_unet(network, x))
    # Other sides go on as they end, and each pixel keeps its logit.
    part = x[..., :11, :18]
    whole = torch.cat([part, part[:, :, -1:].expand(-1, -1, 5, -1)], dim=2)
    whole = torch.cat([whole, whole[..., -1:].expand(-1, -1, -1, 6)], dim=3)
    assert network(part).shape == (3, 1, 11, 18)
    assert_close(network(part), slow_unet(network, whole)[..., :11, :18])


def test_the_unets_convolutions_come_to_have_norm_1() -> None:
    network = made(U(features=8))
    with torch.no_grad():
        for _ in range(60):
            network(images(8, 8))
    for name, conv in network.eval().requires_grad_(False).named_children():
        norm = float(torch.linalg.matrix_norm(conv.weight.flatten(1), 2))
        assert (abs(norm - 1) < 5e-3) == (name in NORMALISED), (name, norm)
        if name in NORMALISED:
            original = conv.parametrizations.weight.original
            scale = torch.linalg.matrix_norm(original.flatten(1), 2)
            assert_close(conv.weight * scale, original, rtol=5e-3, atol=1e-5)


def slow_vgg(network: nn.Module, x: Tensor) -> Tensor:
    """The VGG network on a batch in training mode, normalised by means and variances written out."""
    h = x
    for i in range(len(network.config.widths)):
        for j in (0, 1):
            conv = getattr(network, f"conv{i}_{j}")
            h = F.conv2d(h, conv.weight, conv.bias, stride=1 + j, padding=1)
            if (i, j) != (0, 0):
                bn = getattr(network, f"bn{i}_{j}")
                mean = h.mean(dim=(0, 2, 3), keepdim=True)
                variance = (h - mean).square().mean(dim=(0, 2, 3), keepdim=True)
                h = (h - mean) / (variance + 1e-5).sqrt()
                h = h * bn.weight[:, None, None] + bn.bias[:, None, None]
            h = phi(h)
    hidden = phi(h.flatten(1) @ network.linear1.weight.T + network.linear1.bias)
    return (hidden @ network.linear2.weight.T + network.linear2.bias)[:, 0]


@pytest.mark.parametrize("side", [8, 16, 64])
def test_the_vgg_discriminator_agrees_with_its_equations(side: int) -> None:
    network = made(V(side=side, features=3, hidden=5)).double()
    x = images(side, side).double()
    assert network(x).shape == (3,)
    assert_close(network(x), slow_vgg(network, x))


@pytest.mark.parametrize("side", [4, 12, 100, 0])
def test_sides_that_do_not_halve_to_4_are_refused(side: int) -> None:
    with pytest.raises(ValueError, match=rf"side={side}; give 4 \* 2\^k pixels"):
        V(side=side)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got images of 16x32 pixels; .* judges 16x16: crop"):
        made(SMALL[1])(images(16, 32))


@pytest.mark.parametrize("config", SMALL)
def test_a_start_is_that_of_its_seed(config: U | V) -> None:
    first, second = made(config).state_dict(), made(config).state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("config", SMALL)
def test_only_a_pass_in_training_mode_leaves_a_trace(config: U | V) -> None:
    network = made(config)
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        network.eval()(images())
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
        network.train()(images())
    moved = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    buffers = {name for name, _ in network.named_buffers()}
    assert moved == buffers
    assert moved


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        real, fake = images(name=f"real{step}"), images(name=f"fake{step}")
        discriminator_loss(network(real), network(fake)).backward()
        optimizer.step()


@pytest.mark.parametrize("config", SMALL)
def test_training_goes_on_with_the_same_bits(config: U | V) -> None:
    whole, cut = made(config), made(config)
    unbroken = torch.optim.Adam(whole.parameters(), 1e-3)
    train(whole, unbroken, range(4))
    broken = torch.optim.Adam(cut.parameters(), 1e-3)
    train(cut, broken, range(2))
    again = config.build()
    again.load_state_dict(cut.state_dict())
    resumed = torch.optim.Adam(again.parameters(), 1e-3)
    resumed.load_state_dict(copy.deepcopy(broken.state_dict()))
    train(again, resumed, range(2, 4))
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_the_unet_says_where_it_is_deceived() -> None:
    # A change of one corner is seen there and not in the opposite one.
    network, x = made(U(features=4)).eval(), images(96, 96)[:1]
    changed = x.clone()
    changed[..., :8, :8] *= -1
    difference = (network(changed) - network(x)).abs()
    assert difference[..., :8, :8].min() > 0
    assert not difference[..., 64:, 64:].any()
