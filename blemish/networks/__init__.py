"""Networks: they know no degradation and no loss."""

from __future__ import annotations

from .perceptron import TwoHeads
from .resnet import ResBlock, ResNetDiscriminator, ResNetGenerator

__all__ = ["KINDS", "ResBlock", "ResNetDiscriminator", "ResNetGenerator", "TwoHeads"]

KINDS: dict[str, type] = {
    "ResNetDiscriminator": ResNetDiscriminator.Config,
    "ResNetGenerator": ResNetGenerator.Config,
    "TwoHeads": TwoHeads.Config,
}
