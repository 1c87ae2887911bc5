"""The conditional PixelCNN: what a pixel sees, what images cost, and draws that equal the slow ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional import mixtures
from blemish.functional.random import Randomness, generator_for, generators_for, rand, randn
from blemish.networks import ConditionalPixelCNN

SMALL = {"width": 5, "blocks": 2, "components": 3, "dropout": 0.0}

CONFIGS: dict[str, ConditionalPixelCNN.Config] = {
    "plain": ConditionalPixelCNN.Config(**SMALL),
    "grey-residual": ConditionalPixelCNN.Config(
        **SMALL, channels=1, family="gaussian", residual=True
    ),
    "raw-condition": ConditionalPixelCNN.Config(**SMALL, encoder=0, phases=4, coupled=False),
    "dilated": ConditionalPixelCNN.Config(**SMALL, dilations=(1, 2), phases=8, residual=True),
    "one-block": ConditionalPixelCNN.Config(**{**SMALL, "blocks": 1}, encoder=1),
}


def made(config: ConditionalPixelCNN.Config) -> ConditionalPixelCNN:
    """Returns a network in float64 all of whose weights do something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = config.build().double()
    with torch.no_grad():
        for name, p in network.named_parameters():
            p += 0.3 * randn(tuple(p.shape), generator_for("weights", name)).double()
    return network


def images(*shape: int, seed: int = 0) -> Tensor:
    steps = (rand(shape, generator_for("images", seed)).double() * 255).round()
    return steps * mixtures.STEP - 1


@pytest.mark.parametrize("name", CONFIGS)
def test_a_pixel_sees_what_it_should_and_no_more(name: str) -> None:
    config = CONFIGS[name]
    H, W, row, column = 19, 21, 11, 10
    x, condition = (images(1, config.channels, H, W, seed=i).requires_grad_() for i in (0, 1))
    out = made(config)(x, condition)[0, :, row, column]
    seen, of_condition = torch.autograd.grad(out.square().sum(), (x, condition))
    seen, of_condition = (g[0].abs().sum(dim=0) > 0 for g in (seen, of_condition))
    # Nothing of itself, nor of what follows in raster order.
    assert not seen[row, column:].any()
    assert not seen[row + 1 :].any()
    reach = config.reach
    rows, columns = seen.nonzero().T
    assert row - rows.min() == reach.up
    assert column - columns.min() == reach.left
    assert columns.max() - column == reach.right
    assert rows.max() == row + reach.down
    assert seen[row, column - reach.left : column].sum() == 1 + 2 * config.blocks
    # The condition at the pixel and around it.
    reach = config.condition_reach
    rows, columns = of_condition.nonzero().T
    assert of_condition[row, column]
    assert of_condition[row + 1, column + 1]
    assert row - rows.min() == reach.up
    assert rows.max() - row == reach.down
    assert column - columns.min() == reach.left
    assert columns.max() - column == reach.right


def test_the_default_network_has_the_papers_size_and_reach() -> None:
    config = ConditionalPixelCNN.Config()
    with torch.device("meta"):
        network = config.build()
    assert sum(p.numel() for p in network.parameters()) == 4_078_500
    assert config.reach == (15, 0, 14, 13)
    assert config.condition_reach == (13, 2, 13, 12)


def test_a_channels_law_does_not_depend_on_those_after_it() -> None:
    config = CONFIGS["plain"]
    network, k = made(config), config.components
    x, condition = images(1, 3, 4, 5), images(1, 3, 4, 5, seed=1)
    other = x.clone()
    other[0, 2, 2, 3] = images(1)[0]

    def red(image: Tensor) -> Tensor:
        p = network(image, condition)
        first = torch.cat([p[:, :k], p[:, k : 2 * k], p[:, 4 * k : 5 * k]], dim=1)
        return mixtures.log_prob(first, image[:, :1], components=k, family="logistic")[0, 2, 3]

    def green(image: Tensor) -> Tensor:
        return network.log_prob(image, condition)[0, 2, 3]

    assert_close(red(x), red(other))
    assert (green(x) - green(other)).abs() > 1e-3


@pytest.mark.parametrize("family", ["logistic", "gaussian"])
def test_all_images_together_have_probability_one(family: mixtures.Family) -> None:
    config = ConditionalPixelCNN.Config(**SMALL, channels=1, family=family)
    network = made(config)
    grid = torch.arange(256).double() * mixtures.STEP - 1
    condition = images(1, 1, 1, 2)
    # One pixel, of every value; then the second one, given several of the first.
    one = network.log_prob(grid.view(256, 1, 1, 1), condition[..., :1].expand(256, 1, 1, 1))
    assert_close(one.exp().sum().item(), 1.0, rtol=0, atol=1e-9)
    for first in (-1.0, grid[100].item()):
        pairs = torch.stack([torch.full_like(grid, first), grid], dim=1).view(256, 1, 1, 2)
        logs = network.log_prob(pairs, condition.expand(256, 1, 1, 2))[:, 0]
        assert_close(logs[:, 1].exp().sum().item(), 1.0, rtol=0, atol=1e-9)
        assert_close(logs[:, 0], logs[:1, 0].expand(256))


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    config = CONFIGS[name]
    network = made(config)
    x = images(1, config.channels, 3, 2)
    condition = images(1, config.channels, 3, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: network.log_prob(x, c).sum(), condition)


def test_masked_pixels_count_nothing() -> None:
    network = made(CONFIGS["plain"])
    x, condition = images(2, 3, 4, 5), images(2, 3, 4, 5, seed=1)
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[1:3, 2:] = True
    full = network.log_prob(x, condition)
    assert full.shape == (2, 4, 5)
    assert torch.equal(network.log_prob(x, condition, mask), full * mask)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_an_untrained_network_costs_about_eight_bits(channels: int, *, residual: bool) -> None:
    config = ConditionalPixelCNN.Config(
        channels=channels, width=16, blocks=2, dropout=0.0, residual=residual
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = config.build()
    x = images(4, channels, 12, 12).float()
    condition = images(4, channels, 12, 12, seed=1).float()
    bits = -network.log_prob(x, condition).mean().item() / (math.log(2) * channels)
    assert 7.5 < bits < (11 if residual else 9)
    same = -network.log_prob(x, x).mean().item() / (math.log(2) * channels)
    assert (6 < same < 8) if residual else (7.5 < same < 9)


def slowly(network: ConditionalPixelCNN, condition: Tensor, generator: Randomness) -> Tensor:
    """Draws with a full pass for each pixel."""
    c = network.config
    B, C, H, W = condition.shape
    draws = rand((B, 1 + C, H, W), generator).to(condition)
    x = torch.zeros_like(condition)
    for row in range(H):
        for column in range(W):
            at = (..., slice(row, row + 1), slice(column, column + 1))
            x[at] = mixtures.sample(
                network(x, condition)[at],
                draws[at],
                components=c.components,
                family=c.family,
                coupled=c.coupled,
                base=condition[at] if c.residual else None,
            )
    return x


@pytest.mark.parametrize("name", CONFIGS)
def test_draws_equal_those_of_full_passes(name: str) -> None:
    config = CONFIGS[name]
    network = made(config)
    condition = images(2, config.channels, 6, 7, seed=1)
    drawn = network.sample(condition, generators_for(3, [0, 1]))
    with torch.no_grad():
        assert_close(drawn, slowly(network, condition, generators_for(3, [0, 1])))
    assert drawn.std() > 0.1
    # An image is drawn as it would be alone.
    assert_close(drawn[1:], network.sample(condition[1:], generators_for(3, [1])))
    again = network.sample(condition, generators_for(4, [0, 1]))
    assert not torch.equal(drawn, again)


def test_draws_follow_the_law_of_whole_images() -> None:
    # The mean of q(x) / p(x) over draws from p is 1 for any law q, over all pixels and channels together.
    network, other = made(CONFIGS["plain"]), made(CONFIGS["plain"])
    with torch.no_grad():
        for name, p in other.named_parameters():
            p += 0.02 * randn(tuple(p.shape), generator_for("other", name)).double()
    n = 3000
    condition = images(1, 3, 2, 2, seed=1).expand(n, -1, -1, -1)
    drawn = network.sample(condition, generator_for("drawn"))
    with torch.no_grad():
        logs = other.log_prob(drawn, condition) - network.log_prob(drawn, condition)
    ratios = logs.sum(dim=(1, 2)).exp()
    assert ratios.std() > 0.2
    assert abs(ratios.mean() - 1) < 3 * ratios.std() / math.sqrt(n)


def test_phases_are_counted_from_the_corner() -> None:
    network = made(CONFIGS["dilated"])
    x, condition = images(1, 3, 32, 32), images(1, 3, 32, 32, seed=1)
    whole = network(x, condition)[..., 24:26, 24:26]
    # A crop that starts on a multiple of 8 has the same law inside; any other is told other phases.
    for start, same in ((8, True), (16, True), (7, False)):
        inner = network(x[..., start:, start:], condition[..., start:, start:])
        at = 24 - start
        assert torch.allclose(inner[..., at : at + 2, at : at + 2], whole) == same


def test_dropout_needs_a_generator_and_repeats_with_it() -> None:
    network = made(ConditionalPixelCNN.Config(**{**SMALL, "dropout": 0.5}))
    x, condition = images(2, 3, 4, 4), images(2, 3, 4, 4, seed=1)
    with pytest.raises(ValueError, match=r"dropout=0.5 needs a generator"):
        network.log_prob(x, condition)
    a, b, c = (network(x, condition, generator_for("dropout", i)) for i in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    rows = network(x[1:], condition[1:], generators_for(1, [1]))
    assert_close(network(x, condition, generators_for(1, [0, 1]))[1:], rows)
    network.eval()
    assert torch.equal(network(x, condition), network(x, condition, generator_for(0)))


def test_learning_lowers_the_cost_of_what_follows_from_the_condition() -> None:
    config = ConditionalPixelCNN.Config(
        channels=1, width=8, blocks=1, components=2, dropout=0.0, encoder=1
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = config.build()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    generator = generator_for("learning")

    def bits(condition: Tensor, x: Tensor) -> Tensor:
        return -network.log_prob(x, condition).mean() / math.log(2)

    def batch() -> tuple[Tensor, Tensor]:
        clean = (rand((8, 1, 8, 8), generator) * 255).round() * mixtures.STEP - 1
        # Turned upside down in value, and coarser.
        return clean, ((-clean * 16).round() / 16 * 127.5 + 127.5).round() * mixtures.STEP - 1

    before = bits(*batch()).item()
    for _ in range(150):
        optimizer.zero_grad()
        bits(*batch()).backward()
        optimizer.step()
    clean, degraded = batch()
    after, unpaired = bits(clean, degraded).item(), bits(clean.flip(0), degraded).item()
    assert before > 7.5
    assert after < before - 1.5
    assert unpaired > after + 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width"),
        ({"family": "cauchy"}, "family='cauchy'; choose 'logistic' or 'gaussian'"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"phases": -1}, "phases=-1"),
        ({"dilations": (1, 2, 4)}, r"dilations=\(1, 2, 4\) for encoder=2"),
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConditionalPixelCNN.Config(**{**SMALL, **change})


def test_images_unlike_their_conditions_are_refused() -> None:
    network = made(CONFIGS["plain"])
    with pytest.raises(ValueError, match=r"shape \(1, 3, 4, 5\) and conditions"):
        network(images(1, 3, 4, 5), images(1, 3, 5, 4))
