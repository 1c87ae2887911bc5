"""Measures the two ways to blur, and what the choice of method="auto" costs against the better one.

Times are the smallest CPU time of several repetitions on one thread, interleaved, so that a busy machine disturbs little.

    OMP_NUM_THREADS=1 python benchmarks/blur.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from blemish.functional.blur import Method, blur

SHAPES = ((64, 32), (16, 64), (8, 128), (2, 256))
SIZES = (3, 5, 7, 9, 11, 13, 15, 21, 31)
METHODS: tuple[Method, ...] = ("direct", "fft", "auto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| images | kernel | gradient | direct (ms) | fft (ms) | auto (ms) |")
    print("|---|---|---|---|---|---|")
    for batch, side in SHAPES:
        for size in SIZES:
            for grad in ("none", "images", "both"):
                best = measure(batch, side, size, grad=grad, device=args.device, n=args.repeat)
                row = " | ".join(f"{1e3 * best[m]:.2f}" for m in METHODS)
                name = f"{batch}x3x{side}x{side} | {size} | {grad}"
                print(f"| {name} | {row} |", flush=True)


def measure(
    batch: int, side: int, size: int, *, grad: str, device: str, n: int
) -> dict[Method, float]:
    """Returns the smallest time of each method in seconds."""
    x = torch.rand(batch, 3, side, side, device=device, requires_grad=grad != "none")
    kernel = torch.rand(batch, 1, size, size, device=device, requires_grad=grad == "both")
    wanted = [t for t in (x, kernel) if t.requires_grad]

    def run(method: Method) -> None:
        y = blur(x, kernel, method=method)
        if wanted:
            torch.autograd.grad(y.square().sum(), wanted)

    best = dict.fromkeys(METHODS, float("inf"))
    for _ in range(n):
        for method in METHODS:
            best[method] = min(best[method], timed(lambda m=method: run(m), device))
    return best


def timed(run: Callable[[], None], device: str) -> float:
    # The clock of the process does not see a GPU work; there the wall clock is right.
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


if __name__ == "__main__":
    main()
