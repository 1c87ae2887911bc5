"""How far a run is: a bar on a terminal, else a plain line once in a while; both on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

__all__ = ["Progress", "Tell", "duration", "waiting"]

Tell = Callable[[int, int], None]
"""Is told how many things are done, and of how many."""


class Progress:
    """Shows seen images, rate and remaining time.

    Arguments:
        title: What is running.
        total: The number of images to see.
        start: The number already seen.
        silent: Shows nothing at all.
        interval: Seconds between plain lines where stderr is no terminal.
    """

    def __init__(
        self, title: str, total: int, start: int, *, silent: bool = False, interval: float = 30.0
    ) -> None:
        self.title, self.total, self.start = title, total, start
        self.silent, self.interval = silent, interval
        self.note = ""
        self._began = self._shown = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        """Starts the bar where there is a terminal."""
        if not self.silent and sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task(
                self.title, total=self.total, completed=self.start, text=""
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves the bar where it stands."""
        if self._bar is not None:
            self._bar.stop()

    def update(self, images: int) -> None:
        """Shows progress, at most a few times a second."""
        now = time.monotonic()
        if self.silent or now - self._shown < (0.2 if self._bar is not None else self.interval):
            return
        self._shown = now
        rate = (images - self.start) / max(now - self._began, 1e-9)
        left = duration((self.total - images) / rate) if rate > 0 else "?"
        if self._bar is not None:
            text = f"{rate:,.0f} images/s, {left} left  {self.note}"
            self._bar.update(self._task, completed=min(images, self.total), text=text)
        else:
            share = images / self.total
            self.say(
                f"{self.title}: {images:,} of {self.total:,} images ({share:.1%}), {rate:,.0f} images/s, "
                f"{left} left  {self.note}".rstrip()
            )

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        if self.silent:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Returns a duration for people: ``45 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    whole = round(seconds)
    for unit, big, small in ((86400, "d", "h"), (3600, "h", "min"), (60, "min", "s")):
        if whole >= unit:
            part = {"h": 3600, "min": 60, "s": 1}[small]
            return f"{whole // unit} {big} {whole % unit // part} {small}"
    return f"{whole} s"


@contextlib.contextmanager
def waiting(title: str, *, silent: bool = False) -> Iterator[Tell]:
    """Shows a bar for what comes before training, on a terminal only; it goes away in the end.

    Arguments:
        title: What is running.
        silent: Shows nothing.
    """
    if silent or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with _bar(transient=True) as bar:
        task = bar.add_task(title, total=None, text="")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _bar(*, transient: bool = False) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        console=Console(stderr=True),
        transient=transient,
    )
