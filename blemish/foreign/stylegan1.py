r"""The layouts of StyleGAN, the first: the authors' program, and the ports to PyTorch that PULSE was made with.

==================  ========================================  =============================================================
ours                TensorFlow, of the authors                ports to PyTorch
==================  ========================================  =============================================================
mapping.i           mapping/Dense{i}; weights transposed      g_mapping.dense{i}
w_avg               dlatent_avg                               truncation.avg_latent, if there
constant            synthesis/4x4/Const/const                 g_synthesis.blocks.4x4.const
convs.0, layers.1   synthesis/4x4/Conv                        g_synthesis.blocks.4x4.conv, .epi2
convs.(2k-1)        synthesis/{S}x{S}/Conv0_up                g_synthesis.blocks.{S}x{S}.conv0_up
convs.2k            synthesis/{S}x{S}/Conv1                   g_synthesis.blocks.{S}x{S}.conv1
layers.0            synthesis/4x4/Const                       g_synthesis.blocks.4x4, .epi1
layers.2k           synthesis/{S}x{S}/Conv0_up                as the convolution, .epi1
layers.(2k+1)       synthesis/{S}x{S}/Conv1                   as the convolution, .epi2
.bias               /bias                                     the convolution's .bias
.strength           /Noise/weight                             .noise.weight, or .top_epi.noise.weight
.noise              synthesis/noise{i}                        none: drawn for each picture
.style              /StyleMod; weights transposed             .style_mod.lin
colour              synthesis/ToRGB_lod0                      g_synthesis.torgb
==================  ========================================  =============================================================

with the side :math:`S = 4 \cdot 2^k`. Filters of TensorFlow are stored as (3, 3, C, O); none is turned, not even where the
convolution doubles a side: there the first StyleGAN's program turns nothing. PULSE publishes the mapping network and the
synthesis network in files of their own, without the first part of the names. The ports add 1e-5 to a channel's variance where the
original adds 1e-8, which shows where a channel is almost flat; the network converted does as the original.

References:
    | A Style-Based Generator Architecture for Generative Adversarial Networks (Karras et al., 2019)
    | https://arxiv.org/abs/1812.04948
    | PULSE: Self-Supervised Photo Upsampling via Latent Space Exploration of Generative Models (Menon et al., 2020)
    | https://arxiv.org/abs/2003.03808
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..networks import StyleGAN1, StyleNetwork
from .checkpoint import Checkpoint
from .layouts import Entry, Layout, Turn, count, number_of, require, shape_of
from .turns import same, to_filters, transposed

__all__ = ["LAYOUTS"]

_Named = tuple[str, Turn]


@dataclass(frozen=True)
class _Program:
    """What one program calls the parts of the network.

    Attributes:
        mapping: Returns the path of layer i of the mapping network.
        conv: Returns the path of layer i's convolution (of the constant for i = 0).
        layer: Returns the names of what follows it in layer i, by ours.
        colour: The path of the layer of colours.
        constant: The name of the constant.
        mean: The name of the mean style.
        join: What stands between a path and the last part of a name.
        linear: The turn of linear layers' weights.
        filters: The turn of filters.
        settings: Returns what tensors do not show, after a look at it.
    """

    mapping: Callable[[int], str]
    conv: Callable[[int], str]
    layer: Callable[[int], dict[str, str]]
    colour: str
    constant: str
    mean: str
    join: str
    linear: Turn
    filters: Turn
    settings: Callable[[Checkpoint], dict[str, Any]] = lambda checkpoint: {}


def _read(program: _Program, checkpoint: Checkpoint) -> StyleGAN1.Config:
    # The last layer of a side tells its channels, the first of all those of the constant.
    sides = count(checkpoint, lambda k: program.layer(2 * k + 1)["strength"])
    widths = [
        shape_of(checkpoint, program.layer(2 * k + 1)["strength"], 1)[0] for k in range(sides)
    ]
    weight = program.join.join((program.mapping(0), "weight"))
    colour = program.join.join((program.colour, "weight"))
    return StyleGAN1.Config(
        latent=shape_of(checkpoint, weight, 2, program.linear)[0],
        channels=tuple(widths),
        image_channels=shape_of(checkpoint, colour, 4, program.filters)[0],
        mapping=count(checkpoint, lambda i: program.join.join((program.mapping(i), "weight"))),
        mean_style=program.mean in checkpoint.tensors,
        **program.settings(checkpoint),
    )


def _entries(program: _Program, config: StyleNetwork.Config) -> Iterator[Entry]:
    yield Entry("constant", program.constant)
    yield Entry("w_avg", program.mean)
    yield from _pair(program, "colour", program.colour, program.filters)
    for i in range(config.mapping):
        yield from _pair(program, f"mapping.{i}", program.mapping(i), program.linear)
    for i in range(2 * len(config.channels)):
        if i:
            weight = program.join.join((program.conv(i), "weight"))
            yield Entry(f"convs.{i - 1}.weight", weight, program.filters)
        for name, theirs in program.layer(i).items():
            turn = program.linear if name == "style.weight" else same
            yield Entry(f"layers.{i}.{name}", theirs, turn, noise=name == "noise")


def _pair(program: _Program, ours: str, theirs: str, turn: Turn) -> Iterator[Entry]:
    yield Entry(f"{ours}.weight", program.join.join((theirs, "weight")), turn)
    yield Entry(f"{ours}.bias", program.join.join((theirs, "bias")))


# TensorFlow, of the authors.


def _tensorflow_mapping(i: int) -> str:
    return f"mapping/Dense{i}"


def _tensorflow_conv(i: int) -> str:
    side = 4 * 2 ** (i // 2)
    names = ("Const", "Conv") if i < 2 else ("Conv0_up", "Conv1")
    return f"synthesis/{side}x{side}/{names[i % 2]}"


def _tensorflow_layer(i: int) -> dict[str, str]:
    path = _tensorflow_conv(i)
    return {
        "bias": f"{path}/bias",
        "strength": f"{path}/Noise/weight",
        "noise": f"synthesis/noise{i}",
        "style.weight": f"{path}/StyleMod/weight",
        "style.bias": f"{path}/StyleMod/bias",
    }


def _tensorflow_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    require(checkpoint, "nonlinearity", "lrelu")
    require(checkpoint, "mapping_nonlinearity", "lrelu")
    require(checkpoint, "fused_scale", "auto")
    require(checkpoint, "blur_filter", [1, 2, 1], (1, 2, 1))
    for name in ("use_wscale", "use_instance_norm", "use_styles", "use_noise", "normalize_latents"):
        require(checkpoint, name, True)
    require(checkpoint, "use_pixel_norm", False)
    return {"mapping_rate": number_of(checkpoint.settings.get("mapping_lrmul", 0.01))}


# Ports to PyTorch.


def _port_mapping(i: int) -> str:
    return f"g_mapping.dense{i}"


def _port_conv(i: int) -> str:
    side = 4 * 2 ** (i // 2)
    block = f"g_synthesis.blocks.{side}x{side}"
    names = ("", ".conv") if i < 2 else (".conv0_up", ".conv1")
    return block + names[i % 2]


def _port_layer(i: int) -> dict[str, str]:
    side = 4 * 2 ** (i // 2)
    path = f"g_synthesis.blocks.{side}x{side}.epi{i % 2 + 1}"
    return {
        "bias": f"{_port_conv(i)}.bias",
        "strength": f"{path}.noise.weight",
        "noise": f"{path}.noise.noise",
        "style.weight": f"{path}.style_mod.lin.weight",
        "style.bias": f"{path}.style_mod.lin.bias",
    }


def _check_filter(name: str, tensor: Tensor) -> None:
    """Raises a ValueError if a filter is not the published one."""
    if not name.endswith("kernel"):
        return
    taps = torch.tensor((1.0, 2.0, 1.0), dtype=torch.float64)
    found = tensor.double().squeeze()
    if found.shape != (3, 3) or not torch.allclose(found, taps.outer(taps) / 16, atol=1e-6):
        raise ValueError(
            f"the file's filter {name!r} is not [1, 2, 1]; only networks with this filter are converted"
        )


def _layout(name: str, program: _Program, **options: Any) -> Layout:
    return Layout(
        name,
        mark=program.layer(0)["style.weight"],
        read=partial(_read, program),
        entries=partial(_entries, program),
        **options,
    )


LAYOUTS = (
    _layout(
        "StyleGAN, TensorFlow",
        _Program(
            mapping=_tensorflow_mapping,
            conv=_tensorflow_conv,
            layer=_tensorflow_layer,
            colour="synthesis/ToRGB_lod0",
            constant="synthesis/4x4/Const/const",
            mean="dlatent_avg",
            join="/",
            linear=transposed,
            filters=to_filters,
            settings=_tensorflow_settings,
        ),
        unused={
            r"(synthesis/)?lod": "how far the training had come",
            r"synthesis/ToRGB_lod[1-9]\d*/(weight|bias)": "the colours of smaller sides, which training began with",
        },
    ),
    _layout(
        "StyleGAN, PyTorch",
        _Program(
            mapping=_port_mapping,
            conv=_port_conv,
            layer=_port_layer,
            colour="g_synthesis.torgb",
            constant="g_synthesis.blocks.4x4.const",
            mean="truncation.avg_latent",
            join=".",
            linear=same,
            filters=same,
        ),
        unused={
            r"g_synthesis\.blocks\.\d+x\d+\.conv0_up\.intermediate\.kernel": "the filter [1, 2, 1], which the network knows",
        },
        check_unused=_check_filter,
    ),
)
"""The layouts of the first StyleGAN."""
