r"""The universal degradation model: whatever befell a photograph, as a code that another one can be given.

.. math:: \hat y = \hat f(x, e_g, e_l, n), \qquad e_g = e_g(y), \quad e_l = e_l(y), \quad n \sim N(0, I)

No structure in it is a blur's or a noise's. Encoders read an embedding :math:`e_g` of the whole and a map :math:`e_l` off
a degraded photograph, which are rounded and priced by learned densities; the redegrader puts what they say onto any
image. Content is kept out of the code by its price alone: a bit that is no help to redegrade is not worth having.

.. math:: H(e) = I(e; x) + H(d)

for a code e from which the damage d can be told, so that the cheapest code says nothing of the content x.

The embedding is rounded between two residual perceptrons, its head and its tail. Here it stands for what is
rounded, between them: ``e_g`` in :class:`UniversalParams` are whole steps from the medians after :meth:`encode`, and any
numbers where somebody moves or mixes codes.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025), and its
    | technical report, Sections 2 and 6.2, https://arxiv.org/abs/2505.12860
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.coding import Tables
from ..functional.descent import standardised
from ..functional.random import Randomness, device_of, rand, randn
from ..networks import FactorisedDensity, GlobalEncoder, LocalEncoder, Redegrader
from ..types import Params, Shape
from .base import Differentiable, Encoder

__all__ = ["Coded", "UniversalDegradation", "UniversalParams", "mix"]

TAIL = 2.0**-18
"""What all symbols beyond a table are worth, at most, where a table may be so long."""

LONGEST = 1024
"""The largest symbol of a table."""


@dataclass(frozen=True)
class UniversalParams(Params):
    """A code, and the noise of the redegrader.

    Attributes:
        e_g: Embeddings, before the tail, with shape (B, n_g).
        e_l: Maps, with shape (B, c_l, h / r, w / r), of the image's padded sides.
        noise: All noise maps n, one after the other, with shape (B, N).
    """

    e_g: Tensor
    e_l: Tensor
    noise: Tensor

    def summary(self) -> dict[str, Tensor]:
        """Returns the lengths of the embeddings, with shape (B,)."""
        return {"e_g": self.e_g.norm(dim=1)}


class UniversalDegradation(Differentiable[UniversalParams], Encoder[UniversalParams]):
    """Redegrades images as codes say, which it reads off others.

    Arguments:
        config: The networks.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The networks.

        Attributes:
            redegrader: :math:`\\hat f`, with the sizes of e_g and e_l.
            width: The channels of the encoders' first layers.
            kernel: The side of their far branches' first kernels.
            norm: Whether they have batch normalisation.
            filters: The hidden widths of the densities.
        """

        redegrader: Redegrader.Config = Redegrader.Config()
        width: int = 64
        kernel: int = 13
        norm: bool = True
        filters: tuple[int, ...] = (3, 3, 3)

        def build(self) -> UniversalDegradation:
            """Makes the degradation with freshly initialised networks."""
            return UniversalDegradation(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        r = config.redegrader
        self.redegrader = r.build()
        self.global_encoder = GlobalEncoder.Config(
            embedding=r.embedding,
            width=config.width,
            kernel=config.kernel,
            norm=config.norm,
            image_channels=r.image_channels,
        ).build()
        self.head, self.tail = _perceptrons(r.embedding), _perceptrons(r.embedding)
        self.global_density = FactorisedDensity.Config(
            channels=r.embedding, filters=config.filters
        ).build()
        self.local_encoder: LocalEncoder | None = None
        self.local_density: FactorisedDensity | None = None
        if r.local:
            self.local_encoder = LocalEncoder.Config(
                channels=r.local,
                ratio=r.ratio,
                width=config.width,
                kernel=config.kernel,
                norm=config.norm,
                image_channels=r.image_channels,
            ).build()
            self.local_density = FactorisedDensity.Config(
                channels=r.local, filters=config.filters
            ).build()

    @property
    def channels(self) -> int:
        """The channels of the images: 1 for grey, 3 for RGB."""
        channels: int = self.config.redegrader.image_channels
        return channels

    def cells(self, height: int, width: int) -> tuple[int, int]:
        """Returns the sides of the maps e_l of images."""
        H, W = self.config.redegrader.padded(height, width)
        return H // self.config.redegrader.ratio, W // self.config.redegrader.ratio

    def sample(self, shape: Shape, *, generator: Randomness) -> UniversalParams:
        """Draws embeddings from their density, entry by entry, and noise; the maps are what they most often are."""
        B = shape[0]
        masses = self.global_density.masses(self._reach(self.global_density))
        u = rand((B, masses.shape[0]), generator).to(masses)
        ends = masses.cumsum(dim=1)
        drawn = (u[..., None] * ends[:, -1:] > ends).sum(dim=2) - masses.shape[1] // 2
        return UniversalParams(
            self.global_density.numbers(drawn).to(device_of(generator)),
            self.plain_map(shape).to(device_of(generator)),
            self.noise(shape, generator),
        )

    def forward(self, x: Tensor, params: UniversalParams) -> Tensor:
        """Redegrades images of shape (B, C, H, W)."""
        height, width = x.shape[-2:]
        cells = self.cells(height, width)
        if tuple(params.e_l.shape[-2:]) != cells:
            raise ValueError(
                f"a map of {params.e_l.shape[-2]}x{params.e_l.shape[-1]} is not that of {height}x{width} pixels, which "
                f"is {cells[0]}x{cells[1]}; bring it there with fit"
            )
        # The networks have their own precision. Copies begin where vectors do, so that the last bits of a sum do not
        # depend on where parameters came from.
        own = params.to(next(self.parameters()).dtype).map(torch.clone)
        return self.redegrade(x, self.tail(own.e_g), own.e_l, own.noise)

    def redegrade(self, x: Tensor, e_g: Tensor, e_l: Tensor, noise: Tensor) -> Tensor:
        """Redegrades images by embeddings that went through the tail; otherwise as :meth:`forward`."""
        maps = self._maps(noise, *x.shape[-2:])
        own = self.redegrader.last.weight.dtype
        y: Tensor = self.redegrader(2 * x.to(own) - 1, e_g, e_l, maps)
        return (y.to(x.dtype) + 1) / 2

    @torch.no_grad()
    def encode(self, y: Tensor, *, generator: Randomness) -> UniversalParams:
        """Reads codes off images of shape (B, C, H, W), rounded, and draws noise."""
        B, C, H, W = y.shape
        read = self.rounded(*self.latents(y))
        return replace(read, noise=self.noise((B, C, H, W), generator))

    def rounded(self, e_g: Tensor, e_l: Tensor) -> UniversalParams:
        """Returns codes rounded as they are coded, without noise: it has no entries."""
        g = self.global_density.rounded(e_g)
        local = e_l if self.local_density is None else self.local_density.rounded(e_l)
        return UniversalParams(g, local, e_g.new_zeros(len(e_g), 0))

    def latents(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what is to be rounded of images: embeddings (B, n_g) and maps (B, c_l, h / r, w / r)."""
        y = 2 * y - 1
        e_g = self.head(self.global_encoder(y))
        height, width = y.shape[-2:]
        if self.local_encoder is None:
            return e_g, y.new_zeros(len(y), 0, *self.cells(height, width))
        H, W = self.config.redegrader.padded(height, width)
        e_l: Tensor = self.local_encoder(F.pad(y, (0, W - width, 0, H - height), mode="replicate"))
        return e_g, e_l

    def noise(self, shape: Shape, generator: Randomness) -> Tensor:
        """Draws the noise maps for images, with shape (B, N)."""
        sizes = self.config.redegrader.noise_shapes(*shape[2:])
        return randn((shape[0], sum(map(math.prod, sizes))), generator)

    def standardised(self, params: UniversalParams) -> UniversalParams:
        """Returns codes whose noise has mean 0 and variance 1 in each of its maps, as a search keeps it."""
        # e_l tells the padded sides, and with them all maps, even where it has no channels.
        height, width = (self.config.redegrader.ratio * cells for cells in params.e_l.shape[-2:])
        maps = [standardised(n).flatten(1) for n in self._maps(params.noise, height, width)]
        return replace(params, noise=torch.cat(maps, dim=1))

    def plain_map(self, shape: Shape) -> Tensor:
        """Returns the maps e_l of images on which nothing varies, with shape (B, c_l, h / r, w / r)."""
        cells = self.cells(*shape[2:])
        if self.local_density is None:
            return torch.zeros(shape[0], 0, *cells)
        m = self.local_density.medians()
        return m.view(1, -1, 1, 1).expand(shape[0], -1, *cells).contiguous()

    def fit(self, params: UniversalParams, shape: Shape, *, local: bool = True) -> UniversalParams:
        """Returns codes for images of another size, without noise: it has no entries.

        Arguments:
            params: Codes of B images.
            shape: The shape (B, C, H, W) of the images that will be redegraded.
            local: Whether maps are resampled, or replaced by those on which nothing varies.
        """
        cells = self.cells(*shape[2:])
        if local and self.local_density is not None:
            e_l = F.interpolate(params.e_l, cells, mode="bilinear", antialias=True)
        else:
            e_l = self.plain_map(shape).to(params.e_l)
        return UniversalParams(params.e_g, e_l, params.e_g.new_zeros(len(params), 0))

    def bits(self, params: UniversalParams) -> tuple[Tensor, Tensor]:
        """Returns what embeddings and maps cost, in bits, each with shape (B,)."""
        g = self.global_density.bits(params.e_g).sum(dim=1)
        if self.local_density is None:
            return g, torch.zeros_like(g)
        return g, self.local_density.bits(params.e_l).flatten(1).sum(dim=1)

    def tables(self) -> tuple[Tables, Tables | None]:
        """Returns the tables by which embeddings and maps are coded."""
        made = [
            None if d is None else Tables.of(d.masses(self._reach(d)))
            for d in (self.global_density, self.local_density)
        ]
        assert made[0] is not None
        return made[0], made[1]

    def _maps(self, noise: Tensor, height: int, width: int) -> list[Tensor]:
        """Cuts the noise (B, N) for images into its maps, each with shape (B, 1, h, w)."""
        sizes = self.config.redegrader.noise_shapes(height, width)
        parts = torch.split(noise, [math.prod(size) for size in sizes], dim=1)
        return [part.reshape(-1, 1, *size) for part, size in zip(parts, sizes, strict=True)]

    def _reach(self, density: FactorisedDensity) -> int:
        reach = 8
        while reach < LONGEST and float(density.masses(reach).sum(dim=1).min()) < 1 - TAIL:
            reach *= 2
        return reach


class _Residual(nn.Module):
    """Adds to vectors what a perceptron makes of them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, e: Tensor) -> Tensor:
        y: Tensor = e + self.inner(e)
        return y


def _perceptrons(width: int) -> nn.Sequential:
    return nn.Sequential(*(_Residual(width, max(8, width // 4)) for _ in range(2)))


def mix(params: Sequence[UniversalParams], weights: Sequence[float]) -> UniversalParams:
    """Returns the weighted sum of codes, with the noise of the first.

    Arguments:
        params: Codes of as many images of one size each; :meth:`UniversalDegradation.fit` makes them so.
        weights: Their weights; (1 - t, t) walks from one code to another.
    """
    pairs = list(zip(weights, params, strict=True))
    e_g = torch.stack([w * p.e_g for w, p in pairs]).sum(dim=0)
    e_l = torch.stack([w * p.e_l for w, p in pairs]).sum(dim=0)
    return UniversalParams(e_g, e_l, params[0].noise)


class Coded(Differentiable[UniversalParams]):
    """A universal degradation whose code is given, for images of any size; the noise is drawn.

    Arguments:
        inner: The model.
        params: The code of one image.
        local: Whether its map is resampled to other images, or left out.
    """

    def __init__(
        self, inner: UniversalDegradation, params: UniversalParams, *, local: bool = True
    ) -> None:
        super().__init__()
        if len(params) != 1:
            raise ValueError(f"got the codes of {len(params)} images; give one: params[0]")
        self.inner, self.params, self.local = inner, params, local
        self.config = inner.config

    def sample(self, shape: Shape, *, generator: Randomness) -> UniversalParams:
        """Repeats the code for images of this shape, and draws noise."""
        one = self.inner.fit(self.params, (1, *shape[1:]), local=self.local)
        noise = self.inner.noise(shape, generator)
        return UniversalParams(
            one.e_g.to(noise).expand(shape[0], -1),
            one.e_l.to(noise).expand(shape[0], -1, -1, -1),
            noise,
        )

    def forward(self, x: Tensor, params: UniversalParams) -> Tensor:
        """Redegrades images of shape (B, C, H, W)."""
        return self.inner(x, params)
