"""The launcher: when it starts the command again, and with which environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from blemish import __main__ as launcher
from blemish.__main__ import ALLOCATOR, HEAVY, allocator_environment
from blemish.dispatch import COMMANDS

TRAIN = ("train", "gan", "--data", "glyphs")


@pytest.mark.parametrize("verb", HEAVY)
def test_heavy_verbs_get_the_allocator_and_keep_the_rest(verb: str) -> None:
    environ = {"PATH": "/bin", "BLEMISH_ALLOCATOR": "on"}
    found = allocator_environment(environ, [verb], libc="glibc")
    assert found == {"PATH": "/bin", "BLEMISH_ALLOCATOR": "started", **ALLOCATOR}
    assert environ == {"PATH": "/bin", "BLEMISH_ALLOCATOR": "on"}


def test_a_second_start_is_the_last() -> None:
    first = allocator_environment({}, TRAIN, libc="glibc")
    assert first is not None
    assert allocator_environment(first, TRAIN, libc="glibc") is None


@pytest.mark.parametrize(
    "environ",
    [
        {"BLEMISH_ALLOCATOR": "off"},
        {"BLEMISH_ALLOCATOR": "OFF"},
        {"MALLOC_ARENA_MAX": "2"},
        {"MALLOC_TOP_PAD_": "0"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=0"},
        {"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"},
        {"LD_PRELOAD": "libtcmalloc.so:other.so"},
        {"TORCHELASTIC_RUN_ID": "none"},
    ],
    ids=lambda environ: " ".join(f"{key}={value}" for key, value in environ.items()),
)
def test_who_decides_for_themselves_is_left_alone(environ: dict[str, str]) -> None:
    assert allocator_environment(environ, TRAIN, libc="glibc") is None


@pytest.mark.parametrize("libc", ["", "musl", "libSystem"])
def test_other_libraries_are_left_alone(libc: str) -> None:
    assert allocator_environment({}, TRAIN, libc=libc) is None


@pytest.mark.parametrize(
    "arguments",
    [(), ("--help",), ("--version",), ("doctor",), ("inspect", "x"), ("train", "--help")],
)
def test_light_commands_start_once(arguments: tuple[str, ...]) -> None:
    assert allocator_environment({}, arguments, libc="glibc") is None


def test_every_verb_that_exists_and_trains_is_heavy() -> None:
    assert {"demo", "train", "sample", "degrade"} <= set(HEAVY) & set(COMMANDS)
    assert not {"doctor", "report", "inspect"} & set(HEAVY)


def test_main_starts_the_same_command_again(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, list[str], dict[str, str]]] = []

    def replace(path: str, arguments: list[str], environ: dict[str, str]) -> None:
        started.append((path, arguments, environ))
        raise SystemExit(0)  # as execve, it does not return

    monkeypatch.setattr(os, "execve", replace)
    monkeypatch.setattr(sys, "argv", ["blemish", *TRAIN])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "/bin/blemish", *TRAIN])
    monkeypatch.setattr(launcher.platform, "libc_ver", lambda: ("glibc", "2.36"))
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        launcher.main()
    [(path, arguments, environ)] = started
    assert (path, arguments) == (
        sys.executable,
        [sys.executable, "-X", "dev", "/bin/blemish", *TRAIN],
    )
    assert ALLOCATOR.items() <= environ.items()


def test_main_goes_on_where_nothing_is_to_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["blemish", "--version"])
    monkeypatch.setattr(launcher, "run", lambda arguments: len(arguments) + 6)
    assert launcher.main() == 7


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator's variables are glibc's")
def test_a_real_process_sees_the_variables() -> None:
    """Wrong usage of a heavy verb still passes through both starts, and its exit code survives."""
    code = (
        "import os, sys\n"
        "from blemish import __main__ as m\n"
        "m.run = lambda arguments: print(os.environ.get('MALLOC_TOP_PAD_'), *arguments) or 3\n"
        "sys.exit(m.main())"
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "LD_PRELOAD"))}
    for switch, expected in (("on", ALLOCATOR["MALLOC_TOP_PAD_"]), ("off", "None")):
        done = subprocess.run(
            [sys.executable, "-c", code, "train", "gan"],
            env={**environ, "BLEMISH_ALLOCATOR": switch},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout.split()) == (3, [expected, "train", "gan"])
