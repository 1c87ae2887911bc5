"""Networks: they know no degradation and no loss."""

from __future__ import annotations

from .discriminators import UNetDiscriminator, VGGDiscriminator
from .inception import Inception
from .perceptron import TwoHeads
from .published import read_esrgan, write_esrgan
from .resnet import ResBlock, ResNetDiscriminator, ResNetGenerator
from .rrdb import RRDB, DenseBlock, RRDBNet
from .translator import PackedTranslator, Translator
from .upscaler import Upscaler
from .vgg import VGG16, VGG19, AlexNet
from .vit import DINOv2
from .weights import Weights, fetch, read_weights

__all__ = [
    "KINDS",
    "RRDB",
    "VGG16",
    "VGG19",
    "AlexNet",
    "DINOv2",
    "DenseBlock",
    "Inception",
    "PackedTranslator",
    "RRDBNet",
    "ResBlock",
    "ResNetDiscriminator",
    "ResNetGenerator",
    "Translator",
    "TwoHeads",
    "UNetDiscriminator",
    "Upscaler",
    "VGGDiscriminator",
    "Weights",
    "fetch",
    "read_esrgan",
    "read_weights",
    "write_esrgan",
]

KINDS: dict[str, type] = {
    "PackedTranslator": PackedTranslator.Config,
    "RRDBNet": RRDBNet.Config,
    "ResNetDiscriminator": ResNetDiscriminator.Config,
    "ResNetGenerator": ResNetGenerator.Config,
    "Translator": Translator.Config,
    "TwoHeads": TwoHeads.Config,
    "UNetDiscriminator": UNetDiscriminator.Config,
    "Upscaler": Upscaler.Config,
    "VGGDiscriminator": VGGDiscriminator.Config,
}
