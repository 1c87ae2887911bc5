import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.blur import blur, blur_adjoint

PADDINGS = ["reflect", "replicate", "circular", "zeros"]
METHODS = ["fft", "direct"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(b: int, c: int, h: int, w: int, seed: int = 0) -> Tensor:
    return torch.rand(b, c, h, w, dtype=torch.float64, generator=generator(seed))


def source(i: int, n: int, padding: str) -> int | None:
    """The pixel that stands at position i, which may lie beyond the border."""
    if 0 <= i < n:
        return i
    if padding == "reflect":
        return -i if i < 0 else 2 * (n - 1) - i
    return {"replicate": min(max(i, 0), n - 1), "circular": i % n, "zeros": None}[padding]


def slow_blur(x: Tensor, kernel: Tensor, padding: str) -> Tensor:
    """The definition of a convolution in nested loops."""
    y = torch.zeros_like(x)
    size, (h, w) = kernel.shape[-1], x.shape[-2:]
    for i in range(h):
        for j in range(w):
            for a in range(size):
                for b in range(size):
                    row = source(i - (a - size // 2), h, padding)
                    column = source(j - (b - size // 2), w, padding)
                    if row is not None and column is not None:
                        y[..., i, j] += kernel[..., a, b] * x[..., row, column]
    return y


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1, 3, 7])
def test_agrees_with_nested_loops(padding: str, method: str, size: int) -> None:
    x, kernel = images(2, 3, 7, 5), images(2, 1, size, size, seed=1)
    if size == 7:
        x = images(2, 3, 4, 6)  # the border is as wide as it can be
    assert_close(blur(x, kernel, padding=padding, method=method), slow_blur(x, kernel, padding))


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_a_kernel_may_be_larger_than_the_image(padding: str) -> None:
    x, kernel = images(1, 1, 3, 2), images(1, 1, 9, 9, seed=1)
    assert_close(blur(x, kernel, padding=padding, method="fft"), slow_blur(x, kernel, padding))
    assert_close(blur(x, kernel, padding=padding, method="direct"), slow_blur(x, kernel, padding))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(16, 16), (13, 18), (5, 31)])
def test_adjoint(padding: str, method: str, shape: tuple[int, int]) -> None:
    x, y, kernel = images(2, 3, *shape), images(2, 3, *shape, seed=1), images(2, 1, 9, 9, seed=2)
    left = (blur(x, kernel, padding=padding, method=method) * y).sum()
    right = (x * blur_adjoint(y, kernel, padding=padding, method=method)).sum()
    assert_close(left, right)


@pytest.mark.parametrize("padding", PADDINGS)
def test_adjoint_is_the_gradient(padding: str) -> None:
    x, y, kernel = images(2, 1, 8, 9), images(2, 1, 8, 9, seed=1), images(2, 1, 5, 5, seed=2)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(blur(x, kernel, padding=padding), x, y)
    assert_close(blur_adjoint(y, kernel, padding=padding), gradient)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [9, 31])
def test_fft_agrees_with_direct_in_single_precision(padding: str, size: int) -> None:
    x, kernel = images(3, 3, 32, 37).float(), images(3, 1, size, size, seed=1).float()
    kernel = kernel / kernel.sum((-2, -1), keepdim=True)
    fft = blur(x, kernel, padding=padding, method="fft")
    assert_close(fft, blur(x, kernel, padding=padding, method="direct"), rtol=0, atol=2e-6)
    assert fft.dtype == torch.float32


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dims", [(-1,), (-2,), (-2, -1)])
def test_flipping_image_and_kernel_flips_the_result(padding: str, dims: tuple[int, ...]) -> None:
    x, kernel = images(2, 3, 11, 14), images(2, 1, 7, 7, seed=1)
    flipped = blur(x.flip(dims), kernel.flip(dims), padding=padding)
    assert_close(flipped, blur(x, kernel, padding=padding).flip(dims))


def test_an_impulse_becomes_the_kernel() -> None:
    x = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    x[..., 4, 4] = 1
    kernel = images(1, 1, 9, 9)
    assert_close(blur(x, kernel, padding="zeros"), kernel)


@pytest.mark.parametrize("padding", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("method", METHODS)
def test_keeps_the_brightness_of_constant_images(padding: str, method: str) -> None:
    level = torch.tensor([0.0, 0.3, 1.0]).reshape(3, 1, 1, 1)
    kernel = torch.rand(3, 1, 7, 7, generator=generator())
    kernel = kernel / kernel.sum((-2, -1), keepdim=True)
    x = level.expand(3, 3, 12, 12)
    assert_close(blur(x, kernel, padding=padding, method=method), x, rtol=0, atol=1e-6)


def test_samples_do_not_mix() -> None:
    x, kernel = images(4, 3, 10, 10), images(4, 1, 5, 5, seed=1)
    alone = torch.cat([blur(x[i : i + 1], kernel[i : i + 1]) for i in range(4)])
    assert_close(blur(x, kernel), alone)


def test_circular_blurs_commute() -> None:
    x, k, h = images(1, 2, 9, 9), images(1, 1, 5, 5, seed=1), images(1, 1, 7, 7, seed=2)
    one = blur(blur(x, k, padding="circular"), h, padding="circular")
    assert_close(one, blur(blur(x, h, padding="circular"), k, padding="circular"))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("method", METHODS)
def test_gradients_agree_with_finite_differences(padding: str, method: str) -> None:
    x, kernel = images(2, 2, 4, 5).requires_grad_(), images(2, 1, 3, 3, seed=1).requires_grad_()
    for function in (blur, blur_adjoint):
        assert torch.autograd.gradcheck(
            lambda a, k, f=function: f(a, k, padding=padding, method=method), (x, kernel)
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_images_keep_their_dtype(dtype: torch.dtype, method: str) -> None:
    x, kernel = images(1, 3, 8, 8).to(dtype), torch.full((1, 1, 3, 3), 1 / 9)
    y = blur(x, kernel, method=method)
    assert y.dtype == dtype
    exact = blur(x.double(), kernel.double())
    assert_close(y.double(), exact, rtol=0, atol=torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("shape", "kernel", "padding", "message"),
    [
        ((1, 3, 8, 8), (1, 1, 4, 4), "reflect", "size 4 is not supported"),
        ((1, 3, 64, 64), (1, 1, 33, 33), "reflect", "up to 31"),
        ((2, 3, 8, 8), (1, 1, 3, 3), "reflect", r"expected \(2, 1, k, k\)"),
        ((2, 3, 8, 8), (2, 3, 3, 3), "reflect", r"expected \(2, 1, k, k\)"),
        ((2, 3, 8, 8), (2, 1, 3, 5), "reflect", r"expected \(2, 1, k, k\)"),
        ((3, 8, 8), (1, 1, 3, 3), "reflect", r"expected \(B, C, H, W\)"),
        ((1, 3, 8, 4), (1, 1, 9, 9), "reflect", "at most 3; use kernels up to size 7"),
        ((1, 3, 8, 4), (1, 1, 11, 11), "circular", "at most 4; use kernels up to size 9"),
        ((1, 3, 8, 8), (1, 1, 3, 3), "mirror", "choose reflect, replicate, circular, zeros"),
    ],
)
def test_says_what_does_not_fit(
    shape: tuple[int, ...], kernel: tuple[int, ...], padding: str, message: str
) -> None:
    for function in (blur, blur_adjoint):
        with pytest.raises(ValueError, match=message):
            function(torch.zeros(shape), torch.zeros(kernel), padding=padding)  # type: ignore[arg-type]


def test_says_which_methods_there_are() -> None:
    with pytest.raises(ValueError, match="choose auto, fft, direct"):
        blur(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3), method="winograd")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "kernel_gradient"), [(5, True), (13, False), (7, True), (15, False)]
)
def test_auto_is_one_of_the_two_methods(size: int, kernel_gradient: bool) -> None:
    x, kernel = images(1, 3, 17, 16).float(), images(1, 1, size, size, seed=1).float()
    kernel.requires_grad_(kernel_gradient)
    direct, fft = (blur(x, kernel, method=m) for m in ("direct", "fft"))  # type: ignore[arg-type]
    assert not torch.equal(direct, fft)  # rounding tells them apart
    assert torch.equal(blur(x, kernel), direct if size in (5, 13) else fft)
