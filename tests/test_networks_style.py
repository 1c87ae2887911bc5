"""The style generator against the formulas it stands for."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, generators_for, randn
from blemish.networks import StyleGenerator
from blemish.networks.style import ModulatedConv, StyledConv
from blemish.networks.style_network import EqualisedLinear


def numbers(*shape: int) -> Tensor:
    return randn(shape, generator_for("style", *shape))


def network(*, noise: bool = False) -> StyleGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = StyleGenerator.Config(latent=6, channels=(5, 4, 3), noise=noise).build()
    with torch.no_grad():
        for conv in made.convs:
            conv.bias += 0.3
            if noise:
                conv.strength += 0.5
    return made


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize("size", [1, 3])
def test_scaled_activations_are_scaled_weights(size: int, *, each: bool, demodulate: bool) -> None:
    # The paper's own order: filters of each sample, scaled, normalised, and then applied.
    conv = ModulatedConv(6, 4, 5, size=size, demodulate=demodulate)
    x, w = numbers(3, 4, 7, 8), numbers(3, 4, 6) if each else numbers(3, 6)
    expected = []
    for row, vectors in zip(x, w, strict=True):
        vectors = vectors if each else vectors.expand(4, -1)
        A = conv.style.weight / math.sqrt(6)
        s = torch.stack([A[c] @ vectors[c] + conv.style.bias[c] for c in range(4)])
        filters = conv.weight / math.sqrt(4 * size**2) * s[None, :, None, None]
        if demodulate:
            filters = filters / filters.square().sum((1, 2, 3), keepdim=True).add(1e-8).sqrt()
        expected.append(F.conv2d(row[None], filters, padding=size // 2))
    assert_close(conv(x, w), torch.cat(expected))


def test_demodulation_keeps_the_deviation_of_white_features() -> None:
    conv = ModulatedConv(6, 8, 4)
    y = conv(numbers(2, 8, 130, 130), 5 * numbers(2, 6))[..., 1:-1, 1:-1]
    assert_close(y.std(dim=(2, 3)), torch.ones(2, 4), rtol=0, atol=0.05)


def test_up_sampling_is_the_originals_filter_inside() -> None:
    # Zeros in between, then [1, 3, 3, 1] / 4 along each side.
    conv = ModulatedConv(2, 1, 1, size=1, demodulate=False)
    x, w = numbers(1, 1, 6, 7), numbers(1, 2)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    expected = F.conv_transpose2d(x, (line[:, None] * line)[None, None], stride=2, padding=1)
    up = conv(x, w, up=True)
    scale = conv.style(w)[0, 0] * conv.weight[0, 0, 0, 0]
    assert_close(up[..., 1:-1, 1:-1], scale * expected[..., 1:-1, 1:-1])


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_the_rate_changes_steps_and_not_the_layer(rate: float) -> None:
    layers = []
    for r in (1.0, rate):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers.append(EqualisedLinear(7, 5, rate=r, bias=0.5))
    x = numbers(3, 7)
    y = layers[1](x)
    assert_close(y, layers[0](x))
    y.sum().backward()
    # A step of size 1 in the stored weight moves the effective one by rate / sqrt(7).
    assert_close(layers[1].weight.grad, (rate / math.sqrt(7)) * x.sum(0).expand(5, -1))


def test_one_vector_for_each_channel_is_one_for_all_when_they_are_equal() -> None:
    made, w = network(), numbers(2, 6)
    features = made.config.features
    assert features == (5, 5, 4, 4, 3, 3)
    assert len(features) == 2 * math.log2(made.config.size) - 2
    same = made.synthesize([w] * len(features))
    each = made.synthesize([w[:, None].expand(-1, c, -1) for c in features])
    assert_close(each, same, rtol=0, atol=1e-6)
    assert_close(made.map(7 * w), made.map(w))
    assert torch.equal(made(w), made.synthesize([made.map(w)] * len(features)))


def test_every_layer_has_a_say_in_the_image() -> None:
    made, w = network(), numbers(1, 6)
    plain = [w] * len(made.config.features)
    image = made.synthesize(plain)
    for layer in range(len(plain)):
        styles = [*plain[:layer], w + 1, *plain[layer + 1 :]]
        assert (made.synthesize(styles) - image).abs().max() > 1e-3


def test_noise_is_given_or_the_networks_own() -> None:
    made, w = network(noise=True), numbers(2, 6)
    styles = [w] * 6
    own = [conv.noise for conv in made.convs]
    assert torch.equal(made.synthesize(styles, own), made.synthesize(styles))
    drawn = made.noise(2, generator=generators_for(0, [4, 5]))
    assert [n.shape[-1] for n in drawn] == [4, 8, 8, 16, 16]
    assert (made.synthesize(styles, drawn) - made.synthesize(styles)).abs().max() > 1e-2
    alone = made.noise(1, generator=generators_for(0, [5]))
    assert_close(made.synthesize([w[1:]] * 6, alone), made.synthesize(styles, drawn)[1:])


def test_noise_comes_between_the_convolution_and_the_rectifier() -> None:
    layer = StyledConv(3, 2, 4, side=8, up=True, noise=True)
    with torch.no_grad():
        layer.strength += 0.7
        layer.bias += numbers(4)
    x, w, n = numbers(2, 2, 4, 4), numbers(2, 3), numbers(2, 1, 8, 8)
    y = layer.conv(x, w, up=True) + 0.7 * n + layer.bias.view(1, 4, 1, 1)
    assert_close(layer(x, w, n), torch.where(y > 0, y, 0.2 * y) * 2**0.5)


def test_numbers_that_do_not_fit_are_refused() -> None:
    w = numbers(1, 6)
    with pytest.raises(ValueError, match=r"got 2 styles; this network has 6 styled layers"):
        network().synthesize([w] * 2)
    with pytest.raises(ValueError, match=r"has no noise; build it with noise=True"):
        network().synthesize([w] * 6, [torch.zeros(1)])
    with pytest.raises(ValueError, match=r"got 1 maps of noise; give 5"):
        network(noise=True).synthesize([w] * 6, [torch.zeros(1)])
