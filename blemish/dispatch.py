"""From a verb to its module in :mod:`blemish.commands`, which is imported when it is called."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from types import ModuleType
from typing import Any

__all__ = ["COMMANDS", "command", "fail", "run_verb"]

COMMANDS = {
    "demo": "demo",
    "train": "train",
    "sample": "sample",
    "degrade": "degrade",
    "restore": "restore",
    "invert": "invert",
    "encode": "encode",
    "transfer": "transfer",
    "inspect": "inspect",
    "report": "report",
    "evaluate": "evaluate",
    "compare": "compare",
    "bench": "bench",
    "doctor": "doctor",
}
"""The verbs, each with its module in :mod:`blemish.commands`."""


def run_verb(verb: str, *arguments: Any, **options: Any) -> Any:
    """Runs a verb; where Ctrl-C or SIGTERM stop it, it can clean up first."""
    module = command(verb)
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if is_main else None
    try:
        return module.run(*arguments, **options)
    except KeyboardInterrupt:
        return fail("stopped", code=130)
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def command(verb: str) -> ModuleType:
    """Returns the module of a verb."""
    # By name and at call time, so that `blemish --help` does not wait for torch, without imports hidden in functions.
    return importlib.import_module(f".commands.{COMMANDS[verb]}", __package__)


def fail(message: str, code: int) -> int:
    """Prints an error of one line, and returns the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return code
