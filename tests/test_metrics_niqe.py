"""NIQE: its fits, its normalisation and its score against loops; natural-like images score best."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand, randn
from blemish.metrics import NIQEModel, niqe
from blemish.metrics.niqe import _half, fit_aggd, mscn, niqe_features


def exponentials(n: int, *label: int | str) -> Tensor:
    return -torch.log1p(-rand((n,), generator_for("exponential", *label)).double())


MAGNITUDES: dict[float, Callable[[int], Tensor]] = {
    # |v| / beta for exp(-(|v| / beta)^alpha): the power 1 / alpha of a Gamma(1 / alpha) variable.
    0.5: lambda n: (exponentials(n, "a") + exponentials(n, "b")).square(),
    1.0: lambda n: exponentials(n, "a"),
    2.0: lambda n: randn((n,), generator_for("normal")).double().abs() / math.sqrt(2),
}


def aggd(alpha: float, left: float, right: float, n: int = 200_000) -> Tensor:
    """Draws from an asymmetric generalised Gaussian."""
    on_left = rand((n,), generator_for("side")) < left / (left + right)
    return MAGNITUDES[alpha](n) * torch.where(on_left, -left, right)


@pytest.mark.parametrize("alpha", MAGNITUDES)
@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (0.5, 2.0), (3.0, 1.0)])
def test_fit_recovers_what_was_drawn(alpha: float, left: float, right: float) -> None:
    found = torch.stack(fit_aggd(aggd(alpha, left, right)))
    assert_close(found, torch.tensor([alpha, left, right]).double(), rtol=0.04, atol=0)


def test_fit_scales_mirrors_and_batches() -> None:
    v = torch.stack([aggd(a, 1.0, 2.0, 3000) for a in MAGNITUDES])
    alpha, left, right = fit_aggd(v)
    for i, row in enumerate(v):
        assert_close(torch.stack(fit_aggd(row)), torch.stack([alpha[i], left[i], right[i]]))
    again = fit_aggd(-5 * v)
    assert_close(again[0], alpha)
    assert_close(again[1], 5 * right)
    assert_close(again[2], 5 * left)


def test_fit_takes_the_nearest_shape_of_the_table() -> None:
    def ratio(a: float) -> float:
        return math.exp(2 * math.lgamma(2 / a) - math.lgamma(1 / a) - math.lgamma(3 / a))

    v = aggd(1.0, 1.0, 1.0, 500)
    v = torch.cat([v, -v])  # symmetric, so that the ratio is that of the moments
    target = float(v.abs().mean() ** 2 / v.square().mean())
    table = [i / 1000 for i in range(200, 10001)]
    assert float(fit_aggd(v)[0]) == min(table, key=lambda a: abs(ratio(a) - target))
    ends = torch.tensor([[-1.0, 1.0] * 50, [-1e9, 1e9] + [1e-9] * 98])
    assert fit_aggd(ends)[0].tolist() == [10.0, 0.2]
    assert all(part.isnan() for part in fit_aggd(torch.zeros(9)))


def luma(*shape: int) -> Tensor:
    return (255 * rand(shape, generator_for("luma", *shape))).round().double()


def test_normalisation_agrees_with_loops() -> None:
    y = luma(2, 1, 9, 8)
    g = [math.exp(-(d * d) / (2 * (7 / 6) ** 2)) for d in range(-3, 4)]
    w = torch.outer(*2 * [torch.tensor(g, dtype=torch.float64)])
    w /= w.sum()
    expected, deviation = torch.empty_like(y), torch.empty_like(y)
    for b in range(2):
        for i in range(9):
            for j in range(8):
                rows = [min(max(i + d, 0), 8) for d in range(-3, 4)]
                columns = [min(max(j + d, 0), 7) for d in range(-3, 4)]
                window = y[b, 0][rows][:, columns]
                mu = (w * window).sum()
                sigma = (w * (window - mu).square()).sum().sqrt()
                expected[b, 0, i, j] = (y[b, 0, i, j] - mu) / (sigma + 1)
                deviation[b, 0, i, j] = sigma
    normalised, sigma = mscn(y)
    assert_close(normalised, expected, rtol=1e-9, atol=1e-9)
    assert_close(sigma, deviation, rtol=1e-9, atol=1e-9)
    assert not mscn(torch.full((1, 1, 8, 8), 77.0).double())[0].any()


def test_halving_is_bicubic_with_mirrored_borders() -> None:
    def cubic(t: float) -> float:
        t = abs(t)
        if t <= 1:
            return 1.5 * t**3 - 2.5 * t**2 + 1
        return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0

    def row(n: int) -> Tensor:
        m = torch.zeros(n // 2, n).double()
        for j in range(n // 2):
            for i in range(2 * j - 3, 2 * j + 5):
                inside = -1 - i if i < 0 else 2 * n - 1 - i if i >= n else i
                m[j, inside] += cubic((i - (2 * j + 0.5)) / 2) / 2
        return m / m.sum(dim=1, keepdim=True)

    y = luma(2, 1, 12, 20)
    assert_close(_half(y), row(12) @ y @ row(20).T)
    torchs = F.interpolate(y, scale_factor=0.5, mode="bicubic", antialias=True)
    assert_close(_half(y)[..., 2:-2, 2:-2], torchs[..., 2:-2, 2:-2])


def slow_block(block: np.ndarray) -> list[float]:
    numbers = []
    for shift in (None, (0, 1), (1, 0), (1, 1), (1, -1)):
        v = block if shift is None else block * np.roll(block, shift, (0, 1))
        alpha, left, right = (float(p) for p in fit_aggd(torch.from_numpy(v.copy()).flatten()))
        if shift is None:
            numbers += [alpha, (left + right) / 2]
        else:
            mean = (right - left) * math.gamma(2 / alpha) / math.gamma(1 / alpha)
            numbers += [alpha, mean, left, right]
    return numbers


def test_features_are_those_of_each_block() -> None:
    x = rand((2, 1, 36, 50), generator_for("blocks"))
    features, sharpness = niqe_features(x, 16)
    y = (255 * x.double()).round()[..., :32, :48]
    full, sigma = mscn(y)
    half, _ = mscn(_half(y))
    for b in range(2):
        for n in range(6):
            i, j = divmod(n, 3)
            one = full[b, 0, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16].numpy()
            two = half[b, 0, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8].numpy()
            expected = torch.tensor(slow_block(one) + slow_block(two)).double()
            assert_close(features[b, n], expected)
            mean = sigma[b, 0, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16].mean()
            assert_close(sharpness[b, n], mean)


def natural(n: int, *label: int | str, side: int = 160) -> Tensor:
    """Grey images with the spectrum 1 / f of natural ones."""
    noise = torch.fft.rfft2(randn((n, 1, side, side), generator_for("natural", *label)))
    f = torch.fft.fftfreq(side)[:, None].square() + torch.fft.rfftfreq(side).square()
    f[0, 0] = math.inf
    x = torch.fft.irfft2(noise / f.sqrt(), s=(side, side))
    return (0.5 + 0.15 * x / x.std(dim=(2, 3), keepdim=True)).clamp(0, 1)


@pytest.fixture(scope="module")
def model() -> NIQEModel:
    return NIQEModel.fit(natural(8, "fit").split(4), "drawn images", block=32)


def blur(x: Tensor) -> Tensor:
    g = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(g, g).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])


def noisy(x: Tensor, sigma: float) -> Tensor:
    return (x + sigma * randn(x.shape, generator_for("noise"))).clamp(0, 1)


def test_score_grows_with_blur_and_noise(model: NIQEModel) -> None:
    x = natural(4, "test")
    for damaged in ((x, blur(x), blur(blur(x))), (x, noisy(x, 0.03), noisy(x, 0.1))):
        scores = torch.stack([niqe(image, model) for image in damaged])
        assert (scores.diff(dim=0) > 0).all(), scores


def test_score_is_the_distance_of_its_equation(model: NIQEModel) -> None:
    x = natural(3, "equation")
    features, _ = niqe_features(x, 32)
    expected = []
    for blocks in features.numpy():
        d = blocks.mean(axis=0) - model.mean.numpy()
        joint = (np.cov(blocks, rowvar=False) + model.cov.numpy()) / 2
        expected.append(math.sqrt(d @ np.linalg.pinv(joint) @ d))
    assert_close(niqe(x, model), torch.tensor(expected).double(), rtol=1e-6, atol=0)
    assert_close(niqe(x, model), torch.cat([niqe(image[None], model) for image in x]))


def test_score_of_the_models_own_mean_is_zero(model: NIQEModel) -> None:
    x = natural(1, "own")
    mean = niqe_features(x, 32)[0][0].mean(dim=0)
    own = NIQEModel(mean, model.cov, "itself", 32)
    assert float(niqe(x, own)) < 1e-9 < float(niqe(x, model))


def test_conventions_of_reading(model: NIQEModel) -> None:
    grey = natural(1, "reading", side=100)
    assert torch.equal(niqe(grey, model), niqe(grey[..., :96, :96], model))
    rgb = rand((1, 3, 96, 96), generator_for("rgb")).mul(255).round() / 255
    weights = torch.tensor([65.481, 128.553, 24.966])[:, None, None]
    y = (16 + (weights.double() * rgb.double()).sum(1, keepdim=True)).round() / 255
    assert_close(niqe(rgb, model), niqe(y, model))
    assert_close(niqe((255 * rgb).to(torch.uint8), model), niqe(rgb, model))


def test_flat_blocks_are_left_out(model: NIQEModel) -> None:
    x = natural(1, "flat")
    x[..., 32:128, 32:128] = 0.4
    features, _ = niqe_features(x, 32)
    flat = features[0].isnan().any(dim=1)
    assert 0 < int(flat.sum()) < len(flat)
    assert niqe(x, model).isfinite().all()
    with pytest.raises(ValueError, match="fewer than two blocks with a texture"):
        niqe(torch.full((1, 1, 96, 96), 0.5), model)


@pytest.mark.parametrize("threshold", [0.75, 0.3])
def test_fitting_keeps_the_sharp_blocks(threshold: float) -> None:
    x = natural(10, "sharp")
    x[..., 64:] = 0.5 + 0.02 * (x[..., 64:] - 0.5)  # the right part has hardly a texture
    kept, columns = [], set()
    for features, sharpness in zip(*niqe_features(x, 32), strict=True):
        for n, (row, value) in enumerate(zip(features, sharpness, strict=True)):
            if value > threshold * sharpness.max():
                kept.append(row)
                columns.add(n % 5)
    assert columns <= {0, 1, 2}
    model = NIQEModel.fit(x.split(3), "left parts", block=32, threshold=threshold)
    rows = torch.stack(kept).numpy()
    assert_close(model.mean.numpy().tolist(), rows.mean(axis=0).tolist())
    assert_close(model.cov, torch.from_numpy(np.cov(rows, rowvar=False)))


def test_a_model_survives_a_file(model: NIQEModel, tmp_path: Path) -> None:
    model.save(tmp_path / "niqe.safetensors")
    again = NIQEModel.load(tmp_path / "niqe.safetensors")
    assert torch.equal(again.mean, model.mean)
    assert torch.equal(again.cov, model.cov)
    assert again.name == model.name == "NIQE-like (fitted on drawn images)"
    assert again.block == 32


@pytest.mark.parametrize("kind", ["npz", "mat"])
def test_reads_published_files(model: NIQEModel, tmp_path: Path, kind: str) -> None:
    mean, cov, path = model.mean.numpy()[None], model.cov.numpy(), tmp_path / f"made.{kind}"
    if kind == "npz":
        np.savez(path, mu_pris_param=mean, cov_pris_param=cov)
    else:
        io = pytest.importorskip("scipy.io")
        io.savemat(path, {"mu_prisparam": mean, "cov_prisparam": cov})
    again = NIQEModel.load(path)
    assert torch.equal(again.mean, model.mean)
    assert torch.equal(again.cov, model.cov)
    assert (again.name, again.block) == (f"NIQE-like (fitted on made.{kind})", 96)


def test_only_the_published_numbers_are_niqe(
    model: NIQEModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = np.concatenate([model.mean.numpy(), model.cov.numpy().flatten()])
    digest = hashlib.sha256(numbers.astype("<f8").tobytes()).hexdigest()
    monkeypatch.setattr(sys.modules["blemish.metrics.niqe"], "_PUBLISHED", digest)
    assert NIQEModel(model.mean, model.cov, "any").name == "NIQE"
    assert NIQEModel(model.mean, model.cov, "any", 32).name == "NIQE-like (fitted on any)"
    assert NIQEModel(model.mean * (1 + 1e-12), model.cov, "any").name.startswith("NIQE-like")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, _: niqe(torch.zeros(1, 1, 20, 64), m), "at least one block of 32x32"),
        (lambda m, _: niqe(torch.zeros(1, 1, 40, 40), m), "needs two blocks of 32x32"),
        (lambda m, _: niqe(torch.zeros(1, 2, 64, 64), m), "2 channels; NIQE takes 1 or 3"),
        (lambda *_: NIQEModel.fit([], "none"), "^0 blocks of 96x96"),
        (lambda m, _: NIQEModel(m.mean[:9], m.cov, "x"), r"mean of shape \(9,\)"),
        (lambda m, _: NIQEModel(m.mean * math.nan, m.cov, "x"), "not finite"),
        (lambda m, _: NIQEModel(m.mean, m.cov, "x", 33), "block is 33"),
        (lambda _, path: NIQEModel.load(path / "bad.safetensors"), "is no model of NIQE"),
        (lambda _, path: NIQEModel.load(path / "bad.mat"), "is no file of MATLAB"),
        (lambda _, path: NIQEModel.load(path / "bad.npz"), "is no file of NumPy"),
        (lambda _, path: NIQEModel.load(path / "other.npz"), "has no 'mu_pris_param'"),
    ],
)
def test_refuses_what_does_not_fit(
    model: NIQEModel, tmp_path: Path, call: Callable[[NIQEModel, Path], object], message: str
) -> None:
    for end in ("safetensors", "mat", "npz"):
        (tmp_path / f"bad.{end}").write_bytes(b"<html>not found, sorry</html>" * 20)
    np.savez(tmp_path / "other.npz", other=np.zeros(1))
    with pytest.raises(FileNotFoundError, match="no file"):
        NIQEModel.load(tmp_path / "absent.mat")
    with pytest.raises(ValueError, match=message):
        call(model, tmp_path)


def test_names_scipy_when_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.mat").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ModuleNotFoundError, match="pip install scipy"):
        NIQEModel.load(tmp_path / "m.mat")


def photographs(folder: Path, count: int) -> list[Tensor]:
    paths = sorted(folder.iterdir())[:count]
    arrays = [np.array(Image.open(path).convert("RGB")) for path in paths]
    return [torch.from_numpy(array).permute(2, 0, 1)[None] / 255 for array in arrays]


def test_photographs_score_better_than_damaged_ones(data_folder: Path) -> None:
    photos = data_folder / "photos"
    model = NIQEModel.fit(photographs(photos / "train", 30), "30 photographs of BSDS500")
    for x in photographs(photos / "test", 3):
        images = (x, noisy(x, 0.02), noisy(x, 0.1), blur(x), blur(blur(blur(x))))
        clean, *damaged = (float(niqe(image, model)) for image in images)
        assert clean < damaged[0] < damaged[1]
        assert clean < damaged[2] < damaged[3]
