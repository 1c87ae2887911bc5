"""What comparisons of trainings have in common: arms and seeds, their cells, and what they took.

A cell is one arm and seed: OUT/cells/ARM-SEED.json. A stopped training goes on with the same command, from OUT/runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from blemish.runs import Run, start
from blemish.training.config import RunConfig


def parser(description: str, arms: Sequence[str], preset: str) -> argparse.ArgumentParser:
    """Returns the parser of a comparison."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("train", nargs="?")
    made.add_argument("test", nargs="?")
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--arms", default=",".join(arms))
    made.add_argument("--seeds", default="0,1,2")
    made.add_argument("--preset", default=preset)
    made.add_argument("--images", type=int, help="images seen; default: the preset's")
    return made


def wanted(args: argparse.Namespace, arms: Sequence[str]) -> list[tuple[str, int]]:
    """Returns the arms and seeds that are asked for, seed by seed; none where no data are given."""
    if args.test is None:
        return []
    chosen = args.arms.split(",")
    for arm in chosen:
        if arm not in arms:
            raise SystemExit(f"{arm}: choose {', '.join(arms)}")
    return [(arm, int(seed)) for seed in args.seeds.split(",") for arm in chosen]


def trained(
    config: RunConfig, folder: Path, *, device: str = "cpu", limit: float = math.inf
) -> tuple[Run, float]:
    """Trains a run, or goes on with it.

    Arguments:
        config: The run.
        folder: Its folder.
        device: Where it is trained.
        limit: The seconds of CPU time after which it is stopped.

    Returns:
        The run, and the seconds of CPU time that it took.
    """
    spent = folder / "cpu_seconds.json"
    before = json.loads(spent.read_text()) if spent.exists() else 0.0
    begin = time.process_time()

    def seconds() -> float:
        return float(before + time.process_time() - begin)

    run, result = start(
        config,
        folder,
        resume=True,
        device=device,
        silent=True,
        stop=lambda: seconds() > limit,
    )
    spent.write_text(json.dumps(seconds()))
    if not result.finished and limit == math.inf:
        raise SystemExit(f"{folder} was stopped; the same command goes on")
    return run, seconds()


def cell_path(out: Path, arm: str, seed: int) -> Path:
    """Returns where a cell is written."""
    return out / "cells" / f"{arm}-{seed}.json"


def write_cell(path: Path, document: dict[str, Any]) -> None:
    """Writes a cell, and on what machine it was computed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    path.write_text(json.dumps({**document, **machine}) + "\n")


def read_cells(out: Path) -> list[dict[str, Any]]:
    """Returns all cells, by name."""
    cells = [json.loads(path.read_text()) for path in sorted((out / "cells").glob("*.json"))]
    if not cells:
        raise SystemExit(f"{out} has no cells")
    return cells


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows, of which the first are the heads, as a table."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def spread(values: list[float], digits: int = 2) -> str:
    """Returns a mean, and the lowest and highest of several values."""
    mean = sum(values) / len(values)
    if len(values) == 1 or math.isclose(min(values), max(values)):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def show(out: Path, table: str) -> None:
    """Writes a table and prints it."""
    (out / "table.md").write_text(table)
    print(table)
