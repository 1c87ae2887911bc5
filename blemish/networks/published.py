r"""Published weights of RRDBNet: every layout of its state dictionary that is about, read into ours.

Three layouts name the same convolutions; ours is the last, so that what is written here is read everywhere:

=================== ================================ =========================== ==========================
                    first ESRGAN                     later ESRGAN, BSRGAN        BasicSR, Real-ESRGAN
=================== ================================ =========================== ==========================
first               ``model.0``                      ``conv_first``              ``conv_first``
in block N          ``model.1.sub.N.RDBm.convk.0``   ``RRDB_trunk.N.RDBm.convk`` ``body.N.rdbm.convk``
after the blocks    ``model.1.sub.<blocks>``         ``trunk_conv``              ``conv_body``
enlargements        ``model.3``, ``model.6``         ``upconv1``, ``upconv2``    ``conv_up1``, ``conv_up2``
at the end          ``model.8``, ``model.10``        ``HRconv``, ``conv_last``   ``conv_hr``, ``conv_last``
=================== ================================ =========================== ==========================

The shape of the network is read from the tensors: features and growth from the first convolutions, the scale from
the ratio :math:`f^2` of the channels that go in to those that come out. Networks with one enlargement, or three, or
with further 1x1 convolutions (ESRGAN+) are refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .rrdb import FACTORS, RRDBNet
from .weights import Weights, read_weights

__all__ = ["read_esrgan", "write_esrgan"]

_WRAPPERS = ("params_ema", "params")
"""Where files of torch's hold the network, the average of its training first."""

_NAMES = {
    r"model\.0": "conv_first",
    r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0": r"body.\1.rdb\2.conv\3",
    r"model\.1\.sub\.\d+": "conv_body",
    r"model\.3": "conv_up1",
    r"model\.6": "conv_up2",
    r"model\.8": "conv_hr",
    r"model\.10": "conv_last",
    r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\d)": r"body.\1.rdb\2.conv\3",
    r"trunk_conv": "conv_body",
    r"upconv(\d)": r"conv_up\1",
    r"HRconv": "conv_hr",
}
"""Other layouts' names of the convolutions, and ours."""

_BLOCK = re.compile(r"body\.(\d+)\.")


def read_esrgan(path: Path | str) -> tuple[RRDBNet.Config, dict[str, Tensor]]:
    """Reads published weights of ESRGAN, BSRGAN or Real-ESRGAN.

    Arguments:
        path: A ``.safetensors`` file, or one of torch's (``.pth``), which is read without running anything.

    Returns:
        The shape of the network, and its tensors in float32 by the names of
        :class:`~blemish.networks.RRDBNet`: ``config.build().load_state_dict(tensors)``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything else; the message names what does not fit.
    """
    weights = read_weights(path, within=_WRAPPERS)
    weights = replace(weights, tensors=_renamed(weights))
    config = _shape(weights)
    with torch.device("meta"):
        network = config.build()
    tensors = weights.fitting(network)
    if exotic := [name for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        raise ValueError(
            f"{exotic[0]!r} of {weights.source} holds {tensors[exotic[0]].dtype}; give floating weights"
        )
    return config, {name: tensor.float() for name, tensor in tensors.items()}


def write_esrgan(network: RRDBNet, path: Path | str) -> Path:
    """Writes the weights of a network as other programs read them.

    Many of them take a growth of 32 for granted, as all published networks have it.

    Arguments:
        network: The network.
        path: The file, which ends in ``.safetensors``.

    Returns:
        The path.

    Raises:
        ValueError: If the file has another ending.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(
            f"cannot write weights to {path.name}; give a name that ends in .safetensors"
        )
    # Readers know the network by its names, so nothing else is needed.
    state = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})
    return path


def _renamed(weights: Weights) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for old, tensor in weights.tensors.items():
        name = _ours(old)
        if name in tensors:
            raise ValueError(
                f"{weights.source} has {name!r} twice, as {old!r}, too; give one network"
            )
        if name.startswith("model."):
            raise ValueError(
                f"{old!r} of {weights.source} belongs to another network (ESRGAN+, or another scale); "
                "only RRDBNet with two enlargements is read"
            )
        tensors[name] = tensor
    return tensors


def _ours(name: str) -> str:
    layer, dot, kind = name.rpartition(".")
    for pattern, ours in _NAMES.items():
        if found := re.fullmatch(pattern, layer):
            return found.expand(ours) + dot + kind
    return name


def _shape(weights: Weights) -> RRDBNet.Config:
    """Returns the shape that the tensors tell; what they lack for it is named."""
    features, packed, _, _ = weights.require("conv_first.weight", (None, None, 3, 3)).shape
    growth = weights.require("body.0.rdb1.conv1.weight", (None, features, 3, 3)).shape[0]
    channels = weights.require("conv_last.weight", (None, features, 3, 3)).shape[0]
    blocks = {found[1] for name in weights.tensors if (found := _BLOCK.match(name))}
    scales = [scale for scale, f in FACTORS.items() if packed == channels * f**2]
    if not scales:
        raise ValueError(
            f"{weights.source} takes {packed} channels and gives {channels}; known are networks that take as "
            "many, or 4 or 16 times as many for scale 2 or 1"
        )
    return RRDBNet.Config(
        scale=scales[0],
        features=features,
        blocks=len(blocks),
        growth=growth,
        image_channels=channels,
    )
