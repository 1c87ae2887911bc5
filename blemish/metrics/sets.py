"""How the metrics read sets of features: rows of finite numbers, two sets from one extractor."""

from __future__ import annotations

from torch import Tensor

__all__ = ["check_features", "one_set", "two_sets"]


def check_features(features: Tensor) -> None:
    """Checks that features are finite numbers with shape (N, D), D >= 1.

    Raises:
        ValueError: If the shape is another, or a value is not finite.
    """
    if features.ndim != 2 or not features.shape[1]:
        raise ValueError(
            f"got features with shape {tuple(features.shape)}; they must have shape (N, D)"
        )
    if not features.isfinite().all():
        bad = int((~features.isfinite()).any(dim=1).sum())
        raise ValueError(
            f"{bad} of {len(features)} feature vectors are not finite; "
            "check the images they were computed from"
        )


def one_set(features: Tensor) -> Tensor:
    """Returns features on a device that computes in float64.

    Arguments:
        features: Features, with shape (N, D).

    Raises:
        ValueError: If the shape is another, or a value is not finite.
    """
    check_features(features)
    # Apple's GPUs have no float64.
    return features.detach().to("cpu" if features.device.type == "mps" else features.device)


def two_sets(features_a: Tensor, features_b: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Returns two sets of features on one device that computes in float64.

    Arguments:
        features_a: Features of the first set, with shape (N, D).
        features_b: Features of the second, with shape (M, D).
        least: The smallest N and M.

    Raises:
        ValueError: If the features do not fit together, or are fewer.
    """
    x, y = one_set(features_a), one_set(features_b)
    if features_a.shape[1] != features_b.shape[1]:
        raise ValueError(
            f"got features of dimension {features_a.shape[1]} and {features_b.shape[1]}; "
            "use one extractor for both sets"
        )
    if min(len(features_a), len(features_b)) < least:
        raise ValueError(
            f"got sets of {len(features_a)} and {len(features_b)} features; "
            f"each must have at least {least}"
        )
    return x, y.to(x.device)
