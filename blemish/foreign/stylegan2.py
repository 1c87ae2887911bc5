r"""The layouts of StyleGAN2: three programs, one network.

====================  ===========================  ================================  ==========================================
ours                  PyTorch, of the authors      rosinality                        TensorFlow, of the authors
====================  ===========================  ================================  ==========================================
mapping.i             mapping.fc{i}                style.{i+1}                       mapping/Dense{i}; weights transposed
w_avg                 mapping.w_avg                latent_avg                        dlatent_avg
constant              synthesis.b4.const           input.input                       synthesis/4x4/Const/const
convs.0               synthesis.b4.conv1           conv1                             synthesis/4x4/Conv
convs.(2k-1)          synthesis.b{S}.conv0         convs.{2k-2}                      synthesis/{S}x{S}/Conv0_up; weights turned
convs.2k              synthesis.b{S}.conv1         convs.{2k-1}                      synthesis/{S}x{S}/Conv1
.conv.weight          .weight                      .conv.weight, (1, O, C, 3, 3)     /weight, (3, 3, C, O)
.conv.style           .affine                      .conv.modulation                  /mod_weight, transposed; /mod_bias + 1
.strength             .noise_strength              .noise.weight, (1,)               /noise_strength
.noise                .noise_const, (S, S)         noises.noise_{j}                  synthesis/noise{j}
.bias                 .bias                        .activate.bias                    /bias
colours.k             synthesis.b{S}.torgb         to_rgb1, to_rgbs.{k-1}            synthesis/{S}x{S}/ToRGB
.bias                 .bias                        .bias, (1, I, 1, 1)               /bias
====================  ===========================  ================================  ==========================================

with the side :math:`S = 4 \cdot 2^k` and :math:`j = 2k - 1` or :math:`2k`. All three store weights of deviation 1. They scale
them differently where they are used, which demodulation takes back.

*The turn.* The program for TensorFlow turns the filters that double a side by 180 degrees before its transposed convolution
takes them, the others do not. So these filters, and these alone, are turned here.

*What tensors do not show* stands beside them, in two of the three: clamp, rate of the mapping network, and options that must be
those of the published networks.

References:
    | Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020)
    | https://arxiv.org/abs/1912.04958
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..networks import StyleGAN2, StyleNetwork
from .checkpoint import Checkpoint
from .layouts import Entry, Layout, Turn, count, number_of, require, shape_of
from .turns import (
    as_map,
    as_vector,
    in_front,
    plus_1,
    same,
    to_filters,
    to_turned_filters,
    transposed,
    without_first,
)

__all__ = ["LAYOUTS"]

_Names = Mapping[str, tuple[str, Turn]]
"""Names and turns of theirs by names of ours."""

_FILTER = (1.0, 3.0, 3.0, 1.0)
_WHY_FILTER = "the filter [1, 3, 3, 1], which the network knows"


@dataclass(frozen=True)
class _Program:
    """What one program calls the parts of the network.

    Attributes:
        mapping: Returns the names of layer i of the mapping network.
        conv: Returns the names of convolution j, of side k.
        colours: Returns the names of the colours of side k.
        mean: The name of the mean style.
        constant: The name of the constant, and its turn.
        settings: Returns what tensors do not show, after a look at it.
    """

    mapping: Callable[[int], _Names]
    conv: Callable[[int, int], _Names]
    colours: Callable[[int], _Names]
    mean: str
    constant: tuple[str, Turn]
    settings: Callable[[Checkpoint], dict[str, Any]] = lambda checkpoint: {}


def _read(program: _Program, checkpoint: Checkpoint) -> StyleGAN2.Config:
    weights = [
        program.colours(k)["conv.weight"]
        for k in range(count(checkpoint, lambda k: program.colours(k)["conv.weight"][0]))
    ]
    shapes = [shape_of(checkpoint, name, 4, turn) for name, turn in weights]
    strength = program.conv(0, 0)["strength"][0]
    return StyleGAN2.Config(
        latent=shape_of(checkpoint, *_first_weight(program))[0],
        channels=tuple(channels for _, channels, *_ in shapes),
        image_channels=shapes[0][0],
        mapping=count(checkpoint, lambda i: program.mapping(i)["weight"][0]),
        noise=strength in checkpoint.tensors,
        mean_style=program.mean in checkpoint.tensors,
        **program.settings(checkpoint),
    )


def _first_weight(program: _Program) -> tuple[str, int, Turn]:
    name, turn = program.mapping(0)["weight"]
    return name, 2, turn


def _entries(program: _Program, config: StyleNetwork.Config) -> Iterator[Entry]:
    yield Entry("constant", *program.constant)
    yield Entry("w_avg", program.mean)
    for i in range(config.mapping):
        yield from _listed(f"mapping.{i}", program.mapping(i))
    for j in range(2 * len(config.channels) - 1):
        yield from _listed(f"convs.{j}", program.conv(j, (j + 1) // 2))
    for k in range(len(config.channels)):
        yield from _listed(f"colours.{k}", program.colours(k))


def _listed(ours: str, names: _Names) -> Iterator[Entry]:
    for name, (theirs, turn) in names.items():
        yield Entry(f"{ours}.{name}", theirs, turn, noise=name == "noise")


def _layout(name: str, program: _Program, **options: Any) -> Layout:
    return Layout(
        name,
        mark=program.conv(0, 0)["conv.style.weight"][0],
        read=partial(_read, program),
        entries=partial(_entries, program),
        **options,
    )


def _check_filter(name: str, tensor: Tensor) -> None:
    """Raises a ValueError if a filter is not the published one, whatever its gain."""
    taps = torch.tensor(_FILTER, dtype=torch.float64)
    expected = taps.outer(taps) / taps.sum() ** 2
    if "filter" not in name and "kernel" not in name:
        return
    found = tensor.double()
    if found.shape != expected.shape or not torch.allclose(
        found / found.sum(), expected, atol=1e-6
    ):
        raise ValueError(
            f"the file's filter {name!r} is not [1, 3, 3, 1]; only networks with this filter are converted"
        )


def _number(value: Any) -> float | None:
    return None if value is None else number_of(value)


# PyTorch, of the authors.


def _side(k: int) -> str:
    return f"synthesis.b{4 * 2**k}"


def _authors_mapping(i: int) -> _Names:
    return {name: (f"mapping.fc{i}.{name}", same) for name in ("weight", "bias")}


def _authors_conv(j: int, k: int) -> _Names:
    conv = f"{_side(k)}.conv{1 - j % 2}"
    return {
        "conv.weight": (f"{conv}.weight", same),
        "conv.style.weight": (f"{conv}.affine.weight", same),
        "conv.style.bias": (f"{conv}.affine.bias", same),
        "strength": (f"{conv}.noise_strength", same),
        "noise": (f"{conv}.noise_const", as_map),
        "bias": (f"{conv}.bias", same),
    }


def _authors_colours(k: int) -> _Names:
    colours = f"{_side(k)}.torgb"
    return {
        "conv.weight": (f"{colours}.weight", same),
        "conv.style.weight": (f"{colours}.affine.weight", same),
        "conv.style.bias": (f"{colours}.affine.bias", same),
        "bias": (f"{colours}.bias", same),
    }


def _authors_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    clamps = set()
    for name, value in checkpoint.settings.items():
        part = name.rpartition(".")[2]
        if part == "architecture":
            require(checkpoint, name, "skip")
        elif part == "activation" and not name.endswith("affine.activation"):
            require(checkpoint, name, "lrelu")
        elif part == "conv_clamp":
            clamps.add(value)
    if len(clamps) > 1:
        raise ValueError(
            f"the layers of {checkpoint.source} have different clamps, {clamps}; one for all is converted"
        )
    rate = checkpoint.settings.get("mapping.fc0.bias_gain", 0.01)
    return {"clamp": _number(next(iter(clamps), None)), "mapping_rate": number_of(rate)}


# rosinality.


def _rosinality_mapping(i: int) -> _Names:
    return {name: (f"style.{i + 1}.{name}", same) for name in ("weight", "bias")}


def _rosinality_conv(j: int, k: int) -> _Names:
    conv = f"convs.{j - 1}" if j else "conv1"
    return {
        "conv.weight": (f"{conv}.conv.weight", without_first),
        "conv.style.weight": (f"{conv}.conv.modulation.weight", same),
        "conv.style.bias": (f"{conv}.conv.modulation.bias", same),
        "strength": (f"{conv}.noise.weight", without_first),
        "noise": (f"noises.noise_{j}", same),
        "bias": (f"{conv}.activate.bias", same),
    }


def _rosinality_colours(k: int) -> _Names:
    colours = f"to_rgbs.{k - 1}" if k else "to_rgb1"
    return {
        "conv.weight": (f"{colours}.conv.weight", without_first),
        "conv.style.weight": (f"{colours}.conv.modulation.weight", same),
        "conv.style.bias": (f"{colours}.conv.modulation.bias", same),
        "bias": (f"{colours}.bias", as_vector),
    }


# TensorFlow, of the authors.


def _tensorflow_mapping(i: int) -> _Names:
    dense = f"mapping/Dense{i}"
    return {"weight": (f"{dense}/weight", transposed), "bias": (f"{dense}/bias", same)}


def _tensorflow_steered(path: str, turn: Turn) -> dict[str, tuple[str, Turn]]:
    return {
        "conv.weight": (f"{path}/weight", turn),
        "conv.style.weight": (f"{path}/mod_weight", transposed),
        "conv.style.bias": (f"{path}/mod_bias", plus_1),
        "bias": (f"{path}/bias", same),
    }


def _tensorflow_conv(j: int, k: int) -> _Names:
    side = 4 * 2**k
    name = ("Conv1" if j % 2 == 0 else "Conv0_up") if j else "Conv"
    conv = f"synthesis/{side}x{side}/{name}"
    return {
        **_tensorflow_steered(conv, to_turned_filters if j % 2 else to_filters),
        "strength": (f"{conv}/noise_strength", same),
        "noise": (f"synthesis/noise{j}", same),
    }


def _tensorflow_colours(k: int) -> _Names:
    side = 4 * 2**k
    return _tensorflow_steered(f"synthesis/{side}x{side}/ToRGB", to_filters)


def _tensorflow_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    require(checkpoint, "architecture", "skip")
    require(checkpoint, "nonlinearity", "lrelu")
    require(checkpoint, "mapping_nonlinearity", "lrelu")
    require(checkpoint, "resample_kernel", [1, 3, 3, 1], (1, 3, 3, 1))
    clamp = checkpoint.settings.get("conv_clamp")
    rate = checkpoint.settings.get("mapping_lrmul", 0.01)
    return {"clamp": _number(clamp), "mapping_rate": number_of(rate)}


LAYOUTS = (
    _layout(
        "StyleGAN2, PyTorch",
        _Program(
            mapping=_authors_mapping,
            conv=_authors_conv,
            colours=_authors_colours,
            mean="mapping.w_avg",
            constant=("synthesis.b4.const", in_front),
            settings=_authors_settings,
        ),
        unused={r"synthesis\..*resample_filter": _WHY_FILTER},
        check_unused=_check_filter,
    ),
    _layout(
        "StyleGAN2, rosinality",
        _Program(
            mapping=_rosinality_mapping,
            conv=_rosinality_conv,
            colours=_rosinality_colours,
            mean="latent_avg",
            constant=("input.input", same),
        ),
        unused={r"(convs|to_rgbs)\.\d+\..*kernel": _WHY_FILTER},
        check_unused=_check_filter,
    ),
    _layout(
        "StyleGAN2, TensorFlow",
        _Program(
            mapping=_tensorflow_mapping,
            conv=_tensorflow_conv,
            colours=_tensorflow_colours,
            mean="dlatent_avg",
            constant=("synthesis/4x4/Const/const", same),
            settings=_tensorflow_settings,
        ),
        unused={r"(synthesis/)?lod": "how far the training had come"},
    ),
)
"""The layouts of StyleGAN2."""
