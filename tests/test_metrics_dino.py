"""DINOv2's features against a transformer written with loops, on weights of one or two heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand, uniform
from blemish.metrics import dinov2
from blemish.networks import DINOv2

WIDTHS = [64, 128]


def made(width: int, depth: int = 2, grid: int = 5) -> dict[str, Tensor]:
    """Weights under the published names, for a table of grid x grid positions."""
    g = generator_for("dino", width)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "mask_token": (1, width),
        "pos_embed": (1, 1 + grid**2, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for i in range(depth):
        inside = {
            **{f"norm{k}.{end}": (width,) for k in (1, 2) for end in ("weight", "bias")},
            **{f"ls{k}.gamma": (width,) for k in (1, 2)},
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "mlp.fc1.weight": (4 * width, width),
            "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width),
            "mlp.fc2.bias": (width,),
        }
        shapes |= {f"blocks.{i}.{key}": shape for key, shape in inside.items()}
    return {k: uniform(v, -0.3, 0.3, g) for k, v in shapes.items()}


def norm(h: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    rows = [(row - row.mean()) / (row.var(correction=0) + 1e-6).sqrt() for row in h]
    return torch.stack(rows) * w[f"{name}.weight"] + w[f"{name}.bias"]


def cubic(t: float) -> float:
    """The bicubic kernel with a = -0.75."""
    t = abs(t)
    if t < 1:
        return 1.25 * t**3 - 2.25 * t**2 + 1
    return -0.75 * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def resizing(old: int, new: int) -> Tensor:
    """The matrix from a row of old positions to new ones, in the ratio (new + 0.1) / old."""
    matrix = torch.zeros(new, old, dtype=torch.float64)
    for j in range(new):
        place = (j + 0.5) * old / (new + 0.1) - 0.5
        for i in range(math.floor(place) - 1, math.floor(place) + 3):
            matrix[j, min(max(i, 0), old - 1)] += cubic(place - i)
    return matrix


def slow(w: dict[str, Tensor], x: Tensor, depth: int = 2) -> Tensor:
    """The class token of one normalised image, (3, H, W), in float64."""
    w, x = {k: v.double() for k, v in w.items()}, x.double()
    rows, columns, grid = x.shape[1] // 14, x.shape[2] // 14, math.isqrt(w["pos_embed"].shape[1])
    table = w["pos_embed"][0, 1:]
    if (rows, columns) != (grid, grid):
        table = torch.kron(resizing(grid, rows), resizing(grid, columns)) @ table
    tokens = [w["cls_token"][0, 0] + w["pos_embed"][0, 0]]
    for r in range(rows):
        for c in range(columns):
            patch = x[:, 14 * r : 14 * r + 14, 14 * c : 14 * c + 14]
            value = (w["patch_embed.proj.weight"] * patch).sum((1, 2, 3))
            tokens.append(value + w["patch_embed.proj.bias"] + table[r * columns + c])
    h = torch.stack(tokens)
    for i in range(depth):
        b = {
            k.removeprefix(f"blocks.{i}."): v for k, v in w.items() if k.startswith(f"blocks.{i}.")
        }
        q, k, v = (norm(h, b, "norm1") @ b["attn.qkv.weight"].T + b["attn.qkv.bias"]).chunk(3, 1)
        heads = []
        for s in (slice(64 * j, 64 * j + 64) for j in range(h.shape[1] // 64)):
            heads.append(((q[:, s] @ k[:, s].T) / 8).softmax(dim=1) @ v[:, s])
        mixed = torch.cat(heads, 1) @ b["attn.proj.weight"].T + b["attn.proj.bias"]
        h = h + b["ls1.gamma"] * mixed
        inner = norm(h, b, "norm2") @ b["mlp.fc1.weight"].T + b["mlp.fc1.bias"]
        inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
        h = h + b["ls2.gamma"] * (inner @ b["mlp.fc2.weight"].T + b["mlp.fc2.bias"])
    return norm(h[:1], w, "norm")[0]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("sides", [(28, 42), (70, 70), (98, 84)])
def test_network_agrees_with_loops(width: int, sides: tuple[int, int]) -> None:
    weights = made(width)
    network = DINOv2(width, 2, grid=5).double()
    network.load_state_dict({k: v for k, v in weights.items() if k != "mask_token"})
    x = uniform((2, 3, *sides), -2, 2, generator_for("dino-images", *sides)).double()
    expected = torch.stack([slow(weights, image) for image in x])
    assert_close(network(x), expected)


def test_extractor_reads_sizes_and_prepares_images(tmp_path: Path) -> None:
    path, weights = tmp_path / "made.pth", made(64)
    torch.save(weights, path)
    features = dinov2(path)
    x = rand((2, 3, 224, 224), generator_for("dino-extractor")).mul(255).to(torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (x / 255 - mean[:, None, None]) / std[:, None, None]
    expected = torch.stack([slow(weights, image) for image in normalised]).float()
    assert_close(features(x), expected, atol=1e-4, rtol=1e-4)
    assert features.dimension == 64
    assert features.name.startswith("dinov2-like-")
    assert features.name.endswith("@224")


def test_resizes_and_lets_gradients_through(tmp_path: Path) -> None:
    path = tmp_path / "made.pth"
    torch.save(made(64), path)
    features = dinov2(path)
    x = rand((1, 1, 40, 30), generator_for("dino-grey")).requires_grad_()
    y = features(x)
    assert torch.equal(y, features(x.expand(-1, 3, -1, -1)))
    y.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert float(x.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("pos_embed"), "has no tensor 'pos_embed'"),
        (lambda w: w.update(register_tokens=torch.zeros(1, 4, 64)), "unexpected 'register_tokens'"),
        (lambda w: w.update(pos_embed=torch.zeros(1, 24, 64)), "23 positions"),
        (lambda w: w.pop("blocks.1.ls2.gamma"), r"lacks 'blocks\.1\.ls2\.gamma'"),
    ],
)
def test_names_what_does_not_fit(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    weights = made(64)
    change(weights)
    torch.save(weights, tmp_path / "made.pth")
    with pytest.raises(ValueError, match=message):
        dinov2(tmp_path / "made.pth")


def test_network_refuses_sides_that_do_not_fit() -> None:
    network = DINOv2(64, 1, grid=2)
    with pytest.raises(ValueError, match="multiples of 14"):
        network(torch.zeros(1, 3, 28, 30))
    with pytest.raises(ValueError, match="width is 96"):
        DINOv2(96, 1)
