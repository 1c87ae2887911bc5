r"""Does the proximal distance rank the checkpoints of a run as the distance to clean images does?

    python benchmarks/selection.py --out docs/results/selection --data CIFAR/train.zip --test CIFAR/test.zip \
        --label cifar10 --preset small16

For each setting the robust GAN of that damage is trained. At twenty moments of the training the proximal
distance is measured, as training does it, on images kept back, and the Fréchet distance of samples to
clean test images, which a user would not have. A cell that has its JSON file in --out is not computed
again; --table prints what is there.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from blemish.bench.cells import clean_images, pick
from blemish.commands.sample import sample_images
from blemish.data import Images
from blemish.degradations import freeze, setting, to_uint8
from blemish.metrics import extract, frechet, named_features
from blemish.recipes import configure
from blemish.runs import Run, change, start

RECIPES = {"D": "br-gan", "R": "nr-gan", "J": "cr-gan", "N": "bncr-gan"}
MOMENTS = 20


def spearman(a: list[float], b: list[float]) -> float:
    """Returns the correlation of the ranks of two lists without ties."""
    ranks = [torch.tensor(x).argsort().argsort().double() for x in (a, b)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def train(a: argparse.Namespace, letter: str, seed: int) -> Run:
    config = configure(RECIPES[letter], a.preset, letter)
    images = a.images or config.training.images
    batch = config.training.batch
    every = max(1, images // (MOMENTS * batch)) * batch
    config = change(
        config,
        {
            "seed": str(seed),
            "data.source": a.data,
            "data.fit": "resize",
            "training.images": str(images),
            "training.sample_every": str(every),
            "training.checkpoint_every": str(every),
            "training.keep": str(2 * MOMENTS),
            "selection.features": a.features,
            **dict(item.split("=", 1) for item in a.set),
        },
    )
    clean = clean_images(a.data, config.data.size or 0, config.data.channels)
    observed = freeze(setting(letter), clean, seed=seed)
    run, result = start(
        config,
        a.runs / f"{a.label}-{letter}-{seed}",
        resume=True,
        device=a.device,
        images=Images(observed),
        silent=True,
    )
    if not result.finished:
        raise SystemExit("stopped; the same command goes on")
    return run


def measure(a: argparse.Namespace, run: Run, letter: str, seed: int) -> dict[str, Any]:
    """Returns both distances at each moment."""
    data = run.config.data
    features = named_features(a.features, data.channels)
    test = pick(clean_images(a.test, data.size or 0, data.channels), a.count, "test")
    reference = extract(features, test)
    prior, selection = run.prior, run.selection
    assert selection is not None
    rows = []
    for one in selection.history:
        averages = load_file(
            run.folder / "checkpoints" / f"{one.images:012d}" / "averages.safetensors"
        )
        prior.load_state_dict(
            {k.removeprefix("prior."): v for k, v in averages.items() if k.startswith("prior.")}
        )
        samples = to_uint8(sample_images(prior, a.count, seed=seed))
        rows.append({**asdict(one), "clean": frechet(extract(features, samples), reference)})
    return {
        "data": a.label,
        "setting": letter,
        "recipe": run.config.recipe,
        "seed": seed,
        "preset": a.preset,
        "changes": dict(item.split("=", 1) for item in a.set),
        "images": run.images,
        "features": features.name,
        "count": a.count,
        "samples": selection.samples,
        "held_out": selection.held_out,
        "moments": rows,
    }


def verdict(document: dict[str, Any]) -> dict[str, float]:
    """Returns how well the proximal distance chose; the loss is a share of the best clean distance."""
    rows = [row for row in document["moments"] if row["distance"] is not None]
    proximal, clean = ([row[key] for row in rows] for key in ("distance", "clean"))
    chosen = clean[proximal.index(min(proximal))]
    return {
        "spearman": spearman(proximal, clean),
        "best": min(clean),
        "chosen": chosen,
        "last": clean[-1],
        "lost": chosen / min(clean) - 1,
        "lost_by_last": clean[-1] / min(clean) - 1,
    }


def table(folder: Path) -> str:
    lines = [
        "| data | setting | recipe | seed | Spearman | best | chosen blindly | last | lost | lost by the last |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for file in sorted(folder.glob("*.json")):
        document = json.loads(file.read_text())
        v = verdict(document)
        lines.append(
            f"| {document['data']} | {document['setting']} | {document['recipe']} | {document['seed']} "
            f"| {v['spearman']:.2f} | {v['best']:.0f} | {v['chosen']:.0f} | {v['last']:.0f} "
            f"| {v['lost']:.1%} | {v['lost_by_last']:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files")
    parser.add_argument("--runs", type=Path, default=Path("runs/selection"))
    parser.add_argument("--data", help="clean training images")
    parser.add_argument("--test", help="clean test images")
    parser.add_argument("--label", help="what the data are called")
    parser.add_argument("--preset", default="small16")
    parser.add_argument("--settings", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, help="observed images; default: the preset's")
    parser.add_argument("--features", default="effnet-lite0@96")
    parser.add_argument("--count", type=int, default=3000, help="images against clean ones")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--table", action="store_true", help="print what is there")
    a = parser.parse_args()
    torch.set_num_threads(1)
    a.out.mkdir(parents=True, exist_ok=True)
    for seed in () if a.table else a.seeds:
        for letter in a.settings:
            file = a.out / f"{a.label}-{letter}-{seed}.json"
            if not file.exists():
                document = measure(a, train(a, letter, seed), letter, seed)
                file.write_text(json.dumps(document, indent=2) + "\n")
                print(file.name, verdict(document), flush=True)
    text = table(a.out)
    (a.out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
