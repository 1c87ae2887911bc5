"""Calibrates what BNCR-GAN leaves open about its motion blur against the two figures it prints.

The paper (Kaneko & Harada, 2021, Fig. 25) degrades CIFAR-10's test images by setting N and reports PSNR 26.2 dB and SSIM 0.862
between clean and degraded images. It does not say how motion kernels are centred nor how restless (expl) their paths are. This script
degrades test images with every candidate and prints both figures. It is a calibration of our simulation, not a reproduction.

    python benchmarks/calibration.py --data test.zip --images 1000
"""

from __future__ import annotations

import argparse
import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blemish.functional.blur import Padding, blur
from blemish.functional.kernels import disk
from blemish.functional.motion import Centring, motion_draws, motion_kernel
from blemish.functional.noise import read_shot, read_shot_levels
from blemish.functional.random import generators_for, rand, randn

PSNR, SSIM = (26.2, 0.7), (0.862, 0.012)
CENTRINGS: tuple[Centring, ...] = ("full", "centroid", "box")
EXPLS = (0.005, 0.01, None)
BATCH = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a ZIP of CIFAR-10's test images")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--padding", default="reflect")
    parser.add_argument("--only", nargs="*", help="variants as centring:expl, like full:None")
    args = parser.parse_args()
    variants = [(c, e) for c in CENTRINGS for e in EXPLS]
    if args.only:
        variants = [v for v in variants if f"{v[0]}:{v[1]}" in args.only]
    clean = read(args.data, args.images)
    print("| centring | expl | mean PSNR (dB) | PSNR of mean MSE (dB) | SSIM | within | seconds |")
    print("|---|---|---|---|---|---|---|")
    for centring, expl in variants:
        start = time.perf_counter()
        parts = [
            measure(x, y)
            for x, y in pairs(clean, args.seed, centring=centring, expl=expl, padding=args.padding)
        ]
        psnr, mse, ssim = np.concatenate(parts, axis=1).mean(axis=1)
        within = abs(psnr - PSNR[0]) <= PSNR[1] and abs(ssim - SSIM[0]) <= SSIM[1]
        name = "0.1 U(0, 1)" if expl is None else expl
        print(
            f"| {centring} | {name} | {psnr:.2f} | {to_psnr(mse):.2f} | {ssim:.4f} "
            f"| {'yes' if within else 'no'} | {time.perf_counter() - start:.0f} |",
            flush=True,
        )


def read(path: Path, count: int) -> np.ndarray:
    """Reads images, evenly spaced over the sorted names so that all classes take part, as uint8 (N, H, W, 3)."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith((".webp", ".png")))
        chosen = [names[i * len(names) // count] for i in range(min(count, len(names)))]
        files = (Image.open(io.BytesIO(archive.read(name))) for name in chosen)
        return np.stack([np.asarray(file.convert("RGB")) for file in files])


def pairs(
    clean: np.ndarray, seed: int, *, centring: Centring, expl: float | None, padding: Padding
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of clean and degraded images, uint8; each image has a generator of its own, alike in all variants."""
    for first in range(0, len(clean), BATCH):
        rows = clean[first : first + BATCH]
        x = torch.from_numpy(rows).permute(0, 3, 1, 2).float() / 255
        generators = generators_for(seed, range(first, first + len(rows)))
        b = len(rows)
        kernel = draw_kernel(b, generators, centring=centring, expl=expl)
        levels = read_shot_levels(rand((b,), generators), randn((b,), generators))
        noise = randn(x.shape, generators), randn(x.shape, generators)
        quality = (60 + 41 * rand((b,), generators)).floor().clamp(max=100).int().tolist()
        y = read_shot(blur(x, kernel, padding=padding), *levels, *noise).clamp(0, 1)
        degraded = (y * 255).round().byte().permute(0, 2, 3, 1).numpy()
        yield rows, np.stack([jpeg(*item) for item in zip(degraded, quality, strict=True)])


def draw_kernel(
    b: int, generators: list[torch.Generator], *, centring: Centring, expl: float | None
) -> Tensor:
    """Draws a disk with radius U[0.5, 2] or a motion kernel with length 5, each with probability 1/2."""
    choice, radius, exposure = rand((b, 3), generators).unbind(-1)
    shares = torch.tensor([0.1, 0.5, 1.0])[(3 * exposure).long()]
    draws = motion_draws(b, generators)
    motion = motion_kernel(draws, 5.0, shares, 9, expl=expl, centring=centring)
    return torch.where(choice[:, None, None, None] < 0.5, disk(0.5 + 1.5 * radius, 9), motion)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(buffer))


def measure(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns PSNR, MSE and SSIM of each pair, with shape (3, N)."""
    from skimage.metrics import structural_similarity

    mse = np.square(x.astype(np.float64) - y).mean(axis=(1, 2, 3))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = [
        structural_similarity(*p, data_range=255, channel_axis=-1, **options)
        for p in zip(x, y, strict=True)
    ]
    return np.stack([to_psnr(mse), mse, ssim])


def to_psnr(mse: np.ndarray) -> np.ndarray:
    return 10 * np.log10(255**2 / mse)


if __name__ == "__main__":
    main()
