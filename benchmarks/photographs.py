"""Photographs before and after they were restored, picture by picture; as numbers for docs/results/photographs.

    python benchmarks/photographs.py pairs CLEAN DAMAGED --restored NAME=FOLDER ... --out FILE.json
    python benchmarks/photographs.py alone DAMAGED --restored NAME=FOLDER ... --natural FOLDER --out FILE.json
    python benchmarks/photographs.py classical DAMAGED OUT
    python benchmarks/photographs.py sheet CLEAN DAMAGED --restored NAME=FOLDER ... --names A,B --out FILE.png

`pairs` compares with clean photographs of the same names: PSNR, SSIM, and the perceptual distance on
EfficientNet-Lite0's activations. `alone` has none: it takes the scores that need no reference. `classical` restores by
scikit-image with its default parameters: OUT/denoise is `denoise_tv_chambolle`, OUT/deblur is that and `richardson_lucy`
with a flat kernel of 5x5 pixels, the one of its documentation. `sheet` shows crops at 100 %, a row for each
photograph: damaged, restored, clean.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from blemish.data import Source, open_source
from blemish.evaluation.before_after import most_changed
from blemish.evaluation.folder import measure
from blemish.functional.resample import repeated
from blemish.metrics import NIQEModel, niqe, perceptual, perceptual_network, psnr, ssim

CROP = 192

Scores = dict[str, list[float]]


def photographs(folder: str) -> Source:
    """Opens whole photographs in colour."""
    return open_source(folder, mixed=True, channels=3)


def stems(source: Source) -> list[str]:
    """Returns the photographs' names without their endings."""
    return [Path(source.name(i)).stem for i in range(len(source))]


@torch.no_grad()
def paired(clean: Source, other: Source) -> Scores:
    """Returns the scores of photographs against their clean partners."""
    if stems(clean) != stems(other):
        raise SystemExit(f"{other.title} and {clean.title} have different names")
    network = perceptual_network()
    scores: Scores = {"perceptual": [], "psnr": [], "ssim": []}
    for i in range(len(clean)):
        x, y = clean.read(i)[None], other.read(i)[None]
        scores["perceptual"].append(float(perceptual(x, y, network)))
        scores["psnr"].append(float(psnr(x, y)))
        scores["ssim"].append(float(ssim(x, y)))
    return scores


@torch.no_grad()
def lonely(source: Source, model: NIQEModel) -> Scores:
    """Returns the scores of photographs that need no others."""
    scores: Scores = {name: [] for name in ("niqe", "noise_luma", "blur_radius", "grid_strength")}
    for i in range(len(source)):
        y = source.read(i)[None]
        scores["niqe"].append(float(niqe(y, model)))
        found = measure(y)
        for name in ("noise_luma", "blur_radius", "grid_strength"):
            value = float(found[name])
            scores[name].append(value if math.isfinite(value) else math.nan)
    return scores


def summary(before: Scores, after: Scores, better_is_more: Iterable[str]) -> dict[str, Any]:
    """Returns means, and how many photographs are better than before."""
    more = set(better_is_more)
    found = {}
    for name, values in after.items():
        b, a = np.array(before[name]), np.array(values)
        gain = (a - b) if name in more else (b - a)
        found[name] = {
            "before": round(float(np.nanmean(b)), 4),
            "after": round(float(np.nanmean(a)), 4),
            "better": int((gain > 0).sum()),
            "of": int(np.isfinite(gain).sum()),
        }
    return found


def classical(damaged: str, out: Path) -> None:
    """Restores by scikit-image with its default parameters."""
    from skimage import restoration

    source = photographs(damaged)
    flat = np.ones((5, 5)) / 25
    for folder in ("denoise", "deblur"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(stems(source)):
        y = source.read(i).permute(1, 2, 0).numpy() / 255
        smooth = restoration.denoise_tv_chambolle(y, channel_axis=-1)
        sharp = [restoration.richardson_lucy(smooth[..., c], flat) for c in range(3)]
        for folder, x in (("denoise", smooth), ("deblur", np.stack(sharp, axis=-1))):
            pixels = torch.from_numpy(x).clamp(0, 1)
            save(pixels, out / folder / f"{name}.png")


def sheet(columns: list[Source], names: list[str], out: Path) -> None:
    """Writes crops at 100 %, where the last but one column differs most from the first."""
    known = stems(columns[0])
    if missing := [name for name in names if name not in known]:
        raise SystemExit(f"--names {','.join(missing)}: not among {columns[0].title}")
    rows = []
    for name in names:
        pictures = [column.read(known.index(name)) for column in columns]
        # Of a smaller picture each pixel is shown as the block that it stands for.
        pictures = [repeated(p, pictures[-1].shape[1] // p.shape[1]) for p in pictures]
        top, left = most_changed(pictures[0].float(), pictures[-2].float(), CROP)
        crops = [p[:, top : top + CROP, left : left + CROP] for p in pictures]
        rows.append(torch.cat([F.pad(crop, (0, 6, 0, 6), value=255) for crop in crops], dim=2))
    out.parent.mkdir(parents=True, exist_ok=True)
    save(torch.cat(rows, dim=1)[:, :-6, :-6].permute(1, 2, 0) / 255, out)


def save(pixels: Tensor, file: Path) -> None:
    """Writes a picture (H, W, C) in [0, 1]."""
    Image.fromarray((pixels * 255).round().to(torch.uint8).numpy()).save(file)


def _folders(texts: list[str]) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            raise SystemExit(f"--restored {text} names no folder; write NAME=FOLDER")
    return dict(text.split("=", 1) for text in texts)


def _write_scores(a: argparse.Namespace, restored: dict[str, str]) -> None:
    document: dict[str, Any] = {"command": a.command, "names": stems(photographs(a.damaged))}
    if a.command == "pairs":
        clean = photographs(a.clean)
        scores = {
            name: paired(clean, photographs(folder))
            for name, folder in {"damaged": a.damaged, **restored}.items()
        }
        more = ["psnr", "ssim"]
    else:
        if a.natural is None:
            raise SystemExit("the scores need --natural FOLDER, with undamaged photographs")
        natural = photographs(a.natural)
        images = [natural.read(i)[None] for i in range(len(natural))]
        model = NIQEModel.fit(images, f"{len(images)} photographs")
        document["niqe"] = model.name
        scores = {
            name: lonely(photographs(folder), model)
            for name, folder in {"damaged": a.damaged, **restored}.items()
        }
        more = []
    for name, folder in restored.items():
        if stems(photographs(folder)) != document["names"]:
            raise SystemExit(f"{name}={folder} and {a.damaged} have different names")
    document["scores"] = scores
    document["summary"] = {n: summary(scores["damaged"], s, more) for n, s in scores.items()}
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document["summary"], indent=1))


def main() -> None:
    """Runs one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("pairs", "alone", "classical", "sheet"):
        one = commands.add_parser(name)
        if name in ("pairs", "sheet"):
            one.add_argument("clean")
        one.add_argument("damaged")
        if name == "classical":
            one.add_argument("out", type=Path)
            continue
        one.add_argument("--restored", nargs="+", default=[], metavar="NAME=FOLDER")
        one.add_argument("--names", help="photographs of the sheet, with commas between them")
        one.add_argument("--natural", help="photographs that NIQE is fitted on")
        one.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    torch.set_num_threads(1)
    if a.command == "classical":
        classical(a.damaged, a.out)
        return
    restored = _folders(a.restored)
    if a.command == "sheet":
        if not a.names or not restored:
            raise SystemExit("a sheet needs --names A,B and at least one --restored NAME=FOLDER")
        folders = [a.damaged, *restored.values(), a.clean]
        sheet([photographs(folder) for folder in folders], a.names.split(","), a.out)
    else:
        _write_scores(a, restored)


if __name__ == "__main__":
    main()
