"""RankIQA: its network against the layers written out, its crops and its names, on small made weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand, randn
from blemish.functional.resample import bicubic
from blemish.metrics import RankIQANetwork, rankiqa, rankiqa_network
from blemish.networks import VGG16, read_weights

CHANNELS = (2, 3, 4, 3, 2)
HIDDEN = (5, 4)
GROUPS = (2, 2, 3, 3, 3)


def tensors() -> dict[str, Tensor]:
    """Weights by Caffe's names, of a narrow network."""
    made: dict[str, Tensor] = {}
    below = 3
    for group, (layers, width) in enumerate(zip(GROUPS, CHANNELS, strict=True), 1):
        for place in range(1, layers + 1):
            g = generator_for("rankiqa", group, place)
            made[f"conv{group}_{place}.weight"] = randn((width, below, 3, 3), g) / below**0.5 / 2
            made[f"conv{group}_{place}.bias"] = randn((width,), g) / 4
            below = width
    below *= 49
    for n, width in zip((6, 7, 8), (*HIDDEN, 1), strict=True):
        g = generator_for("rankiqa", n)
        made[f"fc{n}_m.weight"] = randn((width, below), g) / below**0.5
        made[f"fc{n}_m.bias"] = randn((width,), g)
        below = width
    return made


def torchvisions(w: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same by torchvision's names."""
    numbers = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    layers = [f"features.{n}" for n in numbers] + [f"classifier.{n}" for n in (0, 3, 6)]
    old = list(dict.fromkeys(name.rpartition(".")[0] for name in w))
    return {
        f"{new}.{kind}": w[f"{name}.{kind}"]
        for name, new in zip(old, layers, strict=True)
        for kind in ("weight", "bias")
    }


def by_layers(crop: Tensor, w: dict[str, Tensor]) -> Tensor:
    """VGG-16 as its publication lists it, in double precision; (3, 224, 224) in [0, 1] to a number."""
    w = {name: tensor.double() for name, tensor in w.items()}
    red, green, blue = 255 * crop.double()
    h = torch.stack([blue, green, red])[None]
    for group, layers in enumerate(GROUPS, 1):
        for place in range(1, layers + 1):
            name = f"conv{group}_{place}"
            h = F.relu(F.conv2d(h, w[f"{name}.weight"], w[f"{name}.bias"], padding=1))
        h = F.max_pool2d(h, 2, 2)
    h = h.reshape(-1)
    for n in (6, 7, 8):
        h = w[f"fc{n}_m.weight"] @ (h if n == 6 else F.relu(h)) + w[f"fc{n}_m.bias"]
    return h.squeeze()


@pytest.fixture
def network(tmp_path: Path) -> RankIQANetwork:
    save_file(tensors(), tmp_path / "rank.safetensors")
    return rankiqa_network(tmp_path / "rank.safetensors")


def images(*shape: int) -> Tensor:
    # Coarse patterns, so that crops differ.
    g = generator_for("rankiqa", "images")
    coarse = rand((*shape[:2], 9, 11), g)
    fine = bicubic(coarse, (shape[2], shape[3]))
    return (fine + 0.1 * randn(shape, g)).clamp(0, 1)


def test_a_crop_has_the_score_of_its_layers(network: RankIQANetwork) -> None:
    x = images(2, 3, 224, 224)
    expected = torch.stack([by_layers(crop, tensors()) for crop in x])
    assert_close(network(x).double(), expected, rtol=1e-4, atol=1e-4)
    assert (network(x) - network(x.flip(1))).abs().min() > 1e-3  # the order of the channels counts
    assert expected[0] != expected[1]


def test_scores_are_those_of_the_crops(
    network: RankIQANetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = images(1, 3, 240, 250)
    seen: list[Tensor] = []
    hook = network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    scores = rankiqa(x, network, crops=7)
    hook.remove()
    crops = torch.cat(seen)
    windows = x[0].unfold(1, 224, 1).unfold(2, 224, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    places = [int((windows == crop).flatten(1).all(dim=1).nonzero()) for crop in crops]
    assert len(set(places)) > 3
    values = torch.stack([by_layers(crop, tensors()) for crop in crops])
    assert_close(scores.mean.double(), values.mean()[None], rtol=1e-4, atol=1e-4)
    assert_close(scores.median.double(), values.median()[None], rtol=1e-4, atol=1e-4)
    even = rankiqa(x, network, crops=4)
    middle = network(crops[:4]).sort().values[1:3].mean()
    assert_close(even.median[0], middle)


def test_crops_lie_anywhere_and_follow_from_the_seed() -> None:
    class Corner(nn.Module):
        name, dtype = "corner", torch.float64

        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0, 0, 0]

    # Each pixel knows its place, 17 rows and 9 columns of corners.
    x = torch.arange(240 * 232, dtype=torch.float64).view(1, 1, 240, 232)
    seen = {
        float(rankiqa(x, Corner(), crops=1, seed=seed).mean)  # type: ignore[arg-type]
        for seed in range(1500)
    }
    assert seen == {float(x[0, 0, i, j]) for i in range(17) for j in range(9)}


def test_an_image_has_its_score_in_any_batch_and_type(network: RankIQANetwork) -> None:
    x = (255 * images(3, 3, 230, 226)).round()
    scores = rankiqa(x.to(torch.uint8), network, crops=3)
    alone = [rankiqa(image[None] / 255, network, crops=3) for image in x]
    assert_close(scores.mean, torch.cat([s.mean for s in alone]))
    assert_close(scores.median, torch.cat([s.median for s in alone]))
    assert_close(rankiqa(x / 255, network, crops=3).mean, scores.mean)
    assert not torch.equal(rankiqa(x / 255, network, crops=3, seed=1).mean, scores.mean)
    # Grey images are read as three equal channels.
    grey = x[:, :1] / 255
    assert_close(
        rankiqa(grey, network, crops=1).mean,
        rankiqa(grey.expand(-1, 3, -1, -1), network, crops=1).mean,
    )


def test_the_second_form_resizes_first(network: RankIQANetwork) -> None:
    x = images(2, 3, 96, 300)
    resized = rankiqa(x, network, resize=256, crops=2)
    expected = rankiqa(bicubic(x, 256).clamp(0, 1), network, crops=2)
    assert torch.equal(resized.mean, expected.mean)
    with pytest.raises(ValueError, match=r"96x300 pixels; RankIQA .* without resize=256 needs"):
        rankiqa(x, network)


def test_all_layouts_are_read(tmp_path: Path) -> None:
    w = tensors()
    x = images(1, 3, 224, 224)
    layouts = {
        "caffe": {name.replace("_m.", "."): tensor for name, tensor in w.items()},
        # Caffe's blobs have four dimensions.
        "blobs": {
            name: tensor.view((1,) * (4 - tensor.ndim) + tensor.shape) for name, tensor in w.items()
        },
        "module": {
            ("features." if name.startswith("conv") else "classifier.") + name: tensor
            for name, tensor in w.items()
        },
        "torchvision": torchvisions(w),
    }
    for layout, state in layouts.items():
        torch.save(state, tmp_path / f"{layout}.pt")
        network = rankiqa_network(tmp_path / f"{layout}.pt")
        assert_close(network(x)[0].double(), by_layers(x[0], w), rtol=1e-4, atol=1e-4)


def test_the_name_tells_the_weights(tmp_path: Path, network: RankIQANetwork) -> None:
    digest = read_weights(tmp_path / "rank.safetensors").sha256
    assert network.name == f"RankIQA (weights {digest[:8]})"
    direct = RankIQANetwork(network.backbone, [network.fc6, network.fc7, network.fc8])
    assert direct.name == "RankIQA-like"
    assert all(not p.requires_grad for p in network.parameters())


def test_there_is_no_score_without_all_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give the path of downloaded weights"):
        rankiqa_network(tmp_path / "absent.pt")
    w = tensors()

    def refused(match: str, **changes: Tensor | None) -> None:
        state = {**w, **{name.replace("__", "."): value for name, value in changes.items()}}
        torch.save({k: v for k, v in state.items() if v is not None}, tmp_path / "bad.pt")
        with pytest.raises(ValueError, match=match):
            rankiqa_network(tmp_path / "bad.pt")

    refused(r"has no tensor 'fc7\.bias'", fc7_m__bias=None)
    refused(r"lacks 'fc8\.weight'", fc8_m__weight=None)
    # Trained on crops of another size.
    weight = torch.ones(5, 2 * 36)
    refused(r"'fc6.weight' of bad.pt has shape \(5, 72\); .*\(5, 98\)", fc6_m__weight=weight)
    refused("has the unexpected 'fc9.weight'", fc9__weight=torch.ones(2))
    refused(r"'fc8.bias' of bad.pt has shape \(10,\)", fc8_m__bias=torch.ones(10))
    refused("has 'fc8.bias' twice", fc8__bias=torch.ones(1))
    refused("holds torch.int64; give floating", fc8_m__bias=torch.ones(1, dtype=torch.int64))


def test_what_does_not_fit_is_refused(network: RankIQANetwork) -> None:
    with pytest.raises(ValueError, match=r"240x224 pixels; RankIQA .* takes 224x224"):
        network(torch.zeros(1, 3, 240, 224))
    with pytest.raises(ValueError, match="2 channels"):
        network(torch.zeros(1, 2, 224, 224))
    with pytest.raises(ValueError, match="crops=0"):
        rankiqa(torch.zeros(1, 3, 224, 224), network, crops=0)
    layers = [network.fc6, network.fc7, nn.Linear(4, 10)]
    with pytest.raises(ValueError, match="to one output"):
        RankIQANetwork(VGG16(CHANNELS), layers)
