"""Layouts of published networks: each against a slow reference that reads the file's own tensors by the file's own names."""

import argparse
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from checkpoint_files import write_variables
from published_generators import (
    FILES,
    MAPPING,
    SIDES,
    D,
    authors_file,
    authors_image,
    authors_tensors,
    authors_w,
    draw,
    first_image,
    first_tensors,
    mapped,
    rosinality_file,
    rosinality_image,
    rosinality_tensors,
    tensorflow_convs,
    tensorflow_image,
    tensorflow_parts,
    to_variables,
)

from blemish.foreign.checkpoint import Checkpoint, read_checkpoint
from blemish.foreign.layouts import number_of
from blemish.foreign.published import LAYOUTS, convert, find_layout, read_files
from blemish.networks import StyleGAN1, StyleGAN2


def random_styles(layers=6, seed=1):
    return torch.randn(layers, D, generator=torch.Generator().manual_seed(seed))


def image_of(network, ws):
    with torch.no_grad():
        return network.synthesize([w[None] for w in ws])[0].double()


@pytest.mark.parametrize("program", FILES)
def test_each_layout_makes_the_picture_of_its_own_program(tmp_path, program):
    make, write, reference = FILES[program]
    tensors = make()
    network = convert(read_checkpoint(write(tmp_path / "x", tensors))).network
    assert isinstance(network, StyleGAN2)
    for seed in (1, 2):
        ws = random_styles(seed=seed)
        expected = reference(tensors, ws)
        assert expected.shape == (3, 16, 16)
        assert expected.std() > 1
        torch.testing.assert_close(image_of(network, ws), expected, rtol=1e-5, atol=1e-5)


def to_rosinality(t):
    """The tensors of one network by the names of another program, as its own converter has them."""
    out = {"latent_avg": t["mapping.w_avg"], "input.input": t["synthesis.b4.const"][None]}
    for i in range(MAPPING):
        out |= {f"style.{i + 1}.{part}": t[f"mapping.fc{i}.{part}"] for part in ("weight", "bias")}
    convs = ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"]
    for n, conv in enumerate(convs):
        path, theirs = f"synthesis.{conv}", f"convs.{n - 1}" if n else "conv1"
        out |= {
            f"{theirs}.conv.weight": t[f"{path}.weight"][None],
            f"{theirs}.activate.bias": t[f"{path}.bias"],
        }
        out |= {
            f"{theirs}.conv.modulation.{p}": t[f"{path}.affine.{p}"] for p in ("weight", "bias")
        }
        out |= {f"{theirs}.noise.weight": t[f"{path}.noise_strength"][None]}
        out |= {f"noises.noise_{n}": t[f"{path}.noise_const"][None, None]}
    for side, theirs in zip(SIDES, ("to_rgb1", "to_rgbs.0", "to_rgbs.1"), strict=True):
        path = f"synthesis.b{side}.torgb"
        out |= {
            f"{theirs}.conv.weight": t[f"{path}.weight"][None],
            f"{theirs}.bias": t[f"{path}.bias"].reshape(1, 3, 1, 1),
        }
        out |= {
            f"{theirs}.conv.modulation.{p}": t[f"{path}.affine.{p}"] for p in ("weight", "bias")
        }
    return out


def test_one_network_in_two_layouts_makes_one_picture(tmp_path):
    tensors = authors_tensors()
    others = to_rosinality(tensors)
    assert {name: v.shape for name, v in others.items()} == {
        n: v.shape for n, v in rosinality_tensors().items()
    }
    first = convert(read_checkpoint(authors_file(tmp_path / "a", tensors)))
    second = convert(read_checkpoint(rosinality_file(tmp_path / "b", others)))
    assert first.used == second.used == len(tensors)
    ws = random_styles()
    expected = authors_image(tensors, ws)
    torch.testing.assert_close(rosinality_image(others, ws), expected, rtol=1e-6, atol=1e-6)
    for converted in (first, second):
        torch.testing.assert_close(image_of(converted.network, ws), expected, rtol=1e-5, atol=1e-5)
    states = first.network.state_dict(), second.network.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert first.network.config == second.network.config


def test_filters_that_double_are_turned_from_tensorflow_alone(tmp_path):
    parts, tensors = tensorflow_parts(), authors_tensors()
    turned = convert(read_checkpoint(write_variables(parts, tmp_path / "a"))).network.convs
    unturned = convert(read_checkpoint(authors_file(tmp_path / "b", tensors))).network.convs
    for n, path, _, _ in tensorflow_convs():
        given = torch.from_numpy(parts["synthesis"][f"{path}/weight"])
        expected = given.flip(0, 1) if "up" in path else given
        assert torch.equal(turned[n].conv.weight, expected.permute(3, 2, 0, 1))
        conv = f"b{path.partition('x')[0]}.conv{0 if 'up' in path else 1}"
        assert torch.equal(unturned[n].conv.weight, tensors[f"synthesis.{conv}.weight"])
    # Turning makes a difference, so the agreement with the references says which is right.
    ws = random_styles()
    swapped = {
        **parts,
        "synthesis": {
            k: v[::-1, ::-1].copy() if "up/weight" in k else v
            for k, v in parts["synthesis"].items()
        },
    }
    assert (tensorflow_image(parts, ws) - tensorflow_image(swapped, ws)).abs().max() > 0.5


def test_clamp_and_rate_are_read_beside_the_tensors(tmp_path):
    tensors = authors_tensors()
    path = authors_file(tmp_path / "x", tensors, clamp=1.5, rate=0.05)
    converted = convert(read_checkpoint(path))
    assert (converted.network.config.clamp, converted.network.config.mapping_rate) == (1.5, 0.05)
    ws = random_styles()
    free, clamped = authors_image(tensors, ws), authors_image(tensors, ws, clamp=1.5)
    assert (free - clamped).abs().max() > 0.5
    torch.testing.assert_close(image_of(converted.network, ws), clamped, rtol=1e-5, atol=1e-5)
    z = random_styles(1, seed=5)
    expected = authors_w(tensors, z[0], rate=0.05)
    torch.testing.assert_close(converted.network.map(z)[0].double(), expected, rtol=1e-5, atol=1e-6)
    parts = write_variables(tensorflow_parts(), tmp_path / "y", conv_clamp=256, mapping_lrmul=0.02)
    config = convert(read_checkpoint(parts)).network.config
    assert (config.clamp, config.mapping_rate) == (256, 0.02)


def test_the_first_stylegan_makes_the_picture_of_its_program(tmp_path):
    tensors, ws = first_tensors(), random_styles()
    noise = list(draw({i: (SIDES[i // 2],) * 2 for i in range(6)}, seed=7).values())
    converted = convert(
        read_checkpoint(write_variables(to_variables(tensors, noise), tmp_path / "x"))
    )
    assert isinstance(converted.network, StyleGAN1)
    assert converted.notes == ()
    assert "synthesis/ToRGB_lod1/weight" in converted.left_out
    expected = first_image(tensors, ws, noise)
    torch.testing.assert_close(image_of(converted.network, ws), expected, rtol=1e-5, atol=1e-5)
    z = random_styles(1, seed=5)
    layers = [
        [tensors[f"g_mapping.dense{i}.{p}"].double() for p in ("weight", "bias")]
        for i in range(MAPPING)
    ]
    w = mapped(z[0].double(), layers, rate=0.01, inside=True)
    torch.testing.assert_close(converted.network.map(z)[0].double(), w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("apart", [True, False])
def test_ports_of_the_first_stylegan_are_read_in_one_file_or_two(tmp_path, apart):
    tensors, ws = first_tensors(), random_styles()
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel.outer(kernel) / 16)[None, None]
    tensors["g_synthesis.blocks.8x8.conv0_up.intermediate.kernel"] = kernel
    tensors = {
        (n if apart else n.replace(".noise.", ".top_epi.noise.")): v for n, v in tensors.items()
    }
    if apart:
        for start in ("g_mapping.", "g_synthesis."):
            held = {n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)}
            torch.save(held, tmp_path / f"{start}pt")
        checkpoint = read_files(tmp_path / "g_synthesis.pt", tmp_path / "g_mapping.pt")
        with pytest.raises(ValueError, match=r"lacks 'g_mapping.dense0.weight'"):
            convert(read_files(tmp_path / "g_synthesis.pt"))
        with pytest.raises(ValueError, match=r"both hold '.*'"):
            read_files(tmp_path / "g_synthesis.pt", tmp_path / "g_synthesis.pt")
    else:
        torch.save(tensors, tmp_path / "whole.pt")
        checkpoint = read_files(tmp_path / "whole.pt")
    converted = convert(checkpoint)
    assert converted.network.config.mean_style is not apart
    assert set(converted.left_out) == {"g_synthesis.blocks.8x8.conv0_up.intermediate.kernel"}
    assert "no maps of noise: they were drawn" in converted.notes[0]
    noise = [layer.noise[0, 0] for layer in converted.network.layers]
    assert not torch.equal(noise[0], noise[1])
    expected = first_image(first_tensors(), ws, noise)
    torch.testing.assert_close(image_of(converted.network, ws), expected, rtol=1e-5, atol=1e-5)
    again = convert(checkpoint).network.state_dict()
    assert all(torch.equal(again[name], v) for name, v in converted.network.state_dict().items())


# Nothing is lost.


def flat(program):
    """Tensors by the names that a reader finds."""
    tensors = FILES[program][0]()
    if program != "TensorFlow":
        return tensors
    return {
        f"{part}/{name}".lstrip("/"): torch.from_numpy(np.array(value))
        for part, held in tensors.items()
        for name, value in held.items()
    }


def as_checkpoint(tensors, **settings):
    return Checkpoint("file.x", "0" * 64, "torch", tensors, settings)


@pytest.mark.parametrize("program", FILES)
def test_each_tensor_becomes_one_of_ours(program):
    # Each of theirs holds one number, another in each.
    tensors = {
        name: torch.full_like(v, 10.0 * i) for i, (name, v) in enumerate(flat(program).items())
    }
    state = convert(as_checkpoint(tensors)).network.state_dict()
    assert all((value == value.flatten()[0]).all() for value in state.values())
    found = sorted(10 * round(value.flatten()[0].item() / 10) for value in state.values())
    assert found == [10 * i for i, name in enumerate(tensors) if name != "lod"]


@pytest.mark.parametrize("program", FILES)
def test_each_missing_tensor_is_told(program):
    tensors = flat(program)
    for name in list(tensors)[3::5]:
        rest = {other: value for other, value in tensors.items() if other != name}
        # Of the layers of a mapping network one is the last, and then those beyond a gap are strange.
        with pytest.raises(ValueError, match=r"file\.x (lacks|holds) '"):
            convert(as_checkpoint(rest))


@pytest.mark.parametrize("program", FILES)
def test_strange_tensors_are_told(program):
    tensors = flat(program)
    with pytest.raises(ValueError, match=r"file.x holds 'extra', which no network of the layout"):
        convert(as_checkpoint({**tensors, "extra": torch.ones(1)}))
    name = next(
        name
        for name in tensors
        if "weight" in name and "apping" not in name and tensors[name].ndim > 3
    )
    for value, message in [
        (tensors[name].long(), "holds torch.int64"),
        (tensors[name] * math.nan, "not finite"),
        (tensors[name].flatten(), "has shape"),
        (torch.cat([tensors[name]] * 2, dim=-1), "has shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            convert(as_checkpoint({**tensors, name: value}))


def test_precision_is_float32_whatever_the_file_has():
    tensors = {name: value.half() for name, value in flat("authors").items()}
    state = convert(as_checkpoint(tensors)).network.state_dict()
    assert all(value.dtype == torch.float32 for value in state.values())
    assert torch.equal(state["convs.0.conv.weight"], tensors["synthesis.b4.conv1.weight"].float())


def test_the_converted_shares_no_memory_with_the_file():
    tensors = flat("authors")
    network = convert(as_checkpoint(tensors)).network
    before = network.constant.clone()
    tensors["synthesis.b4.const"].zero_()
    assert torch.equal(network.constant, before)
    assert network.constant.requires_grad
    assert not network.w_avg.requires_grad


@pytest.mark.parametrize(
    ("program", "settings", "message"),
    [
        ("authors", {"synthesis.b8.architecture": "resnet"}, "architecture='resnet'; only 'skip'"),
        ("authors", {"synthesis.b8.conv0.activation": "relu"}, "activation='relu'"),
        ("authors", {"synthesis.b8.conv0.conv_clamp": 1, "synthesis.b8.conv1.conv_clamp": None}, "different clamps"),
        ("TensorFlow", {"architecture": "orig"}, "architecture='orig'"),
        ("TensorFlow", {"resample_kernel": [1, 2, 1]}, r"resample_kernel=\[1, 2, 1\]"),
    ],
)  # fmt: skip
def test_networks_of_other_kinds_are_refused(program, settings, message):
    with pytest.raises(ValueError, match=message):
        convert(replace(as_checkpoint(flat(program)), settings=settings))


def test_other_filters_are_refused():
    tensors = flat("authors")
    good = torch.tensor([1.0, 3.0, 3.0, 1.0])
    for kernel in (torch.ones(4, 4), good, good.outer(good)[:2]):
        with pytest.raises(
            ValueError, match=r"'synthesis.b8.resample_filter' is not \[1, 3, 3, 1\]"
        ):
            convert(as_checkpoint({**tensors, "synthesis.b8.resample_filter": kernel}))
    convert(as_checkpoint({**tensors, "synthesis.b8.resample_filter": 4 * good.outer(good)}))


def test_maps_of_noise_are_all_there_or_none():
    tensors = flat("rosinality")
    maps = [name for name in tensors if name.startswith("noises.")]
    without = {name: value for name, value in tensors.items() if name not in maps}
    assert convert(as_checkpoint(without)).notes
    with pytest.raises(ValueError, match=r"lacks 'noises\.noise_0'"):
        convert(as_checkpoint({**without, maps[1]: tensors[maps[1]]}))


def test_unknown_networks_are_told():
    marks = [layout.mark for layout in LAYOUTS]
    assert len(set(marks)) == len(marks) == 5
    with pytest.raises(
        ValueError, match=r"file.x holds 'a', and nothing that tells a layout; known are StyleGAN2"
    ):
        find_layout(as_checkpoint({"a": torch.ones(1)}))
    held = [flat(program) for program in FILES]
    variables = to_variables(first_tensors(), [torch.zeros(1)] * 6)
    held += [first_tensors(), {f"synthesis/{name}": 0 for name in variables["synthesis"]}]
    assert [[mark in names for mark in marks].count(True) for names in held] == [1] * 5


def test_nothing_is_built_of_shapes_that_a_file_does_not_hold():
    # A bias says how many channels there are, and memory for them would be of terabytes.
    tensors = flat("rosinality")
    huge = {**tensors, "to_rgbs.1.conv.weight": torch.empty(1, 3, 10**6, 1, 1)[:, :, :, :0]}
    huge["to_rgbs.0.conv.weight"] = torch.empty(1, 3, 10**6, 0, 1)
    with pytest.raises(ValueError, match=r"has shape .* where the other tensors ask for"):
        convert(as_checkpoint(huge))
    huge["style.1.weight"] = torch.empty(2**45, 0)
    with pytest.raises(ValueError, match=r"more numbers than there can be|has shape"):
        convert(as_checkpoint(huge))


def test_sides_are_limited():
    tensors = flat("rosinality")
    more = {f"to_rgbs.{k}.conv.weight": tensors["to_rgbs.1.conv.weight"] for k in range(2, 40)}
    with pytest.raises(ValueError, match="has 41 sides; up to 11 are converted"):
        convert(as_checkpoint({**tensors, **more}))


def test_two_names_do_not_become_one(tmp_path):
    tensors = first_tensors()
    name = "g_synthesis.blocks.4x4.epi1.noise.weight"
    other = name.replace(".noise.", ".top_epi.noise.")
    torch.save({**tensors, other: tensors[name] + 1}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=f"holds '{name}' twice, once as '{other}'"):
        read_files(tmp_path / "x.pt")


def test_settings_of_two_files_are_put_together(tmp_path):
    def write(name, tensor, **options):
        content = {"g_ema": {tensor: torch.ones(1)}, "args": argparse.Namespace(**options)}
        torch.save(content, tmp_path / name)
        return tmp_path / name

    first = write("a", "torgb.bias", rate=1, use_noise=True)
    found = read_files(first, write("b", "dense0.bias", rate=1, use_pixel_norm=False))
    assert found.settings == {"rate": 1, "use_noise": True, "use_pixel_norm": False}
    assert len(found.sha256) == 64 + len(" and ") + 64
    with pytest.raises(ValueError, match="a has rate=1 and b 2; give two files of one network"):
        read_files(first, write("b", "dense0.bias", rate=2))


@pytest.mark.parametrize("value", [[0.01], "0.01", None, True])
def test_a_setting_that_is_no_number_is_told(value: object) -> None:
    assert number_of(2) == 2.0
    with pytest.raises(ValueError, match="where a setting is a number"):
        number_of(value)
