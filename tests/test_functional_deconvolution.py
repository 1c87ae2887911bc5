import pytest
import torch
from torch.testing import assert_close

from blemish.functional.blur import blur
from blemish.functional.deconvolution import (
    hyper_laplacian,
    shrink_hyper_laplacian,
    solve_quadratic,
)
from blemish.functional.kernels import disk


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=generator(seed), dtype=torch.float64)


def kernels(n: int, size: int, seed: int = 1) -> torch.Tensor:
    k = images(n, 1, size, size, seed=seed)
    return k / k.sum((-2, -1), keepdim=True)


def pieces(n: int = 1, side: int = 32) -> torch.Tensor:
    """Bright and coloured rectangles on a ramp."""
    x = torch.linspace(0.2, 0.4, side).expand(n, 3, side, side).clone()
    x[..., 6:20, 8:26] = torch.tensor([0.9, 0.5, 0.2]).view(3, 1, 1)
    x[..., 14:28, 3:13] = torch.tensor([0.1, 0.3, 0.7]).view(3, 1, 1)
    return x


def psnr(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return -10 * (x - y).square().mean((1, 2, 3)).log10()


@pytest.mark.parametrize("alpha", [0.5, 2 / 3, 0.8])
@pytest.mark.parametrize("beta", [1.0, 8.0, 181.0])
def test_shrinkage_is_as_good_as_a_fine_grid(alpha: float, beta: float) -> None:
    v = torch.linspace(-1.97, 1.98, 41, dtype=torch.float64)
    grid = torch.linspace(-2, 2, 100_001, dtype=torch.float64)

    def energy(w: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return w.abs() ** alpha + beta / 2 * (w - v).square()

    w = shrink_hyper_laplacian(v, beta, alpha)
    best = torch.stack([grid[energy(grid, value).argmin()] for value in v])
    assert_close(w, best, rtol=0, atol=1e-4)  # the grid's step is 4e-5
    lowest = torch.stack([energy(grid, value).min() for value in v])
    assert ((energy(w, v) - lowest) <= 1e-9).all()


@pytest.mark.parametrize("alpha", [0.5, 2 / 3, 0.8])
def test_shrunk_gradients_solve_the_equation(alpha: float) -> None:
    v = torch.linspace(1.6, 30, 200, dtype=torch.float64)
    for beta in (1.0, 4.0, 181.0):
        w = shrink_hyper_laplacian(v, beta, alpha)
        large = w > 0
        assert large.any()
        residual = alpha * w[large] ** (alpha - 1) + beta * (w[large] - v[large])
        assert residual.abs().max() < 1e-6
        assert_close(shrink_hyper_laplacian(-v, beta, alpha), -w)


def circular_matrix(function: object, n: int) -> torch.Tensor:
    assert callable(function)
    basis = torch.eye(n * n, dtype=torch.float64).view(n * n, 1, n, n)
    return function(basis).flatten(1).T


@pytest.mark.parametrize("size", [3, 5])
def test_fourier_solution_equals_dense_normal_equations(size: int) -> None:
    n, ratio = 6, 3.7
    y, k, w = images(1, 1, n, n), kernels(1, size), images(2, 1, 1, n, n, seed=2)
    a = circular_matrix(lambda x: blur(x, k.expand(len(x), -1, -1, -1), padding="circular"), n)
    d_1 = circular_matrix(lambda x: x.roll(-1, -1) - x, n)
    d_2 = circular_matrix(lambda x: x.roll(-1, -2) - x, n)
    normal = ratio * a.T @ a + d_1.T @ d_1 + d_2.T @ d_2
    right = ratio * a.T @ y.flatten() + d_1.T @ w[0].flatten() + d_2.T @ w[1].flatten()
    expected = torch.linalg.solve(normal, right).view_as(y)
    assert_close(solve_quadratic(y, k, w, ratio), expected)


@pytest.mark.parametrize("padding", ["reflect", "circular"])
@pytest.mark.parametrize("shape", [(32, 32), (17, 26)])
def test_undoes_blur_of_pieces(padding: str, shape: tuple[int, int]) -> None:
    x = pieces()[..., : shape[0], : shape[1]]
    for kernel in (disk(torch.tensor([1.7]), 9), kernels(1, 5).float()):
        y = blur(x, kernel, padding=padding)
        restored = hyper_laplacian(y, kernel, padding=padding)
        assert restored.shape == x.shape
        assert psnr(restored, x) > psnr(y, x) + 6


def test_a_reflected_border_is_nearly_as_good_as_the_middle() -> None:
    x, kernel = pieces(), disk(torch.tensor([2.0]), 9)
    error = (hyper_laplacian(blur(x, kernel), kernel) - x).abs()
    wrong = hyper_laplacian(blur(x, kernel), kernel, padding="circular") - x
    assert error[..., :4].mean() < 2 * error.mean()
    assert wrong.abs()[..., :4].mean() > 3 * error[..., :4].mean()


def test_constant_images_stay_and_an_identity_kernel_changes_little() -> None:
    level = torch.tensor([0.0, 0.4, 1.0]).view(3, 1, 1, 1).expand(3, 1, 12, 13)
    assert_close(hyper_laplacian(level, kernels(3, 7).float()), level, rtol=0, atol=1e-5)
    x, identity = pieces(), torch.zeros(1, 1, 9, 9)
    identity[..., 4, 4] = 1
    assert psnr(hyper_laplacian(x, identity), x) > 60


def test_batch_equals_loop_and_one_kernel_serves_all() -> None:
    y, k = images(3, 2, 14, 12), kernels(3, 5)
    alone = torch.cat([hyper_laplacian(y[i : i + 1], k[i : i + 1]) for i in range(3)])
    assert_close(hyper_laplacian(y, k), alone)
    shared = hyper_laplacian(y, k[:1])
    assert_close(shared, hyper_laplacian(y, k[:1].expand(3, -1, -1, -1)))


def test_flipping_image_and_kernel_along_the_diagonal() -> None:
    y, k = images(1, 1, 14, 12), kernels(1, 5)
    assert_close(hyper_laplacian(y.mT, k.mT), hyper_laplacian(y, k).mT)


def test_half_precision_keeps_its_dtype() -> None:
    assert hyper_laplacian(pieces().half(), kernels(1, 5)).dtype == torch.float16


@pytest.mark.parametrize(
    ("shape", "kernel", "options", "message"),
    [
        ((3, 8, 8), (1, 1, 3, 3), {}, r"expected floats in \[0, 1\] with shape \(B, C, H, W\)"),
        ((4, 3, 8, 8), (3, 1, 3, 3), {}, r"expected \(4, 1, k, k\)"),
        ((1, 3, 8, 8), (1, 1, 4, 4), {}, "size 4 has no middle"),
        ((1, 3, 8, 8), (1, 1, 3, 3), {"fidelity": 0.0}, "fidelity=0.0"),
        ((1, 3, 8, 8), (1, 1, 3, 3), {"alpha": 1.0}, "alpha=1.0"),
        ((1, 3, 8, 8), (1, 1, 3, 3), {"padding": "zeros"}, "choose reflect, circular"),
    ],
)
def test_says_what_does_not_fit(shape: tuple, kernel: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hyper_laplacian(torch.zeros(shape), torch.zeros(kernel), **options)
