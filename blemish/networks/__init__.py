"""Networks: they know no degradation and no loss."""

from __future__ import annotations

from .critic import Critic
from .degradation_encoders import GlobalEncoder, LocalEncoder
from .density import FactorisedDensity
from .discriminators import UNetDiscriminator, VGGDiscriminator
from .ida import IDA, IDASFT
from .inception import Inception
from .perceptron import TwoHeads
from .published import read_esrgan, write_esrgan
from .redegrader import Redegrader
from .resnet import ResBlock, ResNetDiscriminator, ResNetGenerator
from .rrdb import RRDB, DenseBlock, RRDBNet
from .style import StyleGenerator
from .style_network import StyleNetwork
from .stylegan1 import StyleGAN1
from .stylegan2 import StyleGAN2
from .translator import PackedTranslator, Translator
from .upscaler import Upscaler
from .vgg import VGG16, VGG19, AlexNet
from .vit import DINOv2
from .weights import Weights, fetch, read_weights

__all__ = [
    "IDA",
    "IDASFT",
    "KINDS",
    "RRDB",
    "VGG16",
    "VGG19",
    "AlexNet",
    "Critic",
    "DINOv2",
    "DenseBlock",
    "FactorisedDensity",
    "GlobalEncoder",
    "Inception",
    "LocalEncoder",
    "PackedTranslator",
    "RRDBNet",
    "Redegrader",
    "ResBlock",
    "ResNetDiscriminator",
    "ResNetGenerator",
    "StyleGAN1",
    "StyleGAN2",
    "StyleGenerator",
    "StyleNetwork",
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
    "FactorisedDensity": FactorisedDensity.Config,
    "GlobalEncoder": GlobalEncoder.Config,
    "LocalEncoder": LocalEncoder.Config,
    "Critic": Critic.Config,
    "PackedTranslator": PackedTranslator.Config,
    "RRDBNet": RRDBNet.Config,
    "Redegrader": Redegrader.Config,
    "ResNetDiscriminator": ResNetDiscriminator.Config,
    "ResNetGenerator": ResNetGenerator.Config,
    "StyleGAN1": StyleGAN1.Config,
    "StyleGAN2": StyleGAN2.Config,
    "StyleGenerator": StyleGenerator.Config,
    "Translator": Translator.Config,
    "TwoHeads": TwoHeads.Config,
    "UNetDiscriminator": UNetDiscriminator.Config,
    "Upscaler": Upscaler.Config,
    "VGGDiscriminator": VGGDiscriminator.Config,
}
