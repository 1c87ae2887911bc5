"""The command line: its surface, its exit codes, its errors, and what it hands to the commands."""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from blemish import __version__, cli, dispatch
from blemish.cli import app
from blemish.dispatch import COMMANDS

SURFACE = Path(__file__).with_name("cli_surface.txt")
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

COMPLETE = {
    "demo": ["perceptual", "--out", "x", "--seed", "3"],
    "train": ["gan", "--data", "glyphs", "--out", "x", "--set", "training.batch=8", "--seed", "3"],
    "sample": ["r", "--grid", "g.png", "-n", "5", "--seed", "3"],
    "degrade": ["setting:N", "in", "out", "--seed", "3"],
    "restore": ["r", "in", "out", "--tile", "256", "--in-place"],
    "invert": ["in", "out", "--prior", "p", "--degradation", "task:N-M", "--seed", "3"],
    "encode": ["r", "in", "c", "--json", "f"],
    "transfer": ["r", "in", "out", "--reference", "y", "--global-only", "--seed", "3"],
    "convert": ["a.pkl", "out", "--licence", "MIT"],
    "inspect": ["r", "--out", "x", "--seed", "3", "--count", "9", "--skip-bad", "--against", "o"],
    "report": ["r", "--out", "x.html"],
    "evaluate": ["r", "--reference", "x", "--weights", "niqe=f", "--seed", "3"],
    "compare": ["a", "b", "--output", "x.html", "--seed", "3"],
    "bench": ["smoke", "--out", "x", "--shard", "1/2"],
    "doctor": ["--json"],
}
"""A right use of each verb."""


class Recorder:
    """Stands for a command module, and keeps what it was called with."""

    def __init__(self, result: Any = None) -> None:
        self.result = result
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}

    def run(self, *args: Any, **kwargs: Any) -> Any:
        self.args, self.kwargs = args, kwargs
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(dispatch, "command", lambda verb: recorder)
    return recorder


def surface() -> list[str]:
    lines = []
    for verb, command in VERBS.items():
        for parameter in command.params:
            names = parameter.opts if parameter.opts[0].startswith("-") else [parameter.metavar]
            lines += [f"{verb} {name}" for name in names if name != "--help"]
    return sorted(lines)


def test_surface_is_the_written_one() -> None:
    written = SURFACE.read_text().splitlines()
    added, removed = sorted({*surface()} - {*written}), sorted({*written} - {*surface()})
    assert not removed, (
        f"removed from the command line: {removed}; say so in CHANGELOG.md, then edit {SURFACE.name}"
    )
    assert not added, f"new on the command line: {added}; add these lines to {SURFACE.name}"
    assert written == sorted(written)


def test_every_verb_has_a_module_and_a_right_use() -> None:
    assert set(VERBS) == set(COMMANDS) == set(COMPLETE)


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([verb, "--help"]) == 0
    assert f"Example: blemish {verb}" in capsys.readouterr().out
    example = VERBS[verb].help.partition("Example: blemish ")[2].split()
    words = [word for word in example[1:] if word.startswith("--")]
    assert {f"{verb} {word}" for word in words} <= {*surface()}


def test_help_is_the_answer_to_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in COMMANDS)
    assert "BLEMISH_ALLOCATOR" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"blemish {__version__}\n"


@pytest.mark.parametrize("verb", COMMANDS)
def test_commands_accept_what_the_command_line_hands_over(verb: str, recorder: Recorder) -> None:
    assert cli.run([verb, *COMPLETE[verb]]) == 0
    signature = inspect.signature(importlib.import_module(f"blemish.commands.{COMMANDS[verb]}").run)
    bound = signature.bind(*recorder.args, **recorder.kwargs)
    assert "seed" not in signature.parameters or bound.arguments["seed"] == 3
    assert all(p.kind is not p.VAR_KEYWORD for p in signature.parameters.values())


@pytest.mark.parametrize(
    ("flags", "fit"),
    [([], "none"), (["--size", "16"], "crop"), (["--size", "16", "--fit", "resize"], "resize")],
)
def test_nothing_is_cut_unasked(flags: list[str], fit: str, recorder: Recorder) -> None:
    assert cli.run(["train", *COMPLETE["train"], *flags]) == 0
    assert recorder.kwargs["fit"] == fit
    assert recorder.kwargs["overrides"] == ["training.batch=8"]
    assert (recorder.kwargs["device"], recorder.kwargs["precision"]) == ("auto", "32")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["trian", "train", "blemish --help"]),
        (["train"], ["RECIPE", "blemish train --help"]),
        (["train", "gan", "--out", "x"], ["--data"]),
        (["train", *COMPLETE["train"], "--colour", "red"], ["--colour"]),
        (["train", *COMPLETE["train"], "--images", "many"], ["--images"]),
        (["train", *COMPLETE["train"], "--images", "0"], ["--images", "1"]),
        (["train", *COMPLETE["train"], "--precision", "8"], ["--precision", "bf16"]),
        (["train", *COMPLETE["train"], "--set", "batch"], ["--set batch", "KEY=VALUE"]),
        (["sample", "r"], ["--out", "--grid"]),
        (["report"], ["RUN"]),
    ],
    ids=lambda value: " ".join(value[-2:]),
)
def test_wrong_usage(
    arguments: list[str], words: list[str], recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert all(word in captured.err for word in words), captured.err


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            ValueError("size 7 is odd;\n  give an even one"),
            "error: size 7 is odd; give an even one",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "runs/x"),
            "error: runs/x: No such file",
        ),
        (OSError("the disk is full"), "error: the disk is full"),
        (ValueError(), "error: ValueError"),
        (type("Diverged", (RuntimeError,), {"__module__": "blemish.x"})("NaN"), "error: NaN"),
    ],
    ids=["value", "file", "disk", "wordless", "own"],
)
def test_failures_are_one_line(
    failure: Exception, message: str, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.result = failure
    assert cli.run(["report", "r"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1


def test_debugging_shows_the_traceback(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder.result = ValueError("deep inside")
    monkeypatch.setenv("BLEMISH_DEBUG", "1")
    with pytest.raises(ValueError, match="deep inside"):
        cli.run(["report", "r"])


@pytest.mark.parametrize("mistake", [TypeError, RuntimeError, KeyError, AssertionError])
def test_mistakes_of_the_program_are_not_hidden(
    mistake: type[Exception], recorder: Recorder
) -> None:
    recorder.result = mistake("a mistake")
    with pytest.raises(mistake, match="a mistake"):
        cli.run(["report", "r"])


@pytest.mark.parametrize(
    ("result", "code"), [(None, 0), (0, 0), (1, 1), (KeyboardInterrupt(), 130)]
)
def test_exit_codes(result: Any, code: int, recorder: Recorder) -> None:
    recorder.result = result
    assert cli.run(["report", "r"]) == code


def test_a_verb_can_clean_up_when_it_is_terminated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaned: list[bool] = []

    class Verb:
        @staticmethod
        def run(*arguments: Any, **options: Any) -> None:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(10)
            finally:
                cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(dispatch, "command", lambda verb: Verb)
    assert cli.run(["report", "r"]) == 130
    assert cleaned == [True]
    assert capsys.readouterr().err == "error: stopped\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_names_that_are_no_utf8_can_be_told(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xff.png")
    code = f"import sys; from blemish.cli import run; sys.exit(run(['inspect', {name!r}, '--out', 'o']))"
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: a\\udcff.png does not exist")


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from blemish.cli import run; run(['train', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
