r"""Damage as it was found on photographs: a table of which each sample draws a row.

A row holds what one photograph went through, as far as it could be found out: a blur kernel, two levels of noise, a
JPEG quality. They are drawn together, because they come together: the phone that blurs is the phone that compresses.

.. math:: y = \psi_q (x * k + n), \qquad (k, \sigma_{read}, \sigma_{shot}, q) = \theta_i, \qquad i \sim U\{1, \dots, N\}

Rows are buffers, so that they are saved with the weights of an artefact. Where they come from is told in
:mod:`blemish.evaluation.estimate`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional.blur import Padding
from ..functional.jpeg import Subsampling
from ..functional.kernels import delta
from ..functional.random import Randomness, rand, randn
from ..types import Shape
from .base import Differentiable
from .blur import Blur, BlurParams
from .compose import Chain, ChainParams, Partial, PartialParams
from .jpeg import DifferentiableJPEG, JPEGParams
from .laws import DiskLaw
from .noise import ReadShotNoise, ReadShotParams

__all__ = ["Estimated"]


class Estimated(Differentiable[ChainParams]):
    """Blurs, adds noise and compresses as rows of a table say.

    A fresh one leaves images as they are, but for a JPEG that is not applied; :meth:`of` fills the table.

    Arguments:
        config: The shape of the table, and how images are blurred and compressed.
    """

    kernel: Tensor
    sigma_read: Tensor
    sigma_shot: Tensor
    quality: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the table, and how images are blurred and compressed.

        Attributes:
            count: The number N of rows.
            size: The odd side K of the kernels.
            padding: How the image goes on beyond its border.
            subsampling: How JPEG subsamples the colour.
        """

        count: int = 1
        size: int = 15
        padding: Padding = "reflect"
        subsampling: Subsampling = "4:2:0"

        def __post_init__(self) -> None:
            """Checks the shape of the table."""
            if self.count < 1 or self.size < 1 or self.size % 2 == 0:
                raise ValueError(
                    f"count={self.count}, size={self.size}; a table has at least one row, and kernels an odd side"
                )

        def build(self) -> Estimated:
            """Makes the degradation."""
            return Estimated(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        N, K = config.count, config.size
        self.register_buffer("kernel", delta(K).expand(N, 1, K, K).clone())
        for name in ("sigma_read", "sigma_shot", "quality"):
            self.register_buffer(name, torch.zeros(N))
        # Rounded as files are: soft rounding leaves no trace that can be read.
        codec = DifferentiableJPEG(subsampling=config.subsampling, rounding="straight-through")
        self.chain = Chain(
            [Blur(DiskLaw(size=K), padding=config.padding), ReadShotNoise(), Partial(codec, 1.0)]
        )

    @classmethod
    def of(
        cls,
        kernel: Tensor,
        sigma_read: Tensor,
        sigma_shot: Tensor,
        quality: Tensor,
        *,
        padding: Padding = "reflect",
        subsampling: Subsampling = "4:2:0",
    ) -> Estimated:
        """Makes a degradation from the rows of a table.

        Arguments:
            kernel: Kernels that sum to 1, with shape (N, 1, K, K).
            sigma_read: Standard deviations of the noise at black, on the [0, 1] scale, with shape (N,).
            sigma_shot: Standard deviations of what comes on top at white, with shape (N,).
            quality: JPEG qualities in [1, 100], 0 where there was no JPEG, with shape (N,).
            padding: How the image goes on beyond its border.
            subsampling: How JPEG subsamples the colour.

        Raises:
            ValueError: If a row holds what is no damage; the message names it.
        """
        rows = {
            "kernel": kernel,
            "sigma_read": sigma_read,
            "sigma_shot": sigma_shot,
            "quality": quality,
        }
        _check_rows(rows)
        table = cls.Config(
            count=len(kernel), size=kernel.shape[-1], padding=padding, subsampling=subsampling
        )
        made = cls(table)
        made.load_state_dict({name: rows[name].float() for name in made.state_dict()})
        return made

    def sample(self, shape: Shape, *, generator: Randomness) -> ChainParams:
        """Draws a row of the table for each sample, and the noise."""
        row = (rand((shape[0],), generator) * self.config.count).long().to(self.kernel.device)
        return self.rows(row, randn(shape, generator), randn(shape, generator))

    def rows(self, row: Tensor, eps_read: Tensor, eps_shot: Tensor) -> ChainParams:
        """Returns the parameters that stand in rows of the table.

        Arguments:
            row: The number of the row for each sample, int64, with shape (B,).
            eps_read: Standard normal numbers, with shape (B, C, H, W).
            eps_shot: Standard normal numbers, with shape (B, C, H, W).
        """
        read, shot = (level[row].view(-1, 1, 1, 1) for level in (self.sigma_read, self.sigma_shot))
        noise = ReadShotParams(read, shot, eps_read, eps_shot)
        quality = self.quality[row]
        # A quality must be one even where it is not used.
        jpeg = PartialParams(quality > 0, JPEGParams(quality.clamp(min=1)))
        return ChainParams((BlurParams(self.kernel[row]), noise, jpeg))

    def forward(self, x: Tensor, params: ChainParams) -> Tensor:
        """Damages images of shape (B, C, H, W)."""
        return self.chain(x, params)


def _check_rows(rows: dict[str, Tensor]) -> None:
    """Refuses rows that are no damage, by name and number."""
    kernel = rows["kernel"]
    if kernel.ndim != 4 or kernel.shape[1] != 1 or kernel.shape[2] != kernel.shape[3]:
        raise ValueError(f"the kernels have the shape {tuple(kernel.shape)}; give (N, 1, K, K)")
    for name in ("sigma_read", "sigma_shot", "quality"):
        if rows[name].shape != kernel.shape[:1]:
            raise ValueError(
                f"{name} has the shape {tuple(rows[name].shape)}, and there are {len(kernel)} kernels; give one "
                "number for each"
            )
    quality = rows["quality"]
    sums = kernel.sum(dim=(1, 2, 3))
    right = {
        "kernel": (sums - 1).abs() <= 1e-4,
        "sigma_read": (rows["sigma_read"] >= 0) & rows["sigma_read"].isfinite(),
        "sigma_shot": (rows["sigma_shot"] >= 0) & rows["sigma_shot"].isfinite(),
        "quality": (quality == 0) | ((quality >= 1) & (quality <= 100)),
    }
    allowed = {
        "kernel": "kernels sum to 1",
        "sigma_read": "levels of noise are at least 0",
        "sigma_shot": "levels of noise are at least 0",
        "quality": "qualities lie in [1, 100], or are 0 for no JPEG",
    }
    for name, fine in right.items():
        for row in (~fine).nonzero().flatten().tolist()[:1]:
            value = float(sums[row] if name == "kernel" else rows[name][row])
            raise ValueError(f"row {row} has the {name} {value:g}; {allowed[name]}")
