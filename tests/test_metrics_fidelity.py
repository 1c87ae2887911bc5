from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from blemish.functional.random import generator_for, rand, randn
from blemish.metrics import fidelity_title, ms_ssim, psnr, sharpness, ssim, wasserstein1


def pair(channels: int = 3, height: int = 17, width: int = 21) -> tuple[Tensor, Tensor]:
    g = generator_for("pair", channels, height, width)
    x = rand((3, channels, height, width), g)
    return x, (x + 0.1 * randn(x.shape, g)).clamp(0, 1)


def to_bytes(x: Tensor) -> Tensor:
    return (255 * x).round().to(torch.uint8)


def slow_ssim(x: Tensor, y: Tensor) -> float:
    g = [[math.exp(-(i * i + j * j) / 4.5) for j in range(-5, 6)] for i in range(-5, 6)]
    w = torch.tensor(g, dtype=torch.float64) / sum(map(sum, g))
    values = []
    for plane_x, plane_y in zip(x.double(), y.double(), strict=True):
        for i in range(x.shape[1] - 10):
            for j in range(x.shape[2] - 10):
                a, b = plane_x[i : i + 11, j : j + 11], plane_y[i : i + 11, j : j + 11]
                m, n = (w * a).sum(), (w * b).sum()
                v, u, c = (w * (a - m) ** 2).sum(), (w * (b - n) ** 2).sum(), 0.0
                c = (w * (a - m) * (b - n)).sum()
                top = (2 * m * n + 1e-4) * (2 * c + 9e-4)
                values.append(top / ((m * m + n * n + 1e-4) * (v + u + 9e-4)))
    return float(sum(values) / len(values))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["float", "uint8"])
def test_agree_with_scikit_image(channels: int, kind: str) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    x, y = pair(channels)
    if kind == "uint8":
        x, y = to_bytes(x), to_bytes(y)
    peak = 255 if kind == "uint8" else 1.0
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for i in range(len(x)):
        a, b = x[i].numpy(), y[i].numpy()
        expected = metrics.peak_signal_noise_ratio(a, b, data_range=peak)
        assert float(psnr(x, y)[i]) == pytest.approx(expected, abs=1e-4)
        expected = metrics.structural_similarity(a, b, data_range=peak, channel_axis=0, **options)
        assert float(ssim(x, y)[i]) == pytest.approx(expected, abs=1e-5)


SSIM = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
"""scikit-image's options for the window of Wang et al. (2004)."""


@pytest.mark.parametrize("space", ["rgb", "y"])
@pytest.mark.parametrize("crop", [0, 2])
def test_protocols_agree_with_scikit_image(space: str, crop: int) -> None:
    metrics, color = pytest.importorskip("skimage.metrics"), pytest.importorskip("skimage.color")
    x, y = (image.double() for image in pair())
    for i in range(len(x)):
        a, b = (
            image[i].permute(1, 2, 0).numpy()[crop : 17 - crop, crop : 21 - crop]
            for image in (x, y)
        )
        if space == "y":
            a, b = (color.rgb2ycbcr(image)[..., :1] / 255 for image in (a, b))
        expected = metrics.peak_signal_noise_ratio(a, b, data_range=1.0)
        assert float(psnr(x, y, space=space, crop=crop)[i]) == pytest.approx(expected, abs=1e-6)
        expected = metrics.structural_similarity(a, b, channel_axis=2, **SSIM)
        assert float(ssim(x, y, space=space, crop=crop)[i]) == pytest.approx(expected, abs=1e-6)


def halved(x: Tensor) -> Tensor:
    x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
    rows = x[..., ::2, :] + x[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def large_pair(channels: int, height: int = 176, width: int = 190) -> tuple[Tensor, Tensor]:
    # Noise on smooth images, so that every scale has something to say.
    g = generator_for("large", channels, height, width)
    coarse = rand((2, channels, 12, 12), g)
    x = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return x.double(), (0.9 * x + 0.1 * randn(x.shape, g)).clamp(0, 1).double()


@pytest.mark.parametrize("space", ["rgb", "y"])
def test_ms_ssim_agrees_with_scikit_image_at_each_scale(space: str) -> None:
    metrics, color = pytest.importorskip("skimage.metrics"), pytest.importorskip("skimage.color")
    x, y = large_pair(3)
    result = ms_ssim(x, y, space=space)
    if space == "y":
        x, y = (
            torch.from_numpy(color.rgb2ycbcr(i.numpy(), channel_axis=1)[:, :1] / 255)
            for i in (x, y)
        )
    product = torch.ones(x.shape[:2], dtype=torch.float64)
    for j, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        # With a huge c_1 the luminance is 1, and what is left is contrast and structure.
        options = SSIM if j == 4 else {**SSIM, "K1": 1e7}
        for b, c in torch.cartesian_prod(torch.arange(len(x)), torch.arange(x.shape[1])).tolist():
            term = metrics.structural_similarity(x[b, c].numpy(), y[b, c].numpy(), **options)
            product[b, c] *= max(float(term), 0) ** weight
        x, y = halved(x), halved(y)
    torch.testing.assert_close(result, product.mean(dim=1), atol=1e-6, rtol=0)


def test_ms_ssim_agrees_with_torchmetrics_but_for_the_coarsest_border() -> None:
    image = pytest.importorskip("torchmetrics.functional.image")
    x, y = large_pair(1)
    theirs = image.multiscale_structural_similarity_index_measure(
        x, y, data_range=1.0, normalize="relu", reduction="none"
    )
    a, b = x, y
    for _ in range(4):
        a, b = halved(a), halved(b)
    # At the fifth scale theirs reflects the image at its border.
    reflected = image.structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    expected = theirs * (ssim(a, b) / reflected) ** 0.1333
    assert ((theirs - expected).abs() > 1e-5).all()
    torch.testing.assert_close(ms_ssim(x, y), expected, atol=1e-5, rtol=0)


def test_ms_ssim_of_opposite_images_is_zero() -> None:
    # The contrasts are negative, and a power of them would be no number.
    x, _ = large_pair(1)
    assert ms_ssim(x, 1 - x).tolist() == [0, 0]


def test_luma_of_grey_images_is_their_studio_range() -> None:
    # The weights of R, G and B add up to 219 / 255, and offsets cancel.
    x, y = (image.expand(-1, 3, -1, -1) for image in pair(1))
    gain = 20 * math.log10(255 / 219)
    torch.testing.assert_close(psnr(x, y, space="y"), psnr(x, y) + gain, rtol=1e-6, atol=0)
    white, black = torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    torch.testing.assert_close(
        psnr(white, black, space="y"), psnr(white[:, :1], black[:, :1]) + gain
    )


@pytest.mark.parametrize("metric", [psnr, ssim, ms_ssim])
def test_crop_is_cutting(metric) -> None:
    x, y = large_pair(3, 184, 190)
    cut = metric(x[..., 4:-4, 4:-4], y[..., 4:-4, 4:-4])
    assert torch.equal(metric(x, y, crop=4), cut)
    assert not torch.equal(metric(x, y), cut)


def test_titles_say_what_differs() -> None:
    assert fidelity_title("PSNR") == "PSNR"
    assert fidelity_title("SSIM", "y", 4) == "SSIM (Y, crop 4)"


@pytest.mark.parametrize("size", [(11, 11), (12, 14)])
def test_ssim_agrees_with_loops(size: tuple[int, int]) -> None:
    x, y = pair(2, *size)
    expected = [slow_ssim(a, b) for a, b in zip(x, y, strict=True)]
    torch.testing.assert_close(ssim(x, y), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("error", [0.5, 0.1, 1 / 255])
def test_psnr_of_a_constant_error(error: float) -> None:
    x = torch.full((2, 3, 5, 4), 0.25, dtype=torch.float64)
    expected = torch.full((2,), -20 * math.log10(error), dtype=torch.float64)
    torch.testing.assert_close(psnr(x, x + error), expected)
    # Twice the range is a ratio four times as large.
    torch.testing.assert_close(psnr(x, x + error, 2.0), expected + 20 * math.log10(2))


def test_equal_images_are_perfect() -> None:
    x, _ = pair()
    assert psnr(x, x).isposinf().all()
    torch.testing.assert_close(ssim(x, x), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_fidelity_is_symmetric_and_turns_with_the_images(metric) -> None:
    x, y = pair()
    torch.testing.assert_close(metric(x, y), metric(y, x))
    turned = metric(x.transpose(-1, -2).flip(-1), y.transpose(-1, -2).flip(-1))
    torch.testing.assert_close(metric(x, y), turned)
    for space in ("rgb", "y"):
        tripled = metric(3 * x, 3 * y, 3.0, space=space)
        torch.testing.assert_close(tripled, metric(x, y, space=space), rtol=1e-6, atol=0)


def test_psnr_does_not_see_a_common_shift_and_ssim_does() -> None:
    x, y = pair()
    x, y = x.double(), y.double()
    torch.testing.assert_close(psnr(x + 0.2, y + 0.2), psnr(x, y))
    assert ((ssim(x + 0.2, y + 0.2) - ssim(x, y)).abs() > 1e-4).all()


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_fidelity_falls_with_noise(metric) -> None:
    x, _ = pair()
    noise = randn(x.shape, generator_for("noise"))
    values = torch.stack([metric(x, x + s * noise) for s in (0.01, 0.03, 0.1, 0.3)])
    assert (values.diff(dim=0) < 0).all()


def test_refuses_pairs_that_do_not_fit() -> None:
    x, _ = pair()
    with pytest.raises(ValueError, match="same shape"):
        psnr(x, x[:, :1])
    with pytest.raises(ValueError, match="11x11"):
        ssim(x[..., :10], x[..., :10])
    with pytest.raises(ValueError, match="data_range is 0"):
        psnr(x, x, 0)
    with pytest.raises(ValueError, match="11x11"):
        ssim(x, x, crop=4)
    with pytest.raises(ValueError, match=r"175x200 pixels; .* at least 176x176"):
        ms_ssim(torch.zeros(1, 1, 175, 200), torch.zeros(1, 1, 175, 200))
    with pytest.raises(ValueError, match="1 channels; space='y'"):
        psnr(x[:, :1], x[:, :1], space="y")
    with pytest.raises(ValueError, match="space is 'ycbcr'; it must be one of rgb, y"):
        psnr(x, x, space="ycbcr")
    with pytest.raises(ValueError, match="crop is -1"):
        psnr(x, x, crop=-1)
    with pytest.raises(ValueError, match="crop is 9; for images of 17x21"):
        psnr(x, x, crop=9)
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        sharpness(x[0])
    with pytest.raises(TypeError, match="int64"):
        psnr(x.long(), x.long())
    with pytest.raises(ValueError, match="3x3"):
        sharpness(x[..., :2])


def test_sharpness_of_known_pictures() -> None:
    i, j = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    pictures = torch.stack([0.1 * i + 0.2 * j + 0.3, 0.5 * i * i, (i + j) % 2])[:, None]
    torch.testing.assert_close(
        sharpness(pictures), torch.tensor([0.0, 1.0, 4.0]), atol=1e-6, rtol=0
    )


def test_sharpness_agrees_with_loops() -> None:
    x, _ = pair(2, 5, 6)
    x = to_bytes(x)
    planes, total = x.double() / 255, torch.zeros(3, dtype=torch.float64)
    for i in range(1, 4):
        for j in range(1, 5):
            around = planes[..., i - 1, j] + planes[..., i + 1, j]
            around = around + planes[..., i, j - 1] + planes[..., i, j + 1]
            total += (4 * planes[..., i, j] - around).abs().mean(dim=1)
    torch.testing.assert_close(sharpness(x), (total / 12).float())


@pytest.mark.parametrize(("n", "m"), [(1, 1), (50, 50), (40, 7), (1, 9)])
@pytest.mark.parametrize("ties", [False, True])
def test_wasserstein_agrees_with_scipy(n: int, m: int, ties: bool) -> None:
    stats = pytest.importorskip("scipy.stats")
    g = generator_for("wasserstein", n, m)
    a, b = randn((n,), g), 2 * randn((m,), g) + 1
    if ties:
        a, b = a.round(), b.round()
    expected = stats.wasserstein_distance(a.double().numpy(), b.double().numpy())
    assert wasserstein1(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_wasserstein_of_equal_sizes_is_the_mean_gap_of_sorted_values() -> None:
    a, b = randn((2, 30), generator_for("sorted")).double()
    expected = float((a.sort().values - b.sort().values).abs().mean())
    assert wasserstein1(a, b) == pytest.approx(expected, rel=1e-12)
    assert wasserstein1(a, a.flip(0)) == 0
    assert wasserstein1(a, a + 0.25) == pytest.approx(0.25, rel=1e-12)
    # A sample and its copies are one distribution.
    assert wasserstein1(a.repeat(3), b) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bad", [torch.zeros(0), torch.zeros(2, 2), torch.tensor([torch.nan])])
def test_wasserstein_refuses_what_is_no_sample(bad: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^b "):
        wasserstein1(torch.zeros(3), bad)
