"""The doctor finds what it is shown, and says how to mend it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from blemish import cli
from blemish.commands import doctor
from blemish.commands.doctor import Check


def test_this_machine_is_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["healthy"] is True
    names = [check["name"] for check in document["checks"]]
    expected = {"python", "torch", "threads", "device cpu", "bf16", "allocator", "disk"}
    assert expected | set(doctor.REQUIRED.values()) <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("json_wanted", [False, True])
def test_something_broken_is_exit_code_1(
    json_wanted: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [Check("torch", "broken", "1.0 [old]", "install [newer]"), Check("disk", "ok", "much")]
    monkeypatch.setattr(doctor, "check_all", lambda: checks)
    assert doctor.run(json=json_wanted) == 1
    out = capsys.readouterr().out
    assert "1.0 [old]" in out  # square brackets are no markup
    assert "install [newer]" in out
    monkeypatch.setattr(doctor, "check_all", lambda: [Check("disk", "note", "little")])
    assert doctor.run(json=json_wanted) == 0


@pytest.mark.parametrize(
    ("check", "status"),
    [
        (doctor.check_python((3, 10)), "broken"),
        (doctor.check_python((3, 11)), "ok"),
        (doctor.check_python((3, 15)), "broken"),
        (doctor.check_torch("2.5.1+cu121"), "broken"),
        (doctor.check_torch("2.13.0a0+git1"), "ok"),
        (doctor.check_threads(2, 2), "ok"),
        (doctor.check_threads(64, 2), "note"),
        (doctor.check_allocator({}, "musl"), "ok"),
        (doctor.check_allocator({"BLEMISH_ALLOCATOR": "off"}, "glibc"), "note"),
        (doctor.check_allocator({"MALLOC_ARENA_MAX": "1"}, "glibc"), "ok"),
        (doctor.check_data({"BLEMISH_DATA": "nowhere/at/all"}), "note"),
        (doctor.check_data({}), "ok"),
    ],
    ids=lambda value: f"{value.name}: {value.value}" if isinstance(value, Check) else value,
)
def test_checks(check: Check, status: str) -> None:
    assert check.status == status
    assert check.value
    assert bool(check.advice) == (status != "ok")


def test_a_broken_package_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hurt.py").write_text("raise RuntimeError('operator torchvision::nms is missing')")
    monkeypatch.syspath_prepend(str(tmp_path))
    check = doctor.check_required("hurt", "hurt")
    assert (check.status, check.value) == (
        "broken",
        "RuntimeError: operator torchvision::nms is missing",
    )
    assert check.advice == "pip uninstall torch-fidelity torchvision"
    absent = doctor.check_required("absent_altogether", "absent")
    assert absent.status == "broken"
    assert "pip install absent" in absent.advice
    optional = doctor.check_optional("absent_altogether", "absent", "nothing is lost")
    assert optional.status == "note"
    assert optional.advice.startswith("nothing is lost")


def test_little_room_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ROOM", 2**62)
    assert doctor.check_disk(tmp_path).status == "note"
    monkeypatch.setattr(doctor, "ROOM", 0)
    assert doctor.check_disk(tmp_path).status == "ok"


def test_a_torchvision_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: "0.1")
    monkeypatch.setitem(sys.modules, "torchvision", None)  # importing it then fails
    check = doctor.check_torchvision()
    assert check.status == "note"
    assert "uninstall" in check.advice
