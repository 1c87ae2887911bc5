"""Gaussian images, of which everything is known: the best denoiser, and the posterior of what was observed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.degradations.base import Differentiable
from blemish.functional.diffusion import Step, linear_betas
from blemish.functional.random import Randomness, generator_for, randn
from blemish.types import Params, Shape


@dataclass(frozen=True)
class MatrixParams(Params):
    gain: Tensor


class Matrix(Differentiable[MatrixParams]):
    """Multiplies images, as vectors, by a square matrix and a gain."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def sample(self, shape: Shape, *, generator: Randomness) -> MatrixParams:
        return MatrixParams(torch.ones(shape[0], 1))

    def forward(self, x: Tensor, params: MatrixParams) -> Tensor:
        return (params.gain.to(x) * (x.flatten(1) @ self.matrix.T.to(x))).view(x.shape)


class Gaussian:
    """Images from N(mu, S), as vectors in [-1, 1] as a rule; called, the best denoiser's noise."""

    def __init__(self, mu: Tensor, S: Tensor, shape: tuple[int, int, int]) -> None:
        self.mu, self.S, self.shape = mu.double(), S.double(), shape
        self.w, self.V = torch.linalg.eigh(self.S)
        self.abar = (1 - linear_betas()).cumprod(0).tolist()

    def __call__(self, x_t: Tensor, time: Tensor) -> Tensor:
        abar = self.abar[int(time[0])]
        mu, w, V = self.mu.to(x_t), self.w.to(x_t), self.V.to(x_t)
        # E[x_0 | x_t], in the basis in which S is diagonal.
        gain = math.sqrt(abar) * w / (abar * w + 1 - abar)
        x = x_t.flatten(1)
        x0 = mu + ((x - math.sqrt(abar) * mu) @ V * gain) @ V.T
        return ((x - math.sqrt(abar) * x0) / math.sqrt(1 - abar)).view(x_t.shape)

    def rest(self, step: Step) -> Tensor:
        """Returns the covariance of x_0 where x_t is known."""
        w = (1 - step.abar) * self.w / (step.abar * self.w + 1 - step.abar)
        return (self.V * w) @ self.V.T

    def posterior(self, A: Tensor, y: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Returns means, for each row of y, and the covariance of x where y = A x + N(0, sigma^2) is known."""
        A, one = A.double(), torch.eye(len(A)).double()
        K = self.S @ A.T @ torch.linalg.inv(A @ self.S @ A.T + sigma**2 * one)
        return self.mu + (y - A @ self.mu) @ K.T, self.S - K @ A @ self.S

    def draw(self, count: int = 1) -> Tensor:
        noise = randn((count, len(self.mu)), generator_for("gaussian", count)).double()
        return self.mu + noise @ torch.linalg.cholesky(self.S).T


def two_pixels() -> Gaussian:
    S = torch.tensor([[0.25, 0.15], [0.15, 0.2]])
    return Gaussian(torch.tensor([0.2, -0.1]), S, (1, 1, 2))


def smooth(side: int, reach: float) -> Gaussian:
    """Images whose pixels resemble their neighbours."""
    i = torch.arange(side).double()
    places = torch.cartesian_prod(i, i)
    S = 0.25 * torch.exp(-torch.cdist(places, places) / reach)
    return Gaussian(torch.full((side**2,), 0.1), S, (1, side, side))


def blur(side: int, sigma: float = 1.0) -> Tensor:
    """A Gaussian blur of flattened images whose borders weigh what there is."""
    i = torch.arange(side).double()
    line = torch.exp(-(i[:, None] - i).square() / (2 * sigma**2))
    line = line / line.sum(dim=1, keepdim=True)
    return torch.kron(line, line)


def first_of_two() -> Tensor:
    """What sees a mixture of two pixels, once."""
    return torch.tensor([[0.8, 0.2], [0.0, 0.0]]).double()


def shown(y: Tensor, A: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Returns what y = A x in [-1, 1] is for a matrix that is applied in [0, 1], with shape (n, C, H, W)."""
    return ((y + A.sum(dim=1)) / 2).float().unflatten(1, shape)
