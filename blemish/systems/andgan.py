r"""ANDGAN: ANDNet goes on with a perceptual and an adversarial loss, for texture where ANDNet is smooth.

.. math::
    \min_T \max_{D} \; \mathbb{E}_x \max_{\theta \in S} \; L_{cont}(x, \hat x) + \lambda L_{GAN}(\hat x), \qquad
    \hat x = T(F(x; \theta)), \qquad
    L_{cont} = \| x - \hat x \|_1 + \sum_j c_j \| \phi_j(x) - \phi_j(\hat x) \|

The attack maximises the whole loss: it makes estimates wrong, unlike, and easy to tell from photographs. It starts from
an ANDNet (``--restorer``), as in the paper.

References:
    | AND: Adversarial Neural Degradation for Learning Blind Image Super-Resolution (Luo et al., NeurIPS 2023),
      Eq. 1 to 3 and Section 4.3
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..functional.random import Randomness
from ..functional.resample import modcrop
from ..losses import PerceptualLoss, discriminator_loss, effnet_features, vgg19_features
from ..networks import UNetDiscriminator
from .andnet import ANDNet
from .base import Group, Phase

__all__ = ["ANDGAN"]


class ANDGAN(ANDNet):
    """Trains a restorer and a discriminator against the worst perturbation of the identity.

    Arguments:
        config: The parts and the weights of the losses.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ANDNet.Config):
        """The parts and the weights of the losses.

        Attributes:
            discriminator: D, whose logits are of an image or of its pixels.
            adversarial: The weight :math:`\\lambda` of the adversarial loss.
            perceptual: A factor on the perceptual loss.
            features: What it compares: ``effnet-lite0``, whose weights come in a package, or ``vgg19:FILE`` with
                torchvision's, which are a download; what the paper uses.
            criterion: Whether differences of features or their squares are averaged; the paper's Eq. 2 has squares,
                its published relatives absolute differences.
        """

        discriminator: Any = UNetDiscriminator.Config()
        adversarial: float = 0.1
        perceptual: float = 1.0
        features: str = "effnet-lite0"
        criterion: Literal["l1", "l2"] = "l1"

        def build(self) -> ANDGAN:
            """Makes the system with freshly initialised networks.

            Raises:
                ValueError: If the features are not known, or cannot be had.
            """
            return ANDGAN(self)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.discriminator = config.discriminator.build()
        # In a tuple, so that its weights are no part of checkpoints.
        self._perceptual = (_perceptual(config.features, config.criterion),)
        self._reference: Sequence[Tensor] = ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The restorer's turn, then the discriminator's."""
        c = self.config
        return (*super().phases, Phase("D", (Group("discriminator"),), c.lr, c.betas))

    def prepare(self, batch: Tensor, generator: Randomness, iteration: int) -> None:
        """Perturbs a batch; what the perceptual loss sees in the clean images is computed once."""
        with torch.no_grad():
            self._reference = self._features(modcrop(batch, self.restorer.scale))
        super().prepare(batch, generator, iteration)

    def errors(self, estimate: Tensor, x: Tensor) -> Tensor:
        """Returns what the attack maximises of each sample, with shape (B,): the sum of all losses."""
        return torch.stack(list(self._terms(estimate, x).values())).sum(dim=0)

    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        """Returns the weighted loss terms on what :meth:`prepare` made of this batch.

        Arguments:
            phase: ``T`` or ``D``.
            batch: Not used: its perturbed images are kept.
            generator: Not used: nothing is drawn.
            iteration: Not used.
        """
        y, x = self.pair()
        if phase == "T":
            with self.autocast():
                estimate = self.restorer.estimate(y)
            return {name: term.mean() for name, term in self._terms(estimate, x).items()}
        with torch.no_grad(), self.autocast():
            estimate = self.restorer.estimate(y)
        with self.autocast():
            real, fake = self.discriminator(2 * x - 1), self.discriminator(2 * estimate - 1)
        return {"adversarial": discriminator_loss(real.float(), fake.float())}

    def _terms(self, estimate: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Returns the weighted loss terms of each sample, each with shape (B,)."""
        c = self.config
        features = self._features(estimate)
        # Perturbed images are the first of a batch.
        reference = [layer[: len(x)] for layer in self._reference]
        # No step of a power iteration, and no mean of a batch, but in the discriminator's own turn.
        with _evaluating(self.discriminator), self.autocast():
            logits = self.discriminator(2 * estimate - 1)
        fooled = F.softplus(-logits.float()).reshape(len(x), -1).mean(dim=1)
        return {
            "error": super().errors(estimate, x),
            # Eq. 2
            "perceptual": c.perceptual * self._perceptual[0].compare(features, reference),
            # Eq. 3
            "adversarial": c.adversarial * fooled,
        }

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        # In full precision: equal images have no difference then, on which the attack could climb.
        with torch.autocast(images.device.type, enabled=False):
            return self._perceptual[0].to(images.device).features(images.float())


def _perceptual(features: str, criterion: Literal["l1", "l2"]) -> PerceptualLoss:
    kind, _, path = features.partition(":")
    if kind == "vgg19" and path:
        return PerceptualLoss(vgg19_features(path), criterion=criterion)
    if features != "effnet-lite0":
        raise ValueError(f"features={features!r} are not known; give effnet-lite0 or vgg19:FILE")
    try:
        return PerceptualLoss(effnet_features(), criterion=criterion)
    except ModuleNotFoundError as error:  # its message says what to install
        raise ValueError(str(error)) from error


@contextlib.contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    before = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(before)
