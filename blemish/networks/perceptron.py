r"""The small network behind the kernel and quality generators: a shared trunk with two heads.

References:
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), Table 11
    | https://arxiv.org/abs/2003.07849
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["TwoHeads"]


class TwoHeads(nn.Module):
    """Maps a latent to the logits of a value and of its mask.

    Arguments:
        config: The shape of the network and the biases it starts from.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the network.

        Attributes:
            latent: The dimension of the latent z.
            hidden: The width of the two hidden layers.
            outputs: The number of logits of each head.
            value_bias: The initial bias of the value's logits.
            mask_bias: The initial bias of the mask's logits; below zero starts near the identity.
        """

        latent: int = 128
        hidden: int = 128
        outputs: int = 81
        value_bias: float = 0.0
        mask_bias: float = 0.0

        def build(self) -> TwoHeads:
            """Makes the network."""
            return TwoHeads(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.linear1 = nn.Linear(config.latent, config.hidden)
        self.linear2 = nn.Linear(config.hidden, config.hidden)
        self.value = nn.Linear(config.hidden, config.outputs)
        self.mask = nn.Linear(config.hidden, config.outputs)
        biases = (0.0, 0.0, config.value_bias, config.mask_bias)
        layers = (self.linear1, self.linear2, self.value, self.mask)
        for layer, bias in zip(layers, biases, strict=True):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.constant_(layer.bias, bias)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the logits of the value and of its mask, each with shape (B, outputs).

        Arguments:
            z: Latents, with shape (B, latent).
        """
        h = F.relu(self.linear2(F.relu(self.linear1(z))))
        return self.value(h), self.mask(h)
