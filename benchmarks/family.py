r"""Pictures and short tables of cells that ``blemish bench family`` has computed.

    python benchmarks/family.py docs/results/family                       # plain, robust, informed, by setting
    python benchmarks/family.py docs/results/family --picture family.png --label fashion-mnist --test FOLDER:test

A row of the picture shows degraded images, samples of each model, clean images; or samples
alone (without ``--test``), where the data's own pictures may not be shown. It needs the trained runs, which the bench
leaves in ``runs/`` of its folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from blemish import load
from blemish.bench import read_cells
from blemish.bench.cells import clean_images, pick
from blemish.commands.sample import sample_images

SHOWN = 12
SETTINGS = {
    "D": ("gan", "br-gan", "ambient-gan"),
    "R": ("gan", "nr-gan", "ambient-gan"),
    "N": ("gan", "bncr-gan", "ambient-gan"),
    "J": ("gan", "cr-gan", "ambient-gan"),
}
"""The plain GAN, the robust GAN and the informed one."""


def table(folder: Path) -> str:
    """Returns the cells as Markdown: one row for each data set and setting, seeds side by side."""
    cells = read_cells(folder)
    lines = ["| data | setting | degraded images | plain GAN | robust GAN | AmbientGAN | order |"]
    lines.append("|---|---|---|---|---|---|---|")
    for data in sorted({cell["data"] for cell in cells}):
        seeds = sorted({cell["seed"] for cell in cells if cell["data"] == data})
        for letter, models in SETTINGS.items():
            found = {
                (cell["recipe"], cell["seed"]): cell
                for cell in cells
                if cell["data"] == data and cell["setting"] == letter
            }
            if found:
                lines.append(_line(data, letter, models, found, seeds))
    return "\n".join(lines)


def _line(
    data: str,
    letter: str,
    models: tuple[str, str, str],
    found: dict[tuple[str, int], dict[str, Any]],
    seeds: list[int],
) -> str:
    plain, robust, told = ([found.get((model, s)) for s in seeds] for model in models)
    # All cells of a seed have the same degraded images.
    degraded = [next((c for (_, s), c in found.items() if s == seed), None) for seed in seeds]
    holds = [b["frechet"] < a["frechet"] for a, b in zip(plain, robust, strict=True) if a and b]
    columns = [
        data,
        letter,
        _numbers(degraded, "degraded_frechet"),
        *map(_numbers, (plain, robust, told)),
        f"{sum(holds)} of {len(holds)}" if holds else "-",
    ]
    return f"| {' | '.join(columns)} |"


def _numbers(cells: list[dict[str, Any] | None], key: str = "frechet") -> str:
    return " / ".join("-" if cell is None else f"{cell[key]:.0f}" for cell in cells)


def picture(folder: Path, label: str, seed: int, test: str | None) -> Image.Image:
    """Returns a row for each setting of which all models are trained.

    Arguments:
        folder: The bench's folder.
        label: The label of the data.
        seed: The seed.
        test: Clean test images; None shows the samples alone.
    """
    rows = []
    for letter, models in SETTINGS.items():
        runs = [folder / "runs" / f"{label}-{letter}-{model}-{seed}" for model in models]
        if not all((run / "prior").exists() for run in runs):
            continue
        priors = [load(run, "last").prior for run in runs]
        channels, size, _ = priors[0].shape
        panels = [sample_images(prior, SHOWN, seed=seed) for prior in priors]
        if test is not None:
            frozen = torch.from_numpy(np.load(folder / "data" / f"{label}-{letter}-{seed}.npy"))
            clean = clean_images(test, size, channels)
            shown = [pick(images, SHOWN, "shown").float() / 255 for images in (frozen, clean)]
            panels = [shown[0], *panels, shown[1]]
        rows.append(torch.cat([_tile(panel) for panel in panels], dim=2))
    if not rows:
        raise SystemExit(f"no setting has all of these models trained in {folder / 'runs'}")
    pixels = (torch.cat(rows, dim=1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    return Image.fromarray(pixels.numpy()).resize(
        (2 * pixels.shape[1], 2 * pixels.shape[0]), Image.Resampling.NEAREST
    )


def _tile(images: torch.Tensor) -> torch.Tensor:
    """Puts images in two rows on white paper, with shape (3, H, W)."""
    padded = F.pad(images.expand(-1, 3, -1, -1), (0, 1, 0, 1), value=1.0)
    above, below = (torch.cat(list(half), dim=2) for half in padded.chunk(2))
    return F.pad(torch.cat([above, below], dim=1), (0, 4, 0, 4), value=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder of the bench")
    parser.add_argument("--picture", type=Path, help="draw what is trained into this file")
    parser.add_argument("--label", help="the label of the data that are drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", help="clean test images; without them samples alone are drawn")
    a = parser.parse_args()
    if a.picture:
        picture(a.folder, a.label, a.seed, a.test).save(a.picture)
    else:
        print(table(a.folder))


if __name__ == "__main__":
    main()
