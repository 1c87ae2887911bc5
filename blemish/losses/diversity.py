r"""Diversity-sensitive regularisation: different latents shall give different outputs.

.. math:: L_{DS} = -E\left[ \frac{\|G(z_1) - G(z_2)\|_1}{\|z_1 - z_2\|_1} \right]

References:
    | Diversity-Sensitive Conditional Generative Adversarial Networks (Yang et al., 2019)
    | https://arxiv.org/abs/1901.09024
    | Noise Robust Generative Adversarial Networks (Kaneko & Harada, 2020)
    | https://arxiv.org/abs/1911.11776
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

__all__ = ["diversity_loss"]


def diversity_loss(
    outputs: Tensor, z: Tensor, *, reduction: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Returns the negated mean ratio of output distance to latent distance, a scalar.

    Rows 2j and 2j + 1 form a pair, so that a batch cut among processes keeps its pairs.

    Arguments:
        outputs: What a generator made, with shape (2B, ...).
        z: Its latents, with shape (2B, D).
        reduction: Whether the distance of two outputs is the mean or the sum of the absolute
            differences; that of two latents is always the mean.

    Raises:
        ValueError: If the number of outputs is odd or the reduction unknown.
    """
    if len(outputs) % 2:
        raise ValueError(
            f"got {len(outputs)} outputs; the diversity loss compares pairs, so generate an even "
            "number in each process (an even training.batch, or system.batch_multiple=2)"
        )
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction={reduction!r} is not known; choose mean or sum")
    distance = (outputs[0::2] - outputs[1::2]).abs().flatten(1)
    distance = distance.sum(dim=1) if reduction == "sum" else distance.mean(dim=1)
    return -(distance / ((z[0::2] - z[1::2]).abs().mean(dim=1) + 1e-12)).mean()
