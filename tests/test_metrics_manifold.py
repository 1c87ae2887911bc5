from __future__ import annotations

import dataclasses
import sys

import pytest
import torch
from torch import Tensor

from blemish.functional.random import generator_for, rand, randn
from blemish.metrics import ManifoldScores, manifold, manifold_title, squared_radii


def features(n: int, d: int = 4, name: str = "a") -> Tensor:
    return randn((n, d), generator_for("manifold", name, n, d)).double()


def scores(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, ...]:
    return dataclasses.astuple(manifold(real, fake, k))


def slow_scores(real: Tensor, fake: Tensor, k: int) -> tuple[float, ...]:
    def distance(a: Tensor, b: Tensor) -> float:
        return float((a - b).square().sum())

    def radius(i: int, points: Tensor) -> float:
        others = [distance(points[i], p) for j, p in enumerate(points) if j != i]
        return sorted(others)[k - 1]

    r, s = ([radius(i, points) for i in range(len(points))] for points in (real, fake))
    inside = [[distance(x, y) <= r[i] for y in fake] for i, x in enumerate(real)]
    found = [[distance(x, y) <= s[j] for j, y in enumerate(fake)] for x in real]
    N, M = len(real), len(fake)
    return (
        sum(any(row[j] for row in inside) for j in range(M)) / M,
        sum(map(any, found)) / N,
        sum(map(sum, inside)) / (k * M),
        sum(map(any, inside)) / N,
    )


@pytest.mark.parametrize(("n", "m", "d"), [(20, 20, 2), (25, 13, 5), (6, 30, 1)])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("block", [4, 2048])
def test_agrees_with_loops(
    n: int, m: int, d: int, k: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The package exports the function under the name of its module.
    monkeypatch.setattr(sys.modules["blemish.metrics.manifold"], "_BLOCK", block)
    real, fake = features(n, d), 0.8 * features(m, d, "b") + 0.3
    assert scores(real, fake, k) == pytest.approx(slow_scores(real, fake, k), abs=1e-12)


def test_integers_with_many_ties_agree_with_loops() -> None:
    g = generator_for("ties")
    real, fake = ((4 * rand((n, 2), g)).floor().double() for n in (40, 30))
    for k in (1, 2, 4):
        assert scores(real, fake, k) == pytest.approx(slow_scores(real, fake, k), abs=1e-12)


def test_four_points_on_a_line() -> None:
    # With k = 1 the balls around 0, 1, 10 have radii 1, 1, 9: they hold [-1, 2] and [1, 19].
    real = torch.tensor([[0.0], [1.0], [10.0]])
    fake = torch.tensor([[-0.5], [1.5], [2.5], [30.0]])
    # The balls around the fakes: radii 2, 1, 1, 27.5, which hold [-2.5, 3.5] and [2.5, 57.5].
    expected = ManifoldScores(precision=3 / 4, recall=1.0, density=4 / 4, coverage=1.0)
    assert manifold(real, fake, 1) == expected


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("n", [30, 300])
def test_a_set_and_itself(k: int, n: int) -> None:
    # Each ball holds its own centre and k neighbours, the last of them on its surface.
    a = features(n, 64).float()
    order = rand((n,), generator_for("order")).argsort()
    assert scores(a, a[order], k) == pytest.approx((1, 1, (k + 1) / k, 1), abs=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_collapsed_mode_is_seen_at_its_own_scale(offset: float) -> None:
    # The spread is 1e-4 of the distance between modes; in float32 rounding would be all there is.
    modes = features(4, 50, "modes").repeat(20, 1)
    noise = features(80, 50, "noise")
    expected = slow_scores(modes + 1e-4 * noise, modes + 1e-4 * noise.flip(1), 5)
    moved = modes + 1e-4 * noise + offset, modes + 1e-4 * noise.flip(1) + offset
    assert scores(*moved) == pytest.approx(expected, abs=2e-2 if offset else 1e-12)


def test_far_apart_is_nothing_and_one_mode_is_precise() -> None:
    real = features(200)
    assert scores(real, real + 100) == (0, 0, 0, 0)
    one = manifold(real, real[:1] + 1e-3 * features(50, 4, "b"))
    assert one.precision == 1
    assert one.recall < 0.1
    assert one.coverage < 0.2


def test_recall_is_precision_with_the_sets_exchanged() -> None:
    a, b = features(60), 1.2 * features(50, 4, "b")
    assert manifold(a, b).recall == manifold(b, a).precision


def test_samples_of_one_distribution_have_the_expected_density_and_coverage() -> None:
    N, M, k = 12, 9, 3
    draws = [scores(features(N, 3, f"x{i}"), features(M, 3, f"y{i}"), k) for i in range(400)]
    density, coverage = torch.tensor(draws).T[2:]
    # A ball is empty of generated points where the k nearest of all others are real.
    missed = 1.0
    for t in range(1, k + 1):
        missed *= (N - t) / (N + M - t)
    assert abs(float(density.mean()) - 1) < 4 * float(density.std()) / 400**0.5
    assert abs(float(coverage.mean()) - (1 - missed)) < 4 * float(coverage.std()) / 400**0.5
    assert float(coverage.std()) < 0.2


def test_rigid_motions_and_scales_change_nothing() -> None:
    a, b = features(80, 6), 0.9 * features(70, 6, "b") + 0.2
    q = torch.linalg.qr(features(6, 6, "rotation")).Q
    assert scores(3 * a @ q - 50, 3 * b @ q - 50) == scores(a, b)


def test_one_outlier_spoils_precision_and_not_density() -> None:
    real, fake = features(100), features(100, 4, "b") + 8
    before = manifold(real, fake)
    after = manifold(torch.cat([real, torch.full((1, 4), 20.0)]), fake)
    assert before.precision < 0.05 < 0.9 < after.precision
    assert after.density < 0.3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: manifold(a[:5], a), "sets of 5 and 9 features; each must have at least 6"),
        (lambda a: manifold(a, a[:3], 3), "at least 4"),
        (lambda a: manifold(a, a, 0), "k is 0"),
        (lambda a: manifold(a, a[:, :2]), "dimension 4 and 2"),
        (lambda a: manifold(a / 0, a), "not finite"),
    ],
)
def test_refuses_what_has_no_neighbours(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(features(9))


def test_the_title_has_the_features_and_the_neighbours() -> None:
    assert "(pixels@8, k = 3)" in manifold_title("pixels@8", 3)


def test_known_radii_change_nothing_and_hold_k_neighbours() -> None:
    # The second set lies far away: each set's radii are rounded at its own scale.
    a, b = features(60, 8), 1e-3 * features(50, 8, "b") + 1e3
    for real, fake, k in ((a, b, 3), (b, a, 3), (a, 0.9 * a + 0.1, 5)):
        radii = squared_radii(real, k), squared_radii(fake, k)
        assert manifold(real, fake, k, radii=radii) == manifold(real, fake, k)
        exact = torch.cdist(real, real, compute_mode="donot_use_mm_for_euclid_dist").square()
        exact = exact.sort(dim=1).values[:, k]
        assert bool((radii[0] >= exact).all())
        torch.testing.assert_close(radii[0], exact, rtol=1e-9, atol=0)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_a_far_set_holds_its_own_neighbours(offset: float) -> None:
    # Cross distances are rounded around the other set's centre, radii around their own.
    real = features(40, 32).float()
    fake = (0.1 * features(40, 32, "b") + offset).float()
    both = torch.cat([real, fake])
    assert manifold(both, fake, 2).precision == 1
    assert manifold(fake, both, 2).recall == 1
    assert manifold(real, both, 2).recall == 1


def test_radii_refuse_what_has_no_neighbours() -> None:
    with pytest.raises(ValueError, match="got 5 features; at least 6 have 5 neighbours"):
        squared_radii(features(5))
    with pytest.raises(ValueError, match="not finite"):
        squared_radii(features(9) / 0)
    with pytest.raises(ValueError, match="k is 0"):
        squared_radii(features(9), 0)
