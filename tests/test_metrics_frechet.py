from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.functional.random import generator_for, rand, randn
from blemish.metrics import Moments, frechet, frechet_distance, frechet_title
from blemish.metrics.frechet import merge_moments, pack_moments


def features(n: int, d: int, name: str = "a", scale: float = 1.0) -> Tensor:
    g = generator_for("frechet", name, n, d)
    mixing = randn((d, d), g).double() / d**0.5
    return scale * randn((n, d), g).double() @ mixing + rand((1, d), g).double()


def covariance(d: int, name: str) -> Tensor:
    return Moments.of(features(4 * d, d, name)).cov


def rotation(d: int) -> Tensor:
    return torch.linalg.qr(randn((d, d), generator_for("rotation", d)).double()).Q


@pytest.mark.parametrize("d", [1, 2, 7])
def test_diagonal_gaussians_have_the_closed_form(d: int) -> None:
    g = generator_for("diagonal", d)
    m_a, m_b, s_a, s_b = rand((4, d), g).double()
    expected = ((m_a - m_b) ** 2 + (s_a - s_b) ** 2).sum()
    result = frechet_distance(m_a, torch.diag(s_a**2), m_b, torch.diag(s_b**2))
    assert result == pytest.approx(float(expected), rel=1e-12)


def test_commuting_covariances_have_the_closed_form() -> None:
    q, (v_a, v_b) = rotation(6), rand((2, 6), generator_for("commuting")).double()
    C_a, C_b = q @ torch.diag(v_a) @ q.T, q @ torch.diag(v_b) @ q.T
    expected = (v_a.sqrt() - v_b.sqrt()).square().sum()
    zero = torch.zeros(6)
    assert frechet_distance(zero, C_a, zero, C_b) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("d", [2, 5, 40])
def test_agrees_with_a_matrix_square_root(d: int) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    C_a, C_b = covariance(d, "a"), covariance(d, "b")
    m_a, m_b = rand((2, d), generator_for("means", d)).double()
    root = linalg.sqrtm((C_a @ C_b).numpy())
    expected = float((m_a - m_b).square().sum() + (C_a + C_b).trace()) - 2 * np.trace(root).real
    assert frechet_distance(m_a, C_a, m_b, C_b) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("n", "d"), [(30, 4), (300, 64), (200, 100)])
def test_sets_of_features_agree_with_scipy(n: int, d: int) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    a, b = features(n, d, "a").numpy(), features(2 * n, d, "b", scale=1.3).numpy()
    C_a, C_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(C_a + C_b)
    expected -= 2 * np.trace(linalg.sqrtm(C_a @ C_b)).real
    assert frechet(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("n", "d"), [(500, 8), (20, 64), (2, 5)])
def test_is_zero_for_equal_sets_and_symmetric(n: int, d: int) -> None:
    a, b = features(n, d, "a"), features(n, d, "b", scale=2.0)
    assert frechet(a, a) == pytest.approx(0, abs=1e-10)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-10)
    assert frechet(a, b) > 0.1


def test_rank_deficient_covariances_reduce_to_their_subspace() -> None:
    # Features that live in 3 of 30 dimensions: the distance is that of the 3.
    a, b = features(50, 3, "a"), features(60, 3, "b")
    embedding = rotation(30)[:3]
    assert frechet(a @ embedding, b @ embedding) == pytest.approx(frechet(a, b), rel=1e-10)


def test_fewer_samples_than_dimensions_agree_with_the_gram_matrix() -> None:
    # tr (C_a^1/2 C_b C_a^1/2)^1/2 is the nuclear norm of the cross products of centred samples.
    a, b = features(12, 100, "a"), features(9, 100, "b")
    x, y = (a - a.mean(0)) / 11**0.5, (b - b.mean(0)) / 8**0.5
    expected = (a.mean(0) - b.mean(0)).square().sum() + x.square().sum() + y.square().sum()
    expected = expected - 2 * torch.linalg.matrix_norm(x @ y.T, "nuc")
    assert frechet(a, b) == pytest.approx(float(expected), rel=1e-10)


def test_rigid_motions_leave_it_and_scales_square_it() -> None:
    a, b = features(100, 10, "a"), features(80, 10, "b")
    shift = rand((1, 10), generator_for("shift")).double()
    moved = frechet(a @ rotation(10) + shift, b @ rotation(10) + shift)
    assert moved == pytest.approx(frechet(a, b), rel=1e-10)
    assert frechet(3 * a, 3 * b) == pytest.approx(9 * frechet(a, b), rel=1e-10)
    assert frechet(a, a + shift) == pytest.approx(float(shift.square().sum()), rel=1e-9)


@pytest.mark.parametrize("cuts", [[100], [1, 99], [30, 0, 33, 37]])
def test_streamed_and_merged_moments_equal_those_of_all(cuts: list[int]) -> None:
    a = features(100, 6)
    parts = a.split(cuts)
    streamed, merged = Moments(6), Moments(6)
    for part in parts:
        streamed.update(part)
        merged = merged.merge(Moments.of(part))
    for moments in (streamed, merged):
        assert moments.count == 100
        torch.testing.assert_close(moments.mean, a.mean(0))
        torch.testing.assert_close(moments.cov, torch.cov(a.T))


def test_moments_keep_their_precision_far_from_zero() -> None:
    a = features(1000, 4)
    moments = Moments(4)
    for part in (a + 1e7).split(64):
        moments.update(part)
    torch.testing.assert_close(moments.cov, torch.cov(a.T), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("cuts", [[100], [0, 100], [1, 60, 0, 39]])
def test_packed_moments_of_all_parts_merge_at_once(cuts: list[int]) -> None:
    # As processes exchange them; the offset costs sums of squares all digits of the variances.
    a = features(100, 6)
    packed = merge_moments(torch.stack([pack_moments(part) for part in (a + 1e7).split(cuts)]))
    moments = Moments.unpack(packed)
    assert (packed.shape, moments.count, moments.dimension) == ((8, 6), 100, 6)
    torch.testing.assert_close(moments.mean - 1e7, a.mean(0), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(moments.cov, torch.cov(a.T), rtol=1e-6, atol=1e-8)
    with pytest.raises(ValueError, match="saw 0 samples"):
        _ = Moments.unpack(pack_moments(a[:0])).mean


def test_only_inception_makes_it_fid() -> None:
    assert frechet_title("inception@299") == "FID"
    assert frechet_title("effnet-lite0@96") == "Fréchet distance (effnet-lite0@96)"


def test_merge_leaves_its_arguments_as_they_were() -> None:
    a, b = Moments.of(features(10, 3, "a")), Moments.of(features(10, 3, "b"))
    before = a.cov
    merged = a.merge(b)
    assert a.count == b.count == 10
    assert torch.equal(a.cov, before)
    merged.update(features(5, 3))
    assert torch.equal(a.cov, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frechet(torch.zeros(1, 3), torch.zeros(5, 3)), "at least 2"),
        (lambda: frechet(torch.zeros(5), torch.zeros(5)), r"\(N, D\)"),
        (lambda: frechet(torch.full((4, 2), torch.nan), torch.zeros(4, 2)), "4 of 4"),
        (lambda: frechet(torch.zeros(4, 2), torch.zeros(4, 3)), "dimension 2 and 3"),
        (lambda: Moments(3).update(torch.zeros(4, 2)), "dimension 2 after 3"),
        (lambda: Moments(3).merge(Moments(2)), "3 and 2"),
        (lambda: Moments(0), "at least 1"),
        (lambda: Moments(2).mean, "saw 0"),
        (
            lambda: frechet_distance(
                torch.zeros(1), torch.full((1, 1), torch.inf), torch.zeros(1), torch.ones(1, 1)
            ),
            "cov_a is not finite",
        ),
    ],
)
def test_refuses_what_has_no_distance(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("N", "M", "D"), [(5, 7, 20), (20, 21, 20), (9, 40, 20), (2, 2, 3)])
def test_few_samples_are_their_own_factor(N: int, M: int, D: int) -> None:
    g = torch.Generator().manual_seed(N)
    x, y = torch.randn(N, D, generator=g) + 3, 2 * torch.randn(M, D, generator=g)
    a, b = Moments.of(x), Moments.of(y)
    expected = frechet_distance(a.mean, a.cov, b.mean, b.cov)
    assert frechet(x, y) == pytest.approx(expected, rel=1e-9)
