"""How far perturbations of the neural degradation take photographs, and what an attack costs.

    python benchmarks/neural.py radii PHOTOS [--preset tiny] [--scale 2] [--side 64] [--crops 256] [--out FILE.json]
    python benchmarks/neural.py paper PHOTOS [--scale 2] [--side 64] [--crops 256] [--out FILE.json]
    python benchmarks/neural.py cost [--out FILE.json]

`radii` attacks crops of photographs with the radii of a preset, each kind alone and all together, and reads off how far
they were taken (PSNR to the unperturbed ones: 5th, 50th and 95th percentile) and how often the loss rose. The
restorer is plain bicubic enlargement, which is what a fresh one does. This is all that the presets' radii were chosen
by: no restorer is trained and no test image is seen here. It also matches the rivals: the reach of random
perturbations and the radius of noise alone that take images as far.

`paper` does the same with the printed ball (radius 20, step 6, weights 1, 10, 50), for 1 to 5 steps, and with balls of
other sizes. `cost` times one step of training with an attack of 5 steps against one without, in seconds and FLOPs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemish.data import ImageBatches, StreamedImages, open_source
from blemish.degradations import NeuralDegradation, NeuralParams, Radii, attack, deviation
from blemish.functional.random import generator_for
from blemish.functional.resample import bicubic
from blemish.recipes import configure, with_scale
from blemish.systems import ANDNet
from blemish.training.cost import estimate

BATCH = 32


def crops(folder: str, side: int, count: int) -> Tensor:
    """Returns random crops of photographs, with shape (count, 3, side, side)."""
    source = open_source(folder, mixed=True, channels=3, smallest=side)
    images = StreamedImages(source, crop=side, keep_jpeg_grid=False, workers=2)
    return ImageBatches(images, 0, random_crop=True, ahead=0)(0, count)


def attacked(d: NeuralDegradation, x: Tensor, steps: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Returns deviations in dB, whether losses rose, and the shares of the squared radius, for each crop."""
    found, rose, shares = [], [], []
    for i, part in enumerate(torch.split(x, BATCH)):
        size = (part.shape[-2], part.shape[-1])

        def loss(y: Tensor, part: Tensor = part, size: tuple[int, int] = size) -> Tensor:
            return (bicubic(y, size) - part).abs().flatten(1).mean(dim=1)

        params = attack(d, part, loss, generator=generator_for("attack", i), steps=steps)
        with torch.no_grad():
            y = d(part, params)
            plain = d(part, d.identity(tuple(part.shape), generator=generator_for("attack", i)))  # type: ignore[arg-type]
            rose.append(loss(y) > loss(plain))
        found.append(deviation(d, part, y))
        shares.append(used(d, part, params))
    return torch.cat(found), torch.cat(rose), torch.cat(shares)


def used(d: NeuralDegradation, x: Tensor, params: NeuralParams) -> Tensor:
    """Returns the squared lengths of the three kinds in units of their radii, with shape (B, 3)."""
    lengths = d.config.radii.lengths(tuple(x.shape), d.scale)  # type: ignore[arg-type]
    groups = (params.kernels, params.slopes, params.noise)
    units = [
        g.norm(dim=1) / r if r else g.norm(dim=1) for g, r in zip(groups, lengths, strict=True)
    ]
    return torch.stack(units, dim=1).square()


def percentiles(values: Tensor) -> list[float]:
    """Returns the 5th, the 50th and the 95th percentile."""
    at = torch.tensor([0.05, 0.5, 0.95])
    return [round(v, 2) for v in torch.quantile(values.nan_to_num(neginf=-999), at).tolist()]


def radii(args: argparse.Namespace) -> dict[str, Any]:
    """Measures the radii of a preset, and matches the rivals."""
    config = with_scale(configure("andnet", args.preset), args.scale).system.perturbation
    x = crops(args.photos, args.side, args.crops)
    whole = config.radii
    nothing = Radii(kernel=0.0, slope=0.0, noise=0.0)
    kinds = {
        "kernel": replace(nothing, kernel=whole.kernel),
        "slope": replace(nothing, slope=whole.slope),
        "noise": replace(nothing, noise=whole.noise),
        "all": whole,
    }
    rows = {}
    for name, ball in kinds.items():
        found, rose, _ = attacked(replace(config, radii=ball).build(), x)
        rows[name] = {"dB": percentiles(found), "rose": round(float(rose.double().mean()), 4)}
        print(name, ball, rows[name], flush=True)
    target = rows["all"]["dB"][1]
    random = replace(config, reach=1.0).build()
    y = random(x, random.sample(tuple(x.shape), generator=generator_for("random")))  # type: ignore[arg-type]
    # At these lengths deviations grow as the reach does.
    reach = 10 ** ((float(deviation(random, x, y).median()) - target) / 20)
    d = replace(config, reach=reach).build()
    y = d(x, d.sample(tuple(x.shape), generator=generator_for("random")))  # type: ignore[arg-type]
    rows["random"] = {"dB": percentiles(deviation(d, x, y)), "reach": round(reach, 2)}
    print("random", rows["random"], flush=True)
    # The attack spends all of the ball.
    level = 10 ** (-target / 20)
    alone = replace(config, blocks=(0, 1), radii=replace(nothing, noise=level))
    found, rose, _ = attacked(alone.build(), x)
    rows["only noise"] = {"dB": percentiles(found), "radius": round(level, 4)}
    print("only noise", rows["only noise"], flush=True)
    return {"preset": args.preset, "scale": args.scale, "crops": list(x.shape), "rows": rows}


def paper(args: argparse.Namespace) -> dict[str, Any]:
    """Measures the printed ball, and balls of other sizes."""
    x = crops(args.photos, args.side, args.crops)
    rows = []
    for size in (20.0, 20 / math.sqrt(48), 1.0, 20 / 255, 0.01):
        ball = Radii(kernel=size, slope=size / 50, noise=size / 10, joint=True)
        d = NeuralDegradation.Config(scale=args.scale, radii=ball, flat=False).build()
        for steps in range(1, 6):
            found, rose, shares = attacked(d, x, steps)
            share = (shares / shares.sum(dim=1, keepdim=True)).mean(dim=0).tolist()
            row = {"radius": round(size, 4), "steps": steps, "dB": percentiles(found)}
            row |= {"rose": float(rose.double().mean()), "kernel, slope, noise": share}
            rows.append(row)
            print(row, flush=True)
    return {"scale": args.scale, "crops": list(x.shape), "channels": 64, "rows": rows}


def cost(args: argparse.Namespace) -> dict[str, Any]:
    """Times a step of training with and without the attack."""
    rows = []
    cases: dict[str, tuple[ANDNet.Config, int, int]] = {}
    # The paper's networks on smaller crops, which change no ratio
    for preset, scale, batch, side in (
        ("tiny", 2, 8, 64),
        ("photos", 2, 8, 96),
        ("div2k", 4, 1, 128),
    ):
        system = with_scale(configure("andnet", preset), scale).system
        cases[f"{preset} x{scale}"] = system, batch, side
    for name, (system, batch, side) in cases.items():
        row: dict[str, Any] = {"case": name, "batch": batch, "side": side, "clean": system.clean}
        row |= measured(replace(system, perturb="none"), batch, side, "none")
        row |= measured(replace(system, clean=0.0), batch, side, "worst")
        row |= measured(system, batch, side, "trained")
        row["times"] = round(row["worst s"] / row["none s"], 2)
        row["times as trained"] = round(row["trained s"] / row["none s"], 2)
        row["GFLOP ratio"] = round(row["worst GFLOP"] / row["none GFLOP"], 2)
        ratio = forward_ratio(system.restorer.network, system.perturbation, side)
        row["restorer / degradation"] = round(ratio, 2)
        rows.append(row)
        print(row, flush=True)
    return {"threads": torch.get_num_threads(), "rows": rows}


def measured(config: ANDNet.Config, batch: int, side: int, name: str) -> dict[str, float]:
    """Returns the seconds and the FLOPs of a step of training."""
    system, x = config.build(), torch.rand(batch, 3, side, side)
    optimizer = torch.optim.Adam(system.restorer.parameters())
    seconds = []
    for i in range(5):
        begin = time.process_time()
        g = generator_for("cost", i)
        system.prepare(x, g, i)
        sum(system.losses("T", x, g, i).values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - begin)
    run = configure("andnet", "tiny")
    run = replace(run, system=config, training=replace(run.training, batch=batch))
    flops = estimate(system, run, (3, side, side)).flops_per_iteration
    return {f"{name} s": round(sorted(seconds[1:])[2], 4), f"{name} GFLOP": round(flops / 1e9, 3)}


def forward_ratio(network: Any, perturbation: NeuralDegradation.Config, side: int) -> float:
    """Returns how many times as many FLOPs the restorer's forward pass has."""
    counter = torch.utils.flop_counter.FlopCounterMode(display=False)
    x = torch.rand(1, 3, side, side)
    d = perturbation.build()
    params = d.identity((1, 3, side, side), generator=generator_for("flops"))
    with torch.no_grad(), counter:
        y = d(x, params)
    of_degradation = counter.get_total_flops()
    counter = torch.utils.flop_counter.FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.build()(y)
    return counter.get_total_flops() / of_degradation


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Returns a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def spread(row: dict[str, Any]) -> str:
    """Returns a median and the 5th and 95th percentile."""
    low, middle, high = row["dB"]
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def radii_table(result: dict[str, Any]) -> str:
    """Returns how far each kind of perturbation takes images."""
    rows = [
        [name, spread(row), f"{100 * row['rose']:.1f} %" if "rose" in row else "-"]
        for name, row in result["rows"].items()
    ]
    return markdown(["perturbation", "PSNR to the unperturbed, dB", "loss rose"], rows)


def paper_table(result: dict[str, Any]) -> str:
    """Returns where balls as the printed one lead, after 1 and after 5 steps."""
    cells = {(row["radius"], row["steps"]): row for row in result["rows"]}
    rows = []
    for radius in dict.fromkeys(row["radius"] for row in result["rows"]):
        last = cells[radius, 5]
        shares = last["kernel, slope, noise"]
        rest = f"{shares[1]:.0e}, {shares[2]:.0e}"
        rows.append(
            [f"{radius:g}", spread(cells[radius, 1]), spread(last), f"{shares[0]:.4f}", rest]
        )
    head = ["radius", "dB after 1 step", "dB after 5", "filters' share", "slopes', noise's"]
    return markdown(head, rows)


def cost_table(result: dict[str, Any]) -> str:
    """Returns what a step with an attack costs beside one without."""
    rows = [
        [
            row["case"],
            f"{row['restorer / degradation']:.1f}",
            f"{row['none s']:.3f}",
            f"{row['worst s']:.3f}",
            f"{row['times']:.2f}",
            f"{row['GFLOP ratio']:.2f}",
            f"{row['times as trained']:.2f} ({100 * (1 - row['clean']):.0f} %)",
        ]
        for row in result["rows"]
    ]
    head = ["case", "restorer's FLOPs / perturbation's", "plain step, s", "with attack, s", "times"]
    return markdown([*head, "times by FLOPs", "times as trained (share perturbed)"], rows)


TABLES = {"radii": radii_table, "paper": paper_table, "cost": cost_table}


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("radii", "paper", "cost"))
    parser.add_argument("photos", nargs="?")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--side", type=int, default=64, help="of the crops")
    parser.add_argument("--crops", type=int, default=256)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.what != "cost" and args.photos is None:
        parser.error(f"{args.what} needs a folder of photographs")
    result = {"radii": radii, "paper": paper, "cost": cost}[args.what](args)
    result["torch"] = torch.__version__
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
        args.out.with_suffix(".md").write_text(TABLES[args.what](result))


if __name__ == "__main__":
    main()
