"""What the demos share: trainings beside each other that go on where they stopped, and a measure of glyphs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import load_images, open_source
from ..metrics import Extractor, train_classifier
from ..runs import Run, load

__all__ = ["classifier", "labelled_glyphs", "train_all"]

AT_ONCE = 2
"""The number of trainings at a time, one thread each."""


def labelled_glyphs(size: int, channels: int, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Returns clean glyphs that no model has seen, and their characters.

    Arguments:
        size: The side.
        channels: The channels.
        count: The number N; None means as many as there usually are.

    Returns:
        The images, uint8, with shape (N, C, size, size), and numbers of characters, with shape (N,).
    """
    name = "glyphs" if count is None else f"glyphs:{count}"
    source = open_source(name, size=size, channels=channels, seed=2)
    labels = torch.tensor([source.label(i) for i in range(len(source))])
    return load_images(source), labels


def classifier(images: Tensor, labels: Tensor, *, steps: int = 600) -> Extractor:
    """Trains a small classifier of clean glyphs, the same for all models and seeds.

    Features of a network for photographs do worse here: on flat drawings they take an invisible grain
    for twice the distance of the whole blur.

    Arguments:
        images: See :func:`labelled_glyphs`.
        labels: The same.
        steps: Its iterations.
    """
    return train_classifier(images, labels, seed=0, steps=steps, name="glyphs-cnn32")


def train_all(out: Path, trainings: Mapping[str, Sequence[str]], *, seed: int) -> None:
    """Trains on glyphs, two runs at a time, one thread each. What is trained already is not trained again.

    Arguments:
        out: The folder of the runs and their logs.
        trainings: What ``blemish train`` is told of each run, by the name of its folder.
        seed: The seed of all.

    Raises:
        ValueError: If one fails; the message names its log.
    """
    out.mkdir(parents=True, exist_ok=True)
    waiting = [(name, _command(out / name, words, seed)) for name, words in trainings.items()]
    running: dict[str, subprocess.Popen[bytes]] = {}
    with contextlib.ExitStack() as stack:
        stack.callback(_stop, running)
        bars = stack.enter_context(_bars(out, list(trainings)))
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                name, command = waiting.pop(0)
                log = stack.enter_context((out / f"{name}.log").open("ab"))
                environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
                running[name] = subprocess.Popen(
                    command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
                )
            time.sleep(0.5)
            bars.update()
            for name in [name for name, process in running.items() if process.poll() is not None]:
                if running.pop(name).returncode:
                    raise ValueError(_failure(name, out))


def _failure(name: str, out: Path) -> str:
    """Returns what a training said last."""
    log = out / f"{name}.log"
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    said = lines[-1] if lines else "it said nothing"
    hint = ""
    if "another configuration" in said:
        hint = (
            f"; {out} holds a demo of another seed or version: remove it, or choose another --out"
        )
    return f"training {name} failed; its log is {log}: {said}{hint}"


def _command(run: Path, words: Sequence[str], seed: int) -> list[str]:
    recipe, *rest = words
    start = [sys.executable, "-m", "blemish", "train", recipe, "--data", "glyphs", *rest]
    return [*start, "--seed", str(seed), "--device", "cpu", "--out", str(run), "--resume"]


def _stop(running: dict[str, subprocess.Popen[bytes]]) -> None:
    for process in running.values():
        process.terminate()
    for process in running.values():
        process.wait()


class _Bars:
    """A progress bar for each run, read from its metrics."""

    def __init__(self, out: Path, names: Sequence[str], bar: Any) -> None:
        self.out, self.bar = out, bar
        self.tasks = {name: bar.add_task(name, total=None) for name in names}

    def update(self) -> None:
        """Reads how far the runs are."""
        for name, task in self.tasks.items():
            seen, total = _seen(self.out / name)
            if seen:
                self.bar.update(task, completed=seen, total=total)


@contextlib.contextmanager
def _bars(out: Path, names: Sequence[str]) -> Iterator[_Bars]:
    """A context in which the bars are shown."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description:12}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns) as bar:
        yield _Bars(out, names, bar)


def _seen(folder: Path) -> tuple[int, int]:
    """Returns the numbers of images that a run has seen and will have seen."""
    if not (folder / "metrics.jsonl").exists():
        return 0, 0
    run: Run = load(folder)
    lines = run.metrics()
    return (lines[-1]["images"] if lines else 0), run.config.training.images
