"""The Inception of FID: its shapes, its borders, its resizing; made weights stand for the download."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand, uniform
from blemish.functional.resample import bicubic, legacy_bilinear
from blemish.metrics import Extractor, inception
from blemish.networks import Inception, read_weights


@functools.cache
def network() -> Inception:
    """The network with made weights, whose normalisations do something."""
    with torch.device("meta"):
        made = Inception()
    made.to_empty(device="cpu").eval()
    g = generator_for("inception")
    for key, value in made.state_dict().items():
        if value.ndim == 4:
            bound = (6 / value[0].numel()) ** 0.5
            value.copy_(uniform(value.shape, -bound, bound, g))
        elif value.ndim:
            low = -0.1 if key.endswith(("bias", "fc.weight")) else 0.5
            value.copy_(uniform(value.shape, low, low + 1, g))
    return made


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    torch.save(network().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def extractor(path: Path) -> Extractor:
    return inception(path)


def test_has_the_published_count_and_shapes() -> None:
    parameters = dict(network().named_parameters())
    # torchvision lists 27,161,264 with 1000 classes: less the auxiliary head and its classifier.
    body = 27_161_264 - 3_326_696 - 2_049_000
    assert sum(p.numel() for p in parameters.values()) == body + 2048 * 1008 + 1008
    shapes = {
        "Conv2d_1a_3x3.conv": (32, 3, 3, 3),
        "Conv2d_4a_3x3.conv": (192, 80, 3, 3),
        "Mixed_5b.branch5x5_2.conv": (64, 48, 5, 5),
        "Mixed_5d.branch_pool.conv": (64, 288, 1, 1),
        "Mixed_6a.branch3x3.conv": (384, 288, 3, 3),
        "Mixed_6c.branch7x7dbl_4.conv": (160, 160, 7, 1),
        "Mixed_7a.branch7x7x3_2.conv": (192, 192, 1, 7),
        "Mixed_7b.branch1x1.conv": (320, 1280, 1, 1),
        "Mixed_7c.branch3x3dbl_3b.conv": (384, 384, 3, 1),
        "fc": (1008, 2048),
    }
    assert {key: tuple(parameters[f"{key}.weight"].shape) for key in shapes} == shapes
    assert len(parameters) == 2 + 3 * 94  # 94 convolutions, each with a normalisation


def inner(name: str, size: int) -> tuple[Tensor, Tensor, nn.Module]:
    """The input and the pooled branch of a block, and the block."""
    block = getattr(network(), name)
    seen: list[Tensor] = []
    hook = block.branch_pool.register_forward_pre_hook(lambda _, x: seen.append(x[0].clone()))
    x = uniform((1, block.branch1x1.conv.in_channels, size, size), -1, 1, generator_for(name))
    block(x)
    hook.remove()
    return x, seen[0], block


@pytest.mark.parametrize("name", ["Mixed_5b", "Mixed_6e", "Mixed_7b"])
def test_means_at_the_border_leave_the_padding_out(name: str) -> None:
    x, pooled, _ = inner(name, 5)
    for i in range(5):
        for j in range(5):
            window = x[..., max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            assert_close(pooled[..., i, j], window.mean(dim=(2, 3)), atol=1e-6, rtol=1e-5)


def test_the_last_block_pools_by_maxima() -> None:
    x, pooled, _ = inner("Mixed_7c", 4)
    for i in range(4):
        for j in range(4):
            window = x[..., max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            assert torch.equal(pooled[..., i, j], window.amax(dim=(2, 3)))


def unit(
    x: Tensor, state: dict[str, Tensor], name: str, stride: int = 1, pad: object = 0
) -> Tensor:
    """One convolution, its normalisation written out, its rectification."""
    x = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=pad)  # type: ignore[arg-type]
    scale = state[f"{name}.bn.weight"] / (state[f"{name}.bn.running_var"] + 1e-3).sqrt()
    shift = state[f"{name}.bn.bias"] - scale * state[f"{name}.bn.running_mean"]
    return F.relu(x * scale[:, None, None] + shift[:, None, None])


def chain(x: Tensor, state: dict[str, Tensor], *steps: tuple[str, object]) -> Tensor:
    for name, pad in steps:
        x = unit(x, state, name, pad=pad)
    return x


@pytest.mark.parametrize("name", ["Mixed_5c", "Mixed_6d", "Mixed_7a", "Mixed_7b"])
def test_blocks_join_their_branches_in_order(name: str) -> None:
    block = getattr(network(), name)
    s = dict(block.state_dict())
    first = next(m for m in block.modules() if isinstance(m, nn.Conv2d))
    x = uniform((1, first.in_channels, 5, 5), -1, 1, generator_for("block", name))
    mean = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    if name == "Mixed_5c":
        parts = [
            chain(x, s, ("branch1x1", 0)),
            chain(x, s, ("branch5x5_1", 0), ("branch5x5_2", 2)),
            chain(x, s, ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1), ("branch3x3dbl_3", 1)),
            chain(mean, s, ("branch_pool", 0)),
        ]
    elif name == "Mixed_6d":
        row, col = (0, 3), (3, 0)
        pads = zip(range(1, 6), (0, col, row, col, row), strict=True)
        parts = [
            chain(x, s, ("branch1x1", 0)),
            chain(x, s, ("branch7x7_1", 0), ("branch7x7_2", row), ("branch7x7_3", col)),
            chain(x, s, *((f"branch7x7dbl_{i}", pad) for i, pad in pads)),
            chain(mean, s, ("branch_pool", 0)),
        ]
    elif name == "Mixed_7a":
        h = chain(x, s, ("branch7x7x3_1", 0), ("branch7x7x3_2", (0, 3)), ("branch7x7x3_3", (3, 0)))
        parts = [
            unit(chain(x, s, ("branch3x3_1", 0)), s, "branch3x3_2", stride=2),
            unit(h, s, "branch7x7x3_4", stride=2),
            F.max_pool2d(x, 3, 2),
        ]
    else:
        a = chain(x, s, ("branch3x3_1", 0))
        b = chain(x, s, ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1))
        row, col = (0, 1), (1, 0)
        parts = [chain(x, s, ("branch1x1", 0))]
        parts += [chain(a, s, (f"branch3x3_2{e}", p)) for e, p in (("a", row), ("b", col))]
        parts += [chain(b, s, (f"branch3x3dbl_3{e}", p)) for e, p in (("a", row), ("b", col))]
        parts += [chain(mean, s, ("branch_pool", 0))]
    assert_close(block(x), torch.cat(parts, dim=1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(32, 32), (450, 310)])
def test_clean_resize_is_near_pillow(shape: tuple[int, int]) -> None:
    x = 255 * rand(shape, generator_for("pillow"))
    expected = np.array(Image.fromarray(x.numpy()).resize((299, 299), Image.Resampling.BICUBIC))
    assert_close(bicubic(x[None, None], 299)[0, 0], torch.from_numpy(expected), atol=0.02, rtol=0)


@pytest.mark.parametrize("resize", ["tensorflow", "clean"])
def test_images_are_resized_and_normalised(path: Path, resize: str) -> None:
    x = (256 * rand((2, 3, 40, 356), generator_for("inception-images"))).to(torch.uint8)
    features = inception(path, resize=resize)  # type: ignore[arg-type]
    features.network.network = nn.Identity()
    enlarged = (bicubic if resize == "clean" else legacy_bilinear)(x.float(), 299)
    assert_close(features(x), (enlarged.clamp(0, 255) - 128) / 128)
    suffix = "-clean" if resize == "clean" else ""
    assert features.name == f"inception-like-{read_weights(path).short}@299{suffix}"
    assert features.dimension == 2048


def test_folding_changes_nothing(path: Path) -> None:
    x = uniform((2, 3, 75, 99), -1, 1, generator_for("fold"))
    with torch.no_grad():
        expected = network()(x)
        folded = read_weights(path).build(Inception).fold()
        assert_close(folded(x), expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)
        logits = expected @ folded.fc.weight.T + folded.fc.bias
        assert_close(folded.logits(expected), logits, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


def test_published_weights_give_the_published_name(
    path: Path, extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The module bears the function's name, which hides it.
    module = sys.modules["blemish.metrics.inception"]
    monkeypatch.setattr(module, "_SHA256", read_weights(path).sha256)
    assert inception(path).name == "inception@299"
    assert extractor.name == f"inception-like-{read_weights(path).short}@299"


def test_gradients_reach_images_and_grey_is_three_equal_channels(extractor: Extractor) -> None:
    x = rand((1, 1, 16, 16), generator_for("grey")).requires_grad_()
    grey, colour = extractor(x), extractor(x.expand(-1, 3, -1, -1))
    assert torch.equal(grey, colour)
    grey.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert float(x.grad.abs().sum()) > 0
    with pytest.raises(ValueError, match="2 channels; inception takes 1 or 3"):
        extractor(torch.zeros(1, 2, 16, 16))


def test_refuses_other_files_and_says_what_to_do_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(1)}, other)
    with pytest.raises(ValueError, match=r"lacks 'Conv2d_1a_3x3\.conv\.weight'.*'features\.0"):
        inception(other)
    with pytest.raises(ValueError, match="'tensorflow' or 'clean'"):
        inception(other, resize="nearest")  # type: ignore[arg-type]

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(OSError, match="fetch it elsewhere and give its path"):
        inception()


def test_agrees_with_torch_fidelity(path: Path, extractor: Extractor) -> None:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"torch-fidelity cannot be imported ({type(error).__name__})")
    reference = FeatureExtractorInceptionV3("made", ["2048"], str(path))
    x = (256 * rand((1, 3, 50, 40), generator_for("fidelity"))).to(torch.uint8)
    (expected,) = reference(x)
    assert_close(extractor(x), expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)
