r"""The features of the Fréchet inception distance, D = 2048.

``inception@299`` resizes as the TensorFlow graph did (bilinear without antialiasing and with its
shift, :func:`~blemish.functional.resample.legacy_bilinear`); it is what FID means without a further
word. ``inception@299-clean`` resizes bicubically with antialiasing, as clean-fid proposes: another
number on the same images, which says less about the resizing and more about the images. Both then
read a byte b as :math:`(b - 128) / 128`.

The clean resizing is torch's in single precision, which follows Pillow's: measured, the two differ
by at most 0.0024 of a byte on a photograph of 500 pixels and by 0.008 on noise. Floating images are not rounded to
bytes; the publications compare bytes, so give uint8 for their numbers.

With other weights than the published file the name is ``inception-like-XXXXXXXX@299``, after the
digest of the file: its distances are not FID.

References:
    | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium
      (Heusel et al., 2017)
    | https://arxiv.org/abs/1706.08500
    | On Aliased Resizing and Surprising Subtleties in GAN Evaluation (Parmar et al., 2022)
    | https://arxiv.org/abs/2104.11222
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ..functional.resample import bicubic, legacy_bilinear
from ..networks.inception import Inception
from ..networks.weights import fetch, read_weights
from .features import Extractor
from .images import colour

__all__ = ["inception"]

_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)
_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_SIZE = 299


def inception(
    weights: Path | str | None = None, *, resize: Literal["tensorflow", "clean"] = "tensorflow"
) -> Extractor:
    """Returns the pooled features of Inception v3, in which FID is computed.

    Arguments:
        weights: The published file, ``pt_inception-2015-12-05-6726825d.pth`` of pytorch-fid or
            ``weights-inception-2015-12-05-6726825d.pth`` of torch-fidelity (they are the same), or
            other weights of that network. None downloads the former (96 MB) to torch's cache.
        resize: How images become 299x299; it is a part of the name.

    Raises:
        OSError: If the file is absent, or cannot be downloaded.
        ValueError: If it holds other tensors than those of the network.
    """
    if resize not in ("tensorflow", "clean"):
        raise ValueError(f"resize is {resize!r}; choose 'tensorflow' or 'clean'")
    given = read_weights(fetch(_URL, _SHA256) if weights is None else weights)
    network = given.build(Inception)
    name = "inception" if given.sha256 == _SHA256 else f"inception-like-{given.short}"
    suffix = "" if resize == "tensorflow" else "-clean"
    prepared = _Prepared(network, clean=resize == "clean")
    how = "bilinear without antialiasing" if resize == "tensorflow" else "bicubic with antialiasing"
    return Extractor(f"{name}@{_SIZE}{suffix}", 2048, prepared, f"{_SIZE}x{_SIZE}, {how}")


class _Prepared(nn.Module):
    def __init__(self, network: Inception, *, clean: bool) -> None:
        super().__init__()
        self.network = network.fold()
        self.clean = clean

    def forward(self, x: Tensor) -> Tensor:
        x = 255 * colour(x, "inception")
        x = bicubic(x, _SIZE).clamp(0, 255) if self.clean else legacy_bilinear(x, _SIZE)
        x = ((x - 128) / 128).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.network(x)
        return features
