"""What a run writes besides checkpoints: its configuration, metrics, progress."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from ..configuration import encode
from .checkpoint import write_atomically
from .metrics import MetricsFile, TensorBoard
from .progress import Progress
from .run import Hook, Run

__all__ = ["Journal"]


class Journal:
    """Tells people and files how a run goes; files in the main process only.

    Arguments:
        run: The run, where it stands.
        source: The folder of the run that goes on, perhaps the same; None where a run starts.
        silent: Whether nothing is printed.
    """

    def __init__(self, run: Run, source: Path | None, silent: bool) -> None:
        self.run, self.source = run, source
        config, images = run.state.config, run.state.images
        title = f"{config.recipe} {config.preset}"
        silent = silent or not run.team.main
        self.progress = Progress(title, config.training.images, images, silent=silent)
        self._tensorboard: TensorBoard | None = None
        self._metrics = MetricsFile(run.state.out / "metrics.jsonl")
        self._before = run.state.seconds
        self._began = self._logged = time.monotonic()
        self._logged_images = images

    def __enter__(self) -> Self:
        """Opens the files."""
        state = self.run.state
        if self.run.team.main:
            state.out.mkdir(parents=True, exist_ok=True)
            text = json.dumps(encode(state.config), indent=2) + "\n"
            write_atomically(state.out / "config.json", text.encode())
            self._metrics.begin(
                self.source / "metrics.jsonl" if self.source else None, state.images
            )
            self._tensorboard = TensorBoard(state.out / "tensorboard", state.images)
        self.progress.__enter__()
        if state.images:
            self.progress.say(f"Going on from {state.images:,} images.")
        for note in self.run.notes:
            self.progress.say(note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the files."""
        self.progress.__exit__(kind, error, trace)
        if self._tensorboard is not None:
            self._tensorboard.close()

    def seconds(self) -> float:
        """Returns the time spent, over all parts of a resumed run."""
        return self._before + time.monotonic() - self._began

    def call(self, hooks: Sequence[Hook]) -> None:
        """Calls hooks in the main process."""
        self.run.state.seconds = self.seconds()
        if self.run.team.main:
            with torch.no_grad():
                for hook in hooks:
                    hook(self.run.state)

    def log(self) -> None:
        """Writes a line of metrics; all processes take part, because strengths are averaged over them."""
        run, state = self.run, self.run.state
        strengths, messages = self._strengths()
        now = time.monotonic()
        rate = (state.images - self._logged_images) / max(now - self._logged, 1e-9)
        self._logged, self._logged_images = now, state.images
        losses = run.meter.means()
        line: dict[str, Any] = {
            "images": state.images,
            "iteration": state.iteration,
            "seconds": round(self.seconds(), 3),
            "images_per_second": round(rate, 2),
            **losses,
            **run.norms,
            **strengths,
        }
        run.norms = {}
        if messages:
            line["warnings"] = messages
        self.progress.note = _note(losses)
        if self._tensorboard is not None:
            self._metrics.write(line)
            self._tensorboard.write(line)

    def _strengths(self) -> tuple[dict[str, float], list[str]]:
        """Returns the learned strengths, and warnings about them.

        They are for people to look at, not part of a run's state: where a system averages them since the last line, the
        first line after a resume between two lines covers only the iterations since the resume. All else in that line, and
        every weight, is that of an unbroken run.
        """
        run = self.run
        found = run.state.system.strengths()
        values = torch.tensor([s.value for s in found.values()], device=run.team.device)
        if found:
            run.team.average([values])
        strengths, messages = {}, []
        for (name, strength), value in zip(found.items(), values.tolist(), strict=True):
            low, high = strength.sane
            strengths[f"strength/{name}"] = value
            if not low <= value <= high and name not in run.warned:
                run.warned.append(name)
                messages.append(
                    f"{name} is {value:.4g}, outside its sane range [{low:g}, {high:g}]: {strength.beyond}"
                )
                self.progress.say(f"warning at {run.state.images:,} images: {messages[-1]}")
        return strengths, messages


def _note(losses: Mapping[str, float]) -> str:
    """Returns each phase's total loss, short."""
    totals: dict[str, float] = {}
    for name, value in losses.items():
        phase = name.split("/")[1]
        totals[phase] = totals.get(phase, 0.0) + value
    return "  ".join(f"{phase} {value:.3g}" for phase, value in totals.items())
