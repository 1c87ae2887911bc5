"""How numbers of other programs become those of our networks; nothing here rounds, but for a shift by 1."""

from __future__ import annotations

from torch import Tensor

__all__ = [
    "as_map",
    "as_vector",
    "in_front",
    "plus_1",
    "same",
    "to_filters",
    "to_turned_filters",
    "transposed",
    "without_first",
]


def same(tensor: Tensor) -> Tensor:
    """Returns the tensor."""
    return tensor


def transposed(tensor: Tensor) -> Tensor:
    """Returns weights (outputs, inputs) of a linear layer, which TensorFlow stores as (inputs, outputs)."""
    return tensor.t()


def to_filters(tensor: Tensor) -> Tensor:
    """Returns filters (O, C, H, W) of a convolution, which TensorFlow stores as (H, W, C, O)."""
    return tensor.permute(3, 2, 0, 1)


def to_turned_filters(tensor: Tensor) -> Tensor:
    """Returns the filters (O, C, H, W), turned by 180 degrees, of those that TensorFlow stores as (H, W, C, O)."""
    return to_filters(tensor.flip(0, 1))


def plus_1(tensor: Tensor) -> Tensor:
    """Returns scales of those that are stored less 1."""
    return tensor + 1


def in_front(tensor: Tensor) -> Tensor:
    """Returns the tensor with shape (1, ...)."""
    return tensor[None]


def as_map(tensor: Tensor) -> Tensor:
    """Returns a map (1, 1, H, W) of one with shape (H, W)."""
    return tensor[None, None]


def without_first(tensor: Tensor) -> Tensor:
    """Returns the tensor of one with shape (1, ...)."""
    return tensor.squeeze(0)


def as_vector(tensor: Tensor) -> Tensor:
    """Returns all numbers in a row."""
    return tensor.flatten()
