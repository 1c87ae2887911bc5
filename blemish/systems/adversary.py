r"""What adversarial systems share: how images are shown to a discriminator, and what it is taught."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from ..functional.random import Randomness, rand
from ..losses import discriminator_loss, r1_penalty

__all__ = ["discriminate", "spread"]

Autocast = Callable[[], AbstractContextManager[Any]]


def spread(images: Tensor, generator: Randomness) -> Tensor:
    """Spreads 8-bit images over their quantisation cells, as in NR-GAN.

    Arguments:
        images: Images in [0, 1], with shape (B, C, H, W).
        generator: The source of randomness.

    Returns:
        Images in [-1, 1), of the same shape.
    """
    return 2 * (images * (255 / 256) - 0.5) + rand(images.shape, generator) / 128


def discriminate(
    discriminator: nn.Module, real: Tensor, fake: Tensor, *, penalise: bool, autocast: Autocast
) -> tuple[Tensor, Tensor | None]:
    """Returns the discriminator's loss and, if it is wanted, the gradient penalty, both scalars.

    Arguments:
        discriminator: The discriminator, of images in [-1, 1].
        real: Real images in [-1, 1], with shape (B, C, H, W).
        fake: Generated images in [0, 1], with shape (B', C, H, W).
        penalise: Whether the penalty is computed.
        autocast: A context in which networks run in the training precision.
    """
    if penalise:
        # The penalty's double backward pass is done in full precision.
        real = real.requires_grad_()
        logits_real = discriminator(real)
        penalty = r1_penalty(logits_real, real)
    else:
        with autocast():
            logits_real = discriminator(real)
        penalty = None
    with autocast():
        logits_fake = discriminator(2 * fake.detach() - 1)
    return discriminator_loss(logits_real.float(), logits_fake.float()), penalty
