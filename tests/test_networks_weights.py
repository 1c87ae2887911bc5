"""Weights are read without running anything, known by their digest, and refused in one line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from blemish.functional.random import generator_for, randn
from blemish.networks import fetch, read_weights


def linear() -> dict[str, Tensor]:
    g = generator_for("weights")
    return {"weight": randn((2, 3), g), "bias": randn((2,), g)}


def write(state: dict[str, Tensor], path: Path) -> Path:
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_reads_and_loads_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = write(linear(), tmp_path / f"w{suffix}")
    weights, state = read_weights(path), torch.get_rng_state()
    layer = weights.build(lambda: nn.Linear(3, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(layer.weight, linear()["weight"])
    assert torch.equal(layer.bias, linear()["bias"])
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.short == weights.sha256[:8]


def test_ignores_what_it_is_told_to_and_counts_of_batches(tmp_path: Path) -> None:
    state = nn.BatchNorm1d(2).state_dict()
    del state["num_batches_tracked"]
    state["classifier.weight"] = torch.zeros(1)
    weights = read_weights(write(state, tmp_path / "w.pth"))
    weights.load_into(nn.BatchNorm1d(2), ignore=("classifier.",))
    with pytest.raises(ValueError, match=r"unexpected 'classifier\.weight'"):
        weights.load_into(nn.BatchNorm1d(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("bias"), r"does not fit Linear: it lacks 'bias'; give"),
        (lambda s: s.update(a=s["bias"], b=s["bias"]), r"has the unexpected 'a', 'b'; give"),
        (lambda s: s.update({str(i): s["bias"] for i in range(9)}), r"'0', '1', '2' and 6 more"),
        (lambda s: s.update(bias=torch.zeros(7)), r"'bias' of w\.pth has shape \(7,\); it must be"),
    ],
)
def test_names_what_does_not_fit(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    state = linear()
    change(state)
    weights, layer = read_weights(write(state, tmp_path / "w.pth")), nn.Linear(3, 2)
    before = layer.weight.clone()
    with pytest.raises(ValueError, match=message) as error:
        weights.load_into(layer)
    assert "\n" not in str(error.value)
    assert torch.equal(layer.weight, before)


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('the file was run')",)


@pytest.mark.parametrize("content", [Bomb(), {"weight": Bomb()}, [torch.zeros(1)], {"weight": 3}])
def test_refuses_anything_but_named_tensors(tmp_path: Path, content: object) -> None:
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"^w\.pth (is no file of plain|does not hold) tensors"):
        read_weights(path)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_refuses_damaged_and_absent_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_weights(tmp_path / name)
    (tmp_path / name).write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"w\.(pth is no file of plain|safetensors is no)"):
        read_weights(tmp_path / name)


def test_fetches_once_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fault: list[Exception] = [URLError("no network"), RuntimeError("invalid hash value")]

    def download(url: str, path: str, hash_prefix: str, progress: bool) -> None:
        calls.append(hash_prefix)
        if fault:
            raise fault.pop(0)
        Path(path).write_bytes(b"content")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(OSError, match=r"cannot download https://x/a\.pth .* give its path"):
        fetch("https://x/a.pth", "ab" * 32)
    with pytest.raises(ValueError, match="does not begin with abababab"):
        fetch("https://x/a.pth", "ab" * 32)
    for _ in range(2):
        assert fetch("https://x/a.pth", "ab" * 32).read_bytes() == b"content"
    assert calls == ["ab" * 32] * 3
