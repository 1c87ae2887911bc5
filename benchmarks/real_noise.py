"""Real noise, read off photographs and put onto others: does it come nearer in strength and in grain?

    python benchmarks/real_noise.py RUN NOISY CLEAN --out docs/results/real-noise

RUN is a run of `universal`, NOISY and CLEAN are folders of photographs: with real noise of unknown kind, and without
noise. Of the clean ones those with the flattest blocks are taken (--count), where noise can be measured best. The code of
each noisy picture is put onto all of them, with its map (*map*) and without (*global only*). Measured on each, on the luma:

spectrum  of the noise in flat blocks, `blemish.metrics.noise_spectrum`
level     the root of its mean over frequencies, in 1/255: the deviation of white noise; in real pictures, of the noise
          that is finer than six pixels
grain     how far the spectrum is from that of the noisy picture: the root mean square over frequencies, in dB

OUT/cells.json has every number, OUT/table.md the means over the clean pictures, the noisiest reference first.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import arms
import numpy as np
import torch
from torch import Tensor

from blemish.artefacts import digest
from blemish.commands.encode import find_model
from blemish.data.files import picture_names
from blemish.functional.random import stable_hash
from blemish.functional.stages import grey_of
from blemish.metrics import noise_spectrum
from blemish.photos import Picture, read_picture, tensor_of, write_picture
from blemish.photos.redegrade import encode_picture, redegrade_picture

WAYS = {"map": True, "global only": False}


def pictures(folder: Path) -> dict[str, Tensor]:
    """Returns the pictures of a folder as bytes by name, each with shape (1, 3, H, W)."""
    return {n: tensor_of(read_picture(folder / n).colours, 3) for n in picture_names(folder)}


def measured(x: Tensor) -> dict[str, Any]:
    """Returns the level, in 1/255, and the spectrum of a picture's noise."""
    spectrum = noise_spectrum(grey_of(x.float() / 255))[0]
    return {"level": 255 * float(spectrum.mean().sqrt()), "spectrum": spectrum.tolist()}


def compared(found: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
    """Returns how far noise is from that of the reference."""
    ratios = [
        10 * math.log10(a / b)
        for a, b in zip(found["spectrum"], reference["spectrum"], strict=True)
    ]
    return {
        "level": round(found["level"], 3),
        "off": round(abs(found["level"] - reference["level"]), 3),
        "grain": round(math.sqrt(sum(r * r for r in ratios) / len(ratios)), 3),
    }


def transferred(args: argparse.Namespace) -> dict[str, Any]:
    """Puts the damage of each noisy picture onto each clean one, and measures."""
    model = find_model(args.run, None, "cpu")
    clean = pictures(args.clean)
    flattest = sorted(clean, key=lambda name: float(measured(clean[name])["level"]))
    rows = []
    for name, y in pictures(args.noisy).items():
        code, reference = encode_picture(model, y), measured(y)
        bits_g, bits_l = (float(b) for b in model.bits(code))
        row: dict[str, Any] = {"reference": name, "level": round(reference["level"], 3)}
        row |= {"bits_g": round(bits_g, 1), "bits_l": round(bits_l, 1), "targets": []}
        for target in flattest[: args.count]:
            x = clean[target]
            found = {"target": target, "before": compared(measured(x), reference)}
            for way, local in WAYS.items():
                fitted = model.fit(code, (1, 3, *x.shape[-2:]), local=local)
                seed = stable_hash(args.seed, name, target)
                made = redegrade_picture(model, x, fitted, seed=seed)
                found[way] = compared(measured(made), reference)
                if args.pictures is not None:
                    save(made, args.pictures / f"{Path(name).stem}-{Path(target).stem}-{way}.png")
            row["targets"].append(found)
        rows.append(row)
        print(row["reference"], flush=True)
    return {"model": digest(model), "seed": args.seed, "rows": rows}


def save(x: Tensor, path: Path) -> None:
    """Writes a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(Picture(np.ascontiguousarray(x[0].permute(1, 2, 0).numpy())), path)


def table(document: dict[str, Any]) -> str:
    """Returns the means over targets as Markdown."""
    heads = ["reference", "its level", "level before", *WAYS, "grain off before, dB", *WAYS]
    heads += [f"nearer in both ({way})" for way in WAYS]
    rows = [heads]
    for row in sorted(document["rows"], key=lambda row: -row["level"]):
        targets = row["targets"]

        def mean(way: str, key: str, targets: list[dict[str, Any]] = targets) -> str:
            return f"{sum(t[way][key] for t in targets) / len(targets):.2f}"

        nearer = {
            way: sum(all(t[way][k] < t["before"][k] for k in ("off", "grain")) for t in targets)
            for way in WAYS
        }
        rows.append(
            [
                Path(row["reference"]).stem,
                f"{row['level']:.2f}",
                *(mean(way, "level") for way in ("before", *WAYS)),
                *(mean(way, "grain") for way in ("before", *WAYS)),
                *(f"{nearer[way]} of {len(targets)}" for way in WAYS),
            ]
        )
    return arms.markdown(rows)


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("noisy", type=Path)
    parser.add_argument("clean", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=5, help="clean pictures; default: 5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, help="a folder for what was made")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    document = transferred(args)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "cells.json").write_text(json.dumps(document, indent=1) + "\n")
    text = table(document)
    (args.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
