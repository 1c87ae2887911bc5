from dataclasses import FrozenInstanceError, dataclass

import pytest
import torch
from torch import Tensor

from blemish.types import Params


@dataclass(frozen=True)
class Leaf(Params):
    level: Tensor
    choice: Tensor


@dataclass(frozen=True)
class Tree(Params):
    kernel: Tensor
    leaf: Leaf
    stages: tuple[Params, ...]
    name: str = "tree"


def leaf(n: int, start: float = 0.0) -> Leaf:
    return Leaf(level=torch.arange(n) + start, choice=torch.arange(n))


def tree(n: int, start: float = 0.0) -> Tree:
    kernel = torch.arange(n, dtype=torch.float32).reshape(n, 1, 1, 1) + start
    return Tree(kernel.expand(n, 1, 3, 3), leaf(n, start), (leaf(n, start + 0.5), leaf(n)))


NAMES = {"kernel", "leaf.level", "leaf.choice"} | {
    f"stages.{i}.{field}" for i in (0, 1) for field in ("level", "choice")
}


def equal(a: Params, b: Params) -> bool:
    left, right = a.tensors(), b.tensors()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_tensors_are_named_by_their_path() -> None:
    given = tree(4)
    assert given.tensors().keys() == NAMES
    assert given.tensors()["stages.0.level"] is given.stages[0].level  # type: ignore[attr-defined]


def test_replacing_puts_tensors_where_their_names_say() -> None:
    given = tree(4)
    values = {name: torch.full((2,), i) for i, name in enumerate(sorted(NAMES))}
    made = given.replace_tensors(values)
    assert type(made) is Tree
    assert made.name == "tree"
    assert made.tensors() == values
    assert equal(given, tree(4))  # the original stays as it is
    assert equal(given.replace_tensors(given.tensors()), given)


@pytest.mark.parametrize("index", [0, 2, -1, -4])
def test_an_integer_keeps_the_batch(index: int) -> None:
    one = tree(4)[index]
    assert len(one) == 1
    assert one.kernel.shape == (1, 1, 3, 3)
    assert float(one.leaf.level) == index % 4


@pytest.mark.parametrize(
    "index",
    [slice(1, 3), [2, 0], torch.tensor([3, 3, 1]), torch.tensor([True, False, True, False])],
)
def test_selecting_selects_everywhere(index: slice | list[int] | Tensor) -> None:
    given = tree(4)
    some = given[index]
    assert some.tensors().keys() == NAMES
    for name, tensor in some.tensors().items():
        assert torch.equal(tensor, given.tensors()[name][index])


def test_looping_over_params_ends() -> None:
    assert [float(one.leaf.level) for one in tree(3)] == [0, 1, 2]  # type: ignore[attr-defined]
    for index in (3, -4):
        with pytest.raises(IndexError, match="in a batch of 3"):
            tree(3)[index]


def test_joining_undoes_splitting() -> None:
    given = tree(5)
    assert equal(Tree.cat([given[:2], given[2], given[3:]]), given)
    assert equal(Tree.cat([given[i] for i in range(5)]), given)
    assert len(Tree.cat([tree(2), tree(3)])) == 5


def test_joining_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one Params"):
        Tree.cat([])


def test_moving_casts_floating_tensors_alone() -> None:
    made = tree(2).to(torch.float64)
    for name, tensor in made.tensors().items():
        assert tensor.dtype == (torch.int64 if name.endswith("choice") else torch.float64)


@pytest.mark.parametrize("keyword", [False, True])
def test_moving_moves_all_tensors(keyword: bool) -> None:
    given = tree(2)
    made = given.to(device="meta") if keyword else given.to("meta", torch.float16)
    assert {t.device.type for t in made.tensors().values()} == {"meta"}
    assert made.leaf.choice.dtype == torch.int64


def test_detaching() -> None:
    level = torch.ones(2, requires_grad=True)
    given = Tree(2 * level, Leaf(3 * level, torch.arange(2)), ())
    assert given.leaf.level.requires_grad
    assert not any(t.requires_grad for t in given.detach().tensors().values())


def test_mapping_keeps_the_structure() -> None:
    doubled = tree(3).map(lambda t: 2 * t)
    assert isinstance(doubled.stages[1], Leaf)
    assert torch.equal(doubled.stages[1].level, 2 * torch.arange(3))


def test_summary_has_one_number_a_sample() -> None:
    summary = tree(3).summary()
    assert summary.keys() == {"leaf.level", "stages.0.level", "stages.1.level"}
    assert all(v.shape == (3,) for v in summary.values())


def test_params_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        leaf(2).level = torch.zeros(2)  # type: ignore[misc]
