"""RRDBNet against its equations, and its published weights in every layout and in none."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand, randn
from blemish.networks import RRDBNet, read_esrgan, write_esrgan
from blemish.restorers import FeedForward

State = dict[str, Tensor]
SMALL = RRDBNet.Config(features=6, growth=4, blocks=2)


def made(config: RRDBNet.Config = SMALL) -> RRDBNet:
    # Weights of full size, or else a fault in a small residual would not be seen.
    network, g = config.build(), generator_for("rrdb")
    for p in network.parameters():
        deviation = math.sqrt(1 / p[0].numel()) if p.ndim > 1 else 0.1
        p.data.copy_(deviation * randn(tuple(p.shape), g))
    return network


def images(*shape: int) -> Tensor:
    return 2 * rand(shape, generator_for("rrdb-images", *shape)) - 1


def slow(state: State, blocks: int, y: Tensor) -> Tensor:
    """The network at scale 4 from its equations."""

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def phi(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    h = first = conv("conv_first", (y + 1) / 2)
    for n in range(blocks):
        r = h
        for m in (1, 2, 3):
            parts = [r]
            for k in (1, 2, 3, 4):
                parts.append(phi(conv(f"body.{n}.rdb{m}.conv{k}", torch.cat(parts, 1))))
            r = r + 0.2 * conv(f"body.{n}.rdb{m}.conv5", torch.cat(parts, 1))
        h = h + 0.2 * r
    h = first + conv("conv_body", h)
    for name in ("conv_up1", "conv_up2"):
        h = phi(conv(name, h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)))
    return 2 * conv("conv_last", phi(conv("conv_hr", h))) - 1


def test_agrees_with_its_equations() -> None:
    network, y = made().double(), images(2, 3, 5, 7).double()
    assert_close(network(y), slow(network.state_dict(), 2, y))


@pytest.mark.parametrize(("scale", "factor"), [(1, 4), (2, 2)])
def test_smaller_scales_pack_pixels_and_go_on_as_they_end(scale: int, factor: int) -> None:
    network = made(RRDBNet.Config(scale=scale, features=6, growth=4, blocks=1)).double()
    y = images(1, 3, 9, 6).double()
    whole = torch.cat([y, *[y[:, :, -1:]] * (-9 % factor)], dim=2)
    whole = torch.cat([whole, *[whole[..., -1:]] * (-6 % factor)], dim=3)
    packed = F.pixel_unshuffle(whole, factor)
    expected = slow(network.state_dict(), 1, packed)
    assert_close(network(y), expected[..., : 9 * scale, : 6 * scale])


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (RRDBNet.Config(), 16_697_987),
        (RRDBNet.Config(blocks=6), 4_467_779),
        (RRDBNet.Config(scale=2), 16_703_171),
    ],
)
def test_the_published_networks_have_their_sizes(config: RRDBNet.Config, count: int) -> None:
    with torch.device("meta"):
        network = config.build()
    assert sum(p.numel() for p in network.parameters()) == count


def test_dense_blocks_start_at_a_tenth_of_kaiming() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = RRDBNet.Config(features=32, growth=24, blocks=1).build()
    for name, p in network.body.named_parameters():
        if p.ndim == 1:
            assert not p.any()
        else:
            expected = 0.1 * math.sqrt(2 / p[0].numel())
            assert_close(p.std().item(), expected, rtol=0.05, atol=0, msg=name)


@pytest.mark.parametrize("scale", [0, 3, 8])
def test_other_scales_have_no_layout(scale: int) -> None:
    with pytest.raises(ValueError, match=rf"scale={scale} has no published layout .* 1, 2 or 4"):
        RRDBNet.Config(scale=scale)


def first_layout(state: State) -> State:
    """The names of the first ESRGAN, whose blocks are the members of a list that the next layer ends."""
    blocks = len({name.split(".")[1] for name in state if name.startswith("body.")})
    ours = ("conv_first", "conv_up1", "conv_up2", "conv_hr", "conv_last", "conv_body")
    theirs = (*(f"model.{i}" for i in (0, 3, 6, 8, 10)), f"model.1.sub.{blocks}")
    names = dict(zip(ours, theirs, strict=True))
    body = r"body\.(\d+)\.rdb(\d)\.conv(\d)"
    return {
        re.sub(body, r"model.1.sub.\1.RDB\2.conv\3.0", names.get(layer, layer)) + f".{kind}": value
        for name, value in state.items()
        for layer, _, kind in [name.rpartition(".")]
    }


def later_layout(state: State) -> State:
    pairs = {
        "conv_body": "trunk_conv",
        "body.": "RRDB_trunk.",
        ".rdb": ".RDB",
        "conv_up": "upconv",
        "conv_hr": "HRconv",
    }
    out = {}
    for name, value in state.items():
        for ours, theirs in pairs.items():
            name = name.replace(ours, theirs)
        out[name] = value
    return out


LAYOUTS: dict[str, Callable[[State], State]] = {
    "first": first_layout,
    "later": later_layout,
    "ours": dict,
}


def test_the_names_are_the_published_ones() -> None:
    layers = [f"body.{n}.rdb{m}.conv{k}" for n in (0, 1) for m in (1, 2, 3) for k in range(1, 6)]
    ends = ("first", "body", "up1", "up2", "hr", "last")
    layers += [f"conv_{end}" for end in ends]
    names = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert set(made().state_dict()) == names
    old = {"model.0", "model.1.sub.2", "model.3", "model.6", "model.8", "model.10"}
    blocks = {
        f"model.1.sub.{n}.RDB{m}.conv{k}.0" for n in (0, 1) for m in (1, 2, 3) for k in range(1, 6)
    }
    assert {n.rpartition(".")[0] for n in first_layout(made().state_dict())} == old | blocks


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_layout_is_read(layout: str, scale: int, suffix: str, tmp_path: Path) -> None:
    config = RRDBNet.Config(scale=scale, features=5, growth=3, blocks=scale, image_channels=2)
    network = made(config)
    state, path = LAYOUTS[layout](network.state_dict()), tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    found, tensors = read_esrgan(path)
    assert found == config
    again = found.build()
    again.load_state_dict(tensors)
    y = images(1, 2, 5, 4)
    assert torch.equal(again(y), network(y))


@pytest.mark.parametrize("wrappers", [("params",), ("params_ema",), ("params", "params_ema")])
def test_the_average_of_training_is_taken_first(wrappers: tuple[str, ...], tmp_path: Path) -> None:
    state = made().state_dict()
    content = {w: {k: v + i for k, v in state.items()} for i, w in enumerate(wrappers)}
    torch.save({**content, "iter": 3}, tmp_path / "w.pth")
    _, tensors = read_esrgan(tmp_path / "w.pth")
    for name, value in content[wrappers[-1]].items():
        assert torch.equal(tensors[name], value)


def test_what_is_written_is_read_to_the_same_bits(tmp_path: Path) -> None:
    network = made().to(memory_format=torch.channels_last)
    path = write_esrgan(network, tmp_path / "w.safetensors")
    assert set(load_file(path)) == set(network.state_dict())
    config, tensors = read_esrgan(path)
    assert config == SMALL
    for name, value in network.state_dict().items():
        assert torch.equal(tensors[name], value)
    restorer = FeedForward.Config(network=config).build()
    restorer.network.load_state_dict(tensors)
    y = images(1, 3, 6, 5)
    assert_close(restorer.estimate((y + 1) / 2), (network(y) + 1) / 2)
    with pytest.raises(ValueError, match=r"cannot write weights to w\.pth; give a name"):
        write_esrgan(network, tmp_path / "w.pth")


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in made().state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    _, tensors = read_esrgan(tmp_path / "w.safetensors")
    for name, value in state.items():
        assert tensors[name].dtype == torch.float32
        assert torch.equal(tensors[name], value.float())


def _rename(old: str, new: str) -> Callable[[State], State]:
    return lambda state: {name.replace(old, new): value for name, value in state.items()}


def _reshape(name: str, *shape: int) -> Callable[[State], State]:
    return lambda state: {**state, name: torch.zeros(shape)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rename("conv_first.w", "other.w"), r"w\.pth has no tensor 'conv_first\.weight'"),
        (
            _rename("conv_hr.b", "other.b"),
            r"lacks 'conv_hr\.bias' and has the unexpected 'other\.b",
        ),
        (
            _rename("body.1.rdb2", "extra"),
            r"it lacks 'body\.1\.rdb2\.conv1\.weight', .* and 7 more",
        ),
        (
            _reshape("conv_up2.weight", 6, 6, 1, 1),
            r"'conv_up2\.weight' .* \(6, 6, 1, 1\); it must be",
        ),
        (_reshape("conv_first.weight", 6, 3, 5, 5), r"'conv_first\.weight' .* \(any, any, 3, 3\)"),
        (_reshape("conv_first.weight", 6, 27, 3, 3), r"takes 27 channels and gives 3; known are"),
        (_reshape("trunk_conv.weight", 6), r"'conv_body\.weight' twice, as 'trunk_conv\.weight'"),
        (_reshape("model.5.weight", 6), r"'model\.5\.weight' .* another network \(ESRGAN\+, or"),
        (_reshape("model.1.sub.0.RDB1.conv1x1.weight", 6), r"conv1x1.* two enlargements is read"),
        (lambda s: {**s, "conv_hr.bias": torch.zeros(6).int()}, r"'conv_hr\.bias' .* torch\.int32"),
    ],
)
def test_what_does_not_fit_is_named(
    change: Callable[[State], State], message: str, tmp_path: Path
) -> None:
    torch.save({"params": change(made().state_dict())}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message) as error:
        read_esrgan(tmp_path / "w.pth")
    assert "\n" not in str(error.value)


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('the file was run')",)


@pytest.mark.parametrize("content", [Bomb(), {"params_ema": Bomb()}, {"params": [1]}, {"iter": 3}])
def test_nothing_is_run_and_nothing_else_is_read(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"^w\.pth (is no file of plain|does not hold) tensors"):
        read_esrgan(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_truncated_file_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(made().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"^w\.\w+ is no (file of plain tensors|safetensors file)"):
        read_esrgan(path)
