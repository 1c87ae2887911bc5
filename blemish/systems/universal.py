r"""The universal degradation model: encoder and redegrader, trained on pairs, disentangled by compression.

Clean images x are damaged to y (:class:`~blemish.degradations.Imaging`, or any degradation), the code is read off y,
and put onto x again, from which y shall come out:

.. math::
    L = \lambda_s \, d(\hat y, y) + \lambda_c \, L_{colour}(\hat y, y)
        + \lambda_g R_g + \lambda_l R_l, \qquad
    \hat y = \hat f(x, \tilde e_g(y), \tilde e_l(y), n)

with a distance d that compares textures, not draws of noise, and the rates :math:`R_g`, bits of an embedding, and
:math:`R_l`, bits of a map for each of the image's N pixels. Rounding is replaced by noise :math:`U(-1/2, 1/2)`.

*Which rate?* What the code need not say is dear, so that content, which the redegrader sees anyway, stays out of it. What
is the same everywhere shall be in :math:`e_g`: with :math:`k = N \lambda_g / \lambda_l` the price of its bits in bits of
the map, and n the number of the map's cells, the optimum separates the two if

.. math:: 1 < k < n,

for below, whatever is local is cheaper in e_g; and above, saying the same in every cell is cheaper. The
configuration has :math:`\lambda_l` and k, by default :math:`\sqrt n`, in the middle of the two on a logarithmic scale.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025), and its
    | technical report, Sections 1 and 6.2, https://arxiv.org/abs/2505.12860
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..degradations import Degradation, Imaging, UniversalDegradation, renewed
from ..functional.random import Randomness, generator_for, rand
from ..functional.stages import to_8_bits
from ..losses import (
    Distance,
    Queue,
    clamped,
    colour_loss,
    gradient_penalty,
    info_nce,
    momentum_update,
    resemblance_loss,
    texture_distance,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from ..metrics import dists, dists_network
from ..networks import Critic, FactorisedDensity
from .base import Clean, Group, Phase, Strength
from .degrading import LearnsDegradation, shape_of

__all__ = ["Universal", "UniversalPairs"]

Compression = Literal["rate", "noise", "none"]


class Universal(LearnsDegradation):
    """Trains a universal degradation model on images that it damages itself.

    Arguments:
        config: The parts and the weights of the losses.
    """

    given: ClassVar[tuple[str, ...]] = ("damage",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The parts and the weights of the losses.

        Attributes:
            degradation: The encoders, the densities and the redegrader.
            damage: What befalls clean images.
            distance: What compares textures: ``texture``, or ``dists:VGG,WEIGHTS`` with the two files of DISTS, which
                are downloads; what the paper uses.
            similarity: The weight of the distance :math:`\\lambda_s`.
            colour: The weight of the colours' distance :math:`\\lambda_c`.
            rate: The price :math:`\\lambda_l` of the map's bits for each pixel.
            crossed: The share of images whose code is read off another image that the same damage befell, with noise of
                its own: for them the loss asks for transfer. The paper has none, and leaves content out of the code by
                its price alone; but what a small code says of a small image is how much texture shall come out.
            k: The price of the embedding's bits in bits of the map; None: the root of the number of cells.
            compression: ``rate``; or the ablations ``noise`` (rounding is imitated, but bits cost nothing) and ``none``
                (codes are not rounded at all). In these the densities learn what the codes cost all the same.
            contrast: The weight of the contrastive loss, by which two crops of an image have nearer embeddings than
                those of different images.
            queue: The number of embeddings that it compares with, a multiple of the batch.
            resemblance: The weight of the resemblance of two estimates of different noise.
            adversarial: The weight of a critic's opinion.
            critic: The critic, who sees clean and damaged images side by side.
            penalty: The weight of the critic's gradient penalty.
            lr: Adam's learning rate.
            betas: Adam's decay rates. With a short memory of squares, or without ``clip``, products of features and
                conditions sooner or later run away.
            clip: The largest norm of the gradient.
            ema: The decay of the moving average, per iteration.
        """

        degradation: UniversalDegradation.Config = UniversalDegradation.Config()
        damage: Any = Imaging.Config()
        distance: str = "texture"
        similarity: float = 10.0
        colour: float = 10.0
        rate: float = 0.2
        k: float | None = None
        crossed: float = 0.0
        compression: Compression = "rate"
        contrast: float = 0.0
        queue: int = 120
        resemblance: float = 0.0
        adversarial: float = 0.0
        critic: Critic.Config = Critic.Config(image_channels=6)
        penalty: float = 10.0
        lr: float = 1e-4
        betas: tuple[float, float] = (0.9, 0.999)
        clip: float = 1.0
        ema: float = 0.999

        def __post_init__(self) -> None:
            """Checks the weights."""
            names = ("similarity", "colour", "rate", "contrast", "resemblance", "adversarial")
            for name in names:
                weight = getattr(self, name)
                if weight < 0 or not math.isfinite(weight):
                    raise ValueError(f"{name}={weight}; give a number of at least 0")
            if not 0 <= self.crossed <= 1:
                raise ValueError(f"crossed={self.crossed} is no share; give a number from 0 to 1")

        def prices(self, cells: int, pixels: int) -> tuple[float, float]:
            """Returns what a bit of an embedding and of a map costs, for images of so many cells and pixels.

            Raises:
                ValueError: If k does not lie between 1 and the number of cells (the report's Eq. 42).
            """
            k = math.sqrt(cells) if self.k is None else self.k
            if not 1 < k < cells:
                raise ValueError(
                    f"k={k:g} does not lie between 1 and the {cells} cells of a map, where what is local and what is not "
                    "are told apart; change system.k, or take larger crops"
                )
            # k = N lambda_g / lambda_l
            return k * self.rate / pixels, self.rate / pixels

        def build(self) -> Universal:
            """Makes the system with freshly initialised networks."""
            return Universal(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.degradation: UniversalDegradation = config.degradation.build()
        self.damage: Degradation[Any] = config.damage.build()
        if self.damage.scale != 1:
            raise ValueError(
                f"the damage makes images {self.damage.scale} times smaller, which the redegrader cannot; give another"
            )
        if config.contrast:
            self.key_encoder = copy.deepcopy(self.degradation.global_encoder).requires_grad_(False)
            features = config.degradation.redegrader.embedding
            self.queue = Queue(config.queue, features, generator_for("queue"))
        if config.adversarial:
            self.critic = config.critic.build()
        # In a tuple, so that weights of a frozen network are no part of checkpoints.
        self._distance = (_distance(config.distance),)
        self._pairs: tuple[Tensor, Tensor, Tensor] | None = None
        self._bits: list[Tensor] = []

    @property
    def phases(self) -> tuple[Phase, ...]:
        """One turn of all parts together, then the critic's, if there is one."""
        c = self.config
        all_parts = Phase("R", (Group("degradation"),), c.lr, c.betas, average=True, clip=c.clip)
        if not c.adversarial:
            return (all_parts,)
        return all_parts, Phase("C", (Group("critic"),), c.lr, (0.0, 0.9))

    def prepare(self, batch: Tensor, generator: Randomness, iteration: int) -> None:
        """Makes the pairs of an iteration.

        Arguments:
            batch: The images of the run, see :meth:`pairs`.
            generator: The source of randomness.
            iteration: Not used.
        """
        self._pairs = self.pairs(batch, generator)
        if self.config.contrast:
            momentum_update(self.key_encoder, self.degradation.global_encoder)

    @torch.no_grad()
    def pairs(self, batch: Tensor, generator: Randomness) -> tuple[Tensor, Tensor, Tensor]:
        """Returns clean images, damaged ones, and those that codes are read off, in [0, 1].

        Arguments:
            batch: Clean images in [0, 1], with shape (B, C, H, W).
            generator: The source of randomness.
        """
        shape, crossed = shape_of(batch), self.config.crossed
        params = self.damage.sample(shape, generator=generator)
        y = to_8_bits(self.damage(batch, params))
        if not crossed:
            return batch, y, y
        again = renewed(params, self.damage.sample(shape, generator=generator))
        other = to_8_bits(self.damage(batch.roll(1, 0), again))
        chosen = rand((shape[0], 1, 1, 1), generator) < crossed
        return batch, y, torch.where(chosen, other, y)

    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        """Returns the weighted loss terms on what :meth:`prepare` made of this batch.

        Arguments:
            phase: ``R`` or ``C``.
            batch: Not used: its pairs are kept.
            generator: The source of randomness.
            iteration: Not used.
        """
        if self._pairs is None:
            raise RuntimeError("there are no pairs: call prepare first")
        if phase == "C":
            return self._critics_losses(*self._pairs, generator)
        c, d, (x, y, read) = self.config, self.degradation, self._pairs
        with self.autocast():
            e_g, e_l = d.latents(read)
            e_g, e_l = e_g.float(), e_l.float()
            g, local = self._rounded(e_g, generator), self._rounded(e_l, generator)
            told = d.tail(g)
            made = self._estimate(x, told, local, generator)
            estimate, another = clamped(made), None
            if c.resemblance:
                another = clamped(self._estimate(x, told, local, generator))
        terms = {
            "similarity": c.similarity * self._distance[0](estimate, y).mean(),
            "colour": c.colour * colour_loss(estimate, y).mean(),
            # What no image can have is no way to please the distance.
            "beyond": c.similarity * (made - estimate).abs().mean(),
            **self._rates(g, local, x.shape[-2] * x.shape[-1]),
        }
        if another is not None:
            terms["resemblance"] = c.resemblance * resemblance_loss(estimate, another).mean()
        if c.contrast:
            terms["contrast"] = c.contrast * self._contrast(y, generator)
        if c.adversarial:
            with self.autocast():
                score = self.critic(_beside(x, estimate)).float()
            terms["adversarial"] = c.adversarial * wasserstein_generator_loss(score)
        return terms

    @torch.no_grad()
    def compared(
        self, y: Tensor, parts: Mapping[str, nn.Module], generator: Randomness
    ) -> tuple[Tensor, Tensor]:
        """Returns damaged images, and the clean ones with the damage that was read off them.

        Arguments:
            y: Clean images in [0, 1], with shape (B, C, H, W).
            parts: The averaged :attr:`parts`.
            generator: The source of randomness.
        """
        model: Any = parts["degradation"]
        clean, damaged, _ = self.pairs(y, generator)
        return damaged, model(clean, model.encode(damaged, generator=generator)).clamp(0, 1)

    def strengths(self) -> dict[str, Strength]:
        """Returns what an embedding and a map cost, in bits."""
        if not self._bits:
            return {}
        g, local = torch.stack(self._bits).mean(dim=0).tolist()
        self._bits.clear()
        gone = "the code says nothing any more, or far too much: change system.rate"
        return {
            "bits_g": Strength(g, (0.5, 16384.0), gone),
            "bits_l": Strength(local, (0.0, math.inf), gone),
        }

    def _estimate(self, x: Tensor, told: Tensor, local: Tensor, generator: Randomness) -> Tensor:
        """Returns redegraded images, by embeddings that went through the tail, with noise of their own."""
        noise = self.degradation.noise(shape_of(x), generator)
        return self.degradation.redegrade(x, told, local, noise).float()

    def _contrast(self, y: Tensor, generator: Randomness) -> Tensor:
        """Returns the contrastive loss of two crops of each damaged image."""
        first, second = _crop(y, generator), _crop(y, generator)
        with self.autocast():
            query = self.degradation.global_encoder(2 * first - 1).float()
            with torch.no_grad():
                key = self.key_encoder(2 * second - 1).float()
        loss = info_nce(query, key, self.queue.keys).mean()
        self.queue.push(key)
        return loss

    def _critics_losses(
        self, x: Tensor, y: Tensor, read: Tensor, generator: Randomness
    ) -> dict[str, Tensor]:
        d = self.degradation
        with torch.no_grad(), self.autocast():
            e_g, e_l = d.latents(read)
            g, local = self._rounded(e_g.float(), generator), self._rounded(e_l.float(), generator)
            fake = clamped(self._estimate(x, d.tail(g), local, generator))
        with self.autocast():
            real_score = self.critic(_beside(x, y)).float()
            fake_score = self.critic(_beside(x, fake)).float()
        # In full precision: its own gradient is differentiated.
        penalty = gradient_penalty(lambda z: self.critic(_beside(x, z)), y, fake, generator)
        return {
            "critic": wasserstein_critic_loss(real_score, fake_score),
            "penalty": self.config.penalty * penalty,
        }

    def _rounded(self, e: Tensor, generator: Randomness) -> Tensor:
        """Returns codes with what imitates rounding."""
        if self.config.compression == "none":
            return e
        return e + rand(e.shape, generator) - 0.5

    def _rates(self, g: Tensor, local: Tensor, pixels: int) -> dict[str, Tensor]:
        d, free = self.degradation, self.config.compression != "rate"
        weights = self.config.prices(local.shape[-2] * local.shape[-1], pixels)
        bits = [_bits(d.global_density, g, free=free)]
        if d.local_density is not None:
            bits.append(_bits(d.local_density, local, free=free))
        found = [b.detach() for b in bits]
        self._bits.append(torch.stack([*found, *[torch.zeros_like(found[0])] * (2 - len(bits))]))
        return {n: w * b for n, w, b in zip(("rate_g", "rate_l"), weights, bits, strict=False)}


class UniversalPairs(Universal):
    """Trains a universal degradation model on observed images and their clean partners.

    Arguments:
        config: The parts and the weights of the losses; its ``damage`` is not used.
    """

    clean: ClassVar[Clean | None] = "partners"

    @dataclass(frozen=True, kw_only=True)
    class Config(Universal.Config):
        """The parts and the weights of the losses."""

        def __post_init__(self) -> None:
            """Checks the weights."""
            super().__post_init__()
            if self.crossed:
                raise ValueError(
                    f"crossed={self.crossed}: real pairs do not show one damage on two contents; leave it 0"
                )

        def build(self) -> UniversalPairs:
            """Makes the system with freshly initialised networks."""
            return UniversalPairs(self)

    def pairs(self, batch: Tensor, generator: Randomness) -> tuple[Tensor, Tensor, Tensor]:
        """Returns clean images and, twice, damaged ones, in [0, 1].

        Arguments:
            batch: Observed images and their clean partners in [0, 1], with shape (B, 2 C, H, W).
            generator: Not used: nothing is drawn.
        """
        observed, clean = batch.chunk(2, dim=1)
        return clean, observed, observed

    @torch.no_grad()
    def compared(
        self, y: Tensor, parts: Mapping[str, nn.Module], generator: Randomness
    ) -> tuple[Tensor, Tensor]:
        """Returns observed images, and each with the damage of the next one put onto it as well.

        Arguments:
            y: Observed images in [0, 1], with shape (B, C, H, W).
            parts: The averaged :attr:`parts`.
            generator: The source of randomness.
        """
        model: Any = parts["degradation"]
        codes = model.encode(y.roll(-1, 0), generator=generator)
        return y, model(y, codes).clamp(0, 1)


def _bits(density: FactorisedDensity, e: Tensor, *, free: bool) -> Tensor:
    """Returns the mean price of a code; a free one pays nothing, and its density learns it all the same."""
    return density.bits(e.detach() if free else e).flatten(1).sum(dim=1).mean()


def _distance(name: str) -> Distance:
    kind, _, files = name.partition(":")
    if name == "texture":
        return texture_distance
    if kind != "dists" or files.count(",") != 1:
        raise ValueError(f"distance={name!r} is not known; give texture, or dists:VGG,WEIGHTS")
    network = dists_network(*files.split(","))

    def compare(estimate: Tensor, target: Tensor) -> Tensor:
        return dists(estimate, target, network.to(estimate.device))

    return compare


def _beside(x: Tensor, y: Tensor) -> Tensor:
    """Returns clean and damaged images side by side in [-1, 1], with shape (B, 2 C, H, W)."""
    return 2 * torch.cat([x, y], dim=1) - 1


def _crop(y: Tensor, generator: Randomness) -> Tensor:
    """Returns a crop of three quarters of the sides from each image, somewhere."""
    B, _, H, W = y.shape
    h, w = 3 * H // 4, 3 * W // 4
    place = rand((B, 2), generator)
    top = (place[:, :1] * (H - h + 1)).long() + torch.arange(h, device=y.device)
    left = (place[:, 1:] * (W - w + 1)).long() + torch.arange(w, device=y.device)
    sample = torch.arange(B, device=y.device)[:, None, None]
    return y.permute(0, 2, 3, 1)[sample, top[:, :, None], left[:, None, :]].permute(0, 3, 1, 2)
