"""Checkpoints: atomic, complete or not chosen, the newest kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from blemish.training.checkpoint import (
    Checkpoint,
    find_checkpoint,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    write_atomically,
)


def make(images: int) -> Checkpoint:
    shared = torch.arange(6.0).view(2, 3)
    state = {"images": images, "iteration": 0, "meter": [0.1, 1 / 3]}
    parameters = {"a": shared, "b": shared.T, "n": torch.tensor(3)}
    return Checkpoint(parameters, {"c": shared + images}, {}, {}, state)


def test_round_trip_keeps_bits_shared_memory_strides_and_scalars(tmp_path: Path) -> None:
    written = make(8)
    read = load_checkpoint(save_checkpoint(tmp_path, written, keep=1))
    assert read.parameters.keys() == written.parameters.keys()
    assert all(torch.equal(read.parameters[n], t) for n, t in written.parameters.items())
    assert read.parameters["n"].dtype == torch.int64
    assert read.state["meter"] == [0.1, 1 / 3]
    assert read.first_moments == {}


def test_newest_are_kept_in_order_of_progress(tmp_path: Path) -> None:
    for images in (8, 16, 1_000_000, 24_000_000):
        save_checkpoint(tmp_path, make(images), keep=2)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["000001000000", "000024000000"]
    assert latest_checkpoint(tmp_path) == list_checkpoints(tmp_path)[-1]


@pytest.mark.parametrize("damage", ["truncate", "flip", "missing", "state", "not json", "empty"])
def test_damaged_checkpoints_are_never_chosen(tmp_path: Path, damage: str) -> None:
    good = save_checkpoint(tmp_path, make(8), keep=5)
    bad = save_checkpoint(tmp_path, make(16), keep=5)
    file = bad / "parameters.safetensors"
    content = file.read_bytes()
    if damage == "truncate":
        file.write_bytes(content[:-1])
    elif damage == "flip":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        file.unlink()
    elif damage == "state":
        (bad / "state.json").unlink()
    else:
        (bad / "state.json").write_text("{" if damage == "not json" else "")
    assert latest_checkpoint(tmp_path) == good
    assert find_checkpoint(tmp_path) == good
    if damage != "state":
        with pytest.raises(FileNotFoundError, match="damaged"):
            find_checkpoint(bad)
    save_checkpoint(tmp_path, make(16), keep=5)
    assert latest_checkpoint(tmp_path) == bad


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / "checkpoints" / ".000000000008.writing"
    leftover.mkdir(parents=True)
    (leftover / "parameters.safetensors").write_bytes(b"half")
    assert latest_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, make(8), keep=1)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["000000000008"]


def test_files_of_others_stay_and_do_no_harm(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    root.mkdir()
    strangers = {".DS_Store", ".nfs0000a1", "000000000001 copy", ".snapshot"}
    for name in strangers - {".snapshot", "000000000001 copy"}:
        (root / name).write_bytes(b"x")
    (root / ".snapshot").mkdir()
    (root / "000000000001 copy").mkdir()
    for images in (8, 16):
        save_checkpoint(tmp_path, make(images), keep=1)
    assert {p.name for p in root.iterdir()} == {*strangers, "000000000016"}


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.json"
    write_atomically(file, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"


def test_nothing_but_tensors_is_remembered(tmp_path: Path) -> None:
    bad = Checkpoint({"extra": object()}, {}, {}, {}, {"images": 1})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="'extra' of the state is a object"):
        save_checkpoint(tmp_path, bad, keep=1)


def test_another_format_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, make(8), keep=1)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "format": 2}))
    with pytest.raises(ValueError, match="format 2"):
        load_checkpoint(folder)
