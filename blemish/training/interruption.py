"""Ctrl-C and SIGTERM as a wish that the loop grants between two iterations."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["interruption"]


@contextlib.contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGINT or SIGTERM has arrived.

    The first signal only sets the flag; a second Ctrl-C interrupts at once. Outside the main thread signals are left alone.
    """
    arrived = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield arrived.is_set
        return

    def note(number: int, frame: FrameType | None) -> None:
        arrived.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield arrived.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
