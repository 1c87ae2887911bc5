"""The contrastive loss, its queue, and the encoder that follows another, against loops and closed forms."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

from blemish.functional.random import generator_for, randn
from blemish.losses import Queue, info_nce, momentum_update

B, D, K = 4, 6, 12


def codes(name: str, rows: int = B) -> Tensor:
    return randn((rows, D), generator_for("contrastive", name)).double()


def made(size: int = K) -> Queue:
    return Queue(size, D, generator_for("queue"))


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_info_nce_is_its_equation(temperature: float) -> None:
    query, key, queue = codes("q"), codes("k"), codes("n", K)
    expected = []
    for q, k in zip(query, key, strict=True):
        right = math.exp(cosine(q, k) / temperature)
        wrong = sum(math.exp(cosine(q, n) / temperature) for n in queue)
        expected.append(-math.log(right / (right + wrong)))
    found = info_nce(query, key, queue, temperature)
    assert_close(found, torch.tensor(expected).double())


def test_info_nce_in_closed_form() -> None:
    e = torch.eye(D).double()
    # A right answer among K orthogonal codes, one that is not told from them, and the opposite one.
    queue, tau = e[2:], 0.5
    n = len(queue)
    cases = {
        1.0: (e[0], e[0]),
        0.0: (e[0], e[1]),
        -1.0: (e[0], -e[0]),
    }
    for c, (q, k) in cases.items():
        expected = math.log(1 + n * math.exp(-c / tau))
        assert_close(info_nce(q[None], k[None], queue, tau).item(), expected)
    assert_close(info_nce(e[:1], e[1:2], queue, tau).item(), math.log(1 + n))
    assert info_nce(e[:1], e[1:2], queue[:0]).item() == 0


def test_the_length_of_a_code_does_not_count() -> None:
    query, key, queue = codes("q"), codes("k"), codes("n", K)
    found = info_nce(query, key, queue)
    assert_close(info_nce(3 * query, 0.2 * key, 7 * queue), found)
    # The gradient is orthogonal to the query, which it turns and does not stretch.
    query.requires_grad_()
    (gradient,) = torch.autograd.grad(info_nce(query, key, queue).sum(), query)
    assert_close((gradient * query).sum(dim=1), torch.zeros(B).double(), atol=1e-12, rtol=0)
    assert (gradient.norm(dim=1) > 0).all()


def test_info_nce_is_stable_differentiable_and_of_each_sample() -> None:
    query, key, queue = codes("q"), codes("k"), codes("n", K)
    found = info_nce(query, key, queue)
    rows = [info_nce(query[i : i + 1], key[i : i + 1], queue) for i in range(B)]
    assert_close(found, torch.cat(rows))
    assert info_nce(query, -query, query, 1e-3).isfinite().all()
    inputs = tuple(z.requires_grad_() for z in (query, key, queue))
    assert torch.autograd.gradcheck(lambda *z: info_nce(*z, temperature=0.3), inputs)


@pytest.mark.parametrize(
    ("rows", "width", "temperature", "message"),
    [
        (3, D, 0.07, r"got queries \(4, 6\), keys \(3, 6\) and a queue \(12, 6\); give \(B, D\)"),
        (B, 5, 0.07, r"keys \(4, 5\)"),
        (B, D, 0.0, r"temperature=0\.0; it must be positive"),
    ],
)
def test_info_nce_refuses(rows: int, width: int, temperature: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        info_nce(codes("q"), torch.ones(rows, width).double(), codes("n", K), temperature)


def test_a_queue_keeps_the_last_keys() -> None:
    queue = made()
    first = queue.keys
    assert_close(first.norm(dim=1), torch.ones(K))
    pushed = [codes(str(i)).float() for i in range(7)]
    for i, keys in enumerate(pushed):
        queue.push(keys)
        unit = keys / keys.norm(dim=1, keepdim=True)
        # Batch i goes to third i mod 3, and the others stay.
        assert_close(queue.keys.view(3, B, D)[i % 3], unit)
    kept = {tuple(row) for row in queue.keys.round(decimals=4).tolist()}
    last = torch.cat([k / k.norm(dim=1, keepdim=True) for k in pushed[-3:]])
    assert kept == {tuple(row) for row in last.round(decimals=4).tolist()}


def test_a_loss_can_be_differentiated_after_a_push() -> None:
    queue, query = made(), codes("q").float().requires_grad_()
    (expected,) = torch.autograd.grad(info_nce(query, query.detach(), queue.keys).sum(), query)
    loss = info_nce(query, query.detach(), queue.keys).sum()
    queue.push(query)
    assert not queue.keys.requires_grad
    (gradient,) = torch.autograd.grad(loss, query)
    assert torch.equal(gradient, expected)


def test_a_queue_goes_on_from_a_file(tmp_path: Path) -> None:
    queue, other = made(), Queue(K, D, generator_for("another"))
    queue.push(codes("1").float())
    assert not list(queue.parameters())
    save_file(queue.state_dict(), tmp_path / "queue.safetensors")
    other.load_state_dict(load_file(tmp_path / "queue.safetensors"))
    for q in (queue, other):
        q.push(codes("2").float())
    assert torch.equal(queue.keys, other.keys)
    assert torch.equal(queue.oldest, other.oldest)
    assert int(queue.oldest) == 2 * B


def test_a_queue_starts_from_its_generator() -> None:
    assert torch.equal(made().keys, made().keys)
    assert not torch.equal(made().keys, Queue(K, D, generator_for("another")).keys)


@pytest.mark.parametrize("shape", [(5, D), (24, D), (0, D), (B, D + 1)])
def test_a_queue_refuses_a_batch_that_does_not_divide_it(shape: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError, match=rf"got keys with shape \({shape[0]}, {shape[1]}\); this q"
    ):
        made().push(torch.ones(shape))


def test_a_queue_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"size, features=\(0, 3\); give positive numbers"):
        Queue(0, 3, generator_for("queue"))


def encoder(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_an_encoder_follows_another(momentum: float) -> None:
    leader, follower = encoder(1), encoder(2)
    leader(codes("b")[:, :3])
    before = copy.deepcopy(follower)
    steps = 5
    for _ in range(steps):
        momentum_update(follower, leader, momentum)
    # A leader that stands still is approached geometrically.
    left = momentum**steps
    for old, new, goal in zip(
        before.parameters(), follower.parameters(), leader.parameters(), strict=True
    ):
        assert_close(new, goal + left * (old - goal))
        assert new.grad_fn is None
        assert new.requires_grad
    for new, goal in zip(follower.buffers(), leader.buffers(), strict=True):
        assert torch.equal(new, goal)


def test_an_encoder_cannot_run_ahead() -> None:
    with pytest.raises(ValueError, match=r"momentum=1\.1; it must be in \[0, 1\]"):
        momentum_update(encoder(1), encoder(2), 1.1)
