"""Every network faces the same properties; the paper's shapes have the paper's sizes."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

import blemish.networks
from blemish.configuration import decode, encode
from blemish.functional.random import generator_for, randn
from blemish.networks import (
    KINDS,
    Critic,
    FactorisedDensity,
    GlobalEncoder,
    LocalEncoder,
    PackedTranslator,
    Redegrader,
    ResBlock,
    ResNetDiscriminator,
    ResNetGenerator,
    RRDBNet,
    StyleGAN1,
    StyleGAN2,
    StyleGenerator,
    Translator,
    TwoHeads,
    UNetDiscriminator,
    Upscaler,
    VGGDiscriminator,
)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

G, D, T = ResNetGenerator.Config, ResNetDiscriminator.Config, TwoHeads.Config
R, S, V = RRDBNet.Config, StyleGenerator.Config, VGGDiscriminator.Config
S1, S2 = StyleGAN1.Config, StyleGAN2.Config

GE, LE, RD = GlobalEncoder.Config, LocalEncoder.Config, Redegrader.Config
TOLD: dict[str, int] = {"condition": 4, "embedding": 3, "local": 2, "ratio": 2}


class Price(nn.Module):
    """A density as a network."""

    def __init__(self, density: FactorisedDensity) -> None:
        super().__init__()
        self.density = density

    def forward(self, e: Tensor) -> Tensor:
        """Returns the prices of numbers."""
        return self.density.bits(e)


class Told(nn.Module):
    """A redegrader that is told what follows from the image; its last layer does something."""

    def __init__(self, config: Redegrader.Config) -> None:
        super().__init__()
        self.inner = config.build()
        nn.init.normal_(self.inner.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the redegraded images."""
        c = self.inner.config
        H, W = c.padded(*x.shape[-2:])
        m = x.mean(dim=(2, 3))
        e_l = m[:, : c.local, None, None].expand(-1, -1, H // c.ratio, W // c.ratio)
        maps = [m[:, :1, None, None].expand(-1, -1, h, w) for h, w in c.noise_shapes(H, W)]
        y: Tensor = self.inner(x, m, e_l, maps)
        return y


# name: (how to make it, the shape of its input)
MATRIX: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "generator": (G(latent=5, channels=(6, 4)).build, (3, 5)),
    "generator-grey": (G(latent=4, channels=(5,), image_channels=1).build, (3, 4)),
    "discriminator-odd": (D(down=(4, 6), flat=(6, 5)).build, (3, 3, 33, 47)),
    "discriminator-grey": (D(down=(4,), flat=(4,), image_channels=1).build, (3, 1, 9, 7)),
    "discriminator-smallest": (D(down=(4, 4), flat=()).build, (3, 3, 4, 5)),
    "discriminator-detail": (D(down=(4, 6), flat=(5,), detail=10.0).build, (3, 3, 8, 9)),
    "discriminator-packed": (D(down=(4,), detail=3.0, factor=2).build, (3, 3, 9, 13)),
    "two-heads": (T(latent=5, hidden=6, outputs=9).build, (3, 5)),
    "translator": (Translator.Config(channels=5, blocks=2).build, (3, 3, 9, 7)),
    "packed": (PackedTranslator.Config(channels=6, blocks=2).build, (3, 3, 9, 7)),
    "packed-grey": (PackedTranslator.Config(channels=4, image_channels=1).build, (3, 1, 5, 8)),
    "packed-3": (PackedTranslator.Config(channels=6, factor=3).build, (3, 3, 6, 8)),
    "rrdb": (R(features=6, growth=4, blocks=1).build, (3, 3, 5, 4)),
    "rrdb-2": (R(scale=2, features=4, growth=3, blocks=2).build, (3, 3, 5, 6)),
    "rrdb-1": (R(scale=1, features=4, growth=3, blocks=1, image_channels=1).build, (3, 1, 9, 7)),
    "upscaler": (Upscaler.Config(channels=6, blocks=2).build, (3, 3, 5, 4)),
    "upscaler-packed": (Upscaler.Config(channels=6, scale=3, factor=2).build, (3, 3, 5, 6)),
    "upscaler-same": (Upscaler.Config(channels=6, scale=1, image_channels=1).build, (3, 1, 7, 5)),
    "unet": (UNetDiscriminator.Config(features=3).build, (3, 3, 9, 7)),
    "unet-grey": (UNetDiscriminator.Config(features=2, image_channels=1).build, (3, 1, 8, 16)),
    "vgg-16": (V(side=16, features=4, hidden=5).build, (3, 3, 16, 16)),
    "vgg-32-grey": (V(side=32, features=2, image_channels=1).build, (3, 1, 32, 32)),
    "critic": (Critic.Config(side=16, features=2).build, (3, 3, 16, 16)),
    "critic-pairs": (Critic.Config(side=32, features=2, image_channels=6).build, (3, 6, 33, 48)),
    "style": (S(latent=6, channels=(5, 4)).build, (3, 6)),
    "style-noise": (S(latent=5, channels=(4, 3, 4), noise=True, image_channels=1).build, (3, 5)),
    "stylegan2": (S2(latent=6, channels=(5, 4, 3), mapping=2).build, (3, 6)),
    "stylegan2-clamp": (
        S2(latent=5, channels=(4, 3), mapping=1, noise=False, image_channels=1, clamp=1.5).build,
        (3, 5),
    ),
    "stylegan1": (S1(latent=6, channels=(5, 4, 3), mapping=2).build, (3, 6)),
    "stylegan1-transposed": (
        S1(latent=5, channels=(4, 3), mapping=1, noise=False, transposed_from=8).build,
        (3, 5),
    ),
    "global-encoder": (GE(embedding=5, width=3, kernel=5, norm=False).build, (3, 3, 19, 17)),
    "global-encoder-norm": (
        GE(embedding=4, width=2, kernel=3, image_channels=1).build,
        (3, 1, 9, 7),
    ),
    "local-encoder": (LE(channels=2, width=3, kernel=7, norm=False).build, (3, 3, 12, 14)),
    "local-encoder-coarse": (LE(channels=1, ratio=4, width=2, kernel=3).build, (3, 3, 8, 12)),
    "density": (lambda: Price(FactorisedDensity.Config(channels=3).build()), (3, 3, 4)),
    "redegrader": (lambda: Told(RD(widths=(4, 6), blocks=(1, 1), **TOLD)), (3, 3, 10, 9)),
    "redegrader-homogeneous": (
        lambda: Told(RD(widths=(4,), blocks=(2,), ida=False, **{**TOLD, "local": 0})),
        (3, 3, 8, 6),
    ),
    "block": (lambda: ResBlock(4, 4), (3, 4, 7, 9)),
    "block-wider": (lambda: ResBlock(3, 5), (3, 3, 7, 9)),
    "block-up": (lambda: ResBlock(4, 4, resample="up"), (3, 4, 3, 5)),
    "block-down": (lambda: ResBlock(3, 4, resample="down"), (3, 3, 7, 9)),
    "block-first": (lambda: ResBlock(3, 4, resample="down", first=True), (3, 3, 7, 9)),
}

# Networks whose passes in training mode leave a trace (a power iteration) or mix a batch (its statistics): what is said
# of all holds for them in eval mode.
EVALUATED = (
    "global-encoder-norm",
    "local-encoder-coarse",
    "unet",
    "unet-grey",
    "vgg-16",
    "vgg-32-grey",
)

# Frozen networks, whose weights are published: the metrics that read them test them.
PUBLISHED = ("inception", "vgg", "vit")


def _case(name: str) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return _made(name), randn(MATRIX[name][1], generator_for("networks", name))


def _made(name: str) -> nn.Module:
    return MATRIX[name][0]().train(name not in EVALUATED)


def _flat(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    parts = output if isinstance(output, tuple) else (output,)
    return torch.cat([part.flatten(1) if part.ndim > 1 else part[:, None] for part in parts], dim=1)


@pytest.mark.parametrize("name", MATRIX)
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    network, x = _case(name)
    _flat(network(x)).square().mean().backward()
    for parameter, p in network.named_parameters():
        assert p.grad is not None, parameter
        assert p.grad.isfinite().all(), parameter
        assert p.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", MATRIX)
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    network, x = _case(name)
    rows = torch.cat([_flat(network(row[None])) for row in x])
    assert_close(_flat(network(x)), rows)
    assert_close(_flat(network(x.flip(0))), rows.flip(0))


@pytest.mark.parametrize("name", MATRIX)
def test_weights_survive_a_file(name: str, tmp_path: Path) -> None:
    network, x = _case(name)
    other = _made(name)
    assert not torch.equal(_flat(network(x)), _flat(other(x)))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert torch.equal(_flat(network(x)), _flat(other(x)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MATRIX)
def test_bfloat16_errs_by_its_own_precision(name: str, device: str) -> None:
    network, x = _case(name)
    network, x = network.to(device), x.to(device)
    exact = _flat(network(x))
    with torch.autocast(device, dtype=torch.bfloat16):
        rough = _flat(network(x)).float()
    # bf16 has 8 bits; a few layers add their roundings up.
    assert (rough - exact).square().mean().sqrt() < 0.02 * exact.square().mean().sqrt()
    assert not torch.equal(rough, exact)


@pytest.mark.parametrize("name", [n for n in MATRIX if n != "two-heads"])
def test_double_backward_is_right(name: str) -> None:
    network, x = _case(name)
    network, x = network.double(), x.double().requires_grad_()
    weight = next(p for p in network.parameters() if p.ndim > 1)
    direction = randn(tuple(weight.shape), generator_for("direction")).double()

    def penalty() -> Tensor:
        (slope,) = torch.autograd.grad(_flat(network(x)).sin().sum(), x, create_graph=True)
        return slope.square().sum()

    (gradient,) = torch.autograd.grad(penalty(), weight)
    with torch.no_grad():
        weight += 1e-6 * direction
    above = penalty().item()
    with torch.no_grad():
        weight -= 2e-6 * direction
    assert_close(
        (gradient * direction).sum().item(), (above - penalty().item()) / 2e-6, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (G(), 1_202_691),
        (G(image_channels=6), 1_206_150),
        (D(), 1_053_825),
        (T(), 53_922),
        (T(outputs=1), 33_282),
        (G(latent=256, channels=(1024, 512, 256, 128, 64)), 34_237_955),
        (D(down=(64, 128, 256, 512, 1024), flat=(1024,)), 29_017_857),
    ],
)
def test_the_papers_networks_have_the_papers_size(config: G | D | T, count: int) -> None:
    with torch.device("meta"):
        network = config.build()
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize("resample", ["none", "up", "down"])
@pytest.mark.parametrize("channels", [(4, 4), (3, 5)])
@pytest.mark.parametrize("first", [False, True])
def test_a_block_is_what_the_paper_says(
    resample: str, channels: tuple[int, int], *, first: bool
) -> None:
    block = ResBlock(*channels, resample=resample, scale=0.3, first=first).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for p in block.parameters():
            p += 0.1 * randn(tuple(p.shape), generator_for("bias"))
    x = randn((2, channels[0], 6, 8), generator_for("x")).double()
    up = nn.UpsamplingNearest2d(scale_factor=2)
    # Resampling of the shortcut as NR-GAN orders it: after the convolution down, before it up.
    shortcut, r = x, x if first else F.relu(x)
    if resample == "up":
        shortcut, r = up(shortcut), up(r)
    if isinstance(block.shortcut, nn.Conv2d):
        shortcut = F.conv2d(shortcut, block.shortcut.weight, block.shortcut.bias)
    r = F.conv2d(r, block.conv1.weight, block.conv1.bias, padding=1)
    r = F.conv2d(F.relu(r), block.conv2.weight, block.conv2.bias, padding=1)
    if resample == "down":
        shortcut, r = F.avg_pool2d(shortcut, 2), F.avg_pool2d(r, 2)
    assert_close(block(x), shortcut + 0.3 * r)
    assert isinstance(block.shortcut, nn.Identity) == (channels == (4, 4) and resample == "none")


@pytest.mark.parametrize("resample", ["up", "down"])
def test_the_width_between_the_convolutions(resample: str) -> None:
    middle = {"up": 5, "down": 3}[resample]
    assert ResBlock(3, 5, resample=resample).conv1.out_channels == middle  # type: ignore[arg-type]
    assert ResBlock(3, 5, resample="down", first=True).conv1.out_channels == 5


def _layers(network: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    for name, layer in network.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert layer.bias is not None
            yield name, layer.weight, layer.bias


@pytest.mark.parametrize("config", [G(channels=(48, 48)), D(down=(48, 48), flat=(48,))])
def test_weights_start_as_xavier_says(config: G | D) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = config.build()
    for name, weight, bias in _layers(network):
        area = weight[0, 0].numel()
        bound = math.sqrt(6 / ((weight.shape[0] + weight.shape[1]) * area))
        if "blocks" in name and "shortcut" not in name:
            bound *= math.sqrt(2)
        assert weight.abs().max() <= bound
        if weight.numel() > 1000:
            assert_close(weight.std().item(), bound / math.sqrt(3), rtol=0.06, atol=0)
        assert not bias.any()


def test_a_discriminator_is_shown_detail_beside_the_image() -> None:
    discriminator = D(down=(4,), flat=(), detail=5.0, factor=2).build()
    seen: list[Tensor] = []
    discriminator.blocks.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    y = randn((2, 3, 6, 9), generator_for("detail"))
    discriminator(y)
    (packed,) = seen
    # Sides that 2 does not divide go on as they end.
    image, detail = F.pixel_shuffle(packed, 2).chunk(2, dim=1)
    assert_close(image, torch.cat([y, y[..., -1:]], dim=3))
    for i in range(1, 5):
        for j in range(1, 8):
            mean = y[..., i - 1 : i + 2, j - 1 : j + 2].mean(dim=(2, 3))
            assert_close(detail[..., i, j], 5 * (y[..., i, j] - mean))
    # At the border the image goes on as it ends: no edge is seen where the picture stops.
    seen.clear()
    discriminator(torch.full((1, 3, 6, 6), 0.4))
    assert F.pixel_shuffle(seen[0], 2)[:, 3:].abs().max() < 1e-6


def test_a_discriminators_detail_cannot_be_negative() -> None:
    with pytest.raises(ValueError, match=r"detail=-1; give 0 for none"):
        D(detail=-1)


def test_a_generators_output_gain_and_range() -> None:
    weights = []
    for gain in (1.0, 0.1):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            weights.append(G(latent=4, channels=(6,), output_gain=gain).build().conv.weight)
    assert_close(weights[1], 0.1 * weights[0])
    network, z = _case("generator")
    images = network(100 * z)
    assert images.shape == (3, 3, 16, 16)
    assert G(channels=(6, 4)).size == 16
    assert -1 <= images.min() < images.max() <= 1


def test_two_heads_start_from_their_biases() -> None:
    heads = T(latent=4, hidden=4, outputs=3, value_bias=1.5, mask_bias=-2.0).build()
    value, mask = heads(torch.zeros(2, 4))
    assert_close(value, torch.full((2, 3), 1.5))
    assert_close(mask, torch.full((2, 3), -2.0))


def test_two_heads_share_their_trunk() -> None:
    heads = T(latent=4, hidden=6, outputs=3).build()
    z = randn((2, 4), generator_for("z"))
    hidden = F.relu(heads.linear2(F.relu(heads.linear1(z))))
    value, mask = heads(z)
    assert_close(value, hidden @ heads.value.weight.T)
    assert_close(mask, hidden @ heads.mask.weight.T)


@pytest.mark.parametrize(
    "config",
    [
        G(latent=3),
        D(down=(4,)),
        T(mask_bias=-2.0),
        R(scale=2, blocks=6),
        S(latent=3, channels=(4, 2), noise=True),
        S1(latent=3, channels=(4, 2), transposed_from=8),
        S2(latent=3, channels=(4, 2), clamp=256.0, mean_style=True),
        V(side=64),
        Critic.Config(side=32, image_channels=6),
        UNetDiscriminator.Config(features=8),
        Upscaler.Config(scale=3, factor=2),
    ],
)
def test_configurations_survive_json(config: object) -> None:
    again = decode(json.loads(json.dumps(encode(config))), KINDS)
    assert again == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Upscaler.Config(scale=5), r"scale=5 is not known; choose 1, 2, 3 or 4"),
        (lambda: Upscaler.Config(factor=0), r"factor, image_channels=\(0, 3\); give positive"),
        (lambda: S(channels=()), r"channels=\(\); give positive whole numbers, at least 1"),
        (lambda: S(mapping=0), r"latent, image_channels, mapping=\(64, 3, 0\); give positive"),
        (lambda: S(mapping_rate=0.0), r"mapping_rate=0.0; give a factor above 0"),
        (lambda: S(output_gain=-1), r"output_gain=-1; give a factor above 0"),
        (lambda: S1(mapping_rate=-1), r"mapping_rate=-1; give a factor above 0"),
        (lambda: S2(clamp=0.0), r"clamp=0.0; give a limit above 0, or None"),
        (lambda: R(blocks=0), r"features, blocks=\(64, 0\); give positive"),
        (lambda: R(growth=-1), r"growth, image_channels=\(-1, 3\); give positive"),
        (lambda: Critic.Config(features=0), r"features, image_channels=\(0, 3\); give positive"),
        (lambda: V(hidden=0), r"features, hidden=\(64, 0\); give positive"),
        (lambda: UNetDiscriminator.Config(features=0), r"features, image_channels=\(0, 3\)"),
    ],
)
def test_shapes_of_nothing_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_every_network_is_in_the_matrix() -> None:
    tested = {type(module) for name in MATRIX for module in _case(name)[0].modules()}
    written = {
        c for c in _subclasses(nn.Module) if c.__module__.startswith(blemish.networks.__name__)
    }
    frozen = {c for c in written if c.__module__.rpartition(".")[2] in PUBLISHED}
    written -= frozen | {c for c in written if inspect.isabstract(c)}
    assert {c.__module__.rpartition(".")[2] for c in frozen} == set(PUBLISHED)
    assert written
    assert written <= tested, written - tested
    assert {c.__name__ for c in written if hasattr(c, "Config")} == set(KINDS)


def _subclasses(cls: type) -> set[type]:
    direct = set(cls.__subclasses__())
    return direct.union(*(_subclasses(c) for c in direct)) if direct else direct
