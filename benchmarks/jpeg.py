"""Measures the differentiable JPEG: its distance from Pillow's, its gradient to the quality, and its speed against kornia's.

Times are CPU times on one thread, medians, with both codecs interleaved in one process.

    BLEMISH_DATA=folder OMP_NUM_THREADS=1 python benchmarks/jpeg.py --json jpeg.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blemish.functional.jpeg import jpeg, pillow_jpeg

CODECS: dict[str, dict[str, Any]] = {
    "default": {},
    "hard": {"rounding": "hard"},
    "continuous table": {"table": "continuous"},
    "nearest chroma": {"chroma": "nearest"},
}
QUALITIES = (20, 40, 60, 80, 90, 95)
SIGN_QUALITIES = (30, 50, 70, 90)
FINITE_QUALITIES = (1, 50, 99, 100)
SHAPES = ((64, 32), (8, 256))
MEAN, WORST, SIGN, SPEED = 42.0, 39.0, 0.95, 3.0
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("BLEMISH_DATA"))
    parser.add_argument("--repeat", type=int, default=31)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path, help="where to write all rows")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for part in args.only:
        print(f"\n{PARTS[part].__name__}")
        results[part] = list(table(PARTS[part](args)))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2))
    if not all(row.get("ok", True) for rows in results.values() for row in rows):
        raise SystemExit("a row is not ok")


def accuracy(args: argparse.Namespace) -> Iterator[Row]:
    """PSNR against Pillow's output: at least 42 dB on average and 39 dB for the worst photograph."""
    images = photos(args.data)
    for q in QUALITIES:
        real = [pillow_jpeg(x, q) for x in images]
        for name, options in CODECS.items():
            with torch.no_grad():
                values = [psnr(jpeg(x, q, **options), y) for x, y in zip(images, real, strict=True)]
            row: Row = {
                "codec": name,
                "q": q,
                "mean": statistics.fmean(values),
                "worst": min(values),
            }
            if name == "default":
                row["ok"] = row["mean"] >= MEAN and row["worst"] >= WORST
            yield row


def signs(args: argparse.Namespace) -> Iterator[Row]:
    """Share of photographs where the distortion's gradient to q has the sign of Pillow's difference over q-5..q+5."""
    images = photos(args.data)
    for q in SIGN_QUALITIES:
        true = [(distortion(x, q + 5) - distortion(x, q - 5)) / 10 for x in images]
        for name in ("default", "continuous table"):
            ratios = [slope(x, q, CODECS[name]) / t for x, t in zip(images, true, strict=True)]
            share = statistics.fmean(r > 0 for r in ratios)
            row: Row = {"codec": name, "q": q, "same sign": share}
            row |= {
                "median ratio": statistics.median(ratios),
                "min": min(ratios),
                "max": max(ratios),
            }
            if name == "default":
                row["ok"] = share >= SIGN
            yield row


def finiteness(args: argparse.Namespace) -> Iterator[Row]:
    """Gradients of the distortion to images and quality have to be finite everywhere."""
    cases = {
        "photographs": torch.cat(photos(args.data)[:4])[..., :160, :160],
        "flat, black, white": torch.tensor([0.5, 0.3, 0.0, 1.0])[:, None, None, None].expand(
            4, 3, 40, 56
        ),
        "noise": torch.rand(4, 3, 33, 47, generator=torch.Generator().manual_seed(0)),
    }
    for name, images in cases.items():
        for q in FINITE_QUALITIES:
            x, quality = (
                images.clone().requires_grad_(),
                torch.full((4,), float(q)).requires_grad_(),
            )
            gradients = torch.autograd.grad(jpeg(x, quality).square().sum(), (x, quality))
            yield {"images": name, "q": q, "ok": all(bool(g.isfinite().all()) for g in gradients)}


def speed(args: argparse.Namespace) -> Iterator[Row]:
    """CPU time of a forward pass and of forward and backward (to images and qualities), in ms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kornia.enhance import JPEGCodecDifferentiable
    codecs: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "own": jpeg,
        "kornia": JPEGCodecDifferentiable(),
    }
    for batch, side in SHAPES:
        x = torch.rand(batch, 3, side, side, requires_grad=True)
        q = (torch.rand(batch) * 80 + 10).requires_grad_()
        times: dict[tuple[str, bool], list[float]] = {
            (c, b): [] for c in codecs for b in (False, True)
        }
        for _ in range(args.repeat):
            for (name, backward), found in times.items():
                found.append(timed(codecs[name], x, q, backward=backward))
        ms = {key: 1e3 * statistics.median(found[1:]) for key, found in times.items()}
        ratio = ms["kornia", True] / ms["own", True]
        row: Row = {"images": f"{batch}x3x{side}x{side}", "ratio": ratio, "ok": ratio >= SPEED}
        row |= {f"{c} {'both' if b else 'forward'}": value for (c, b), value in ms.items()}
        start = time.perf_counter()
        pillow_jpeg(x, 80)
        yield row | {"Pillow forward (wall)": 1e3 * (time.perf_counter() - start)}


PARTS = {"accuracy": accuracy, "signs": signs, "finite": finiteness, "speed": speed}


def table(rows: Iterator[Row]) -> Iterator[Row]:
    """Prints rows as they come, under the first one's names."""
    names: list[str] = []
    for row in rows:
        if not names:
            names = [*row] if "ok" in row else [*row, "ok"]
            print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
        cells = (row.get(name, "") for name in names)
        print(
            "| " + " | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells) + " |",
            flush=True,
        )
        yield row


def photos(folder: Path | None) -> list[Tensor]:
    """Reads the test photographs, each with shape (1, 3, H, W)."""
    if folder is None:
        raise SystemExit("give --data, or set BLEMISH_DATA, to a folder with photos/test/*.png")
    paths = sorted(Path(folder).glob("photos/test/*.png"))
    if not paths:
        raise SystemExit(f"there are no photographs in {folder}/photos/test")
    images = (np.array(Image.open(path).convert("RGB")) for path in paths)
    return [torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image in images]


def psnr(x: Tensor, y: Tensor) -> float:
    return float(-10 * torch.log10((x - y).square().mean()))


def distortion(x: Tensor, q: int) -> float:
    return float((pillow_jpeg(x, q) - x).square().mean())


def slope(x: Tensor, q: int, options: dict[str, Any]) -> float:
    quality = torch.tensor([float(q)], requires_grad=True)
    (gradient,) = torch.autograd.grad((jpeg(x, quality, **options) - x).square().mean(), quality)
    return float(gradient)


def timed(
    codec: Callable[[Tensor, Tensor], Tensor], x: Tensor, q: Tensor, *, backward: bool
) -> float:
    start = time.process_time()
    with torch.set_grad_enabled(backward):
        y = codec(x, q)
    if backward:
        torch.autograd.grad(y.sum(), (x, q))
    return time.process_time() - start


if __name__ == "__main__":
    main()
