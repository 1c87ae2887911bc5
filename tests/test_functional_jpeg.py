import io
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from blemish.functional import jpeg as module
from blemish.functional.jpeg import CHROMA, LUMA, jpeg, pillow_jpeg, quantisation_tables

SUBSAMPLINGS = ["4:2:0", "4:4:4"]
ROUNDINGS = ["cubic", "straight-through", "hard"]


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def smooth(*shape: int, seed: int = 0, noise: float = 0.05) -> Tensor:
    """Random images with large structures and a little noise."""
    b, c, h, w = shape
    coarse = images(b, c, 2 + h // 12, 2 + w // 12, seed=seed, dtype=torch.float32)
    x = F.interpolate(coarse, (h, w), mode="bicubic", align_corners=True)
    return (x + noise * (images(*shape, seed=seed + 1, dtype=torch.float32) - 0.5)).clamp(0, 1)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    return -10 * torch.log10((x - y).square().mean((1, 2, 3)))


def photos(folder: Path, count: int) -> Tensor:
    paths = sorted(folder.glob("photos/test/*.png"))[:count]
    assert len(paths) == count
    x = np.stack([np.array(Image.open(path).convert("RGB")) for path in paths])
    return torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255


# A slow codec, written from the standard: one image, nested loops.


def slow_table(base: tuple[tuple[int, ...], ...], q: int) -> list[list[int]]:
    scale = 5000 // q if q < 50 else 200 - 2 * q
    return [[min(max((t * scale + 50) // 100, 1), 255) for t in row] for row in base]


COSINE = [[math.cos((2 * i + 1) * u * math.pi / 16) for i in range(8)] for u in range(8)]
WEIGHT = [math.sqrt(0.125)] + [0.5] * 7


def slow_block(block: list[list[float]], table: list[list[int]]) -> list[list[float]]:
    cells = list(product(range(8), range(8)))
    c = [[0.0] * 8 for _ in range(8)]
    for u, v in cells:
        total = sum(block[i][j] * COSINE[u][i] * COSINE[v][j] for i, j in cells)
        c[u][v] = table[u][v] * round(WEIGHT[u] * WEIGHT[v] * total / table[u][v])
    back = [[0.0] * 8 for _ in range(8)]
    for i, j in cells:
        back[i][j] = sum(
            WEIGHT[u] * WEIGHT[v] * c[u][v] * COSINE[u][i] * COSINE[v][j] for u, v in cells
        )
    return back


def slow_plane(sample, rows: int, columns: int, table: list[list[int]]) -> list[list[float]]:
    """Compresses the plane of samples (i, j); the last row goes on below, columns are the caller's matter."""
    plane = [[0.0] * (columns + 7) for _ in range(rows + 7)]
    for i0, j0 in product(range(0, rows, 8), range(0, columns, 8)):
        block = [[sample(min(i0 + i, rows - 1), j0 + j) for j in range(8)] for i in range(8)]
        back = slow_block(block, table)
        for i, j in product(range(8), range(8)):
            plane[i0 + i][j0 + j] = min(max(back[i][j], -128), 127)
    return [row[:columns] for row in plane[:rows]]


def slow_enlarged(plane: list[list[float]], i: int, j: int, chroma: str) -> float:
    if chroma == "nearest":
        return plane[i // 2][j // 2]
    rows, columns = len(plane), len(plane[0])
    i2 = min(max(i // 2 + (1 if i % 2 else -1), 0), rows - 1)  # the second nearest sample
    j2 = min(max(j // 2 + (1 if j % 2 else -1), 0), columns - 1)
    near = 0.75 * plane[i // 2][j // 2] + 0.25 * plane[i2][j // 2]
    far = 0.75 * plane[i // 2][j2] + 0.25 * plane[i2][j2]
    return 0.75 * near + 0.25 * far


def slow_jpeg(x: Tensor, q: int, subsampling: str, chroma: str) -> Tensor:
    _, height, width = x.shape
    step = 2 if subsampling == "4:2:0" else 1
    rgb = (255 * x).tolist()

    def pixel(i: int, j: int) -> tuple[float, float, float]:
        r, g, b = (rgb[c][min(i, height - 1)][min(j, width - 1)] for c in range(3))
        y = 0.299 * r + 0.587 * g + 0.114 * b
        return y - 128, (b - y) / 1.772, (r - y) / 1.402

    def mean(channel: int, i: int, j: int) -> float:
        cells = list(product(range(step), range(step)))
        return sum(pixel(step * i + a, step * j + b)[channel] for a, b in cells) / len(cells)

    luma, coarse = slow_table(LUMA, q), slow_table(CHROMA, q)
    size = -(-height // step), -(-width // step)
    y = slow_plane(lambda i, j: pixel(i, j)[0], height, width, luma)
    cb = slow_plane(lambda i, j: mean(1, i, j), *size, coarse)
    cr = slow_plane(lambda i, j: mean(2, i, j), *size, coarse)
    out = torch.empty_like(x)
    for i, j in product(range(height), range(width)):
        if step == 1:
            b, r = cb[i][j], cr[i][j]
        else:
            b, r = (slow_enlarged(plane, i, j, chroma) for plane in (cb, cr))
        base = y[i][j] + 128
        out[0, i, j], out[2, i, j] = base + 1.402 * r, base + 1.772 * b
        out[1, i, j] = base - (0.299 * 1.402 * r + 0.114 * 1.772 * b) / 0.587
    return (out / 255).clamp(0, 1)


@pytest.mark.parametrize("chroma", ["bilinear", "nearest"])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("size", [(16, 16), (10, 22), (19, 7)])
def test_agrees_with_nested_loops(size: tuple[int, int], subsampling: str, chroma: str) -> None:
    x, q = images(2, 3, *size), torch.tensor([15, 85])
    fast = jpeg(x, q, subsampling=subsampling, rounding="hard", chroma=chroma)
    slow = [slow_jpeg(x[i], int(q[i]), subsampling, chroma) for i in range(2)]
    assert_close(fast, torch.stack(slow), rtol=0, atol=1e-10)


@pytest.mark.parametrize("u", [-2.5, -1.2, -0.4, 0.0, 0.3, 0.5, 1.0, 3.3])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_rounds_the_mean_of_a_flat_image(rounding: str, u: float) -> None:
    # The only coefficient is 8 times the flat value (minus 128), which q = 50 divides by 16.
    x = torch.full((1, 1, 8, 8), (128 + 2 * u) / 255, dtype=torch.float64)
    r = float(torch.tensor(u).round())
    expected = r + (u - r) ** 3 if rounding == "cubic" else r
    y = jpeg(x, 50, rounding=rounding)
    if abs(u % 1 - 0.5) > 1e-9:
        assert_close(y, torch.full_like(y, (128 + 2 * expected) / 255))
    else:  # rounded to either side, at the same distance
        assert_close((y - x).abs(), torch.full_like(y, 2 * abs(expected - u) / 255))


def test_tables_are_those_in_pillows_files() -> None:
    qualities = torch.arange(1, 101)
    luma, chroma = quantisation_tables(qualities)
    for q in qualities.tolist():
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG", quality=q)
        tables = Image.open(file).quantization
        assert luma[q - 1].flatten().tolist() == list(tables[0])
        assert chroma[q - 1].flatten().tolist() == list(tables[1])


def test_tables_between_whole_qualities() -> None:
    q = torch.tensor([0.0, 1.0, 12.5, 50.0, 77.7, 100.0, 120.0], dtype=torch.float64)
    whole, smooth = quantisation_tables(q)[0], quantisation_tables(q, table="continuous")[0]
    assert whole.shape == (7, 8, 8)
    assert ((whole == whole.round()) & (whole >= 1) & (whole <= 255)).all()
    assert_close(smooth[3], torch.tensor(LUMA, dtype=torch.float64))
    assert_close(smooth[4], torch.tensor(LUMA, dtype=torch.float64) * 0.446)
    assert_close(whole[[0, -1]], whole[[1, -2]])  # clamped
    # Rounding S down costs less than 1 % of t, rounding t S / 100 at most a half.
    unclamped = (smooth > 1) & (smooth < 255)
    bound = 0.5 + torch.tensor(LUMA, dtype=torch.float64) / 100
    assert ((whole - smooth).abs() <= bound)[unclamped].all()
    assert quantisation_tables(75)[1].shape == (1, 8, 8)


@pytest.mark.parametrize("table", ["integer", "continuous"])
def test_gradient_of_tables(table: str) -> None:
    q = torch.tensor([1.0, 20.0, 60.0, 98.0, 100.0], dtype=torch.float64, requires_grad=True)
    tables = torch.cat(quantisation_tables(q, table=table), dim=-1)
    (gradient,) = torch.autograd.grad(tables.sum(), q)
    high, low = (
        torch.cat(quantisation_tables(q + e, table="continuous"), -1) for e in (1e-6, -1e-6)
    )
    difference = ((high - low) / 2e-6).sum((1, 2))
    assert_close(gradient[1:4], difference[1:4], rtol=1e-6, atol=1e-4)
    assert gradient[0] == gradient[-1] == 0  # all entries are clamped


@pytest.mark.parametrize("rounding", ["cubic", "hard"])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("size", [(64, 64), (33, 47), (8, 3), (1, 1)])
@pytest.mark.parametrize(("noise", "least"), [(0.0, 40.5), (0.3, 36.5)])
def test_is_near_pillow(
    noise: float, least: float, size: tuple[int, int], subsampling: str, rounding: str
) -> None:
    # libjpeg rounds after each step, which tips some coefficients over: more of them in noise.
    x = smooth(16, 3, *size, noise=noise).mul(255).round() / 255
    for q in (20, 60, 95):
        real = pillow_jpeg(x, q, subsampling=subsampling)
        y = jpeg(x, q, subsampling=subsampling, rounding=rounding)
        assert psnr(y, real).mean() >= least


@pytest.mark.parametrize("size", [(33, 47), (34, 46), (40, 36), (39, 41)])
def test_is_as_near_pillow_at_the_border_as_inside(size: tuple[int, int]) -> None:
    x = smooth(24, 3, *size, noise=0.1).mul(255).round() / 255
    error = (jpeg(x, 80, rounding="hard") - pillow_jpeg(x, 80)).square().mean((0, 1))
    border = torch.cat((error[-2:].flatten(), error[:, -2:].flatten()))
    assert border.mean() < 1.6 * error[8:-8, 8:-8].mean()


def test_grey_is_near_pillow() -> None:
    x = smooth(16, 1, 33, 47).mul(255).round() / 255
    for q in (20, 60, 95):
        real = pillow_jpeg(x, q)
        assert psnr(jpeg(x, q, rounding="hard"), real).mean() >= 52
        assert psnr(jpeg(x, q), real).mean() >= 46


@pytest.mark.parametrize("q", [20, 60, 95])
def test_is_near_pillow_on_photographs(q: int, data_folder: Path) -> None:
    for x in photos(data_folder, 6).split(1):
        assert psnr(jpeg(x, q), pillow_jpeg(x, q)) >= 39


@pytest.mark.parametrize("q", [30, 90])
def test_sign_of_the_quality_gradient_on_photographs(q: int, data_folder: Path) -> None:
    x = photos(data_folder, 6)[..., :250, :250]
    high, low = ((pillow_jpeg(x, q + e) - x).square().mean((1, 2, 3)) for e in (5, -5))
    quality = torch.full((6,), float(q), requires_grad=True)
    (gradient,) = torch.autograd.grad((jpeg(x, quality) - x).square().sum(), quality)
    assert_close(gradient.sign(), (high - low).sign())


@pytest.mark.parametrize("q", [10.0, 30.0, 50.0, 70.0, 90.0])
def test_distortion_says_raise_the_quality(q: float) -> None:
    x = smooth(8, 3, 40, 40, noise=0.2)
    quality = torch.full((8,), q, requires_grad=True)
    (gradient,) = torch.autograd.grad((jpeg(x, quality) - x).square().sum(), quality)
    assert (gradient < 0).all()


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_has_its_own_quality(channels: int, subsampling: str) -> None:
    x, q = images(4, channels, 20, 24), torch.tensor([5.0, 49.5, 50.5, 99.0])
    together = jpeg(x, q, subsampling=subsampling)
    alone = [jpeg(x[i : i + 1], float(q[i]), subsampling=subsampling) for i in range(4)]
    assert_close(together, torch.cat(alone))
    real = pillow_jpeg(x, torch.tensor([5, 40, 60, 100]), subsampling=subsampling)
    assert_close(real[2:3], pillow_jpeg(x[2:3], 60, subsampling=subsampling))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 1, 8, 8), {}),
        ((1, 1, 5, 11), {}),
        ((1, 3, 9, 10), {}),
        ((1, 3, 9, 10), {"subsampling": "4:4:4"}),
        ((1, 3, 6, 9), {"chroma": "nearest"}),
    ],
)
def test_gradients_are_those_of_finite_differences(
    shape: tuple[int, ...], options: dict[str, str]
) -> None:
    # Middle grey stays clear of the clipping; a random quality keeps coefficients clear of half integers.
    x = (0.3 + 0.4 * images(*shape)).requires_grad_()
    q = torch.tensor([61.37], dtype=torch.float64, requires_grad=True)

    def codec(x: Tensor, q: Tensor) -> Tensor:
        return jpeg(x, q, table="continuous", **options)

    assert torch.autograd.gradcheck(codec, (x, q), eps=1e-7, atol=1e-5, fast_mode=True)
    assert torch.autograd.gradgradcheck(codec, (x, q), eps=1e-7, atol=1e-5, fast_mode=True)


def test_image_gradient_does_not_depend_on_how_tables_get_theirs() -> None:
    # At q = 50 both kinds of tables are the same numbers.
    x = images(2, 3, 16, 16).requires_grad_()
    gradients = [
        torch.autograd.grad(jpeg(x, 50, table=table).square().sum(), x)[0]
        for table in ("integer", "continuous")
    ]
    assert_close(*gradients)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_quality_gradient_is_that_of_quantisation_noise(rounding: str) -> None:
    # A flat image has one coefficient c = 8 p, so y = 128 + T R(c / T) / 8 with dy = (R - c / T) / 8 dT.
    x = torch.full((1, 1, 8, 8), 0.71, dtype=torch.float64)
    q = torch.tensor([30.0], dtype=torch.float64, requires_grad=True)
    table = math.floor((16 * (5000 // 30) + 50) / 100)
    u = 8 * (255 * 0.71 - 128) / table
    rounded = round(u) + ((u - round(u)) ** 3 if rounding == "cubic" else 0.0)
    slope = 16 / 100 * -5000 / 30**2
    (gradient,) = torch.autograd.grad(jpeg(x, q, rounding=rounding).mean(), q)
    assert_close(gradient.item(), (rounded - u) / 8 / 255 * slope)


def test_straight_through_keeps_the_gradient_of_the_image_and_hard_has_none() -> None:
    x = (0.4 + 0.2 * images(2, 1, 16, 16)).requires_grad_()
    weight = images(2, 1, 16, 16, seed=1)
    (through,) = torch.autograd.grad((jpeg(x, 80, rounding="straight-through") * weight).sum(), x)
    assert_close(through, weight)  # the transforms are orthonormal
    (none,) = torch.autograd.grad((jpeg(x, 80, rounding="hard") * weight).sum(), x)
    assert (none == 0).all()


@pytest.mark.parametrize("table", ["integer", "continuous"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("q", [-3.0, 0.0, 1.0, 50.0, 99.0, 99.9, 100.0, 130.0])
def test_gradients_are_finite(q: float, rounding: str, table: str) -> None:
    flat = torch.tensor([0.0, 1.0, 0.5, 0.3])[:, None, None, None].expand(4, 3, 20, 17)
    x = torch.cat((flat, smooth(4, 3, 20, 17))).requires_grad_()
    quality = torch.full((8,), q, requires_grad=True)
    y = jpeg(x, quality, rounding=rounding, table=table)
    gradients = torch.autograd.grad((y - 0.4).square().sum(), (x, quality))
    assert y.isfinite().all()
    assert all(g.isfinite().all() for g in gradients)
    if not 1 <= q <= 100:
        assert_close(y, jpeg(x, min(max(q, 1), 100), rounding=rounding, table=table))
        assert (gradients[1] == 0).all()


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (16, 5), (2, 31)])
def test_borders_are_replicated_to_whole_blocks(size: tuple[int, int]) -> None:
    x = images(2, 3, *size)
    full = F.pad(x, (0, 48 - size[1], 0, 48 - size[0]), mode="replicate")
    y = jpeg(x, 40, subsampling="4:4:4")
    assert y.shape == x.shape
    assert_close(y, jpeg(full, 40, subsampling="4:4:4")[..., : size[0], : size[1]])


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_grey_is_the_luma_of_equal_channels(subsampling: str) -> None:
    x = images(2, 1, 21, 30)
    colour = jpeg(x.expand(-1, 3, -1, -1), 35.0, subsampling=subsampling)
    assert_close(colour, jpeg(x, 35.0).expand(-1, 3, -1, -1))


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_better_quality_distorts_less(subsampling: str) -> None:
    x = smooth(4, 3, 48, 48, noise=0.3)
    qualities = (2, 10, 25, 45, 65, 85, 97)
    distortions = torch.stack(
        [(jpeg(x, q, subsampling=subsampling) - x).square().mean((1, 2, 3)) for q in qualities]
    )
    assert (distortions.diff(dim=0) < 0).all()


def test_best_quality_loses_little_but_chroma() -> None:
    x = 0.2 + 0.6 * smooth(4, 3, 32, 32, noise=0.3)
    assert psnr(jpeg(x, 100, subsampling="4:4:4"), x).min() > 50
    assert psnr(jpeg(x, 100), x).max() < 45


def test_stays_in_range() -> None:
    x = (images(4, 3, 32, 32, dtype=torch.float32) > 0.5).float()
    y = jpeg(x, torch.tensor([1.0, 20.0, 60.0, 90.0]))
    assert y.min() == 0
    assert y.max() == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_keeps_the_dtype_and_computes_precisely(dtype: torch.dtype) -> None:
    x = smooth(2, 3, 24, 24).to(dtype)
    y = jpeg(x, 70.0)
    assert y.dtype == dtype
    precise = jpeg(x.double(), 70.0)
    assert psnr(y.double(), precise).min() > (50 if dtype.itemsize == 2 else 70)


def test_autocast_does_not_lower_the_precision() -> None:
    x = smooth(2, 3, 24, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = jpeg(x, 70.0)
    assert_close(y, jpeg(x, 70.0), rtol=0, atol=0)


def test_constants_made_in_inference_mode_serve_training() -> None:
    for cached in (module._dct, module._base, module._colours, module._pairs):
        cached.cache_clear()
    x, q = images(1, 3, 16, 16), torch.tensor([50.0], dtype=torch.float64)
    with torch.inference_mode():
        jpeg(x, q)
    (gradient,) = torch.autograd.grad(
        jpeg(x.requires_grad_(), q.requires_grad_()).square().sum(), q
    )
    assert gradient.isfinite().all()
    assert module._dct(x.dtype, x.device) is module._dct(x.dtype, x.device)


def test_functional_gradients_of_single_images() -> None:
    x, q = images(3, 3, 16, 16), torch.tensor([20.0, 60.0, 90.0], dtype=torch.float64)

    def loss(x: Tensor, q: Tensor) -> Tensor:
        return jpeg(x[None], q).square().sum()

    each = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))(x, q)
    x.requires_grad_(), q.requires_grad_()
    assert_close(each, torch.autograd.grad(jpeg(x, q).square().sum(), (x, q)))


@pytest.mark.parametrize("channels", [1, 3])
def test_pillow_writes_what_it_is_given(channels: int) -> None:
    x = smooth(3, channels, 17, 9) * 1.2 - 0.1
    y = pillow_jpeg(x.double(), torch.tensor([10.0, 50.0, 100.0]))
    assert y.shape == x.shape
    assert y.dtype == torch.float32
    assert_close(y * 255, (y * 255).round(), rtol=0, atol=1e-4)
    errors = (y - x.clamp(0, 1)).square().mean((1, 2, 3))
    assert (errors.diff() < 0).all()
    file = io.BytesIO()
    pixels = (x[1].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).squeeze(-1).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=50, subsampling=2)  # 2 stands for 4:2:0
    expected = torch.from_numpy(np.array(Image.open(file))).reshape(17, 9, channels)
    assert_close((y[1] * 255).round().byte(), expected.permute(2, 0, 1))


@pytest.mark.parametrize("codec", [jpeg, pillow_jpeg])
@pytest.mark.parametrize(
    ("x", "quality", "options", "message"),
    [
        (torch.rand(3, 8, 8), 50, {}, r"\(3, 8, 8\).*expected \(B, C, H, W\)"),
        (torch.rand(1, 4, 8, 8), 50, {}, r"\(1, 4, 8, 8\).*1 or 3 channels"),
        (torch.rand(1, 3, 0, 8), 50, {}, r"\(1, 3, 0, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 50, {}, "uint8; convert"),
        (torch.rand(2, 3, 8, 8), torch.rand(3), {}, r"\(3,\) for 2 images"),
        (torch.rand(2, 3, 8, 8), torch.rand(2, 1), {}, r"\(2, 1\) for 2 images"),
        (torch.rand(1, 3, 8, 8), 50, {"subsampling": "4:2:2"}, "4:2:2.*choose 4:2:0, 4:4:4"),
    ],
)
def test_errors_name_what_is_wrong(codec, x, quality, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        codec(x, quality, **options)


@pytest.mark.parametrize("option", ["rounding", "table", "chroma"])
def test_unknown_options_are_errors(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}='best' is not known; choose"):
        jpeg(torch.rand(1, 3, 8, 8), 50, **{option: "best"})


@pytest.mark.parametrize("quality", [0, 101, 50.5, float("nan")])
def test_pillow_takes_whole_qualities(quality: float) -> None:
    with pytest.raises(ValueError, match="whole numbers from 1 to 100"):
        pillow_jpeg(torch.rand(1, 3, 8, 8), quality)


def test_tables_take_one_dimension() -> None:
    with pytest.raises(ValueError, match=r"expected \(\) or \(B,\)"):
        quantisation_tables(torch.ones(2, 2))
