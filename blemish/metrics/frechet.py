r"""The Fréchet distance between two sets of features, each seen as a Gaussian.

For N(m_a, C_a) and N(m_b, C_b) the squared 2-Wasserstein distance has the closed form

.. math:: F = \|m_a - m_b\|^2 + \mathrm{tr}\, C_a + \mathrm{tr}\, C_b
    - 2 \, \mathrm{tr} (C_a^{1/2} C_b \, C_a^{1/2})^{1/2}.

With any factors :math:`C_a = S_a S_a^T` and :math:`C_b = S_b S_b^T` the last trace is the sum of
the singular values of :math:`S_a^T S_b`. That form never squares a condition number, has no complex
square root to clip, and costs less where the covariances are singular, as they are with fewer
samples than dimensions. Everything is computed in float64.

A finite sample makes F too large, and the more so the more dimensions there are: compare only
numbers with the same features and the same counts.

References:
    | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium
      (Heusel et al., 2017), Eq. 6
    | https://arxiv.org/abs/1706.08500
    | The Distance between Two Random Vectors with Given Dispersion Matrices
      (Olkin & Pukelsheim, 1982)
    | https://doi.org/10.1016/0024-3795(82)90112-4
    | Updating Formulae and a Pairwise Algorithm for Computing Sample Variances (Chan et al., 1979)
    | https://doi.org/10.1007/978-3-642-51461-6_3
"""

from __future__ import annotations

import torch
from torch import Tensor

from .sets import check_features

__all__ = ["Moments", "frechet", "frechet_distance", "merge_moments", "pack_moments"]


class Moments:
    """The mean and covariance of a stream of features, in float64.

    Sums of products are kept about the running mean, so that a large offset costs no precision.

    Arguments:
        dimension: The number D of features.
    """

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise ValueError(f"dimension is {dimension}; it must be at least 1")
        self._packed = torch.zeros(dimension + 2, dimension, dtype=torch.float64)

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Returns the moments of features with shape (N, D)."""
        check_features(features)
        moments = cls(features.shape[1])
        moments.update(features)
        return moments

    @classmethod
    def unpack(cls, packed: Tensor) -> Moments:
        """Returns the moments that :func:`pack_moments` has written, with shape (D + 2, D)."""
        moments = cls(packed.shape[1])
        moments._packed = packed.to("cpu", torch.float64)
        return moments

    @property
    def count(self) -> int:
        """The number of features seen."""
        return int(self._packed[0, 0])

    @property
    def dimension(self) -> int:
        """The number D of features."""
        return self._packed.shape[1]

    @property
    def mean(self) -> Tensor:
        """The mean, float64, with shape (D,)."""
        self._require(1)
        return self._packed[1].clone()

    @property
    def cov(self) -> Tensor:
        """The unbiased covariance, float64, with shape (D, D)."""
        self._require(2)
        return self._packed[2:] / (self.count - 1)

    def update(self, features: Tensor) -> None:
        """Takes in more features.

        Arguments:
            features: Finite values, with shape (N, D).

        Raises:
            ValueError: If the shape does not fit, or a value is not finite.
        """
        packed = pack_moments(features.to("cpu"))
        if features.shape[1] != self.dimension:
            raise ValueError(
                f"got features of dimension {features.shape[1]} after {self.dimension}; "
                "use one extractor for one set of moments"
            )
        self._packed = merge_moments(torch.stack([self._packed, packed]))

    def merge(self, other: Moments) -> Moments:
        """Returns the moments of both streams together, as of one that saw all features."""
        if other.dimension != self.dimension:
            raise ValueError(
                f"cannot merge moments of dimension {self.dimension} and {other.dimension}; "
                "use one extractor for both"
            )
        return Moments.unpack(merge_moments(torch.stack([self._packed, other._packed])))

    def _require(self, count: int) -> None:
        if self.count < count:
            raise ValueError(f"moments saw {self.count} samples; at least {count} are needed")


def pack_moments(features: Tensor) -> Tensor:
    """Returns the moments of features as one tensor, as processes exchange them.

    Arguments:
        features: Finite values, with shape (N, D).

    Returns:
        The count N (D times), the mean, and the sum of products about it, in float64 on the
        features' device, with shape (D + 2, D). All is zero where N is.
    """
    check_features(features)
    rows = features.detach().to(torch.float64)
    N, D = rows.shape
    mean = rows.mean(dim=0) if N else rows.new_zeros(D)
    centred = rows - mean
    return torch.cat([torch.full_like(mean, N)[None], mean[None], centred.T @ centred])


def merge_moments(packed: Tensor) -> Tensor:
    """Returns the moments of P streams together, with shape (D + 2, D).

    Arguments:
        packed: The moments of each stream, with shape (P, D + 2, D).
    """
    count, mean, scatter = packed[:, 0], packed[:, 1], packed[:, 2:]
    total = count.sum(dim=0)
    joint = (count * mean).sum(dim=0) / total.clamp(min=1)
    # Chan et al. (1979): the scatters, and that of the means.
    shift = mean - joint
    between = (count * shift).T @ shift
    return torch.cat([total[None], joint[None], scatter.sum(dim=0) + between])


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Returns the Fréchet distance F of two Gaussians, in squared units of the features.

    Arguments:
        mean_a: The mean of the first, with shape (D,).
        cov_a: Its covariance, symmetric and positive semi-definite, with shape (D, D).
        mean_b: The mean of the second, with shape (D,).
        cov_b: Its covariance, with shape (D, D).

    Raises:
        ValueError: If the shapes do not fit, or a value is not finite.
    """
    D = mean_a.shape[-1]
    named = (("mean_a", mean_a, 1), ("cov_a", cov_a, 2), ("mean_b", mean_b, 1), ("cov_b", cov_b, 2))
    for name, value, rank in named:
        if value.shape != (D,) * rank:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}; with {D} features it must be {(D,) * rank}"
            )
        if not value.isfinite().all():
            raise ValueError(f"{name} is not finite; check the features it was computed from")
    m_a, C_a, m_b, C_b = (value.detach().to("cpu", torch.float64) for _, value, _ in named)
    return _between(m_a, _factor(C_a), m_b, _factor(C_b))


def frechet(features_a: Tensor, features_b: Tensor) -> float:
    """Returns the Fréchet distance of two sets of features.

    Arguments:
        features_a: Features of the first set, with shape (N, D), N >= 2.
        features_b: Features of the second, with shape (M, D), M >= 2.
    """
    (m_a, S_a), (m_b, S_b) = _gaussian(features_a), _gaussian(features_b)
    if len(m_a) != len(m_b):
        raise ValueError(
            f"got features of dimension {len(m_a)} and {len(m_b)}; use one extractor for both sets"
        )
    return _between(m_a, S_a, m_b, S_b)


def _between(m_a: Tensor, S_a: Tensor, m_b: Tensor, S_b: Tensor) -> float:
    # Heusel et al. (2017), Eq. 6, with tr C = |S|^2.
    cross = torch.linalg.svdvals(S_a.T @ S_b).sum()
    distance = (m_a - m_b).square().sum() + S_a.square().sum() + S_b.square().sum() - 2 * cross
    # Rounding can leave a negative number of the order 1e-13 where both are equal.
    return max(float(distance), 0.0)


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean, and a factor of the covariance, with shapes (D,) and (D, R)."""
    check_features(features)
    N, D = features.shape
    if not 2 <= N <= D:
        moments = Moments.of(features)
        return moments.mean, _factor(moments.cov)
    # The centred samples are a factor themselves, which spares an eigenvalue decomposition.
    rows = features.detach().to("cpu", torch.float64)
    mean = rows.mean(dim=0)
    return mean, (rows - mean).T / (N - 1) ** 0.5


def _factor(cov: Tensor) -> Tensor:
    # S (D, R) with S S^T = C, from the R eigenvalues above rounding.
    values, vectors = torch.linalg.eigh((cov + cov.T) / 2)
    kept = values > values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    factor: Tensor = vectors[:, kept] * values[kept].sqrt()
    return factor
