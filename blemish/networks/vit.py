r"""The vision transformer of DINOv2.

An image of patches of 14x14 pixels becomes a row of tokens: a linear map of each patch, with one
token (the class token) in front, plus a table of positions. A block adds two things to each token,
an attention :math:`a` and a two-layer map :math:`m`, each behind a normalisation and scaled for
each channel by :math:`\gamma` (LayerScale):

.. math:: x \leftarrow x + \gamma_1 \, a(\mathrm{LN}(x)), \qquad
    x \leftarrow x + \gamma_2 \, m(\mathrm{LN}(x)).

The features of an image are its class token after a last normalisation. A head of attention is 64
channels wide.

The table of positions was learned on 37x37 patches and is resized, bicubically and without
antialiasing, to the grid of the image. As in the publication the resizing has the *ratio*
:math:`(n + 0.1) / 37` for n patches and not n / 37, which moves the sampled places a little; the
published numbers contain that.

References:
    | An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale
      (Dosovitskiy et al., 2021)
    | https://arxiv.org/abs/2010.11929
    | DINOv2: Learning Robust Visual Features without Supervision (Oquab et al., 2024)
    | https://arxiv.org/abs/2304.07193
    | Going Deeper with Image Transformers (Touvron et al., 2021), for LayerScale
    | https://arxiv.org/abs/2103.17239
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DINOv2"]

_HEAD = 64


class DINOv2(nn.Module):
    """Maps images to class tokens.

    Arguments:
        width: The channels of a token, a multiple of 64.
        depth: The number of blocks.
        patch: The side of a patch in pixels.
        grid: The side of the learned table of positions, in patches.
    """

    def __init__(self, width: int, depth: int, *, patch: int = 14, grid: int = 37) -> None:
        super().__init__()
        if width < _HEAD or width % _HEAD:
            raise ValueError(f"width is {width}; heads are {_HEAD} wide, so use a multiple of that")
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.patch_embed = _Patches(width, patch)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        """Computes the normalised class tokens.

        Arguments:
            x: Normalised images, with shape (B, 3, H, W); the sides are multiples of the patch.

        Returns:
            Features, with shape (B, width).
        """
        if x.shape[-2] % self.patch or x.shape[-1] % self.patch:
            raise ValueError(
                f"got images of {x.shape[-2]}x{x.shape[-1]} pixels; "
                f"the sides must be multiples of {self.patch}"
            )
        tokens = self.patch_embed.proj(x)
        positions = self._positions(tokens.shape[-2], tokens.shape[-1])
        tokens = tokens.flatten(2).transpose(1, 2)
        first = self.cls_token.expand(len(tokens), -1, -1)
        h = torch.cat([first, tokens], dim=1) + positions
        for block in self.blocks:
            h = block(h)
        features: Tensor = self.norm(h[:, 0])
        return features

    def _positions(self, rows: int, columns: int) -> Tensor:
        # The table for a grid of rows x columns patches, with shape (1, 1 + rows * columns, width).
        grid = math.isqrt(self.pos_embed.shape[1] - 1)
        if (rows, columns) == (grid, grid):
            return self.pos_embed
        first, table = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        table = table.transpose(1, 2).reshape(1, -1, grid, grid)
        ratio = ((rows + 0.1) / grid, (columns + 0.1) / grid)
        table = F.interpolate(table, scale_factor=ratio, mode="bicubic", align_corners=False)
        return torch.cat([first, table.flatten(2).transpose(1, 2)], dim=1)


class _Patches(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width)
        self.ls1 = _Scale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _MLP(width)
        self.ls2 = _Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1.gamma * self.attn(self.norm1(x))
        out: Tensor = x + self.ls2.gamma * self.mlp(self.norm2(x))
        return out


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        # (B, N, 3 H 64) to three of (B, H, N, 64).
        qkv = self.qkv(x).reshape(*x.shape[:2], 3, -1, _HEAD)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class _MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
