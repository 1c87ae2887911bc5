"""The critic against its equations: its size, its layers, and what it judges."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, randn
from blemish.networks import Critic

C = Critic.Config


def made(config: Critic.Config) -> Critic:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return config.build().double()


def images(height: int, width: int, channels: int = 3) -> Tensor:
    g = generator_for("critic", height, width, channels)
    return randn((2, channels, height, width), g).double()


@pytest.mark.parametrize(
    ("config", "first"),
    [(C(), 3 * 64 * 16), (C(side=64), 3 * 64 * 9), (C(side=128, image_channels=6), 6 * 64 * 16)],
)
def test_the_published_critic_has_its_size(config: Critic.Config, first: int) -> None:
    with torch.device("meta"):
        network = config.build()
    halving = 16 * (64 * 128 + 128 * 256 + 256 * 512 + 512 * 1024 + 1024 * 2048)
    assert sum(p.numel() for p in network.parameters()) == first + halving + 2048 + 1


@pytest.mark.parametrize(("side", "halvings"), [(16, 2), (32, 3), (64, 4), (128, 5)])
def test_the_first_layers_of_a_small_critic_keep_the_size(side: int, halvings: int) -> None:
    network, x = made(C(side=side, features=1)), images(side, side)
    h = x
    for i, conv in enumerate(network.convs):
        small = i < 5 - halvings
        assert conv.weight.shape == (2**i, 2 ** (i - 1) if i else 3, *([3, 3] if small else [4, 4]))
        h = F.conv2d(h, conv.weight, stride=1 if small else 2, padding=1)
        h = torch.where(h > 0, h, 0.2 * h)
    assert h.shape == (2, 16, 4, 4)
    h = h.flatten(1) @ network.last.weight.flatten(1).T
    h = torch.where(h > 0, h, 0.2 * h)
    assert_close(network(x), h @ network.linear.weight[0] + network.linear.bias)


def test_a_larger_image_has_the_mean_of_what_its_places_have() -> None:
    network = made(C(side=16, features=2))
    with torch.no_grad():
        network.linear.bias.fill_(0.3)
    # At the places in the middle nothing is seen of the border.
    x = images(16, 1).expand(-1, -1, -1, 4).repeat(1, 1, 1, 16)
    features = []
    network.last.register_forward_hook(lambda *hook: features.append(hook[2]))
    score = network(x)
    assert features[0].shape == (2, 64, 1, 13)
    of_each = F.leaky_relu(features[0], 0.2)[:, :, 0].movedim(1, 2) @ network.linear.weight[0]
    assert_close(score, of_each.mean(dim=1) + 0.3)


def test_weights_start_as_published() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = C(side=16, features=16).build()
    for name, p in network.named_parameters():
        if p.numel() > 5000:
            assert_close(p.std().item(), 0.02, rtol=0.05, atol=0)
            assert abs(p.mean().item()) < 1e-3
        assert name.endswith("weight") or not p.any()


def test_a_critic_refuses_what_it_cannot_judge() -> None:
    with pytest.raises(ValueError, match="side=48; give 16, 32, 64 or 128 pixels"):
        C(side=48)
    network = C(side=32, features=1).build()
    with pytest.raises(ValueError, match="got images of 31x40 pixels; this critic needs at least"):
        network(torch.zeros(1, 3, 31, 40))
