"""The launcher: what runs before the command line.

glibc gives every freed tensor above 32 MiB back to the kernel and trims its heap, so that each iteration of training faults the
same pages in again. Three variables stop that, with the same arithmetic and 1.1 to 1.7 times the speed on a CPU; they are read when
a process starts, too early for Python to set them for itself. So for the verbs that compute much, the launcher starts the same
command again, once, in the same process (``execve``), with the variables set.

``BLEMISH_ALLOCATOR=off`` switches this off. It is left alone as well where it has no meaning or was decided elsewhere: on systems
without glibc, where any ``MALLOC_...`` variable, ``GLIBC_TUNABLES`` or a preloaded allocator is set, and in a worker of ``torchrun``,
which inherits the environment of ``torchrun`` itself (export the variables there).
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence

from .cli import run

__all__ = ["ALLOCATOR", "HEAVY", "allocator_environment", "main"]

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",  # no allocation by mmap, whose pages are returned at once
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),  # bytes free at the heap's top before it shrinks
    "MALLOC_TOP_PAD_": str(256 * 2**20),  # bytes by which the heap grows beyond the request
}

HEAVY = (
    "bench",
    "degrade",
    "evaluate",
    "demo",
    "encode",
    "invert",
    "restore",
    "sample",
    "train",
    "transfer",
)

SWITCH = "BLEMISH_ALLOCATOR"
STARTED = "started"  # the switch's value in the second start: the mark that stops a third


def allocator_environment(
    environ: Mapping[str, str], arguments: Sequence[str], *, libc: str
) -> dict[str, str] | None:
    """Returns the environment in which the command should be started again.

    Arguments:
        environ: The environment of this process.
        arguments: The command line after the program's name.
        libc: The name of the C library, as :func:`platform.libc_ver` gives it.

    Returns:
        The full new environment, or None where this process is to go on as it is.
    """
    verb = next((argument for argument in arguments if not argument.startswith("-")), None)
    wanted = verb in HEAVY and "--help" not in arguments and libc == "glibc"
    if not wanted or environ.get(SWITCH, "on").lower() in ("off", "0", "no", "false", STARTED):
        return None
    if "TORCHELASTIC_RUN_ID" in environ or _decided_elsewhere(environ):
        return None
    return {**environ, **ALLOCATOR, SWITCH: STARTED}


def main() -> int:
    """Runs the command line of this process and returns its exit code."""
    environ = allocator_environment(os.environ, sys.argv[1:], libc=platform.libc_ver()[0])
    if environ is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)
    return run(sys.argv[1:])


def _decided_elsewhere(environ: Mapping[str, str]) -> bool:
    preloaded = environ.get("LD_PRELOAD", "")
    return (
        any(name.startswith("MALLOC_") for name in environ)
        or "glibc.malloc" in environ.get("GLIBC_TUNABLES", "")
        or any(name in preloaded for name in ("malloc", "mimalloc"))
    )


if __name__ == "__main__":
    sys.exit(main())
