"""The published generators, against slow ones that follow the papers sample by sample in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from blemish.functional.fir import convolved_up
from blemish.functional.random import generator_for, generators_for, randn
from blemish.networks import StyleGAN1, StyleGAN2, StyleNetwork
from blemish.networks.style import ModulatedConv, StyledConv
from blemish.networks.stylegan1 import DoublingConv, StyledLayer
from blemish.networks.stylegan2 import Colours

SHAPE = {"latent": 6, "channels": (5, 4, 3), "mapping": 2}
ANY = [
    pytest.param(StyleGAN1.Config, id="stylegan1"),
    pytest.param(StyleGAN2.Config, id="stylegan2"),
]


def numbers(*shape: int) -> Tensor:
    return randn(shape, generator_for("stylegan", *shape)).double()


def network(config: StyleNetwork.Config) -> StyleNetwork:
    """A network in double precision, none of whose parts is idle."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = config.build().double()
        for p in made.parameters():
            p.data += 0.3 * torch.randn_like(p)
    return made


def styles_of(made: StyleNetwork, count: int, *, each: bool = False) -> list[Tensor]:
    D = made.config.latent
    return [
        numbers(count, c, D + layer)[..., :D] if each else numbers(count, D + layer)[:, :D]
        for layer, c in enumerate(made.config.features)
    ]


def maps_of(made: StyleNetwork, count: int) -> list[Tensor]:
    sides = made.config.noise_sides
    return [numbers(count + i, 1, side, side)[i:] for i, side in enumerate(sides)]


# The slow references. They know tensors by name and no layer of the package.

Weights = dict[str, Tensor]


def stuffed(x: Tensor) -> Tensor:
    """Zeros after each pixel along both axes."""
    y = x.new_zeros(*x.shape[:-2], 2 * x.shape[-2], 2 * x.shape[-1])
    y[..., ::2, ::2] = x
    return y


def filtered(x: Tensor, taps: Sequence[float], gain: float, before: int, after: int) -> Tensor:
    line = torch.tensor(taps, dtype=x.dtype) / sum(taps)
    kernel = gain * line[:, None] * line
    x = F.pad(x, (before, after, before, after))
    return torch.stack([F.conv2d(c[:, None], kernel[None, None])[:, 0] for c in x.unbind(1)], 1)


def slow_map(W: Weights, z: Tensor, rate: float, *, first: bool) -> Tensor:
    """The mapping network; the first StyleGAN has its gain on the weights, the second on all."""
    rows = []
    for row in z:
        x = row / (row.square().mean() + 1e-8).sqrt()
        for i in itertools.count():
            if f"mapping.{i}.weight" not in W:
                break
            A, b = W[f"mapping.{i}.weight"], W[f"mapping.{i}.bias"]
            A = A * rate / math.sqrt(len(x)) * (math.sqrt(2) if first else 1)
            x = A @ x + b * rate
            x = torch.where(x > 0, x, 0.2 * x) * (1 if first else math.sqrt(2))
        rows.append(x)
    return torch.stack(rows)


def slow_scales(W: Weights, name: str, w: Tensor) -> Tensor:
    A, b = W[f"{name}.style.weight"], W[f"{name}.style.bias"]
    vectors = w.expand(len(A), -1) if w.ndim == 1 else w
    return (A * vectors).sum(1) / math.sqrt(A.shape[1]) + b


def slow_layer2(
    W: Weights, name: str, x: Tensor, w: Tensor, noise: Tensor | None, *, up: bool
) -> Tensor:
    """One sample through a styled convolution, with filters that are not scaled by their size."""
    s = slow_scales(W, f"{name}.conv", w)
    weight = W[f"{name}.conv.weight"] * s[None, :, None, None]
    weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
    if up:
        # A full convolution of the stuffed features, whose last row and column are zeros, with the filter turned.
        full = F.conv2d(F.pad(stuffed(x), (2, 2, 2, 2)), weight.flip((2, 3)))[..., :-1, :-1]
        y = filtered(full, [1, 3, 3, 1], 4, 1, 1)
    else:
        y = F.conv2d(x, weight, padding=1)
    if noise is not None:
        y = y + W[f"{name}.strength"] * noise
    y = y + W[f"{name}.bias"][:, None, None]
    return torch.where(y > 0, y, 0.2 * y) * math.sqrt(2)


def slow_colours2(W: Weights, name: str, x: Tensor, w: Tensor) -> Tensor:
    weight = W[f"{name}.conv.weight"] * slow_scales(W, f"{name}.conv", w)[None, :, None, None]
    y = F.conv2d(x, weight / math.sqrt(weight.shape[1]))
    return y + W[f"{name}.bias"][:, None, None]


def slow_stylegan2(
    W: Weights, styles: list[Tensor], noise: list[Tensor], clamp: float = math.inf
) -> Tensor:
    sides = sum(name.startswith("colours.") and name.endswith(".conv.weight") for name in W)
    images = []
    for n in range(len(styles[0])):
        w = iter(range(len(styles)))
        x, image = W["constant"], torch.zeros(())
        for k in range(sides):
            if k == 0:
                x = slow_layer2(W, "convs.0", x, styles[next(w)][n], noise[0][n], up=False)
            else:
                # The first layer of this side shares the style of the colours before it.
                for j, up in ((2 * k - 1, True), (2 * k, False)):
                    style = styles[2 * k - 1] if up else styles[next(w)]
                    x = slow_layer2(W, f"convs.{j}", x, style[n], noise[j][n], up=up)
                    x = x.clamp(-clamp, clamp)
                image = filtered(stuffed(image), [1, 3, 3, 1], 4, 2, 1)
            x = x.clamp(-clamp, clamp)
            colours = slow_colours2(W, f"colours.{k}", x, styles[next(w)][n])
            image = image + colours.clamp(-clamp, clamp)
        assert next(w, None) is None
        images.append(image)
    return torch.cat(images)


def slow_layer1(W: Weights, name: str, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    C = x.shape[1]
    A, d = W[f"{name}.style.weight"], W[f"{name}.style.bias"]
    channels = []
    for c in range(C):
        y = x[:, c] + W[f"{name}.strength"][c] * noise[:, 0] + W[f"{name}.bias"][c]
        y = torch.where(y > 0, y, 0.2 * y)
        y = (y - y.mean()) / (y.var(correction=0) + 1e-8).sqrt()
        vector = w if w.ndim == 1 else w[c]
        s, t = (A[i] @ vector / math.sqrt(len(vector)) + d[i] for i in (c, C + c))
        channels.append((1 + s) * y + t)
    return torch.stack(channels, 1)


def slow_stylegan1(
    W: Weights, styles: list[Tensor], noise: list[Tensor], transposed_from: int
) -> Tensor:
    images = []
    for n in range(len(styles[0])):
        x = slow_layer1(W, "layers.0", W["constant"], styles[0][n], noise[0][n : n + 1])
        for j in range(len(styles) - 1):
            weight = W[f"convs.{j}.weight"]
            weight = weight * math.sqrt(2 / (9 * weight.shape[1]))
            if j % 2 == 1:
                if 2 * x.shape[-1] >= transposed_from:
                    weight = weight.flip((2, 3))
                # Each pixel repeated, seen by a filter of 3x3.
                x = F.conv2d(x.repeat_interleave(2, 2).repeat_interleave(2, 3), weight, padding=1)
                x = filtered(x, [1, 2, 1], 1, 1, 1)
            else:
                x = F.conv2d(x, weight, padding=1)
            x = slow_layer1(W, f"layers.{j + 1}", x, styles[j + 1][n], noise[j + 1][n : n + 1])
        weight = W["colour.weight"] / math.sqrt(x.shape[1])
        images.append(F.conv2d(x, weight, W["colour.bias"]))
    return torch.cat(images)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("clamp", [None, 0.8])
def test_stylegan2_is_the_published_one(clamp: float | None, *, each: bool) -> None:
    made = network(StyleGAN2.Config(**SHAPE, clamp=clamp))
    W, styles = dict(made.state_dict()), styles_of(made, 2, each=each)
    noise = maps_of(made, 2)
    expected = slow_stylegan2(W, styles, noise, clamp or math.inf)
    assert expected.shape == (2, 3, 16, 16)
    # The 1e-8 of demodulation is relative to filters of another size.
    assert_close(made.synthesize(styles, noise), expected, rtol=0, atol=1e-6)
    own = [W[f"convs.{j}.noise"].expand(2, -1, -1, -1) for j in range(5)]
    expected = slow_stylegan2(W, styles, own, clamp or math.inf)
    assert_close(made.synthesize(styles), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("transposed_from", [8, 16, 128])
def test_stylegan1_is_the_published_one(transposed_from: int, *, each: bool) -> None:
    made = network(StyleGAN1.Config(**SHAPE, transposed_from=transposed_from))
    W, styles = dict(made.state_dict()), styles_of(made, 2, each=each)
    noise = maps_of(made, 2)
    expected = slow_stylegan1(W, styles, noise, transposed_from)
    assert expected.shape == (2, 3, 16, 16)
    assert_close(made.synthesize(styles, noise), expected)
    own = [W[f"layers.{i}.noise"].expand(2, -1, -1, -1) for i in range(6)]
    assert_close(made.synthesize(styles), slow_stylegan1(W, styles, own, transposed_from))


@pytest.mark.parametrize("kind", ANY)
@pytest.mark.parametrize("rate", [0.01, 1.0])
def test_the_mapping_network_is_the_published_one(
    kind: type[StyleNetwork.Config], rate: float
) -> None:
    made = network(kind(latent=6, channels=(2,), mapping=3, mapping_rate=rate))
    # The biases' share of the output is as large as the weights' where the rate does not hide it.
    for layer in made.mapping:
        layer.bias.data /= rate
    z, W = 3 * numbers(4, 6), dict(made.state_dict())
    first = kind is StyleGAN1.Config
    assert_close(made.map(z), slow_map(W, z, rate, first=first))
    assert (made.map(z) - slow_map(W, z, rate, first=not first)).abs().max() > 1e-2
    assert_close(made(z), made.synthesize([made.map(z)] * 2))


def test_the_effective_filters_have_unit_norm() -> None:
    conv = ModulatedConv(6, 4, 5, filtered=True).double()
    conv.weight.data *= torch.linspace(0.1, 30, 5).double()[:, None, None, None]
    w = 3 * numbers(1, 6)
    impulses = torch.zeros(4, 4, 7, 7).double()
    impulses[range(4), range(4), 3, 3] = 1
    # What an impulse in each channel becomes is the filter of this channel, turned.
    seen = conv(impulses, w.expand(4, -1))
    norms = seen.square().sum(dim=(0, 2, 3)).sqrt()
    assert_close(norms, torch.ones(5).double(), rtol=0, atol=1e-5)
    filters = seen[..., 2:5, 2:5].flip((2, 3)).transpose(0, 1)
    x = numbers(1, 4, 6, 5)
    assert_close(conv(x, w), F.conv2d(x, filters, padding=1))
    # Up-sampling takes the same filters.
    assert_close(conv(x, w, up=True), convolved_up(x, filters))


def test_a_transposed_convolution_is_one_of_repeated_pixels_with_its_filter_turned() -> None:
    one, two = DoublingConv(3, 4, transposed=False), DoublingConv(3, 4, transposed=True)
    two.weight.data = one.weight.data.flip((2, 3))
    x = numbers(2, 3, 5, 6).float()
    assert_close(one(x), two(x))
    two.weight.data = one.weight.data
    assert (one(x) - two(x)).abs().max() > 0.1


def test_a_styled_layer_sets_mean_and_deviation() -> None:
    layer = StyledLayer(6, 4, side=16, noise=True).double()
    layer.strength.data += 0.5
    layer.style.bias.data += numbers(8)
    x, w = 7 + 5 * numbers(2, 4, 16, 16), numbers(2, 6)
    s, t = layer.style(w).chunk(2, dim=1)
    y = layer(x, w)
    assert_close(y.mean(dim=(2, 3)), t)
    assert_close(y.std(dim=(2, 3), correction=0), (1 + s).abs())
    # So the features' own scale does not matter while all are above zero.
    silent = torch.zeros(1, 1, 16, 16).double()
    assert_close(layer(10 * x.abs(), w, silent), layer(x.abs(), w, silent), rtol=0, atol=1e-6)


def recorded(
    made: StyleNetwork, styles: list[Tensor], of: tuple[type[nn.Module], ...]
) -> dict[str, Tensor]:
    """The style that each styled layer is given, and under its name and a slash what it returns."""
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, inputs, output: seen.update({name: inputs[1], f"{name}/": output})

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in made.named_modules()
        if isinstance(module, of)
    ]
    made.synthesize(styles)
    for handle in handles:
        handle.remove()
    return seen


def test_colours_share_the_style_of_the_next_sides_first_layer() -> None:
    made = network(StyleGAN2.Config(**SHAPE))
    styles = styles_of(made, 1)
    seen = recorded(made, styles, (StyledConv, Colours))
    places = {
        name: next(i for i, w in enumerate(styles) if w is seen[name])
        for name in seen
        if not name.endswith("/")
    }
    assert places == {
        "convs.0": 0,
        "colours.0": 1,
        "convs.1": 1,
        "convs.2": 2,
        "colours.1": 3,
        "convs.3": 3,
        "convs.4": 4,
        "colours.2": 5,
    }


@pytest.mark.parametrize("kind", ANY)
def test_a_style_changes_what_comes_from_its_layer_on(kind: type[StyleNetwork.Config]) -> None:
    made = network(kind(**SHAPE))
    styles = styles_of(made, 1)
    layers = made.convs if kind is StyleGAN2.Config else made.layers

    def features(styles: list[Tensor]) -> list[Tensor]:
        seen: list[Tensor] = []
        handles = [m.register_forward_hook(lambda _, __, y: seen.append(y)) for m in layers]
        seen.append(made.synthesize(styles))
        for handle in handles:
            handle.remove()
        return seen

    plain = features(styles)
    for place in range(len(styles)):
        moved = features([*styles[:place], styles[place] + 1, *styles[place + 1 :]])
        changed = [not torch.equal(a, b) for a, b in zip(plain, moved, strict=True)]
        # The last style of the second StyleGAN is that of the last colours alone.
        assert changed == [False] * place + [True] * (len(changed) - place)


@pytest.mark.parametrize("kind", ANY)
def test_noise_is_fixed_and_its_strength_starts_at_nothing(kind: type[StyleNetwork.Config]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = kind(**SHAPE).build()
    z = numbers(2, 6).float()
    maps = made.noise(2, generator=generators_for(0, [1, 2]))
    assert torch.equal(made(z), made(z))
    assert_close(made(z, maps), made(z))
    for name, p in made.named_parameters():
        if name.endswith("strength"):
            p.data += 0.1
    assert torch.equal(made(z), made(z))
    assert torch.equal(made(z, maps), made(z, maps))
    assert (made(z, maps) - made(z)).abs().max() > 1e-2
    # A map of one sample serves all.
    one = [m[:1] for m in maps]
    assert_close(made(z, one), made(z, [m.expand(2, -1, -1, -1) for m in one]))


@pytest.mark.parametrize("kind", ANY)
def test_the_slope_along_styles_is_right(kind: type[StyleNetwork.Config]) -> None:
    made = network(kind(latent=3, channels=(3, 2), mapping=1)).requires_grad_(False)
    latent = numbers(1, 4, 3).requires_grad_()

    def image(latent: Tensor) -> Tensor:
        return made.synthesize(list(latent.unbind(1)))

    # Every entry of the Jacobian against a difference, and the second order along one direction.
    assert gradcheck(image, (latent,))
    assert gradgradcheck(image, (latent,), fast_mode=True)


def test_a_clamp_bounds_what_layers_return() -> None:
    free, bound = (network(StyleGAN2.Config(**SHAPE, clamp=c)) for c in (None, 0.5))
    wide = network(StyleGAN2.Config(**SHAPE, clamp=256.0))
    styles = styles_of(free, 2)
    assert torch.equal(wide.synthesize(styles), free.synthesize(styles))
    seen = recorded(bound, styles, (StyledConv, Colours))
    for name in ("convs.0/", "convs.3/", "colours.1/"):
        assert seen[name].abs().max() == 0.5
    assert recorded(free, styles, (StyledConv,))["convs.3/"].abs().max() > 0.5


@pytest.mark.parametrize("kind", ANY)
def test_images_overshoot(kind: type[StyleNetwork.Config]) -> None:
    assert network(kind(**SHAPE))(5 * numbers(8, 6)).abs().max() > 1


def test_the_published_shapes_have_the_published_sizes() -> None:
    with torch.device("meta"):
        one, two = StyleGAN1.Config().build(), StyleGAN2.Config().build()
    sizes = [sum(p.numel() for p in made.parameters()) for made in (one, two)]
    # The first StyleGAN, which grew, also counts colours at the eight smaller sides.
    smaller = sum(3 * c + 3 for c in one.config.channels[:-1])
    assert [sizes[0] + smaller, sizes[1]] == [26_219_627, 30_370_060]
    for made, maps in ((one, 18), (two, 17)):
        assert made.config.size == 1024
        assert len(made.config.features) == 18
        assert len(made.config.noise_sides) == maps
        assert made.config.noise_sides[-2:] == (1024, 1024)


@pytest.mark.parametrize("kind", ANY)
def test_numbers_that_do_not_fit_are_refused(kind: type[StyleNetwork.Config]) -> None:
    made, w = network(kind(**SHAPE)), numbers(1, 6)
    with pytest.raises(ValueError, match=r"got 2 styles; this network has 6 styled layers"):
        made.synthesize([w] * 2)
    with pytest.raises(ValueError, match=r"got 1 maps of noise; give [56]"):
        made.synthesize([w] * 6, [torch.zeros(1)])
    with pytest.raises(ValueError, match=r"has no noise; build it with noise=True"):
        network(kind(**SHAPE, noise=False)).synthesize([w] * 6, maps_of(made, 1))
