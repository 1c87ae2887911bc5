r"""The contrastive loss: two codes of one damage shall be near each other, and far from those of other damages.

.. math::
    L_i = -\log \frac{\exp(q_i \cdot k_i / \tau)}
    {\exp(q_i \cdot k_i / \tau) + \sum_j \exp(q_i \cdot n_j / \tau)}

with codes of length 1: the query :math:`q_i` of one crop of an image, the key :math:`k_i` of another crop of the same
image, and a queue of K keys :math:`n_j` of earlier batches. Keys come from a copy of the encoder that follows it
slowly, :math:`w_k \leftarrow m w_k + (1 - m) w_q`, so that those in the queue fit together. One step is

.. code-block:: python

    with torch.no_grad():
        key = key_encoder(other_crops)
    loss = info_nce(encoder(crops), key, queue.keys).mean()
    ...                     # backward, and the optimiser's step
    momentum_update(key_encoder, encoder)
    queue.push(key)

The loss of codes that know nothing is about :math:`\log (1 + K)`.

References:
    | Momentum Contrast for Unsupervised Visual Representation Learning (He et al., 2019)
    | https://arxiv.org/abs/1911.05722
    | Representation Learning with Contrastive Predictive Coding (van den Oord et al., 2018)
    | https://arxiv.org/abs/1807.03748
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.random import Randomness, randn

__all__ = ["Queue", "info_nce", "momentum_update"]


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float = 0.07) -> Tensor:
    """Returns the loss of each query, with shape (B,).

    Gradients flow to whatever requires them: compute keys without.

    Arguments:
        query: Codes, with shape (B, D), of any length but 0.
        key: The codes that belong to them, with shape (B, D).
        queue: Codes that do not, with shape (K, D).
        temperature: The temperature, positive.

    Raises:
        ValueError: If the shapes do not fit together, or the temperature is not positive.
    """
    if query.shape != key.shape or query.shape[1:] != queue.shape[1:]:
        raise ValueError(
            f"got queries {tuple(query.shape)}, keys {tuple(key.shape)} and a queue {tuple(queue.shape)}; "
            "give (B, D), (B, D) and (K, D)"
        )
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}; it must be positive, as 0.07 is")
    q, k, n = (F.normalize(codes, dim=1) for codes in (query, key, queue))
    positive = (q * k).sum(dim=1, keepdim=True)
    # He et al. (2019), Eq. 1.
    logits = torch.cat([positive, q @ n.T], dim=1) / temperature
    return logits.logsumexp(dim=1) - logits[:, 0]


@torch.no_grad()
def momentum_update(key_encoder: nn.Module, encoder: nn.Module, momentum: float = 0.999) -> None:
    """Moves the encoder of keys towards the encoder, in place (He et al., 2019, Eq. 2); buffers are copied.

    Arguments:
        key_encoder: The encoder of keys, a copy of the other one.
        encoder: The encoder that is trained.
        momentum: The share m of the old weights, in [0, 1].

    Raises:
        ValueError: If the momentum is outside [0, 1].
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum={momentum}; it must be in [0, 1]")
    for old, new in zip(key_encoder.parameters(), encoder.parameters(), strict=True):
        old.lerp_(new, 1 - momentum)
    for stale, fresh in zip(key_encoder.buffers(), encoder.buffers(), strict=True):
        stale.copy_(fresh)


@final
class Queue(nn.Module):
    """The last K keys, first in and first out, kept in buffers, so that a resumed training goes on with them.

    It starts with random directions, as if as many encoders that know nothing had been asked.

    Arguments:
        size: The number of keys K, a multiple of the batches that will be pushed.
        features: The number of features D of a key.
        generator: The source of the first keys; the queue starts on its device.

    Raises:
        ValueError: If there is nothing to keep.
    """

    keys: Tensor
    oldest: Tensor

    def __init__(self, size: int, features: int, generator: Randomness) -> None:
        super().__init__()
        if size < 1 or features < 1:
            raise ValueError(f"size, features=({size}, {features}); give positive numbers")
        self.register_buffer("keys", F.normalize(randn((size, features), generator), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64, device=self.keys.device))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replaces the oldest keys by new ones, and keeps no graph of those.

        The queue becomes a new tensor: a loss that was computed with the old one can still be differentiated.

        Arguments:
            keys: Codes, with shape (B, D); B divides K.

        Raises:
            ValueError: If they have another shape.
        """
        size, features = self.keys.shape
        batch = len(keys)
        if keys.shape != (batch, features) or not batch or size % batch:
            raise ValueError(
                f"got keys with shape {tuple(keys.shape)}; this queue of {size} keys takes (B, {features}) with "
                f"a batch B that divides {size}: change the batch, or make the queue a multiple of it"
            )
        places = (self.oldest + torch.arange(batch, device=self.oldest.device)) % size
        new = F.normalize(keys.to(self.keys), dim=1)
        self.keys = self.keys.index_copy(0, places, new)
        self.oldest = (self.oldest + batch) % size
