"""How far a degraded data set is from the clean one: mean PSNR and SSIM.

    blemish degrade setting:N CLEAN DEGRADED
    python benchmarks/fidelity.py CLEAN DEGRADED --json numbers.json

The pairs are those that ``params.jsonl`` in DEGRADED names. PSNR is computed for each 8-bit image and
averaged; SSIM has a Gaussian window (sigma 1.5, 11 x 11) and is averaged over the channels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from blemish.data import open_source
from blemish.metrics import psnr, ssim


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clean")
    parser.add_argument("degraded", type=Path)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    clean, damaged = open_source(a.clean, mixed=True), open_source(a.degraded, mixed=True)
    where = {damaged.name(i): i for i in range(len(damaged))}
    lines = [json.loads(x) for x in (a.degraded / "params.jsonl").read_text().splitlines()]
    names = {clean.name(i): i for i in range(len(clean))}
    scores = []
    for start in range(0, len(lines), 500):
        rows = lines[start : start + 500]
        x = torch.stack([clean.read(names[row["source"]]) for row in rows])
        y = torch.stack([damaged.read(where[row["file"]]) for row in rows])
        scores.append(torch.stack([psnr(x, y), ssim(x, y)]))
    mean = torch.cat(scores, dim=1).mean(dim=1)
    result = {"images": len(lines), "psnr": mean[0].item(), "ssim": mean[1].item()}
    print(json.dumps(result))
    if a.json:
        a.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
